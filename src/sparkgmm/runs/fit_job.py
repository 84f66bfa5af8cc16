"""The fit job: read, fit, publish."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import SparkSession

from sparkgmm.core.cautions import Caution, apart_cautions, column_cautions
from sparkgmm.core.fit import Fit
from sparkgmm.core.rows import Rows, pilot_rows
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.errors import SparkGmmError, option_names
from sparkgmm.options import KEYS
from sparkgmm.runs.column_account import CONSTANT, LEFT_OUT, account
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.drift_check import (
    Judged,
    drift_json,
    in_manifest,
    judge_drift,
    open_compared_run,
    past_runs_of,
    refuse_drifted,
)
from sparkgmm.runs.engines import EarlierRuns, asks_for_products, solve
from sparkgmm.runs.folder import RunFolder, components_parquet, retain, to_json
from sparkgmm.runs.groups_job import fit_groups
from sparkgmm.runs.prometheus import exposition
from sparkgmm.runs.reading import (
    Source,
    check_valid,
    how_to_read,
    naming_attempt,
    open_input,
    plan_input,
    what_was_read,
    without_constants,
)
from sparkgmm.runs.record import (
    Stopwatch,
    drawing,
    figures,
    manifest_of,
    metrics_of,
    model_json,
    summary,
    versions,
)
from sparkgmm.runs.runs_list import Published, list_run
from sparkgmm.runs.state import BegunRun, KeptRows, State, first_difference
from sparkgmm.runs.statistics_file import STATISTICS, find_base_run, statistics_of
from sparkgmm.runs.terminal import Terminal, tasks_done
from sparkgmm.spark.cluster_rows import Blocks, Read
from sparkgmm.spark.driver_memory import check_models_fit
from sparkgmm.spark.error_translation import translate_writing
from sparkgmm.spark.partitions import described
from sparkgmm.spark.quarantine import describe_fate, rejected
from sparkgmm.spark.source import Features, files_of
from sparkgmm.spark.storage import Folder
from sparkgmm.spark.tables import reading_files_of


@option_names(KEYS)
def plan(spark: SparkSession, config: FitConfig) -> str:
    """Say in words what the job would do."""
    run_id = config.output.run_id or "<time>-" + config.digest()
    return "\n".join(
        [
            *plan_input(spark, config),
            *_plan_update(spark, config, run_id),
            *_plan_drift(spark, config, run_id),
            f"writes   {config.output.path}/{run_id}",
        ]
    )


def _plan_update(spark: SparkSession, config: FitConfig, run_id: str) -> list[str]:
    if config.model.update is None:
        return []
    run = RunFolder(Folder(spark, config.output.path), run_id)
    base = find_base_run(spark, config, run, None, overwrite=True)
    return [f"updates  {'nothing: there is no run before it' if base is None else base.path}"]


def _plan_drift(spark: SparkSession, config: FitConfig, run_id: str) -> list[str]:
    said: list[str] = []
    run = RunFolder(Folder(spark, config.output.path), run_id)
    earlier = open_compared_run(spark, config, run, said.append)
    if earlier is not None:
        said.append(f"{earlier.folder.path}, run {earlier.run_id!r}")
    return [f"drift    {what}" for what in said]


@dataclass(frozen=True)
class _Fitted:
    """What was read and what was found."""

    source: Source
    features: Features
    read: Read
    dropped: Sequence[str]
    without: Mapping[str, str]
    columns: Sequence[Caution]
    rows: Rows
    fit: Fit
    judged: Judged | None
    earlier_runs: EarlierRuns

    def fate(self, invalid_rows: str) -> str | None:
        """Say what became of the invalid rows, if there were any."""
        counts = self.read.counts
        return describe_fate(counts, self.features, invalid_rows) if counts.invalid else None


@option_names(KEYS)
def run_fit(spark: SparkSession, config: FitConfig, terminal: Terminal, overwrite: bool) -> None:
    """Do the job; a run that was begun and not finished goes on after its last pass.

    Raises
    ------
    DriftError
        If the run drifted past a threshold of drift.fail; it is published, but not as the latest.
    SparkGmmError
        If the configuration, the input or the fit is at fault; nothing is published then.
    """
    root = Folder(spark, config.output.path)
    started = datetime.now(UTC)
    run_id = config.output.run_id or f"{started:%Y%m%dT%H%M%S.%f}"[:-3] + f"Z-{config.digest()}"
    run = RunFolder(root, run_id)
    terminal.set_context(run_id=run_id, step="start")
    if run.is_whole() and not overwrite:
        refuse_drifted(run, run.manifest())
        run.complete()
        terminal.say(_existing_run_message(run, config))
        return
    run.check_own()
    root.check_writable()
    if config.input.group_by:
        groups = fit_groups(spark, config, run, terminal, started, overwrite)
        _end(config, run, terminal, groups)
        return
    watch = Stopwatch.start()
    fitted = _read_and_fit(spark, config, run, terminal, watch, overwrite)
    terminal.set_context(step="report")
    made = _documents(spark, config, run, fitted, started, watch, terminal)
    terminal.set_context(step="publish")
    published = _publish(spark, config, run, fitted, made, overwrite)
    if published:
        text = summary(
            fitted.fit,
            config.model.criterion,
            run.path,
            "report.html" in made.files,
            config.model.max_iter,
            fitted.judged,
            fitted.columns,
            fitted.fate(config.input.invalid_rows),
        )
        terminal.result(text, **figures(made.metrics))
    done = Published(made.metrics, made.manifest, "report.html" in made.files)
    if published and fitted.judged is not None and not fitted.judged.accepted:
        list_run(run.root, done, terminal.say, is_latest=False)
    refuse_drifted(run, made.manifest, published)
    _end(config, run, terminal, done if published else None)


def _end(config: FitConfig, run: RunFolder, terminal: Terminal, done: Published | None) -> None:
    """Delete old runs and list the new one; it is published, so that a fault is only said."""
    if done is None:
        terminal.say(f"run {run.run_id} was published by another job meanwhile and is left alone")
        return
    keep, deleted = config.output.keep_runs, list[str]()
    try:
        if keep is not None:
            deleted = retain(run.root, keep)
    except SparkGmmError as error:
        terminal.say(f"older runs could not all be deleted ({error})")
    for old in deleted:
        terminal.say(f"run {old} is older than the {keep} to be kept: deleted")
    list_run(run.root, done, terminal.say, deleted=deleted)


def _read_and_fit(
    spark: SparkSession,
    config: FitConfig,
    run: RunFolder,
    terminal: Terminal,
    watch: Stopwatch,
    overwrite: bool,
) -> _Fitted:
    """Read the rows, take up the passes of an earlier attempt, and fit."""
    state = State(run.state, run.run_id, terminal.say)
    if not overwrite:
        state.check_configuration(config.deciding())
    earlier_runs = EarlierRuns.open(spark, config, run, state.begun, overwrite, terminal.say)
    terminal.set_context(step="read")
    with described(spark, "opening the input"):
        begun_with = state.begun_with(versions(spark), overwrite)
        with naming_attempt(run.run_id, begun_with):
            opened, features = open_input(spark, config, begun_with)
    if (odd := how_to_read(config.input)) is not None:
        terminal.say(odd)
    without = account(opened, features, config.input, terminal.say)
    df, snapshot = opened.df, opened.snapshot
    files = files_of(df, config.input.place) if snapshot is None else []
    if config.model.engine == "em":
        check_models_fit(len(features.names), config.model.k, config.model.covariance_type)
    with ExitStack() as held:
        with terminal.reading(tasks_done(spark)), reading_files_of(snapshot):
            products = asks_for_products(config.model)
            blocks = held.enter_context(Blocks(df, features, config.input.place, products))
        check_valid(blocks.read, features, config.input.invalid_rows)
        known = () if earlier_runs.base is None else earlier_runs.base.features
        blocks, features, dropped = without_constants(
            df, blocks, features, config.input, held, known
        )
        without |= dict.fromkeys(dropped, CONSTANT)
        earlier_runs.check_features(features.names, [column.name for column in features.beside])
        seconds = watch.lap("read")
        invalid_rows = config.input.invalid_rows
        terminal.say(what_was_read(blocks, features, dropped, seconds, invalid_rows))
        table = None if snapshot is None else snapshot.record()
        begun = BegunRun.of(
            config.deciding(),
            versions(spark),
            files,
            blocks.profile,
            earlier_runs.updated_from,
            table,
        )
        state.begin(begun, config.input.place, anew=overwrite)
        terminal.set_context(step="fit")
        n_pilot = pilot_rows(max(config.model.k))
        rows = KeptRows(blocks.rows(config.model.seed, n_pilot), state)
        types = config.model.covariance_type
        columns = [
            *column_cautions(rows, features.names, KEYS),
            *apart_cautions(rows, features.names, types, KEYS),
        ]
        for caution in columns:
            terminal.say(f"warning: {caution.text}")
        try:
            result = solve(df, rows, features, config.model, earlier_runs, terminal)
        except SparkGmmError:
            run.discard()  # it would end there again
            raise
        watch.lap("fit")
        judged = judge_drift(config.drift, run, earlier_runs.compared, result.chosen, rows)
        watch.lap("drift")
        read = Source(df, files, snapshot, config.input.table)
        return _Fitted(
            read,
            features,
            blocks.read,
            dropped,
            without,
            columns,
            rows,
            result,
            judged,
            earlier_runs,
        )


def _existing_run_message(run: RunFolder, config: FitConfig) -> str:
    """Say that a run is there, and whether it is another one than is asked for."""
    made = run.manifest().get("configuration", {})
    before = {key: made.get(key) for key in config.deciding()}
    difference = first_difference(before, config.deciding())
    other = f", though made with another configuration ({difference})" if difference else ""
    return (
        f"run {run.run_id} exists in {run.root_path} and is left alone{other} (--overwrite "
        "redoes it)"
    )


@dataclass(frozen=True)
class _Documents:
    """What is to be published: files by name, the manifest but for checksums, the metrics."""

    files: dict[str, bytes]
    manifest: dict[str, Any]
    metrics: dict[str, Any]


def _documents(
    spark: SparkSession,
    config: FitConfig,
    run: RunFolder,
    fitted: _Fitted,
    started: datetime,
    watch: Stopwatch,
    terminal: Terminal,
) -> _Documents:
    """Write down, in memory, what was found."""
    result, judged, earlier_runs = fitted.fit, fitted.judged, fitted.earlier_runs
    mixture = result.chosen.mixture
    membership = Membership(mixture, Sample.of(fitted.rows))
    manifest = manifest_of(spark, config, run.run_id, started, fitted.source.record())
    manifest |= {**in_manifest(judged), "updated_from": earlier_runs.updated_from}

    def metrics() -> dict[str, Any]:
        return metrics_of(
            result,
            fitted.read,
            fitted.features,
            fitted.dropped,
            fitted.columns,
            watch,
            config.model.max_iter,
            earlier_runs.base,
        ) | {LEFT_OUT: fitted.without}

    pages = _report(config, fitted, membership, metrics(), manifest, terminal, run)
    watch.lap("report")
    final = metrics()
    model = model_json(result.chosen, fitted.features, membership, judged)
    statistics = {}
    if result.history is not None:  # none stands for rows with categorical columns or counts
        kept = statistics_of(result.history, fitted.features.names, run, spark, earlier_runs.base)
        statistics = {STATISTICS: to_json(kept).encode()}
    files = {
        "components/part-00000.snappy.parquet": components_parquet(mixture),
        "model.json": to_json(model).encode(),
        "metrics.json": to_json(final).encode(),
        "metrics.prom": exposition(final, manifest, mixture.weights, run.root.path).encode(),
        **statistics,
        **drift_json(judged),
        **pages,
    }
    return _Documents(files, manifest, final)


def _publish(
    spark: SparkSession,
    config: FitConfig,
    run: RunFolder,
    fitted: _Fitted,
    made: _Documents,
    overwrite: bool,
) -> bool:
    """Publish the run at its place; False if another job's run of that name did first."""
    quarantined = config.input.invalid_rows == "quarantine"
    invalid = rejected(fitted.source.df, fitted.features) if quarantined else None
    accepted = fitted.judged is None or fitted.judged.accepted
    try:
        with described(spark, "writing the run"):
            return run.publish(made.files, invalid, made.manifest, overwrite, accepted)
    except Exception as error:
        draft = rf"/\.{re.escape(run.run_id)}\.[0-9a-f]{{32}}/"
        known = translate_writing(error, config.input.place, config.output.path, draft)
        raise known or error from error


def _report(
    config: FitConfig,
    fitted: _Fitted,
    membership: Membership,
    metrics: dict[str, Any],
    manifest: dict[str, Any],
    terminal: Terminal,
    run: RunFolder,
) -> dict[str, bytes]:
    """Draw the report's files; a fit of hours is not lost for a picture that fails."""
    if not config.output.report:
        return {}
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports its font cache
    from sparkgmm.report.page import report  # matplotlib takes a second to import
    from sparkgmm.report.run import Run

    try:
        found, profile = fitted.fit, fitted.rows.profile
        past = past_runs_of(fitted.judged, run, config.drift)
        columns = [caution.text for caution in fitted.columns]
        shown = Run(
            found.chosen,
            found.candidates,
            profile,
            membership,
            metrics,
            manifest,
            past,
            columns,
        )
        with drawing:
            return report(shown)
    except Exception as error:
        terminal.say(
            f"the report could not be drawn ({type(error).__name__}: {error}); the run is "
            "published without it"
        )
        return {}
