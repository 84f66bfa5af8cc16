"""The params of the estimator and its model: Spark's own names, and ours in the same manner."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import (
    HasAggregationDepth,
    HasFeaturesCol,
    HasMaxIter,
    HasPredictionCol,
    HasProbabilityCol,
    HasSeed,
    HasTol,
    HasWeightCol,
)

from sparkgmm.core.initialisation import INIT
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES
from sparkgmm.spark.score_columns import transform_columns

P = TypeVar("P", bound="NoneUnsets")
Q = TypeVar("Q", bound="MixtureParams")
Value = TypeVar("Value", int, float)


def _at_least(name: str, least: Value) -> Callable[[Any], Value]:
    """Return a converter to a finite number of the kind of `least` that is not less."""
    whole = isinstance(least, int)

    def convert(value: Any) -> Value:
        number = TypeConverters.toInt(value) if whole else TypeConverters.toFloat(value)
        if not least <= number < math.inf:
            kind = "an integer" if whole else "a number"
            raise InputError(f"{name} is {number!r}: give {kind} of {least:g} or more")
        return type(least)(number)

    return convert


def _one_of(name: str, choices: Sequence[str]) -> Callable[[Any], str]:
    """Return a converter to one of some strings."""

    def convert(value: Any) -> str:
        text = TypeConverters.toString(value)
        if text not in choices:
            raise InputError(f"{name} is {text!r}: use one of {', '.join(choices)}")
        return text

    return convert


class NoneUnsets(Params):
    """Params of which one that is set to None is unset, as Spark's signatures suggest."""

    def _set(self: P, **kwargs: Any) -> P:
        for name in [name for name, value in kwargs.items() if value is None]:
            self.clear(self.getParam(name))
            del kwargs[name]
        return super()._set(**kwargs)


def add_score_params(cls: type[Q]) -> type[Q]:
    """Give a class a Param, setter and getter for each column of transform that it has none for."""
    for column, name in transform_columns():
        if not hasattr(cls, name):
            convert = TypeConverters.toString
            setattr(cls, name, Param(Params._dummy(), name, column.doc, typeConverter=convert))
            setattr(cls, f"get{name[0].upper()}{name[1:]}", _getter(name))
            setattr(cls, f"set{name[0].upper()}{name[1:]}", _setter(name))
    return cls


def _getter(name: str) -> Callable[[Any], str]:
    def get(self: Any) -> str:
        return str(self.getOrDefault(self.getParam(name)))

    get.__doc__ = f"Return `{name}`, the name of a column, empty if it is left out."
    return get


def _setter(name: str) -> Callable[[Q, str], Q]:
    def set_(self: Q, value: str) -> Q:
        return self._set(**{name: value})

    set_.__doc__ = f"Set `{name}`; empty leaves the column out."
    return set_


@add_score_params
class MixtureParams(
    NoneUnsets,
    HasFeaturesCol,
    HasPredictionCol,
    HasProbabilityCol,
    HasMaxIter,
    HasTol,
    HasSeed,
    HasAggregationDepth,
    HasWeightCol,
):
    """What `GaussianMixture` and `GaussianMixtureModel` share.

    A value out of range is refused where it is set, by an InputError, which is a ValueError.
    """

    k: Param[int] = Param(
        Params._dummy(), "k", "number of components (>= 1)", typeConverter=_at_least("k", 1)
    )
    tol: Param[float] = Param(
        Params._dummy(),
        "tol",
        "the fit ends where the mean log-likelihood a row is estimated to be within tol nats of "
        "its limit (>= 0)",
        typeConverter=_at_least("tol", 0.0),
    )
    maxIter: Param[int] = Param(
        Params._dummy(),
        "maxIter",
        "passes over the data at most (>= 1)",
        typeConverter=_at_least("maxIter", 1),
    )
    seed: Param[int] = Param(
        Params._dummy(),
        "seed",
        "random seed of the starts: the same seed and data give the same model",
        typeConverter=TypeConverters.toInt,
    )
    aggregationDepth: Param[int] = Param(
        Params._dummy(),
        "aggregationDepth",
        "taken for compatibility and without effect: sums are added in the order of the "
        "partitions (>= 2)",
        typeConverter=_at_least("aggregationDepth", 2),
    )
    covarianceType: Param[str] = Param(
        Params._dummy(),
        "covarianceType",
        f"covariances of the components: {', '.join(COVARIANCE_TYPES)}",
        typeConverter=_one_of("covarianceType", COVARIANCE_TYPES),
    )
    nInit: Param[int] = Param(
        Params._dummy(),
        "nInit",
        "starts, of which the best sound one wins (>= 1)",
        typeConverter=_at_least("nInit", 1),
    )
    initMode: Param[str] = Param(
        Params._dummy(),
        "initMode",
        f"where the starts come from: {', '.join(INIT)}",
        typeConverter=_one_of("initMode", tuple(INIT)),
    )
    regCovar: Param[float] = Param(
        Params._dummy(),
        "regCovar",
        "added to the diagonal of the covariances, relative to each feature's variance (>= 0)",
        typeConverter=_at_least("regCovar", 0.0),
    )
    logDensityCol: Param[str] = Param(
        Params._dummy(),
        "logDensityCol",
        "column name for the natural log of the density of a row; empty leaves it out",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._setDefault(
            k=2,
            tol=1e-6,
            maxIter=200,
            seed=0,
            aggregationDepth=2,
            covarianceType="full",
            nInit=10,
            initMode="k-means++",
            regCovar=1e-6,
        )
        self._setDefault(
            **{p: "" for _, p in transform_columns() if not self.hasDefault(self.getParam(p))}
        )

    def getK(self) -> int:
        """Return the number of components asked for."""
        return self.getOrDefault(self.k)

    def getCovarianceType(self) -> str:
        """Return the covariance type."""
        return self.getOrDefault(self.covarianceType)

    def getNInit(self) -> int:
        """Return the number of starts."""
        return self.getOrDefault(self.nInit)

    def getInitMode(self) -> str:
        """Return where the starts come from."""
        return self.getOrDefault(self.initMode)

    def getRegCovar(self) -> float:
        """Return what is added to the covariances' diagonal, relative to the variances."""
        return self.getOrDefault(self.regCovar)

    def getLogDensityCol(self) -> str:
        """Return the name of the column of log densities, empty if there is none."""
        return self.getOrDefault(self.logDensityCol)

    def setFeaturesCol(self: Q, value: str) -> Q:
        """Set `featuresCol`, a column of vectors, array<double> or array<float>."""
        return self._set(featuresCol=value)

    def setPredictionCol(self: Q, value: str) -> Q:
        """Set `predictionCol`; empty leaves it out."""
        return self._set(predictionCol=value)

    def setProbabilityCol(self: Q, value: str) -> Q:
        """Set `probabilityCol`; empty leaves it out."""
        return self._set(probabilityCol=value)

    def setLogDensityCol(self: Q, value: str) -> Q:
        """Set `logDensityCol`; empty leaves it out."""
        return self._set(logDensityCol=value)

    def _added(self) -> dict[str, str]:
        """Return the names of the columns that a transform adds, by those in `SCORE_COLUMNS`."""
        names = {
            column.name: self.getOrDefault(self.getParam(param))
            for column, param in transform_columns()
        }
        return {column: name for column, name in names.items() if name}

    def _weight(self) -> str | None:
        """Return the name of the weights' column, or None where there is none."""
        return (self.getWeightCol() or None) if self.isDefined(self.weightCol) else None
