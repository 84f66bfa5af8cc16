"""Components matched between mixtures, against scipy, integrals and invariances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import linear_sum_assignment
from scipy.stats import multivariate_normal, norm

from helpers.data_sets import random_mixture
from sparkgmm.core.matching import (
    SAME_COMPONENT,
    assign,
    bhattacharyya_between,
    farthest,
    hellinger_between,
    match,
)
from sparkgmm.mixture import Mixture


def shuffled(mixture: Mixture, order: np.ndarray) -> Mixture:
    return Mixture(mixture.weights[order], mixture.means[order], mixture.covariances[order])


def row_of(*means: float, sd: float = 1.0) -> Mixture:
    """Return round components of one feature, equally heavy."""
    k = len(means)
    return Mixture(np.full(k, 1 / k), np.array(means)[:, None], np.full((k, 1, 1), sd**2))


@pytest.mark.parametrize("seed", range(60))
def test_the_assignment_costs_as_little_as_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = rng.integers(1, 12, 2)
    cost = rng.random((m, n)) if seed % 2 else rng.integers(0, 4, (m, n)).astype(float)
    pairs = assign(cost)
    rows, columns = zip(*pairs, strict=True)
    assert len(set(rows)) == len(set(columns)) == len(pairs) == min(m, n)
    best = cost[linear_sum_assignment(cost)].sum()
    assert sum(cost[pair] for pair in pairs) == pytest.approx(best, abs=1e-12)


def test_the_hellinger_distance_is_that_of_the_integral() -> None:
    one, other = row_of(0.0), row_of(1.5, sd=0.6)
    overlap, _ = quad(lambda x: np.sqrt(norm.pdf(x) * norm.pdf(x, 1.5, 0.6)), -12, 12)
    assert hellinger_between(one, other)[0, 0] == pytest.approx(np.sqrt(1 - overlap), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_components_in_another_order_are_found_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mixture = random_mixture(rng, 7, 3, "full", spread=5.0)
    order = rng.permutation(7)
    assert match(mixture, shuffled(mixture, order)) == order.tolist()


def test_what_is_matched_does_not_depend_on_the_units() -> None:
    rng = np.random.default_rng(4)
    one, other = (random_mixture(rng, k, 3, "full", spread=1.0) for k in (5, 6))
    unit = np.array([1e6, 1.0, 1e-9])
    scaled = [
        Mixture(m.weights, m.means * unit, m.covariances * np.outer(unit, unit))
        for m in (one, other)
    ]
    assert match(*scaled) == match(one, other)


def test_a_component_farther_than_the_bound_is_another_one() -> None:
    # equal shapes at a distance of m standard deviations: Hellinger's is sqrt(1 - exp(-m^2 / 8))
    bound = np.sqrt(-8 * np.log(1 - SAME_COMPONENT**2))
    assert match(row_of(0.0), row_of(bound - 0.01)) == [0]
    assert match(row_of(0.0), row_of(bound + 0.01)) == [None]


def test_a_new_component_takes_no_other_ones_place() -> None:
    assert match(row_of(0, 10, 20), row_of(20.5, 30, 0.5, 10)) == [2, None, 0, 1]
    assert match(row_of(0, 10, 20), row_of(20.5, 0.5)) == [2, 0]


def test_all_that_drift_together_keep_their_places() -> None:
    # each comes nearer to its neighbour's old place than a greedy choice would allow for
    assert match(row_of(0, 2, 4, 6), row_of(1.2, 3.2, 5.2, 7.2)) == [0, 1, 2, 3]


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
    found = bhattacharyya_between(mixture, mixture)
    for i in range(3):
        for j in range(3):
            integral = np.trapezoid(np.trapezoid(roots[i] * roots[j], x), x)
            assert found[i, j] == pytest.approx(-np.log(integral), abs=1e-9)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    np.testing.assert_allclose(np.diag(found), 0, atol=1e-12)


def test_the_distance_does_not_depend_on_units() -> None:
    mixture = random_mixture(np.random.default_rng(12), 4, 3, "full")
    unit = np.array([1e-9, 1.0, 1e12])
    other = Mixture(
        mixture.weights, mixture.means * unit, mixture.covariances * np.outer(unit, unit)
    )
    np.testing.assert_allclose(
        bhattacharyya_between(other, other),
        bhattacharyya_between(mixture, mixture),
        rtol=1e-9,
        atol=1e-12,
    )


def test_mixtures_in_another_order_are_as_near_as_their_farthest_component() -> None:
    one = row_of(0.0, 10.0, 20.0)
    near = farthest(one, shuffled(one, np.array([2, 0, 1])))
    assert near == pytest.approx(0.0, abs=1e-7)
    assert farthest(one, row_of(0.0, 10.0, 40.0)) > 0.99
    assert farthest(one, row_of(0.0, 10.0)) == 1.0
