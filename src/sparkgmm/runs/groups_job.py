"""The fit job with `input.group_by`: a mixture for each group, in one job."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from sparkgmm.core.fit import fit
from sparkgmm.core.groups import search_for_groups
from sparkgmm.core.rows import pilot_rows
from sparkgmm.core.together import FittedGroup
from sparkgmm.errors import FitError, InputError, SparkGmmError, option_names
from sparkgmm.mixture import Mixture
from sparkgmm.options import KEYS
from sparkgmm.runs.column_account import LEFT_OUT, account
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.engines import as_search
from sparkgmm.runs.folder import GROUPS, RunFolder, to_json
from sparkgmm.runs.prometheus import groups_exposition
from sparkgmm.runs.reading import (
    Source,
    check_valid,
    naming_attempt,
    open_input,
    without_constants,
)
from sparkgmm.runs.record import Stopwatch, drawing, figures, manifest_of, versions
from sparkgmm.runs.runs_list import Published
from sparkgmm.runs.state import BegunRun, State
from sparkgmm.runs.terminal import Terminal, tasks_done
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.error_translation import translate_writing, translated_errors
from sparkgmm.spark.group_rows import FIELDS, GroupTask, of_fitted
from sparkgmm.spark.groups import (
    GroupTotals,
    components_of,
    fitted_groups,
    group_named,
    most_group_bytes,
    of_group,
    result_schema,
    totals_of,
)
from sparkgmm.spark.partitions import described
from sparkgmm.spark.quarantine import (
    describe_fate,
    invalid_by_column,
    missing_by_column,
    rejected,
)
from sparkgmm.spark.scoring import INVALID_ROW
from sparkgmm.spark.source import NO_ROWS, Features, files_of, quoted
from sparkgmm.spark.storage import Folder
from sparkgmm.spark.tables import reading_files_of

# Errors that are told in the terminal, and groups that the report shows of each kind.
_TOLD = 3
_SHOWN = 12
# What is only needed until the run is whole.
_INTERNAL = ("exit_code", "large", "faults")
_GROUPS_A_FILE = 100_000


@dataclass(frozen=True)
class _Kept:
    """What is known of groups so far, as files below an unfinished run.

    A task that is done has written its groups: those are not fitted again after a kill.
    """

    folder: Folder
    df: DataFrame
    names: tuple[str, ...]

    def write(self, found: DataFrame) -> None:
        """Add what was found of some groups; each task's file is there once the task is done."""
        writer = found.write.mode("append")
        writer = writer.option("mapreduce.fileoutputcommitter.algorithm.version", 2)
        writer.parquet(self.folder.uri)

    def read(self) -> DataFrame | None:
        """Return all rows, those of large groups that are not fitted yet among them."""
        if not self.folder.files(most=1):
            return None
        schema = result_schema(self.df, self.names)
        return self.df.sparkSession.read.schema(schema).parquet(self.folder.uri)

    def done(self) -> DataFrame | None:
        """Return the groups that are done."""
        found = self.read()
        return None if found is None else found.where("NOT large")

    def large(self) -> list[Row]:
        """Return the groups that are too large for a worker and not done, in their order."""
        found = self.read()
        if found is None:
            return []
        keys = [quoted(found, name) for name in self.names]
        by_group = found.groupBy(*keys).agg(F.min("large").alias("large"))
        return by_group.where("large").orderBy(*keys).collect()


@dataclass(frozen=True)
class _Job:
    """What the job is made of."""

    spark: SparkSession
    config: FitConfig
    df: DataFrame
    features: Features
    without: Mapping[str, str]
    kept: _Kept
    terminal: Terminal

    @property
    def names(self) -> tuple[str, ...]:
        return self.kept.names


