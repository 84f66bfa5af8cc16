"""Spark MLlib's GaussianMixture and k-means on the same input."""

from __future__ import annotations

import numpy as np
from pyspark.ml.clustering import GaussianMixture, KMeans
from pyspark.ml.feature import StandardScaler
from pyspark.ml.functions import array_to_vector
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkgmm.errors import FitError, InputError
from sparkgmm.mixture import Array, Mixture
from sparkgmm.spark.file_systems import first_line
from sparkgmm.spark.source import Features


def assemble(df: DataFrame, features: Features) -> DataFrame:
    """Return the valid rows of positive weight as vectors `features` and, if any, `weight`."""
    projected = features.project(df)
    d = len(features.names)
    if features.vector is None:
        array = F.array(*(F.col(f"f{i}").cast("double") for i in range(d)))
    else:
        array = F.col("f0").cast("array<double>")

    def finite(value: Column) -> Column:
        return value.isNotNull() & ~F.isnan(value) & (F.abs(value) != float("inf"))

    rows = projected.withColumn("f", array)
    rows = rows.where((F.size("f") == d) & F.forall("f", finite))
    selected = [array_to_vector(F.col("f")).alias("features")]
    if features.weight is not None:
        rows = rows.where(finite(F.col("weight")) & (F.col("weight") > 0))
        selected.append(F.col("weight"))
    return rows.select(selected)


def fit_mllib(
    vectors: DataFrame, names: tuple[str, ...], k: int, tol: float, max_iter: int, seed: int
) -> tuple[Mixture, int]:
    """Fit the rows of `assemble` once; return the mixture and the iterations that MLlib took.

    Its `tol` is the change of the total log-likelihood between two iterations. Its start is
    random: `seed` chooses it.

    Raises
    ------
    FitError
        If MLlib fails, or returns what is no mixture (a covariance that is not positive definite).

    """
    estimator = GaussianMixture(k=k, tol=tol, maxIter=max_iter, seed=seed)
    if "weight" in vectors.columns:
        estimator = estimator.setWeightCol("weight")
    try:
        model = estimator.fit(vectors)
    except Exception as error:
        raise FitError(
            f"MLlib could not fit k = {k} components ({first_line(error)}): use engine em, or "
            "another seed"
        ) from error
    weights = np.array(model.weights)
    means = np.array([g.mean.toArray() for g in model.gaussians])
    covariances = np.array([g.cov.toArray() for g in model.gaussians])
    order = np.lexsort((*means.T[::-1], -weights))
    try:
        mixture = Mixture(weights[order], means[order], covariances[order], "full", names)
    except InputError as error:
        raise FitError(
            f"MLlib returned what is no mixture ({error}): use engine em, or rescale the data"
        ) from error
    return mixture, int(model.summary.numIter)


def fit_kmeans(vectors: DataFrame, k: int, max_iter: int, seed: int) -> tuple[Array, Array, int]:
    """Run Spark's k-means over the rows of `assemble`, each feature divided by its deviation.

    Return the centres (k, d) in those units, the deviations (d,), and the iterations.

    Raises
    ------
    FitError
        If it fails.

    """
    scaler = StandardScaler(inputCol="features", outputCol="scaled", withStd=True)
    estimator = KMeans(k=k, maxIter=max_iter, tol=1e-8, seed=seed, featuresCol="scaled")
    if "weight" in vectors.columns:
        estimator = estimator.setWeightCol("weight")
    try:
        scaled = scaler.fit(vectors)
        model = estimator.fit(scaled.transform(vectors))
    except Exception as error:
        raise FitError(f"k-means could not find {k} clusters ({first_line(error)})") from error
    return np.array(model.clusterCenters()), scaled.std.toArray(), int(model.summary.numIter)
