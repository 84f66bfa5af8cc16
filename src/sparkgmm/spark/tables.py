"""Tables of a catalog, of Delta and of Iceberg: which state of them a job reads.

A job reads its input several times: for the schema, to make blocks, to make them again where they
were lost, and anew when it goes on after it died. So the state of the table is settled once, when
the input is opened, and every reader reads that one.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyspark.errors import PySparkException
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.spark.data_sources import check_format
from sparkgmm.spark.masking import masked
from sparkgmm.spark.names import TableName, backticked, place_named
from sparkgmm.spark.storage import Folder
from sparkgmm.spark.table_errors import FORMATS, NAMES, files_are_gone, not_set_up

Options = Mapping[str, object]
# Columns that Delta's change feed adds, and the kinds of change whose rows the table holds after.
_CHANGE = "_change_type"
_OF_CHANGES = (_CHANGE, "_commit_version", "_commit_timestamp")
_HELD_AFTER = ("insert", "update_postimage")


@dataclass(frozen=True)
class Snapshot:
    """The one state of a Delta or Iceberg table that a job reads.

    `version` is Delta's version or Iceberg's snapshot_id; `since` is where a range of changes
    begins, or None for the whole table. `options` are for the reader: the user's own, with the
    version named. `current` is true where the user named none, so that the table's columns have
    the names that they have now.
    """

    place: str | TableName
    format: str
    version: int
    options: Options
    since: int | None = None
    current: bool = False
    live: DataFrame | None = field(default=None, compare=False, repr=False)

    @property
    def _version_key(self) -> str:
        return "version" if self.format == "delta" else "snapshot_id"

    def record(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        kind = "table" if isinstance(self.place, TableName) else "path"
        since = {} if self.since is None else {f"start_{self._version_key}": self.since}
        return {
            kind: masked(str(self.place)),
            "format": self.format,
            **since,
            self._version_key: self.version,
        }

    def described(self) -> str:
        """Say which table this is, and which state of it."""
        word = "version" if self.format == "delta" else "snapshot"
        kind = "table" if isinstance(self.place, TableName) else "the table at"
        name = f"{kind} {masked(str(self.place))} ({NAMES[self.format]})"
        if self.since is None:
            return f"{name}, {word} {self.version}"
        first = "from" if self.format == "delta" else "what was appended after"
        return f"{name}, {first} {word} {self.since} to {self.version}"

    def rows(self, df: DataFrame, where: str | None) -> DataFrame:
        """Return the rows that count, with the columns of the table: `df` was read by `options`.

        Of changes, those count that the table holds afterwards, unless `where` names their kind.
        """
        if self.current and self.live is not None and self.live.schema != df.schema:
            df = _renamed(df, self.live)
        if _CHANGE in df.columns and (where is None or _CHANGE not in where):
            df = df.where(F.col(_CHANGE).isin(*_HELD_AFTER))
        return df


@contextmanager
def reading_files_of(snapshot: Snapshot | None) -> Iterator[None]:
    """Tell a version whose files were removed from files that cannot be read for another reason."""
    try:
        yield
    except InputError as error:
        if snapshot is None or error.__cause__ is None:
            raise
        word = "version" if snapshot.format == "delta" else "snapshot"
        known = files_are_gone(
            error.__cause__, place_named(snapshot.place), f"{word} {snapshot.version}"
        )
        raise known or error from error.__cause__


def without_feed_columns(df: DataFrame, snapshot: Snapshot | None) -> DataFrame:
    """Drop the columns that a change feed adds: what remains are the table's own."""
    feed = snapshot is not None and snapshot.format == "delta" and snapshot.since is not None
    return df.drop(*_OF_CHANGES) if feed else df


def pin(
    spark: SparkSession,
    place: object,
    format_name: str | None,
    options: Options,
    begun: Mapping[str, Any] | None = None,
) -> Snapshot | None:
    """Settle which state of a table is read; None where the input has no states to choose from.

    `begun` is the record of the snapshot with which an unfinished run was begun: it goes on with
    that one.

    Raises
    ------
    InputError
        If there is no such table, or it does not have the version.
    ConfigurationError
        If the options cannot go together, or a catalog or the format's package is missing.

    """
    if isinstance(place, TableName):
        format_name = provider(spark, place)
    if format_name not in FORMATS:
        _refuse_versions(place, format_name, options)
        return None
    if not isinstance(place, str):
        raise ConfigurationError(
            f"input.path is {place!r}, and format {format_name} reads one table: give one path"
        )
    of_table = f"{place_named(place)} of format"
    check_format(spark, format_name, of_table if isinstance(place, TableName) else "input.format")
    resolve = _pin_delta if format_name == "delta" else _pin_iceberg
    return resolve(spark, place, options, begun)


