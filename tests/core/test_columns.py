"""Features that may be no quantities are told from those that are."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.data_sets import faithful, iris
from sparkgmm.core.columns import Discrete, discrete_features
from sparkgmm.core.profile import Block
from sparkgmm.mixture import Array


def found_in(values: Array, weights: Array | None = None) -> Discrete | None:
    """Return what is said of one feature."""
    found = discrete_features([Block(values[None, :], weights)], ["x"])
    return found[0] if found else None


@pytest.mark.parametrize("X", [faithful(), iris()])
def test_measurements_that_were_rounded_are_quantities(X: Array) -> None:
    names = [str(i) for i in range(X.shape[1])]
    assert discrete_features([Block(np.ascontiguousarray(X.T), None)], names) == []


def test_few_values_are_found_wherever_they_lie_and_whatever_is_missing() -> None:
    rng = np.random.default_rng(0)
    x = rng.choice([0.25, 0.5, 4.0], 3000)
    x[::7] = np.nan
    blocks = [Block(part[None, :], None) for part in np.split(x, [1000])]
    assert discrete_features(blocks, ["x"]) == [Discrete("x", (0.25, 0.5, 4.0), whole=False)]


def test_a_value_that_comes_late_counts_too() -> None:
    x = np.concatenate([np.zeros(5000), np.ones(5000), np.full(100, 7.0)])
    assert found_in(x) == Discrete("x", (0.0, 1.0, 7.0), whole=True)
    assert found_in(np.concatenate([x, np.random.default_rng(0).normal(size=1000)])) is None


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.arange(1000.0), True),
        (np.random.default_rng(0).permutation(1000) + 5e6, True),
        (np.cumsum(np.random.default_rng(0).integers(1, 10**6, 1000)).astype(float), True),
        (np.arange(1000.0) / 4, False),  # in order, but no integers
        (np.random.default_rng(0).integers(0, 10**9, 1000).astype(float), False),  # all by chance
        (np.append(np.arange(999.0), 5.0), False),  # one value twice
    ],
)
def test_an_id_is_told_from_numbers_that_differ_by_chance(values: Array, expected: bool) -> None:
    found = found_in(values)
    assert (found is not None and found.is_id) == expected


def test_cells_of_a_histogram_are_no_ids() -> None:
    assert found_in(np.arange(1000.0), np.ones(1000)) is None


def test_a_constant_has_no_kind() -> None:
    assert found_in(np.ones(500)) is None
