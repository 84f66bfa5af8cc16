"""The sample of a fit's rows, and how its rows belong to the components."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.builders import rows_of
from helpers.data_sets import faithful
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.mixture import Array, Mixture


def rng_of(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def sampled(mixture: Mixture, n: int = 3000, seed: int = 3) -> Sample:
    X, _ = mixture.sample(n, seed=seed)
    return Sample(X, np.ones(n), complete=True)


def round_mixture(means: Array, sd: float = 1.0) -> Mixture:
    """Return equal weights and round components around these means."""
    k, d = np.shape(means)
    return Mixture(np.full(k, 1 / k), means, np.tile(sd**2 * np.eye(d), (k, 1, 1)))


def test_a_sample_holds_every_row_and_weight_in_order() -> None:
    X, w = faithful(), np.arange(1.0, 273.0)
    sample = Sample.of(rows_of(X, w))
    np.testing.assert_array_equal(sample.X, X)
    np.testing.assert_array_equal(sample.weights, w)
    assert sample.complete


def test_a_sample_of_many_rows_is_bounded_and_says_that_it_is_one() -> None:
    X = rng_of(0).normal(size=(40_000, 1))
    sample = Sample.of(rows_of(X))
    assert len(sample.X) == len(sample.weights) == 2**15
    assert not sample.complete
    assert np.isin(sample.X, X).all()


@pytest.mark.parametrize(("n", "most"), [(10, 3), (9, 3), (3, 3), (2, 3), (1501, 1500)])
def test_thinning_keeps_at_most_so_many_rows_from_the_whole_range(n: int, most: int) -> None:
    thinned = Sample(np.arange(float(n))[:, None], np.ones(n), complete=True).thinned(most)
    assert most / 2 <= len(thinned) + (n < most) <= most
    assert thinned[-1, 0] >= n - n / most - 1


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