def fit_groups(
    spark: SparkSession,
    config: FitConfig,
    run: RunFolder,
    terminal: Terminal,
    started: datetime,
    overwrite: bool,
) -> Published | None:
    """Fit every group and publish the run; return None if another job's run did first.

    What is done of an attempt that was killed is taken over.

    Raises
    ------
    FitError, InputError
        If no group at all could be fitted.
    SparkGmmError
        If the configuration or the input is at fault.
    """
    watch = Stopwatch.start()
    names = tuple(config.input.group_by)
    state = State(run.state, run.run_id, terminal.say)
    if not overwrite:
        state.check_configuration(config.deciding())
    terminal.set_context(step="read")
    with described(spark, "opening the input"):
        begun_with = state.begun_with(versions(spark), overwrite)
        with naming_attempt(run.run_id, begun_with):
            opened, features = open_input(spark, config, begun_with)
    without = account(opened, features, config.input, terminal.say)
    df, snapshot = opened.df, opened.snapshot
    files = files_of(df, config.input.place) if snapshot is None else []
    table = None if snapshot is None else snapshot.record()
    begun = BegunRun.of_files(config.deciding(), versions(spark), files, table)
    state.begin(begun, config.input.place, anew=overwrite)
    state.write_begun()
    terminal.set_context(step="fit")
    kept = _Kept(run.state.child(GROUPS), df, names)
    job = _Job(spark, config, df, features, without, kept, terminal)
    try:
        with reading_files_of(snapshot):
            _fit_small(job, sum(info.n_bytes for info in files))
            _fit_large(job)
    except SparkGmmError as found_wrong:
        if not found_wrong.may_pass:
            run.discard()  # it would end there again
        raise
    found = kept.done()
    with described(spark, "adding up the groups"):
        totals = None if found is None else totals_of(found, names, _width(features))
    watch.lap("fit")
    if found is None or totals is None or not totals.n_groups:
        run.discard()
        raise InputError(NO_ROWS)
    if not totals.n_fitted:
        error = _none_fitted(found, names, totals)
        run.discard()
        raise error
    source = Source(df, files, snapshot, config.input.table)
    manifest = manifest_of(spark, config, run.run_id, started, source.record())
    manifest[GROUPS] = {"features": list(features.names), "vector": features.vector}
    return _publish(job, run, found, totals, manifest, watch, overwrite)


def _width(features: Features) -> int:
    return len(features.names) + (features.weight is not None)


def _fit_small(job: _Job, n_bytes: int) -> None:
    """Fit the groups where their rows come together, by one pass over the input."""
    config, features = job.config, job.features
    task = GroupTask(
        len(job.names),
        features.names,
        features.vector is not None,
        features.weight is not None,
        search_for_groups(as_search(config.model)),
        config.input.constant_features == "drop",
        config.input.invalid_rows == "fail",
        most_group_bytes(job.spark),
    )
    done = job.kept.done()
    if done is not None:
        job.terminal.say(
            f"{done.count():,} groups of an earlier attempt are done: the others go on"
        )
    place = config.input.place
    try:
        with (
            translated_errors(place),
            described(job.spark, "fitting the groups"),
            job.terminal.reading(tasks_done(job.spark), "grouping and fitting"),
        ):
            job.kept.write(fitted_groups(job.df, features, job.names, task, done, n_bytes))
    except Exception as error:
        if INVALID_ROW not in str(error):
            raise
        with Blocks(job.df, features, place, products=False) as blocks:
            check_valid(blocks.read, features, "fail")
        raise


def _fit_large(job: _Job) -> None:
    """Fit groups too large for a worker, one after the other, by the ordinary engine."""
    for row in job.kept.large():
        values = [row[i] for i in range(len(job.names))]
        name = group_named(job.names, values)
        job.terminal.say(f"{name} is too large for a worker: it is fitted by itself")
        known = _fit_one(job, of_group(job.df, job.names, values))
        found = (*values, *(known.get(field) for field in FIELDS))
        schema = result_schema(job.df, job.names)
        job.kept.write(job.spark.createDataFrame([found], schema))


