"""Spark MLlib's mixture on the same rows."""

from __future__ import annotations

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession

from sparkgmm.errors import FitError
from sparkgmm.spark.mllib import assemble, fit_kmeans, fit_mllib
from sparkgmm.spark.source import find_features, read

pytestmark = pytest.mark.spark

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


def vectors_of(spark: SparkSession, X: np.ndarray, w: np.ndarray | None = None) -> DataFrame:
    rows = [(Vectors.dense(row), *([] if w is None else [float(w[i])])) for i, row in enumerate(X)]
    return spark.createDataFrame(rows, ["features", "weight"][: 1 if w is None else 2]).coalesce(1)


@pytest.fixture(scope="module")
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """Four clusters in units so unlike that, without scaling, one feature alone would count."""
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    Z = rng.normal(size=(400, 2)) + 12.0 * np.stack([labels // 2, labels % 2], axis=1)
    return Z * [1.0, 1e6] + [0.0, 1e9], labels


def nearest(centres: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return the centres in the order of those expected; each stands for one of them."""
    unit = [1.0, 1e6]
    distances = (((centres[:, None] - expected) / unit) ** 2).sum(axis=2)
    order = distances.argmin(axis=0)
    assert sorted(order) == list(range(len(expected)))
    return centres[order]


@pytest.mark.parametrize("weighted", [False, True])
def test_k_means_finds_the_weighted_clusters_whatever_the_units(
    spark: SparkSession, blobs: tuple[np.ndarray, np.ndarray], weighted: bool
) -> None:
    X, labels = blobs
    w = 1.0 + np.arange(400) % 5
    vectors = vectors_of(spark, X, w if weighted else None)
    centres, scale, n_iter = fit_kmeans(vectors, 4, max_iter=50, seed=1)
    np.testing.assert_allclose(scale, X.std(axis=0, ddof=1), rtol=1e-9)
    assert 1 <= n_iter <= 50
    shares = w if weighted else np.ones(400)
    expected = np.array(
        [np.average(X[labels == j], axis=0, weights=shares[labels == j]) for j in range(4)]
    )
    np.testing.assert_allclose(nearest(centres * scale, expected), expected, rtol=1e-6, atol=1e-6)


def test_k_means_of_one_seed_is_the_same_again(
    spark: SparkSession, blobs: tuple[np.ndarray, np.ndarray]
) -> None:
    vectors = vectors_of(spark, blobs[0])
    first, second = (fit_kmeans(vectors, 4, max_iter=20, seed=3)[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_what_k_means_cannot_do_is_a_fit_error_without_java(spark: SparkSession) -> None:
    broken = spark.createDataFrame([(Vectors.dense(NAN, 1.0),)] * 4, ["features"]).coalesce(1)
    ragged = spark.createDataFrame(
        [(Vectors.dense(1.0, 1.0),), (Vectors.dense(1.0),)], ["features"]
    ).coalesce(1)
    for vectors in (broken, ragged):
        with pytest.raises(FitError, match="k-means could not find 2 clusters") as caught:
            fit_kmeans(vectors, 2, max_iter=5, seed=0)
        assert "\tat " not in str(caught.value)
