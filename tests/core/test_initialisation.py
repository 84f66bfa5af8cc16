import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.builders import standardised
from helpers.data_sets import clusters, faithful
from sparkgmm.core.initialisation import (
    INIT,
    Seeds,
    k_means_plus_plus,
    model_around,
    random_from_data,
    settle,
)
from sparkgmm.core.model import to_mixture
from sparkgmm.covariances import FAMILIES
from sparkgmm.mixture import COVARIANCE_TYPES


def seeds(init, Z, w, k, seed):
    return INIT[init](Z, w, k, np.random.default_rng(seed))


def seeds_of(Z, w, frame):
    return Seeds(Z, w, frame.scale, frame.correlation)


@pytest.mark.parametrize("init", INIT)
def test_centres_are_distinct_rows(init):
    *_, Z, w = standardised(faithful())
    for seed in range(20):
        centres = seeds(init, Z, w, 5, seed)
        assert centres.shape == (5, 2)
        assert all((centre == Z).all(axis=1).any() for centre in centres)
        assert len(np.unique(centres, axis=0)) == 5


@pytest.mark.parametrize("init", INIT)
def test_a_seed_gives_the_same_centres_and_another_others(init):
    *_, Z, w = standardised(faithful())
    np.testing.assert_array_equal(seeds(init, Z, w, 3, 1), seeds(init, Z, w, 3, 1))
    assert not np.array_equal(seeds(init, Z, w, 3, 1), seeds(init, Z, w, 3, 2))


@pytest.mark.parametrize("init", INIT)
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_weight_of_three_draws_as_three_rows(init, seed):
    rng = np.random.default_rng(seed)
    Z = rng.standard_normal((40, 2))
    counts = rng.integers(0, 4, 40)
    counts[:2] = 1
    repeated = np.repeat(Z, counts, axis=0)
    np.testing.assert_array_equal(
        seeds(init, Z, counts.astype(float), 2, seed),
        seeds(init, repeated, np.ones(len(repeated)), 2, seed),
    )


@pytest.mark.parametrize("init", INIT)
def test_a_row_without_weight_is_never_drawn(init):
    Z = np.arange(20.0)[:, None]
    w = np.where(np.arange(20) % 5 == 0, 1.0, 0.0)
    for seed in range(50):
        assert set(seeds(init, Z, w, 3, seed).ravel()) <= {0.0, 5.0, 10.0, 15.0}


def test_k_means_plus_plus_puts_a_centre_in_every_cluster_far_apart():
    X, labels = clusters(np.random.default_rng(0), 6, 3, 600, 60.0)
    *_, Z, w = standardised(X)
    for seed in range(20):
        centres = k_means_plus_plus(Z, w, 6, np.random.default_rng(seed))
        found = [labels[(centre == Z).all(axis=1)][0] for centre in centres]
        assert sorted(found) == list(range(6))


def test_random_rows_are_drawn_in_proportion_to_their_weight():
    Z, w = np.arange(4.0)[:, None], np.array([1.0, 2.0, 3.0, 4.0])
    rng = np.random.default_rng(0)
    drawn = np.array([random_from_data(Z, w, 1, rng)[0, 0] for _ in range(20_000)])
    shares = np.bincount(drawn.astype(int), minlength=4) / len(drawn)
    np.testing.assert_allclose(shares, w / 10, atol=5 * np.sqrt(0.25 / len(drawn)))


def test_random_rows_are_distinct_even_where_nearly_all_rows_are_equal():
    Z = np.zeros((1000, 1))
    Z[:2, 0] = [1.0, 2.0]
    w = np.where(Z[:, 0] > 0, 200.0, 1.0)
    for seed in range(20):
        drawn = random_from_data(Z, w, 3, np.random.default_rng(seed))
        assert sorted(drawn.ravel()) == [0.0, 1.0, 2.0]


def test_centres_settle_on_the_weighted_means_of_their_rows():
    X, labels = clusters(np.random.default_rng(3), 3, 2, 300, 30.0)
    w = np.random.default_rng(0).uniform(0.0, 2.0, 300)
    seeds = np.array([X[labels == j][0] for j in range(3)])
    expected = [np.average(X[labels == j], axis=0, weights=w[labels == j]) for j in range(3)]
    np.testing.assert_allclose(settle(seeds, X, w), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(settle(seeds, X, w, rounds=0), seeds)


def test_a_centre_that_no_row_is_near_stays_where_it_is():
    far = np.array([99.0, 99.0])
    settled = settle(np.array([[0.0, 0.0], far]), faithful() * 0.01, np.ones(272))
    np.testing.assert_array_equal(settled[1], far)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_model_around_centres_is_that_of_the_rows_nearest_to_them(kind, d):
    X, labels = clusters(np.random.default_rng(1), 2, d, 6000, 40.0)
    *_, frame, Z, w = standardised(X)
    centres = np.array([Z[labels == j].mean(axis=0) for j in range(2)])
    mixture = to_mixture(model_around(centres, seeds_of(Z, w, frame), FAMILIES[kind]), frame)
    order = np.argsort([X[labels == j].mean(axis=0)[0] for j in range(2)])
    found = np.argsort(mixture.means[:, 0])
    for j, f in zip(order, found, strict=True):
        np.testing.assert_allclose(mixture.means[f], X[labels == j].mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(mixture.weights, 0.5, atol=1e-12)
    assert np.linalg.eigvalsh(mixture.covariances).min() > 0.9


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_centre_alone_on_its_row_starts_wide(kind):
    X = np.r_[np.random.default_rng(2).standard_normal((100, 2)), [[50.0, 50.0]]]
    *_, frame, Z, w = standardised(X)
    mixture = to_mixture(model_around(Z[[0, -1]], seeds_of(Z, w, frame), FAMILIES[kind]), frame)
    assert np.linalg.eigvalsh(mixture.covariances).min() > 0.01
    assert mixture.weights.min() == pytest.approx(1 / 101)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_centre_without_rows_still_makes_a_model(kind):
    *_, frame, Z, w = standardised(faithful())
    centres = np.array([Z[0], [99.0, 99.0]])
    model = model_around(centres, seeds_of(Z, w, frame), FAMILIES[kind])
    mixture = to_mixture(model, frame)
    assert 0 < mixture.weights.min() < 1e-4
