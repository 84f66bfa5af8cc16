"""The columns of a DataFrame that an estimator, a model or an evaluator uses."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, FloatType, NumericType

from sparkgmm.errors import InputError
from sparkgmm.formatting import quoted_list
from sparkgmm.mixture import Array
from sparkgmm.spark.blocks import Counts
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.source import (
    Features,
    did_you_mean,
    is_array,
    names_in_vector,
    noted_length,
    vector_features,
)

# So many features are named in a message.
_NAMED = 4
_REMEDY = "fix or drop such rows before the fit"


def check_column(df: DataFrame, param: str, name: str) -> None:
    """Refuse a column that is missing or appears twice.

    Raises
    ------
    InputError
        If so; it names the nearest column.

    """
    times = df.columns.count(name)
    if times > 1:
        raise InputError(f"{param} is {name!r}, which the DataFrame has {times} times: rename one")
    if times == 0:
        raise InputError(
            f"{param} is {name!r}, which the DataFrame does not have: "
            f"{did_you_mean(name, df.columns)}its columns are {quoted_list(df.columns)}"
        )


def check_features_column(df: DataFrame, name: str) -> None:
    """Refuse a features column that is missing or holds neither vectors nor arrays of numbers.

    Raises
    ------
    InputError
        If so.

    """
    check_column(df, "featuresCol", name)
    dtype = df.schema[name].dataType
    if not is_array(dtype):
        raise InputError(
            f"featuresCol is {name!r}, a column of type {dtype.simpleString()}: give one of "
            "vectors, array<double> or array<float>, which VectorAssembler makes of columns"
        )


def check_number(df: DataFrame, param: str, name: str) -> None:
    """Refuse a column that is missing or not numeric.

    Raises
    ------
    InputError
        If so.

    """
    check_column(df, param, name)
    dtype = df.schema[name].dataType
    if not isinstance(dtype, NumericType):
        raise InputError(
            f"{param} is {name!r}, a column of type {dtype.simpleString()}: give a numeric one"
        )


def check_new(df: DataFrame, names: Iterable[str]) -> None:
    """Refuse to add a column that is there already, or two of one name.

    Raises
    ------
    InputError
        If so.

    """
    taken = set(df.columns)
    for name in names:
        if name in taken:
            raise InputError(
                f"column {name!r} already exists: drop it, or set predictionCol, probabilityCol "
                "and logDensityCol to other names"
            )
        taken.add(name)


def find_features_column(df: DataFrame, name: str, weight: str | None) -> Features:
    """Resolve what is to be fitted; rows are looked at only where their length is not noted.

    Raises
    ------
    InputError
        If the DataFrame is a stream, a column is not as it should be, or no row has a value.

    """
    if df.isStreaming:
        raise InputError(
            "the DataFrame is a stream, which a fit cannot read to its end: fit a table; the model "
            "transforms streams"
        )
    check_features_column(df, name)
    if weight is not None:
        check_number(df, "weightCol", weight)
    d = noted_length(df, name)
    if d is None:
        return vector_features(df, name, weight)
    dtype = df.schema[name].dataType
    single = isinstance(dtype, ArrayType) and isinstance(dtype.elementType, FloatType)
    return Features(names_in_vector(df, name, d), (), name, weight, single)


def check_dataframe(blocks: Blocks, features: Features) -> None:
    """Stop at invalid rows, and where none counts, saying which columns hold what how often.

    Raises
    ------
    InputError
        If so.

    """
    counts = blocks.read.counts
    if counts.read == 0:
        raise InputError("the DataFrame has no rows: give one with data")
    if counts.invalid:
        raise InputError(_invalid(counts, features))
    _ = blocks.profile


def _invalid(counts: Counts, features: Features) -> str:
    d = len(features.names)
    faults = []
    fault = np.ones(d + (features.weight is not None), dtype=np.int64)
    fault[:d] = not features.missing
    for kind, numbers in (
        ("null", counts.null * fault),
        ("NaN", counts.nan * fault),
        ("infinite", counts.infinite),
    ):
        faults += _faulty(features, kind, numbers[:d])
        faults += [f"{features.weight} {kind} in {n:,}" for n in numbers[d:] if n]
    if counts.ragged:
        faults.append(f"{features.vector} not of length {d} in {counts.ragged:,}")
    if counts.negative:
        faults.append(f"{features.weight} negative in {counts.negative:,}")
    return (
        f"{counts.invalid:,} of {counts.read:,} rows are invalid ({', '.join(faults)}): {_REMEDY}"
    )


def _faulty(features: Features, kind: str, numbers: Array) -> list[str]:
    """Name the features that hold what is invalid, or their column if all do equally often."""
    if numbers.any() and (numbers == numbers[0]).all():
        return [f"{features.vector} {kind} in {numbers[0]:,}"]
    named = [(name, n) for name, n in zip(features.names, numbers, strict=True) if n]
    more = [f"{len(named) - _NAMED} more features {kind}"] if len(named) > _NAMED else []
    return [f"{name} {kind} in {n:,}" for name, n in named[:_NAMED]] + more
