"""Params as Spark ML has them: defaults, setters, checks, copies."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.ml.clustering import GaussianMixture as SparksOwn
from pyspark.ml.param import Param
from pyspark.sql import SparkSession

from sparkgmm import GaussianMixture, GaussianMixtureModel, Mixture, MixtureEvaluator
from sparkgmm.errors import InputError

pytestmark = pytest.mark.spark

ALL: dict[str, Any] = {
    "featuresCol": "f",
    "predictionCol": "p",
    "k": 4,
    "probabilityCol": "q",
    "tol": 1e-3,
    "maxIter": 7,
    "seed": 11,
    "aggregationDepth": 3,
    "weightCol": "w",
    "covarianceType": "tied",
    "nInit": 3,
    "initMode": "random_from_data",
    "regCovar": 1e-4,
    "logDensityCol": "d",
    "surpriseCol": "s",
    "imputedCol": "i",
    "expectedCol": "e",
    "expectedSdCol": "sd",
    "missing": "model",
}


def capital(name: str) -> str:
    return name[0].upper() + name[1:]


def test_all_that_sparks_own_takes_is_taken_under_its_names(spark: SparkSession) -> None:
    theirs = {param.name for param in SparksOwn().params}
    assert theirs < {param.name for param in GaussianMixture().params}
    methods = {name for name in dir(SparksOwn) if name.startswith(("set", "get"))}
    assert methods <= set(dir(GaussianMixture))


def test_defaults() -> None:
    gm = GaussianMixture()
    values = {param.name: value for param, value in gm.extractParamMap().items()}
    assert values == {
        "featuresCol": "features",
        "predictionCol": "prediction",
        "probabilityCol": "probability",
        "k": 2,
        "tol": 1e-6,
        "maxIter": 200,
        "seed": 0,
        "aggregationDepth": 2,
        "covarianceType": "full",
        "nInit": 10,
        "initMode": "auto",
        "regCovar": 1e-6,
        "logDensityCol": "",
        "surpriseCol": "",
        "imputedCol": "",
        "expectedCol": "",
        "expectedSdCol": "",
        "missing": "invalid",
    }
    assert not gm.isDefined(gm.weightCol)


def test_keywords_setters_and_set_params_agree() -> None:
    by_keywords, by_setters = GaussianMixture(**ALL), GaussianMixture()
    for name, value in ALL.items():
        assert getattr(by_setters, f"set{capital(name)}")(value) is by_setters
    for gm in (by_keywords, by_setters, GaussianMixture().setParams(**ALL)):
        assert {n: getattr(gm, f"get{capital(n)}")() for n in ALL} == ALL


def test_only_keywords_are_taken() -> None:
    with pytest.raises(TypeError, match="forces keyword arguments"):
        GaussianMixture("features")  # type: ignore[misc]
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        GaussianMixture(initialModel=None)  # type: ignore[call-arg]


def test_none_unsets() -> None:
    gm = GaussianMixture(seed=None, weightCol="w").setWeightCol(None)
    assert gm.getSeed() == 0
    assert not gm.isSet("weightCol")
    assert not MixtureEvaluator(weightCol="w").setParams(weightCol=None).isSet("weightCol")


def test_every_param_explains_itself() -> None:
    gm = GaussianMixture(k=5)
    text = gm.explainParams()
    assert len(text.splitlines()) == len(gm.params) == len(ALL)
    assert (
        "k: The number of components. It takes an integer of 1 or more. (default: 2, current: 5)"
        in text
    )
    assert "without effect" in gm.explainParam("aggregationDepth")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("k", 0, "k is 0: give an integer of 1 or more"),
        ("tol", -1.0, "tol is -1.0: give a number of 0 or more"),
        ("tol", float("nan"), "tol is nan: give a number of 0 or more"),
        ("maxIter", 0, "maxIter is 0: give an integer of 1 or more"),
        ("nInit", 0, "nInit is 0: give an integer of 1 or more"),
        ("regCovar", float("inf"), "regCovar is inf: give a number of 0 or more"),
        ("aggregationDepth", 1, "aggregationDepth is 1: give an integer of 2 or more"),
        ("covarianceType", "round", "covarianceType is 'round': use one of full, tied, diag"),
        ("initMode", "random", "initMode is 'random': use one of auto, k-means"),
    ],
)
def test_a_value_out_of_range_is_named_with_the_remedy(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        GaussianMixture(**{name: value})
    gm = GaussianMixture()
    with pytest.raises(InputError, match=message):
        getattr(gm, f"set{capital(name)}")(value)
    with pytest.raises(ValueError, match=message):  # Spark's own wraps it
        gm.set(gm.getParam(name), value)
    with pytest.raises(InputError, match=message):
        gm.copy({gm.getParam(name): value})


@pytest.mark.parametrize(("name", "value"), [("k", "two"), ("k", 2.5), ("featuresCol", 3)])
def test_a_value_of_another_type_is_a_type_error(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f'Invalid param value given for param "{name}"'):
        GaussianMixture(**{name: value})


def test_a_copy_has_the_same_uid_the_extra_params_and_a_life_of_its_own() -> None:
    gm = GaussianMixture(k=3)
    copied = gm.copy({gm.k: 5})
    assert (copied.uid, copied.getK(), gm.getK()) == (gm.uid, 5, 3)
    copied.setTol(0.5)
    assert gm.getTol() == 1e-6


def test_uids_tell_instances_apart() -> None:
    a, b = GaussianMixture(), GaussianMixture()
    assert a.uid.startswith("GaussianMixture_")
    assert a.uid != b.uid
    with pytest.raises(ValueError, match="does not belong to"):
        a.set(b.k, 3)


def test_a_model_has_the_setters_of_its_columns() -> None:
    model = GaussianMixtureModel(Mixture([1.0], [[0.0]], [[[1.0]]], "diag"))
    model.setFeaturesCol("f").setPredictionCol("p").setProbabilityCol("q").setLogDensityCol("d")
    names = (model.getFeaturesCol(), model.getPredictionCol(), model.getProbabilityCol())
    assert (*names, model.getLogDensityCol()) == ("f", "p", "q", "d")
    assert (model.getK(), model.getCovarianceType()) == (1, "diag")
    assert all(isinstance(param, Param) for param in model.params)
