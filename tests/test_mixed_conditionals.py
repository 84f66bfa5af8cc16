"""What a mixture with levels and counts says of a value given the rest of its row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from sparkgmm import Mixture
from sparkgmm.errors import InputError

NAMES = ("a", "b", "paid", "visits")


def mixed(**more: Any) -> Mixture:
    """Return two components that overlap in every column."""
    fields: dict[str, Any] = {
        "features": ["a", "b"],
        "categorical": {"paid": {"later": [0.3, 0.1], "no": [0.6, 0.2], "yes": [0.1, 0.7]}},
        "counts": {"visits": [1.0, 5.0]},
    }
    means = [[0.0, 1.0], [2.0, 3.0]]
    return Mixture(
        [0.4, 0.6], means, [[[1, 0.3], [0.3, 2]], [[2, -0.5], [-0.5, 1]]], **{**fields, **more}
    )


def given(mixture: Mixture, row: dict[str, Any], *without: str) -> Mixture:
    """Return the mixture of what is not known, or left out, given the rest of the row."""
    return mixture.condition({n: v for n, v in row.items() if v is not None and n not in without})


ROWS: list[dict[str, Any]] = [
    {"a": 0.5, "b": 2.0, "paid": "yes", "visits": 3},
    {"a": -1.0, "b": None, "paid": "no", "visits": 0},
    {"a": None, "b": 2.5, "paid": None, "visits": None},
    {"a": 1.0, "b": 0.0, "paid": "later", "visits": 9},
    {"a": None, "b": None, "paid": "yes", "visits": None},
    {"a": 40.0, "b": -30.0, "paid": "no", "visits": 2},
]


def table(rows: list[dict[str, Any]] = ROWS) -> pd.DataFrame:
    return pd.DataFrame(rows).astype({"a": float, "b": float, "visits": float})


@pytest.mark.parametrize("covariance_type", ["full", "diag"])
def test_what_is_expected_is_the_mean_given_numbers_levels_and_counts(covariance_type: str) -> None:
    mixture = mixed()
    if covariance_type == "diag":
        mixture = Mixture(
            mixture.weights, mixture.means, mixture.variances, "diag", mixture.features,
            mixture.categorical, mixture.counts,
        )  # fmt: skip
    mean, sd = mixture.expect(table(), ["visits", "b", "a"])
    for i, row in enumerate(ROWS):
        rest = given(mixture, row, "visits", "b", "a")
        w = rest.weights
        rates = rest.counts["visits"]
        n = w @ rates
        assert mean[i, 0] == pytest.approx(n, rel=1e-12)
        assert sd[i, 0] == pytest.approx(np.sqrt(w @ (rates + rates**2) - n**2), rel=1e-9)
        for at, name in ((1, "b"), (2, "a")):
            of_one = rest.marginal([name])
            m, v = of_one.means[:, 0], of_one.variances[:, 0]
            assert mean[i, at] == pytest.approx(w @ m, rel=1e-12)
            assert sd[i, at] == pytest.approx(np.sqrt(w @ (v + m**2) - (w @ m) ** 2), rel=1e-9)
    alone, _ = mixture.expect(table()[["a", "paid", "visits"]], "b")  # b need not be there
    for row, found in zip(ROWS, alone[:, 0], strict=True):
        rest = given(mixture, row, "b").marginal(["b"])
        assert found == pytest.approx(rest.weights @ rest.means[:, 0], rel=1e-12)


def test_imputation_takes_means_and_the_most_probable_level() -> None:
    mixture = mixed()
    filled = mixture.impute(table())
    assert list(filled.columns) == list(NAMES)
    for i, row in enumerate(ROWS):
        rest = given(mixture, row) if None in row.values() else None
        for name, value in row.items():
            if value is not None:
                assert filled[name][i] == value
                continue
            assert rest is not None
            if name == "paid":
                p = {level: rest.weights @ of for level, of in rest.categorical["paid"].items()}
                assert filled[name][i] == max(p, key=lambda level: p[level])
            elif name == "visits":
                assert filled[name][i] == pytest.approx(rest.weights @ rest.counts["visits"])
            else:
                one = rest.marginal([name])
                assert filled[name][i] == pytest.approx(one.weights @ one.means[:, 0])
    codes = table().assign(paid=table()["paid"].map({"later": 0, "no": 1, "yes": 2}))
    as_array = mixture.impute(codes.to_numpy(dtype=float))
    levels = np.array(["later", "no", "yes"])[as_array[:, 2].astype(int)]
    assert levels.tolist() == filled["paid"].tolist()


@pytest.mark.parametrize("library", ["pandas", "category", "polars", "arrow"])
def test_a_table_is_filled_in_its_own_kind(library: str) -> None:
    rows = {"a": [0.1, 2.0], "b": [1.0, 3.0], "paid": [None, "unknown"], "visits": [None, 4.0]}
    X: Any = pd.DataFrame({**rows, "other": ["x", "y"]})
    if library == "category":
        X["paid"] = X["paid"].astype("category")
    elif library == "polars":
        X = pl.from_pandas(X)
    elif library == "arrow":
        X = pa.Table.from_pandas(X)
    with pytest.warns(UserWarning, match="'paid' holds no level"):
        found = mixed().impute(X)
    assert type(found) is type(X)
    paid = found["paid"].to_pylist() if library == "arrow" else list(found["paid"])
    other = found["other"].to_pylist() if library == "arrow" else list(found["other"])
    assert paid[0] == "no"
    assert other == ["x", "y"]
    assert paid[1] == "unknown"  # a level that the mixture does not have stays
    assert library != "category" or found["paid"].dtype == "category"


def test_levels_are_filled_as_the_column_writes_them() -> None:
    of = {"false": [0.9, 0.2], "true": [0.1, 0.8]}
    mixture = Mixture([0.5, 0.5], [[0.0], [9.0]], [1.0, 1.0], "spherical", ["a"], {"c": of})
    for values, filled in (
        ([True, None], [True, False]),
        ([1.0, None], [1.0, 0.0]),
        (["True", None], ["True", "false"]),
        ([None, None], ["true", "false"]),
    ):
        X = pd.DataFrame({"a": [9.0, 0.0], "c": pd.Series(values, dtype=object)})
        found = mixture.impute(X)["c"].tolist()
        assert found == filled
        assert list(map(type, found)) == list(map(type, filled))
    whole = Mixture([1.0], [[0.0]], [1.0], "spherical", ["a"], {"c": {"2": [0.9], "7": [0.1]}})
    X = pd.DataFrame({"a": [0.0, 0.0], "c": [7.0, np.nan]})
    assert whole.impute(X)["c"].tolist() == [7.0, 2.0]


@pytest.mark.parametrize("far", [False, True])
def test_a_surprise_is_the_probability_given_the_rest(far: bool) -> None:
    mixture = mixed()
    rows = [{**row, "a": 3e9} for row in ROWS[:1]] if far else ROWS
    found = mixture.surprise(table(rows))
    for i, row in enumerate(rows):
        for at, name in enumerate(NAMES):
            if row[name] is None:
                assert np.isnan(found[i, at])
                continue
            rest = given(mixture, row, name)
            rest = rest.marginal([name])
            value = pd.DataFrame({name: [row[name]]})
            expected = -rest.log_density(value)[0]
            assert found[i, at] == pytest.approx(expected, rel=1e-9, abs=1e-12), (i, name)


def test_levels_alone_and_those_that_cannot_be() -> None:
    levels = {"c": {"x": [1.0, 0.2], "y": [0.0, 0.8]}, "e": {"x": [0.5, 0.9], "y": [0.5, 0.1]}}
    mixture = Mixture([0.5, 0.5], [[], []], [[], []], "diag", [], levels)
    X = pd.DataFrame({"c": ["y", "x", None], "e": ["x", "y", None]})
    found = mixture.surprise(X)
    # P(c = y | e = x) = 0.5 * 0.8 * 0.9 / (0.5 * 0.5 + 0.5 * 0.9)
    assert found[0] == pytest.approx([-np.log(0.36 / 0.7), -np.log(0.9)], rel=1e-12)
    both = 0.5 * 0.5 + 0.5 * 0.2 * 0.1
    assert found[1] == pytest.approx([-np.log(both / 0.3), -np.log(both / 0.6)], rel=1e-12)
    assert np.isnan(found[2]).all()
    assert mixture.impute(X).loc[2].tolist() == ["x", "x"]
    never = Mixture([1.0], [[0.0]], [1.0], "spherical", ["a"], {"c": {"x": [1.0], "y": [0.0]}})
    assert never.surprise([[0.0, 1.0]]) == pytest.approx(np.array([[0.9189385, np.inf]]))


def test_what_has_no_mean_or_quantile_is_refused_by_its_name() -> None:
    with pytest.raises(InputError, match="'paid' is categorical, and levels have no mean"):
        mixed().expect(table(), ["a", "paid"])
    for name in ("paid", "visits"):
        with pytest.raises(InputError, match=f"'{name}' is no numeric feature"):
            mixed().quantile(0.5, name)
    assert mixed().quantile(0.5, "a") == mixed().marginal(["a"]).quantile(0.5, "a")
