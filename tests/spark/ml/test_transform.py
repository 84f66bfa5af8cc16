"""The model on DataFrames: right values, every kind of column, streams, and clear errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import DenseVector, SparseVector, Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DoubleType, IntegerType

from oracle import e_step
from sparkgmm import GaussianMixtureModel, Mixture
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.scikit import mixture_to_sklearn
from sparkgmm.spark.ml import udf

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


def test_other_columns_stay_as_they_are(
    model: GaussianMixtureModel, spark: SparkSession, frame: Any
) -> None:
    df = frame(ROWS, **{"a.b": list("wxyz"), "when": [None, 1, 2, 3]})
    out = model.transform(df)
    assert out.columns[:3] == df.columns
    assert out.select("`a.b`", "when").collect() == df.select("`a.b`", "when").collect()


def test_a_features_column_may_have_any_name(
    model: GaussianMixtureModel, mixture: Mixture, frame: Any
) -> None:
    df = frame(ROWS).withColumnRenamed("features", "my.feature`s")
    assert_scored(model.copy({model.featuresCol: "my.feature`s"}).transform(df), mixture)


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
