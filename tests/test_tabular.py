"""Tables of pandas, polars and pyarrow, and inputs that are no numbers."""

from __future__ import annotations

import datetime
import decimal
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import scipy.sparse

from helpers.data_sets import faithful
from sparkgmm import Mixture, fit_array, plot
from sparkgmm.errors import InputError

NAMES = ["eruptions", "waiting"]
TABLES = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.table,
    "batch": lambda columns: pa.RecordBatch.from_pydict(dict(columns)),
}


def as_columns(X, names=NAMES):
    return {name: X[:, i] for i, name in enumerate(names)}


@pytest.fixture(scope="module")
def mixture():
    return Mixture(
        [0.4, 0.6], [[2.0, 55.0], [4.3, 80.0]], [[[0.1, 0.4], [0.4, 36.0]]] * 2, features=NAMES
    )


@pytest.fixture(params=TABLES)
def table_of(request):
    return TABLES[request.param]


def test_a_fit_of_a_table_has_its_names_and_the_bits_of_its_array(table_of):
    init = "auto" if table_of is pd.DataFrame else "k-means++"
    of_array = fit_array(faithful(), 2, init=init)
    of_table = fit_array(table_of(as_columns(faithful())), 2, init=init)
    assert of_table.mixture.features == tuple(NAMES)
    assert of_array.mixture.features is None
    assert of_table.mixture.means.tobytes() == of_array.mixture.means.tobytes()


def test_every_method_takes_a_table_by_name_in_any_order_with_other_columns(mixture, table_of):
    X = faithful()
    table = table_of(
        {"id": np.array([f"r{i}" for i in range(len(X))]), "waiting": X[:, 1], "eruptions": X[:, 0]}
    )
    for name in ("log_density", "responsibilities", "predict", "surprise", "log_likelihood"):
        method = getattr(mixture, name)
        assert np.array_equal(method(table), method(X))
    for name in ("bic", "aic", "icl"):
        assert getattr(mixture, name)(table) == getattr(mixture, name)(X)
    assert np.array_equal(mixture.score(table).log_density, mixture.log_density(X))
    assert mixture.merge(k=1, X=table) == ((0, 1),)
    for one, other in zip(mixture.expect(table, "waiting"), mixture.expect(X, 1), strict=True):
        assert np.array_equal(one, other)


def test_what_is_to_be_expected_may_be_missing_in_a_table(mixture, table_of):
    mean, _ = mixture.expect(table_of({"eruptions": np.array([2.0, 4.5])}), "waiting")
    assert mean == pytest.approx(mixture.expect([[2.0, 0], [4.5, 0]], 1)[0])


def test_a_missing_column_is_named_with_the_nearest(mixture, table_of):
    with pytest.raises(InputError, match="X has no column 'waiting': rename 'wating' to it"):
        mixture.predict(table_of({"eruptions": np.zeros(2), "wating": np.zeros(2)}))
    with pytest.raises(InputError, match="no column 'waiting': its columns are eruptions, z"):
        mixture.predict(table_of({"eruptions": np.zeros(2), "z": np.zeros(2)}))


def test_a_table_without_names_is_taken_by_position(mixture):
    unnamed = pd.DataFrame(faithful())
    assert np.array_equal(mixture.predict(unnamed), mixture.predict(faithful()))
    assert fit_array(unnamed, 1).mixture.features is None
    with pytest.raises(InputError, match="X has 3 columns: give 2"):
        mixture.predict(pd.DataFrame(np.zeros((4, 3))))


def test_a_column_twice_is_refused(mixture):
    table = pd.DataFrame(np.zeros((2, 3)), columns=["waiting", "eruptions", "waiting"])
    with pytest.raises(InputError, match="X has column 'waiting' 2 times: give it once"):
        mixture.predict(table)


def test_what_is_null_is_named_by_row_and_column(mixture, table_of):
    table = table_of({"eruptions": pa.array([1.0, 2.0, None]), "waiting": pa.array([1, 2, 3])})
    if table_of is pd.DataFrame:
        table = pd.DataFrame(
            {"eruptions": pd.array([1.0, 2, None], dtype="Float64"), "waiting": [1, 2, 3]}
        )
    with pytest.raises(InputError, match=r"X holds \[nan, 3.0\] in row 2, column 'eruptions'"):
        fit_array(table, 1)
    with pytest.raises(InputError, match="column 'eruptions' holds NA in row 2"):
        mixture.log_density(table)
    assert np.isnan(mixture.surprise(table)[2, 0])


def test_a_table_is_imputed_as_a_table_of_its_kind(mixture, table_of):
    columns = {"waiting": [50.0, 80.0], "eruptions": [np.nan, 4.0], "id": ["a", "b"]}
    table = table_of({name: np.array(values) for name, values in columns.items()})
    filled = mixture.impute(table)
    assert type(filled) is type(table)
    as_pandas = filled if isinstance(filled, pd.DataFrame) else filled.to_pandas()
    assert list(as_pandas.columns) == ["waiting", "eruptions", "id"]
    assert as_pandas["eruptions"].tolist() == [mixture.impute([[np.nan, 50.0]])[0, 0], 4.0]
    assert as_pandas["id"].tolist() == ["a", "b"]


