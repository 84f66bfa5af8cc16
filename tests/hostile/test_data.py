"""Tables as they come: each is fitted to finite numbers, or refused in one line that says why."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.outcomes import Attempt

pytestmark = pytest.mark.long

Write = Callable[[Path, np.ndarray], dict[str, Any]]
CASES: dict[str, tuple[Write, int, str]] = {}


def case(code: int, message: str = "") -> Callable[[Write], Write]:
    """Register what writes an input; expect this exit code and these words."""

    def register(write: Write) -> Write:
        CASES[write.__name__] = write, code, message
        return write

    return register


def parquet(folder: Path, **columns: Any) -> dict[str, Any]:
    pq.write_table(pa.table(columns), folder / "rows.parquet")
    return {"input": {"path": str(folder / "rows.parquet")}}


def csv(folder: Path, content: bytes | str, **options: Any) -> dict[str, Any]:
    data = content.encode() if isinstance(content, str) else content
    (folder / "rows.csv").write_bytes(data)
    return {"input": {"path": str(folder / "rows.csv"), "options": {"header": True, **options}}}


def lines(X: np.ndarray, head: str = "x,y") -> list[str]:
    return [head, *(f"{a!r},{b!r}" for a, b in X.tolist())]


def with_value(X: np.ndarray, value: float, count: int = 1) -> np.ndarray:
    X = X.copy()
    X[:count, 1] = value
    return X


@case(3, "y NaN in 1")
def a_nan(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=with_value(X, math.nan)[:, 1])


@case(3, "y infinite in 2")
def infinities(folder: Path, X: np.ndarray) -> dict[str, Any]:
    X = with_value(with_value(X, math.inf, 2), -math.inf)
    return parquet(folder, x=X[:, 0], y=X[:, 1])


@case(3, "y null in 1")
def a_null(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=pa.array([None, *X[1:, 1].tolist()], pa.float64()))


@case(0)
def nulls_dropped(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = a_null(folder, X)
    values["input"]["invalid_rows"] = "drop"
    return values


@case(3, "y null in 150")
def a_column_of_nulls(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=pa.array([None] * len(X), pa.float64()))


@case(3, "all 150 rows are invalid")
def every_row_invalid_and_dropped(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = a_column_of_nulls(folder, X)
    values["input"]["invalid_rows"] = "drop"
    return values


@case(0)
def subnormal_values(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """A feature of values so small that their squares are zero."""
    return parquet(folder, x=X[:, 0], y=with_value(X, 5e-324)[:, 1])


@case(3, "rescale it")
def nothing_but_subnormals(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=X[:, 1] * 1e-310)


@case(3, "rescale it")
def values_of_1e308(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=X[:, 1] * 1e307)


@case(3, "rescale it")
def one_value_of_1e308(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=with_value(X, 1e308)[:, 1])


@case(0)
def one_value_of_1e30(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=with_value(X, 1e30)[:, 1]) | {"model": {"k": 1}}


@case(0)
def offsets_of_1e12(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0] + 1.7e12, y=X[:, 1] - 1e8)


@case(3, "is constant")
def a_constant_column(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=np.ones(len(X)))


@case(0)
def a_constant_column_dropped(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = a_constant_column(folder, X)
    values["input"]["constant_features"] = "drop"
    return values


@case(3, "distinct rows")
def one_row_repeated(folder: Path, X: np.ndarray) -> dict[str, Any]:
    X = np.repeat(X[:2], 50, axis=0)
    return parquet(folder, x=X[:, 0], y=X[:, 1]) | {"model": {"k": 3}}


@case(0)
def a_copied_column(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """Exactly collinear features: the data have no width either where the components have none."""
    return parquet(folder, x=X[:, 0], y=X[:, 1], z=X[:, 1])


@case(0)
def minus_zero_and_zero(folder: Path, X: np.ndarray) -> dict[str, Any]:
    X = with_value(with_value(X, 0.0, 10), -0.0, 5)
    return parquet(folder, x=X[:, 0], y=X[:, 1])


@case(0)
def float32_columns(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0].astype("f4"), y=X[:, 1].astype("f4"))


@case(0)
def small_integers(folder: Path, X: np.ndarray) -> dict[str, Any]:
    Z = np.round(X * 10)
    return parquet(folder, x=Z[:, 0].astype("i1"), y=Z[:, 1].astype("i2"))


@case(0)
def integers_beyond_2_to_the_53(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=(X[:, 1] * 1e17).astype("i8"))


@case(0)
def decimals(folder: Path, X: np.ndarray) -> dict[str, Any]:
    y = pa.array([Decimal(f"{v:.6f}") for v in X[:, 1]], pa.decimal128(20, 6))
    return parquet(folder, x=X[:, 0], y=y)


@case(0)
def booleans_beside_numbers(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """A column that is no number is left out where none are named."""
    return parquet(folder, x=X[:, 0], y=X[:, 1], flag=X[:, 0] > 4)


@case(0)
def a_boolean_as_feature(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """It counts 0 and 1: in either group it is as wide as the step from one to the other allows."""
    values = booleans_beside_numbers(folder, X)
    values["input"]["features"] = ["x", "flag"]
    return values


@case(3, "seen")
def a_timestamp_as_feature(folder: Path, X: np.ndarray) -> dict[str, Any]:
    seen = pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * len(X), pa.timestamp("us", "UTC"))
    values = parquet(folder, x=X[:, 0], seen=seen)
    values["input"]["features"] = ["x", "seen"]
    return values


@case(0)
def dates_beside_numbers(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=X[:, 1], day=pa.array([date(2026, 1, 1)] * len(X)))


@case(3, "no numeric column")
def nothing_but_text(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, name=["a"] * len(X))


@case(3, "name")
def text_as_feature(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], name=["a"] * len(X))
    values["input"]["features"] = ["x", "name"]
    return values


@case(3, "deep")
def a_struct_as_feature(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], deep=[{"y": v} for v in X[:, 1].tolist()])
    values["input"]["features"] = ["x", "deep"]
    return values


@case(3, "pairs")
def a_map_as_feature(folder: Path, X: np.ndarray) -> dict[str, Any]:
    pairs = pa.array([[("a", 1.0)]] * len(X), pa.map_(pa.string(), pa.float64()))
    values = parquet(folder, x=X[:, 0], pairs=pairs)
    values["input"]["features"] = ["x", "pairs"]
    return values


@case(0)
def an_array_column(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, v=X.tolist())
    values["input"]["features"] = "v"
    return values


@case(3, "not of length 2 in 1")
def arrays_of_several_lengths(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, v=[*X[1:].tolist(), [1.0, 2.0, 3.0]])
    values["input"]["features"] = "v"
    return values


@case(3, "column 'v' holds no values in any row")
def empty_arrays(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, v=pa.array([[]] * len(X), pa.list_(pa.float64())))
    values["input"]["features"] = "v"
    return values


@case(3, "v")
def arrays_of_text(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, v=[["a", "b"]] * len(X))
    values["input"]["features"] = "v"
    return values


@case(3, "no rows")
def no_rows(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:0, 0], y=X[:0, 1])


@case(3, "there is one row")
def one_row(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:1, 0], y=X[:1, 1])


@case(3, "no rows")
def a_predicate_that_no_row_meets(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1])
    values["input"]["where"] = "x > 1e9"
    return values


@case(2, "input.where")
def a_predicate_that_is_no_sql(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1])
    values["input"]["where"] = "x >> > '); drop table"
    return values


@case(3, "input.where")
def a_predicate_with_a_value_that_is_none(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1])
    values["input"]["where"] = "x > cast('a' as int)"
    return values


@case(3, "input.where")
def a_predicate_that_fails_on_a_row(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1])
    values["input"]["where"] = "x < 2 or raise_error('no such luck') is null"
    return values


@case(0)
def names_with_dots_spaces_quotes_and_backticks(folder: Path, X: np.ndarray) -> dict[str, Any]:
    table = pa.table({"a.b c": X[:, 0], "`d\"'`": X[:, 1], "温度\n": X[:, 0] * 0.5 + X[::-1, 1]})
    pq.write_table(table, folder / "rows.parquet")
    return {"input": {"path": str(folder / "rows.parquet")}}


@case(3, "'a.b'")
def a_dotted_name_that_is_missing(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1])
    values["input"]["features"] = ["x", "a.b"]
    return values


@case(3, "did you mean")
def a_misspelt_name(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, length=X[:, 0], width=X[:, 1])
    values["input"]["features"] = ["length", "widht"]
    return values


@case(3, "has a column twice")
def duplicate_names_in_parquet(folder: Path, X: np.ndarray) -> dict[str, Any]:
    table = pa.Table.from_arrays([pa.array(X[:, 0]), pa.array(X[:, 1])], names=["x", "x"])
    pq.write_table(table, folder / "rows.parquet")
    return {"input": {"path": str(folder / "rows.parquet")}}


@case(3, "spark.sql.caseSensitive=true")
def names_that_differ_by_case_alone(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], X=X[:, 1])


@case(0)
def two_thousand_columns(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """Two of them are asked for."""
    columns = {f"c{i}": X[:, i % 2] * (i + 1) for i in range(2000)}
    values = parquet(folder, **columns)
    values["input"]["features"] = ["c0", "c1999"]
    return values


@case(0)
def many_more_columns_than_rows(folder: Path, X: np.ndarray) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    columns = {f"c{i}": rng.standard_normal(40) for i in range(60)}
    return parquet(folder, **columns) | {"model": {"k": 2, "covariance_type": "diag"}}


@case(0)
def weights_of_zero(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=np.arange(len(X)) % 3)
    values["input"]["weight"] = "w"
    return values


@case(3, "weight above 0")
def nothing_but_weights_of_zero(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=np.zeros(len(X)))
    values["input"]["weight"] = "w"
    return values


@case(3, "w negative in 1")
def a_negative_weight(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=[-1.0, *[1.0] * (len(X) - 1)])
    values["input"]["weight"] = "w"
    return values


@case(3, "w NaN in 1")
def a_weight_that_is_nan(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=[math.nan, *[1.0] * (len(X) - 1)])
    values["input"]["weight"] = "w"
    return values


@case(0)
def weights_of_1e300(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=np.full(len(X), 1e300))
    values["input"]["weight"] = "w"
    return values


@case(3, "the weights of the 150 rows sum to inf")
def weights_of_1e308(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=np.full(len(X), 1e308))
    values["input"]["weight"] = "w"
    return values


@case(3, "the weights of the 150 rows sum to 7.")
def weights_of_5e_324(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=np.full(len(X), 5e-324))
    values["input"]["weight"] = "w"
    return values


@case(3, "input.weight names column 'w', which is of type string")
def text_as_weight(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1], w=["1"] * len(X))
    values["input"]["weight"] = "w"
    return values


@case(0)
def a_plain_csv(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X)))


@case(0)
def a_csv_of_windows_with_a_byte_order_mark(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = csv(folder, b"\xef\xbb\xbf" + "\r\n".join(lines(X)).encode())
    values["input"]["features"] = ["x", "y"]
    return values


@case(0)
def a_gzipped_csv(folder: Path, X: np.ndarray) -> dict[str, Any]:
    (folder / "rows.csv.gz").write_bytes(gzip.compress("\n".join(lines(X)).encode()))
    return {
        "input": {"path": str(folder / "rows.csv.gz"), "format": "csv", "options": {"header": True}}
    }


@case(3, "cannot be read")
def a_truncated_gzip(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = a_gzipped_csv(folder, X)
    path = folder / "rows.csv.gz"
    path.write_bytes(path.read_bytes()[:-200])
    return values


@case(3, "null in")
def a_csv_with_short_lines(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join([*lines(X), "1.5"]))


@case(3, "column 'y', which is of type string, not a number (it holds 'n/a')")
def a_csv_with_text_among_the_numbers(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = csv(folder, "\n".join([*lines(X), "1.5,n/a"]))
    values["input"]["features"] = ["x", "y"]
    return values


@case(3, "input.options (header, sep, encoding")
def a_csv_in_utf16(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X)).encode("utf-16"))


@case(0)
def a_csv_in_utf16_that_is_said_to_be(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X)).encode("utf-16"), encoding="UTF-16", multiLine=True)


@case(3, "klingon")
def an_encoding_that_does_not_exist(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X)), encoding="klingon")


@case(3, "input.options")
def an_option_that_is_no_truth_value(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X)), header=3)


@case(3, "DUBBLE")
def a_schema_of_no_known_type(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X)), schema="x dubble, y double")


@case(0)
def an_option_that_is_null(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """It is left out, as a key of the configuration would be."""
    return csv(folder, "\n".join(lines(X)), encoding=None)


@case(0)
def a_header_of_latin_1(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "\n".join(lines(X, "größe,y")).encode("latin-1"))


@case(3, "is its first line a row?")
def a_csv_without_a_header_that_is_said_to_have_one(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = csv(folder, "\n".join(lines(X)[1:]))
    values["input"]["features"] = ["x", "y"]
    return values


@case(3, "its columns are 'x0', 'x1'")
def duplicate_names_in_csv(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = csv(folder, "\n".join(lines(X, "x,x")))
    values["input"]["features"] = ["x"]
    return values


@case(3, "no rows")
def a_csv_of_a_header_alone(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = csv(folder, "x,y\n")
    values["input"]["features"] = ["x", "y"]
    return values


@case(3, "no columns and no rows")
def an_empty_csv(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, "")


@case(3, "no rows")
def a_csv_of_zero_bytes(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return csv(folder, bytes(4096))


@case(3, "cannot be read")
def noise_that_is_called_parquet(folder: Path, X: np.ndarray) -> dict[str, Any]:
    (folder / "rows.parquet").write_bytes(np.random.default_rng(0).bytes(4096))
    return {"input": {"path": str(folder / "rows.parquet")}}


@case(3, "cannot be read")
def a_truncated_parquet(folder: Path, X: np.ndarray) -> dict[str, Any]:
    values = parquet(folder, x=X[:, 0], y=X[:, 1])
    path = folder / "rows.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    return values


@case(3, "cannot be read")
def a_parquet_damaged_in_the_middle(folder: Path, X: np.ndarray) -> dict[str, Any]:
    X = np.tile(X, (50, 1)) + np.arange(7500)[:, None] * 1e-3
    table = pa.table({"x": X[:, 0], "y": X[:, 1]})
    pq.write_table(table, folder / "rows.parquet", compression="zstd", use_dictionary=False)
    content = bytearray((folder / "rows.parquet").read_bytes())
    content[1000:9000] = bytes(8000)
    (folder / "rows.parquet").write_bytes(content)
    return {"input": {"path": str(folder / "rows.parquet")}}


@case(3, "cannot be read")
def a_damaged_column_of_arrays(folder: Path, X: np.ndarray) -> dict[str, Any]:
    """Its length is looked up before any row is fitted."""
    table = pa.table({"v": np.tile(X, (20, 1)).tolist()})
    pq.write_table(table, folder / "rows.parquet", compression="zstd", use_dictionary=False)
    content = bytearray((folder / "rows.parquet").read_bytes())
    content[200:2000] = bytes(1800)
    (folder / "rows.parquet").write_bytes(content)
    return {"input": {"path": str(folder / "rows.parquet"), "features": "v"}}


@case(0)
def files_without_rows_among_others(folder: Path, X: np.ndarray) -> dict[str, Any]:
    (folder / "many.parquet").mkdir()
    for i in range(6):
        part = X[:0] if i % 2 else X[i * 25 : i * 25 + 50]
        pq.write_table(
            pa.table({"x": part[:, 0], "y": part[:, 1]}), folder / "many.parquet" / f"{i}.parquet"
        )
    return {"input": {"path": str(folder / "many.parquet")}}


@case(0)
def a_row_a_row_group(folder: Path, X: np.ndarray) -> dict[str, Any]:
    pq.write_table(
        pa.table({"x": X[:, 0], "y": X[:, 1]}), folder / "rows.parquet", row_group_size=1
    )
    return {"input": {"path": str(folder / "rows.parquet")}}


@case(0)
def one_huge_row_group(folder: Path, X: np.ndarray) -> dict[str, Any]:
    X = np.tile(X, (4000, 1)) + np.random.default_rng(0).standard_normal((600_000, 2)) * 0.1
    pq.write_table(
        pa.table({"x": X[:, 0], "y": X[:, 1]}), folder / "rows.parquet", row_group_size=10**9
    )
    return {"input": {"path": str(folder / "rows.parquet")}}


@case(3, "y null in 150")
def files_of_two_schemas(folder: Path, X: np.ndarray) -> dict[str, Any]:
    (folder / "two.parquet").mkdir()
    pq.write_table(pa.table({"x": X[:, 0], "y": X[:, 1]}), folder / "two.parquet" / "0.parquet")
    pq.write_table(pa.table({"x": X[:, 0], "z": X[:, 1]}), folder / "two.parquet" / "1.parquet")
    return {"input": {"path": str(folder / "two.parquet"), "features": ["x", "y"]}}


@case(3, "does not exist")
def a_path_that_is_not_there(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return {"input": {"path": str(folder / "nowhere.parquet")}}


@case(3, "cannot be reached")
def a_scheme_that_is_not_there(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return {"input": {"path": "gopher://host/rows.parquet"}}


@case(2, "input.format 'no.such.Source' is no data source")
def a_format_that_does_not_exist(folder: Path, X: np.ndarray) -> dict[str, Any]:
    return parquet(folder, x=X[:, 0], y=X[:, 1]) | {
        "input": {"path": str(folder / "rows.parquet"), "format": "no.such.Source"}
    }


@pytest.mark.parametrize("name", CASES)
def test_a_table_is_fitted_to_finite_numbers_or_refused_in_a_line(
    attempt: Attempt, tmp_path: Path, three: np.ndarray, name: str
) -> None:
    write, code, message = CASES[name]
    values = {"model": {"k": 2, "n_init": 2}, **write(tmp_path, three)}
    outcome = attempt(values)
    assert outcome.code == code, outcome.message
    assert message in outcome.message


VALUES = st.one_of(
    st.floats(),
    st.none(),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, 1e-160, 1e160, 1.7e12]),
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    rows=st.lists(st.tuples(VALUES, VALUES), max_size=12),
    invalid=st.sampled_from(["fail", "drop"]),
    constant=st.sampled_from(["fail", "drop"]),
    k=st.integers(1, 3),
    kind=st.sampled_from(["full", "tied", "diag", "spherical"]),
)
def test_any_few_values_at_all_are_fitted_to_finite_numbers_or_refused_in_a_line(
    attempt: Attempt,
    tmp_path: Path,
    rows: list[tuple[float | None, float | None]],
    invalid: str,
    constant: str,
    k: int,
    kind: str,
) -> None:
    columns = {
        name: pa.array([row[i] for row in rows], pa.float64()) for i, name in enumerate("xy")
    }
    values = parquet(tmp_path, **columns)
    values["input"] |= {"invalid_rows": invalid, "constant_features": constant}
    values["model"] = {"k": k, "covariance_type": kind, "n_init": 2}
    assert attempt(values, "output.run_id=a").code in (0, 3, 4)
