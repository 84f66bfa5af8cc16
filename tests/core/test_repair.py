"""A component without rows of its own: put elsewhere, then left out, never kept as a ghost."""

from __future__ import annotations

import numpy as np

from helpers.builders import standardised
from helpers.data_sets import clusters
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import Measured, OverBlocks
from sparkgmm.core.initialisation import Seeds, model_of
from sparkgmm.core.model import Model
from sparkgmm.core.race import Race
from sparkgmm.core.repair import beside_the_heaviest, reseeder, weakest, without
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Dense


def three_on_two(Z: np.ndarray) -> Model:
    """Two good components on two clusters and a third that doubles the first."""
    means = np.array([Z[::2].mean(0), Z[1::2].mean(0), Z[::2].mean(0)])
    covariances = np.array([np.cov(Z[::2].T), np.cov(Z[1::2].T), np.cov(Z[::2].T)])
    return Model(FAMILIES["full"], np.array([0.25, 0.5, 0.25]), means, Dense(covariances))


def counted(counts: list[float]) -> Measured:
    """What a pass measured, of which only the counts matter."""
    sums = np.zeros((len(counts), 2))
    return Measured(Moments(np.array(counts), sums, None, sums, np.ones(2), np.eye(2)), 0.0)


def test_a_double_is_recognised_and_the_first_of_the_two_kept() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 8.0)
    _, profile, _, Z, _ = standardised(X)
    measured = counted([100.0, 200.0, 100.0])
    assert weakest(Trajectory(three_on_two(Z), measured), profile) == 2


def test_a_component_with_fewer_rows_than_it_needs_is_the_weakest() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 8.0)
    _, profile, _, Z, _ = standardised(X)
    measured = counted([197.5, 200.0, 2.5])
    assert weakest(Trajectory(three_on_two(Z), measured), profile) == 2


def test_a_sound_model_has_no_weakest_component() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 8.0)
    _, profile, _, Z, _ = standardised(X)
    model = without(three_on_two(Z), 2)
    measured = counted([200.0, 200.0])
    assert weakest(Trajectory(model, measured), profile) is None


def test_reseeding_goes_to_the_rows_that_the_others_explain_worst() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 8.0)
    X[:30] = [40.0, -40.0]
    _, _, frame, Z, _ = standardised(X)
    seeds = Seeds(Z, np.ones(400), frame.scale, frame.correlation)
    reseed = reseeder(seeds, np.random.default_rng(0))
    moved = reseed(three_on_two(Z), 2)
    np.testing.assert_allclose(moved.means[2], Z[0])
    assert abs(moved.weights.sum() - 1) < 1e-12


def test_what_is_left_without_a_component_keeps_its_proportions() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 8.0)
    Z = standardised(X).Z
    rest = without(three_on_two(Z), 0)
    np.testing.assert_allclose(rest.weights, [2 / 3, 1 / 3])


def test_a_race_ends_without_doubles_and_says_how_many_it_dropped() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 30.0)
    block, profile, frame, Z, _ = standardised(X)
    seeds = Seeds(Z, np.ones(400), frame.scale, frame.correlation)
    reseed = reseeder(seeds, np.random.default_rng(0))
    evidence = OverBlocks([block], frame, profile)
    race = Race([Trajectory(three_on_two(Z))], evidence, Settings(tol=1e-9), reseed=reseed)
    race.run(400)
    [state] = race.states
    assert state.model.k + state.n_dropped == 3
    assert state.candidate_key == ("full", 3)
    assert weakest(state, profile) is None


def test_of_many_components_those_that_starve_are_left_out_together() -> None:
    """Each time EM has to come to an end again: ten one by one took 250 passes."""
    X, labels = clusters(np.random.default_rng(0), 40, 2, 4000, 200.0)
    block, profile, frame, Z, w = standardised(X)
    seeds = Seeds(Z, w, frame.scale, frame.correlation)
    R = (labels == np.arange(40)[:, None]).astype(float)
    model = model_of(R, R @ Z / R.sum(axis=1, keepdims=True), seeds, FAMILIES["full"])
    which = np.arange(43).clip(max=39)  # three more, on no row at all
    means = np.concatenate([model.means, np.full((3, 2), 50.0) + np.arange(3)[:, None]])
    crowded = Model(model.family, np.full(43, 1 / 43), means, model.stack.take(which))
    state = Trajectory(crowded, reseeded=True)
    reseed = reseeder(seeds, np.random.default_rng(0))
    race = Race([state], OverBlocks([block], frame, profile), Settings(), reseed=reseed)
    race.run(len(X))
    [ended] = race.states
    assert ended.model.k == 40
    assert ended.n_dropped == 3
    assert race.n_passes <= 2 * ended.n_iter + 5


def test_components_moved_beside_the_heaviest_share_its_rows() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 400, 8.0)
    _, _, _, Z, _ = standardised(X)
    model = three_on_two(Z)
    moved = beside_the_heaviest(model, [0], np.random.default_rng(0))
    np.testing.assert_allclose(moved.weights, np.array([0.25, 0.25, 0.25]) / 0.75)
    np.testing.assert_allclose((moved.means[0] + moved.means[1]) / 2, model.means[1])
    assert (moved.means[0] != moved.means[1]).all()
    np.testing.assert_allclose(moved.stack.variances[0], model.stack.variances[1])
    np.testing.assert_array_equal(moved.means[2], model.means[2])
