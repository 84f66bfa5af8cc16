"""Invalid rows, counted or with the reason: a second look at the input, where there are any."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkgmm.parts import Column as PartColumn
from sparkgmm.spark.blocks import Counts
from sparkgmm.spark.source import Features, as_array, as_number, quoted


def rejected(df: DataFrame, features: Features) -> DataFrame:
    """Return the invalid rows as they were read, and a column that says why.

    The column is `reason`, with underscores before it where the input has such a column.
    """
    reasons = F.concat_ws(", ", *_reasons(df, features))
    name = "reason"
    while name in df.columns:
        name = f"_{name}"
    return df.withColumn(name, reasons).where(F.col(name) != "")


def valid(df: DataFrame, features: Features) -> DataFrame:
    """Return the rows that are not invalid."""
    return df.where(F.concat_ws("", *_reasons(df, features)) == "")


def describe_invalid(counts: Counts, features: Features) -> str:
    """Say how many rows are invalid, and which columns hold what how often."""
    beside = [column.name for column in features.beside]
    names = [*features.names, *beside, *([features.weight] if features.weight else [])]
    faults = []
    for kind, numbers in (
        ("null", counts.null),
        ("NaN", counts.nan),
        ("infinite", counts.infinite),
    ):
        faults += [f"{name} {kind} in {n:,}" for name, n in zip(names, numbers, strict=True) if n]
    if counts.negative:
        faults.append(f"{features.weight} negative in {counts.negative:,}")
    if counts.ragged:
        faults.append(f"{features.vector} not of length {len(features.names)} in {counts.ragged:,}")
    return (
        f"{counts.invalid:,} of {counts.read:,} rows are invalid ({', '.join(faults)}): fix them, "
        "or set input.invalid_rows to drop or quarantine"
    )


def count_invalid(df: DataFrame, features: Features) -> Counts:
    """Count what is wrong with which feature, in one pass of Spark SQL; weights do not count."""
    d = len(features.names)
    n_values = d + len(features.beside)
    if features.vector is None:
        values = [quoted(df, name).cast("double") for name in features.columns]
        ragged = F.lit(False)
    else:
        array = as_array(df, features.vector).cast("array<double>")
        ragged = F.coalesce(F.size(array) != d, F.lit(False)) & array.isNotNull()
        values = [F.when(~ragged, F.get(array, F.lit(i))) for i in range(d)]
    values += [_known(df, column, features) for column in features.beside]
    kinds: tuple[Callable[[Column], Column], ...] = (Column.isNull, F.isnan, _is_infinite)
    row = df.agg(
        F.count(F.lit(1)),
        F.count_if(F.concat_ws("", *_reasons(df, features)) != ""),
        F.count_if(ragged),
        *(F.count_if(~ragged & kind(value)) for kind in kinds for value in values),
    ).first()
    assert row is not None
    null, nan, infinite = np.array(row[3:], dtype=np.int64).reshape(3, n_values)
    return Counts(row[0], row[1], row[2], 0, null, nan, infinite)


def _known(df: DataFrame, column: PartColumn, features: Features) -> Column:
    """Return a level's number or a count; what is integrated out where it is null is 0."""
    value = as_number(df, column)
    if not features.integrated:
        return value
    return F.coalesce(F.when(F.isnan(value), F.lit(0.0)).otherwise(value), F.lit(0.0))


def _is_infinite(value: Column) -> Column:
    return F.abs(value) == float("inf")


def _reasons(df: DataFrame, features: Features) -> list[Column]:
    if features.vector is None:
        reasons = [_reason(quoted(df, name).cast("double"), name) for name in features.columns]
    else:
        reasons = [_vector_reason(df, features)]
    for beside in features.beside:
        reasons.append(_reason(_known(df, beside, features), beside.name))
    if features.weight is not None:
        weight = quoted(df, features.weight).cast("double")
        reasons.append(_reason(weight, features.weight))
        reasons.append(F.when(weight < 0, F.lit(f"{features.weight} is negative")))
    return reasons


def _reason(value: Column, name: str) -> Column:
    return (
        F.when(value.isNull(), F.lit(f"{name} is null"))
        .when(F.isnan(value), F.lit(f"{name} is NaN"))
        .when(_is_infinite(value), F.lit(f"{name} is infinite"))
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
        .when(F.exists(array, _is_infinite), F.lit(f"{name} holds infinity"))
    )
