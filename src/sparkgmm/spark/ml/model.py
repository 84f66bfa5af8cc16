"""The fitted model as a Transformer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from pyspark.ml.base import Model
from pyspark.ml.linalg import DenseVector, Vector
from pyspark.ml.stat import MultivariateGaussian
from pyspark.mllib.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkgmm.checks import numeric_alone
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array, Mixture
from sparkgmm.spark.executors import use_own_python
from sparkgmm.spark.ml.columns import check_features_column, check_new
from sparkgmm.spark.ml.export import old_matrices, read_spark_model, write_spark_model
from sparkgmm.spark.ml.params import MixtureParams
from sparkgmm.spark.ml.persistence import Saved, components, note_mixture, read_mixture
from sparkgmm.spark.ml.scored_by import note, register
from sparkgmm.spark.ml.summary import GaussianMixtureSummary
from sparkgmm.spark.ml.udf import add_scores
from sparkgmm.spark.ml.vectors import ColumnScorer
from sparkgmm.spark.partitions import ship_to
from sparkgmm.spark.score_columns import ScoreColumn, columns_of
from sparkgmm.spark.scoring import Scorer
from sparkgmm.spark.source import noted_length, order_in_vector


class GaussianMixtureModel(Model, MixtureParams, Saved):
    """A Gaussian mixture that scores DataFrames, batches and streams alike.

    `GaussianMixture.fit` returns one; `GaussianMixtureModel(mixture)` makes one of a mixture that
    was fitted elsewhere. `transform` adds `probability` (vector), `prediction` (int) and, if
    `logDensityCol` names it, the natural log of the density (double). Where the features column
    has names, as VectorAssembler notes them, they are compared with those of the fit: vectors in
    another order are scored in theirs, and other features are refused.

    Examples
    --------
    >>> from pyspark.ml.linalg import Vectors
    >>> from sparkgmm import Mixture
    >>> mixture = Mixture([0.75, 0.25], [[0.0], [4.0]], [[[1.0]], [[1.0]]])
    >>> model = GaussianMixtureModel(mixture).setLogDensityCol("logDensity")
    >>> df = spark.createDataFrame([(Vectors.dense(0.0),), (Vectors.dense(4.0),)], ["features"])
    >>> for row in model.transform(df).collect():
    ...     print(row.prediction, round(row.probability[row.prediction], 4), row.logDensity < -1)
    0 0.9999 True
    1 0.999 True
    >>> model.predict(Vectors.dense(3.0))
    1

    """

    _saved_as = "sparkgmm.GaussianMixtureModel"

    def __init__(self, mixture: Mixture) -> None:
        super().__init__()
        numeric_alone(mixture.parts, "the model of Spark ML")
        self._mixture = mixture
        self._summary: GaussianMixtureSummary | None = None
        self._key = register(self)
        self._set(k=mixture.k, covarianceType=mixture.covariance_type)

    def __repr__(self) -> str:
        return (
            f"GaussianMixtureModel: uid={self.uid}, k={self._mixture.k}, "
            f"numFeatures={self.numFeatures}"
        )

    @property
    def mixture(self) -> Mixture:
        """The mixture itself, which needs no Spark to score, sample or travel as JSON."""
        return self._mixture

    @property
    def numFeatures(self) -> int:
        """The length of the vectors that the model scores."""
        return self._mixture.d

    @property
    def weights(self) -> list[float]:
        """The weight of each component; they sum to 1."""
        return [float(weight) for weight in self._mixture.weights]

    @property
    def gaussians(self) -> list[MultivariateGaussian]:
        """Mean and covariance of each component."""
        pairs = zip(self._mixture.means, old_matrices(self._mixture), strict=True)
        return [MultivariateGaussian(DenseVector(mean), matrix.asML()) for mean, matrix in pairs]

    @property
    def gaussiansDF(self) -> DataFrame:
        """A row a component: mean vector and cov matrix, of Spark's older types as its own has."""
        pairs = zip(self._mixture.means, old_matrices(self._mixture), strict=True)
        rows = [(Vectors.dense(mean), matrix) for mean, matrix in pairs]
        return _session().createDataFrame(rows, ["mean", "cov"])

    def predict(self, value: Vector | ArrayLike) -> int:
        """Return the most probable component of one vector."""
        return int(self._mixture.predict(self._row(value))[0])

    def predictProbability(self, value: Vector | ArrayLike) -> DenseVector:
        """Return the probability of each component for one vector."""
        return DenseVector(self._mixture.responsibilities(self._row(value))[0])

    def _row(self, value: Vector | ArrayLike) -> Array:
        row = np.asarray(value.toArray() if isinstance(value, Vector) else value, dtype=np.float64)
        if row.shape != (self.numFeatures,):
            raise InputError(
                f"the vector has shape {row.shape}, the model {self.numFeatures} feature(s): give "
                "a vector of that length"
            )
        return row[None]

    @property
    def hasSummary(self) -> bool:
        """Whether there is a summary: only on the model that a fit returned, or its copies."""
        return self._summary is not None

    @property
    def summary(self) -> GaussianMixtureSummary:
        """The summary of the fit.

        Raises
        ------
        RuntimeError
            If there is none, as in a model that was loaded.

        """
        if self._summary is None:
            raise RuntimeError(
                "No training summary available for this GaussianMixtureModel: only the model that "
                "fit returned has one (see hasSummary)"
            )
        return self._summary

    def _transform(self, dataset: DataFrame) -> DataFrame:
        added = self._added()
        self._check(dataset, added)
        if not added:
            warnings.warn(
                f"{self.uid}: transform adds nothing, since predictionCol, probabilityCol and "
                "logDensityCol are all empty",
                stacklevel=3,
            )
            return dataset
        use_own_python(dataset.sparkSession)
        ship_to(dataset.sparkSession)
        mixture = self._mixture
        order = order_in_vector(dataset, self.getFeaturesCol(), mixture.features, mixture.d)
        if tuple(order) != (mixture.features or ()):
            mixture = mixture.marginal(order)
        scorer = Scorer(mixture, columns_of(added))
        scores = f"{self.uid} scores"  # the UDF's result, of which each column takes its field
        columns = [
            F.col(f"`{scores}`")[column.name].alias(
                added[column.name],
                metadata=_attributes(column, self._mixture.k)
                | note(self._key, self.getFeaturesCol()),
            )
            for column in scorer.columns
        ]
        with_scores = add_scores(dataset, ColumnScorer(scorer, self.getFeaturesCol()), scores)
        return with_scores.select("*", *columns).drop(scores)

    def _check(self, df: DataFrame, added: dict[str, str]) -> None:
        """Refuse at once what would fail on the executors."""
        name = self.getFeaturesCol()
        check_features_column(df, name)
        check_new(df, added.values())
        d = noted_length(df, name)
        if d not in (None, self.numFeatures):
            raise InputError(
                f"column {name!r} holds vectors of {d} value(s), the model has {self.numFeatures} "
                "feature(s): give vectors of that length"
            )

    def _save_data(self, path: str, spark: SparkSession, mode: str) -> None:
        components(self._mixture, spark).write.mode(mode).parquet(f"{path}/data")

    def _noted(self) -> dict[str, Any]:
        return note_mixture(self._mixture)

    @classmethod
    def _load_data(
        cls, path: str, spark: SparkSession, metadata: dict[str, Any]
    ) -> GaussianMixtureModel:
        return cls(read_mixture(path, spark, metadata))

    def toSpark(self, path: str, overwrite: bool = False) -> None:
        """Write a folder that `pyspark.ml.clustering.GaussianMixtureModel.load` reads.

        Raises
        ------
        InputError
            If there is such a folder and it is not to be overwritten.

        """
        write_spark_model(self._mixture, path, _session(), overwrite, self)

    @classmethod
    def fromSpark(cls, source: Any) -> GaussianMixtureModel:
        """Take over a model of Spark's own: a fitted one, or the folder that it was saved to.

        Raises
        ------
        InputError
            If it is none, or not a mixture (a covariance that is not positive definite).

        """
        mixture, params = read_spark_model(source, _session())
        model = cls(mixture)
        return model._set(**{k: v for k, v in params.items() if model.hasParam(k)})


def _session() -> SparkSession:
    return SparkSession.active()


def _attributes(column: ScoreColumn, k: int) -> dict[str, Any]:
    """Return what Spark ML's stages note of such a column."""
    return {} if column.attributes is None else {"ml_attr": column.attributes(k)}
