"""The rejected rows, with the reason: a second look at the input, only where there are any."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkgmm.spark.source import Features, as_array, quoted


def rejected(df: DataFrame, features: Features) -> DataFrame:
    """Return the invalid rows as they were read, and a column that says why.

    The column is `reason`, with underscores before it where the input has such a column.
    """
    reasons = F.concat_ws(", ", *_reasons(df, features))
    name = "reason"
    while name in df.columns:
        name = f"_{name}"
    return df.withColumn(name, reasons).where(F.col(name) != "")


def _reasons(df: DataFrame, features: Features) -> list[Column]:
    if features.vector is None:
        reasons = [_reason(quoted(df, name).cast("double"), name) for name in features.columns]
    else:
        reasons = [_vector_reason(df, features)]
    if features.weight is not None:
        weight = quoted(df, features.weight).cast("double")
        reasons.append(_reason(weight, features.weight))
        reasons.append(F.when(weight < 0, F.lit(f"{features.weight} is negative")))
    return reasons


def _reason(value: Column, name: str) -> Column:
    return (
        F.when(value.isNull(), F.lit(f"{name} is null"))
        .when(F.isnan(value), F.lit(f"{name} is NaN"))
        .when(F.abs(value) == float("inf"), F.lit(f"{name} is infinite"))
    )


def _vector_reason(df: DataFrame, features: Features) -> Column:
    assert features.vector is not None
    name, d = features.vector, len(features.names)
    column = quoted(df, name)
    array = as_array(df, name).cast("array<double>")
    return (
        F.when(column.isNull(), F.lit(f"{name} is null"))
        .when(
            F.size(array) != d,
            F.concat(F.lit(f"{name} has "), F.size(array), F.lit(f" values, not {d}")),
        )
        .when(F.exists(array, lambda v: v.isNull()), F.lit(f"{name} holds null"))
        .when(F.exists(array, F.isnan), F.lit(f"{name} holds NaN"))
        .when(F.exists(array, lambda v: F.abs(v) == float("inf")), F.lit(f"{name} holds infinity"))
    )
