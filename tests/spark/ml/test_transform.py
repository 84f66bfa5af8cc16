"""The model on DataFrames: right values, every kind of column, streams, and clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyspark
import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType

from helpers.oracle import e_step
from sparkgmm import GaussianMixtureModel, Mixture
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.scikit import mixture_to_sklearn
from sparkgmm.spark.ml import udf

pytestmark = pytest.mark.spark

# From Spark 4.2 on a filter is not copied below a projection together with what is expensive in it.
FILTERS_STAY_ABOVE = tuple(map(int, pyspark.__version__.split(".")[:2])) >= (4, 2)
ROWS = np.array([[0.5, 1.0, 0.0], [0.0, 0.0, 3.0], [-2.0, 4.0, 1.5], [9.0, 0.0, 0.0]])


@pytest.fixture(params=["arrow", "pandas"])
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to the workers; versions of Spark before 4.1 have the one by pandas alone."""
    if request.param == "arrow" and not udf.HAS_ARROW_UDF:
        pytest.skip("this Spark has no arrow_udf")
    monkeypatch.setattr(udf, "HAS_ARROW_UDF", request.param == "arrow")
    return str(request.param)


def scores(df: DataFrame) -> tuple[Array, Array, Array]:
    rows = df.select("probability", "prediction", "log_density").collect()
    return (
        np.array([row.probability.toArray() for row in rows]),
        np.array([row.prediction for row in rows]),
        np.array([row.log_density for row in rows]),
    )


def assert_scored(df: DataFrame, mixture: Mixture, X: Array = ROWS) -> None:
    R, labels, log_density = scores(df)
    expected = e_step(mixture, X)
    np.testing.assert_allclose(R, expected.responsibilities, rtol=0, atol=1e-12)
    np.testing.assert_allclose(log_density, expected.log_density, rtol=1e-10)
    np.testing.assert_array_equal(labels, expected.responsibilities.argmax(axis=1))


def sparse(row: Array) -> SparseVector:
    return SparseVector(len(row), {int(i): float(row[i]) for i in np.flatnonzero(row)})


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", ["dense", "sparse", "mixed"])
def test_vectors_dense_and_sparse(
    model: GaussianMixtureModel, mixture: Mixture, frame: Any, kind: str
) -> None:
    every = {"dense": 9, "sparse": 1, "mixed": 2}[kind]
    X = [sparse(row) if i % every == 0 and every < 9 else row for i, row in enumerate(ROWS)]
    assert_scored(model.transform(frame(X)), mixture)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("element", ["double", "float", "int", "decimal(10,2)"])
def test_arrays_of_numbers(
    model: GaussianMixtureModel, mixture: Mixture, spark: SparkSession, element: str
) -> None:
    whole = np.round(ROWS)
    df = spark.createDataFrame([(row.tolist(),) for row in whole], "features array<double>")
    df = df.select(F.col("features").cast(f"array<{element}>"))
    assert_scored(model.transform(df), mixture, whole)


@pytest.mark.usefixtures("way")
def test_types_are_those_of_spark(model: GaussianMixtureModel, frame: Any) -> None:
    schema = model.transform(frame(ROWS)).schema
    assert schema.names == ["features", "probability", "prediction", "log_density"]
    assert isinstance(schema["probability"].dataType, VectorUDT)
    assert schema["prediction"].dataType == IntegerType()
    assert schema["log_density"].dataType == DoubleType()


def test_vectors_straight_from_parquet(
    model: GaussianMixtureModel, mixture: Mixture, spark: SparkSession, frame: Any, tmp_path: Path
) -> None:
    X = [sparse(row) if i % 2 else row for i, row in enumerate(ROWS)]
    table = frame(X, other=[Vectors.dense(1.0)] * 4, id=[1, 2, 3, 4])
    table.write.parquet(str(tmp_path / "v"))
    df = spark.read.parquet(str(tmp_path / "v"))
    assert_scored(model.transform(df).orderBy("id"), mixture)
    assert model.transform(df).select("prediction", "other").count() == 4


