"""The score job: read, score, publish."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkgmm.core.quantiles import threshold
from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError, option_names
from sparkgmm.formatting import quoted_list, some_of
from sparkgmm.options import KEYS
from sparkgmm.runs.config import ScoreConfig
from sparkgmm.runs.folder import (
    GROUPS,
    RowsFolder,
    StoredGroups,
    StoredModel,
    load_run,
)
from sparkgmm.runs.reading import open_source, what_is_read
from sparkgmm.runs.scored_table import ScoredTable, differing
from sparkgmm.runs.terminal import Terminal, tasks_done
from sparkgmm.spark.error_translation import translate, translate_writing, translated_errors
from sparkgmm.spark.file_systems import MODEL, first_line
from sparkgmm.spark.group_scoring import GroupCounts
from sparkgmm.spark.names import TableName, place_named
from sparkgmm.spark.partitions import described
from sparkgmm.spark.quarantine import count_invalid, describe_invalid, rejected, valid
from sparkgmm.spark.score_columns import columns_of
from sparkgmm.spark.scored_groups import GroupModels, score_groups
from sparkgmm.spark.scored_rows import ScoreRequest, check_columns, score_rows
from sparkgmm.spark.scoring import INVALID_ROW, Totals
from sparkgmm.spark.source import (
    NO_ROWS,
    Features,
    Opened,
    did_you_mean,
    find_model_features,
)
from sparkgmm.spark.storage import Folder
from sparkgmm.spark.tables import describe_table, reading_files_of

# Below the output; the underscore has those who read the output pass it by.
REJECTED = "_rejected"
# Formats whose files say which columns they hold.
_WITH_SCHEMA = ("parquet", "orc")


@dataclass(frozen=True)
class Task:
    """All that is known before a row is read."""

    df: DataFrame
    features: Features
    model: StoredModel | StoredGroups
    request: ScoreRequest
    output: RowsFolder | ScoredTable
    opened: Opened
    groups: GroupModels | None = None

    @property
    def gaps(self) -> tuple[str, ...]:
        """The names of the features that may be null or NaN."""
        return tuple(self.features.names[i] for i in self.request.gaps(self.features))


def open_task(spark: SparkSession, config: ScoreConfig) -> Task:
    """Open model, input and output, and check that they go together, without reading the rows.

    Raises
    ------
    SparkGmmError
        If the configuration, the model or the input's columns are at fault.

    """
    output = _open_output(spark, config)
    model = load_run(Folder(spark, config.model, MODEL))
    if isinstance(model, StoredGroups):
        return _open_groups(spark, config, output, model)
    source = config.input
    mixture = model.mixture
    for column in columns_of(config.output.columns):
        if column.needs == "labels" and model.labels is None:
            raise ConfigurationError(
                f"output.columns names {column.name}, but {model.run.path!r} has no labels: fit "
                f"the model with a drift section, or leave {column.name} out"
            )
    _check_conditionals(config, model)
    with translated_errors(source.place):
        opened = open_source(spark, source)
        df = _with_unknown(opened.df, config.output.predict)
        _check_apart(spark, config, output, model)
        columns = [part.of for part in mixture.parts]
        features = find_model_features(df, mixture.features, mixture.d, model.vector, columns)
        features = features.with_missing(mixture.missing)
        if mixture.features not in (None, features.names):
            ordered = mixture.marginal([*features.names, *(column.name for column in columns)])
            model = replace(model, mixture=ordered)
    keep = config.output.keep
    request = ScoreRequest(
        tuple(opened.df.columns if keep == "all" else keep),
        tuple(config.output.columns),
        _threshold(config, model),
        config.input.invalid_rows == "fail",
        model.labels,
        config.output.impute,
        tuple(config.output.predict),
    )
    check_columns(df, features, request)
    return Task(df, features, model, request, output, opened)


def _check_conditionals(config: ScoreConfig, model: StoredModel) -> None:
    """Refuse what is to be imputed or predicted of features that are no columns of their own."""
    output, mixture = config.output, model.mixture
    if not output.impute and not output.predict:
        return
    key = "output.impute is true" if output.impute else f"output.predict is {output.predict}"
    names = mixture.columns
    if names is None or model.vector is not None:
        what = "without names" if names is None else f"in one column, {model.vector!r}"
        raise ConfigurationError(
            f"{key}, but {model.run.path!r} has its features {what}: use imputedCol or expectedCol "
            "of GaussianMixtureModel, or fit features that are columns of their own"
        )
    for name in output.predict:
        if name not in names:
            raise ConfigurationError(
                f"output.predict names {name!r}, which is no feature of the model: "
                f"{did_you_mean(name, names)}its features are {quoted_list(names)}"
            )
        if name in mixture.categorical:
            raise ConfigurationError(
                f"output.predict names {name!r}, which is categorical, and levels have no mean: "
                "output.impute fills its nulls with the most probable level"
            )


def _with_unknown(df: DataFrame, features: list[str]) -> DataFrame:
    """Add features that are to be predicted and are not there, as nulls."""
    for name in features:
        if name not in df.columns:
            df = df.withColumn(name, F.lit(None).cast("double"))
    return df


def _open_groups(
    spark: SparkSession,
    config: ScoreConfig,
    output: RowsFolder | ScoredTable,
    stored: StoredGroups,
) -> Task:
    """Open the task where each group has a mixture of its own."""
    refused = {
        "output.outlier_quantile": config.output.outlier_quantile is not None,
        "output.columns label": "label" in config.output.columns,
        "output.impute": config.output.impute,
        "output.predict": bool(config.output.predict),
    }
    for key, asked in refused.items():
        if asked:
            raise ConfigurationError(
                f"{key} is for a run of one mixture, and {stored.run.path!r} has one for each "
                "group: leave it out"
            )
    with translated_errors(config.input.place):
        opened = open_source(spark, config.input)
        df = opened.df
        _check_apart(spark, config, output, stored)
        features = find_model_features(df, stored.features, len(stored.features), stored.vector)
        if features.names != stored.features:
            raise InputError(
                f"column {stored.vector!r} holds {quoted_list(features.names)} in this order, and "
                f"the mixtures were fitted on {quoted_list(stored.features)}: assemble it in theirs"
            )
    found = spark.read.parquet(stored.run.child(GROUPS).uri)
    groups = GroupModels.of(found, stored.names, stored.features, stored.vector)
    groups.check(df)
    keep = config.output.keep
    request = ScoreRequest(
        tuple(df.columns if keep == "all" else keep),
        tuple(config.output.columns),
        None,
        config.input.invalid_rows == "fail",
    )
    check_columns(df, features, request)
    return Task(df, features, stored, request, output, opened, groups)


def _open_output(spark: SparkSession, config: ScoreConfig) -> RowsFolder | ScoredTable:
    table = ScoredTable.of(spark, config.output)
    if table is not None:
        table.check(config.input.invalid_rows == "quarantine")
        return table
    folder = RowsFolder(Folder(spark, str(config.output.path)), config.output.mode)
    folder.check()
    return folder


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
    spark: SparkSession,
    config: ScoreConfig,
    output: RowsFolder | ScoredTable,
    model: StoredModel | StoredGroups,
) -> None:
    """Refuse an output that is within what is read, or would take its place."""
    at = output.folder.uri if isinstance(output, RowsFolder) else output.store.location()
    if at is None:  # a table that is to be made: its catalog chooses where
        return
    here = Folder(spark, at).uri
    target = place_named(config.output.place, "output")
    runs = [Folder(spark, config.model).uri, model.run.uri]
    if any(_is_within(run, here) for run in runs) or _is_within(here, runs[1]):
        raise ConfigurationError(f"{target} is where the model is: choose another")
    for named, path in _read_from(spark, config):
        there = Folder(spark, path).uri
        if _is_within(here, there) or _is_within(there, here):
            raise ConfigurationError(
                f"{target} and {named} are one within the other: write elsewhere"
            )


def _read_from(spark: SparkSession, config: ScoreConfig) -> list[tuple[str, str]]:
    """Return the addresses that are read, and how messages call each."""
    place = config.input.place
    if place is None:
        return []
    if isinstance(place, TableName):
        location = describe_table(spark, place).location
        return [] if location is None else [(place_named(place), location)]
    paths = [place] if isinstance(place, str) else place
    return [(place_named(path), path) for path in paths]


def _is_within(inner: str, outer: str) -> bool:
    """Return whether a path is another or is below it; either may be a glob."""
    return any(
        _is_below(one.rstrip("/").split("/"), other.rstrip("/").split("/"))
        for one in _without_braces(inner)
        for other in _without_braces(outer)
    )


def _is_below(parts: list[str], outer: list[str]) -> bool:
    return len(parts) >= len(outer) and all(
        part == other or fnmatchcase(part, other) or fnmatchcase(other, part)
        for part, other in zip(parts, outer, strict=False)
    )


def _without_braces(path: str) -> list[str]:
    """Return the globs without braces that one with braces stands for."""
    found = re.search(r"\{([^{}]*)\}", path)
    if found is None:
        return [path]
    rests = (path[: found.start()] + part + path[found.end() :] for part in found[1].split(","))
    return [plain for rest in rests for plain in _without_braces(rest)]


@option_names(KEYS)
def plan_score(spark: SparkSession, config: ScoreConfig) -> str:
    """Say in words what the job would do."""
    task = open_task(spark, config)
    names = task.features.names
    source = "" if task.features.vector is None else f" of column {task.features.vector}"
    outliers = (
        "none flagged"
        if task.request.threshold is None
        else f"log density below {task.request.threshold:.6g}, the "
        f"{config.output.outlier_quantile:g} quantile of the training data"
    )
    return "\n".join(
        [
            f"reads    {what_is_read(task.opened, config.input)}",
            f"model    {task.model.run.path}: {_described(task.model)}",
            f"features {len(names)}{source}: {some_of(names)}",
            f"keeps    {', '.join(task.request.kept) or 'no column of the input'}",
            f"adds     {', '.join(task.request.columns)}",
            *(["imputes  nulls of the features"] if config.output.impute else []),
            f"outliers {outliers}",
            f"writes   {_written_to(config, task)}",
        ]
    )


def _described(model: StoredModel | StoredGroups) -> str:
    if isinstance(model, StoredGroups):
        return f"a mixture for each group by {', '.join(model.names)}"
    return f"k = {model.mixture.k}, {model.mixture.covariance_type}"


def _written_to(config: ScoreConfig, task: Task) -> str:
    kind = "table " if isinstance(config.output.place, TableName) else ""
    output = task.output
    format_name = output.format if isinstance(output, ScoredTable) else config.output.format
    return f"{kind}{config.output.place} ({format_name}, {config.output.mode})"


@option_names(KEYS)
def run_score(spark: SparkSession, config: ScoreConfig, terminal: Terminal) -> None:
    """Do the job.

    Raises
    ------
    SparkGmmError
        If the configuration, the model or the input is at fault; nothing is published then.
    """
    terminal.set_context(step="read")
    with described(spark, "opening the input"):
        task = open_task(spark, config)
    terminal.set_context(run_id=task.model.run.path.rstrip("/").rpartition("/")[2], step="score")
    task.output.check_writable()
    scored, totals = _scored(task)
    with reading_files_of(task.opened.snapshot):
        if isinstance(task.output, ScoredTable):
            seconds = _into_table(spark, config, task.output, task, scored, terminal)
        else:
            seconds = _into_folder(spark, config, task.output, task, scored, totals, terminal)
    counts = {
        "rows_read": totals.read.value,
        "rows_invalid": totals.invalid.value,
        **_more_counts(totals),
        "seconds": seconds,
    }
    if isinstance(totals, Totals):
        for line in _unseen_lines(totals):
            terminal.say(line)
    terminal.result(_summary(config, task, totals, seconds), **counts)


def _unseen_lines(totals: Totals) -> Iterator[str]:
    """Say which columns hold levels that the model does not have, in how many rows."""
    n_scored = totals.read.value - totals.invalid.value
    for name, counted in totals.unseen:
        if counted.value:
            more = ": write the levels as the model was fitted on" * (counted.value == n_scored)
            yield (
                f"warning: column {name!r} holds levels that the model does not have in "
                f"{counted.value:,} of {n_scored:,} rows, where it counts as not known{more}"
            )


def _scored(task: Task) -> tuple[DataFrame, Totals | GroupCounts]:
    if task.groups is not None:
        return score_groups(task.df, task.features, task.groups, task.request)
    assert isinstance(task.model, StoredModel)
    return score_rows(task.df, task.features, task.model.mixture, task.request)


def _more_counts(totals: Totals | GroupCounts) -> dict[str, int]:
    if isinstance(totals, Totals):
        unseen = {f"rows_unseen_{name}": n.value for name, n in totals.unseen}
        return {"outliers": totals.outliers.value, **unseen}
    return {
        "rows_of_unknown_groups": totals.unknown.value,
        "rows_without_mixture": totals.without.value,
    }


def _into_folder(
    spark: SparkSession,
    config: ScoreConfig,
    folder: RowsFolder,
    task: Task,
    scored: DataFrame,
    totals: Totals | GroupCounts,
    terminal: Terminal,
) -> float:
    """Write a draft, judge it, and let it take its place; return the seconds of writing."""
    folder.begin()
    _check_same_columns(spark, config, folder, scored)
    started = time.monotonic()
    try:
        with (
            described(spark, "scoring the rows"),
            terminal.reading(tasks_done(spark), "scoring"),
        ):
            _write(scored, folder, task, config)
        seconds = time.monotonic() - started
        _check_rows(totals.read.value, totals.invalid.value)
        terminal.set_context(step="publish")
        if totals.invalid.value and config.input.invalid_rows == "quarantine":
            rows = rejected(task.df, task.features, task.gaps)
            with described(spark, "writing the rejected rows"):
                rows.write.parquet(folder.draft.child(REJECTED).uri)
        folder.publish()
    except BaseException as error:
        with suppress(Exception):  # what is wrong is said already
            folder.discard()
        known = _translated(error, config, folder) if isinstance(error, Exception) else None
        if known is None or known is error:
            raise
        raise known from error
    return seconds


def _into_table(
    spark: SparkSession,
    config: ScoreConfig,
    table: ScoredTable,
    task: Task,
    scored: DataFrame,
    terminal: Terminal,
) -> float:
    """Judge the rows, and write them in one commit; return the seconds of writing.

    Rejected rows are written before, so that scored rows never appear without them.
    """
    table.check_columns(scored)
    try:
        quarantine = config.input.invalid_rows == "quarantine"
        with described(spark, "looking at the rows"):
            n_invalid = _judge(task, every_row=quarantine)
        if quarantine:
            rows = rejected(task.df, task.features, task.gaps)
            with described(spark, "writing the rejected rows"):
                table.write_rejected(rows, n_invalid > 0)
        started = time.monotonic()
        with (
            described(spark, "scoring the rows"),
            terminal.reading(tasks_done(spark), "scoring"),
        ):
            table.write(scored)
        return time.monotonic() - started
    except BaseException as error:
        with suppress(Exception):  # what is wrong is said already
            table.discard()
        if not isinstance(error, Exception) or isinstance(error, SparkGmmError):
            raise
        known = _invalid(error, task) or table.refused(error)
        location = table.store.location()
        known = known or _translated_at(error, config, location and re.escape(location))
        raise known or error from error


def _judge(task: Task, every_row: bool) -> int:
    """Stop where no row can be scored, before anything is written; return the invalid rows' number.

    All rows are counted only if it is asked for, or if no valid one is found: the first valid one
    ends the search.
    """
    found = valid(task.df, task.features, task.gaps).select(F.lit(1))
    if not every_row and not found.isEmpty():
        return 0
    counts = count_invalid(task.df, task.features, task.gaps)
    if counts.invalid and task.request.fail:
        raise InputError(describe_invalid(counts, task.features))
    _check_rows(counts.read, counts.invalid)
    return int(counts.invalid)


def _check_same_columns(
    spark: SparkSession, config: ScoreConfig, folder: RowsFolder, scored: DataFrame
) -> None:
    """Refuse to append rows to rows of other columns or types."""
    output = config.output
    if output.mode != "append" or output.format not in _WITH_SCHEMA or not folder.holds_rows:
        return
    try:
        there = spark.read.format(output.format).load(folder.folder.uri).schema
    except Exception as error:
        raise ConfigurationError(
            f"output.path {output.path!r} holds no {output.format} to append to "
            f"({first_line(error)}): choose another, or output.mode overwrite"
        ) from error
    found = differing(there, scored.schema, output.format)
    if found is not None:
        raise ConfigurationError(
            f"output.path {output.path!r} {found}: choose another, or output.mode overwrite"
        )


def _write(scored: DataFrame, folder: RowsFolder, task: Task, config: ScoreConfig) -> None:
    """Write the draft; say in the job's words what went wrong."""
    writer = scored.write.format(config.output.format)
    if config.output.format == "csv":
        writer = writer.option("header", True)
    if not folder.folder.renames:  # a task's files go to the draft in one copy, not two
        writer = writer.option("mapreduce.fileoutputcommitter.algorithm.version", 2)
    try:
        writer.save(folder.draft.uri)
    except Exception as error:
        known = _invalid(error, task) or _no_place_for(error, config)
        known = known or _translated(error, config, folder)
        raise known or error from error


