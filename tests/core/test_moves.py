"""Splitting and merging: the way out of an optimum that EM cannot leave."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.builders import block_of
from helpers.data_sets import clusters
from sparkgmm import fit_array
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.merits import by_merit
from sparkgmm.core.model import Model, to_mixture
from sparkgmm.core.moves import CUTS, split_and_merge
from sparkgmm.core.prior import Bounded
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.repair import without
from sparkgmm.core.short_runs import Sample
from sparkgmm.core.starts.ground import Ground
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.stacks import Dense


def stuck(d: int = 2) -> tuple[Seeds, Model]:
    """Three clusters, and a model with two components on one of them and one on two."""
    X, _ = clusters(np.random.default_rng(0), 3, d, 900, separation=12.0)
    frame = Frame.of(Profile.of(block_of(X)))
    Z = (X - frame.shift) / frame.scale
    labels = np.arange(900) % 3
    one, rest = Z[labels == 0], Z[labels != 0]
    means = np.array([one.mean(0) - 0.01, one.mean(0) + 0.01, rest.mean(0)])
    covariances = np.array([np.cov(one.T), np.cov(one.T), np.cov(rest.T)])
    seeds = Seeds(Z, np.ones(900), frame.scale, frame.correlation)
    return seeds, Model(FAMILIES["full"], np.full(3, 1 / 3), means, Dense(covariances))


def test_a_move_frees_the_doubled_component_for_the_crowded_one() -> None:
    seeds, model = stuck()
    moved = split_and_merge(model, seeds, np.random.default_rng(0), most=1)
    assert len(moved) == 1
    unit = Frame(np.zeros(2), np.ones(2), np.eye(2), 1.0)
    labels = to_mixture(moved[0], unit).predict(seeds.Z)
    truth = np.arange(900) % 3
    # each cluster is one component's own
    assert len({(a, b) for a, b in zip(labels, truth, strict=True)}) == 3


def test_two_components_are_too_few_to_move() -> None:
    seeds, model = stuck()
    two = without(model, 2)
    assert split_and_merge(two, seeds, np.random.default_rng(0), most=5) == []


def test_a_fit_from_the_worst_of_starts_finds_all_clusters() -> None:
    X, _ = clusters(np.random.default_rng(3), 8, 4, 2400, separation=9.0)
    # one start at eight random rows ends hundreds of nats short: moves alone lead on from there
    worst = [("random_from_data", seed) for seed in range(5)]
    heights = [
        fit_array(X, 8, init=init, n_init=1, seed=seed).log_likelihood
        for init, seed in [*worst, ("auto", 0)]
    ]
    np.testing.assert_allclose(heights, max(heights), rtol=1e-9)


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_moves_are_proposed_than_asked_for(most: int) -> None:
    seeds, model = stuck()
    moved = split_and_merge(model, seeds, np.random.default_rng(0), most)
    assert len(moved) == most  # each of the three could be split


def test_a_cut_finds_a_small_cluster_within_a_wide_one() -> None:
    """Two rows of a hundred are one: cuts that leave a fifth on either side never see them."""
    rng = np.random.default_rng(0)
    Y = np.concatenate([rng.normal(0, 1, (980, 2)), rng.normal(1, 0.02, (20, 2))])
    Y /= Y.std(axis=0)
    share = np.ones(len(Y))
    cuts = [cut(Y, share, rng) for _ in range(200) for cut in CUTS]
    assert any(each[980:].mean() > 0.9 and each[:980].mean() < 0.05 for each in cuts)


def by_merit_of(seeds: Seeds, model: Model, most: int, least: float = -np.inf) -> list[Model]:
    sample = Sample.of(seeds, model.n_features)
    rng = np.random.default_rng(0)
    return by_merit(model, Ground(seeds), sample, Bounded(), rng, most, least)


def test_the_move_of_most_merit_merges_the_doubled_and_splits_the_crowded() -> None:
    seeds, model = stuck()
    [moved] = by_merit_of(seeds, model, most=1)
    unit = Frame(np.zeros(2), np.ones(2), np.eye(2), 1.0)
    labels = to_mixture(moved, unit).predict(seeds.Z)
    truth = np.arange(900) % 3
    assert len({(a, b) for a, b in zip(labels, truth, strict=True)}) == 3
    assert by_merit_of(seeds, moved, most=5, least=1e-3) == []  # there is nothing to gain any more
