"""Mixtures that travel: to Spark's own model and scikit-learn's, and back, by their own words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from pyspark.ml.clustering import GaussianMixture as SparksEstimator
from pyspark.ml.clustering import GaussianMixtureModel as SparksModel
from pyspark.ml.clustering import KMeans
from pyspark.sql import SparkSession
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as SklearnMixture

from helpers.data_sets import TEXTBOOK, iris, random_mixture
from sparkgmm import (
    GaussianMixtureModel,
    Mixture,
    mixture_from_sklearn,
    mixture_to_sklearn,
)
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES, Array
from sparkgmm.spark.components import DENSE_UP_TO
from sparkgmm.spark.ml.export import export

pytestmark = pytest.mark.spark


def probabilities(df: Any) -> Array:
    return np.array([row.probability.toArray() for row in df.select("probability").collect()])


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_spark_loads_what_is_exported_and_predicts_the_same(
    frame: Any, tmp_path: Path, kind: str
) -> None:
    mixture = random_mixture(np.random.default_rng(3), 3, 2, kind)
    ours = GaussianMixtureModel(mixture).setFeaturesCol("f").setProbabilityCol("probability")
    ours.toSpark(str(tmp_path / "m"))
    theirs = SparksModel.load(str(tmp_path / "m"))
    assert (theirs.uid, theirs.getFeaturesCol(), theirs.getK()) == (ours.uid, "f", 3)
    assert theirs.getMaxIter() == 100  # a default of Spark's, not of ours
    assert theirs.weights == ours.weights
    for a, b in zip(theirs.gaussians, ours.gaussians, strict=True):
        assert a.mean == b.mean
        assert a.cov == b.cov
    X, _ = mixture.sample(60, seed=1)
    df = frame(X).withColumnRenamed("features", "f")
    a, b = theirs.transform(df), ours.transform(df)
    np.testing.assert_allclose(probabilities(a), probabilities(b), rtol=0, atol=1e-9)
    assert a.select("prediction").collect() == b.select("prediction").collect()


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_diagonal_covariances_of_many_features_travel_without_their_zeros(
    frame: Any, tmp_path: Path, kind: str
) -> None:
    d = DENSE_UP_TO + 1
    rng = np.random.default_rng(4)
    # so narrow that densities are far above the machine epsilon, which Spark's E-step adds to them
    variances = rng.uniform(0.02, 0.0201, (2, d) if kind == "diag" else 2)
    mixture = Mixture([0.25, 0.75], rng.standard_normal((2, d)) / 100, variances, kind)
    ours = GaussianMixtureModel(mixture).setProbabilityCol("probability")
    ours.toSpark(str(tmp_path / "m"))
    ours.save(str(tmp_path / "ours"))
    files = [p for folder in ("m", "ours") for p in (tmp_path / folder).rglob("*.parquet")]
    assert sum(path.stat().st_size for path in files) < 8 * d * d / 10
    assert GaussianMixtureModel.load(str(tmp_path / "ours")).mixture == mixture
    theirs = SparksModel.load(str(tmp_path / "m"))
    for a, b in zip(theirs.gaussians, ours.gaussians, strict=True):
        np.testing.assert_array_equal(a.cov.toArray(), b.cov.toArray())
    X, _ = mixture.sample(20, seed=1)
    df = frame(X)
    found, expected = (probabilities(model.transform(df)) for model in (theirs, ours))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def test_a_single_component_is_exported_too(frame: Any, tmp_path: Path) -> None:
    export_me = GaussianMixtureModel(Mixture([1.0], [[1.0, 2.0]], [np.eye(2)]))
    export_me.toSpark(str(tmp_path / "m"))
    theirs = SparksModel.load(str(tmp_path / "m"))
    assert theirs.transform(frame([[0.0, 1.0]])).first().prediction == 0


def test_a_model_of_sparks_is_taken_over_from_memory_and_from_its_folder(
    frame: Any, three: Array, tmp_path: Path
) -> None:
    df = frame(three)
    theirs = SparksEstimator(k=3, seed=7, maxIter=3, predictionCol="p").fit(df)
    theirs.save(str(tmp_path / "theirs"))
    for ours in (
        GaussianMixtureModel.fromSpark(theirs),
        GaussianMixtureModel.fromSpark(str(tmp_path / "theirs")),
    ):
        assert (ours.getPredictionCol(), ours.getSeed(), ours.getK()) == ("p", 7, 3)
        assert ours.weights == theirs.weights
        a, b = ours.transform(df), theirs.transform(df)
        np.testing.assert_allclose(probabilities(a), probabilities(b), rtol=0, atol=1e-9)
        assert a.select("p").collect() == b.select("p").collect()


def test_a_folder_of_sparks_is_told_from_one_of_ours(
    model: GaussianMixtureModel, frame: Any, three: Array, tmp_path: Path
) -> None:
    model.toSpark(str(tmp_path / "theirs"))
    with pytest.raises(InputError, match=r"GaussianMixtureModel.fromSpark\(path\) reads it"):
        GaussianMixtureModel.load(str(tmp_path / "theirs"))
    with pytest.raises(InputError, match="already exists: give another path or overwrite it"):
        model.toSpark(str(tmp_path / "theirs"))
    model.toSpark(str(tmp_path / "theirs"), overwrite=True)
    model.save(str(tmp_path / "ours"))
    with pytest.raises(InputError, match=r"holds a sparkgmm\.GaussianMixtureModel, not a org"):
        GaussianMixtureModel.fromSpark(str(tmp_path / "ours"))
    with pytest.raises(InputError, match="KMeansModel is no Gaussian mixture of Spark's"):
        GaussianMixtureModel.fromSpark(KMeans(k=2).fit(frame(three)))


@pytest.mark.parametrize("kind", TEXTBOOK)
def test_scikit_learn_to_mixture_and_back(kind: str) -> None:
    X = iris()
    fitted = SklearnMixture(3, covariance_type=kind, random_state=0).fit(X)
    mixture = mixture_from_sklearn(fitted)
    assert mixture.covariance_type == kind
    assert mixture.n_parameters == fitted._n_parameters()
    np.testing.assert_allclose(
        mixture.responsibilities(X), fitted.predict_proba(X), rtol=0, atol=1e-9
    )
    np.testing.assert_allclose(mixture.log_density(X), fitted.score_samples(X), rtol=1e-9)

    back = mixture_to_sklearn(mixture)
    for name in ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_"):
        np.testing.assert_allclose(getattr(back, name), getattr(fitted, name), rtol=1e-6, atol=1e-9)
        assert getattr(back, name).shape == getattr(fitted, name).shape
    np.testing.assert_allclose(back.predict_proba(X), fitted.predict_proba(X), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(back.predict(X), fitted.predict(X))
    assert back.bic(X) == pytest.approx(fitted.bic(X))
    assert back.sample(5)[0].shape == (5, 4)
    assert back.set_params(max_iter=50).fit(X).n_iter_ < 50  # goes on from where it is


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_mixture_to_scikit_learn_and_back(kind: str) -> None:
    mixture = random_mixture(np.random.default_rng(1), 4, 3, kind)
    named = Mixture(mixture.weights, mixture.means, mixture.covariances, kind, ["a", "b", "c"])
    back = mixture_from_sklearn(mixture_to_sklearn(named))
    assert back.covariance_type == FAMILIES[kind].known_as
    assert back.features == ("a", "b", "c")
    np.testing.assert_allclose(back.weights, mixture.weights, rtol=1e-12)
    np.testing.assert_array_equal(back.means, mixture.means)
    np.testing.assert_allclose(back.covariances, mixture.covariances, rtol=1e-12)


def test_only_a_fitted_gaussian_mixture_of_scikit_learn_is_taken() -> None:
    with pytest.raises(InputError, match="GaussianMixture has no weights_, means_ and"):
        mixture_from_sklearn(SklearnMixture(2))
    bayesian = BayesianGaussianMixture(n_components=2, max_iter=500).fit(iris())
    with pytest.raises(InputError, match="a BayesianGaussianMixture scores by a posterior"):
        mixture_from_sklearn(bayesian)


def test_without_scikit_learn_the_way_to_it_says_what_to_install(
    mixture: Mixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.mixture", None)
    with pytest.raises(InputError, match="scikit-learn is not installed: pip install"):
        mixture_to_sklearn(mixture)


def test_export_writes_every_form(mixture: Mixture, spark: SparkSession, tmp_path: Path) -> None:
    for to in ("spark", "sparkgmm", "sklearn", "json", "sql", "onnx"):
        export(mixture, to, str(tmp_path / to), spark)
        with pytest.raises(InputError, match="already exists"):
            export(mixture, to, str(tmp_path / to), spark)
        export(mixture, to, str(tmp_path / to), spark, overwrite=True)
    assert SparksModel.load(str(tmp_path / "spark")).weights == mixture.weights.tolist()
    assert GaussianMixtureModel.load(str(tmp_path / "sparkgmm")).mixture == mixture
    assert Mixture.from_json((tmp_path / "json").read_text()) == mixture
    X, _ = mixture.sample(20, seed=0)
    R = joblib.load(tmp_path / "sklearn").predict_proba(X)
    np.testing.assert_allclose(R, mixture.responsibilities(X), rtol=0, atol=1e-9)


def test_export_refuses_what_it_does_not_know(mixture: Mixture, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="to is 'pmml': use one of spark, sparkgmm, sklearn"):
        export(mixture, "pmml", str(tmp_path / "m"))
    with pytest.raises(InputError, match="is written by Spark: give a session"):
        export(mixture, "spark", str(tmp_path / "m"))
