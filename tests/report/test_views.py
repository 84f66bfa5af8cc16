"""What there is to see: marginals, contours, axes, features that tell, overlap of components."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from helpers.data_sets import random_mixture
from sparkgmm.core.sample import Sample
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.views import (
    SHARES,
    correlation,
    density_levels,
    informative_features,
    limits,
    marginal,
    share_outside,
)


def rng_of(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def sampled(mixture: Mixture, n: int = 3000, seed: int = 3) -> Sample:
    X, _ = mixture.sample(n, seed=seed)
    return Sample(X, np.ones(n), complete=True)


def round_mixture(means: Array, sd: float = 1.0) -> Mixture:
    """Return equal weights and round components around these means."""
    k, d = np.shape(means)
    return Mixture(np.full(k, 1 / k), means, np.tile(sd**2 * np.eye(d), (k, 1, 1)))


# --- marginals


@pytest.mark.parametrize("features", [[0, 2], [2, 0]])
def test_a_marginal_is_the_integral_over_the_other_features(features: list[int]) -> None:
    mixture = random_mixture(rng_of(1), 3, 3, "full")
    mean, sd = mixture.means[:, 1], np.sqrt(mixture.covariances[:, 1, 1])
    low, high = (mean - 12 * sd).min(), (mean + 12 * sd).max()
    shown = marginal(mixture, features)
    for row in mixture.sample(5, seed=0)[0]:

        def joint(at: float, row: Array = row) -> float:
            return float(np.exp(mixture.log_density([[row[0], at, row[2]]]))[0])

        expected, _ = quad(joint, low, high, points=mean, epsabs=0, epsrel=1e-9, limit=500)
        found = np.exp(shown.log_density(row[None, features]))[0]
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("covariance_type", ["tied", "diag", "spherical"])
def test_a_marginal_of_every_covariance_type_is_a_mixture_with_its_names(
    covariance_type: str,
) -> None:
    whole = random_mixture(rng_of(2), 2, 4, covariance_type)
    named = Mixture(
        whole.weights, whole.means, whole.covariances, covariance_type, features=list("abcd")
    )
    shown = marginal(named, [3, 1])
    assert shown.features == ("d", "b")
    np.testing.assert_array_equal(shown.means[:, 0], whole.means[:, 3])
    np.testing.assert_array_equal(shown.covariances[:, 0, 1], whole.covariances[:, 3, 1])


# --- contours and axes


@pytest.mark.parametrize("k", [1, 3])
def test_a_contour_holds_its_share_of_fresh_draws(k: int) -> None:
    mixture = random_mixture(rng_of(3, k), k, 2, "full")
    density = np.exp(mixture.log_density(mixture.sample(100_000, seed=77)[0]))
    for share, level in zip(SHARES, density_levels(mixture), strict=True):
        noise = np.sqrt(share * (1 - share) * (1 / 20_000 + 1 / 100_000))
        assert (density >= level).mean() == pytest.approx(share, abs=5 * noise)


def test_the_contour_of_one_gaussian_in_the_plane_is_as_in_closed_form() -> None:
    # r^2 is chi-square with two degrees of freedom: the level of share s is the peak times 1 - s
    mixture = random_mixture(rng_of(4), 1, 2, "full")
    peak = np.exp(mixture.log_density(mixture.means))[0]
    noise = np.sqrt(np.array(SHARES) * (1 - np.array(SHARES)) / 20_000)
    assert (np.abs(density_levels(mixture) / peak - (1 - np.array(SHARES))) < 5 * noise).all()


def test_the_axis_of_light_tails_holds_every_value_and_little_more() -> None:
    values = rng_of(5).normal(50.0, 3.0, 10_000)
    low, high = limits(values)
    assert low < values.min()
    assert high > values.max()
    assert high - low < 1.2 * np.ptp(values)


def test_the_axis_of_heavy_tails_shows_the_bulk() -> None:
    values = rng_of(6).standard_cauchy(100_000)
    low, high = limits(values)
    inner = np.subtract(*np.quantile(values, [0.995, 0.005]))
    assert high - low < 1.2 * inner
    assert ((values > low) & (values < high)).mean() == pytest.approx(0.99, abs=0.003)


def test_the_axis_of_one_heavy_tail_keeps_the_light_one_whole() -> None:
    values = rng_of(7).lognormal(0, 2, 20_000)
    low, high = limits(values)
    assert low <= values.min()
    assert high < 0.5 * values.max()


@pytest.mark.parametrize("value", [0.0, 5.0, -3e-9, 1.7e12, 1e300, 5e-324])
@pytest.mark.parametrize("n", [1, 2, 1000])
def test_the_axis_of_a_constant_has_a_width(value: float, n: int) -> None:
    low, high = limits(np.full(n, value))
    assert np.isfinite([low, high]).all()
    assert low <= value <= high
    if abs(value) > 1e-300:
        assert low < high


@pytest.mark.parametrize("scale", [1e-200, 1e-12, 1e12, 1e200])
def test_the_axis_has_the_scale_of_the_values(scale: float) -> None:
    values = scale * rng_of(8).normal(size=50)
    low, high = limits(values)
    assert low < values.min() < values.max() < high
    assert high - low < 1.2 * np.ptp(values)


def test_the_share_outside_counts_rows_beyond_any_axis_once() -> None:
    X = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0], [5.0, 5.0], [1.0, 1.0]])
    assert share_outside(X, [(-1, 1), (-1, 1)]) == pytest.approx(0.6)
    assert share_outside(X, [(-9, 9), (-9, 9)]) == 0


# --- features that tell


def test_the_features_that_part_the_components_come_first() -> None:
    means = np.zeros((3, 14))
    means[:, 4] = [0, 4, 0]
    means[:, 11] = [0, 0, 4]
    mixture = round_mixture(means)
    found = informative_features(mixture, sampled(mixture), 5)
    assert set(found[:2]) == {4, 11}
    assert len(set(found)) == 5


def test_a_pair_that_tells_only_together_is_found() -> None:
    covariances = np.tile(np.eye(8), (2, 1, 1))
    covariances[0, 2, 6] = covariances[0, 6, 2] = 0.95
    covariances[1, 2, 6] = covariances[1, 6, 2] = -0.95
    mixture = Mixture([0.5, 0.5], np.zeros((2, 8)), covariances)
    assert set(informative_features(mixture, sampled(mixture), 5)[:2]) == {2, 6}


def test_of_one_component_the_most_correlated_pair_comes_first() -> None:
    covariance = np.eye(10)
    covariance[2, 9] = covariance[9, 2] = -0.9
    covariance[3, 9] = covariance[9, 3] = 0.3
    mixture = Mixture([1.0], np.zeros((1, 10)), covariance[None])
    found = informative_features(mixture, sampled(mixture), 4)
    assert set(found[:2]) == {2, 9}
    assert found[2] == 3
    assert len(set(found)) == 4


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("d", [6, 25])
def test_no_feature_stands_twice(k: int, covariance_type: str, d: int) -> None:
    mixture = random_mixture(rng_of(9, k, d), k, d, covariance_type)
    found = informative_features(mixture, sampled(mixture, 500), 5)
    assert len(found) == len(set(found)) == 5
    assert set(found) <= set(range(d))


@pytest.mark.parametrize("d", [1, 3, 5])
def test_few_features_are_all_taken_in_their_order(d: int) -> None:
    mixture = random_mixture(rng_of(10, d), 2, d, "full")
    assert informative_features(mixture, sampled(mixture, 50), 5) == list(range(d))


def test_a_correlation_matrix_is_that_of_many_draws() -> None:
    mixture = random_mixture(rng_of(11), 1, 4, "full")
    expected = np.corrcoef(mixture.sample(200_000, seed=0)[0].T)
    np.testing.assert_allclose(correlation(mixture.covariances[0]), expected, atol=0.015)
