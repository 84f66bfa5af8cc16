"""Which columns of the input a fit takes, and which it leaves out for what reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pyspark.sql import DataFrame
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    StringType,
    TimestampNTZType,
    TimestampType,
)

from sparkgmm.formatting import by_value, some_of
from sparkgmm.runs.column_kinds import ColumnKind, kinds_of
from sparkgmm.runs.config import InputConfig
from sparkgmm.spark.error_translation import translated_errors
from sparkgmm.spark.partitions import described
from sparkgmm.spark.source import Features, Opened, as_arrow, is_array, quoted

# The key of metrics.json, and the reason of features that are dropped.
LEFT_OUT = "columns_left_out"
CONSTANT = "constant: the same in every row"
# So many columns of text are looked into, and so many of their rows.
_LOOKED_INTO = 24
_ROWS = 1000
# So many reasons are shown.
_REASONS = 12


def account(
    opened: Opened, features: Features, source: InputConfig, say: Callable[[str], None]
) -> dict[str, str]:
    """Say what is taken and what is left out; return the latter with its reasons."""
    without = left_out(opened.df, features, source)
    for line in (*taken(features, source), *left_out_lines(without)):
        say(line)
    return without


def taken(features: Features, source: InputConfig) -> list[str]:
    """Say which columns are taken as what, a line each kind."""
    levels = [
        f"{c.name} ({len(c.levels)} levels)" for c in features.beside if c.kind == "categorical"
    ]
    counts = [c.name for c in features.beside if c.kind == "counts"]
    return [
        f"features {len(features.names)} ({features.dtype}): {some_of(features.names)}",
        *([f"categorical {len(levels)}: {some_of(levels)}"] if levels else []),
        *([f"counts   {len(counts)}: {some_of(counts)}"] if counts else []),
        *([f"weight   {features.weight}"] if features.weight else []),
        *(
            [f"groups   by {', '.join(source.group_by)}: a mixture for each"]
            if source.group_by
            else []
        ),
    ]


def left_out(df: DataFrame, features: Features, source: InputConfig) -> dict[str, str]:
    """Return the reason of each column that is neither feature nor anything else of the fit.

    Why text is no feature is found in its first rows, but where those must be searched for or
    are computed by a catalog's view.
    """
    roles = {features.vector, features.weight, *source.group_by, *features.columns}
    roles |= {column.name for column in features.beside}
    others = {f.name: f.dataType for f in df.schema.fields if f.name not in roles}
    if source.features is not None:
        return dict.fromkeys(others, "not named in input.features")
    found = {}
    if source.where is None and source.table is None:
        text = [name for name, dtype in others.items() if isinstance(dtype, StringType)]
        found = _of_first_rows(df, text, source)
    return {name: found.get(name) or _of_type(dtype) for name, dtype in others.items()}


def _of_first_rows(df: DataFrame, text: list[str], source: InputConfig) -> dict[str, str]:
    """Return why columns of text are no features, as far as they are looked into."""
    folded = [name.casefold() for name in df.columns]
    text = [name for name in text if folded.count(name.casefold()) == 1][:_LOOKED_INTO]
    if not text:
        return {}
    with translated_errors(source.place), described(df.sparkSession, "looking at text"):
        table = as_arrow(df.select([quoted(df, name) for name in text]).limit(_ROWS))
    seen = f" (first {_ROWS:,} rows)" if table.num_rows == _ROWS else ""
    return {kind.name: _why(kind) + seen for kind in kinds_of(table)}


def _why(kind: ColumnKind) -> str:
    if kind.kind == "out":
        return kind.what
    if kind.words:
        words = " and ".join(map(repr, kind.words[:3]))
        return f"text, for {words} among its numbers: options nullValue or schema read that as null"
    if kind.numeric:
        return "numbers written as text: make numbers of them first"
    return f"text of {kind.what}: name it in input.categorical"


def _of_type(dtype: DataType) -> str:
    if isinstance(dtype, StringType):
        return "text: where it has few values, name it in input.categorical"
    if isinstance(dtype, BooleanType):
        return "true or false: name it in input.categorical"
    if isinstance(dtype, DateType | TimestampType | TimestampNTZType):
        return "a date or a time: make a number of it first"
    if is_array(dtype):
        return "numbers in one column: it can be the one entry of input.features, alone"
    return f"of type {dtype.simpleString()[:40]}, no number"


def left_out_lines(reasons: Mapping[str, str], where: str = "metrics.json") -> list[str]:
    """Say which columns are left out, a line each reason, and `where` the others of many are."""
    grouped = by_value(reasons)
    lines = [f"left out {some_of(names)}: {why}" for why, names in grouped[:_REASONS]]
    more = sum(len(names) for _, names in grouped[_REASONS:])
    return lines + ([f"left out {more:,} more: {where} has the reasons"] if more else [])