def test_numbers_of_every_type_are_numbers():
    values = [1, 2, 4, 7]
    table = pd.DataFrame(
        {
            "int8": np.array(values, np.int8),
            "nullable": pd.array(values, dtype="Int64"),
            "arrow": pd.array(values, dtype="int64[pyarrow]"),
            "decimal": [decimal.Decimal(v) for v in values],
            "bool": [True, False, True, True],
        }
    )
    rows = Mixture([1.0], [np.zeros(5)], [np.eye(5)], features=list(table))._rows(table)
    assert rows[:, :4].T.tolist() == [values] * 4
    assert rows[:, 4].tolist() == [1, 0, 1, 1]
    decimals = pa.table({"x": pa.array([decimal.Decimal(v) for v in values])})
    polars_decimals = pl.from_arrow(decimals)
    for one in (decimals, polars_decimals):
        assert fit_array(one, 1).mixture.means[0, 0] == 3.5


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (scipy.sparse.csr_matrix(np.eye(3)), r"sparse matrix: give a dense array, X.toarray\(\)"),
        (scipy.sparse.coo_array(np.eye(3)), r"sparse matrix: give a dense array"),
        (np.eye(3) + 1j, "holds in row 0, column 0 a complex number: give real ones"),
        ([["a", "b"], ["c", "d"]], "holds in row 0, column 0 'a', which is no number"),
        ([["1", "2"], ["3", "4"]], "'1', which is no number: leave text out, or code it"),
        (np.array([[1.0, "b"]], dtype=object), "in row 0, column 1 'b', which is no number"),
        ([[1.0, None], [2.0, 3.0]], r"X holds \[1.0, nan\] in row 0: give finite numbers"),
        ([[1.0, pd.NA], [2.0, 3.0]], r"X holds \[1.0, nan\] in row 0: give finite numbers"),
        ([[1.0, np.nan], [2.0, 3.0]], r"X holds \[1.0, nan\] in row 0"),
        ([[1.0, 2.0], [np.inf, 3.0]], r"X holds \[inf, 3.0\] in row 1"),
        (np.ma.masked_invalid([[1.0, 2], [np.nan, 3]]), r"masked at \(1, 0\): leave such rows out"),
        ([[1.0, 2.0], [3.0]], "not an array .*: give rows of one length"),
        (np.array([["2020-01-01"]], dtype="M8[D]"), "a date or time: give numbers"),
        ({"a": [1.0]}, "X is a dict: give an array, or a table of pandas, polars or pyarrow"),
        (iter([[1.0]]), "X is a list_iterator: give an array"),
        (pd.Series([1.0, 2.0]), r"X has shape \(2,\): give \(n, d\)"),
        (pl.DataFrame({"a": [1.0]}).lazy(), "X holds a LazyFrame"),
        (
            pd.DataFrame({"x": [1.0], "at": [pd.Timestamp("2020-01-01")]}),
            "column 'at' holds in row 0 a date or time: give numbers",
        ),
        (pl.DataFrame({"at": [datetime.date(2020, 1, 1)]}), "column 'at' holds .*a date or time"),
        (pl.DataFrame({"l": [[1.0, 2.0]]}), "column 'l' holds in row 0 a ndarray, which is no num"),
    ],
)
def test_what_is_no_number_is_refused_in_one_clear_error(X, message, recwarn):
    with pytest.raises(InputError, match=message):
        fit_array(X, 1)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (pd.DataFrame({"s": ["a", "b"]}), "'s' holds in row 0 'a', which is no number: leave text"),
        (pd.DataFrame({"s": pd.Categorical(["a"])}), "'s' holds a category: leave it out, or code"),
        (pa.table({"s": ["a", "b"]}), "'s' holds in row 0 'a', which is no number"),
        (pl.DataFrame({"s": ["a", "b"]}), "'s' holds in row 0 'a', which is no number"),
    ],
)
def test_what_was_a_number_when_fitted_is_no_text_when_scored(X, message):
    with pytest.raises(InputError, match=f"column {message}"):
        Mixture([1.0], [[0.0]], [[[1.0]]], features=["s"]).predict(X)


def test_a_mask_that_hides_nothing_is_no_mask():
    X = np.ma.masked_array(faithful(), mask=False)
    assert np.array_equal(fit_array(X, 1).mixture.means, fit_array(faithful(), 1).mixture.means)


def test_float32_stays_float32_in_a_table(table_of):
    X = faithful().astype(np.float32)
    one, other = (fit_array(rows, 2, init="k-means++") for rows in (table_of(as_columns(X)), X))
    assert one.mixture.means.tobytes() == other.mixture.means.tobytes()


def test_a_plot_takes_a_table(mixture):
    axes = plot(mixture, pd.DataFrame(as_columns(faithful())))
    assert axes.get_xlabel() in NAMES


def test_tables_are_read_without_the_libraries_being_imported():
    code = (
        "import sys, sparkgmm, numpy as np\n"
        "sparkgmm.fit_array(np.random.default_rng(0).normal(size=(50, 1)), 1)\n"
        "print([m for m in ('pandas', 'polars', 'pyarrow', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
