"""The evaluator, and Spark's CrossValidator and TrainValidationSplit with it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import Pipeline
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.ml.tuning import (
    CrossValidator,
    CrossValidatorModel,
    ParamGridBuilder,
    TrainValidationSplit,
)
from pyspark.sql import SparkSession

from helpers.oracle import e_step
from sparkgmm import GaussianMixture, GaussianMixtureModel, Mixture, MixtureEvaluator
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array

pytestmark = [pytest.mark.spark, pytest.mark.long]


def test_the_metric_is_the_mean_log_density(
    model: GaussianMixtureModel, mixture: Mixture, frame: Any
) -> None:
    X, _ = mixture.sample(50, seed=4)
    evaluator = MixtureEvaluator(logDensityCol="log_density")
    assert evaluator.isLargerBetter()
    log_density = e_step(mixture, X).log_density
    assert evaluator.evaluate(model.transform(frame(X))) == pytest.approx(log_density.mean())
    weights = np.arange(50.0)
    scored = model.transform(frame(X, w=weights.tolist()))
    weighted = evaluator.evaluate(scored, {evaluator.weightCol: "w"})
    assert weighted == pytest.approx(np.average(log_density, weights=weights))


def test_a_row_that_the_model_rules_out_counts_unless_it_has_no_weight(
    spark: SparkSession,
) -> None:
    df = spark.createDataFrame([(-1.0, 1.0), (float("-inf"), 0.0)], "logDensity double, w double")
    assert MixtureEvaluator().evaluate(df) == float("-inf")
    assert MixtureEvaluator(weightCol="w").evaluate(df) == -1.0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "there are no rows to evaluate"),
        ([(-1.0, 0.0)], "none has a weight above 0"),
        ([(-1.0, 1.0), (None, 1.0)], "1 rows have no log density"),
        ([(-1.0, None)], "a weight that is null, NaN or negative"),
        ([(-1.0, -2.0)], "a weight that is null, NaN or negative"),
        ([(-1.0, float("nan"))], "a weight that is null, NaN or negative"),
    ],
)
def test_what_cannot_be_evaluated_is_told(
    spark: SparkSession, rows: list[Any], message: str
) -> None:
    df = spark.createDataFrame(rows, "logDensity double, w double")
    with pytest.raises(InputError, match=message):
        MixtureEvaluator(weightCol="w").evaluate(df)


def test_the_defaults_of_estimator_and_evaluator_meet(spark: SparkSession, three: Array) -> None:
    rows = [(Vectors.dense(row),) for row in three.tolist()]
    df = spark.createDataFrame(rows, ["v"])
    model = GaussianMixture(k=3, nInit=2, featuresCol="v").fit(df)
    scored = model.transform(df)
    assert scored.columns == ["v", "probability", "prediction"]
    mean = model.mixture.log_density(three).mean()
    assert MixtureEvaluator().evaluate(scored) == pytest.approx(mean, rel=1e-12)
    del model
    gc.collect()  # what scored the rows is gone: the error says what to set
    with pytest.raises(InputError, match="set logDensityCol of the GaussianMixture"):
        MixtureEvaluator().evaluate(scored)


def test_a_missing_column_comes_with_the_remedy(spark: SparkSession) -> None:
    message = "no column 'logDensity' of log densities: set logDensityCol of the GaussianMixture"
    with pytest.raises(InputError, match=message):
        MixtureEvaluator().evaluate(spark.range(3))


@pytest.mark.filterwarnings("ignore:.* components found no rows of their own")
def test_cross_validation_finds_the_number_of_clusters(
    frame: Any, three: Array, quick: Any, tmp_path: Path
) -> None:
    gm = quick(logDensityCol="logDensity", covarianceType="spherical")
    grid = ParamGridBuilder().addGrid(gm.k, [1, 2, 3, 5]).build()
    validator = CrossValidator(
        estimator=gm,
        estimatorParamMaps=grid,
        evaluator=MixtureEvaluator(),
        numFolds=2,
        parallelism=2,
        seed=1,
    )
    found = validator.fit(frame(three))
    assert found.bestModel.getK() == 3
    assert found.bestModel.summary.k == 3
    assert int(np.argmax(found.avgMetrics)) == 2

    found.write().overwrite().save(str(tmp_path / "cv"))
    loaded = CrossValidatorModel.load(str(tmp_path / "cv"))
    assert loaded.bestModel.mixture == found.bestModel.mixture
    assert loaded.getEvaluator().uid == found.getEvaluator().uid
    assert [m[gm.k] for m in loaded.getEstimatorParamMaps()] == [1, 2, 3, 5]


def test_a_split_chooses_inside_a_pipeline(spark: SparkSession, three: Array) -> None:
    df = spark.createDataFrame([tuple(row) for row in three.tolist()], "x double, y double")
    gm = GaussianMixture(nInit=2)
    assembler = VectorAssembler(inputCols=["x", "y"], outputCol="features")
    split = TrainValidationSplit(
        estimator=Pipeline(stages=[assembler, gm]),
        estimatorParamMaps=ParamGridBuilder().addGrid(gm.k, [1, 3]).build(),
        evaluator=MixtureEvaluator(),
        trainRatio=0.6,
        seed=3,
    )
    assert split.fit(df).bestModel.stages[1].getK() == 3