@pytest.fixture(params=["parquet", "orc"])
def file_format(request: Any) -> str:
    """The formats that Spark reads in columns, beside which Spark 4.3 runs UDFs in another way."""
    return str(request.param)


@pytest.fixture(params=["double", "float"])
def arrays(
    request: Any, spark: SparkSession, file_format: str, tmp_path: Path
) -> tuple[DataFrame, DataFrame]:
    """The same rows of arrays from memory and straight from files, nothing between."""
    rows = [(np.round(row, 1).tolist(), i) for i, row in enumerate(ROWS)]
    memory = spark.createDataFrame(rows, f"features array<{request.param}>, id int")
    path = str(tmp_path / "arrays")
    memory.coalesce(1).write.format(file_format).save(path)
    return memory, spark.read.format(file_format).load(path)


def test_arrays_straight_from_files_have_the_bits_of_those_from_memory(
    model: GaussianMixtureModel, arrays: tuple[DataFrame, DataFrame]
) -> None:
    memory, files = (model.transform(df).orderBy("id").collect() for df in arrays)
    assert files == memory
    assert len(files) == len(ROWS)


def test_arrays_straight_from_files_can_be_grouped_filtered_counted_and_written(
    model: GaussianMixtureModel,
    arrays: tuple[DataFrame, DataFrame],
    file_format: str,
    spark: SparkSession,
    tmp_path: Path,
) -> None:
    expected = model.transform(arrays[0]).orderBy("id").collect()
    labels = [row.prediction for row in expected]
    out = model.transform(arrays[1])
    sizes = {row.prediction: row["count"] for row in out.groupBy("prediction").count().collect()}
    assert sizes == {label: labels.count(label) for label in set(labels)}
    assert out.where(F.col("prediction") == labels[0]).count() == labels.count(labels[0])
    assert out.select("prediction").count() == len(ROWS)
    out.write.format(file_format).save(str(tmp_path / "scored"))
    written = spark.read.schema(out.schema).format(file_format).load(str(tmp_path / "scored"))
    assert written.orderBy("id").collect() == expected


def test_a_stream_of_arrays_straight_from_files_is_scored(
    model: GaussianMixtureModel,
    arrays: tuple[DataFrame, DataFrame],
    file_format: str,
    spark: SparkSession,
    tmp_path: Path,
) -> None:
    memory, files = arrays
    stream = (
        spark.readStream.schema(files.schema).format(file_format).load(str(tmp_path / "arrays"))
    )
    query = (
        model.transform(stream)
        .writeStream.format("parquet")
        .option("path", str(tmp_path / "scored"))
        .option("checkpointLocation", str(tmp_path / "checkpoint"))
        .trigger(availableNow=True)
        .start()
    )
    query.awaitTermination()
    found = spark.read.parquet(str(tmp_path / "scored")).orderBy("id").collect()
    assert found == model.transform(memory).orderBy("id").collect()


def test_integers_and_a_vector_beside_them_straight_from_files(
    model: GaussianMixtureModel,
    mixture: Mixture,
    spark: SparkSession,
    file_format: str,
    tmp_path: Path,
) -> None:
    """A vector that only goes through fails as one that the UDF returns does."""
    whole = np.round(ROWS).astype(int)
    rows = [(row.tolist(), Vectors.dense(1.0), i) for i, row in enumerate(whole)]
    df = spark.createDataFrame(rows, ["features", "other", "id"])
    df.write.format(file_format).save(str(tmp_path / "whole"))
    read = spark.read.schema(df.schema).format(file_format).load(str(tmp_path / "whole"))
    assert_scored(model.transform(read).orderBy("id"), mixture, whole.astype(float))
    without = model.copy({model.probabilityCol: ""}).transform(read)
    assert {row.other for row in without.collect()} == {Vectors.dense(1.0)}


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("name", ["a.b", "a b`c", "features.prediction"])
@pytest.mark.parametrize(
    "param", ["featuresCol", "predictionCol", "probabilityCol", "logDensityCol"]
)
def test_any_column_may_have_dots_blanks_and_backticks_in_its_name(
    model: GaussianMixtureModel, mixture: Mixture, frame: Any, param: str, name: str
) -> None:
    usual = {
        "featuresCol": "features",
        "predictionCol": "prediction",
        "probabilityCol": "probability",
        "logDensityCol": "log_density",
    }[param]
    df = frame(ROWS).withColumnRenamed("features", name if param == "featuresCol" else "features")
    out = model.copy({model.getParam(param): name}).transform(df)
    assert name in out.columns
    assert_scored(out.withColumnRenamed(name, usual), mixture)


