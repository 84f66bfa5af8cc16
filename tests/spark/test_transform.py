"""A scored DataFrame: what it keeps of the input, what it adds, and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from chispa import assert_df_equality
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, StructField, StructType
from sklearn.mixture import GaussianMixture

from helpers.data_sets import TEXTBOOK, random_mixture
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.spark.scored_rows import ScoreRequest, score_rows
from sparkgmm.spark.scoring import Totals
from sparkgmm.spark.source import find_model_features

pytestmark = pytest.mark.spark

ADDED = ("component", "probability", "log_density")
ODD_NAMES = ["a.b", "a b", "a`b", "it's", 'say "x"', "温度", "a,b", "select", "feature 0"]
# A column of every type that a table may hold.
TYPES = {
    "n": "cast(id as int)",
    "small": "cast(id as smallint)",
    "tiny": "cast(1 as tinyint)",
    "big": "id",
    "real": "cast(id as float)",
    "price": "cast(id as decimal(38, 10)) / 3",
    "flag": "id % 2 = 0",
    "text": "if(id = 1, null, concat('é温', id))",
    "letter": "cast('q' as char(3))",
    "bytes": "cast('ab' as binary)",
    "day": "date'2020-02-29' + cast(id as int)",
    "moment": "timestamp'1969-12-31 23:59:59.123456'",
    "local": "timestamp_ntz'2020-02-29 01:02:03.000004'",
    "duration": "interval '1 02:03:04' day to second",
    "list": "array(1, null, cast(id as int))",
    "lists": "array(array('x'), array(), null)",
    "map": "map('k', named_struct('v', array(1.5D)), 'empty', null)",
    "struct": "named_struct('a', id, 'b', array(named_struct('c', decimal('1.25'))))",
    "missing": "cast(null as string)",
}


def request(df: DataFrame, **changes: Any) -> ScoreRequest:
    given = {"kept": tuple(df.columns), "added": ADDED, "threshold": None, "fail": True}
    return ScoreRequest(**{**given, **changes})


def scored(
    df: DataFrame, mixture: Mixture, vector: str | None = None, **changes: Any
) -> tuple[DataFrame, Totals]:
    features = find_model_features(df, mixture.features, mixture.d, vector)
    return score_rows(df, features, mixture, request(df, **changes))


def named(mixture: Mixture, *names: str) -> Mixture:
    return Mixture(
        mixture.weights, mixture.means, mixture.covariances, mixture.covariance_type, names
    )


def assert_close(found: list[float], expected: np.ndarray) -> None:
    """The last bit may depend on how many rows stand in a batch."""
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.fixture
def mixture() -> Mixture:
    return named(random_mixture(np.random.default_rng(0), 3, 2, "full"), "x", "y")


def table(spark: SparkSession, X: np.ndarray, *names: str) -> DataFrame:
    rows = [(i, *map(float, row)) for i, row in enumerate(X)]
    kinds = ", ".join(f"`{name.replace('`', '``')}` double" for name in names)
    return spark.createDataFrame(rows, f"id int, {kinds}")


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
def test_probabilities_and_densities_equal_scikit_learns_to_1e_9(
    spark: SparkSession, covariance_type: str
) -> None:
    names = [f"x{i}" for i in range(5)]
    truth = random_mixture(np.random.default_rng(3), 4, 5, covariance_type, spread=0.7)
    X, _ = truth.sample(3000, seed=0)
    theirs = GaussianMixture(4, covariance_type=covariance_type, random_state=0).fit(X)
    dense = np.array(theirs.covariances_)
    if covariance_type == "tied":
        dense = np.tile(dense, (4, 1, 1))
    elif covariance_type != "full":
        dense = np.stack([np.eye(5) * v for v in dense])
    ours = Mixture(theirs.weights_, theirs.means_, dense, covariance_type, names)
    df, _ = scored(table(spark, X, *names).repartition(3), ours)
    rows = sorted(df.collect(), key=lambda row: row.id)
    R = np.array([row.probability for row in rows])
    assert np.abs(R - theirs.predict_proba(X)).max() < 1e-9
    density = np.array([row.log_density for row in rows])
    assert np.abs(density - theirs.score_samples(X)).max() < 1e-9
    np.testing.assert_array_equal([row.component for row in rows], theirs.predict(X))


def test_the_columns_kept_come_first_with_their_types_and_values(
    spark: SparkSession, mixture: Mixture
) -> None:
    df = spark.range(0, 40, 1, 3).selectExpr(
        *(f"{expression} as {name}" for name, expression in TYPES.items()),
        "cast(id as double) / 7 as x",
        "cast(id as double) / 9 as y",
    )
    found, _ = scored(df, mixture)
    assert found.schema.fields[: len(df.columns)] == df.schema.fields
    assert found.dtypes[-3:] == [
        ("component", "int"),
        ("probability", "array<double>"),
        ("log_density", "double"),
    ]
    assert sorted(map(str, found.select(df.columns).collect())) == sorted(map(str, df.collect()))


def test_times_are_kept_whatever_the_session_time_zone(
    spark: SparkSession, mixture: Mixture
) -> None:
    before = spark.conf.get("spark.sql.session.timeZone")
    try:
        for zone in ("America/St_Johns", "Asia/Kathmandu"):
            spark.conf.set("spark.sql.session.timeZone", zone)
            df = spark.sql(
                "select timestamp'2021-03-14 02:30:00.000001' t, 1.0D as x, 2.0D as y, "
                "unix_micros(timestamp'2021-03-14 02:30:00.000001') as u"
            )
            found, _ = scored(df, mixture)
            assert found.where("unix_micros(t) = u").count() == 1
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def test_a_column_of_vectors_is_kept_sparse_or_dense(spark: SparkSession, mixture: Mixture) -> None:
    vectors = [Vectors.dense([1.0, 2.0]), Vectors.sparse(9, {3: 4.0}), None]
    rows = [(float(i), 1.0, v) for i, v in enumerate(vectors)]
    fields = [StructField(name, DoubleType()) for name in "xy"]
    df = spark.createDataFrame(rows, StructType([*fields, StructField("v", VectorUDT())]))
    found, _ = scored(df, mixture)
    assert found.schema["v"].dataType == VectorUDT()
    assert_df_equality(found.select("x", "v"), df.select("x", "v"))


@pytest.mark.parametrize("names", [ODD_NAMES[:2], ODD_NAMES[2:4], ODD_NAMES[4:6], ODD_NAMES[7:]])
def test_names_with_dots_blanks_and_quotes_are_names_like_others(
    spark: SparkSession, mixture: Mixture, names: list[str]
) -> None:
    X, _ = mixture.sample(20, seed=0)
    found, _ = scored(table(spark, X, *names), named(mixture, *names))
    assert found.columns == ["id", *names, *ADDED]
    rows = sorted(found.collect(), key=lambda row: row[0])
    assert_close([row[-1] for row in rows], mixture.log_density(X))


def test_features_are_found_by_name_in_any_order_among_others(
    spark: SparkSession, mixture: Mixture
) -> None:
    X, _ = mixture.sample(10, seed=0)
    df = table(spark, X, "x", "y").select("y", F.lit("z").alias("z"), "x", "id")
    rows = sorted(scored(df, mixture)[0].collect(), key=lambda row: row.id)
    assert_close([row.log_density for row in rows], mixture.log_density(X))


@pytest.mark.parametrize("kind", ["float", "int", "bigint", "decimal(20,3)", "boolean", "tinyint"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_feature_of_any_number_type_is_cast_as_spark_casts_it(
    spark: SparkSession, mixture: Mixture, kind: str, kept: bool
) -> None:
    df = spark.range(0, 50, 1, 2).selectExpr(
        f"cast(id % 11 as {kind}) as x", "id / 3 as y", "id as id"
    )
    found, _ = scored(df, mixture, kept=("x", "y", "id") if kept else ("id",))
    X = np.array([(row.x, row.y) for row in df.selectExpr("cast(x as double) x", "y").collect()])
    rows = sorted(found.collect(), key=lambda row: row.id)
    assert_close([row.log_density for row in rows], mixture.log_density(X))
    if kept:
        assert found.schema["x"].dataType == df.schema["x"].dataType


def test_nulls_of_any_number_type_are_invalid_rows(spark: SparkSession, mixture: Mixture) -> None:
    for kind in ("float", "int", "bigint", "decimal(20,3)", "boolean", "double"):
        df = spark.sql(f"select * from values (cast(null as {kind}), 1), (cast(1 as {kind}), 2)")
        df = df.toDF("x", "y")
        found, totals = scored(df, mixture, fail=False)
        assert [row.y for row in found.collect()] == [2]
        assert (totals.read.value, totals.invalid.value) == (2, 1)


@pytest.mark.parametrize("kind", ["array<double>", "array<float>", "array<int>", "vector"])
@pytest.mark.parametrize("kept", [True, False])
def test_a_model_of_a_vector_column_finds_it_and_leaves_out_other_lengths(
    spark: SparkSession, kind: str, kept: bool
) -> None:
    mixture = named(random_mixture(np.random.default_rng(0), 3, 2, "full"), "v[0]", "v[1]")
    lists = [[1.0, 2.0], [3.0], None, [4.0, 5.0], [1.0, 2.0, 3.0]]
    df = spark.createDataFrame(list(enumerate(lists)), "id int, v array<double>")
    if kind == "vector":
        rows = [(i, None if v is None else Vectors.dense(v)) for i, v in enumerate(lists)]
        fields = [df.schema["id"], StructField("v", VectorUDT())]
        df = spark.createDataFrame(rows, StructType(fields))
    else:
        df = df.withColumn("v", F.col("v").cast(kind))
    keep = ("id", "v") if kept else ("id",)
    found, totals = scored(df, mixture, vector="v", kept=keep, fail=False)
    rows = sorted(found.collect(), key=lambda row: row.id)
    assert [row.id for row in rows] == [0, 3]
    expected = mixture.log_density([lists[0], lists[3]])
    assert_close([row.log_density for row in rows], expected)
    assert (totals.read.value, totals.invalid.value) == (5, 3)
    if kept:
        assert found.schema["v"].dataType == df.schema["v"].dataType


def test_partitions_stay_as_they_are_and_may_be_empty(
    spark: SparkSession, mixture: Mixture
) -> None:
    df = spark.range(0, 100, 1, 7).selectExpr("id", "id / 3 as x", "id / 5 as y")
    df = df.where("id < 15 or id > 80")
    found, totals = scored(df, mixture)
    assert found.rdd.getNumPartitions() == 7
    assert found.count() == df.count() == totals.read.value
    nothing, totals = scored(df.where("id > 1000"), mixture)
    assert nothing.collect() == []
    assert totals.read.value == 0


def test_no_shuffle_and_the_features_travel_once(spark: SparkSession, mixture: Mixture) -> None:
    df = spark.range(10).selectExpr("id", "id / 3 as x", "id / 5 as y")
    found, _ = scored(df, mixture)
    plan = found._jdf.queryExecution().executedPlan().toString()
    assert "MapInArrow" in plan
    assert "Exchange" not in plan
    assert "c2" in plan
    assert "c3" not in plan


def test_outliers_are_the_rows_below_the_threshold(spark: SparkSession, mixture: Mixture) -> None:
    X, _ = mixture.sample(500, seed=0)
    limit = float(np.quantile(mixture.log_density(X), 0.1))
    found, totals = scored(table(spark, X, "x", "y"), mixture, threshold=limit)
    assert found.columns[-1] == "outlier"
    n = found.where("outlier").count()
    assert n == (mixture.log_density(X) < limit).sum() == totals.outliers.value
    assert found.where(F.col("outlier") != (F.col("log_density") < limit)).count() == 0


def test_a_name_that_a_new_column_takes_is_refused(spark: SparkSession, mixture: Mixture) -> None:
    for name in ("component", "Log_Density", "outlier"):
        df = spark.range(3).selectExpr("1.0D as x", "2.0D as y", f"id as {name}")
        with pytest.raises(ConfigurationError, match=f"'{name}' has the name of a column that is"):
            scored(df, mixture, threshold=-1.0)
        assert scored(df, mixture, threshold=-1.0, kept=("x",))[0].columns[0] == "x"
    df = spark.range(3).selectExpr("1.0D as x", "2.0D as y", "id as outlier")
    assert "outlier" in scored(df, mixture)[0].columns


def test_columns_to_keep_that_are_not_there_are_named(
    spark: SparkSession, mixture: Mixture
) -> None:
    df = spark.range(3).selectExpr("1.0D as x", "2.0D as y", "id as customer")
    with pytest.raises(InputError) as caught:
        scored(df, mixture, kept=("custmer", "x", "zzz"))
    for part in ("output.keep", "'custmer', 'zzz'", "did you mean 'customer'?"):
        assert part in str(caught.value)


def test_a_column_that_stands_twice_is_refused_by_name(
    spark: SparkSession, mixture: Mixture
) -> None:
    df = spark.range(3).selectExpr("1.0D as x", "2.0D as y", "id as a", "id as A")
    with pytest.raises(InputError, match="column 'a' 2 times"):
        scored(df, mixture)
    assert scored(df, mixture, kept=("x", "y"))[0].count() == 3
    twice = spark.range(3).selectExpr("1.0D as x", "2.0D as y", "3.0D as X")
    with pytest.raises(InputError, match="column 'x' 2 times"):
        scored(twice, mixture, kept=("y",))


@pytest.mark.parametrize("kind", ["interval '1-2' year to month", "array(interval '3' month)"])
def test_a_type_that_spark_cannot_hand_to_python_is_refused_by_name(
    spark: SparkSession, mixture: Mixture, kind: str
) -> None:
    df = spark.range(3).selectExpr("1.0D as x", "2.0D as y", f"{kind} as term")
    with pytest.raises(ConfigurationError, match=r"column 'term' is of type .*output\.keep"):
        scored(df, mixture)
    assert scored(df, mixture, kept=("y",))[0].count() == 3
