"""The estimator: Spark's own params, this package's engine."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from pyspark import keyword_only
from pyspark.ml.base import Estimator
from pyspark.sql import DataFrame

from sparkgmm.core.cautions import cautions, warn
from sparkgmm.core.em import Settings
from sparkgmm.core.prior import Bounded
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate
from sparkgmm.errors import option_names
from sparkgmm.options import SPARK
from sparkgmm.spark.ml.columns import check_new
from sparkgmm.spark.ml.fit_plans import Outcome, Plan, fit_all
from sparkgmm.spark.ml.model import GaussianMixtureModel
from sparkgmm.spark.ml.params import MixtureParams
from sparkgmm.spark.ml.persistence import Saved
from sparkgmm.spark.ml.summary import GaussianMixtureSummary

# Seeds may be any Java long, numpy's are not negative.
_SEEDS = 2**64


class GaussianMixture(Estimator[GaussianMixtureModel], MixtureParams, Saved):
    """Fit a Gaussian mixture to a column of vectors, to the maximum of the likelihood.

    It takes all that `pyspark.ml.clustering.GaussianMixture` takes, so that a user changes only
    the import. What differs: `tol` is in nats a row (the estimated distance to the limit of the
    mean log-likelihood), while Spark's is a change of the sum over all rows; `maxIter` bounds the
    passes over the data; `seed` is 0 unless set; `k` may be 1; `aggregationDepth` has no effect.

    Parameters
    ----------
    featuresCol : a column of vectors, dense or sparse, array<double> or array<float>
    predictionCol, probabilityCol, logDensityCol : columns that the model adds; empty leaves it out
    k : the number of components
    tol : stop when the mean log-likelihood is estimated to be within tol nats of its limit
    maxIter : passes over the data at most
    seed : of the starts
    weightCol : a column of row weights >= 0, or None
    covarianceType : "full", "tied", "diag", "spherical" or "VEV"
    nInit : starts of each kind; the best sound one wins
    initMode : "auto", "k-means++" or "random_from_data"
    regCovar : the least variance of a component of few rows, relative to each feature's
    surpriseCol : a column that the model adds: -log p(a feature | the others of its row), a vector
    imputedCol : another, the vector with each NaN replaced by its mean given the rest of its row
    expectedCol, expectedSdCol : others, mean and sd of each feature given the others of its row

        Where imputedCol, expectedCol or expectedSdCol is set, a NaN in a vector that transform is
        given is not known, and the row is scored by what it has. A fit takes no NaN.

    Examples
    --------
    >>> from pyspark.ml.feature import VectorAssembler
    >>> rows = [(0.1, 1.0), (0.4, 1.3), (0.2, 0.7), (0.5, 1.1), (5.1, 3.0), (5.6, 2.6), (5.3, 2.9)]
    >>> df = spark.createDataFrame(rows, "x double, y double")
    >>> df = VectorAssembler(inputCols=["x", "y"], outputCol="features").transform(df)
    >>> model = GaussianMixture(k=2, covarianceType="tied").fit(df)
    >>> model.summary.clusterSizes
    [4, 3]
    >>> [round(weight, 3) for weight in model.weights]
    [0.571, 0.429]
    >>> model.mixture.features
    ('x', 'y')
    >>> [row.prediction for row in model.transform(df).collect()]
    [0, 0, 0, 0, 1, 1, 1]

    """

    _saved_as = "sparkgmm.GaussianMixture"
    _input_kwargs: dict[str, Any]

    @keyword_only
    def __init__(
        self,
        *,
        featuresCol: str = "features",
        predictionCol: str = "prediction",
        k: int = 2,
        probabilityCol: str = "probability",
        tol: float = 1e-6,
        maxIter: int = 200,
        seed: int | None = None,
        aggregationDepth: int = 2,
        weightCol: str | None = None,
        covarianceType: str = "full",
        nInit: int = 10,
        initMode: str = "auto",
        regCovar: float = 1e-6,
        logDensityCol: str = "",
        missing: str = "invalid",
        surpriseCol: str = "",
        imputedCol: str = "",
        expectedCol: str = "",
        expectedSdCol: str = "",
    ) -> None:
        super().__init__()
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self,
        *,
        featuresCol: str = "features",
        predictionCol: str = "prediction",
        k: int = 2,
        probabilityCol: str = "probability",
        tol: float = 1e-6,
        maxIter: int = 200,
        seed: int | None = None,
        aggregationDepth: int = 2,
        weightCol: str | None = None,
        covarianceType: str = "full",
        nInit: int = 10,
        initMode: str = "auto",
        regCovar: float = 1e-6,
        logDensityCol: str = "",
        missing: str = "invalid",
        surpriseCol: str = "",
        imputedCol: str = "",
        expectedCol: str = "",
        expectedSdCol: str = "",
    ) -> GaussianMixture:
        """Set the params that are named and leave the others; None unsets one."""
        return self._set(**self._input_kwargs)

    def setK(self, value: int) -> GaussianMixture:
        """Set `k`, the number of components."""
        return self._set(k=value)

    def setTol(self, value: float) -> GaussianMixture:
        """Set `tol`, in nats a row."""
        return self._set(tol=value)

    def setMaxIter(self, value: int) -> GaussianMixture:
        """Set `maxIter`, the passes over the data at most."""
        return self._set(maxIter=value)

    def setSeed(self, value: int) -> GaussianMixture:
        """Set `seed`."""
        return self._set(seed=value)

    def setAggregationDepth(self, value: int) -> GaussianMixture:
        """Set `aggregationDepth`, which has no effect."""
        return self._set(aggregationDepth=value)

    def setWeightCol(self, value: str | None) -> GaussianMixture:
        """Set `weightCol`; None or empty weighs all rows alike."""
        return self._set(weightCol=value)

    def setCovarianceType(self, value: str) -> GaussianMixture:
        """Set `covarianceType`: full, tied, diag, spherical or VEV."""
        return self._set(covarianceType=value)

    def setNInit(self, value: int) -> GaussianMixture:
        """Set `nInit`, the number of starts."""
        return self._set(nInit=value)

    def setInitMode(self, value: str) -> GaussianMixture:
        """Set `initMode`: auto, k-means++ or random_from_data."""
        return self._set(initMode=value)

    def setRegCovar(self, value: float) -> GaussianMixture:
        """Set `regCovar`, relative to each feature's variance."""
        return self._set(regCovar=value)

    def setMissing(self, value: str) -> GaussianMixture:
        """Set `missing`: what NaN and null in the features are, invalid or missing values to model.

        VectorAssembler makes NaN of null with handleInvalid="keep".
        """
        return self._set(missing=value)

    def fitMultiple(
        self, dataset: DataFrame, paramMaps: Sequence[Any]
    ) -> Iterator[tuple[int, GaussianMixtureModel]]:
        """Fit a model for each map of params; `fit` with a list of maps and CrossValidator call it.

        The rows are read once for all maps over the same columns, and maps that differ in k and
        covariance type alone share every scan. The iterator yields a map's number and its model,
        or raises why there is none, and may be used by several threads.
        """
        return _Models(dataset, [self.copy(params) for params in paramMaps])

    def _fit(self, dataset: DataFrame) -> GaussianMixtureModel:
        check_new(dataset, self._added().values())
        [outcome] = fit_all(dataset, [self._plan()])
        return self._model(dataset, outcome)

    def _plan(self) -> Plan:
        search = Search(
            init=self.getInitMode(),
            n_init=self.getNInit(),
            seed=self.getSeed() % _SEEDS,
            settings=Settings(self.getTol(), self.getMaxIter(), Bounded(self.getRegCovar())),
            missing=self.getMissing(),
        )
        features, weight = self.getFeaturesCol(), self._weight()
        return Plan(features, weight, self.getK(), self.getCovarianceType(), search)

    def _model(self, dataset: DataFrame, outcome: Outcome) -> GaussianMixtureModel:
        """Return the model with its summary, or raise why there is none."""
        if not isinstance(outcome, Candidate):
            with option_names(SPARK):
                raise outcome
        if outcome.degenerate:
            warnings.warn(
                f"the mixture is degenerate ({outcome.degenerate}): these rows are too few to "
                f"distinguish {self.getK()} clusters; give more, or lower k",
                stacklevel=4,
            )
        warn(cautions(outcome, (outcome,), self.getMaxIter(), SPARK), stacklevel=4)
        model = self._copyValues(GaussianMixtureModel(outcome.mixture)._resetUid(self.uid))
        model._summary = GaussianMixtureSummary(
            model.transform(dataset) if self._added() else dataset,
            self.getFeaturesCol(),
            self.getPredictionCol(),
            self.getProbabilityCol(),
            outcome,
        )
        return model


class _Models:
    """Yields the models of several estimators, all fitted when the first is asked for."""

    def __init__(self, dataset: DataFrame, estimators: Sequence[GaussianMixture]) -> None:
        self._dataset = dataset
        self._estimators = estimators
        self._outcomes: list[Outcome] | None = None
        self._next = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[tuple[int, GaussianMixtureModel]]:
        return self

    def __next__(self) -> tuple[int, GaussianMixtureModel]:
        with self._lock:
            index = self._next
            if index == len(self._estimators):
                raise StopIteration
            self._next += 1
            if self._outcomes is None:
                for estimator in self._estimators:
                    check_new(self._dataset, estimator._added().values())
                plans = [estimator._plan() for estimator in self._estimators]
                self._outcomes = fit_all(self._dataset, plans)
        return index, self._estimators[index]._model(self._dataset, self._outcomes[index])
