"""What one Spark saved another loads: `save_models.py` wrote the folders on each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml import PipelineModel
from pyspark.sql import SparkSession

from sparkgmm import GaussianMixture, GaussianMixtureModel, Mixture

pytestmark = pytest.mark.spark

MODELS = Path(__file__).resolve().parents[2] / "data" / "models"
VERSIONS = ["3.5", "4.3"]


@pytest.fixture(params=VERSIONS)
def saved(request: pytest.FixtureRequest) -> Path:
    return MODELS / str(request.param)


@pytest.fixture
def expected(saved: Path) -> Mixture:
    return Mixture.from_json((saved / "expected.json").read_text())


def test_both_sparks_found_the_same_model() -> None:
    first, second = ((MODELS / version / "expected.json").read_text() for version in VERSIONS)
    one, other = Mixture.from_json(first), Mixture.from_json(second)
    np.testing.assert_allclose(one.means, other.means, rtol=1e-9)


def test_a_model_saved_by_either_spark_loads_to_the_bit(
    spark: SparkSession, saved: Path, expected: Mixture
) -> None:
    model = GaussianMixtureModel.load(str(saved / "model"))
    assert model.mixture == expected
    assert model.getLogDensityCol() == "height"
    assert not model.hasSummary


def test_an_estimator_saved_by_either_spark_keeps_its_params(
    spark: SparkSession, saved: Path
) -> None:
    estimator = GaussianMixture.load(str(saved / "estimator"))
    assert (estimator.getK(), estimator.getCovarianceType(), estimator.getSeed()) == (3, "tied", 1)


def test_a_pipeline_saved_by_either_spark_scores_as_its_mixture_does(
    spark: SparkSession, saved: Path, expected: Mixture, faithful: Any
) -> None:
    df = spark.createDataFrame(faithful.tolist(), "eruptions double, waiting double")
    rows = PipelineModel.load(str(saved / "pipeline")).transform(df).collect()
    np.testing.assert_array_equal([row.prediction for row in rows], expected.predict(faithful))
    np.testing.assert_allclose(
        [row.height for row in rows], expected.log_density(faithful), rtol=1e-12
    )
