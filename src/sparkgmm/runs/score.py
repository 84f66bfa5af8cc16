"""The score job: read, score, publish."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pyspark.sql import DataFrame, SparkSession

from sparkgmm.core.quantiles import threshold
from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError, speaking
from sparkgmm.options import KEYS
from sparkgmm.runs.config import ScoreConfig
from sparkgmm.runs.folder import RowsFolder, StoredModel, load_model
from sparkgmm.runs.terminal import Terminal, tasks_done
from sparkgmm.spark.file_systems import MODEL, first_line
from sparkgmm.spark.partitions import described
from sparkgmm.spark.quarantine import count_invalid, describe_invalid, rejected
from sparkgmm.spark.scoring import INVALID_ROW, Totals
from sparkgmm.spark.source import NO_ROWS, Features, files_of, find_model_features, read
from sparkgmm.spark.storage import Folder
from sparkgmm.spark.transform import Wanted, check_columns, score_rows
from sparkgmm.spark.trouble import telling, translate_writing

# Below the output; the underscore has those who read the output pass it by.
REJECTED = "_rejected"
# Formats whose files say which columns they hold.
_WITH_SCHEMA = ("parquet", "orc")


@dataclass(frozen=True)
class Task:
    """All that is known before a row is read."""

    df: DataFrame
    features: Features
    model: StoredModel
    wanted: Wanted
    output: RowsFolder


def open_task(spark: SparkSession, config: ScoreConfig) -> Task:
    """Open model, input and output, and check that they go together, without reading the rows.

    Raises
    ------
    SparkGmmError
        If the configuration, the model or the input's columns are at fault.

    """
    output = RowsFolder(Folder(spark, config.output.path), config.output.mode)
    output.check()
    model = load_model(Folder(spark, config.model, MODEL))
    source = config.input
    mixture = model.mixture
    if "label" in config.output.columns and model.labels is None:
        raise ConfigurationError(
            f"output.columns names label, but {model.run.path!r} has no labels: fit the model with "
            "a drift section, or leave label out"
        )
    with telling(source.path):
        df = read(spark, source.path, source.format, source.options, source.where)
        _check_apart(spark, config, output, model)
        features = find_model_features(df, mixture.features, mixture.d, model.vector)
    keep = config.output.keep
    wanted = Wanted(
        tuple(df.columns if keep == "all" else keep),
        tuple(config.output.columns),
        _threshold(config, model),
        config.input.invalid_rows == "fail",
        model.labels,
    )
    check_columns(df, features, wanted)
    return Task(df, features, model, wanted, output)


def _threshold(config: ScoreConfig, model: StoredModel) -> float | None:
    q = config.output.outlier_quantile
    if q is None:
        return None
    if model.quantiles is None:
        raise InputError(
            f"{model.run.path!r} has no quantiles of the training data, which "
            f"output.outlier_quantile {q} needs: fit the model again, or set it to null"
        )
    return threshold(model.quantiles, q)


def _check_apart(
    spark: SparkSession, config: ScoreConfig, output: RowsFolder, model: StoredModel
) -> None:
    """Refuse an output that lies in what is read, or would take its place."""
    here = output.folder.uri
    runs = [Folder(spark, config.model).uri, model.run.uri]
    if any(_is_within(run, here) for run in runs) or _is_within(here, runs[1]):
        raise ConfigurationError(
            f"output.path {output.folder.path!r} is where the model lies: choose another"
        )
    for path in _paths(config):
        there = Folder(spark, path).uri
        if _is_within(here, there) or _is_within(there, here):
            raise ConfigurationError(
                f"output.path {output.folder.path!r} and input.path {path!r} lie in each other: "
                "write elsewhere"
            )


def _paths(config: ScoreConfig) -> list[str]:
    path = config.input.path
    return [] if path is None else [path] if isinstance(path, str) else list(path)


def _is_within(inner: str, outer: str) -> bool:
    """Tell whether a path is another or lies below it, or below what matches it as a glob."""
    parts, pattern = inner.rstrip("/").split("/"), outer.rstrip("/").split("/")
    return len(parts) >= len(pattern) and all(
        part == glob or fnmatchcase(part, glob) for part, glob in zip(parts, pattern, strict=False)
    )


@speaking(KEYS)
def plan_score(spark: SparkSession, config: ScoreConfig) -> str:
    """Say in words what the job would do."""
    task = open_task(spark, config)
    files = files_of(task.df, config.input.path)
    size = sum(info.n_bytes for info in files)
    mixture, names = task.model.mixture, task.features.names
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    source = "" if task.features.vector is None else f" of column {task.features.vector}"
    outliers = (
        "none flagged"
        if task.wanted.threshold is None
        else f"log density below {task.wanted.threshold:.6g}, the "
        f"{config.output.outlier_quantile:g} quantile of the training data"
    )
    return "\n".join(
        [
            f"reads    {len(files)} file(s), {size:,} bytes",
            f"model    {task.model.run.path}: k = {mixture.k}, {mixture.covariance_type}",
            f"features {len(names)}{source}: {shown}",
            f"keeps    {', '.join(task.wanted.kept) or 'no column of the input'}",
            f"adds     {', '.join(task.wanted.columns)}",
            f"outliers {outliers}",
            f"writes   {config.output.path} ({config.output.format}, {config.output.mode})",
        ]
    )


@speaking(KEYS)
def run_score(spark: SparkSession, config: ScoreConfig, terminal: Terminal) -> None:
    """Do the job.

    Raises
    ------
    SparkGmmError
        If the configuration, the model or the input is at fault; nothing is published then.
    """
    terminal.about(step="read")
    with described(spark, "opening the input"):
        task = open_task(spark, config)
    terminal.about(run_id=task.model.run.path.rstrip("/").rpartition("/")[2], step="score")
    task.output.check_writable()
    task.output.begin()
    scored, totals = score_rows(task.df, task.features, task.model.mixture, task.wanted)
    _check_same_columns(spark, config, task, scored)
    started = time.monotonic()
    try:
        with (
            described(spark, "scoring the rows"),
            terminal.reading(tasks_done(spark), "scoring"),
        ):
            _write(scored, task, config)
        seconds = time.monotonic() - started
        _check_rows(totals)
        terminal.about(step="publish")
        if totals.invalid.value and config.input.invalid_rows == "quarantine":
            rows = rejected(task.df, task.features)
            with described(spark, "writing the rejected rows"):
                rows.write.parquet(task.output.draft.child(REJECTED).uri)
        task.output.publish()
    except BaseException as error:
        with suppress(Exception):  # what is wrong is said already
            task.output.discard()
        known = _translated(error, config, task) if isinstance(error, Exception) else None
        if known is None or known is error:
            raise
        raise known from error
    counts = {
        "rows_read": totals.read.value,
        "rows_invalid": totals.invalid.value,
        "outliers": totals.outliers.value,
        "seconds": seconds,
    }
    terminal.result(_summary(config, task, totals, seconds), **counts)


def _check_same_columns(
    spark: SparkSession, config: ScoreConfig, task: Task, scored: DataFrame
) -> None:
    """Refuse to append rows to rows of other columns or types."""
    output = config.output
    if output.mode != "append" or output.format not in _WITH_SCHEMA or not task.output.holds_rows:
        return
    try:
        there = spark.read.format(output.format).load(task.output.folder.uri).schema
    except Exception as error:
        raise ConfigurationError(
            f"output.path {output.path!r} holds no {output.format} to append to "
            f"({first_line(error)}): choose another, or output.mode overwrite"
        ) from error
    held = {field.name: field.dataType.simpleString() for field in there}
    new = {field.name: field.dataType.simpleString() for field in scored.schema}
    for name in dict.fromkeys((*held, *new)):
        if held.get(name) != new.get(name):
            raise ConfigurationError(
                f"output.path {output.path!r} holds rows whose column {name!r} is "
                f"{held.get(name, 'missing')}, here it is {new.get(name, 'missing')}: choose "
                "another, or output.mode overwrite"
            )


def _write(scored: DataFrame, task: Task, config: ScoreConfig) -> None:
    """Write the draft; say in the job's words what went wrong."""
    writer = scored.write.format(config.output.format)
    if config.output.format == "csv":
        writer = writer.option("header", True)
    if not task.output.folder.renames:  # a task's files go to the draft in one copy, not two
        writer = writer.option("mapreduce.fileoutputcommitter.algorithm.version", 2)
    try:
        writer.save(task.output.draft.uri)
    except Exception as error:
        known = _invalid(error, task) or _no_place_for(error, config)
        known = known or _translated(error, config, task)
        raise known or error from error


