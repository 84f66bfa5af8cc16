"""Spark MLlib's mixture on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession

from sparkgmm.errors import FitError
from sparkgmm.spark.mllib import assemble, fit_mllib
from sparkgmm.spark.source import find_features, read

NAN, INF = float("nan"), float("inf")


def test_only_valid_rows_of_positive_weight_reach_mllib(spark: SparkSession) -> None:
    rows = [(1.0, 2.0, 1.0), (None, 2.0, 1.0), (NAN, 2.0, 1.0), (1.0, INF, 1.0), (3.0, 4.0, 0.0)]
    rows += [(1.0, 2.0, -1.0), (1.0, 2.0, None), (1.0, 2.0, NAN), (5.0, 6.0, 2.0)]
    df = spark.createDataFrame(rows, "x double, y double, w double")
    found = assemble(df, find_features(df, ["x", "y"], "w")).collect()
    assert [(tuple(row.features), row.weight) for row in found] == [
        ((1.0, 2.0), 1.0),
        ((5.0, 6.0), 2.0),
    ]


def test_vectors_of_another_length_do_not_reach_mllib(spark: SparkSession) -> None:
    rows = [(Vectors.dense(1, 2),), (Vectors.dense(1),), (None,), (Vectors.dense(NAN, 1),)]
    df = spark.createDataFrame(rows, ["v"]).coalesce(1)
    found = assemble(df, find_features(df, "v", None)).collect()
    assert [tuple(row.features) for row in found] == [(1.0, 2.0)]


def test_mllib_reaches_the_known_optimum_heaviest_component_first(
    spark: SparkSession, faithful_csv: str, faithful: np.ndarray
) -> None:
    df = read(spark, faithful_csv, options={"header": True})
    features = find_features(df, None, None)
    mixture, n_iter = fit_mllib(
        assemble(df, features).cache(), features.names, 2, tol=1e-8, max_iter=200, seed=0
    )
    assert mixture.log_likelihood(faithful) == pytest.approx(-1130.26396, abs=1e-3)
    np.testing.assert_allclose(mixture.weights, [0.644127, 0.355873], atol=1e-4)
    assert mixture.features == ("eruptions", "waiting")
    assert 1 < n_iter <= 200


def test_what_mllib_cannot_fit_is_a_fit_error_without_java(spark: SparkSession) -> None:
    df = spark.createDataFrame([(Vectors.dense(1.0, 1.0),)] * 4, ["features"]).coalesce(1)
    with pytest.raises(FitError, match="use engine em") as caught:
        fit_mllib(df, ("x", "y"), 2, tol=1e-3, max_iter=5, seed=0)
    assert "java." not in str(caught.value)
    assert "\tat " not in str(caught.value)
