"""Runs of EM that share every pass: which of them may leave before its end."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helpers.builders import Standardised, standardised
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import OverBlocks
from sparkgmm.core.fit import _by_all_rows
from sparkgmm.core.initialisation import Seeds, model_of
from sparkgmm.core.race import HALVING_PASSES, Race, Winner
from sparkgmm.covariances import FAMILIES

D, N = 100, 300
SETTINGS = Settings(max_iter=30, tol=1e-5)


@pytest.fixture(scope="module")
def data() -> Standardised:
    """Three round clusters, far apart in a hundred columns, row after row."""
    rng = np.random.default_rng(0)
    X = np.tile(rng.uniform(-3, 3, (3, D)), (N, 1)) + rng.standard_normal((3 * N, D))
    return standardised(X)


def start(data: Standardised, labels: np.ndarray, k: int = 3) -> Trajectory:
    """Start where each row belongs to one component."""
    seeds = Seeds(data.Z, data.w, data.frame.scale, data.frame.correlation)
    R = (labels == np.arange(k)[:, None]).astype(float)
    centres = R @ data.Z / R.sum(axis=1, keepdims=True)
    return Trajectory(model_of(R, centres, seeds, FAMILIES["diag"]))


def right(data: Standardised) -> Trajectory:
    return start(data, np.arange(3 * N) % 3)


def halved(data: Standardised) -> Trajectory:
    """Two clusters in one component, the third in halves: EM does not lead out of that."""
    labels = np.arange(3 * N) % 3
    half = np.where(data.Z[:, 0] > np.median(data.Z[labels == 2, 0]), 1, 2)
    return start(data, np.where(labels < 2, 0, half))


def run(data: Standardised, states: list[Trajectory], settings: Settings = SETTINGS) -> Race:
    race = Race(states, OverBlocks([data.block], data.frame, data.profile), settings)
    race.run(3 * N)
    return race


def test_a_run_that_cannot_come_near_the_best_is_not_carried_to_its_end(
    data: Standardised,
) -> None:
    alone = run(data, [halved(data)])
    assert alone.n_passes > 12
    race = run(data, [right(data), halved(data)])
    good, bad = race.states
    assert good.converged
    assert bad.n_iter <= 8
    assert not bad.converged
    assert alone.states[0].log_likelihood < good.log_likelihood - 1
    assert race.best()["diag", 3] is good


def test_a_run_that_climbs_past_one_that_ended_stays(data: Standardised) -> None:
    ended = run(data, [halved(data)], replace(SETTINGS, max_iter=200)).states[0]
    assert ended.converged
    late = start(data, np.random.default_rng(0).integers(0, 3, 3 * N))
    race = run(data, [Trajectory(ended.model), late], replace(SETTINGS, max_iter=200))
    assert race.states[1].converged
    assert race.states[1].log_likelihood > race.states[0].log_likelihood + 1


def test_no_run_leaves_for_one_of_another_candidate(data: Standardised) -> None:
    alone = run(data, [halved(data)])
    both = run(data, [start(data, np.arange(3 * N) % 2, 2), halved(data)])
    assert both.states[0].converged
    assert both.states[1].n_iter == alone.states[0].n_iter > 12


def test_no_run_leaves_for_one_that_is_degenerate(data: Standardised) -> None:
    """A spike's likelihood is above all others, and counts for nothing."""
    alone = run(data, [halved(data)])
    race = Race(
        [right(data), halved(data)],
        OverBlocks([data.block], data.frame, data.profile),
        SETTINGS,
    )
    rank = race.rank
    race.rank = lambda state: (1, *rank(state)[1:])  # type: ignore[method-assign]
    race.run(3 * N)
    assert race.states[0].converged
    assert race.states[1].n_iter == alone.states[0].n_iter > 12


def test_a_slow_run_below_one_that_ended_is_of_the_worse_half(
    data: Standardised, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Race, "_hopeless", lambda *_: [])
    blocks = OverBlocks([data.block], data.frame, data.profile)
    race = Race([right(data), halved(data)], blocks, replace(SETTINGS, tol=1e-9))
    race.run(10**9)  # so many that passes are dear
    good, bad = race.states
    assert good.converged
    assert good.n_iter < HALVING_PASSES == bad.n_iter
    alone = Race([halved(data)], blocks, replace(SETTINGS, tol=1e-9))
    alone.run(10**9)
    assert alone.states[0].n_iter > HALVING_PASSES


def test_the_plain_starts_keep_a_run_over_all_rows_though_others_look_better(
    data: Standardised,
) -> None:
    """On 400,000 rows theirs led 1,020 nats above what two better ones led to."""
    truth = np.arange(3 * N) % 3
    near = [start(data, np.where(np.arange(3 * N) < n, 0, truth)) for n in (3, 6, 9)]
    plain = halved(data)
    winner = Winner(right(data), rivals=(plain, *near), margin=np.inf)
    blocks = OverBlocks([data.block], data.frame, data.profile)
    [ordered] = _by_all_rows([winner], blocks, SETTINGS)
    assert ordered.state.model is winner.state.model
    assert [r.model for r in ordered.rivals] == [plain.model, near[0].model]
