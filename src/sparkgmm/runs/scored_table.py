"""Tables that scored rows are written to: Delta and Iceberg by name or by path, others by name.

Rows become visible by the one commit of the table's format. So whatever can be wrong with them is
found before that, or inside the writing, which then commits nothing.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Literal, Protocol

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from sparkgmm.errors import ConfigurationError, SparkGmmError
from sparkgmm.runs.config import ScoreOutputConfig
from sparkgmm.runs.termination import sigterm_delayed
from sparkgmm.spark.data_sources import check_format
from sparkgmm.spark.file_systems import OUTPUT, error_of
from sparkgmm.spark.names import TableName, backticked, place_named
from sparkgmm.spark.storage import Folder
from sparkgmm.spark.table_errors import (
    NAMES,
    first_sentence,
    lacks_catalog_class,
    no_source,
    table_error,
)
from sparkgmm.spark.tables import current_version, describe_table

Mode = Literal["error", "overwrite", "append"]
# What the rejected rows' table is called: the name of the scored rows' table, and this.
REJECTED = "_rejected"
_CONFLICT = re.compile(
    r"Concurrent\w*Exception|DELTA_CONCURRENT_\w+|MetadataChangedException|CommitFailedException"
    r"|CommitStateUnknownException|ProtocolChangedException"
)
_COMMIT_UNKNOWN = "CommitStateUnknownException"
_CATALOG_OF_PATHS = "sparkgmm_"
# Types that Iceberg keeps as a wider one.
_IN_ICEBERG = {"tinyint": "int", "smallint": "int"}


class Store(Protocol):
    """How tables of one kind are made and written to, each in one commit."""

    format: str

    def exists(self) -> bool:
        """Return whether there is a table."""

    def rows(self) -> DataFrame:
        """Return the rows that the table has."""

    def create(self, df: DataFrame) -> None:
        """Make the table with these rows."""

    def append(self, df: DataFrame) -> None:
        """Add rows of the table's columns."""

    def overwrite(self, df: DataFrame, same_columns: bool) -> None:
        """Replace the rows of the table by these."""

    def drop(self) -> None:
        """Remove the table."""

    def clear(self) -> None:
        """Remove the files that a failed attempt to make the table left, if a path names them."""

    def version(self) -> int | None:
        """Return the version or snapshot_id that it is at, or None where it has none."""

    def location(self) -> str | None:
        """Return the address of its files, if it exists and has one."""

    def check_writable(self) -> None:
        """Refuse a place where no table can be made."""


