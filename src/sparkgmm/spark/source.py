"""Read the input and say what its features are."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.ml.functions import vector_to_array
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    FloatType,
    FractionalType,
    IntegralType,
    NumericType,
    StringType,
)

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.formatting import quoted_list
from sparkgmm.parts import BOOLEANS, MOST_LEVELS, WHOLE
from sparkgmm.parts import Column as PartColumn
from sparkgmm.spark.blocks import distinct_levels
from sparkgmm.spark.data_sources import check_format, unknown_format
from sparkgmm.spark.error_translation import input_at, translate, translated_errors
from sparkgmm.spark.file_systems import INPUT, first_line, logging_when_slow, system_of
from sparkgmm.spark.names import TableName
from sparkgmm.spark.nanoseconds import load
from sparkgmm.spark.storage import FileInfo, Folder, input_files
from sparkgmm.spark.table_errors import FORMATS
from sparkgmm.spark.tables import Snapshot, pin, table_format, without_feed_columns

if TYPE_CHECKING:
    import pyarrow as pa

EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".orc": "orc",
}
# So many rows or files are looked at to guess what the others will be.
_PEEK = 1000
_FEW = 20
NO_ROWS = "the input has no rows: give a file with data, or check input.where"
COMPRESSIONS = {".gz", ".bz2", ".zst", ".lz4", ".snappy", ".xz", ".deflate"}


@dataclass(frozen=True)
class Features:
    """Which columns of a DataFrame are features and weight, and how they are read.

    Either `columns` are scalars, one a feature, or `vector` is the one column that holds them all.
    Where values may be `missing`, null and NaN in a feature do not make a row invalid. `beside` are
    the columns that are categorical or counts; where rows are scored, what is null there, or a
    level that the model has not seen, is `integrated` out, and no fault of the row.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    vector: str | None
    weight: str | None
    single: bool
    beside: tuple[PartColumn, ...] = ()
    integrated: bool = False
    missing: bool = False

    def with_missing(self, missing: str) -> Features:
        """Return the features with null and NaN "invalid", or missing: to "model"."""
        return replace(self, missing=missing == "model")

    @property
    def dtype(self) -> str:
        """The width of the blocks: that of the source."""
        return "float32" if self.single else "float64"

    def without(self, dropped: Sequence[str]) -> Features:
        """Leave some out; a vector column's features have no column of their own to leave out."""
        kept = tuple(name for name in self.names if name not in dropped)
        return replace(self, names=kept, columns=kept, vector=None)

    def project(self, df: DataFrame) -> DataFrame:
        """Select features and weight as float or double, under names without surprises."""
        wide = "float" if self.single else "double"
        if self.vector is None:
            selected = [
                quoted(df, name).cast(wide).alias(f"f{i}") for i, name in enumerate(self.columns)
            ]
        else:
            selected = [as_array(df, self.vector).cast(f"array<{wide}>").alias("f0")]
        for i, beside in enumerate(self.beside):
            selected.append(as_number(df, beside).cast(wide).alias(f"p{i}"))
        if self.weight is not None:
            selected.append(quoted(df, self.weight).cast("double").alias("weight"))
        return df.select(selected)


def quoted(df: DataFrame, name: str) -> Column:
    """Return the column of exactly this name, dots, blanks and backticks included."""
    return df["`" + name.replace("`", "``") + "`"]


# Floats below it are cast to integers of 64 bits.
_MOST_WHOLE = 9e18


def free_name(df: DataFrame, name: str) -> str:
    """Return a name that no column has, in whatever case: this one, with underscores before it.

    Spark takes names that differ in case alone for one, unless told otherwise.
    """
    taken = {column.casefold() for column in df.columns}
    while name.casefold() in taken:
        name = f"_{name}"
    return name


