"""Components merged into clusters by the entropy of their responsibilities."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from sparkgmm import Mixture
from sparkgmm.errors import InputError

# Two components that overlap make the first cluster, three the second, one stands alone.
CENTRES = [0.0, 1.0, 50.0, 51.0, 52.0, 100.0]


@pytest.fixture
def six():
    return Mixture(np.full(6, 1 / 6), np.c_[CENTRES], np.ones((6, 1, 1)))


def entropy(mixture, rows, groups):
    R = mixture.responsibilities(rows)
    T = np.stack([R[:, group].sum(axis=1) for group in groups], axis=1)
    return -(T * np.log(np.maximum(T, 1e-300))).sum(axis=1).mean()


def test_overlapping_components_become_one_group(six):
    assert six.merge(k=3) == ((0, 1), (2, 3, 4), (5,))
    assert six.merge(3) == six.merge(k=3)


def test_a_threshold_ends_where_groups_are_told_apart(six):
    assert six.merge(threshold=0.01) == ((0, 1), (2, 3, 4), (5,))
    assert six.merge(0.01) == six.merge(threshold=0.01)
    assert six.merge(threshold=10.0) == tuple((j,) for j in range(6))


def test_one_group_holds_all_and_k_groups_nothing_merged(six):
    assert six.merge(k=1) == (tuple(range(6)),)
    assert six.merge(k=6) == tuple((j,) for j in range(6))
    assert Mixture([1.0], [[0.0]], [[[1.0]]]).merge(0.5) == ((0,),)


def test_each_step_takes_the_pair_that_lowers_the_entropy_most():
    rng = np.random.default_rng(0)
    mixture = Mixture(rng.dirichlet(np.ones(5)), rng.normal(0, 2, (5, 2)), [np.eye(2)] * 5)
    rows = mixture.sample(500, seed=1)[0]
    groups = tuple((j,) for j in range(5))
    for k in (4, 3, 2):
        tried = []
        for a, b in combinations(groups, 2):
            rest = [g for g in groups if g not in (a, b)]
            tried.append(tuple(sorted([*rest, tuple(sorted(a + b))])))
        groups = min(tried, key=lambda groups: entropy(mixture, rows, groups))
        assert mixture.merge(k=k, X=rows) == groups


def test_a_threshold_is_the_mean_entropy_of_the_rows():
    rng = np.random.default_rng(2)
    mixture = Mixture(np.full(6, 1 / 6), rng.normal(0, 2, (6, 2)), [np.eye(2)] * 6)
    rows = mixture.sample(400, seed=3)[0]
    for threshold in (0.4, 0.2, 0.05):
        groups = mixture.merge(threshold=threshold, X=rows)
        assert entropy(mixture, rows, groups) <= threshold
        finer = mixture.merge(k=len(groups) + 1, X=rows)
        assert entropy(mixture, rows, finer) > threshold


def test_weights_count_rows():
    rng = np.random.default_rng(7)  # a draw in which no two mergers cost the same
    mixture = Mixture(rng.dirichlet(np.ones(6)), rng.normal(0, 2, (6, 2)), [np.eye(2)] * 6)
    rows = mixture.sample(60, seed=4)[0]
    counts = rng.integers(1, 5, 60)
    by_weights = mixture.merge(k=2, X=rows, sample_weight=counts)
    assert by_weights == mixture.merge(k=2, X=np.repeat(rows, counts, axis=0))
    assert by_weights != mixture.merge(k=2, X=rows)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either a threshold, in nats a row, or k, the number of groups"),
        ({"threshold": 0.5, "k": 2}, "give either a threshold"),
        ({"k": 7}, "k is 7: give 1 to 6 groups"),
        ({"k": 0}, "k is 0: give 1 to 6 groups"),
        ({"threshold": -0.1}, "threshold is -0.1: give 0 or more nats a row"),
        ({"threshold": "x"}, "threshold is 'x': give 0 or more nats a row"),
    ],
)
def test_a_wrong_argument_is_named(six, arguments, message):
    with pytest.raises(InputError, match=message):
        six.merge(**arguments)