# Formats of which Spark would pass by a version that is asked for, without a word.
_WITHOUT_VERSIONS = ("parquet", "orc", "csv", "json", "text")


def _refuse_versions(place: object, format_name: str | None, options: Options) -> None:
    asked = [key for key in options if key.lower() in ("versionasof", "timestampasof")]
    if asked and format_name in _WITHOUT_VERSIONS:
        raise InputError(
            f"{place_named(place)} cannot be read at the version that was asked for ({format_name} "
            f"keeps no versions): leave {asked[0]} out of input.options"
        )


def table_format(folder: Folder) -> str | None:
    """Tell a folder that holds a Delta or an Iceberg table, by the log or the metadata in it."""
    if folder.exists("_delta_log"):
        return "delta"
    if folder.exists("metadata"):
        names = (info.path for info in folder.child("metadata").files(most=1000))
        if any(name.endswith(".metadata.json") for name in names):
            return "iceberg"
    return None


# --- catalogs


@dataclass(frozen=True)
class TableInfo:
    """What a catalog says of a table; a view has no provider and no location."""

    provider: str | None
    location: str | None
    managed: bool


def provider(spark: SparkSession, name: TableName) -> str | None:
    """Return the format of a table, or None for a view."""
    return describe_table(spark, name).provider


def describe_table(spark: SparkSession, name: TableName) -> TableInfo:
    """Ask the catalog about a table.

    Raises
    ------
    InputError
        If there is none of that name: near ones are named.

    """
    try:
        rows = spark.sql(f"DESCRIBE TABLE EXTENDED {name.quoted}").collect()
    except PySparkException as error:
        if "TABLE_OR_VIEW_NOT_FOUND" in str(error) or "SCHEMA_NOT_FOUND" in str(error):
            raise InputError(
                f"{place_named(name)} does not exist: {_near_tables(spark, name)}give the name of "
                "a table or view that does"
            ) from error
        raise
    below = next((i for i, row in enumerate(rows) if row[0].startswith("# Detailed")), len(rows))
    said = {row[0]: row[1] for row in rows[below:]}
    kind = said.get("Provider")
    return TableInfo(
        kind.lower() if kind else None, said.get("Location"), said.get("Type") == "MANAGED"
    )


def _near_tables(spark: SparkSession, name: TableName) -> str:
    """Return a hint at tables of the same namespace with names like this one, or nothing."""
    *namespace, table = name.parts
    inside = f" IN {'.'.join(map(backticked, namespace))}" if namespace else ""
    try:
        names = [row["tableName"] for row in spark.sql(f"SHOW TABLES{inside}").collect()]
    except Exception:  # a hint is not worth an error of its own
        return ""
    near = difflib.get_close_matches(table, names, 3, 0.5)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def current_version(spark: SparkSession, place: str | TableName, format_name: str) -> int:
    """Return the version of a Delta table, or the snapshot_id of an Iceberg table, as it is now."""
    if format_name == "delta":
        return int(_delta_history(spark, place, " LIMIT 1").collect()[0]["version"])
    refs = _iceberg_metadata(spark, place, "refs")
    rows = refs.where(F.col("name") == "main").select("snapshot_id").collect()
    if not rows:
        raise InputError(f"{place_named(place)} has no rows: nothing was written to it yet")
    return int(rows[0][0])


def _delta_history(spark: SparkSession, place: str | TableName, limit: str = "") -> DataFrame:
    """Return the versions of a Delta table; Delta's own SQL is what says them in every version."""
    name = place.quoted if isinstance(place, TableName) else f"delta.{backticked(place)}"
    try:
        return spark.sql(f"DESCRIBE HISTORY {name}{limit}")
    except PySparkException as error:
        if "PARSE_SYNTAX_ERROR" not in str(error):
            raise
        # Spark does not know the statement: no package, or no extension. The reader says which.
        if isinstance(place, TableName):
            spark.read.table(place.quoted).isEmpty()
        else:
            spark.read.format("delta").load(place).isEmpty()
        raise not_set_up(place_named(place)) from error


def _iceberg_metadata(spark: SparkSession, place: str | TableName, kind: str) -> DataFrame:
    if isinstance(place, TableName):
        return spark.read.table(f"{place.quoted}.{backticked(kind)}")
    return spark.read.format("iceberg").load(f"{place}#{kind}")