def test_other_columns_stay_as_they_are(
    model: GaussianMixtureModel, spark: SparkSession, frame: Any
) -> None:
    df = frame(ROWS, **{"a.b": list("wxyz"), "when": [None, 1, 2, 3]})
    out = model.transform(df)
    assert out.columns[:3] == df.columns
    assert out.select("`a.b`", "when").collect() == df.select("`a.b`", "when").collect()


@pytest.mark.parametrize(
    ("params", "added"),
    [
        ({"logDensityCol": ""}, ["probability", "prediction"]),
        ({"probabilityCol": ""}, ["prediction", "log_density"]),
        ({"predictionCol": "", "probabilityCol": ""}, ["log_density"]),
        ({"predictionCol": "p", "probabilityCol": "", "logDensityCol": ""}, ["p"]),
    ],
)
def test_a_column_without_a_name_is_left_out(
    model: GaussianMixtureModel, frame: Any, params: dict[str, str], added: list[str]
) -> None:
    out = model.transform(frame(ROWS), {model.getParam(n): v for n, v in params.items()})
    assert out.columns == ["features", *added]
    assert len(out.collect()) == len(ROWS)


def test_without_any_name_transform_says_that_it_does_nothing(
    model: GaussianMixtureModel, frame: Any
) -> None:
    model.setPredictionCol("").setProbabilityCol("").setLogDensityCol("")
    with pytest.warns(UserWarning, match="adds nothing"):
        assert model.transform(frame(ROWS)).columns == ["features"]


def test_a_row_is_scored_once(model: GaussianMixtureModel, frame: Any) -> None:
    out = model.transform(frame(ROWS)).select("prediction", "probability", "log_density")
    plan = out._jdf.queryExecution().executedPlan().toString()
    assert plan.count("ArrowEvalPython") == 1


@pytest.mark.skipif(not FILTERS_STAY_ABOVE, reason="Spark before 4.2 scores twice under any filter")
def test_a_filter_on_the_scores_does_not_score_twice(
    model: GaussianMixtureModel, frame: Any, arrays: tuple[DataFrame, DataFrame]
) -> None:
    for df in (frame(ROWS), *arrays):
        kept = model.transform(df).where(F.col("prediction") == 0)
        plan = kept._jdf.queryExecution().executedPlan().toString()
        assert plan.count("ArrowEvalPython") == 1


def test_probabilities_are_those_of_scikit_learn(frame: Any) -> None:
    rng = np.random.default_rng(8)
    A = rng.standard_normal((4, 5, 5))
    mixture = Mixture(
        [0.1, 0.2, 0.3, 0.4],
        3 * rng.standard_normal((4, 5)),
        A @ A.transpose(0, 2, 1) + 0.1 * np.eye(5),
    )
    X = 4 * rng.standard_normal((500, 5))
    rows = GaussianMixtureModel(mixture).transform(frame(X)).collect()
    R = np.array([row.probability.toArray() for row in rows])
    expected = mixture_to_sklearn(mixture).predict_proba(X)
    np.testing.assert_allclose(R, expected, rtol=0, atol=1e-9)


