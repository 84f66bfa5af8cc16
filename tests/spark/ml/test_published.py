"""The cases that Spark publishes for its GaussianMixture, against ours.

The data and the parameters expected are those of GaussianMixtureSuite.scala in Apache Spark (its
expectations come from R: mixtools for the plane). Cases that rest on its random start, or on
clusters of equal rows, where the likelihood has no maximum, are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import SparseVector, Vectors
from pyspark.sql import functions as F

from helpers.oracle import e_step
from sparkgmm import GaussianMixture, GaussianMixtureModel
from sparkgmm.mixture import Array

pytestmark = pytest.mark.spark

# fmt: off
LINE = np.array([
    -5.1971, -2.5359, -3.8220, -5.2211, -5.0602, 4.7118, 6.8989, 3.4592, 4.6322, 5.7048, 4.6567,
    5.5026, 4.5605, 5.2043, 6.2734,
])[:, None]
PLANE = np.array([
    [-0.6264538, 0.1836433], [-0.8356286, 1.5952808], [0.3295078, -0.8204684],
    [0.4874291, 0.7383247], [0.5757814, -0.3053884], [1.5117812, 0.3898432],
    [-0.6212406, -2.2146999], [11.1249309, 9.9550664], [9.9838097, 10.9438362],
    [10.8212212, 10.5939013], [10.9189774, 10.7821363], [10.0745650, 8.0106483],
    [10.6198257, 9.9438713], [9.8442045, 8.5292476], [9.5218499, 10.4179416],
])
# fmt: on


def cheap(**params: Any) -> GaussianMixture:
    """Return an estimator of two components, for what is not about its starts."""
    return GaussianMixture(k=2, initMode="k-means++", **params)


def assert_model(
    model: GaussianMixtureModel, weights: Any, means: Any, covariances: Any, tolerance: float
) -> None:
    """Compare as Spark's suite does, to its tolerance; ours has the heaviest component first."""
    np.testing.assert_allclose(model.weights, weights, rtol=0, atol=tolerance)
    found = [g.mean.toArray() for g in model.gaussians]
    np.testing.assert_allclose(found, means, rtol=0, atol=tolerance)
    found = [g.cov.toArray() for g in model.gaussians]
    np.testing.assert_allclose(found, covariances, rtol=0, atol=tolerance)


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
def test_two_clusters_on_a_line(frame: Any, sparse: bool) -> None:
    X = [SparseVector(1, [0], x) for x in LINE] if sparse else LINE
    model = GaussianMixture(k=2, seed=538009335).fit(frame(X))
    assert_model(
        model, [2 / 3, 1 / 3], [[5.1604], [-4.3673]], [[[0.86644]], [[1.1098]]], tolerance=1e-3
    )


def test_two_clusters_in_the_plane_as_mixtools_finds_them(frame: Any) -> None:
    model = GaussianMixture(k=2, seed=538009335).fit(frame(PLANE))
    assert_model(
        model,
        [0.5333333, 0.4666667],
        [[10.363673, 9.897081], [0.11731091, -0.06192351]],
        [
            [[0.2961543, 0.160783], [0.160783, 1.008878]],
            [[0.62049934, 0.06880802], [0.06880802, 1.27431874]],
        ],
        tolerance=1e-3,
    )
    assert model.summary.logLikelihood == pytest.approx(-46.89499, abs=1e-5)


def test_equal_weights_change_nothing(frame: Any) -> None:
    df = frame(PLANE)
    plain = GaussianMixture(k=2, nInit=3).fit(df)
    for weight in (1.0, 10.0, 100.0):
        gm = GaussianMixture(k=2, nInit=3, weightCol="w")
        weighted = gm.fit(df.withColumn("w", F.lit(weight)))
        mixture = plain.mixture
        assert_model(weighted, mixture.weights, mixture.means, mixture.covariances, 1e-6)
        assert weighted.summary.logLikelihood == pytest.approx(
            weight * plain.summary.logLikelihood, rel=1e-9
        )


def test_a_row_of_weight_three_is_three_rows(frame: Any) -> None:
    times = np.arange(len(PLANE)) % 3
    heavy = cheap(weightCol="w").fit(frame(PLANE, w=times.tolist()))
    many = cheap().fit(frame(np.repeat(PLANE, times, axis=0)))
    mixture = many.mixture
    assert_model(heavy, mixture.weights, mixture.means, mixture.covariances, 1e-6)
    assert heavy.summary.logLikelihood == pytest.approx(many.summary.logLikelihood, abs=1e-6)


@pytest.mark.parametrize("kind", ["array<double>", "array<float>"])
def test_arrays_are_as_good_as_vectors(spark: Any, frame: Any, kind: str) -> None:
    single = PLANE.astype(np.float32).astype(np.float64)  # what an array of floats can hold
    expected = cheap().fit(frame(single))
    arrays = spark.createDataFrame([(row.tolist(),) for row in single], "features array<double>")
    arrays = arrays.select(F.col("features").cast(kind))
    model = cheap().fit(arrays)
    assert model.summary.logLikelihood == pytest.approx(expected.summary.logLikelihood, abs=1e-6)
    rows = model.transform(arrays).select("probability").collect()
    R = np.array([row.probability.toArray() for row in rows])
    np.testing.assert_allclose(R, e_step(model.mixture, single).responsibilities, atol=1e-12)


