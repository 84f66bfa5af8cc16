"""The grid of a feature: found where there is one, to rounding, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data_sets import faithful, iris
from sparkgmm.core import grid
from sparkgmm.core.grid import counted, step, steps
from sparkgmm.core.profile import Block
from sparkgmm.mixture import Array

RNG = np.random.default_rng(0)
N = 20_000
WHOLE = RNG.integers(0, 100, N).astype(float)
CENTS = np.round(RNG.lognormal(3, 1, N), 2)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(WHOLE, 1, id="ages"),
        pytest.param(RNG.choice([3.0, 4, 5, 6, 8], N), 1, id="cylinders"),
        pytest.param(1.0 * (RNG.random(N) < 0.2), 1, id="one-hot"),
        pytest.param(CENTS, 0.01, id="prices"),
        pytest.param(np.floor(CENTS) + 0.99, 1, id="prices that end in .99"),
        pytest.param(np.where(RNG.random(N) < 0.01, -9999, CENTS), 0.01, id="a sentinel in prices"),
        pytest.param(np.round(RNG.normal(52.3, 0.2, N), 6), 1e-6, id="latitudes"),
        pytest.param(1.7e12 + RNG.integers(0, 10**9, N), 1, id="milliseconds"),
        pytest.param(1.7e15 + RNG.integers(0, 10**12, N), 1, id="microseconds"),
        pytest.param(1.7e12 + 1000 * RNG.integers(0, 10**6, N), 1000, id="seconds as milliseconds"),
        pytest.param((WHOLE - WHOLE.mean()) / WHOLE.std(), 1 / WHOLE.std(), id="standardised ages"),
        pytest.param((WHOLE - 32) * 5 / 9, 5 / 9, id="degrees of another scale"),
        pytest.param((WHOLE / 10).astype(np.float32), 0.1, id="tenths in single precision"),
    ],
)
def test_the_step_of_recorded_values_is_found(values: Array, expected: float) -> None:
    assert step(values) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(RNG.standard_normal(N), id="normal"),
        pytest.param(RNG.standard_normal(N).astype(np.float32), id="in single precision"),
        pytest.param(np.where(RNG.random(N) < 0.4, 0, RNG.exponential(1, N)), id="with zeros"),
        pytest.param(np.clip(RNG.normal(200, 60, N), None, 250), id="clipped"),
        pytest.param(np.where(RNG.random(N) < 0.01, -9999, RNG.random(N)), id="with a sentinel"),
        pytest.param(np.full(5, 3.0), id="constant"),
        pytest.param(RNG.standard_normal(4), id="four values"),
    ],
)
def test_no_step_is_made_up_for_values_as_fine_as_floats(values: Array) -> None:
    assert step(values) == 0


def test_a_value_off_the_grid_among_thousands_makes_it_finer() -> None:
    values = WHOLE.copy()
    values[12_345] += 0.5
    assert step(values) == pytest.approx(0.5)


@given(
    numbers=st.lists(st.integers(0, 10_000), min_size=12, max_size=60, unique=True),
    unit=st.sampled_from([1.0, 0.1, 0.01, 1 / 3, 2.54, 1e-8, 1e9]),
    origin=st.integers(-1000, 1000),
)
def test_the_step_is_the_greatest_common_divisor_of_the_distances(
    numbers: list[int], unit: float, origin: int
) -> None:
    divisor = np.gcd.reduce(np.array(numbers) - numbers[0])
    values = (np.array(numbers) + origin) * unit
    assert step(values) == pytest.approx(divisor * unit, rel=1e-6)


def test_each_feature_has_its_own_step_over_all_blocks() -> None:
    cut = [Block(np.ascontiguousarray(X.T), None) for X in np.array_split(faithful(), 3)]
    np.testing.assert_allclose(steps(cut), [0.001, 1])
    np.testing.assert_allclose(steps([Block(np.ascontiguousarray(iris().T), None)]), [0.1] * 4)


def test_whole_weights_are_counts_and_no_percentages() -> None:
    """Pairs that add up to 100 rows are 100 rows: as shares they would be 50."""
    pairs = np.array([2.0, 4.0, 6.0, 88.0])
    assert counted(pairs, 100.0) == 0
    assert counted(pairs / 100, 1.0) == 50
    assert counted(np.array([12.5, 37.5, 50.0]), 100.0) == 8


def test_many_features_together_have_the_steps_that_each_has_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is seen of many features at once is what would be seen of each; most are no more."""
    rng = np.random.default_rng(1)
    fine = rng.normal(0, 1, (60, 3000)) * 10.0 ** rng.uniform(-6, 9, (60, 1))
    coarse = [
        np.round(fine[0] / np.abs(fine[0]).max(), 2),
        np.rint(fine[1] / np.abs(fine[1]).max() * 50),
        fine[2].astype(np.float32).astype(float),
        rng.choice(fine[3][:3], 3000),
        np.where(rng.random(3000) < 0.7, np.pi, fine[4]),
        np.where(rng.random(3000) < 0.1, np.nan, fine[5]),
        np.where(rng.random(3000) < 0.1, np.nan, np.round(fine[6] / np.abs(fine[6]).max(), 1)),
        np.full(3000, np.pi),
    ]
    X = np.concatenate([fine, coarse])
    alone = [step(row[~np.isnan(row)]) for row in X]
    assert sum(one > 0 for one in alone) >= 3
    looked_at = []
    monkeypatch.setattr(grid, "step", lambda values: (looked_at.append(1), step(values))[1])
    for cuts in ([], [1000], [1, 2, 2999]):
        blocks = [Block(np.ascontiguousarray(x), None) for x in np.split(X, cuts, axis=1)]
        looked_at.clear()
        np.testing.assert_array_equal(steps(blocks), alone)
        assert len(looked_at) < 20
