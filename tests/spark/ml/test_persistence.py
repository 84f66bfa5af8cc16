"""Save and load, alone and inside pipelines, and the form of what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.ml import Pipeline, PipelineModel
from pyspark.ml.feature import StandardScaler, VectorAssembler
from pyspark.ml.util import DefaultParamsReader
from pyspark.sql import SparkSession

from sparkgmm import GaussianMixture, GaussianMixtureModel, MixtureEvaluator
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array

pytestmark = pytest.mark.spark

PARAMS: dict[str, Any] = {
    "k": 3,
    "maxIter": 9,
    "tol": 1e-4,
    "predictionCol": "myPrediction",
    "covarianceType": "diag",
    "weightCol": "w",
    "seed": -5,
}


@pytest.fixture(scope="module")
def fitted(spark: SparkSession) -> GaussianMixtureModel:
    rows = [(float(i % 7), float(i % 5 + i % 3)) for i in range(90)]
    df = spark.createDataFrame(rows, "x double, y double")
    assembled = VectorAssembler(inputCols=["x", "y"], outputCol="features").transform(df)
    return GaussianMixture(k=2, nInit=2, logDensityCol="ld").fit(assembled)


def metadata(path: Path) -> dict[str, Any]:
    [file] = (path / "metadata").glob("part-*")
    [line] = file.read_text().splitlines()
    return json.loads(line)


def test_an_estimator_comes_back_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    gm = GaussianMixture(**PARAMS)
    gm.save(str(tmp_path / "gm"))
    loaded = GaussianMixture.load(str(tmp_path / "gm"))
    assert loaded.uid == gm.uid
    assert loaded.extractParamMap() == gm.extractParamMap()
    assert {p.name for p in loaded._paramMap} == set(PARAMS)


def test_an_evaluator_comes_back_as_it_was(spark: SparkSession, tmp_path: Path) -> None:
    evaluator = MixtureEvaluator(logDensityCol="ld", weightCol="w")
    evaluator.write().save(str(tmp_path / "e"))
    loaded = MixtureEvaluator.read().load(str(tmp_path / "e"))
    assert loaded.extractParamMap() == evaluator.extractParamMap()


def test_a_model_comes_back_to_the_last_bit_but_without_its_summary(
    fitted: GaussianMixtureModel, tmp_path: Path
) -> None:
    path = str(tmp_path / "model")
    fitted.write().save(path)
    loaded = GaussianMixtureModel.load(path)
    assert loaded.mixture == fitted.mixture
    assert loaded.mixture.features == ("x", "y")
    assert loaded.uid == fitted.uid
    assert loaded.extractParamMap() == fitted.extractParamMap()
    assert fitted.hasSummary
    assert not loaded.hasSummary
    with pytest.raises(RuntimeError, match="No training summary available"):
        _ = loaded.summary


def test_what_is_written_is_metadata_as_sparks_own_and_a_row_a_component(
    fitted: GaussianMixtureModel, spark: SparkSession, tmp_path: Path
) -> None:
    fitted.save(str(tmp_path / "m"))
    written = metadata(tmp_path / "m")
    assert written["class"] == "sparkgmm.GaussianMixtureModel"
    assert written["sparkVersion"] == spark.version
    assert written["uid"] == fitted.uid
    assert written["paramMap"] == {
        "k": 2,
        "covarianceType": "full",
        "nInit": 2,
        "logDensityCol": "ld",
    }
    assert written["defaultParamMap"]["maxIter"] == 200
    assert isinstance(written["timestamp"], int)
    read = DefaultParamsReader.loadMetadata(str(tmp_path / "m"), spark.sparkContext)
    assert read == written
    data = spark.read.parquet(str(tmp_path / "m" / "data"))
    assert data.schema.simpleString() == (
        "struct<component:int,weight:double,mean:array<double>,covariance:array<array<double>>>"
    )
    assert [row.component for row in data.orderBy("component").collect()] == [0, 1]


def test_nothing_is_overwritten_unless_told_to(
    fitted: GaussianMixtureModel, spark: SparkSession, tmp_path: Path
) -> None:
    path = str(tmp_path / "m")
    fitted.save(path)
    with pytest.raises(InputError, match=r"already exists: give another path, or write\(\)"):
        fitted.save(path)
    other = fitted.copy({fitted.predictionCol: "p"})
    other.write().overwrite().session(spark).save(path)
    assert GaussianMixtureModel.load(path).getPredictionCol() == "p"
    with pytest.raises(InputError, match="already exists"):
        GaussianMixture().save(path)


def test_loading_what_is_not_there_or_something_else_is_told(
    fitted: GaussianMixtureModel, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has no folder metadata: give a path that"):
        GaussianMixtureModel.load(str(tmp_path / "nowhere"))
    path = str(tmp_path / "m")
    fitted.save(path)
    message = "holds a sparkgmm.GaussianMixtureModel, not a sparkgmm.GaussianMixture: load it with"
    with pytest.raises(InputError, match=message):
        GaussianMixture.load(path)
    with pytest.raises(TypeError, match="give a string"):
        fitted.save(tmp_path)  # type: ignore[arg-type]


def rewrite(path: Path, change: dict[str, Any]) -> None:
    [file] = (path / "metadata").glob("part-*")
    for crc in (path / "metadata").glob(".*.crc"):
        crc.unlink()
    file.write_text(json.dumps(metadata(path) | change) + "\n")


def test_what_a_later_version_saved_is_told(fitted: GaussianMixtureModel, tmp_path: Path) -> None:
    fitted.save(str(tmp_path / "a"))
    rewrite(tmp_path / "a", {"formatVersion": 99})
    with pytest.raises(InputError, match="formatVersion 99, this sparkgmm reads 1 to 2: update"):
        GaussianMixtureModel.load(str(tmp_path / "a"))
    GaussianMixture().save(str(tmp_path / "b"))
    rewrite(tmp_path / "b", {"paramMap": {"novel": 1}})
    with pytest.raises(InputError, match="with param novel, which this one does not have"):
        GaussianMixture.load(str(tmp_path / "b"))
    rewrite(tmp_path / "b", {"paramMap": {}, "defaultParamMap": {"novel": 1}})
    assert GaussianMixture.load(str(tmp_path / "b")).getK() == 2


def test_a_file_that_is_no_metadata_is_told(tmp_path: Path, spark: SparkSession) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "part-00000").write_text("not json\n")
    with pytest.raises(InputError, match="no metadata of Spark ML's in it"):
        GaussianMixture.load(str(tmp_path))


def test_a_pipeline_and_its_model_are_saved_and_loaded(
    spark: SparkSession, three: Array, tmp_path: Path
) -> None:
    df = spark.createDataFrame([tuple(row) for row in three.tolist()], "x double, y double")
    stages = [
        VectorAssembler(inputCols=["x", "y"], outputCol="assembled"),
        StandardScaler(inputCol="assembled", outputCol="features"),
        GaussianMixture(k=3, nInit=2),
    ]
    pipeline = Pipeline(stages=stages)
    pipeline.save(str(tmp_path / "pipeline"))
    again = Pipeline.load(str(tmp_path / "pipeline"))
    assert isinstance(again.getStages()[2], GaussianMixture)
    model = again.fit(df)
    model.write().overwrite().save(str(tmp_path / "model"))
    loaded = PipelineModel.load(str(tmp_path / "model"))
    assert isinstance(loaded.stages[2], GaussianMixtureModel)
    assert loaded.transform(df).collect() == model.transform(df).collect()
    sizes = loaded.transform(df).groupBy("prediction").count().collect()
    assert sorted(row["count"] for row in sizes) == [40, 40, 40]
