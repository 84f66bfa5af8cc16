"""Invalid rows, counted or with the reason: a second look at the input, where there are any."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from sparkgmm.formatting import some_of
from sparkgmm.mixture import Array
from sparkgmm.parts import Column as PartColumn
from sparkgmm.spark.blocks import Counts
from sparkgmm.spark.source import Features, as_array, as_number, free_name, quoted

# So many columns and what is wrong with them are named in a line; of more, the worst.
_FAULTS = 8
# What a value of a column of counts is that is infinite, or was made so by `as_number`.
_NO_COUNT = "no whole number of 0 or more"


def rejected(df: DataFrame, features: Features, gaps: Collection[str] = ()) -> DataFrame:
    """Return the invalid rows as they were read, and a column that says why.

    Features among `gaps` may be null or NaN. The column is `reason`, with underscores before it
    where the input has such a column.
    """
    reasons = F.concat_ws(", ", *_reasons(df, features, gaps))
    name = free_name(df, "reason")
    return df.withColumn(name, reasons).where(F.col(name) != "")


def valid(df: DataFrame, features: Features, gaps: Collection[str] = ()) -> DataFrame:
    """Return the rows that are not invalid; features among `gaps` may be null or NaN."""
    return df.where(F.concat_ws("", *_reasons(df, features, gaps)) == "")


def describe_invalid(counts: Counts, features: Features) -> str:
    """Say how many rows are invalid, and which columns hold what how often."""
    first = len(features.names)
    infinite = counts.infinite[first : first + len(features.beside)]
    wrong = [of.name for of, n in zip(features.beside, infinite, strict=True) if n]
    more = ""
    if wrong and not features.integrated:
        more = f", or move {wrong[0]!r} from input.counts to input.features"
    return (
        f"{counts.invalid:,} of {counts.read:,} rows are invalid "
        f"({describe_faults(counts, features)}): fix them, or set input.invalid_rows to drop or "
        f"quarantine{more}"
    )


def describe_faults(counts: Counts, features: Features) -> str:
    """Name the columns at fault, with what they hold in how many rows: the worst, where many."""
    names = _columns(features)
    fault = _at_fault(features)
    beside = [column.name for column in features.beside]
    found = []
    for kind, numbers in (
        ("null", counts.null * fault),
        ("NaN", counts.nan * fault),
        ("infinite", counts.infinite),
    ):
        for name, n in zip(names, numbers, strict=True):
            if n:
                infinite = kind == "infinite" and name in beside
                found.append((n, f"{name} {_NO_COUNT if infinite else kind}"))
    if counts.negative:
        found.append((counts.negative, f"{features.weight} negative"))
    if counts.ragged:
        found.append((counts.ragged, f"{features.vector} not of length {len(features.names)}"))
    if len(found) > _FAULTS:
        found.sort(key=lambda fault: -fault[0])
    return some_of([f"{what} in {n:,}" for n, what in found], _FAULTS)


def missing_by_column(counts: Counts, features: Features) -> dict[str, int]:
    """Return in how many rows each feature, and the weight, is null or NaN."""
    numbers = counts.null + counts.nan
    return dict(zip(_columns(features), map(int, numbers), strict=True))


def invalid_by_column(counts: Counts, features: Features) -> dict[str, int]:
    """Return in how many rows each feature, and the weight, holds what makes the row invalid.

    A row counts for each of its columns at fault, and for a vector of another length by the name of
    the vector, so that the numbers may sum to more than there are invalid rows.
    """
    numbers = (counts.null + counts.nan) * _at_fault(features) + counts.infinite
    found = dict(zip(_columns(features), map(int, numbers), strict=True))
    if features.weight is not None:
        found[features.weight] += int(counts.negative)
    if counts.ragged:
        found[str(features.vector)] = int(counts.ragged)
    return found


def describe_fate(counts: Counts, features: Features, invalid_rows: str) -> str:
    """Say what became of the invalid rows, and which columns are to blame."""
    fate = "put into rejected/" if invalid_rows == "quarantine" else "dropped"
    share = counts.invalid / max(counts.read, 1)
    return (
        f"{counts.invalid:,} of {counts.read:,} rows ({share:.2%}) are invalid and were {fate}: "
        f"{describe_faults(counts, features)}"
    )


def _at_fault(features: Features) -> Array:
    """Return whether null and NaN make a row invalid, of each feature and of the weight."""
    fault = np.ones(len(_columns(features)), dtype=bool)
    fault[: len(features.names) + len(features.beside)] = not features.missing
    return fault


def _columns(features: Features) -> tuple[str, ...]:
    """Return the names of what counts are of: the features, and the weight where there is one.

    Those beside the numeric ones, which are categorical or counts, come after them.
    """
    beside = (column.name for column in features.beside)
    return (*features.names, *beside, *([features.weight] if features.weight else []))


def count_invalid(df: DataFrame, features: Features, gaps: Collection[str] = ()) -> Counts:
    """Count what is wrong with which feature, in one pass of Spark SQL; weights do not count.

    Features among `gaps` may be null or NaN.
    """
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
        F.count_if(F.concat_ws("", *_reasons(df, features, gaps)) != ""),
        F.count_if(ragged),
        *(F.count_if(~ragged & kind(value)) for kind in kinds for value in values),
    ).first()
    assert row is not None
    null, nan, infinite = np.array(row[3:], dtype=np.int64).reshape(3, n_values)
    may_be = [i for i, name in enumerate(features.names) if name in gaps]
    null[may_be], nan[may_be] = 0, 0
    return Counts(row[0], row[1], row[2], 0, null, nan, infinite)


def _known(df: DataFrame, column: PartColumn, features: Features) -> Column:
    """Return a level's number or a count; what is integrated out where it is null is 0."""
    value = as_number(df, column)
    if not (features.integrated or features.missing):
        return value
    return F.coalesce(F.when(F.isnan(value), F.lit(0.0)).otherwise(value), F.lit(0.0))


