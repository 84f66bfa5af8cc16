"""What must not change the answer: the order of rows and columns, units, ways to say a weight."""

from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.data_sets import faithful, random_mixture
from helpers.searches import starts_for
from sparkgmm import fit_array
from sparkgmm.mixture import COVARIANCE_TYPES

KINDS = st.sampled_from(COVARIANCE_TYPES)
SEEDS = st.integers(0, 2**32 - 1)


def grid():
    """Old Faithful on multiples of 2^-10: adding 1.7e9 to it loses no bit."""
    return np.round(faithful() * 1024) / 1024


# The whole search tries many more starts: what holds of EM at any start is seen of the cheap ones,
# and of the search in one covariance type.
CHEAP = st.just("k-means++")


def fitted(X, kind="full", k=2, **options):
    options = {"reg_covar": 0.0, "tol": 1e-10, "n_init": 3, "init": starts_for(kind)} | options
    found = fit_array(X, k, covariance_type=kind, **options)
    assert found.converged
    return found


@cache
def fitted_to_grid(kind, init):
    return fitted(grid(), kind, init=init)


def assert_same(found, expected, shift=0.0, scale=1.0, per_row=0.0, n=272):
    """Compare to 1e-6 relative: means and covariances in units of each feature's spread."""
    ours, theirs = found.mixture, expected.mixture
    log_likelihood = expected.log_likelihood + n * per_row
    assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-6)
    unit = np.sqrt(np.einsum("kii->ki", theirs.covariances).max(axis=0))
    scale = np.broadcast_to(scale, unit.shape)
    np.testing.assert_allclose(ours.weights, theirs.weights, rtol=1e-6)
    np.testing.assert_allclose(
        (ours.means - shift) / scale / unit, theirs.means / unit, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        ours.covariances / np.outer(scale * unit, scale * unit),
        theirs.covariances / np.outer(unit, unit),
        rtol=1e-6,
        atol=1e-6,
    )