def as_number(df: DataFrame, column: PartColumn, unseen: float | None = None) -> Column:
    """Return a count as it is, and a level as its number from 0: null where there is none.

    What is no count is -inf, which no row may have. A level that the column does not list is
    `unseen`, where that is given.
    """
    value = quoted(df, column.name)
    fractional = isinstance(df.schema[column.name].dataType, FractionalType)
    if column.kind == "counts":
        count = value.cast("double")
        wrong = (count < 0) | ((count % 1 != 0) & ~F.isnan(count))
        return F.when(wrong, F.lit(-math.inf)).otherwise(count)
    pairs = [F.lit(x) for i, level in enumerate(column.levels) for x in (level, float(i))]
    number, text = F.create_map(*pairs), value.cast("string")
    if fractional:  # of integers beside nulls, as some programs write them: 1.0E7
        whole = (value % 1 == 0) & (F.abs(value) < _MOST_WHOLE)
        text = F.when(whole, value.cast("bigint").cast("string"))
    found = F.coalesce(number[text], number[_as_written(text, column.levels)])
    if unseen is None:
        return found
    known = value.isNotNull()
    if fractional:
        known &= ~F.isnan(value.cast("double"))
    return F.coalesce(found, F.when(known, F.lit(unseen)))


def _as_written(text: Column, levels: Sequence[str]) -> Column:
    """Return the level that a text stands for, as `parts.level_of` does."""
    whole = F.regexp_replace(text, f"^{WHOLE.pattern}$", "$1")
    if len(levels) > 2 or not set(levels) <= set(BOOLEANS.values()):
        return whole
    pairs = [F.lit(value) for pair in BOOLEANS.items() for value in pair]
    return F.create_map(*pairs)[F.lower(whole)]


def as_array(df: DataFrame, name: str) -> Column:
    """Return a vector or array column as an array; null stays null, which Spark's own refuses."""
    column = quoted(df, name)
    if not is_vector(df.schema[name].dataType):
        return column
    return F.when(column.isNotNull(), vector_to_array(column))


def as_arrow(df: DataFrame) -> pa.Table:
    """Collect rows as a table of pyarrow."""
    import pyarrow as pa

    if hasattr(df, "toArrow"):  # Spark 4
        return df.toArrow()
    return pa.Table.from_pandas(df.toPandas(), preserve_index=False)


def is_vector(dtype: DataType) -> bool:
    """Tell pyspark.ml's vectors."""
    return dtype.typeName() in ("vectorudt", "udt") or type(dtype).__name__ == "VectorUDT"


