"""The quantiles of the training density: what they mean, and what is read back from a model."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkgmm.core.quantiles import PROBABILITIES, density_quantiles, threshold
from sparkgmm.errors import InputError

STORED = {"probabilities": [0.0, 0.5, 1.0], "log_density": [-9.0, -3.0, -1.0], "n_rows": 7}


def test_the_grid_is_fine_in_the_lower_tail_and_has_both_ends() -> None:
    assert list(PROBABILITIES) == sorted(set(PROBABILITIES))
    assert (PROBABILITIES[0], PROBABILITIES[-1]) == (0.0, 1.0)
    assert {1e-5, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.5} < set(PROBABILITIES)
    assert all(b / a <= 1.6 for a, b in pairwise(PROBABILITIES[1:]))


@pytest.mark.parametrize("n", [1, 7, 1000, 99_999])
def test_the_share_below_a_quantile_is_at_most_its_probability_and_reaches_it(n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n)
    stored = density_quantiles(values)
    assert stored["n_rows"] == n
    for p, quantile in zip(stored["probabilities"], stored["log_density"], strict=True):
        assert (values < quantile).sum() <= p * n * (1 + 1e-9)
        assert (values <= quantile).sum() >= p * n * (1 - 1e-9)
    assert stored["log_density"][0] == values.min()
    assert stored["log_density"][-1] == values.max()


def test_a_weight_of_three_is_three_rows_and_a_weight_of_none_is_no_row() -> None:
    values = np.random.default_rng(0).standard_normal(500)
    w = np.arange(500) % 4
    weighted, repeated = density_quantiles(values, w), density_quantiles(np.repeat(values, w))
    assert weighted["log_density"] == repeated["log_density"]
    assert weighted["n_rows"] == np.count_nonzero(w)


@given(st.floats(1e-3, 1e3))
def test_the_unit_of_the_weights_changes_nothing(unit: float) -> None:
    values = np.arange(400.0)
    assert density_quantiles(values, np.full(400, unit)) == density_quantiles(values)


def test_what_is_stored_is_json_even_where_a_density_underflowed() -> None:
    stored = json.loads(json.dumps(density_quantiles([-np.inf, -2.0, -1.0]), allow_nan=False))
    assert threshold(stored, 0.0) == np.finfo(float).min
    assert threshold(stored, 1.0) == -1.0


@pytest.mark.parametrize(
    ("values", "weights", "part"),
    [
        ([], None, "no row of positive weight"),
        ([1.0, 2.0], [0.0, 0.0], "no row of positive weight"),
        ([1.0, np.nan], None, "holds NaN"),
        ([[1.0]], None, "shape (1, 1)"),
        ([1.0, 2.0], [1.0], "weights (1,)"),
    ],
)
def test_densities_without_quantiles_are_refused(
    values: list[float], weights: list[float] | None, part: str
) -> None:
    with pytest.raises(InputError) as caught:
        density_quantiles(values, weights)
    assert part in str(caught.value)


def test_between_two_stored_points_the_threshold_is_linear() -> None:
    assert threshold(STORED, 0.5) == -3.0
    assert threshold(STORED, 0.25) == pytest.approx(-6.0)
    assert threshold(STORED, 0.75) == pytest.approx(-2.0)


def test_the_threshold_of_many_normal_rows_is_that_of_the_distribution() -> None:
    density = -0.5 * np.random.default_rng(1).standard_normal(400_000) ** 2
    for q in (0.0007, 0.0123, 0.33):
        assert (density < threshold(density_quantiles(density), q)).mean() == pytest.approx(
            q, rel=0.1
        )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"probabilities": None}, "probabilities is None"),
        ({"probabilities": [0.0, "half", 1.0]}, "could not convert"),
        ({"log_density": [-9.0, None, -1.0]}, "no list of finite numbers"),
        ({"log_density": [-9.0, float("nan"), -1.0]}, "no list of finite numbers"),
        ({"log_density": [-9.0, -10.0, -1.0]}, "log_density does not ascend"),
        ({"probabilities": [0.0, 0.0, 1.0]}, "probabilities does not ascend"),
        ({"probabilities": [0.0, 0.5, 0.9]}, "from 0.0 to 0.9"),
        ({"log_density": [-9.0, -1.0]}, "2 values at 3 probabilities"),
    ],
)
def test_a_table_that_is_none_is_refused_with_the_remedy(
    change: dict[str, object], part: str
) -> None:
    with pytest.raises(InputError, match="fit it again") as caught:
        threshold({**STORED, **change}, 0.5)
    assert part in str(caught.value)


@pytest.mark.parametrize("stored", [{}, None, [1, 2], "x"])
def test_what_is_no_table_at_all_is_refused(stored: object) -> None:
    with pytest.raises(InputError, match="no table of quantiles"):
        threshold(stored, 0.5)  # type: ignore[arg-type]