# --- Delta


def _pin_delta(
    spark: SparkSession, place: str, options: Options, begun: Mapping[str, Any] | None
) -> Snapshot:
    given = _Given(options)

    def history() -> DataFrame:
        return _delta_history(spark, place)

    def latest() -> int:
        return current_version(spark, place, "delta")

    def at(timestamp: object) -> int:
        found = history().where(F.col("timestamp") <= _timestamp(timestamp))
        return _found(found.agg(F.max("version")).first(), place, f"as of {timestamp}")

    if given.flag("readChangeFeed") or given.flag("readChangeData"):
        end = _feed_end(given, latest, at) if begun is None else int(begun["version"])
        start = given.number("startingVersion")
        if start is None:
            start = _first_after(history(), given.text("startingTimestamp"), place)
        pinned = given.without("startingTimestamp", "endingVersion", "endingTimestamp")
        pinned |= {"startingVersion": start, "endingVersion": end}
        return Snapshot(place, "delta", end, pinned, since=start)
    number, timestamp = given.number("versionAsOf"), given.text("timestampAsOf")
    if begun is not None:
        version = int(begun["version"])
    elif number is not None:
        version = number
    elif timestamp is not None:
        version = at(timestamp)
    else:
        version = latest()
    pinned = given.without("versionAsOf", "timestampAsOf") | {"versionAsOf": version}
    return Snapshot(place, "delta", version, pinned)


def _feed_end(given: _Given, latest: Callable[[], int], at: Callable[[object], int]) -> int:
    end, timestamp = given.number("endingVersion"), given.text("endingTimestamp")
    if timestamp is not None:
        return at(timestamp)
    now = latest()
    return now if end is None else min(end, now)


def _first_after(history: DataFrame, timestamp: str | None, place: str) -> int:
    if timestamp is None:
        raise ConfigurationError(
            "input.options has readChangeFeed without startingVersion or startingTimestamp: set one"
        )
    found = history.where(F.col("timestamp") >= _timestamp(timestamp))
    return _found(found.agg(F.min("version")).first(), place, f"from {timestamp} on")


# --- Iceberg


def _pin_iceberg(
    spark: SparkSession, place: str, options: Options, begun: Mapping[str, Any] | None
) -> Snapshot:
    _plan_in_order(spark)
    given = _Given(options)

    def metadata(kind: str) -> DataFrame:
        return _iceberg_metadata(spark, place, kind)

    def named(ref: str) -> int:
        if ref == "main":
            return current_version(spark, place, "iceberg")
        rows = metadata("refs").where(F.col("name") == ref).select("snapshot_id").collect()
        return _found(rows[0] if rows else None, place, f"of branch or tag {ref!r}")

    current = False
    start = given.number("start-snapshot-id")
    ref = given.text("branch") or given.text("tag")
    version = given.text("versionAsOf") or given.text("snapshot-id")
    timestamp = _as_of(given)
    if begun is not None:
        number = int(begun["snapshot_id"])
        current = start is None and not (ref or version or timestamp is not None)
    elif start is not None and given.number("end-snapshot-id") is not None:
        number = int(str(given.text("end-snapshot-id")))
    elif version is not None:
        number = int(version) if version.isdigit() else named(version)
    elif timestamp is not None:
        past = metadata("history").where(F.col("made_current_at") <= timestamp)
        last = past.orderBy(F.desc("made_current_at")).select("snapshot_id").first()
        number = _found(last, place, "as of that time")
    else:
        number = named(ref or "main")
        current = start is None and ref is None
    pinned = given.without(*_ICEBERG_VERSIONS) | _splits(spark, metadata, number, given)
    if start is not None:
        pinned |= {"start-snapshot-id": start, "end-snapshot-id": number}
    else:
        pinned |= {"versionAsOf": number}
    live = _live(spark, place) if current else None
    return Snapshot(place, "iceberg", number, pinned, start, current, live)


_ICEBERG_VERSIONS = (
    "versionAsOf",
    "timestampAsOf",
    "snapshot-id",
    "as-of-timestamp",
    "branch",
    "tag",
    "start-snapshot-id",
    "end-snapshot-id",
)


def _as_of(given: _Given) -> Column | None:
    timestamp, milliseconds = given.text("timestampAsOf"), given.number("as-of-timestamp")
    if timestamp is not None:
        return _timestamp(timestamp)
    return None if milliseconds is None else F.timestamp_millis(F.lit(milliseconds))


