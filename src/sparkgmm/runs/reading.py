"""The rows of a fit or a comparison: opened, judged, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from pyspark.sql import DataFrame, SparkSession

from sparkgmm.errors import InputError
from sparkgmm.runs.config import CompareConfig, FitConfig, InputConfig
from sparkgmm.spark.quarantine import describe_invalid
from sparkgmm.spark.rows import Blocks, Read
from sparkgmm.spark.source import Features, files_of, find_features, read
from sparkgmm.spark.trouble import telling


def open_input(
    spark: SparkSession, config: FitConfig | CompareConfig
) -> tuple[DataFrame, Features]:
    """Open the input and resolve its features, without reading the rows."""
    source = config.input
    with telling(source.path):
        df = read(spark, source.path, source.format, source.options, source.where)
        return df, find_features(df, source.features, source.weight)


def plan_input(spark: SparkSession, config: FitConfig | CompareConfig) -> list[str]:
    """Say in words what would be read and fitted, a line each."""
    df, features = open_input(spark, config)
    files = files_of(df, config.input.path)
    size = sum(info.n_bytes for info in files)
    candidates = len(config.model.k) * len(config.model.covariance_type)
    names = ", ".join(features.names[:12]) + (", ..." if len(features.names) > 12 else "")
    return [
        f"reads    {len(files)} file(s), {size:,} bytes",
        f"features {len(features.names)} ({features.dtype}): {names}",
        f"weight   {features.weight or 'none: every row counts once'}",
        f"fits     {candidates} candidate(s) by engine {config.model.engine}, "
        f"{config.model.n_init} start(s) each",
    ]


def judge(found: Read, features: Features, invalid_rows: str) -> None:
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
    if len(constant) == len(features.names):
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
    return held.enter_context(Blocks(df, kept, source.path)), kept, constant


def what_was_read(
    blocks: Blocks, features: Features, dropped: Sequence[str], seconds: float
) -> str:
    """Say how many rows there are, of what size, and which did not count."""
    found = blocks.read
    parts = [
        f"read {found.counts.read:,} rows of {len(features.names)} features in {seconds:.1f} s "
        f"({found.n_bytes / 2**20:,.1f} MiB in {found.n_partitions} partitions)"
    ]
    if found.counts.invalid:
        parts.append(f"{found.counts.invalid:,} invalid, {found.used:,} used")
    if dropped:
        parts.append(f"dropped as constant: {', '.join(dropped)}")
    return "; ".join(parts)