def _fit_one(job: _Job, df: DataFrame) -> dict[str, Any]:
    """Fit one group's rows, wherever they are; return what is known of it, by `FIELDS`."""
    source, features = job.config.input, job.features
    search = as_search(job.config.model)
    known: dict[str, Any] = {"large": False}
    with ExitStack() as held:
        blocks = held.enter_context(Blocks(df, features, source.place, search.products))
        counts = blocks.read.counts
        known |= {
            "rows_read": counts.read,
            "rows_invalid": counts.invalid,
            "rows_used": blocks.read.used,
            "faults": [counts.ragged, counts.negative]
            + [int(n) for kind in (counts.null, counts.nan, counts.infinite) for n in kind],
        }
        try:
            with option_names(KEYS):
                blocks, features, _ = without_constants(df, blocks, features, source, held)
                rows = blocks.rows(search.seed, pilot_rows(max(search.k)))
                with job.terminal.fitting(rows.profile.n_rows, job.config.model.max_iter) as on:
                    chosen = fit(rows, search, features.names, None, on).chosen
        except (InputError, FitError) as error:
            return known | {"error": str(error), "exit_code": error.exit_code}
    return known | of_fitted(FittedGroup.of(chosen))


def _failed(found: DataFrame, names: Sequence[str], most: int) -> list[tuple[str, str]]:
    """Return some groups without a mixture, by name, and why."""
    keys = [quoted(found, name) for name in names]
    rows = found.where("error IS NOT NULL").orderBy(*keys).select(*keys, "error").limit(most)
    return [(group_named(names, row[: len(names)]), row["error"]) for row in rows.collect()]


def _none_fitted(
    found: DataFrame, names: Sequence[str], totals: GroupTotals
) -> InputError | FitError:
    """Return the error that no group could be fitted, as one of them says it."""
    kind = FitError if FitError.exit_code in totals.exit_codes else InputError
    wanted = found.where(F.col("exit_code") == kind.exit_code)
    [(name, error)] = _failed(wanted, names, 1) or _failed(found, names, 1)
    which = "the one group" if totals.n_groups == 1 else f"none of the {totals.n_groups:,} groups"
    could = "could not be" if totals.n_groups == 1 else "could be"
    return kind(f"{which} {could} fitted; {name}: {error}")