class ScoredTable:
    """A table that scored rows are written to; beside it one for the rejected rows.

    `mode` is error (refuse where there are rows), overwrite or append.
    """

    def __init__(self, store: Store, rejected: Store, place: str | TableName, mode: Mode) -> None:
        self.store = store
        self.place = place
        self._rejected = rejected
        self._mode = mode
        self._made: Store | None = None

    @classmethod
    def of(cls, spark: SparkSession, output: ScoreOutputConfig) -> ScoredTable | None:
        """Return the table that a configuration names, or None where it names files."""
        place = output.place
        if not isinstance(place, TableName) and output.format not in NAMES:
            return None
        store = _store(spark, place, output.table_format)
        beside = (
            place.beside(REJECTED)
            if isinstance(place, TableName)
            else f"{place.rstrip('/')}{REJECTED}"
        )
        return cls(store, _store(spark, beside, store.format), place, output.mode)

    @property
    def format(self) -> str:
        """The format of the table."""
        return self.store.format

    @property
    def title(self) -> str:
        """How messages call it."""
        return place_named(self.place, "output")

    @property
    def rejected_place(self) -> str:
        """Where the rejected rows go."""
        place = self.place
        return place.beside(REJECTED) if isinstance(place, TableName) else f"{place}{REJECTED}"

    def check(self, quarantine: bool) -> None:
        """Refuse what cannot become the output, before anything is computed.

        Raises
        ------
        ConfigurationError
            If the table holds rows under mode error, or cannot be looked at.

        """
        with self._translated_errors():
            if self._mode == "error":
                self._refuse_rows(self.store, self.title)
                if quarantine:
                    name = f"the table of rejected rows {str(self.rejected_place)!r}"
                    self._refuse_rows(self._rejected, name)

    def _refuse_rows(self, store: Store, name: str) -> None:
        if store.exists() and not store.rows().isEmpty():
            raise ConfigurationError(
                f"{name} exists and is not empty: set output.mode to overwrite or append, or "
                "choose another"
            )

    def check_writable(self) -> None:
        """Refuse a place where this user can make no table."""
        with self._translated_errors():
            self.store.check_writable()

    def check_columns(self, scored: DataFrame) -> None:
        """Refuse to add rows to rows of other columns or types; the first that differs is named."""
        with self._translated_errors():
            if self._mode == "overwrite" or not self.store.exists():
                return
            found = differing(self.store.rows().schema, scored.schema, self.format)
        if found is not None:
            raise ConfigurationError(
                f"{self.title} {found}: choose another, or output.mode overwrite"
            )

    def write(self, scored: DataFrame) -> None:
        """Write the rows and make them visible, in one commit; nothing where that fails.

        What Spark raises goes on as it is: it may be about the rows or about the table. `refused`
        says the latter.
        """
        new = not self.store.exists()
        try:
            _put(self.store, scored, self._mode)
        except BaseException:
            if new:
                with contextlib.suppress(Exception):  # what is wrong is said already
                    self.store.clear()
            raise

    def write_rejected(self, rejected: DataFrame, any_rows: bool) -> None:
        """Write the rejected rows, before the scored ones are; an old table is kept up to date."""
        there = self._rejected.exists()
        if any_rows or (there and self._mode == "overwrite"):
            _put(self._rejected, rejected, self._mode)
            self._made = None if there else self._rejected

    def version(self) -> int | None:
        """Return the version or snapshot_id that the table is at, or None where it has none."""
        with contextlib.suppress(Exception):  # the rows are there: nothing may fail any more
            return self.store.version()
        return None

    def discard(self) -> None:
        """Remove the table of rejected rows, if this job made it."""
        if self._made is not None:
            self._made.drop()
            self._made = None

    @contextlib.contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Raise what Spark raises about the table alone as the error to show."""
        try:
            yield
        except SparkGmmError:
            raise
        except Exception as error:
            known = self.refused(error)
            if known is None:
                of_format = table_error(error, self.title)
                known = None if of_format is None else ConfigurationError(str(of_format))
            raise known or error_of(error, OUTPUT, self.place, writing=True) or error from error

    def refused(self, error: Exception) -> ConfigurationError | None:
        """Return the error to show where the table did not take the rows, or None."""
        text = str(error)
        missing = "DATA_SOURCE_NOT_FOUND" in text or lacks_catalog_class(text)
        if missing and self.format in NAMES:
            return no_source(self.format, "output.format")
        if _CONFLICT.search(text):
            unknown = _COMMIT_UNKNOWN in text
            return ConfigurationError(
                f"{self.title} was written to by another job at the same time "
                f"({first_sentence(text)}), and "
                + (
                    "it is not known whether these rows are in it: look at its history first"
                    if unknown
                    else "nothing was written by this one: start the same job again"
                )
            )
        if type(error).__name__ in _OF_THE_PLAN:
            return ConfigurationError(
                f"{self.title} cannot be written as {self.format} ({first_sentence(text)}): change "
                "output.columns or output.keep, or choose another table"
            )
        return None


# What Spark raises before it runs a job: the rows and the table do not go together.
_OF_THE_PLAN = ("AnalysisException", "ParseException", "IllegalArgumentException")


def _put(store: Store, df: DataFrame, mode: Mode) -> None:
    """Write by the mode; in mode error a table that was made meanwhile is not written to."""
    if not store.exists():
        store.create(df)
    elif mode == "overwrite":
        store.overwrite(df, differing(store.rows().schema, df.schema, store.format) is None)
    elif mode == "append" or store.rows().isEmpty():
        store.append(df)
    else:
        raise ConfigurationError(
            "the output was written to by another job meanwhile: choose another"
        )


def differing(held: StructType, new: StructType, format_name: str) -> str | None:
    """Say which column differs first between rows that are there and new ones, or None."""
    kept = _IN_ICEBERG if format_name == "iceberg" else {}

    def types(schema: StructType) -> Mapping[str, str]:
        named = {field.name: field.dataType.simpleString() for field in schema}
        return {name: kept.get(kind, kind) for name, kind in named.items()}

    before, after = types(held), types(new)
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            return (
                f"holds rows whose column {name!r} is {before.get(name, 'missing')}, here it is "
                f"{after.get(name, 'missing')}"
            )
    return None


# --- the kinds of tables


def _store(spark: SparkSession, place: str | TableName, asked: str | None) -> Store:
    """Return how to write to a place; `asked` is the format that the user asked for, or None."""
    if not isinstance(place, TableName):
        if asked is not None:
            check_format(spark, asked, "output.format")
        return _DeltaPath(spark, place) if asked == "delta" else _iceberg_path(spark, place)
    found = _provider(spark, place)
    if found is None:
        held = _catalog_holds(spark, place)
        found = held or asked or "parquet"
        why = f"catalog {place.parts[0]!r} holds tables of {found}"
    else:
        why = f"it is a table of {found}"
    if asked is not None and asked != found:
        raise ConfigurationError(
            f"output.format is {asked!r}, but for output.table {place!r} {why}: leave "
            "output.format out, or choose another table"
        )
    if found == "iceberg":
        return _IcebergTable(spark, place)
    if found not in ("delta", "parquet", "orc"):
        raise ConfigurationError(
            f"output.table {place!r} is of format {found}: choose a table of delta, iceberg, "
            "parquet or orc"
        )
    return _CatalogTable(spark, place, found)


def _provider(spark: SparkSession, name: TableName) -> str | None:
    """Return the format of a table that exists, or None."""
    if not _table_exists(spark, name):
        return None
    found = describe_table(spark, name).provider
    if found is None:
        raise ConfigurationError(f"output.table {name!r} is a view: name a table")
    return found


def _table_exists(spark: SparkSession, name: TableName) -> bool:
    try:
        return bool(spark.catalog.tableExists(name.quoted))
    except (PySparkException, Py4JJavaError) as error:
        if name.parts[0].startswith(_CATALOG_OF_PATHS):
            raise  # of a path, not of a name that the user gave
        known = table_error(error, place_named(name, "output"))
        raise (ConfigurationError(str(known)) if known else error) from error


def _catalog_holds(spark: SparkSession, name: TableName) -> str | None:
    """Return the format of all tables of a catalog that holds one format alone."""
    made_by = spark.conf.get(f"spark.sql.catalog.{name.parts[0]}", None) or ""
    return "iceberg" if made_by.endswith("iceberg.spark.SparkCatalog") else None


class _DeltaPath:
    """A Delta table that a path names."""

    format = "delta"

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._spark = spark
        self._path = path
        self._folder = Folder(spark, path, OUTPUT)

    def exists(self) -> bool:
        log = self._folder.child("_delta_log")
        if any(info.path.endswith((".json", ".parquet")) for info in log.files()):
            return True
        if not log.exists():  # with a log, but no commit in it, a job died here
            _refuse_files(self._folder, "Delta")
        return False

    def rows(self) -> DataFrame:
        return self._spark.read.format("delta").load(self._path)

    def create(self, df: DataFrame) -> None:
        df.write.format("delta").mode("error").save(self._path)

    def append(self, df: DataFrame) -> None:
        df.write.format("delta").mode("append").save(self._path)

    def overwrite(self, df: DataFrame, same_columns: bool) -> None:
        writer = df.write.format("delta").mode("overwrite")
        writer.option("overwriteSchema", not same_columns).save(self._path)

    def drop(self) -> None:
        self._folder.delete()

    def clear(self) -> None:
        if not self.exists():
            self._folder.delete()

    def version(self) -> int | None:
        return current_version(self._spark, self._path, "delta")

    def location(self) -> str | None:
        return self._folder.uri

    def check_writable(self) -> None:
        try:
            self.rows()
        except Exception as error:  # that there is no table yet is no fault
            if "DATA_SOURCE_NOT_FOUND" in str(error) or "DELTA_CONFIGURE" in str(error):
                raise
        self._folder.check_writable()


def _refuse_files(folder: Folder, name: str, own: str | None = None) -> None:
    """Refuse a folder of other files; below `own` are those of a job that died."""
    if folder.is_file() or any(
        own is None or not info.path.startswith(own) for info in folder.files(most=1000)
    ):
        raise ConfigurationError(
            f"output.path {folder.path!r} holds files that are no {name} table: choose another"
        )


class _CatalogTable:
    """A table of a catalog that Spark's own writer makes: Delta, Parquet, ORC."""

    def __init__(self, spark: SparkSession, name: TableName, format_name: str) -> None:
        self._spark = spark
        self._name = name
        self.format = format_name

    def exists(self) -> bool:
        return _table_exists(self._spark, self._name)

    def rows(self) -> DataFrame:
        return self._spark.read.table(self._name.quoted)

    def create(self, df: DataFrame) -> None:
        df.write.format(self.format).mode("error").saveAsTable(self._name.quoted)

    def append(self, df: DataFrame) -> None:
        df.write.format(self.format).mode("append").saveAsTable(self._name.quoted)

    def overwrite(self, df: DataFrame, same_columns: bool) -> None:
        if self.format != "delta":
            self._swap(df)
            return
        writer = df.write.format("delta").mode("overwrite")
        writer.option("overwriteSchema", not same_columns).saveAsTable(self._name.quoted)

    def _swap(self, df: DataFrame) -> None:
        """Write a table beside this one, and let it take the name: files have no commit."""
        if not describe_table(self._spark, self._name).managed:
            raise ConfigurationError(
                f"output.table {self._name!r} is an external table of {self.format}, which cannot "
                "be replaced in one step: use a table of delta or iceberg, or output.path"
            )
        mark = uuid.uuid4().hex
        draft, before = self._name.beside(f"_{mark}_new"), self._name.beside(f"_{mark}_old")
        try:
            df.write.format(self.format).mode("error").saveAsTable(draft.quoted)
            with sigterm_delayed():
                self._rename(self._name, before)
                try:
                    self._rename(draft, self._name)
                except BaseException:
                    self._rename(before, self._name)
                    raise
        except BaseException:
            self._spark.sql(f"DROP TABLE IF EXISTS {draft.quoted}")
            raise
        self._spark.sql(f"DROP TABLE IF EXISTS {before.quoted}")

    def _rename(self, old: TableName, new: TableName) -> None:
        self._spark.sql(f"ALTER TABLE {old.quoted} RENAME TO {new.quoted}")

    def drop(self) -> None:
        self._spark.sql(f"DROP TABLE IF EXISTS {self._name.quoted}")

    def clear(self) -> None:
        pass

    def version(self) -> int | None:
        return None if self.format != "delta" else current_version(self._spark, self._name, "delta")

    def location(self) -> str | None:
        return describe_table(self._spark, self._name).location if self.exists() else None

    def check_writable(self) -> None:
        namespace = self._name.parts[:-1]
        if not namespace or self.exists():
            return
        quoted = ".".join(map(backticked, namespace))
        if not self._spark.catalog.databaseExists(quoted):
            raise ConfigurationError(
                f"output.table {self._name!r} is in schema {'.'.join(namespace)!r}, which does not "
                f"exist: CREATE SCHEMA {quoted}, or choose another"
            )


