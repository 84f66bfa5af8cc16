"""What is known of a fit beyond its model: the training rows scored, and how the fit went."""

from __future__ import annotations

from functools import cached_property

from pyspark.sql import DataFrame

from sparkgmm.core.selection import Candidate
from sparkgmm.errors import InputError
from sparkgmm.spark.source import quoted


class GaussianMixtureSummary:
    """The summary of a fit, as Spark's own has it, and a few numbers more.

    `featuresCol`, `predictionCol` and `probabilityCol` are the names in `predictions`, which is
    the DataFrame that was fitted with the columns of the model's `transform`. `k` is the number of
    components found. `logLikelihood` is the sum over the rows of weight times log density, in
    nats, at the model's very parameters; `logLikelihoods` has a value a pass. `numIter` counts the
    passes over the data; `converged` is true only if `tol` was reached. `bic`, `aic` and `icl` are
    criteria to choose a model by, lower is better.
    """

    def __init__(
        self,
        predictions: DataFrame,
        features_col: str,
        prediction_col: str,
        probability_col: str,
        candidate: Candidate,
    ) -> None:
        self.predictions = predictions
        self.featuresCol = features_col
        self.predictionCol = prediction_col
        self.probabilityCol = probability_col
        self.k = candidate.mixture.k
        self.logLikelihood = candidate.log_likelihood
        self.logLikelihoods = list(candidate.log_likelihoods)
        self.numIter = candidate.n_iter
        self.converged = candidate.converged
        self.bic = candidate.bic
        self.aic = candidate.aic
        self.icl = candidate.icl

    @property
    def cluster(self) -> DataFrame:
        """The predicted component of each row: `predictions` with that column alone."""
        return self._column("predictionCol", self.predictionCol)

    @property
    def probability(self) -> DataFrame:
        """The probability of each component for each row, alone."""
        return self._column("probabilityCol", self.probabilityCol)

    @cached_property
    def clusterSizes(self) -> list[int]:
        """How many rows are predicted to be of each component; one look at the rows finds out."""
        sizes = [0] * self.k
        cluster = self.cluster
        predicted = quoted(cluster, self.predictionCol)
        for component, n in cluster.groupBy(predicted).count().collect():
            sizes[component] = n
        return sizes

    def _column(self, param: str, name: str) -> DataFrame:
        if not name:
            raise InputError(f"{param} was empty in the fit, so there is no such column: name one")
        return self.predictions.select(quoted(self.predictions, name))
