"""What the tests of the estimator share: DataFrames of vectors, and an estimator that is quick."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from helpers.data_sets import clusters
from sparkgmm import GaussianMixture, GaussianMixtureModel, Mixture
from sparkgmm.mixture import Array

Frame = Callable[..., DataFrame]


@pytest.fixture
def frame(spark: SparkSession) -> Frame:
    """A function that makes a DataFrame of a vector a row, and of other columns."""

    def make(X: Array | Sequence[Any], partitions: int = 2, **others: Sequence[Any]) -> DataFrame:
        vectors = [v if v is None or hasattr(v, "toArray") else Vectors.dense(v) for v in X]
        rows = list(zip(vectors, *others.values(), strict=True))
        return spark.createDataFrame(rows, ["features", *others]).coalesce(partitions)

    return make


@pytest.fixture(scope="session")
def three() -> Array:
    """Three round clusters in the plane, 120 rows, well apart."""
    return clusters(np.random.default_rng(5), 3, 2, 120, 12.0)[0]


@pytest.fixture(scope="session")
def mixture() -> Mixture:
    """Two overlapping components in three dimensions."""
    rng = np.random.default_rng(2)
    A = rng.standard_normal((2, 3, 3))
    covariances = A @ A.transpose(0, 2, 1) + np.eye(3)
    return Mixture([0.7, 0.3], [[0.0, 1.0, 2.0], [2.0, 0.0, 1.0]], covariances)


@pytest.fixture
def model(mixture: Mixture) -> GaussianMixtureModel:
    return GaussianMixtureModel(mixture).setLogDensityCol("log_density")


@pytest.fixture
def quick() -> Callable[..., GaussianMixture]:
    """A function that returns an estimator of few starts."""
    return lambda **params: GaussianMixture(initMode="k-means++", nInit=2).setParams(**params)
