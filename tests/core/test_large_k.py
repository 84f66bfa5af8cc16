"""Many components: what starts them grows with them, and nothing is made for all pairs of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from helpers.data_sets import clusters
from sparkgmm import fit_array
from sparkgmm.core import initialisation, statistics
from sparkgmm.core.initialisation import (
    Seeds,
    k_means_plus_plus,
    model_around,
    nearest_centres,
    settle,
)
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.rows import PILOT_ROWS, LocalRows, pilot_rows
from sparkgmm.core.statistics import NaturalKernel
from sparkgmm.covariances import FAMILIES


def test_the_sample_has_some_rows_for_every_component() -> None:
    assert pilot_rows(300) == PILOT_ROWS
    assert pilot_rows(1000) == 100_000
    X = np.random.default_rng(0).standard_normal((2, 2 * PILOT_ROWS))
    block = Block(X, None)
    profile = Profile.of(block)
    few, many = (LocalRows([[block]], profile, 0, pilot_rows(k)) for k in (3, 500))
    assert sum(b.n_rows for b in few.sample) == PILOT_ROWS
    assert sum(b.n_rows for b in many.sample) == 50_000
    seeds = [Seeds.of(rows, Frame.of(profile)) for rows in (few, many)]
    assert [len(s.Z) for s in seeds] == [8192, 12_500]


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_centres_settled_and_rows_assigned_some_at_a_time_are_those_of_all_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _ = clusters(np.random.default_rng(1), 7, 3, 500, 6.0)
    seeds = Seeds(X, np.ones(500), np.ones(3), np.eye(3))
    first = X[:7]
    at_once = settle(first, X, seeds.w)
    model = model_around(at_once, seeds, FAMILIES[kind])
    monkeypatch.setattr(initialisation, "_AT_ONCE", 600)  # one or two components, 85 rows
    np.testing.assert_allclose(settle(first, X, seeds.w), at_once, rtol=1e-12)
    again = model_around(at_once, seeds, FAMILIES[kind])
    np.testing.assert_allclose(again.means, model.means, rtol=1e-12)
    np.testing.assert_allclose(again.stack.variances, model.stack.variances, rtol=1e-12)


def test_where_components_were_dropped_moves_of_one_k_are_tried() -> None:
    """Twenty components on 64 rows: some of them have to go, and others are split instead."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-60, 60, (20, 2))
    X = centres[rng.integers(0, 20, 64)] + rng.standard_normal((64, 2))
    with pytest.warns(UserWarning, match="of 20 components found no rows"):
        found = fit_array(X, 20, n_init=1, max_iter=50)
    assert 5 <= found.mixture.k < 20


def test_seeds_of_many_clusters_that_lie_apart_miss_few_of_them() -> None:
    """Each seed is the best of a draw; of 2 + ln k draws a twentieth of the clusters has none."""
    k, n = 256, 8192
    rng = np.random.default_rng(0)
    centres = rng.uniform(-3, 3, (k, 39))
    X = centres[rng.integers(0, k, n)] + rng.standard_normal((n, 39))
    missed = []
    for seed in range(3):
        seeds = k_means_plus_plus(X, np.ones(n), k, np.random.default_rng(seed))
        missed.append(k - len(set(nearest_centres(seeds, centres).tolist())))
    assert np.mean(missed) < 0.02 * k


def test_few_components_are_drawn_as_ever() -> None:
    """Results of fits of some components are kept to the bit: more draws are for many alone."""
    assert all(max(2 + int(math.log(k)), k // 8) == 2 + int(math.log(k)) for k in range(1, 48))
    X = np.random.default_rng(0).standard_normal((500, 2))
    seeds = k_means_plus_plus(X, np.ones(500), 40, np.random.default_rng(0))
    again = k_means_plus_plus(X, np.ones(500), 47, np.random.default_rng(0))
    np.testing.assert_array_equal(seeds, again[:40])


def test_many_components_that_end_as_spikes_are_moved_and_not_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clusters that run into each other: a component ends on a handful of rows in a line."""
    monkeypatch.setattr("sparkgmm.core.pilot.IMPROVEMENTS", 0)  # the moves take long
    rng = np.random.default_rng(1)
    centres = rng.uniform(-12, 12, (40, 2))
    X = centres[rng.integers(0, 40, 800)] + rng.standard_normal((800, 2))
    found = fit_array(X, 40, n_init=1, init="k-means++")
    monkeypatch.setattr("sparkgmm.core.fit._MOVED", 0)
    with pytest.warns(UserWarning, match="of 40 components found no rows"):
        fewer = fit_array(X, 40, n_init=1, init="k-means++")
    assert fewer.mixture.k < found.mixture.k <= 40
    assert found.log_likelihood > fewer.log_likelihood
    assert found.candidates[0].degenerate is None


def test_the_joint_densities_of_many_components_are_made_of_chunks_to_the_same_sums(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    X, _ = clusters(rng, 420, 2, 6000, 20.0)
    block = Block(np.ascontiguousarray(X.T), None)
    profile = Profile.of(block)
    frame = Frame.of(profile)
    Z, w = frame.standardise([block])
    seeds = Seeds(Z, w, frame.scale, frame.correlation)
    model = model_around(Z[:420], seeds, FAMILIES["full"])
    sizes: list[int] = []
    ordinary = statistics.softmax
    monkeypatch.setattr(
        statistics, "softmax", lambda L, w: (sizes.append(L.size), ordinary(L, w))[1]
    )
    [in_chunks] = NaturalKernel.of([model], frame)(block)
    assert max(sizes) <= 1.05 * statistics._JOINT_VALUES
    sizes.clear()
    monkeypatch.setattr(statistics, "_JOINT_VALUES", 2**30)
    [at_once] = NaturalKernel.of([model], frame)(block)
    assert max(sizes) > 1.05 * 2**20
    np.testing.assert_allclose(in_chunks.moments, at_once.moments, rtol=1e-9, atol=1e-9)
    assert in_chunks.log_likelihood == pytest.approx(at_once.log_likelihood, rel=1e-13)