def _translated(error: Exception, config: ScoreConfig, folder: RowsFolder) -> SparkGmmError | None:
    return _translated_at(error, config, re.escape(folder.draft.name))


def _translated_at(
    error: Exception, config: ScoreConfig, draft: str | None
) -> SparkGmmError | None:
    """Translate an error of a write; `draft` is a part of the address that is written to."""
    read_from, output = config.input.place, config.output.place
    if draft is None:
        return translate(error, read_from)
    return translate_writing(error, read_from, output, draft)


def _invalid(error: Exception, task: Task) -> SparkGmmError | None:
    if INVALID_ROW not in str(error):
        return None
    counts = count_invalid(task.df, task.features, task.gaps)
    return InputError(describe_invalid(counts, task.features))


def _no_place_for(error: Exception, config: ScoreConfig) -> SparkGmmError | None:
    if "UNSUPPORTED_DATA_TYPE_FOR_DATASOURCE" not in str(error):
        return None
    return ConfigurationError(
        f"output.format {config.output.format} cannot hold a column ({first_line(error)}): leave "
        "it out of output.columns or output.keep, or choose parquet"
    )


def _check_rows(n_read: int, n_invalid: int) -> None:
    if n_read == 0:
        raise InputError(NO_ROWS)
    if n_invalid == n_read:
        raise InputError(
            f"all {n_read:,} rows are invalid: check that the model's features are "
            "these columns, and input.options for how nulls and numbers are written"
        )


