"""The input: formats, paths, predicates, and which columns are features."""

from __future__ import annotations

import datetime
import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.parts import Column as PartColumn
from sparkgmm.parts import level_of
from sparkgmm.spark.data_sources import check_format
from sparkgmm.spark.source import (
    Features,
    as_number,
    find_features,
    format_of,
    open_rows,
    quoted,
    read,
)

pytestmark = pytest.mark.spark

ROWS = [{"x": 1.5, "y": 2.0}, {"x": -0.5, "y": 4.25}, {"x": 3.0, "y": 1e-9}]
ODD_NAMES = ["a.b", "a b", "a`b", "it's", 'say "x"', "温度", "a,b", "", "A.B.C", "select"]
WriteCsv = Callable[..., str]


def write(folder: Path, extension: str, rows: list[dict[str, Any]] = ROWS) -> str:
    """Write rows without Spark and return the path."""
    path = folder / f"data.{extension}"
    if extension.startswith("csv"):
        lines = [",".join(rows[0])] + [",".join(map(str, row.values())) for row in rows]
        content = "\n".join(lines).encode()
        path.write_bytes(gzip.compress(content) if extension.endswith("gz") else content)
    elif extension == "json":
        path.write_text("\n".join(map(json.dumps, rows)))
    elif extension == "orc":
        pa.orc.write_table(pa.Table.from_pylist(rows), path)
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


@pytest.fixture
def expected(spark: SparkSession) -> DataFrame:
    return spark.createDataFrame([tuple(row.values()) for row in ROWS], "x double, y double")


@pytest.mark.parametrize("extension", ["csv", "csv.gz", "json", "orc", "parquet", "pq"])
def test_the_format_follows_from_the_extension_and_all_rows_arrive(
    spark: SparkSession, tmp_path: Path, expected: DataFrame, extension: str
) -> None:
    df = read(spark, write(tmp_path, extension), options={"header": True})
    assert_df_equality(df, expected, ignore_row_order=True, ignore_nullable=True)
    assert find_features(df, None, None).names == ("x", "y")


def test_a_list_a_glob_and_a_folder_read_all_their_files(
    spark: SparkSession, tmp_path: Path, expected: DataFrame
) -> None:
    paths = []
    for i, row in enumerate(ROWS):
        (tmp_path / f"day={i}.parquet").mkdir()
        paths.append(write(tmp_path / f"day={i}.parquet", "parquet", [row]))
    for path in (paths, str(tmp_path / "*" / "data.parquet"), str(tmp_path / "day=?.parquet")):
        found = read(spark, path).select("x", "y")
        assert_df_equality(found, expected, ignore_row_order=True, ignore_nullable=True)


@pytest.mark.parametrize(
    ("name", "extension"), [("table", "parquet"), ("table", "csv"), ("table.v2", "orc")]
)
def test_the_files_of_a_folder_tell_its_format(
    spark: SparkSession, tmp_path: Path, expected: DataFrame, name: str, extension: str
) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "_SUCCESS").touch()
    write(tmp_path / name, extension)
    df = read(spark, str(tmp_path / name), options={"header": True})
    assert_df_equality(df, expected, ignore_row_order=True, ignore_nullable=True)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.csv", "csv"),
        ("a.CSV", "csv"),
        ("s3a://bucket/x.y/a.jsonl", "json"),
        ("a.csv.gz", "csv"),
        ("a.parquet/", "parquet"),
        (["a.orc", "b.orc"], "orc"),
        ("data/*.ndjson", "json"),
        ("part-0.snappy.parquet", "parquet"),
    ],
)
def test_the_extension_is_told_below_a_compression(path: Any, found: str) -> None:
    assert format_of(path) == found


@pytest.mark.parametrize("path", ["a.txt", "folder", "a.gz", None, "data.v1/table"])
def test_an_extension_that_tells_nothing_asks_for_the_format(path: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"input\.format is not set"):
        format_of(path)