def test_fit_transform_and_summary(frame: Any) -> None:
    df = frame(PLANE)
    gm = cheap(maxIter=3, predictionCol="gm_p", probabilityCol="gm_q")
    model = gm.fit(df)
    assert model.uid == gm.uid
    assert (len(model.weights), len(model.gaussians), model.numFeatures) == (2, 2, 2)
    for row in model.transform(df).collect():
        q: Array = row.gm_q.toArray()
        assert row.gm_p == q.argmax()
        assert q.sum() == pytest.approx(1, abs=1e-12)

    summary = model.summary
    assert model.hasSummary
    assert (summary.featuresCol, summary.predictionCol, summary.probabilityCol) == (
        "features",
        "gm_p",
        "gm_q",
    )
    assert summary.predictions.columns == ["features", "gm_q", "gm_p"]
    assert summary.predictions.count() == len(PLANE)
    assert summary.cluster.columns == ["gm_p"]
    assert summary.probability.columns == ["gm_q"]
    assert summary.clusterSizes == [8, 7]
    assert (summary.k, summary.numIter) == (2, len(summary.logLikelihoods))
    assert summary.logLikelihoods[-1] == summary.logLikelihood
    assert summary.bic == pytest.approx(-2 * summary.logLikelihood + 11 * np.log(15))
    assert model.copy().hasSummary


def test_the_log_likelihood_is_that_of_the_models_very_parameters(frame: Any) -> None:
    model = cheap(maxIter=2).fit(frame(PLANE))
    expected = e_step(model.mixture, PLANE).log_density.sum()
    assert model.summary.logLikelihood == pytest.approx(expected, rel=1e-12)


def test_one_vector_is_predicted_as_its_row_is(frame: Any) -> None:
    model = cheap().fit(frame(PLANE))
    for row in model.transform(frame(PLANE)).collect():
        assert model.predict(row.features) == row.prediction
        np.testing.assert_allclose(model.predictProbability(row.features), row.probability)
    assert model.predict(Vectors.sparse(2, [0], [10.0])) == model.predict([10.0, 0.0])


def test_aggregation_depth_has_no_effect(frame: Any) -> None:
    df = frame(PLANE)
    models = [cheap(aggregationDepth=depth).fit(df) for depth in (2, 5)]
    assert models[0].mixture == models[1].mixture


def test_columns_carry_what_other_stages_want_to_know(frame: Any) -> None:
    model = cheap().fit(frame(PLANE))
    ours = model.transform(frame(PLANE)).schema
    scored_by = {"sparkgmm": {"model": model._key, "featuresCol": "features"}}
    of_labels = {"ml_attr": {"type": "nominal", "num_vals": 2}}
    assert ours["prediction"].metadata == of_labels | scored_by
    assert ours["probability"].metadata == {"ml_attr": {"num_attrs": 2}} | scored_by


def test_the_gaussians_as_a_table_are_those_of_spark(frame: Any) -> None:
    model = cheap().fit(frame(PLANE))
    rows = model.gaussiansDF.collect()
    for row, gaussian in zip(rows, model.gaussians, strict=True):
        assert row.mean.asML() == gaussian.mean
        assert row.cov.asML() == gaussian.cov


# pyspark.ml.clustering.GaussianMixture's docstring
SIX = [[-0.1, -0.05], [-0.01, -0.1], [0.9, 0.8], [0.75, 0.935], [-0.83, -0.68], [-0.91, -0.76]]
# data/mllib/sample_kmeans_data.txt, of examples/src/main/python/ml/gaussian_mixture_example.py
KMEANS_DATA = [[x] * 3 for x in (0.0, 0.1, 0.2, 9.0, 9.1, 9.2)]


def test_the_example_in_pysparks_docstring_finds_its_three_pairs_and_warns(frame: Any) -> None:
    df = frame(SIX).coalesce(1)
    with pytest.warns(UserWarning, match="too few to distinguish 3 clusters"):
        model = GaussianMixture(k=3, tol=0.0001, seed=10, maxIter=30).fit(df)
    assert (len(model.weights), model.summary.k) == (3, 3)
    np.testing.assert_allclose(model.weights, [1 / 3] * 3, atol=1e-6)
    assert model.summary.clusterSizes == [2, 2, 2]
    found = [row.prediction for row in model.transform(df).collect()]
    assert [found[0], found[2], found[4]] == [found[1], found[3], found[5]]
    assert len({found[0], found[2], found[4]}) == 3
    assert np.isfinite(model.summary.logLikelihood)


def test_pysparks_example_program_finds_its_two_triples_and_warns(frame: Any) -> None:
    df = frame(KMEANS_DATA)
    with pytest.warns(UserWarning, match="too few to distinguish 2 clusters"):
        model = GaussianMixture().setK(2).setSeed(538009335).fit(df)
    means = sorted(float(g.mean[0]) for g in model.gaussians)
    np.testing.assert_allclose(means, [0.1, 9.1], atol=1e-6)
    assert model.summary.clusterSizes == [3, 3]


def test_six_weighted_rows_under_two_components_give_two(frame: Any) -> None:
    """The rows of pyspark's own tests of weightCol: two values, however heavy, have no width."""
    df = frame(SIX, w=[1.0, 2.0, 3.0, 1.0, 1.0, 1.0])
    with pytest.warns(UserWarning, match="too few to distinguish 2 clusters"):
        model = GaussianMixture(k=2, maxIter=2, weightCol="w", seed=1).fit(df)
    assert len(model.weights) == 2
    assert sum(model.weights) == pytest.approx(1)
    assert np.isfinite(model.summary.logLikelihood)
