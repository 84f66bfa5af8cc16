"""The warnings of a report: each is there when it is true, and only then."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from helpers.data_sets import faithful
from helpers.report_runs import run_of
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.core.selection import Aside, Held, Hidden
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.remarks import remarks
from sparkgmm.report.run import Run


def said_of(run: Run, **changes: Any) -> str:
    """Return the remarks on a run, one a line; `changes` are made to its chosen candidate."""
    chosen = replace(run.chosen, **changes)
    candidates = [chosen if c is run.chosen else c for c in run.candidates]
    configuration = run.manifest["configuration"]
    return "\n".join(remarks(chosen, candidates, run.membership, run.metrics, configuration))


@pytest.fixture(scope="module")
def sound() -> Run:
    """Return Old Faithful in two components, of which nothing has to be said."""
    return run_of(faithful(), features=["eruptions", "waiting"])


@pytest.fixture(scope="module")
def chosen_from_many() -> Run:
    """Return Old Faithful in the components that bic chooses, three, from up to four."""
    return run_of(faithful(), k=[1, 2, 3, 4], covariance_type="tied", n_init=5)


def test_a_sound_run_needs_no_remark(sound: Run) -> None:
    assert said_of(sound) == ""


def test_a_run_that_used_up_its_passes_did_not_converge(sound: Run) -> None:
    run = run_of(faithful(), k=3, max_iter=3)
    assert "did not converge: it used up its 3 passes" in said_of(run)
    assert "Raise model.max_iter" in said_of(run)
    assert "converge" not in said_of(sound)


def test_what_is_left_to_the_limit_is_told_where_it_is_known(sound: Run) -> None:
    left = said_of(sound, converged=False, distance=0.0123)
    assert "about 1.2e-02 nats a row are left" in left
    unknown = said_of(sound, converged=False, distance=float("inf"))
    assert "inf" not in unknown
    assert "could not be computed" in unknown


def test_rows_that_were_set_aside_are_told_with_column_and_value(sound: Run) -> None:
    said = said_of(sound, set_aside=(Aside("waiting", 5555.0, 1.0),))
    assert "1 row lies far out of all proportion" in said
    assert "at waiting = 5555, and was set aside" in said


def test_values_that_hide_a_column_are_told_with_the_column(sound: Run) -> None:
    hidden = (Hidden("waiting", 58.0, 82.0, 1e20),)
    said = said_of(sound, hidden=hidden)
    assert "fitted as one: waiting (58 to 82 beside 1e+20)" in said


@pytest.mark.parametrize(
    ("n_starts", "n_agreeing", "expected"),
    [(5, 1, True), (3, 1, True), (5, 2, False), (2, 1, False), (1, 1, False)],
)
def test_an_optimum_of_a_single_start_is_doubted(
    sound: Run, n_starts: int, n_agreeing: int, expected: bool
) -> None:
    said = said_of(sound, n_starts=n_starts, n_agreeing=n_agreeing)
    assert (f"Only one of {n_starts} starts" in said) == expected


def test_components_that_were_dropped_are_told(sound: Run) -> None:
    assert "2 component(s) found no rows of their own" in said_of(sound, n_dropped=2)
    assert "the mixture has k = 2" in said_of(sound, n_dropped=2)


def test_what_holds_a_component_open_is_told_with_column_value_and_rows(sound: Run) -> None:
    X = faithful().copy()
    X[:40, 0] = 9.5
    said = said_of(run_of(X, features=["eruptions", "waiting"], k=3))
    assert "is 40 rows of one value, eruptions = 9.5: as wide there as values can be told" in said
    few = said_of(sound, held=(Held(1, "waiting", 54.0, 12.0, few=True),))
    assert "Component 1 has few rows (12 rows) and is as narrow as model.reg_covar lets it" in few
    assert "few rows" not in said_of(sound)


def test_if_every_k_above_one_was_refused_that_is_the_first_thing_said(sound: Run) -> None:
    one = replace(sound.chosen, k=1)
    two = replace(sound.chosen, n_dropped=1, degenerate="component 0 is a spike: 6 rows")
    said = remarks(
        one, [one, two], sound.membership, sound.metrics, sound.manifest["configuration"]
    )
    assert said[0].startswith("EVERY k ABOVE 1 WAS REFUSED")
    assert "k = 3 full: component 0 is a spike: 6 rows" in said[0]
    assert "model.covariance_type tied or diag" in said[0]
    assert "EVERY" not in said_of(sound)


def collinear(r: float) -> Array:
    """Return two clusters whose features 0 and 2 correlate within the first one."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((3000, 3))
    X[1000:, 2] = r * X[1000:, 0] + np.sqrt(1 - r**2) * X[1000:, 2]
    X[:1000] += 20
    return X


def test_a_near_singular_component_is_named_with_its_features() -> None:
    run = run_of(collinear(1 - 1e-7), features=["speed", "height", "pace"], reg_covar=1e-12)
    said = said_of(run)
    assert "Component 0 is nearly singular" in said
    assert "speed" in said
    assert "pace" in said
    assert "height" not in said
    assert "Component 1" not in said