def plan_in_one_thread(jvm: Any) -> None:
    """Set what Iceberg looks at once, when it plans its first read in a JVM."""
    jvm.java.lang.System.setProperty("iceberg.scan.plan-in-worker-pool", "false")


def _plan_in_order(spark: SparkSession) -> None:
    """Make Iceberg list a table's files in one thread: several find them in any order.

    The order decides which rows share a partition, and so the last bits of every sum.
    """
    plan_in_one_thread(spark.sparkContext._jvm)
    if spark.conf.get("spark.sql.iceberg.data-planning-mode", None) is None:
        spark.conf.set("spark.sql.iceberg.data-planning-mode", "local")


def _splits(
    spark: SparkSession, metadata: Callable[[str], DataFrame], snapshot: int, given: _Given
) -> dict[str, object]:
    """Return the size of the splits, as Spark chooses it for files.

    Iceberg's own choice depends on the number of cores.
    """
    row = (
        metadata("snapshots")
        .where(F.col("snapshot_id") == snapshot)
        .select(
            F.col("summary")["total-files-size"].cast("long"),
            F.col("summary")["total-data-files"].cast("long"),
        )
        .first()
    )
    conf: Any = spark._jsparkSession.sessionState().conf()
    largest, opening = int(conf.filesMaxPartitionBytes()), int(conf.filesOpenCostInBytes())
    least = spark.conf.get("spark.sql.files.minPartitionNum", None)
    size = largest
    if row is not None and row[0] is not None and row[1] is not None and least is not None:
        share = (row[0] + row[1] * opening) // max(int(least), 1)
        size = min(largest, max(opening, share))
    chosen: dict[str, object] = {"split-size": size, "file-open-cost": opening}
    return {key: value for key, value in chosen.items() if given.text(key) is None}


def _live(spark: SparkSession, place: str) -> DataFrame:
    if isinstance(place, TableName):
        return spark.read.table(place.quoted)
    return spark.read.format("iceberg").load(place)


def _renamed(pinned: DataFrame, live: DataFrame) -> DataFrame:
    """Give the columns of a snapshot the names and order that the table has for them now.

    A change of names makes no snapshot of its own. Columns are the same by Iceberg's field ids.
    """
    names = {number: name for name, number in _field_ids(pinned).items()}
    numbers = _field_ids(live)
    if not names or not numbers:
        return pinned
    selected = []
    for column in live.schema:
        before = names.get(numbers[column.name])
        value = F.lit(None) if before is None else pinned[backticked(before)]
        selected.append(value.cast(column.dataType).alias(column.name))
    return pinned.select(selected)


def _field_ids(df: DataFrame) -> dict[str, int]:
    """Return the field ids of an Iceberg table's columns as a DataFrame read them, by name.

    They are those of the newest schema of the table that has just these columns.
    """
    relation: Any = df._jdf.queryExecution().analyzed().collectLeaves().head()
    table = relation.table().table()
    schemas = table.schemas()
    newest_first = sorted(
        schemas.keySet(), key=lambda number: (number == table.schema().schemaId(), number)
    )
    for number in reversed(newest_first):
        columns = schemas.get(number).columns()
        found = {str(column.name()): int(column.fieldId()) for column in columns}
        if list(found) == df.columns:
            return found
    return {}


# --- both


class _Given:
    """Options as a user gave them, whose keys Spark takes in any case."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._values = {key.lower(): value for key, value in options.items() if value is not None}

    def text(self, key: str) -> str | None:
        value = self._values.get(key.lower())
        return None if value is None else str(value)

    def flag(self, key: str) -> bool:
        return (self.text(key) or "false").lower() == "true"

    def number(self, key: str) -> int | None:
        value = self.text(key)
        if value is None:
            return None
        if not value.isdigit():
            raise ConfigurationError(f"input.options.{key} is {value!r}: give a whole number")
        return int(value)

    def without(self, *keys: str) -> dict[str, object]:
        dropped = {key.lower() for key in keys}
        return {key: value for key, value in self._options.items() if key.lower() not in dropped}


def _timestamp(value: object) -> Column:
    return F.lit(str(value)).cast("timestamp")


def _found(row: Sequence[Any] | None, place: str, which: str) -> int:
    if row is None or row[0] is None:
        raise InputError(
            f"{place_named(place)} has no version {which}: choose one that the table still has in "
            "input.options"
        )
    return int(row[0])