def _translated(error: Exception, config: ScoreConfig, task: Task) -> SparkGmmError | None:
    name = task.output.draft.name
    return translate_writing(error, config.input.path, config.output.path, name)


def _invalid(error: Exception, task: Task) -> SparkGmmError | None:
    if INVALID_ROW not in str(error):
        return None
    counts = count_invalid(task.df, task.features)
    return InputError(describe_invalid(counts, task.features))


def _no_place_for(error: Exception, config: ScoreConfig) -> SparkGmmError | None:
    if "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE" not in str(error):
        return None
    return ConfigurationError(
        f"output.format {config.output.format} cannot hold a column ({first_line(error)}): leave "
        "it out of output.columns or output.keep, or choose parquet"
    )


def _check_rows(totals: Totals) -> None:
    if totals.read.value == 0:
        raise InputError(NO_ROWS)
    if totals.invalid.value == totals.read.value:
        raise InputError(
            f"all {totals.read.value:,} rows are invalid: check that the model's features are "
            "these columns, and input.options for how nulls and numbers are written"
        )


def _summary(config: ScoreConfig, task: Task, totals: Totals, seconds: float) -> str:
    return "\n".join(_lines(config, task, totals, seconds))


def _lines(config: ScoreConfig, task: Task, totals: Totals, seconds: float) -> Iterator[str]:
    n_read, n_invalid = totals.read.value, totals.invalid.value
    n_scored = n_read - n_invalid
    yield (
        f"rows     {n_read:,} read, {n_scored:,} scored, {n_invalid:,} invalid, in {seconds:.1f} s "
        f"({n_read / max(seconds, 1e-9):,.0f} rows/s)"
    )
    if task.wanted.threshold is not None:
        n = totals.outliers.value
        yield (
            f"outliers {n:,} ({n / n_scored:.3%}): log density below {task.wanted.threshold:.6g}, "
            f"the {config.output.outlier_quantile:g} quantile of the training data"
        )
    if n_invalid and config.input.invalid_rows == "quarantine":
        yield f"rejected {task.output.folder.path}/{REJECTED}"
    yield f"scored   {task.output.folder.path}"