def test_a_strong_correlation_is_not_called_singular() -> None:
    run = run_of(collinear(0.999), features=["speed", "height", "pace"])
    assert "singular" not in said_of(run)


def test_narrow_features_of_unlike_units_are_not_called_singular() -> None:
    X = np.random.default_rng(0).standard_normal((500, 3)) * [1e-9, 1.0, 1e9]
    assert said_of(run_of(X, k=1)) == ""


def test_heavy_tails_are_told_with_their_share() -> None:
    X = np.random.default_rng(1).standard_t(3, (20_000, 1))
    assert "heavier tails" in said_of(run_of(X, k=1))


@pytest.mark.parametrize("n", [30, 300, 30_000])
@pytest.mark.parametrize("seed", range(3))
def test_gaussian_rows_are_not_said_to_have_heavy_tails(n: int, seed: int) -> None:
    X = np.random.default_rng([seed, n]).standard_normal((n, 2))
    assert said_of(run_of(X, k=1, n_init=1)) == ""


def tail_of(run: Run, X: Array, weights: Array) -> bool:
    """Tell whether rows are said to have heavier tails than the standard normal distribution."""
    membership = Membership(Mixture([1.0], [[0.0]], [[[1.0]]]), Sample(X, weights, complete=True))
    model = run.manifest["configuration"]
    said = remarks(run.chosen, [run.chosen], membership, run.metrics, model)
    return "tails" in "\n".join(said)


def test_uneven_weights_are_no_heavy_tail(sound: Run) -> None:
    rng = np.random.default_rng(0)
    samples = [(rng.standard_normal((3000, 1)), rng.lognormal(0, 2, 3000)) for _ in range(40)]
    assert sum(tail_of(sound, X, weights) for X, weights in samples) <= 1


def test_weights_can_make_a_heavy_tail(sound: Run) -> None:
    X = np.random.default_rng(0).standard_normal((3000, 1))
    assert not tail_of(sound, X, np.ones(3000))
    assert tail_of(sound, X, np.where(np.abs(X[:, 0]) > 3, 50.0, 1.0))


def test_the_largest_k_that_was_tried_is_doubted(chosen_from_many: Run) -> None:
    assert chosen_from_many.chosen.k == 3
    assert "largest k" not in said_of(chosen_from_many)
    few = run_of(faithful(), k=[1, 2, 3], covariance_type="tied", n_init=5)
    assert "The largest k that was tried, 3, has the lowest bic" in said_of(few)


def test_a_single_k_is_not_the_largest_of_several(sound: Run) -> None:
    kinds = run_of(faithful(), k=2, covariance_type=["full", "tied"])
    assert len(kinds.candidates) == 2
    assert "largest k" not in said_of(kinds)


def test_a_candidate_that_lost_components_was_tried_with_more(sound: Run) -> None:
    # k of 2 and 9 were asked for; the latter ended with 3, and won
    smaller = sound.chosen
    winner = replace(smaller, k=3, n_dropped=6)
    configuration = sound.manifest["configuration"]
    said = remarks(winner, [smaller, winner], sound.membership, sound.metrics, configuration)
    assert "largest k" not in "\n".join(said)


def test_degenerate_candidates_are_told_with_their_reasons(sound: Run) -> None:
    ghosts = [
        replace(sound.chosen, k=k, degenerate=f"component {k} is a spike") for k in range(3, 10)
    ]
    configuration = sound.manifest["configuration"]
    said = "\n".join(
        remarks(
            sound.chosen, [sound.chosen, *ghosts], sound.membership, sound.metrics, configuration
        )
    )
    assert "k = 3 full (component 3 is a spike)" in said
    assert "and 2 more" in said
    assert "k = 9" not in said
    one = remarks(
        sound.chosen, [sound.chosen, ghosts[0]], sound.membership, sound.metrics, configuration
    )
    assert "more" not in "\n".join(one)


@pytest.mark.parametrize(
    ("rule", "fate"), [("drop", "were left out"), ("quarantine", "are in rejected/")]
)
def test_invalid_rows_are_told_with_what_became_of_them(rule: str, fate: str) -> None:
    run = run_of(faithful(), invalid=28, invalid_rows=rule)
    assert "28" in said_of(run)
    assert "9.33%" in said_of(run)  # of 300
    assert fate in said_of(run)


def test_constants_that_were_dropped_are_named() -> None:
    run = run_of(faithful(), dropped=["version", "<b>"])
    assert said_of(run) == "Dropped as constant: version, <b>."


def test_several_remarks_come_the_gravest_first() -> None:
    run = run_of(faithful(), k=3, max_iter=3, invalid=5, invalid_rows="drop", dropped=["x"])
    lines = said_of(run).splitlines()
    assert "converge" in lines[0]
    assert "constant" in lines[-1]