def test_empty_partitions_and_no_rows(
    model: GaussianMixtureModel, mixture: Mixture, frame: Any
) -> None:
    df = frame(ROWS)
    spread = model.transform(df.repartition(9)).collect()
    assert {row.features for row in spread} == {Vectors.dense(row) for row in ROWS}
    assert model.transform(df.limit(0)).collect() == []


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (None, "column 'features' is null in 1 row"),
        ([1.0, 2.0], r"a vector of 2 value\(s\), the model has 3 feature\(s\)"),
        (SparseVector(4, {0: 1.0}), r"a vector of 4 value\(s\), the model has 3 feature\(s\)"),
        ([1.0, float("nan"), 2.0], r"column 'features' holds \[1, nan, 2\], not finite"),
        ([1.0, float("inf"), 2.0], r"column 'features' holds \[1, inf, 2\], not finite"),
    ],
    ids=["null", "short", "long", "nan", "infinite"],
)
def test_a_row_that_cannot_be_scored_is_told_plainly(
    model: GaussianMixtureModel, frame: Any, bad: Any, message: str
) -> None:
    with pytest.raises(Exception, match=f"InputError: .*{message}"):
        model.transform(frame([*ROWS, bad], partitions=1)).collect()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("size_of_null", ["false", "true"])
def test_an_array_that_is_null_is_named_whatever_its_size_is_said_to_be(
    model: GaussianMixtureModel, spark: SparkSession, size_of_null: str
) -> None:
    """Spark's legacy setting gives null the size -1."""
    df = spark.createDataFrame([([1.0, 3.0, 2.0],), (None,)], "features array<double>")
    spark.conf.set("spark.sql.legacy.sizeOfNull", size_of_null)
    try:
        with pytest.raises(Exception, match="InputError: column 'features' is null in 1 row"):
            model.transform(df.coalesce(1)).collect()
    finally:
        spark.conf.unset("spark.sql.legacy.sizeOfNull")


@pytest.mark.usefixtures("way")
def test_a_null_inside_an_array_is_told_plainly(
    model: GaussianMixtureModel, spark: SparkSession
) -> None:
    """Pandas knows no null among numbers: to it that is NaN."""
    df = spark.createDataFrame([([1.0, None, 2.0],)], "features array<double>")
    with pytest.raises(
        Exception, match=r"InputError: column 'features' holds (null inside|\[1, nan, 2\])"
    ):
        model.transform(df).collect()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"featuresCol": "feature"}, "does not have: did you mean 'features'"),
        ({"featuresCol": "id"}, "featuresCol is 'id', a column of type bigint: give one of vec"),
        ({"predictionCol": "id"}, "column 'id' already exists: drop it, or set predictionCol"),
        ({"predictionCol": "x", "probabilityCol": "x"}, "column 'x' already exists"),
    ],
)
def test_a_wrong_column_is_told_before_any_job(
    model: GaussianMixtureModel, frame: Any, change: dict[str, str], message: str
) -> None:
    df = frame(ROWS, id=[1, 2, 3, 4])
    with pytest.raises(InputError, match=message):
        model.transform(df, {model.getParam(name): value for name, value in change.items()})


def test_a_length_that_a_stage_noted_is_told_before_any_job(
    model: GaussianMixtureModel, spark: SparkSession
) -> None:
    from pyspark.ml.feature import VectorAssembler

    df = VectorAssembler(inputCols=["id", "id"], outputCol="features").transform(spark.range(3))
    message = r"vectors of 2 value\(s\), the model has 3"
    with pytest.raises(InputError, match=message):
        model.transform(df)


def test_one_vector_of_another_length_is_refused(model: GaussianMixtureModel) -> None:
    with pytest.raises(InputError, match=r"shape \(2,\), the model 3 feature\(s\)"):
        model.predict(DenseVector([1.0, 2.0]))


