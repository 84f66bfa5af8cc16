"""What there is to see: marginals, contours, axes, features that tell, overlap of components."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal

from data_sets import faithful, random_mixture
from report_runs import local_rows
from sparkgmm.core.matching import bhattacharyya_between
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.views import (
    SHARES,
    Membership,
    Sample,
    bhattacharyya,
    correlation,
    density_levels,
    limits,
    marginal,
    share_outside,
    telling_features,
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


# --- samples and marginals


def test_a_sample_holds_every_row_and_weight_in_order() -> None:
    X, w = faithful(), np.arange(1.0, 273.0)
    sample = Sample.of(local_rows(X, w))
    np.testing.assert_array_equal(sample.X, X)
    np.testing.assert_array_equal(sample.weights, w)
    assert sample.complete


def test_a_sample_of_many_rows_is_bounded_and_says_that_it_is_one() -> None:
    X = rng_of(0).normal(size=(40_000, 1))
    sample = Sample.of(local_rows(X))
    assert len(sample.X) == len(sample.weights) == 2**15
    assert not sample.complete
    assert np.isin(sample.X, X).all()


@pytest.mark.parametrize(("n", "most"), [(10, 3), (9, 3), (3, 3), (2, 3), (1501, 1500)])
def test_thinning_keeps_at_most_so_many_rows_from_the_whole_range(n: int, most: int) -> None:
    thinned = Sample(np.arange(float(n))[:, None], np.ones(n), complete=True).thinned(most)
    assert most / 2 <= len(thinned) + (n < most) <= most
    assert thinned[-1, 0] >= n - n / most - 1


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
    found = telling_features(mixture, sampled(mixture), 5)
    assert set(found[:2]) == {4, 11}
    assert len(set(found)) == 5


def test_a_pair_that_tells_only_together_is_found() -> None:
    covariances = np.tile(np.eye(8), (2, 1, 1))
    covariances[0, 2, 6] = covariances[0, 6, 2] = 0.95
    covariances[1, 2, 6] = covariances[1, 6, 2] = -0.95
    mixture = Mixture([0.5, 0.5], np.zeros((2, 8)), covariances)
    assert set(telling_features(mixture, sampled(mixture), 5)[:2]) == {2, 6}


def test_of_one_component_the_most_correlated_pair_comes_first() -> None:
    covariance = np.eye(10)
    covariance[2, 9] = covariance[9, 2] = -0.9
    covariance[3, 9] = covariance[9, 3] = 0.3
    mixture = Mixture([1.0], np.zeros((1, 10)), covariance[None])
    found = telling_features(mixture, sampled(mixture), 4)
    assert set(found[:2]) == {2, 9}
    assert found[2] == 3
    assert len(set(found)) == 4


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("covariance_type", ["full", "diag", "spherical"])
@pytest.mark.parametrize("d", [6, 25])
def test_no_feature_stands_twice(k: int, covariance_type: str, d: int) -> None:
    mixture = random_mixture(rng_of(9, k, d), k, d, covariance_type)
    found = telling_features(mixture, sampled(mixture, 500), 5)
    assert len(found) == len(set(found)) == 5
    assert set(found) <= set(range(d))


@pytest.mark.parametrize("d", [1, 3, 5])
def test_few_features_are_all_taken_in_their_order(d: int) -> None:
    mixture = random_mixture(rng_of(10, d), 2, d, "full")
    assert telling_features(mixture, sampled(mixture, 50), 5) == list(range(d))


def test_a_correlation_matrix_is_that_of_many_draws() -> None:
    mixture = random_mixture(rng_of(11), 1, 4, "full")
    expected = np.corrcoef(mixture.sample(200_000, seed=0)[0].T)
    np.testing.assert_allclose(correlation(mixture.covariances[0]), expected, atol=0.015)


# --- components beside each other


def test_distances_between_components_are_those_of_the_integral_on_the_line() -> None:
    one = Mixture([0.3, 0.7], [[0.0], [4.0]], [[[1.0]], [[0.04]]])
    other = Mixture([0.2, 0.3, 0.5], [[1.0], [-3.0], [0.0]], [[[2.0]], [[0.5]], [[1.0]]])
    found = bhattacharyya_between(one, other)
    assert found.shape == (2, 3)
    x = np.linspace(-15, 15, 200_001)
    for i in range(2):
        p = multivariate_normal(one.means[i], one.covariances[i]).pdf(x)
        for j in range(3):
            q = multivariate_normal(other.means[j], other.covariances[j]).pdf(x)
            expected = -np.log(np.trapezoid(np.sqrt(p * q), x))
            assert found[i, j] == pytest.approx(expected, abs=1e-9)


def test_distances_between_components_are_those_of_the_integral_in_the_plane() -> None:
    mixture = Mixture(
        [0.5, 0.3, 0.2],
        [[0.0, 0.0], [2.0, 1.0], [0.0, -3.0]],
        [[[1.0, 0.8], [0.8, 1.0]], [[0.5, -0.2], [-0.2, 2.0]], [[3.0, 0.0], [0.0, 0.2]]],
    )
    x = np.linspace(-14, 14, 1201)
    grid = np.stack(np.meshgrid(x, x), axis=-1)
    roots = [
        np.sqrt(multivariate_normal(m, c).pdf(grid))
        for m, c in zip(mixture.means, mixture.covariances, strict=True)
    ]
    found = bhattacharyya(mixture)
    for i in range(3):
        for j in range(3):
            integral = np.trapezoid(np.trapezoid(roots[i] * roots[j], x), x)
            assert found[i, j] == pytest.approx(-np.log(integral), abs=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-12)


def test_the_distance_does_not_depend_on_units() -> None:
    mixture = random_mixture(rng_of(12), 4, 3, "full")
    unit = np.array([1e-9, 1.0, 1e12])
    other = Mixture(
        mixture.weights, mixture.means * unit, mixture.covariances * np.outer(unit, unit)
    )
    np.testing.assert_allclose(bhattacharyya(other), bhattacharyya(mixture), rtol=1e-9, atol=1e-12)


def test_the_nearest_component_is_the_one_that_overlaps_not_the_one_whose_mean_is_close() -> None:
    mixture = Mixture([0.3, 0.3, 0.4], [[0.0], [2.0], [3.0]], [[[0.01]], [[0.01]], [[9.0]]])
    assert Membership(mixture, sampled(mixture)).nearest == [2, 2, 1]


def test_one_component_has_no_neighbour() -> None:
    mixture = round_mixture([[0.0, 0.0]])
    assert Membership(mixture, sampled(mixture)).nearest == [None]


def test_the_confusion_is_that_of_rows_whose_component_is_known() -> None:
    mixture = Mixture([0.5, 0.3, 0.2], [[0.0], [2.0], [9.0]], [[[1.0]], [[1.0]], [[4.0]]])
    X, labels = mixture.sample(100_000, seed=5)
    membership = Membership(mixture, Sample(X, np.ones(len(X)), complete=True))
    expected = [[(mixture.predict(X[labels == i]) == j).mean() for j in range(3)] for i in range(3)]
    np.testing.assert_allclose(membership.confusion, expected, atol=0.01)
    np.testing.assert_allclose(membership.confusion.sum(axis=1), 1)


def test_the_confusion_weighs_the_rows() -> None:
    # rows of an even mixture, those of component 0 three times as heavy: a mixture of 3 to 1
    even = Mixture([0.5, 0.5], [[0.0], [2.0]], [[[1.0]], [[1.0]]])
    X, labels = even.sample(100_000, seed=6)
    uneven = Mixture([0.75, 0.25], even.means, even.covariances)
    weights = np.where(labels == 0, 3.0, 1.0)
    found = Membership(uneven, Sample(X, weights, complete=True)).confusion
    expected = [[(uneven.predict(X[labels == i]) == j).mean() for j in range(2)] for i in range(2)]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_the_certainty_is_the_chance_of_the_label() -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [2.0]], [[[1.0]], [[1.0]]])
    X, labels = mixture.sample(100_000, seed=7)
    membership = Membership(mixture, Sample(X, np.ones(len(X)), complete=True))
    right = membership.labels == labels
    for low in (0.5, 0.7, 0.9):
        bin_ = (membership.certainty >= low) & (membership.certainty < low + 0.1)
        assert right[bin_].mean() == pytest.approx(membership.certainty[bin_].mean(), abs=0.015)