def format_of(path: object) -> str:
    """Tell the format by the extension of the path, below a compression's."""
    first = path[0] if isinstance(path, list | tuple) and path else path
    suffixes = [s.lower() for s in PurePosixPath(str(first or "").rstrip("/")).suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    found = EXTENSIONS.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise ConfigurationError(
            f"input.format is not set and the extension of {first!r} does not say it: set it to "
            "csv, parquet, json, orc or another Spark data source"
        )
    return found


def _format_inside(spark: SparkSession, path: object) -> str | None:
    """Tell the format of a folder: a table's, or by the first file whose extension is known."""
    first = path[0] if isinstance(path, list | tuple) and path else path
    if not isinstance(first, str) or PurePosixPath(first).suffix.lower() in EXTENSIONS:
        return None
    try:
        names = _names_below(spark, first)
        if any(name.startswith(("_delta_log/", "metadata/")) for name in names):
            return table_format(Folder(spark, first, INPUT)) or _format_of_any(names)
    except Py4JJavaError:  # a glob that is none: the reader will say what is wrong
        return None
    return _format_of_any(names)


def _format_of_any(names: Sequence[str]) -> str | None:
    for name in names:
        if not any(part.startswith(("_", ".")) for part in PurePosixPath(name).parts):
            with contextlib.suppress(ConfigurationError):
                return format_of(name)
    return None


def _names_below(spark: SparkSession, path: str) -> list[str]:
    """Return the names of the first files below a folder, or below what matches a glob."""
    folder = Folder(spark, path, INPUT)
    if not _is_glob(path):
        return [info.path for info in folder.files(most=_PEEK)]
    first = folder.matches(most=1)
    return [path for match in first for path in (match.name, *_below(match))]


def _is_glob(path: str) -> bool:
    return re.search(r"[*?\[{]", path) is not None


def _below(folder: Folder) -> list[str]:
    return [] if folder.is_file() else [info.path for info in folder.files(most=_PEEK)]


@dataclass(frozen=True)
class Opened:
    """An input that was opened: its rows, and which state of a table they are, if it has states."""

    df: DataFrame
    snapshot: Snapshot | None


def open_rows(
    spark: SparkSession,
    place: str | Sequence[str] | TableName | None,
    format: str | None = None,  # noqa: A002
    options: Mapping[str, object] | None = None,
    where: str | None = None,
    begun: Mapping[str, object] | None = None,
) -> Opened:
    """Open the input, as `read` does; of a Delta or Iceberg table one state is read from then on.

    `begun` is the record of the state with which an unfinished run was begun.

    Raises
    ------
    InputError
        If the input is missing, empty or unreadable, or has no such version.
    ConfigurationError
        If the format is unknown or the predicate is not SQL over the columns.

    """
    if not isinstance(place, TableName):
        format = format or _format_inside(spark, place) or format_of(place)  # noqa: A001
        _check_no_table(spark, place, format)
    snapshot = None
    if isinstance(place, TableName) or format in FORMATS:
        with _reading(place, format):
            snapshot = pin(spark, place, format, options or {}, begun)
    if snapshot is None:
        return Opened(read(spark, place, format, options, where), None)
    df = snapshot.rows(read(spark, place, format, snapshot.options), where)
    return Opened(without_feed_columns(_where(df, where), snapshot), snapshot)


def _check_no_table(spark: SparkSession, path: object, source: str) -> None:
    """Refuse the bare files of a table: they hold rows that the table has no longer."""
    if source not in ("parquet", "orc"):
        return
    places = [path] if isinstance(path, str) else path
    checked: set[str] = set()
    for place in places if isinstance(places, list | tuple) else ():
        for folder in _folders_around(spark, str(place)):
            if folder.uri in checked:
                continue
            checked.add(folder.uri)
            try:
                found = table_format(folder)
            except InputError:
                if folder.uri == Folder(spark, str(place), INPUT).uri:
                    raise
                continue  # who may read a folder may not always look above it
            if found is not None:
                raise ConfigurationError(
                    f"input.path {place!r} names files of a table of format {found} "
                    f"({folder.path}), which also hold rows that the table has no longer, and "
                    f"input.format is {source!r}: set input.path to the table, input.format to "
                    f"{found}, and choose rows by input.where"
                )


def _folders_around(spark: SparkSession, place: str) -> Iterator[Folder]:
    """Yield what a path names or matches, and the folders above of whose table it may be a part.

    A glob's first matches stand for all.
    """
    here = Folder(spark, place, INPUT)
    try:
        found = here.matches(most=_FEW) if _is_glob(place) else [here]
    except Py4JJavaError:  # a glob that is none: the reader will say what is wrong
        return
    for match in found:
        yield match
        below = match
        while below.name:
            yield below.parent
            if "=" not in below.name:  # a folder of a partition
                break
            below = below.parent


def read(
    spark: SparkSession,
    path: str | Sequence[str] | TableName | None,
    format: str | None = None,  # noqa: A002
    options: Mapping[str, object] | None = None,
    where: str | None = None,
) -> DataFrame:
    """Open the input; a job runs only where a schema must be inferred.

    Raises
    ------
    InputError
        If the path is missing, empty or unreadable.
    ConfigurationError
        If the format is unknown or the predicate is not SQL over the columns.

    """
    _check_reachable(spark, path)
    table = isinstance(path, TableName)
    source = None if table else format or _format_inside(spark, path) or format_of(path)
    if source is not None and source not in FORMATS:  # for those it was done to settle the version
        check_format(spark, source)
    options = dict(options or {})
    if source == "csv" and not {"inferschema", "schema"} & {key.lower() for key in options}:
        options["inferSchema"] = True
    reader = spark.read if source is None else spark.read.format(source)
    with _reading(path, source), logging_when_slow(path):
        for key, value in options.items():
            if key.lower() == "schema":
                reader = reader.schema(str(value))
            elif value is not None:
                reader = reader.option(key, value if isinstance(value, bool) else str(value))
        if isinstance(path, TableName):
            df = reader.table(path.quoted)
        else:
            places = path if path is None or isinstance(path, str) else list(path)
            if source == "parquet":
                df = load(spark, lambda: reader.load(places))
            else:
                df = reader.load(places)
    return _where(df, where)


def _check_reachable(spark: SparkSession, path: object) -> None:
    """Ask each far store once, before Spark does: it looks twice, and swallows the first error."""
    listed = path if isinstance(path, list | tuple) else [path]
    by_store = {system_of(p): p for p in listed if isinstance(p, str)}
    for store, first in by_store.items():
        if store is not None:
            Folder(spark, first, INPUT).exists()


@contextlib.contextmanager
def _reading(path: object, source: str | None) -> Iterator[None]:
    """Raise what Spark raises while an input is opened as the error to show."""
    try:
        yield
    except Exception as error:
        if "DATA_SOURCE_NOT_FOUND" in str(error) or "Failed to find data source" in str(error):
            raise unknown_format(str(source)) from error
        known = translate(error, path)
        if known:
            raise known from error
        if isinstance(error, PySparkException | Py4JJavaError):  # or the JVM is gone
            what = "as a table" if source is None else f"as {source}"
            key = "" if source is None else "input.format and "
            raise InputError(
                f"{input_at(path)} cannot be read {what} ({first_line(error)}): check "
                f"{key}input.options"
            ) from error
        raise


def _where(df: DataFrame, where: str | None) -> DataFrame:
    if where is None:
        return df
    try:
        return df.where(where)
    except PySparkException as error:
        unknown = re.search(r"UNRESOLVED_COLUMN.* with name `(.+?)` cannot", str(error))
        if unknown is not None:
            name = unknown[1].replace("`.`", ".")
            raise ConfigurationError(
                f"input.where {where!r} names column {name!r}, which the input does not have: "
                f"{did_you_mean(name, df.columns)}its columns are {quoted_list(df.columns)}"
                f"{_header_hint(df)}"
            ) from error
        raise ConfigurationError(
            f"input.where {where!r} is no predicate on the columns ({first_line(error)}): "
            f"use SQL over {quoted_list(df.columns)}"
        ) from error


def files_of(df: DataFrame, path: object) -> list[FileInfo]:
    """List the files of the input; Spark evaluates what is constant in a predicate for it."""
    with translated_errors(path), logging_when_slow(path):
        return input_files(df.sparkSession, df.inputFiles())


def find_features(
    df: DataFrame,
    features: Sequence[str] | str | None,
    weight: str | None,
    beside: Sequence[PartColumn] = (),
    groups: Sequence[str] = (),
) -> Features:
    """Resolve the features by name, or take every numeric column but the weight and the groups.

    Nor are those `beside`, which are categorical or counts, features by themselves.

    Raises
    ------
    InputError
        If a column is missing, is named twice in the data, or is not of a numeric type.

    """
    if not df.columns:
        raise InputError("the input has no columns and no rows: give a file with data")
    if weight is not None:
        _check_column(df, weight, "input.weight")
    if features is None:
        others = {weight, *groups, *(column.name for column in beside)}
        names = tuple(name for name in _numeric_columns(df) if name not in others)
        if not names and not beside:
            _check_rows(df)
            raise InputError(
                f"the input has no numeric column (columns: {_typed(df)}): name the features in "
                "input.features, or check input.options (header, sep, encoding, inferSchema)"
            )
    else:
        names = (features,) if isinstance(features, str) else tuple(features)
    for name in names:
        _check_column(df, name, "input.features", vector_allowed=len(names) == 1)
    if not names:
        return Features((), (), None, weight, False, tuple(beside))
    first = df.schema[names[0]].dataType
    if len(names) == 1 and (is_vector(first) or isinstance(first, ArrayType)):
        return (
            replace(vector_features(df, names[0], weight), single=False, beside=tuple(beside))
            if beside
            else vector_features(df, names[0], weight)
        )
    single = all(isinstance(df.schema[name].dataType, FloatType) for name in names)
    return Features(names, names, None, weight, single and not beside, tuple(beside))


def find_model_features(
    df: DataFrame,
    names: Sequence[str] | None,
    d: int,
    vector: str | None,
    beside: Sequence[PartColumn] = (),
) -> Features:
    """Find the columns that a model of d features was fitted on.

    `vector` is the column that held them all, if they were not columns of their own. Without
    `names` every numeric column is one, in the input's order. Those `beside` are categorical or
    counts. Vectors whose features have names may have them in another order: so has the result.

    Raises
    ------
    InputError
        If any are missing, appear twice in the data, or are not of the type that is needed: all are
        named.

    """
    if not df.columns:
        raise InputError("the input has no columns and no rows: give a file with data")
    if names is None:
        names = _numeric_columns(df)
        if len(names) != d:
            _check_rows(df)
            raise InputError(
                f"the model has {d} features without names, the input {len(names)} numeric "
                f"columns ({_typed(df)}): give an input of those {d} alone, or a model with names"
            )
    of_levels = [column.name for column in beside if column.kind == "categorical"]
    of_counts = [column.name for column in beside if column.kind == "counts"]
    if vector is not None and (vector in df.columns or not set(names) <= set(df.columns)):
        _check_model_columns(df, [vector], is_array, "a vector or an array of numbers")
        names, scalars = tuple(order_in_vector(df, vector, names, d)), tuple[str, ...]()
        wanted = of_counts
    else:
        vector, names, scalars = None, tuple(names), tuple(names)
        wanted = [*names, *of_counts]
    if wanted or not beside:
        _check_model_columns(df, wanted, _is_number, "a number")
    whole = [c.name for c in beside if c.kind == "categorical" and _are_whole(c.levels)]
    _check_model_columns(df, whole, _may_be_whole, "text, a boolean or a number")
    others = [name for name in of_levels if name not in whole]
    _check_model_columns(df, others, _has_levels, "text, a boolean or an integer")
    return Features(names, scalars, vector, None, False, tuple(beside), integrated=True)


def _check_model_columns(
    df: DataFrame, names: Sequence[str], fits: Callable[[DataType], bool], what: str
) -> None:
    missing = [name for name in names if name not in df.columns]
    if missing:
        hints = {name: did_you_mean(name, df.columns).rstrip() for name in missing}
        listed = ", ".join(
            repr(name) + (f" ({hints[name]})" if hints[name] else "") for name in missing
        )
        raise InputError(
            f"the model was fitted on {listed}, which the input does not have: its columns are "
            f"{quoted_list(df.columns)}{_header_hint(df)}"
        )
    twice = [name for name in names if df.columns.count(name) > 1]
    if twice:
        raise InputError(
            f"the model was fitted on {quoted_list(twice)}, which the input has several times: "
            "rename one"
        )
    wrong = [
        f"{name!r}, which is of type {df.schema[name].dataType.simpleString()}{_example(df, name)}"
        for name in names
        if not fits(df.schema[name].dataType)
    ]
    if wrong:
        _check_rows(df)
        raise InputError(
            f"the model was fitted on {', '.join(wrong)}, not {what}: turn it into one first"
        )


def _has_levels(dtype: DataType) -> bool:
    return isinstance(dtype, StringType | BooleanType | IntegralType)


def _may_be_whole(dtype: DataType) -> bool:
    return _has_levels(dtype) or isinstance(dtype, NumericType)


def _are_whole(levels: Sequence[str]) -> bool:
    """Return whether all levels are integers or booleans, which a number may stand for."""
    return all(WHOLE.fullmatch(f"{level}.0") for level in levels) or set(levels) <= set(
        BOOLEANS.values()
    )


def find_part_columns(
    df: DataFrame, categorical: Sequence[str], counts: Sequence[str]
) -> tuple[PartColumn, ...]:
    """Return the categorical columns with the levels that the rows have, and the counts.

    The rows are read once for it, these columns alone. A level is the text of a string, a boolean
    or an integer; levels are in the order of their text.

    Raises
    ------
    InputError
        If a column is missing or of another type, or has too many levels.

    """
    if not categorical and not counts:
        return ()
    if not df.columns:
        raise InputError("the input has no columns and no rows: give a file with data")
    for name in categorical:
        _check_column(df, name, "input.categorical", fits=_has_levels)
    for name in counts:
        _check_column(df, name, "input.counts")
    levels = _levels_of(df, categorical)
    return (
        *(PartColumn(name, "categorical", levels[name]) for name in categorical),
        *(PartColumn(name, "counts") for name in counts),
    )


def _levels_of(df: DataFrame, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    if not names:
        return {}
    texts = df.select([quoted(df, n).cast("string").alias(f"c{i}") for i, n in enumerate(names)])
    found = texts.mapInArrow(distinct_levels, "at int, level string").distinct().collect()
    levels: dict[str, tuple[str, ...]] = {}
    for i, name in enumerate(names):
        mine = sorted(row["level"] for row in found if row["at"] == i)
        if len(mine) > MOST_LEVELS:
            row = df.agg(F.count_distinct(quoted(df, name))).first()
            raise InputError(
                f"column {name!r} has {len(mine) if row is None else row[0]:,} levels, such as "
                f"{mine[0]!r} and {mine[1]!r}; a column of input.categorical may have "
                f"{MOST_LEVELS}: leave it out, or join levels"
            )
        if not mine:
            _check_rows(df)
            raise InputError(
                f"column {name!r} of input.categorical is null in every row: leave it out"
            )
        levels[name] = tuple(mine)
    return levels


def _is_number(dtype: DataType) -> bool:
    return isinstance(dtype, NumericType | BooleanType)


def is_array(dtype: DataType) -> bool:
    """Tell vectors and arrays of numbers."""
    return is_vector(dtype) or (
        isinstance(dtype, ArrayType) and isinstance(dtype.elementType, NumericType)
    )


def _attributes(df: DataFrame, name: str) -> dict[str, Any]:
    """Return what Spark ML's stages noted of a column, empty if they did not."""
    noted = df.schema[name].metadata.get("ml_attr")
    return noted if isinstance(noted, dict) else {}


def noted_length(df: DataFrame, name: str) -> int | None:
    """Return the length of a column's vectors if a stage noted it."""
    if not is_vector(df.schema[name].dataType):
        return None
    d = _attributes(df, name).get("num_attrs")
    return d if isinstance(d, int) and d > 0 else None


def noted_names(df: DataFrame, name: str, d: int) -> tuple[str, ...] | None:
    """Return the names that VectorAssembler noted, if every feature has one of its own."""
    kinds = _attributes(df, name).get("attrs", {})
    named = {a["idx"]: a["name"] for kind in kinds.values() for a in kind if "name" in a}
    if set(named) != set(range(d)) or len(set(named.values())) < d:
        return None
    return tuple(str(named[i]) for i in range(d))


def names_in_vector(df: DataFrame, name: str, d: int) -> tuple[str, ...]:
    """Return the names of a vector column's features: as noted, or v[0], v[1], ..."""
    return noted_names(df, name, d) or tuple(f"{name}[{i}]" for i in range(d))


def are_positions(names: Sequence[str]) -> bool:
    """Return whether features have the names of a column without names."""
    return all(name.endswith(f"[{i}]") for i, name in enumerate(names))


def order_in_vector(df: DataFrame, name: str, own: Sequence[str] | None, d: int) -> Sequence[str]:
    """Return the names of a model's d features in the order of a vector column's, by its names.

    Where one of them has no names the order is the model's own.

    Raises
    ------
    InputError
        If the column has other features.

    """
    noted = noted_names(df, name, d)
    if noted is None or own is None or are_positions(own):
        return own or ()
    if set(noted) != set(own):
        raise InputError(
            f"column {name!r} holds {quoted_list(noted)}, as its metadata say, and the model was "
            f"fitted on {quoted_list(own)}: assemble the model's features, or, if they are the "
            f"same by other names, take the names away by df.withMetadata({name!r}, {{}})"
        )
    return noted


def vector_features(df: DataFrame, name: str, weight: str | None) -> Features:
    """Take the commonest length of a vector column's first rows that are not null.

    Raises
    ------
    InputError
        If there is none.

    """
    dtype = df.schema[name].dataType
    column = quoted(df, name)
    first = df.where(column.isNotNull()).select(F.size(as_array(df, name))).take(_PEEK)
    lengths = Counter(row[0] for row in first)
    length = lengths.most_common(1)[0][0] if lengths else 0
    if length < 1:
        raise InputError(f"column {name!r} holds no values in any row: give rows with features")
    names = names_in_vector(df, name, length)
    single = isinstance(dtype, ArrayType) and isinstance(dtype.elementType, FloatType)
    return Features(names, (), name, weight, single)


def _check_column(
    df: DataFrame,
    name: str,
    key: str,
    vector_allowed: bool = False,
    fits: Callable[[DataType], bool] | None = None,
) -> None:
    same = [column for column in df.columns if column == name]
    if not same:
        raise InputError(
            f"{key} names column {name!r}, which the input does not have: "
            f"{did_you_mean(name, df.columns)}"
            f"its columns are {quoted_list(df.columns)}{_header_hint(df)}"
        )
    if len(same) > 1:
        raise InputError(
            f"{key} names column {name!r}, which the input has {len(same)} times: rename one"
        )
    dtype = df.schema[name].dataType
    if (fits or _is_number)(dtype) or (vector_allowed and is_array(dtype)):
        return
    if fits is not None:
        raise InputError(
            f"{key} names column {name!r}, which is of type {dtype.simpleString()}: give text, "
            "booleans or integers, or turn it into one of them first"
        )
    _check_rows(df)
    remedy = (
        "one vector or array column is given alone, not among others"
        if is_vector(dtype) or isinstance(dtype, ArrayType)
        else "leave it out or turn it into a number first"
    )
    raise InputError(
        f"{key} names column {name!r}, which is of type {dtype.simpleString()}, not a number"
        f"{_example(df, name)}: {remedy}"
    )


def _check_rows(df: DataFrame) -> None:
    """Tell an input without rows, whose columns are all text if the schema was inferred."""
    if df.isEmpty():
        raise InputError(NO_ROWS)


def _example(df: DataFrame, name: str) -> str:
    """Return a value that is no number: the one that made the whole column text."""
    if not isinstance(df.schema[name].dataType, StringType):
        return ""
    text = quoted(df, name)
    number = F.expr(f"try_cast(`{name.replace('`', '``')}` AS double)")
    row = df.where(text.isNotNull() & number.isNull()).select(text).first()
    return "" if row is None else f" (it holds {str(row[0])[:40]!r})"


def _header_hint(df: DataFrame) -> str:
    if all(column.startswith("_c") for column in df.columns):
        return " (does the file have a header? set input.options: {header: true})"
    if all(re.fullmatch(r"[-+.\d]+([eE][-+]?\d+)?", column) for column in df.columns):
        return (
            " (is its first line a row? set input.options: {header: false}, and name the features "
            "_c0, _c1, ...)"
        )
    return ""


def _numeric_columns(df: DataFrame) -> tuple[str, ...]:
    return tuple(f.name for f in df.schema.fields if isinstance(f.dataType, NumericType))


def did_you_mean(name: str, columns: Sequence[str]) -> str:
    """Return a hint at the nearest column for a message, empty if none is near."""
    near = difflib.get_close_matches(name, columns, 1, 0.5)
    return f"did you mean {near[0]!r}? " if near else ""


def _typed(df: DataFrame) -> str:
    return quoted_list([f"{f.name}: {f.dataType.simpleString()}" for f in df.schema.fields])
