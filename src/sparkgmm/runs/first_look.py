"""A first look at a table: how it is read and what its columns are; local files without Spark."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.orc
import pyarrow.parquet

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.runs.column_kinds import ColumnKind, kinds_of
from sparkgmm.runs.csv_form import HEAD_BYTES, CsvForm, find_form
from sparkgmm.spark.names import TableName
from sparkgmm.spark.source import COMPRESSIONS, format_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# So much of a table is looked at: a few seconds.
_MOST_BYTES = 2**26
_MOST_ROWS = 500_000
_MOST_ROWS_BY_SPARK = 100_000
_CODECS = {"UTF-8": "utf8", "UTF-16": "utf-16", "ISO-8859-1": "latin1"}


@dataclass(frozen=True)
class FirstLook:
    """What was seen: `place` and `format` of the input, the reader's options, each column's kind.

    `n_rows` were looked at, and `whole` says whether those are all.
    """

    place: str | TableName
    format: str | None
    options: Mapping[str, object]
    columns: Sequence[ColumnKind]
    n_rows: int
    whole: bool
    notes: Sequence[str] = field(default_factory=tuple)


def look_at_files(place: str, files: Sequence[Path]) -> FirstLook:
    """Look at files of this machine; of several at the first.

    Raises
    ------
    InputError
        If they cannot be read, or hold no rows.
    ConfigurationError
        If their names do not tell their format.

    """
    first = files[0]
    kind = format_of(str(first))
    try:
        look = _LOOKS[kind](place, first)
    except (OSError, ValueError, pa.ArrowException) as error:
        if isinstance(error, InputError | ConfigurationError):
            raise
        raise InputError(
            f"{str(first)!r} cannot be read as {kind} ({str(error).splitlines()[0][:200]}): check "
            "the file and its extension"
        ) from error
    if look.n_rows == 0:
        raise InputError(f"{str(first)!r} has no rows: give a file with data")
    if len(files) > 1:
        seen = f"{first.name}, the first of {len(files)} files, was looked at"
        look = FirstLook(place, look.format, look.options, look.columns, look.n_rows, False, [seen])
    return look


def _look_at_csv(place: str, path: Path) -> FirstLook:
    compressed = path.suffix.lower() in COMPRESSIONS
    with pa.input_stream(str(path), compression="detect" if compressed else None) as stream:
        head = stream.read(HEAD_BYTES)
    form = find_form(head)
    if form is None:
        raise InputError(f"{str(path)!r} is empty: give a file with data")
    table, whole, cut = _read_csv(path, form)
    look = _csv_look(place, form, table, whole)
    if not cut:
        return look
    note = f"{cut:,} lines have another number of values than the first and were not looked at"
    return FirstLook(place, "csv", look.options, look.columns, look.n_rows, whole, [note])


def _csv_look(place: str | TableName, form: CsvForm, table: pa.Table, whole: bool) -> FirstLook:
    columns = kinds_of(table, form.decimal)
    options = form.options()
    words = {word for column in columns for word in column.words if word != "NaN"}
    if form.decimal == "," or len(words) > 1:
        options |= _schema(columns, form.decimal)
    elif words:
        options["nullValue"] = words.pop()
    return FirstLook(place, "csv", options, columns, table.num_rows, whole)


def _schema(columns: Sequence[ColumnKind], decimal: str) -> dict[str, object]:
    """Return the options by which Spark reads numbers that it does not recognise by itself.

    It reads a comma as a decimal one for decimals alone, and what is no number as null where a
    schema says that there are numbers.
    """

    def type_of(column: ColumnKind) -> str:
        if not column.numeric:
            return "STRING"
        return "DOUBLE" if decimal == "." else "DECIMAL(38,18)"

    names = ("`" + column.name.replace("`", "``") + "`" for column in columns)
    told: dict[str, object] = {"locale": "de-DE"} if decimal == "," else {}
    fields = zip(names, map(type_of, columns), strict=True)
    told["schema"] = ", ".join(f"{name} {kind}" for name, kind in fields)
    return told


def _read_csv(path: Path, form: CsvForm) -> tuple[pa.Table, bool, int]:
    """Return the first rows as text, whether they are all, and how many lines did not fit."""
    cut = 0

    def skip(_: object) -> str:
        nonlocal cut
        cut += 1
        return "skip"

    reader = pa.csv.open_csv(
        str(path),
        pa.csv.ReadOptions(
            column_names=list(form.names),
            skip_rows=int(form.header),
            encoding=_CODECS[form.encoding],
            use_threads=False,
        ),
        pa.csv.ParseOptions(
            delimiter=form.sep, newlines_in_values=form.multi_line, invalid_row_handler=skip
        ),
        pa.csv.ConvertOptions(
            column_types={name: pa.string() for name in form.names}, strings_can_be_null=False
        ),
    )
    batches, size = [], 0
    for batch in reader:
        batches.append(batch)
        size += batch.nbytes
        if size > _MOST_BYTES:
            return pa.Table.from_batches(batches), False, cut
    return pa.Table.from_batches(batches, reader.schema), True, cut


def _look_at_parquet(place: str, path: Path) -> FirstLook:
    file = pa.parquet.ParquetFile(path)
    batches, n, size = [], 0, 0
    for batch in file.iter_batches():
        batches.append(batch)
        n, size = n + batch.num_rows, size + batch.nbytes
        if n >= _MOST_ROWS or size > 4 * _MOST_BYTES:
            break
    table = pa.Table.from_batches(batches, file.schema_arrow)
    return FirstLook(place, "parquet", {}, kinds_of(table), n, n == file.metadata.num_rows)


def _look_at_json(place: str, path: Path) -> FirstLook:
    with pa.input_stream(str(path)) as stream:
        data = stream.read(_MOST_BYTES)
        whole = not stream.read(1)
    if data.lstrip()[:1] == b"[":
        rows = json.loads(data if whole else data + stream.read())
        table = pa.Table.from_pylist(rows)
        return FirstLook(place, "json", {"multiLine": True}, kinds_of(table), len(rows), True)
    if not whole:
        data = data[: data.rindex(b"\n") + 1]
    table = pa.json.read_json(io.BytesIO(data))
    return FirstLook(place, "json", {}, kinds_of(table), table.num_rows, whole)


def _look_at_orc(place: str, path: Path) -> FirstLook:
    table = pa.orc.ORCFile(path).read()
    return FirstLook(place, "orc", {}, kinds_of(table), table.num_rows, True)


_LOOKS: dict[str, Callable[[str, Path], FirstLook]] = {
    "csv": _look_at_csv,
    "parquet": _look_at_parquet,
    "json": _look_at_json,
    "orc": _look_at_orc,
}


def look_by_spark(spark: SparkSession, place: str | TableName, form: str | None) -> FirstLook:
    """Look at what only Spark can read: the first rows of a table or of files on a far store.

    Raises
    ------
    InputError, ConfigurationError
        If it cannot be opened or holds no rows.

    """
    from sparkgmm.spark.error_translation import translated_errors
    from sparkgmm.spark.source import as_arrow, is_vector, open_rows, quoted, read

    with translated_errors(place):
        found = None
        if not isinstance(place, TableName) and form == "csv":
            lines = read(spark, place, "text").head(1000)
            found = find_form("\n".join(str(row[0]) for row in lines).encode())
            if found is None:
                raise InputError(f"{place!r} is empty: give a file with data")
            df = read(spark, place, "csv", {**found.options(), "inferSchema": False})
        else:
            df = open_rows(spark, place, form).df
        vectors = [f.name for f in df.schema.fields if is_vector(f.dataType)]
        df = df.select([quoted(df, name) for name in df.columns if name not in vectors])
        table = as_arrow(df.limit(_MOST_ROWS_BY_SPARK))
    if table.num_rows == 0:
        raise InputError(f"{place!r} has no rows: give a table with data")
    whole = table.num_rows < _MOST_ROWS_BY_SPARK
    if found is not None:
        return _csv_look(place, found, table, whole)
    what = "a vector: it can be the one entry of input.features, alone"
    more = [ColumnKind(name, "out", what) for name in vectors]
    return FirstLook(place, form, {}, [*kinds_of(table), *more], table.num_rows, whole)
