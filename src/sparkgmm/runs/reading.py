"""The rows of a fit or a comparison: opened, judged, and what is said of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.runs.column_account import left_out, left_out_lines, taken
from sparkgmm.runs.config import (
    CompareConfig,
    FitConfig,
    FitInputConfig,
    InputConfig,
    ScoreInputConfig,
)
from sparkgmm.runs.csv_form import form_of_file, mending
from sparkgmm.spark.cluster_rows import Blocks, Read
from sparkgmm.spark.error_translation import translated_errors
from sparkgmm.spark.groups import check_group_columns
from sparkgmm.spark.masking import masked
from sparkgmm.spark.names import TableName
from sparkgmm.spark.quarantine import describe_fate, describe_invalid
from sparkgmm.spark.source import (
    Features,
    Opened,
    files_of,
    find_features,
    find_part_columns,
    format_of,
    open_rows,
)
from sparkgmm.spark.storage import FileInfo
from sparkgmm.spark.tables import Snapshot


@dataclass(frozen=True)
class Source:
    """What was read: the files, or the state of a table, or both where its state is its files."""

    df: DataFrame
    files: Sequence[FileInfo]
    snapshot: Snapshot | None
    table: str | None

    def record(self) -> dict[str, Any] | list[dict[str, Any]]:
        """Return what the manifest says of the input."""
        if self.snapshot is not None:
            return self.snapshot.record()
        files = [
            {"path": masked(info.path), "bytes": info.n_bytes, "modified_ms": info.modified}
            for info in self.files
        ]
        return files if self.table is None else {"table": self.table, "files": files}


def open_source(
    spark: SparkSession,
    source: InputConfig | ScoreInputConfig,
    begun: Mapping[str, Any] | None = None,
) -> Opened:
    """Open what the configuration names; `begun` is the state with which a run was begun."""
    place, options = source.place, source.options
    return open_rows(spark, place, source.format, options, source.where, begun)


def open_input(
    spark: SparkSession,
    config: FitConfig | CompareConfig,
    begun: Mapping[str, Any] | None = None,
) -> tuple[Opened, Features]:
    """Open the input and resolve its features, without reading the rows."""
    source = config.input
    with translated_errors(source.place):
        opened = open_source(spark, source, begun)
        check_group_columns(opened.df, source.group_by)
        try:
            columns = find_part_columns(opened.df, source.categorical, source.counts)
            features = find_features(
                opened.df, source.features, source.weight, columns, source.group_by
            )
        except InputError as error:
            mended = how_to_read(source)
            if mended is None:
                raise
            raise InputError(f"{mended} (as it is read, {error})") from error
        if isinstance(source, FitInputConfig):
            features = features.with_missing(source.missing)
        return opened, features


def how_to_read(source: InputConfig | ScoreInputConfig) -> str | None:
    """Say what a CSV file looks like and which options read it so, None where it is."""
    place = source.place
    if isinstance(place, TableName):
        return None
    with suppress(ConfigurationError):
        if (source.format or format_of(place)) == "csv" and (form := form_of_file(place)):
            return mending(form, source.options)
    return None


def what_is_read(opened: Opened, source: InputConfig | ScoreInputConfig) -> str:
    """Say which table in which state, or how many files, would be read."""
    if opened.snapshot is not None:
        return opened.snapshot.described()
    files = files_of(opened.df, source.place)
    size = sum(info.n_bytes for info in files)
    found = f"{len(files)} file(s), {size:,} bytes"
    return found if source.table is None else f"table {source.table}: {found}"


def plan_input(spark: SparkSession, config: FitConfig | CompareConfig) -> list[str]:
    """Say in words what would be read and fitted, a line each."""
    opened, features = open_input(spark, config)
    candidates = len(config.model.k) * len(config.model.covariance_type)
    return [
        f"reads    {what_is_read(opened, config.input)}",
        *taken(features, config.input),
        *([] if features.weight else ["weight   none: every row counts once"]),
        *left_out_lines(left_out(opened.df, features, config.input)),
        f"fits     {candidates} candidate(s) by engine {config.model.engine}, "
        f"{config.model.n_init} start(s) each",
    ]


def check_valid(found: Read, features: Features, invalid_rows: str) -> None:
    """Stop at invalid rows under `fail`, saying which columns hold what how often."""
    counts = found.counts
    if counts.invalid == 0 or invalid_rows != "fail":
        return
    raise InputError(describe_invalid(counts, features))


def without_constants(
    df: DataFrame,
    blocks: Blocks,
    features: Features,
    source: InputConfig,
    held: ExitStack,
    known: Sequence[str] = (),
) -> tuple[Blocks, Features, list[str]]:
    """Read again without the constant features, where there are any and they are to be dropped.

    Those that are `known` to an earlier run were not constant in its rows: they stay.
    """
    profile = blocks.profile
    constant = [
        name
        for name, low, high in zip(features.names, profile.low, profile.high, strict=True)
        if low == high and name not in known
    ]
    if not constant or source.constant_features == "fail":
        return blocks, features, []
    if len(constant) == len(features.names) and not features.beside:
        raise InputError(
            f"every feature is constant ({', '.join(constant)}): there is nothing to fit"
        )
    if features.vector is not None:
        raise InputError(
            f"{', '.join(constant)} of vector column {features.vector!r} are constant and cannot "
            "be dropped from it: write the column without them"
        )
    held.close()
    kept = features.without(constant)
    again = Blocks(df, kept, source.place, blocks.products)
    return held.enter_context(again), kept, constant


def what_was_read(
    blocks: Blocks,
    features: Features,
    dropped: Sequence[str],
    seconds: float,
    invalid_rows: str,
) -> str:
    """Say how many rows there are, of what size, and which did not count."""
    found = blocks.read
    beside = f", {len(features.beside)} of levels or counts," if features.beside else ""
    n_columns = len(features.names) + len(features.beside)
    parts = [
        f"read {found.counts.read:,} rows of {n_columns} features{beside} in {seconds:.1f} s "
        f"({found.n_bytes / 2**20:,.1f} MiB in {found.n_partitions} partitions)"
    ]
    if found.counts.invalid:
        parts.append(describe_fate(found.counts, features, invalid_rows))
        parts.append(f"{found.used:,} used")
    if dropped:
        parts.append(f"dropped as constant: {', '.join(dropped)}")
    return "; ".join(parts)


@contextmanager
def naming_attempt(run_id: str, state: Mapping[str, Any] | None) -> Iterator[None]:
    """Say of which attempt a state of a table is that is no longer there."""
    try:
        yield
    except InputError as error:
        if state is None:
            raise
        raise InputError(
            f"run {run_id!r} was begun and goes on with "
            f"{'version ' if 'version' in state else 'snapshot '}"
            f"{state.get('version', state.get('snapshot_id'))}, which cannot be read any more "
            f"({error}): start it again with --overwrite, or name another output.run_id"
        ) from error
