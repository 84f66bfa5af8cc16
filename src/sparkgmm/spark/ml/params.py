"""The params of the estimator and its model: Spark's own names, and ours in the same manner."""

from __future__ import annotations

from collections.abc import Callable
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

from sparkgmm import options as opt
from sparkgmm.spark.score_columns import transform_columns

P = TypeVar("P", bound="NoneUnsets")
Q = TypeVar("Q", bound="MixtureParams")


def _param(option: opt.Option) -> Param[Any]:
    """Return the param of an option, which checks values as the table has it."""
    name, kind = opt.SPARK[option.name], option.spark_kind or option.kind
    to_python: Callable[[Any], Any] = TypeConverters.toString
    if isinstance(kind, opt.Whole):
        to_python = TypeConverters.toInt
    elif isinstance(kind, opt.Real):
        to_python = TypeConverters.toFloat

    def convert(value: Any) -> Any:
        return opt.taken(option, to_python(value), name, kind)

    doc = f"{option.description} It takes {kind.description}."
    return Param(Params._dummy(), name, doc, typeConverter=convert)


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

    k: Param[int] = _param(opt.K)
    tol: Param[float] = _param(opt.TOL)
    maxIter: Param[int] = _param(opt.MAX_ITER)
    seed: Param[int] = _param(opt.SEED)
    aggregationDepth: Param[int] = _param(opt.AGGREGATION_DEPTH)
    covarianceType: Param[str] = _param(opt.COVARIANCE_TYPE)
    nInit: Param[int] = _param(opt.N_INIT)
    initMode: Param[str] = _param(opt.INIT)
    regCovar: Param[float] = _param(opt.REG_COVAR)
    missing: Param[str] = _param(opt.MISSING)
    logDensityCol: Param[str] = Param(
        Params._dummy(),
        "logDensityCol",
        "column name for the natural log of the density of a row; empty leaves it out",
        typeConverter=TypeConverters.toString,
    )

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        defaults = {own: opt.OPTIONS[name].default for name, own in opt.SPARK.items()}
        del defaults["featuresCol"], defaults["weightCol"]  # columns: as Spark's own estimators
        self._setDefault(**defaults)
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

    def getMissing(self) -> str:
        """Return what NaN and null in the features are: invalid, or missing values to model."""
        return self.getOrDefault(self.missing)

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
