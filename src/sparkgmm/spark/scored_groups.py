"""From a DataFrame to the scored DataFrame, where each group has a mixture of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import IntegerType, NumericType, StructField, StructType

from sparkgmm.errors import InputError
from sparkgmm.formatting import quoted_list
from sparkgmm.spark.group_scoring import GroupCounts, GroupScorer
from sparkgmm.spark.groups import group_key
from sparkgmm.spark.score_columns import columns_of
from sparkgmm.spark.scored_rows import SPARK_TYPES, ScoreRequest, check_columns
from sparkgmm.spark.source import Features, as_array, did_you_mean, quoted


@dataclass(frozen=True)
class GroupModels:
    """The groups of a run: their columns, the features, and the mixtures in the groups' order.

    `keys` has a row for each group: its columns as k0, k1, ... and its number in `models`, which
    are JSON, None of a group without a mixture.
    """

    names: tuple[str, ...]
    features: tuple[str, ...]
    vector: str | None
    keys: DataFrame
    models: list[str | None]

    @classmethod
    def of(
        cls,
        found: DataFrame,
        names: Sequence[str],
        features: Sequence[str],
        vector: str | None,
    ) -> GroupModels:
        """Take what a run has in groups/."""
        columns = [quoted(found, name) for name in names]
        rows = found.select(*columns, "model").orderBy(*columns).collect()
        keys = [StructField(f"k{i}", found.schema[n].dataType) for i, n in enumerate(names)]
        schema = StructType([*keys, StructField("number", IntegerType())])
        numbered = [(*row[:-1], number) for number, row in enumerate(rows)]
        numbers = found.sparkSession.createDataFrame(numbered, schema)
        models = [row["model"] for row in rows]
        return cls(tuple(names), tuple(features), vector, numbers, models)

    def check(self, df: DataFrame) -> None:
        """Refuse rows without the columns that tell groups apart, or with others of their names.

        Raises
        ------
        InputError
            If one is missing, appears twice, or is of a type that has no value in common.
        """
        for i, name in enumerate(self.names):
            if df.columns.count(name) != 1:
                hint = did_you_mean(name, df.columns)
                has = "has several times: rename one"
                if name not in df.columns:
                    has = f"does not have: {hint}its columns are {quoted_list(df.columns)}"
                raise InputError(f"the model has groups by column {name!r}, which the input {has}")
            met, known = df.schema[name].dataType, self.keys.schema[f"k{i}"].dataType
            numbers = isinstance(met, NumericType) and isinstance(known, NumericType)
            if met != known and not numbers:
                raise InputError(
                    f"the model has groups by column {name!r} of type {known.simpleString()}, "
                    f"which is of type {met.simpleString()} in the input: read it as "
                    f"{known.simpleString()} (input.options, for a CSV file a schema), or fit anew"
                )


def score_groups(
    df: DataFrame, features: Features, groups: GroupModels, request: ScoreRequest
) -> tuple[DataFrame, GroupCounts]:
    """Return the rows scored by the mixtures of their groups, and what is counted meanwhile.

    As `scored_rows.score_rows`, but that what is added is null where there is no mixture, and that
    arrays have as many values as the row's mixture has components.
    """
    check_columns(df, features, request)
    groups.check(df)
    sources = features.columns if features.vector is None else (features.vector,)
    kind = "double" if features.vector is None else "array<double>"
    values = [
        (quoted(df, name) if features.vector is None else as_array(df, name)).cast(kind)
        for name in sources
    ]
    selected = [*(quoted(df, name) for name in request.kept), *values]
    keys = [group_key(df, name).alias(f"g{i}") for i, name in enumerate(groups.names)]
    plain = df.select(*(column.alias(f"c{i}") for i, column in enumerate(selected)), *keys)
    same = (plain[f"g{i}"].eqNullSafe(groups.keys[f"k{i}"]) for i in range(len(keys)))
    joined = plain.join(F.broadcast(groups.keys), reduce(and_, same), "left")
    joined = joined.select(*(f"c{i}" for i in range(len(selected))), "number")
    columns = columns_of(request.columns)
    context = df.sparkSession.sparkContext
    n_kept = len(request.kept)
    scorer = GroupScorer(
        context.broadcast(groups.models),
        groups.features,
        columns,
        n_kept,
        tuple(range(n_kept, n_kept + len(sources))),
        features.vector is not None,
        request.fail,
    )
    counts = GroupCounts(*(context.accumulator(0) for _ in GroupCounts._fields))
    added = [StructField(column.name, SPARK_TYPES[column.type]) for column in columns]
    schema = StructType([*(df.schema[name] for name in request.kept), *added])
    return joined.mapInArrow(scorer.on_batches(counts), schema), counts
