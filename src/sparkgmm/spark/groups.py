"""Groups of rows as DataFrames: brought together, fitted, and what was found of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
)

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.formatting import quoted_list
from sparkgmm.spark.blocks import Counts
from sparkgmm.spark.driver_memory import byte_size
from sparkgmm.spark.group_rows import FIELDS, GroupTask, component_batches
from sparkgmm.spark.source import Features, as_array, did_you_mean, is_vector, quoted

# The values of a group are kept by a worker up to so many bytes: it takes about four times as
# much while it fits them. A larger group goes through the ordinary engine.
GROUP_BYTES = 64 * 2**20
# Groups go to at least so many tasks, and to so many a core: what a kill loses are unfinished ones.
_LEAST_TASKS, _TASKS_A_CORE = 16, 4
_TASK_BYTES = 2**26
# The types of `group_rows.FIELDS`, by pyarrow's names for them.
_SPARK_TYPES: dict[str, DataType] = {
    "int64": LongType(),
    "int32": IntegerType(),
    "float64": DoubleType(),
    "bool_": BooleanType(),
    "string": StringType(),
    "list": ArrayType(LongType()),
}


def check_group_columns(df: DataFrame, names: Sequence[str]) -> None:
    """Refuse columns to group by that are missing, appear twice, or hold more than one value.

    Raises
    ------
    InputError
        If a column is missing or appears twice.
    ConfigurationError
        If it is of a type that groups cannot be told by, or has the name of a column of groups/.
    """
    for name in names:
        if df.columns.count(name) != 1:
            several = (
                "has several times: rename one"
                if name in df.columns
                else (
                    f"does not have: {did_you_mean(name, df.columns)}its columns are "
                    f"{quoted_list(df.columns)}"
                )
            )
            raise InputError(f"input.group_by names column {name!r}, which the input {several}")
        dtype = df.schema[name].dataType
        if isinstance(dtype, ArrayType | MapType | StructType | BinaryType) or is_vector(dtype):
            raise ConfigurationError(
                f"input.group_by names column {name!r}, which is of type {dtype.simpleString()}: "
                "name columns of text, numbers, booleans or dates"
            )
        if name.casefold() in _TAKEN:
            raise ConfigurationError(
                f"input.group_by names column {name!r}, a name that groups/ or components/ has "
                "for what is found: rename it"
            )


_TAKEN = {*FIELDS, "component", "weight", "mean", "covariance"}


def group_key(df: DataFrame, name: str) -> Column:
    """Return a column to group by, in which NaN is null and minus zero is zero."""
    column = quoted(df, name)
    if isinstance(df.schema[name].dataType, DoubleType | FloatType):
        return F.when(~F.isnan(column), column + F.lit(0).cast(df.schema[name].dataType))
    return column


def most_group_bytes(spark: SparkSession) -> int:
    """Return how many bytes of values a worker keeps of a group."""
    wanted = spark.conf.get("spark.sparkgmm.groupBytes", None)
    return GROUP_BYTES if wanted is None else byte_size(wanted)


def fitted_groups(
    df: DataFrame,
    features: Features,
    names: Sequence[str],
    task: GroupTask,
    done: DataFrame | None,
    n_bytes: int,
) -> DataFrame:
    """Return a row for each group that is not `done`: its columns, and what was found.

    The rows of a group come together by one shuffle; their order does not matter, as each group
    is put into the order of its values. `n_bytes` is about what the input has.
    """
    keys = [f"g{i}" for i in range(len(names))]
    selected = [group_key(df, name).alias(key) for name, key in zip(names, keys, strict=True)]
    if features.vector is None:
        columns = [
            quoted(df, name).cast("double").alias(f"f{i}")
            for i, name in enumerate(features.columns)
        ]
    else:
        columns = [as_array(df, features.vector).cast("array<double>").alias("f0")]
    if features.weight is not None:
        columns.append(quoted(df, features.weight).cast("double").alias("weight"))
    rows = df.select(*selected, *columns)
    if done is not None:
        known = done.select(*(quoted(done, n).alias(f"k{i}") for i, n in enumerate(names)))
        same = reduce(and_, (rows[key].eqNullSafe(known[f"k{i}"]) for i, key in enumerate(keys)))
        rows = rows.join(F.broadcast(known), same, "left_anti")
    cores = df.sparkSession.sparkContext.defaultParallelism
    n = max(_LEAST_TASKS, _TASKS_A_CORE * cores, -(-n_bytes // _TASK_BYTES))
    together = rows.repartition(n, *keys).sortWithinPartitions(*keys)
    schema = result_schema(df, names)
    named = zip(keys, names, strict=True)
    plain = [StructField(key, schema[name].dataType) for key, name in named]
    plain += schema.fields[len(names) :]
    return together.mapInArrow(task.on_batches(), StructType(plain)).toDF(*schema.names)


def result_schema(df: DataFrame, names: Sequence[str]) -> StructType:
    """Return the columns of what is found: those of the group, then `group_rows.FIELDS`."""
    found = [StructField(name, _SPARK_TYPES[kind]) for name, kind in FIELDS.items()]
    return StructType([*(StructField(name, df.schema[name].dataType) for name in names), *found])


def of_group(df: DataFrame, names: Sequence[str], values: Sequence[Any]) -> DataFrame:
    """Return the rows of one group."""
    types = [df.schema[name].dataType for name in names]
    same = (
        group_key(df, name).eqNullSafe(_literal(value, dtype))
        for name, value, dtype in zip(names, values, types, strict=True)
    )
    return df.where(reduce(and_, same))


def _literal(value: Any, dtype: DataType) -> Column:
    return F.lit(value).cast(dtype)


def group_named(names: Sequence[str], values: Sequence[Any]) -> str:
    """Return how a message calls a group: station = 'north', year = 2019."""
    said = (
        f"{name} = {value!r}" if isinstance(value, str) else f"{name} = {_shown(value)}"
        for name, value in zip(names, values, strict=True)
    )
    return ", ".join(said)


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)


@dataclass(frozen=True)
class GroupTotals:
    """What all groups come to; `reasons` are the commonest errors, without their numbers."""

    n_groups: int
    n_fitted: int
    n_converged: int
    rows_used: int
    log_likelihood: float
    n_parameters: int
    bic: float
    sum_of_weights: float
    by_size: Sequence[Mapping[str, Any]]
    exit_codes: Mapping[int, int]
    rows_set_aside: int
    groups_set_aside: int
    counts: Counts

    @property
    def n_failed(self) -> int:
        """The groups without a mixture."""
        return self.n_groups - self.n_fitted


def totals_of(found: DataFrame, names: Sequence[str], width: int) -> GroupTotals:
    """Add up what was found; in the order of the groups, so that sums have the same bits.

    `width` is the number of features, and of the weight.
    """
    numbers = (
        "rows_used",
        "rows_read",
        "rows_invalid",
        "log_likelihood",
        "bic",
        "sum_of_weights",
        "n_parameters",
        "rows_set_aside",
        "converged",
        "exit_code",
    )
    totals = dict.fromkeys(numbers[:8], 0.0)
    n_groups = n_fitted = n_converged = n_aside = 0
    exit_codes: dict[int, int] = {}
    counts = np.zeros(2 + 3 * width, dtype=np.int64)
    for row in in_order(found, names, *numbers, "faults"):
        n_groups += 1
        if row["exit_code"] is None:
            n_fitted += 1
            n_converged += bool(row["converged"])
            n_aside += bool(row["rows_set_aside"])
        else:
            exit_codes[row["exit_code"]] = exit_codes.get(row["exit_code"], 0) + 1
        for name in totals:
            totals[name] += row[name] or 0
        if row["faults"] is not None:
            counts += np.array(row["faults"], dtype=np.int64)
    shapes = found.where("error IS NULL").groupBy("k", "covariance_type").count()
    by_size = [row.asDict() for row in shapes.orderBy("k", "covariance_type").collect()]
    return GroupTotals(
        n_groups,
        n_fitted,
        n_converged,
        int(totals["rows_used"]),
        totals["log_likelihood"],
        int(totals["n_parameters"]),
        totals["bic"],
        totals["sum_of_weights"],
        by_size,
        exit_codes,
        int(totals["rows_set_aside"]),
        n_aside,
        Counts(
            int(totals["rows_read"]),
            int(totals["rows_invalid"]),
            int(counts[0]),
            int(counts[1]),
            *counts[2:].reshape(3, -1),
        ),
    )


def in_order(found: DataFrame, names: Sequence[str], *columns: str) -> Iterator[Row]:
    """Yield rows in the order of their groups, a partition at a time on the driver."""
    keys = [quoted(found, name) for name in names]
    narrow = found.select(*keys, *columns).orderBy(*keys)
    return narrow.toLocalIterator()


def components_of(found: DataFrame, names: Sequence[str]) -> DataFrame:
    """Return a row for each component of each group, in the order of the groups."""
    vector = ArrayType(DoubleType())
    schema = StructType(
        [
            StructField("component", IntegerType()),
            StructField("weight", DoubleType()),
            StructField("mean", vector),
            StructField("covariance", ArrayType(vector)),
        ]
    )
    keys = [found.schema[name] for name in names]
    plain = [StructField(f"g{i}", key.dataType) for i, key in enumerate(keys)]
    some = found.where("model IS NOT NULL").select(*(quoted(found, n) for n in names), "model")
    some = some.toDF(*(f.name for f in plain), "model")
    return some.mapInArrow(component_batches, StructType([*plain, *schema.fields])).toDF(
        *names, *schema.names
    )