def test_a_stream_is_scored_as_a_table_is(
    model: GaussianMixtureModel, spark: SparkSession, frame: Any, tmp_path: Path
) -> None:
    """The example of a stream: files that arrive in a folder, a folder that fills with scores."""
    arriving, scored = str(tmp_path / "in"), str(tmp_path / "out")
    table = frame(ROWS, partitions=2, id=[1, 2, 3, 4])
    table.write.parquet(arriving)
    stream = spark.readStream.schema(table.schema).parquet(arriving)
    out = model.transform(stream)
    assert out.isStreaming

    def run() -> None:
        query = (
            out.writeStream.format("parquet")
            .option("path", scored)
            .option("checkpointLocation", str(tmp_path / "checkpoint"))
            .trigger(availableNow=True)
            .start()
        )
        query.awaitTermination()

    run()
    found = spark.read.parquet(scored)
    assert found.orderBy("id").collect() == model.transform(table).orderBy("id").collect()
    table.withColumn("id", F.col("id") + 4).write.mode("append").parquet(arriving)
    run()  # takes up where it left
    assert sorted(row.id for row in spark.read.parquet(scored).collect()) == list(range(1, 9))


def test_vectors_with_nan_are_imputed_and_scored_by_what_they_have(spark: SparkSession) -> None:
    mixture = Mixture([0.6, 0.4], [[1, -1], [4, 3]], [[[1, 0.3], [0.3, 0.5]], [[0.7, 0], [0, 2]]])
    X = np.array([[0.5, np.nan], [np.nan, 3.0], [1.0, -1.0], [np.nan, np.nan]])
    df = spark.createDataFrame([(Vectors.dense(row),) for row in X.tolist()], ["features"])
    with pytest.raises(Exception, match="not finite numbers"):
        GaussianMixtureModel(mixture).transform(df).collect()
    model = GaussianMixtureModel(mixture)
    model._set(imputedCol="imputed", expectedCol="mean", expectedSdCol="sd", surpriseCol="strange")
    rows = model.setLogDensityCol("height").transform(df).collect()
    found = {name: np.array([row[name].toArray() for row in rows]) for name in ("imputed", "mean")}
    assert np.allclose(found["imputed"], mixture.impute(X), rtol=1e-12)
    means = np.hstack([mixture.expect(X, i)[0] for i in range(2)])
    assert np.allclose(found["mean"], means, rtol=1e-12)
    assert np.allclose(rows[1].height, mixture.marginal(1).log_density([[3.0]])[0], rtol=1e-12)
    assert np.isnan(rows[0].strange[1])
    assert np.isfinite(rows[0].strange[0])


def test_vectors_are_taken_by_the_names_that_their_assembler_noted(spark: SparkSession) -> None:
    mixture = Mixture(
        [0.6, 0.4], [[0, 50], [2, 80]], [[1, 1], [20, 30]], "diag", features=["size", "age"]
    )
    model = GaussianMixtureModel(mixture).setLogDensityCol("log_density")
    model.set(model.surpriseCol, "surprise")
    X = np.array([[0.5, 52.0], [2.5, 79.0], [1.0, 66.0]])
    df = spark.createDataFrame(X.tolist(), ["size", "age"]).withColumn("other", F.col("age") * 2)

    def scored(*names: str) -> DataFrame:
        return model.transform(VectorAssembler(inputCols=names, outputCol="features").transform(df))

    assert_scored(scored("size", "age"), mixture, X)
    turned = scored("age", "size")
    assert_scored(turned, mixture, X)
    surprise = np.array([row.surprise.toArray() for row in turned.collect()])
    np.testing.assert_allclose(surprise[:, ::-1], mixture.surprise(X), rtol=1e-10)
    with pytest.raises(InputError, match=r"holds 'other', 'age', .* fitted on 'size', 'age'"):
        scored("other", "age")
    unnamed = VectorAssembler(inputCols=["size", "age"], outputCol="features").transform(df)
    unnamed = unnamed.withMetadata("features", {})
    assert_scored(model.transform(unnamed), mixture, X)
