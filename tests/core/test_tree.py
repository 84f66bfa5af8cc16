"""The tree in which the partitions' sums are added: its shape is that of their numbers alone."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkgmm.core.tree import ARITY, add_groups, add_in_tree, groups

VALUES = np.random.default_rng(0).lognormal(sigma=20, size=ARITY**2 + 5)  # each order rounds anew


def in_a_row(values):
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def tree_of(n):
    return add_in_tree(enumerate(VALUES[:n].tolist()), in_a_row)


@pytest.mark.parametrize("n", [1, 2, ARITY - 1, ARITY])
def test_few_partitions_are_added_in_a_row(n):
    assert tree_of(n) == in_a_row(VALUES[:n].tolist())


def test_more_are_added_by_neighbours_first():
    inner = [in_a_row(VALUES[i : i + ARITY].tolist()) for i in range(0, ARITY**2, ARITY)]
    assert tree_of(ARITY**2) == in_a_row(inner)
    last = in_a_row(VALUES[ARITY**2 :].tolist())
    assert tree_of(ARITY**2 + 5) == in_a_row(inner) + last
    assert tree_of(ARITY**2) != in_a_row(VALUES[: ARITY**2].tolist())  # so that it says something


@given(n=st.integers(1, len(VALUES)), seed=st.integers(0, 99), levels=st.integers(0, 3))
def test_neither_the_order_of_arrival_nor_where_a_level_is_added_shows(n, seed, levels):
    results = list(enumerate(VALUES[:n].tolist()))
    for _ in range(levels):  # as the executors do, a task a group
        random.Random(seed).shuffle(results)
        by_task = {number // ARITY: [] for number, _ in results}
        for number, value in results:
            by_task[number // ARITY].append((number, value))
        results = [pair for task in by_task.values() for pair in add_groups(task, in_a_row)]
    random.Random(seed).shuffle(results)
    assert add_in_tree(results, in_a_row) == tree_of(n)


@pytest.mark.parametrize(("n", "expected"), [(1, 1), (ARITY, 1), (ARITY + 1, 2), (10_000, 313)])
def test_groups_are_as_many_as_needed(n, expected):
    assert groups(n) == expected


def test_a_number_without_a_result_leaves_the_others_in_their_groups():
    kept = [(i, v) for i, v in enumerate(VALUES[: 3 * ARITY].tolist()) if i % ARITY != 1]
    inner = [in_a_row([v for i, v in kept if i // ARITY == g]) for g in range(3)]
    assert add_in_tree(kept, in_a_row) == in_a_row(inner)