class _IcebergTable:
    """An Iceberg table of a catalog."""

    format = "iceberg"

    def __init__(self, spark: SparkSession, name: TableName, folder: Folder | None = None) -> None:
        self._spark = spark
        self._name = name
        self._folder = folder

    def exists(self) -> bool:
        if _table_exists(self._spark, self._name):
            return True
        if self._folder is not None:
            _refuse_files(self._folder, "Iceberg", "data/")
        return False

    def rows(self) -> DataFrame:
        return self._spark.read.table(self._name.quoted)

    def create(self, df: DataFrame) -> None:
        df.writeTo(self._name.quoted).using("iceberg").create()

    def append(self, df: DataFrame) -> None:
        df.writeTo(self._name.quoted).append()

    def overwrite(self, df: DataFrame, same_columns: bool) -> None:
        writer = df.writeTo(self._name.quoted)
        if same_columns:
            writer.overwrite(F.lit(True))
        else:
            writer.using("iceberg").createOrReplace()

    def drop(self) -> None:
        self._spark.sql(f"DROP TABLE IF EXISTS {self._name.quoted}")

    def clear(self) -> None:
        if self._folder is not None and not self.exists():
            self._folder.delete()

    def version(self) -> int | None:
        return current_version(self._spark, self._name, "iceberg")

    def location(self) -> str | None:
        if self._folder is not None:
            return self._folder.uri
        return describe_table(self._spark, self._name).location if self.exists() else None

    def check_writable(self) -> None:
        if self._folder is not None:
            self._folder.check_writable()


def _iceberg_path(spark: SparkSession, path: str) -> _IcebergTable:
    """Return the Iceberg table at a path, which needs a catalog to be made in one commit.

    The catalog is of Iceberg's kind for folders: its namespaces and tables are folders below one.
    """
    folder = Folder(spark, path, OUTPUT)
    if not folder.name:
        raise ConfigurationError(f"output.path {path!r} is a whole file system: name a folder")
    parent = folder.parent
    # a name alone, as "files", would be taken for one of a table's tables of metadata
    namespace = [parent.name] if parent.name else []
    above = parent.parent.uri if namespace else parent.uri
    catalog = f"{_CATALOG_OF_PATHS}{sha256(above.encode()).hexdigest()[:12]}"
    key = f"spark.sql.catalog.{catalog}"
    spark.conf.set(f"{key}.type", "hadoop")
    spark.conf.set(f"{key}.warehouse", above)
    spark.conf.set(f"{key}.cache-enabled", "false")
    spark.conf.set(key, "org.apache.iceberg.spark.SparkCatalog")
    name = TableName(".".join(map(backticked, (catalog, *namespace, folder.name))))
    return _IcebergTable(spark, name, folder)