def _is_infinite(value: Column) -> Column:
    return F.abs(value) == float("inf")


def _reasons(df: DataFrame, features: Features, gaps: Collection[str] = ()) -> list[Column]:
    if features.vector is None:
        reasons = [
            _reason(quoted(df, name).cast("double"), name, features.missing or name in gaps)
            for name in features.columns
        ]
    else:
        reasons = [_vector_reason(df, features)]
    for beside in features.beside:
        value = _known(df, beside, features)
        reasons.append(_reason(value, beside.name, infinite=f"{beside.name} is {_NO_COUNT}"))
    if features.weight is not None:
        weight = quoted(df, features.weight).cast("double")
        reasons.append(_reason(weight, features.weight))
        reasons.append(F.when(weight < 0, F.lit(f"{features.weight} is negative")))
    return reasons


def _reason(value: Column, name: str, gap: bool = False, infinite: str = "") -> Column:
    infinite = infinite or f"{name} is infinite"
    if gap:
        return F.when(_is_infinite(value), F.lit(infinite))
    return (
        F.when(value.isNull(), F.lit(f"{name} is null"))
        .when(F.isnan(value), F.lit(f"{name} is NaN"))
        .when(_is_infinite(value), F.lit(infinite))
    )


def _vector_reason(df: DataFrame, features: Features) -> Column:
    assert features.vector is not None
    name, d = features.vector, len(features.names)
    column = quoted(df, name)
    array = as_array(df, name).cast("array<double>")
    length = F.concat(F.lit(f"{name} has "), F.size(array), F.lit(f" values, not {d}"))
    infinite = F.exists(array, lambda v: F.coalesce(_is_infinite(v), F.lit(False)))
    if features.missing:
        of_other_length = column.isNotNull() & (F.size(array) != d)
        return F.when(of_other_length, length).when(infinite, F.lit(f"{name} holds infinity"))
    return (
        F.when(column.isNull(), F.lit(f"{name} is null"))
        .when(F.size(array) != d, length)
        .when(F.exists(array, lambda v: v.isNull()), F.lit(f"{name} holds null"))
        .when(F.exists(array, F.isnan), F.lit(f"{name} holds NaN"))
        .when(F.exists(array, _is_infinite), F.lit(f"{name} holds infinity"))
    )