@settings(max_examples=8)
@given(seed=SEEDS, kind=KINDS, init=CHEAP)
@example(seed=0, kind="full", init="auto")
@example(seed=1, kind="tied", init="auto")
def test_the_order_of_the_rows_does_not_matter(seed, kind, init):
    shuffled = np.random.default_rng(seed).permutation(grid())
    assert_same(fitted(shuffled, kind, init=init), fitted_to_grid(kind, init))


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("shift", [[1.7e9, 0.0], [0.0, -1.7e9], [1.7e9, 1.7e9], [1.7e12, 1e8]])
def test_an_offset_moves_the_means_and_nothing_else(kind, shift):
    # in milliseconds: whole numbers, which stay exact
    if max(shift) > 1e10:
        X = np.round(faithful() * [1000, 1])
        expected = fitted(X, kind)
    else:
        X, expected = grid(), fitted_to_grid(kind, starts_for(kind))
    found = fitted(X + shift, kind)
    # a mean near 1.7e12 is a float64 with steps of 2e-4
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-6)
    np.testing.assert_allclose(found.mixture.weights, expected.mixture.weights, rtol=1e-6)
    np.testing.assert_allclose(
        found.mixture.means, expected.mixture.means + shift, rtol=1e-15, atol=1e-4
    )
    unit = np.sqrt(np.einsum("kii->ki", expected.mixture.covariances).max(axis=0))
    np.testing.assert_allclose(
        found.mixture.covariances / np.outer(unit, unit),
        expected.mixture.covariances / np.outer(unit, unit),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
@pytest.mark.parametrize("scale", [[1e-8, 1.0], [1.0, 1e8], [1e8, 1e-8], [-1.0, 3.0], [1e-8, 1e-8]])
def test_units_of_a_feature_scale_the_answer_and_nothing_else(kind, scale):
    X = grid()
    per_row = -np.log(np.abs(scale)).sum()
    expected = fitted_to_grid(kind, starts_for(kind))
    assert_same(fitted(X * scale, kind), expected, scale=scale, per_row=per_row)


@pytest.mark.parametrize("unit", [1e-8, 1e8])
def test_one_unit_for_all_features_scales_a_round_component(unit):
    X = grid()
    found = fitted(X * unit, "spherical", init="auto")
    expected = fitted_to_grid("spherical", "auto")
    assert_same(found, expected, scale=unit, per_row=-2 * np.log(unit))


@settings(max_examples=8)
@given(seed=SEEDS, kind=KINDS, init=CHEAP)
@example(seed=0, kind="full", init="auto")
@example(seed=1, kind="tied", init="auto")
def test_the_order_of_the_columns_permutes_the_answer(seed, kind, init):
    rng = np.random.default_rng(seed)
    extra = rng.standard_normal((len(grid()), 1))
    X = np.c_[grid(), extra]
    order = rng.permutation(3)
    found, expected = (fitted(Y, kind, init=init).mixture for Y in (X[:, order], X))
    unit = np.sqrt(np.einsum("kii->ki", expected.covariances).max(axis=0))[order]
    np.testing.assert_allclose(found.weights, expected.weights, rtol=1e-6)
    np.testing.assert_allclose(
        found.means / unit, expected.means[:, order] / unit, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(
        found.covariances / np.outer(unit, unit),
        expected.covariances[:, order][:, :, order] / np.outer(unit, unit),
        rtol=1e-6,
        atol=1e-6,
    )


@settings(max_examples=5)
@given(seed=SEEDS, kind=KINDS, init=CHEAP)
@example(seed=0, kind="full", init="auto")
def test_whole_weights_are_repeated_rows_and_weights_of_zero_none(seed, kind, init):
    X = grid()
    w = np.random.default_rng(seed).integers(0, 4, len(X))
    zero = fitted(X, kind, sample_weight=w, init=init)
    assert_same(zero, fitted(np.repeat(X, w, axis=0), kind, init=init))
    positive = w > 0
    absent = fitted(X[positive], kind, sample_weight=w[positive], init=init)
    assert zero.mixture == absent.mixture  # to the bit
    assert zero.log_likelihood == absent.log_likelihood


@cache
def fitted_to_weighted_grid(kind):
    w = np.random.default_rng(0).uniform(0.5, 2, len(grid()))
    return fitted(grid(), kind, sample_weight=w)


@pytest.mark.parametrize("factor", [1e-6, 0.1, 1e6])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_unit_of_the_weights_scales_the_log_likelihood_alone(kind, factor):
    w = np.random.default_rng(0).uniform(0.5, 2, len(grid()))
    found = fitted(grid(), kind, sample_weight=factor * w)
    expected = fitted_to_weighted_grid(kind)
    assert found.log_likelihood == pytest.approx(factor * expected.log_likelihood, rel=1e-6)
    np.testing.assert_allclose(found.mixture.means, expected.mixture.means, rtol=1e-6)


@settings(max_examples=8)
@given(
    seed=SEEDS,
    kind=KINDS,
    k=st.integers(1, 3),
    d=st.integers(1, 3),
    weighted=st.booleans(),
    offset=st.sampled_from([0.0, 1e6]),
    init=CHEAP,
)
@example(seed=0, kind="full", k=3, d=2, weighted=True, offset=1e6, init="auto")
@example(seed=1, kind="diag", k=2, d=3, weighted=False, offset=0.0, init="auto")
def test_the_log_likelihood_returned_is_that_of_the_mixture_returned(
    seed, kind, k, d, weighted, offset, init
):
    rng = np.random.default_rng(seed)
    X, _ = random_mixture(rng, 2, d, kind).sample(300, seed=seed)
    X = X + offset * X.std(axis=0)
    w = rng.uniform(0.1, 2, 300) if weighted else None
    found = fit_array(
        X, k, covariance_type=kind, sample_weight=w, init=init, n_init=2, reg_covar=1e-3
    )
    expected = found.mixture.log_likelihood(X, w)
    # 1e6 standard deviations from zero cost six of sixteen digits, squared
    assert found.log_likelihood == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert found.log_likelihoods[-1] == pytest.approx(found.log_likelihood, rel=1e-12)
    assert len(found.log_likelihoods) == found.n_iter


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_log_likelihoods_told_never_fall(kind):
    found = fit_array(faithful(), 3, covariance_type=kind, reg_covar=0, n_init=2)
    assert np.diff(found.log_likelihoods).min(initial=0.0) >= -1e-8


def test_the_same_call_gives_the_same_bits():
    first, second = (fit_array(faithful(), 3, seed=4) for _ in range(2))
    assert first.mixture == second.mixture
    assert first.log_likelihoods == second.log_likelihoods