def _publish(
    job: _Job,
    run: RunFolder,
    found: DataFrame,
    totals: GroupTotals,
    manifest: Mapping[str, Any],
    watch: Stopwatch,
    overwrite: bool,
) -> Published | None:
    config, features, names, terminal = job.config, job.features, job.names, job.terminal
    failed = _failed(found, names, _SHOWN)
    terminal.set_context(step="report")
    pages = _report(job, found, totals, failed, manifest)
    watch.lap("report")
    metrics = _metrics(totals, features, watch) | {LEFT_OUT: job.without}
    files = {
        "metrics.json": to_json(metrics).encode(),
        "metrics.prom": groups_exposition(metrics, manifest, run.root.path).encode(),
        **pages,
    }
    keys = [quoted(found, name) for name in names]
    n_files = -(-totals.n_groups // _GROUPS_A_FILE)
    in_files = found.drop(*_INTERNAL).repartitionByRange(n_files, *keys)
    components = components_of(found, names)
    by_group = [quoted(components, name) for name in names]
    tables = {
        GROUPS: in_files.sortWithinPartitions(*keys),
        "components": components.repartitionByRange(n_files, *by_group).sortWithinPartitions(
            *by_group, "component"
        ),
    }
    invalid = rejected(job.df, features) if config.input.invalid_rows == "quarantine" else None
    terminal.set_context(step="publish")
    try:
        with described(job.spark, "writing the run"):
            published = run.publish(files, invalid, manifest, overwrite, tables=tables)
    except Exception as error:
        known = translate_writing(error, config.input.place, config.output.path, run.run_id)
        raise known or error from error
    if published:
        text = _summary(job, run, totals, failed, "report.html" in files)
        terminal.result(text, **figures(metrics))
    return Published(metrics, manifest, "report.html" in files) if published else None


def _metrics(totals: GroupTotals, features: Features, watch: Stopwatch) -> dict[str, Any]:
    """Return metrics.json: sums over the groups, and the account of the rows."""
    counts = totals.counts
    return {
        "n_groups": totals.n_groups,
        "groups_fitted": totals.n_fitted,
        "groups_failed": totals.n_failed,
        "groups_converged": totals.n_converged,
        "groups_by_size": list(totals.by_size),
        "log_likelihood": totals.log_likelihood,
        "mean_log_likelihood": totals.log_likelihood / totals.sum_of_weights,
        "bic": totals.bic,
        "n_parameters": totals.n_parameters,
        "converged": totals.n_converged == totals.n_fitted,
        "rows_read": counts.read,
        "rows_used": totals.rows_used,
        "rows_invalid": counts.invalid,
        "rows_set_aside": totals.rows_set_aside,
        "missing_by_column": missing_by_column(counts, features),
        "invalid_by_column": invalid_by_column(counts, features),
        "sum_of_weights": totals.sum_of_weights,
        "seconds": sum(watch.seconds.values()),
        "seconds_by_step": dict(watch.seconds),
    }


def _summary(
    job: _Job,
    run: RunFolder,
    totals: GroupTotals,
    failed: Sequence[tuple[str, str]],
    reported: bool,
) -> str:
    """Return what the person at the terminal reads at the end."""
    counts, invalid_rows = totals.counts, job.config.input.invalid_rows
    lines = [
        f"{totals.n_groups:,} groups by {', '.join(job.names)}: {totals.n_fitted:,} fitted, "
        f"{totals.n_failed:,} without a mixture",
        *(
            f"  k = {row['k']} {row['covariance_type']}: {row['count']:,} groups"
            for row in totals.by_size
        ),
        f"log-likelihood {totals.log_likelihood:.5f} in all, {totals.n_converged:,} of "
        f"{totals.n_fitted:,} converged",
        *([describe_fate(counts, job.features, invalid_rows)] if counts.invalid else []),
        *([_aside(totals)] if totals.groups_set_aside else []),
        f"run {run.path}",
        *([f"report {run.path}/report.html"] if reported else []),
    ]
    said = [f"warning: {name}: {error}" for name, error in failed[:_TOLD]]
    if totals.n_failed > _TOLD:
        said.append(
            f"warning: {totals.n_failed - _TOLD:,} more groups have no mixture: see {GROUPS}/, "
            "column error"
        )
    return "\n".join([*said, *([""] if said else []), *lines])


def _aside(totals: GroupTotals) -> str:
    rows, groups = totals.rows_set_aside, totals.groups_set_aside
    return (
        f"rows set aside, far out of all proportion to their group's others: {rows:,} in "
        f"{groups:,} group{'s' * (groups > 1)} ({GROUPS}/, column rows_set_aside)"
    )


def _report(
    job: _Job,
    found: DataFrame,
    totals: GroupTotals,
    failed: Sequence[tuple[str, str]],
    manifest: Mapping[str, Any],
) -> dict[str, bytes]:
    """Draw the report's files; thousands of fits are not lost for a picture that fails."""
    if not job.config.output.report:
        return {}
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports its font cache
    from sparkgmm.report.groups_page import GroupShown, groups_page

    def shown(order: Any) -> list[GroupShown]:
        keys = [quoted(found, name) for name in job.names]
        some = found.where("model IS NOT NULL").orderBy(order, *keys).limit(_SHOWN).collect()
        return [
            GroupShown(
                group_named(job.names, row[: len(job.names)]),
                row["rows_used"],
                row["log_likelihood"] / row["sum_of_weights"],
                row["converged"],
                Mixture.from_json(row["model"]),
            )
            for row in some
        ]

    try:
        worst = shown(F.col("log_likelihood") / F.col("sum_of_weights"))
        largest = shown(F.col("rows_used").desc())
        with drawing:
            return groups_page(
                job.names,
                totals.by_size,
                {
                    "groups": totals.n_groups,
                    "fitted": totals.n_fitted,
                    "without a mixture": totals.n_failed,
                    "converged": totals.n_converged,
                    "rows read": totals.counts.read,
                    "rows used": totals.rows_used,
                    "rows invalid": totals.counts.invalid,
                    "rows set aside": totals.rows_set_aside,
                },
                worst,
                largest,
                failed,
                job.without,
                manifest,
            )
    except Exception as error:
        job.terminal.say(
            f"the report could not be drawn ({type(error).__name__}: {error}); the run is "
            "published without it"
        )
        return {}