def _summary(config: ScoreConfig, task: Task, totals: Totals | GroupCounts, seconds: float) -> str:
    return "\n".join(_lines(config, task, totals, seconds))


def _lines(
    config: ScoreConfig, task: Task, totals: Totals | GroupCounts, seconds: float
) -> Iterator[str]:
    n_read, n_invalid = totals.read.value, totals.invalid.value
    n_scored = n_read - n_invalid
    yield (
        f"rows     {n_read:,} read, {n_scored:,} scored, {n_invalid:,} invalid, in {seconds:.1f} s "
        f"({n_read / max(seconds, 1e-9):,.0f} rows/s)"
    )
    if isinstance(totals, GroupCounts):
        yield from _group_lines(totals)
    elif task.request.threshold is not None:
        n = totals.outliers.value
        yield (
            f"outliers {n:,} ({n / n_scored:.3%}): log density below {task.request.threshold:.6g}, "
            f"the {config.output.outlier_quantile:g} quantile of the training data"
        )
    table = task.output if isinstance(task.output, ScoredTable) else None
    if n_invalid and config.input.invalid_rows == "quarantine":
        at = table.rejected_place if table else f"{config.output.path}/{REJECTED}"
        yield f"rejected {at}"
    version = table.version() if table else None
    word = "snapshot" if table and table.format == "iceberg" else "version"
    yield f"scored   {config.output.place}" + ("" if version is None else f", {word} {version}")


def _group_lines(counts: GroupCounts) -> Iterator[str]:
    """Say how many rows have no mixture of their group: what is added to them is null."""
    for n, why in (
        (counts.unknown.value, "belong to groups that the run does not know"),
        (counts.without.value, "belong to groups without a mixture (column error of groups/)"),
    ):
        if n:
            yield f"groups   {n:,} rows {why}: nulls are added to them"
