"""The rejected rows, as they were read and with the reason, and how many there are."""

from __future__ import annotations

from typing import Any

import pytest
from chispa import assert_df_equality
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql.types import IntegerType, StructField, StructType

from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.quarantine import count_invalid, describe_invalid, rejected
from sparkgmm.spark.source import find_features

pytestmark = pytest.mark.spark

NAN, INF = float("nan"), float("inf")


def test_each_rejected_row_keeps_all_its_columns_and_says_why(spark: SparkSession) -> None:
    columns = "id int, `a.b` double, n int, w double"
    rows = [
        (0, 1.0, 1, 1.0),
        (1, None, 1, 1.0),
        (2, NAN, None, 1.0),
        (3, -INF, 1, 1.0),
        (4, 1.0, 1, -0.5),
        (5, 1.0, 1, None),
        (6, 1.0, 1, 0.0),
        (7, NAN, 1, NAN),
        (8, 1.0, 1, -INF),
    ]
    df = spark.createDataFrame(rows, columns)
    found = rejected(df, find_features(df, ["a.b", "n"], "w"))
    expected = spark.createDataFrame(
        [
            (*rows[1], "a.b is null"),
            (*rows[2], "a.b is NaN, n is null"),
            (*rows[3], "a.b is infinite"),
            (*rows[4], "w is negative"),
            (*rows[5], "w is null"),
            (*rows[7], "a.b is NaN, w is NaN"),
            (*rows[8], "w is infinite, w is negative"),
        ],
        f"{columns}, reason string",
    )
    assert_df_equality(found, expected, ignore_nullable=True, allow_nan_equality=True)


@pytest.mark.parametrize("kind", ["array", "vector"])
def test_vectors_are_rejected_by_length_and_by_content(spark: SparkSession, kind: str) -> None:
    lists = [[1.0, 2.0], [1.0], None, [NAN, 1.0], [1.0, INF], [3.0, 4.0]]
    reasons = [None, "v has 1 values, not 2", "v is null", "v holds NaN", "v holds infinity", None]
    schema: Any = "id int, v array<double>"
    if kind == "array":
        lists.append([None, 1.0])
        reasons.append("v holds null")
    else:
        lists = [v and Vectors.dense(v) for v in lists]
        schema = StructType([StructField("id", IntegerType()), StructField("v", VectorUDT())])
    df = spark.createDataFrame(list(enumerate(lists)), schema)
    found = rejected(df, find_features(df, "v", None)).select("id", "reason")
    expected = spark.createDataFrame(
        [(i, reason) for i, reason in enumerate(reasons) if reason], "id int, reason string"
    )
    assert_df_equality(found, expected, ignore_nullable=True)


@pytest.mark.parametrize("name", ["reason", "Reason"])
def test_a_column_named_reason_is_left_alone(spark: SparkSession, name: str) -> None:
    df = spark.createDataFrame([(None, "mine"), (1.0, "yours")], f"x double, {name} string")
    found = rejected(df, find_features(df, ["x"], None))
    assert [tuple(row) for row in found.collect()] == [(None, "mine", "x is null")]
    assert found.columns == ["x", name, "_reason"]


@pytest.mark.parametrize("kind", ["double", "float", "decimal(38,2)", "int", "boolean"])
def test_the_blocks_and_the_quarantine_reject_the_same_rows(spark: SparkSession, kind: str) -> None:
    values = ["1", "0", None, "1e300", "-1e39", "NaN", "Infinity", "12345678901234567890"]
    df = spark.createDataFrame([(v,) for v in values], "t string")
    df = df.selectExpr(f"try_cast(t as {kind}) as x", "t")
    features = find_features(df, ["x"], None)
    with Blocks(df, features) as blocks:
        assert rejected(df, features).count() == blocks.read.counts.invalid > 0


def counted(df: Any, features: Any) -> tuple[Any, ...]:
    """Return what Spark SQL counts, once it is what the blocks count."""
    found = count_invalid(df, features)
    with Blocks(df, features) as blocks:
        assert found.pack() == blocks.read.counts.pack()
    return found.read, found.invalid, *(kind.tolist() for kind in found[4:])


@pytest.mark.parametrize("kind", ["double", "float", "decimal(38,2)", "int", "boolean"])
def test_spark_counts_what_the_blocks_count(spark: SparkSession, kind: str) -> None:
    values = ["1", "0", None, "1e300", "-1e39", "NaN", "Infinity", "12345678901234567890"]
    df = spark.createDataFrame([(v, float(i)) for i, v in enumerate(values)], "t string, y double")
    df = df.selectExpr(f"try_cast(t as {kind}) as x", "if(y in (2, 5), double('NaN'), y) as y")
    assert counted(df, find_features(df, ["x", "y"], None))[:2] >= (8, 2)


@pytest.mark.parametrize("kind", ["array<double>", "array<float>", "vector"])
def test_spark_counts_in_vectors_what_the_blocks_count(spark: SparkSession, kind: str) -> None:
    lists = [[1.0, 2.0], [1.0], None, [NAN, 1.0], [1.0, INF], [NAN, NAN], [3.0, 4.0], [1.0, -INF]]
    if kind == "vector":
        rows = [(v and Vectors.dense(v),) for v in lists]
        df = spark.createDataFrame(rows, StructType([StructField("v", VectorUDT())]))
    else:
        df = spark.createDataFrame([(v,) for v in [*lists, [None, 1.0]]], f"v {kind}")
    found = counted(df, find_features(df, "v", None))
    n = len(lists) + (kind != "vector")
    assert found == (n, n - 2, [2 if n > 8 else 1, 1], [2, 1], [0, 2])


def test_what_is_wrong_is_told_by_column_and_kind(spark: SparkSession) -> None:
    df = spark.createDataFrame([(1.0, 2.0), (None, NAN), (INF, 1.0)], "a double, `b.c` double")
    features = find_features(df, None, None)
    assert describe_invalid(count_invalid(df, features), features) == (
        "2 of 3 rows are invalid (a null in 1, b.c NaN in 1, a infinite in 1): fix them, or set "
        "input.invalid_rows to drop or quarantine"
    )
