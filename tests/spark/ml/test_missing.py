"""The estimator and its model over vectors and arrays that hold NaN or null."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import SparkSession

from helpers.data_sets import clusters
from sparkgmm import GaussianMixture, GaussianMixtureModel, fit_array
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def gappy() -> Array:
    rng = np.random.default_rng(0)
    X, _ = clusters(rng, 2, 2, 200, 6.0)
    X[rng.random(X.shape) < 0.2] = np.nan
    return X


def scalars(spark: SparkSession, X: Array) -> Any:
    rows = [[None if np.isnan(v) else float(v) for v in row] for row in X]
    return spark.createDataFrame(rows, "x double, y double").coalesce(1)


def test_null_scalars_through_an_assembler_are_missing_values(
    spark: SparkSession, gappy: Array, tmp_path: Path
) -> None:
    assembler = VectorAssembler(inputCols=["x", "y"], outputCol="features", handleInvalid="keep")
    df = assembler.transform(scalars(spark, gappy))
    estimator = GaussianMixture(k=2, nInit=2, missing="model", logDensityCol="density")
    assert estimator.getMissing() == "model"
    model = estimator.fit(df)
    expected = fit_array(gappy, 2, n_init=2, missing="model")
    np.testing.assert_allclose(model.mixture.means, expected.mixture.means, atol=1e-9)
    assert model.summary.logLikelihood == pytest.approx(expected.log_likelihood)
    model.write().overwrite().save(str(tmp_path / "model"))
    again = GaussianMixtureModel.load(str(tmp_path / "model"))
    for one in (model, again):
        rows = one.transform(df).toPandas()
        np.testing.assert_allclose(rows["density"], model.mixture.log_density(gappy), atol=1e-9)
        np.testing.assert_array_equal(rows["prediction"], model.mixture.predict(gappy))


def test_arrays_may_hold_null_and_be_null(spark: SparkSession, gappy: Array) -> None:
    rows: list[Any] = [([None if np.isnan(v) else float(v) for v in row],) for row in gappy]
    rows.append((None,))
    df = spark.createDataFrame(rows, "features array<double>").coalesce(1)
    cheap = GaussianMixture(k=2, initMode="k-means++", missing="model", logDensityCol="density")
    model = cheap.fit(df)
    scored = model.transform(df).toPandas()
    np.testing.assert_allclose(scored["density"][:-1], model.mixture.log_density(gappy), atol=1e-9)
    assert scored["density"].iloc[-1] == pytest.approx(0, abs=1e-12)
    with pytest.raises(InputError, match=r"NaN|null"):
        GaussianMixture(k=2).fit(df)