def test_options_reach_the_reader(spark: SparkSession, write_csv: WriteCsv) -> None:
    path = write_csv("1,5;x", "2,5;y")
    df = read(spark, path, options={"sep": ";", "schema": "a string, b string"})
    assert df.dtypes == [("a", "string"), ("b", "string")]
    assert df.count() == 2


def test_where_keeps_the_rows_it_says(spark: SparkSession, tmp_path: Path) -> None:
    df = read(spark, write(tmp_path, "parquet"), where="x > 0 and y < 2.5")
    assert {row.x for row in df.collect()} == {1.5, 3.0}


@pytest.mark.parametrize("where", ["x >", "nope > 1", "x + 1", "sum(x) > 1"])
def test_where_that_is_no_predicate_is_refused_with_its_text(
    spark: SparkSession, tmp_path: Path, where: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"input\.where") as caught:
        read(spark, write(tmp_path, "parquet"), where=where)
    assert repr(where) in str(caught.value)
    assert "'x', 'y'" in str(caught.value)


@pytest.mark.parametrize("name", ["deltalake", "no.such.Source", "delta"])
def test_a_format_that_spark_does_not_know_is_refused_before_python_workers_look_for_it(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(DataFrameReader, "load", lambda *_: pytest.fail("Spark was asked"))
    with pytest.raises(ConfigurationError, match=f"{name}' (is no data source|needs the package)"):
        open_rows(spark, "x", name)


@pytest.mark.parametrize(
    "name", ["CSV", "binaryFile", "jdbc", "com.databricks.spark.csv", "org.apache.spark.sql.json"]
)
def test_a_format_that_spark_has_is_left_to_spark(spark: SparkSession, name: str) -> None:
    check_format(spark, name)


def test_where_python_may_define_data_sources_spark_looks_for_them(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pyspark_huggingface").mkdir()
    (tmp_path / "pyspark_huggingface" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    check_format(spark, "huggingface")


@pytest.mark.parametrize("path", ["absent.csv", ["absent.csv", "too.csv"], "absent-*.csv"])
def test_a_missing_path_is_refused_with_its_name(
    spark: SparkSession, tmp_path: Path, path: Any
) -> None:
    there = [str(tmp_path / p) for p in path] if isinstance(path, list) else str(tmp_path / path)
    with pytest.raises(InputError, match="does not exist") as caught:
        read(spark, there)
    assert "absent" in str(caught.value)


@pytest.mark.parametrize("path", ["nosuch://bucket/a.csv", "s3a://bucket/a.csv", "a:b.csv"])
def test_an_address_that_spark_cannot_reach_is_refused(spark: SparkSession, path: str) -> None:
    with pytest.raises(InputError, match="cannot be reached") as caught:
        read(spark, path)
    assert repr(path) in str(caught.value)
    assert "calling" not in str(caught.value)


def test_a_parquet_file_that_is_none_is_refused(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    path.write_bytes(b"this is no Parquet file, whatever it is called")
    with pytest.raises(InputError, match="cannot be read") as caught:
        read(spark, str(path))
    assert "java" not in str(caught.value)


def test_default_features_are_the_numeric_columns_but_the_weight(spark: SparkSession) -> None:
    row = (1, 2, 3, 4, 1.5, 2.5, Decimal("1.10"), "text", True, datetime.date(2024, 1, 1), [1.0])
    df = spark.createDataFrame(
        [row],
        "b byte, s short, i int, l long, f float, w double, d decimal(5,2), t string, "
        "flag boolean, day date, v array<double>",
    )
    features = find_features(df, None, "w")
    assert features.names == ("b", "s", "i", "l", "f", "d")
    assert features.weight == "w"
    assert features.dtype == "float64"
    [projected] = features.project(df).collect()
    assert tuple(projected) == pytest.approx((1, 2, 3, 4, 1.5, 1.1, 2.5))


def test_float_columns_stay_float_and_a_mix_becomes_double(spark: SparkSession) -> None:
    df = spark.createDataFrame([(1.0, 2.0, 3.0)], "a float, b float, c double")
    assert find_features(df, ["a", "b"], None).dtype == "float32"
    assert find_features(df, ["a", "b"], "c").dtype == "float32"
    assert find_features(df, ["a", "c"], None).dtype == "float64"


def test_names_with_dots_blanks_quotes_and_backticks_are_columns_as_they_are(
    spark: SparkSession,
) -> None:
    names = [name for name in ODD_NAMES if name]
    df = spark.createDataFrame([tuple(map(float, range(len(names))))], names)
    features = find_features(df, None, names[-1])
    assert features.names == tuple(names[:-1])
    [row] = features.project(df).collect()
    assert list(row) == [float(i) for i in range(len(names))]
    assert [df.select(quoted(df, name)).first()[0] for name in names[:3]] == [0.0, 1.0, 2.0]


def test_names_differing_in_case_alone_are_told_from_missing_ones(spark: SparkSession) -> None:
    df = spark.createDataFrame([(1.0, 2.0)], "Length double, width double")
    with pytest.raises(InputError, match="did you mean 'Length'"):
        find_features(df, ["length"], None)


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda c: F.array(c, c + 1, c * 2), "float64"),
        (lambda c: F.array(c, c + 1, c * 2).cast("array<float>"), "float32"),
        (lambda c: F.array(c, c + 1, c * 2).cast("array<int>"), "float64"),
    ],
    ids=["double", "float", "int"],
)
def test_one_array_column_holds_all_features(
    spark: SparkSession, make: Callable[..., Any], dtype: str
) -> None:
    df = spark.range(3).select(make(F.col("id").cast("double")).alias("v"))
    features = find_features(df, ["v"], None)
    assert features == Features(("v[0]", "v[1]", "v[2]"), (), "v", None, dtype == "float32")
    assert features.dtype == dtype
    assert features.project(df).collect()[2][0] == [2.0, 3.0, 4.0]


def test_one_vector_column_holds_all_features_dense_or_sparse(spark: SparkSession) -> None:
    rows = [(Vectors.dense(1.0, 2.0),), (Vectors.sparse(2, {1: 5.0}),)]
    df = spark.createDataFrame(rows, ["v.ector"])
    features = find_features(df, "v.ector", None)
    assert features.names == ("v.ector[0]", "v.ector[1]")
    assert [row.f0 for row in features.project(df).collect()] == [[1.0, 2.0], [0.0, 5.0]]


def test_the_first_vector_that_is_there_tells_the_length(spark: SparkSession) -> None:
    df = spark.createDataFrame([(None,), ([1.0, 2.0],)], "v array<double>")
    assert len(find_features(df, "v", None).names) == 2
    empty = df.where("v is null")
    with pytest.raises(InputError, match="'v' holds no values"):
        find_features(empty, "v", None)


@pytest.mark.parametrize(
    ("features", "weight", "parts"),
    [
        (["x", "hight"], None, ["input.features", "'hight'", "did you mean 'height'?"]),
        (["x"], "wieght", ["input.weight", "'wieght'", "did you mean 'weight'?"]),
        (["x", "name"], None, ["'name'", "string", "not a number", "'Ada'"]),
        (["x", "v"], None, ["'v'", "array<double>", "is given alone"]),
        (["day"], None, ["'day'", "date", "not a number"]),
        (["x"], "v", ["input.weight", "'v'", "not a number"]),
        (["tags"], None, ["'tags'", "array<string>"]),
    ],
    ids=["missing", "missing weight", "text", "array among others", "date", "array weight", "tags"],
)
def test_a_column_that_cannot_serve_is_named_with_the_remedy(
    spark: SparkSession, features: list[str], weight: str | None, parts: list[str]
) -> None:
    df = spark.createDataFrame(
        [(1.0, 2.0, 3.0, "Ada", [1.0], datetime.date(2024, 1, 1), ["a"])],
        "x double, height double, weight double, name string, v array<double>, day date, "
        "tags array<string>",
    )
    with pytest.raises(InputError) as caught:
        find_features(df, features, weight)
    assert [part for part in parts if part not in str(caught.value)] == []


def test_the_one_value_that_made_a_column_text_is_shown(
    spark: SparkSession, write_csv: WriteCsv
) -> None:
    df = read(spark, write_csv("a,b", "1,2", "3,n/a", "5,6"), options={"header": True})
    with pytest.raises(InputError, match="it holds 'n/a'"):
        find_features(df, ["a", "b"], None)


def test_a_file_without_a_header_is_suspected(spark: SparkSession, write_csv: WriteCsv) -> None:
    df = read(spark, write_csv("a,b", "1,2"))
    with pytest.raises(InputError, match="does the file have a header"):
        find_features(df, ["a"], None)


@pytest.mark.parametrize("features", [None, ["a"]])
def test_a_header_without_rows_is_told_as_such(
    spark: SparkSession, write_csv: WriteCsv, features: list[str] | None
) -> None:
    df = read(spark, write_csv("a,b"), options={"header": True})
    with pytest.raises(InputError, match="the input has no rows"):
        find_features(df, features, None)


def test_a_column_that_stands_twice_is_refused(spark: SparkSession) -> None:
    df = spark.range(1).select(F.lit(1.0).alias("a"), F.lit(2.0).alias("a"))
    with pytest.raises(InputError, match="2 times"):
        find_features(df, ["a"], None)


def test_a_table_without_numbers_lists_what_it_has(spark: SparkSession) -> None:
    df = spark.createDataFrame([("a",)], "name string")
    with pytest.raises(InputError, match=r"no numeric column.*name: string"):
        find_features(df, None, None)


def test_the_commonest_length_of_arrays_counts_and_not_that_of_the_first(
    spark: SparkSession,
) -> None:
    df = spark.createDataFrame([([1.0],), ([1.0, 2.0],), ([3.0, 4.0],)], "v array<double>")
    assert find_features(df, "v", None).names == ("v[0]", "v[1]")


def test_timestamps_of_nanoseconds_block_no_file(spark: SparkSession, tmp_path: Path) -> None:
    """pandas writes them, and Spark refuses a file that has any (PARQUET_TYPE_ILLEGAL)."""
    moments = [np.datetime64("1960-01-01T01:02:03.000004005"), np.datetime64("2024-07-01", "ns")]
    times = pa.array(moments, pa.timestamp("ns"))
    table = pa.table({"t": times, "x": [1.5, 2.5], "utc": times.cast(pa.timestamp("ns", "UTC"))})
    path = str(tmp_path / "t.parquet")
    pq.write_table(table, path)
    before = spark.conf.get("spark.sql.session.timeZone")
    try:
        for zone in ("America/New_York", "UTC"):
            spark.conf.set("spark.sql.session.timeZone", zone)
            df = read(spark, path)
            assert dict(df.dtypes) == {"t": "timestamp_ntz", "x": "double", "utc": "timestamp"}
            assert find_features(df, None, None).names == ("x",)
            text = [tuple(row) for row in df.selectExpr("cast(t as string)").collect()]
            assert text == [("1960-01-01 01:02:03.000004",), ("2024-07-01 00:00:00",)]
        utc = [row[0] for row in df.selectExpr("unix_micros(utc)").collect()]
        assert utc == [-315615476999996, 1719792000000000]
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)
        spark.conf.unset("spark.sql.legacy.parquet.nanosAsLong")


def test_a_column_that_a_predicate_does_not_find_is_named(
    spark: SparkSession, faithful_csv: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"names column 'wating', which .*'waiting'\?"):
        read(spark, faithful_csv, options={"header": True}, where="wating > 2")


@pytest.mark.parametrize("levels", [("false", "true"), ("1", "2", "10"), ("a", "true")])
def test_a_level_is_known_as_other_programs_write_it(
    spark: SparkSession, levels: tuple[str, ...]
) -> None:
    texts = ["true", "True", "1", "1.0", "2", "2.00", "02", "10.0", "0", "FALSE", "a", "A", None]
    df = spark.createDataFrame([(text,) for text in texts], "c string")
    column = PartColumn("c", "categorical", levels)
    found = [row[0] for row in df.select(as_number(df, column)).collect()]
    known = [None if text is None else level_of(text, levels) for text in texts]
    assert found == [None if level is None else float(levels.index(level)) for level in known]
