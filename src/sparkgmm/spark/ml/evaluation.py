"""An evaluator for CrossValidator and TrainValidationSplit, by rows that were held out."""

from __future__ import annotations

from typing import Any

from pyspark import keyword_only
from pyspark.ml.evaluation import Evaluator
from pyspark.ml.param import Param, Params, TypeConverters
from pyspark.ml.param.shared import HasWeightCol
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sparkgmm.errors import InputError
from sparkgmm.spark.ml.columns import check_number
from sparkgmm.spark.ml.params import NoneUnsets
from sparkgmm.spark.ml.persistence import Saved
from sparkgmm.spark.ml.scored_by import scorer_of
from sparkgmm.spark.source import quoted


class MixtureEvaluator(Evaluator, NoneUnsets, HasWeightCol, Saved):
    """The mean log-likelihood a row, in nats, of rows that a model scored: larger is better.

    Where the DataFrame has no column of log densities, they are computed by the model that scored
    it, if that is still there, as in a CrossValidator: so the defaults of GaussianMixture do. With
    weights it is the weighted mean.

    Parameters
    ----------
    logDensityCol : the column of log densities
    weightCol : a column of row weights >= 0, or None

    Examples
    --------
    >>> from pyspark.ml.tuning import CrossValidator, ParamGridBuilder
    >>> from sparkgmm import GaussianMixture
    >>> gm = GaussianMixture()
    >>> grid = ParamGridBuilder().addGrid(gm.k, [2, 3, 4]).build()
    >>> validator = CrossValidator(
    ...     estimator=gm, estimatorParamMaps=grid, evaluator=MixtureEvaluator()
    ... )
    >>> scored = spark.createDataFrame([(-1.5,), (-2.5,)], ["logDensity"])
    >>> MixtureEvaluator().evaluate(scored)
    -2.0

    """

    logDensityCol: Param[str] = Param(
        Params._dummy(),
        "logDensityCol",
        "column name of the log densities, the logDensityCol of the model",
        typeConverter=TypeConverters.toString,
    )
    _saved_as = "sparkgmm.MixtureEvaluator"
    _input_kwargs: dict[str, Any]

    @keyword_only
    def __init__(self, *, logDensityCol: str = "logDensity", weightCol: str | None = None) -> None:
        super().__init__()
        self._setDefault(logDensityCol="logDensity")
        self._set(**self._input_kwargs)

    @keyword_only
    def setParams(
        self, *, logDensityCol: str = "logDensity", weightCol: str | None = None
    ) -> MixtureEvaluator:
        """Set the params that are named and leave the others; None unsets one."""
        return self._set(**self._input_kwargs)

    def getLogDensityCol(self) -> str:
        """Return the name of the column of log densities."""
        return self.getOrDefault(self.logDensityCol)

    def setLogDensityCol(self, value: str) -> MixtureEvaluator:
        """Set `logDensityCol`."""
        return self._set(logDensityCol=value)

    def setWeightCol(self, value: str | None) -> MixtureEvaluator:
        """Set `weightCol`; None or empty weighs all rows alike."""
        return self._set(weightCol=value)

    def isLargerBetter(self) -> bool:
        """Return True."""
        return True

    def _evaluate(self, dataset: DataFrame) -> float:
        name = self.getLogDensityCol()
        scored_by = None if name in dataset.columns else scorer_of(dataset)
        if scored_by is not None:
            model, features = scored_by
            only = {"predictionCol": "", "probabilityCol": "", "logDensityCol": name}
            dataset = model.copy()._set(featuresCol=features, **only).transform(dataset)
        if name not in dataset.columns:
            raise InputError(
                f"the DataFrame has no column {name!r} of log densities: set logDensityCol of the "
                f"GaussianMixture to {name!r}, or that of the evaluator to the model's"
            )
        density = quoted(dataset, name)
        weight = F.lit(1.0)
        if self.isDefined(self.weightCol) and self.getWeightCol():
            check_number(dataset, "weightCol", self.getWeightCol())
            weight = quoted(dataset, self.getWeightCol()).cast("double")
        bad = density.isNull() | weight.isNull() | ~(weight >= 0) | F.isnan(weight)
        counted = F.when(weight > 0, weight * density)  # 0 times minus infinity is no number
        row = dataset.agg(F.count_if(bad), F.sum(counted), F.sum(weight)).first()
        assert row is not None
        if row[0]:
            raise InputError(
                f"{row[0]:,} rows have no log density, or a weight that is null, NaN or negative: "
                "fix or drop them"
            )
        if not row[2]:
            raise InputError("there are no rows to evaluate, or none has a weight above 0")
        return float(row[1] / row[2])
