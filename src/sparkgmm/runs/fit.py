"""The fit job: read, fit, publish."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from sparkgmm.core.covariance import from_mixture
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.fit import Fit, check, fit
from sparkgmm.core.history import History
from sparkgmm.core.profile import Frame
from sparkgmm.core.rows import Rows
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate, Winner, choose
from sparkgmm.core.statistics import Scan
from sparkgmm.core.update import update
from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError
from sparkgmm.mixture import Mixture
from sparkgmm.report.views import Membership, Sample
from sparkgmm.runs.config import CompareConfig, FitConfig, InputConfig, ModelConfig
from sparkgmm.runs.drift import (
    Judged,
    check_features,
    drift_json,
    in_manifest,
    judge_drift,
    open_earlier,
    previous_of,
    refuse_drifted,
    since,
)
from sparkgmm.runs.folder import RunFolder, components_parquet, load_mixture, retain, to_json
from sparkgmm.runs.prometheus import exposition
from sparkgmm.runs.record import (
    Stopwatch,
    figures,
    manifest_of,
    metrics_of,
    model_of,
    summary,
    versions,
)
from sparkgmm.runs.state import Begun, KeptRows, State, first_difference
from sparkgmm.runs.terminal import Terminal, tasks_done
from sparkgmm.runs.update import STATISTICS, Base, find_base, statistics_of
from sparkgmm.spark.mllib import assemble, fit_mllib
from sparkgmm.spark.partitions import described
from sparkgmm.spark.quarantine import describe_invalid, rejected
from sparkgmm.spark.rows import Blocks, Read
from sparkgmm.spark.source import Features, files_of, find_features, read
from sparkgmm.spark.storage import FileInfo, Folder
from sparkgmm.spark.trouble import telling, translate, unwritable


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


def plan(spark: SparkSession, config: FitConfig) -> str:
    """Say in words what the job would do."""
    run_id = config.output.run_id or "<time>-" + config.digest()
    return "\n".join(
        [
            *plan_input(spark, config),
            *_plan_update(spark, config, run_id),
            f"writes   {config.output.path}/{run_id}",
        ]
    )


def _plan_update(spark: SparkSession, config: FitConfig, run_id: str) -> list[str]:
    if config.model.update is None:
        return []
    run = RunFolder(Folder(spark, config.output.path), run_id)
    base = find_base(spark, config, run, None, overwrite=True)
    return [f"updates  {'nothing: there is no run before it' if base is None else base.path}"]


@dataclass(frozen=True)
class _Fitted:
    """What was read and what was found."""

    df: DataFrame
    features: Features
    files: Sequence[FileInfo]
    read: Read
    dropped: Sequence[str]
    rows: Rows
    fit: Fit
    judged: Judged | None
    base: Base | None


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
    terminal.about(run_id=run_id, step="start")
    if run.is_whole() and not overwrite:
        refuse_drifted(run, run.manifest())
        terminal.say(_left_alone(run, config))
        return
    root.check_writable()
    watch = Stopwatch.start()
    fitted = _read_and_fit(spark, config, run, terminal, watch, overwrite)
    chosen, judged = fitted.fit.chosen, fitted.judged
    membership = Membership(chosen.mixture, Sample.of(fitted.rows))
    terminal.about(step="report")
    manifest = manifest_of(spark, config, run_id, started, fitted.files) | in_manifest(judged)
    base, history = fitted.base, fitted.fit.history
    manifest["updated_from"] = None if base is None else base.named()
    updated_from = None if base is None else base.run_id
    metrics = metrics_of(fitted.fit, fitted.read, fitted.dropped, watch, updated_from)
    pages = _report(config, fitted, membership, metrics, manifest, terminal, run)
    watch.lap("report")
    metrics = metrics_of(fitted.fit, fitted.read, fitted.dropped, watch, updated_from)
    assert history is not None
    statistics = statistics_of(history, fitted.features.names, run, spark, base)
    written = {
        "components/part-00000.snappy.parquet": components_parquet(chosen.mixture),
        "model.json": to_json(model_of(chosen, fitted.features, membership, judged)).encode(),
        "metrics.json": to_json(metrics).encode(),
        "metrics.prom": exposition(metrics, manifest, chosen.mixture.weights, root.path).encode(),
        STATISTICS: to_json(statistics).encode(),
        **drift_json(judged),
        **pages,
    }
    quarantined = config.input.invalid_rows == "quarantine"
    invalid = rejected(fitted.df, fitted.features) if quarantined else None
    terminal.about(step="publish")
    try:
        accepted = judged is None or judged.accepted
        with described(spark, "writing the run"):
            published = run.publish(written, invalid, manifest, overwrite, accepted)
    except Exception as error:
        known = unwritable(error, config.output.path) or translate(error, config.input.path)
        raise known or error from error
    if published:
        told = summary(fitted.fit, config.model.criterion, run.path, bool(pages), judged)
        terminal.result(told, **figures(metrics))
    refuse_drifted(run, manifest, published)
    if not published:
        terminal.say(f"run {run_id} was published by another job meanwhile and is left alone")
    elif config.output.keep_runs is not None:
        for old in retain(root, config.output.keep_runs):
            terminal.say(
                f"run {old} is older than the {config.output.keep_runs} to be kept: deleted"
            )


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
    start = _warm_start(spark, config, run, terminal)
    earlier = open_earlier(spark, config, run, terminal.say)
    base = find_base(spark, config, run, state.begun, overwrite)
    if base is None and config.model.update is not None:
        terminal.say(f"no run of {config.model.update} is before this one: its rows are fitted")
    terminal.about(step="read")
    with described(spark, "opening the input"):
        df, features = open_input(spark, config)
    files = files_of(df, config.input.path)
    with ExitStack() as held:
        with terminal.reading(tasks_done(spark)):
            blocks = held.enter_context(Blocks(df, features, config.input.path))
        judge(blocks.read, features, config.input.invalid_rows)
        known = () if base is None else base.features
        blocks, features, dropped = without_constants(
            df, blocks, features, config.input, held, known
        )
        if base is not None:
            base.check_features(features.names)
        check_features(earlier, features.names)
        seconds = watch.lap("read")
        terminal.say(_what_was_read(blocks, features, dropped, seconds))
        named = None if base is None else base.named()
        begun = Begun.of(config.deciding(), versions(spark), files, blocks.profile, named)
        state.begin(begun, config.input.path, anew=overwrite)
        terminal.about(step="fit")
        rows = KeptRows(blocks.rows(config.model.seed), state)
        try:
            if base is not None:
                result: Fit = _update(rows, features, config.model, base, terminal)
            else:
                result = _fit(df, rows, features, config.model, start, terminal)
        except SparkGmmError:
            run.discard()  # it would end there again
            raise
        watch.lap("fit")
        judged = judge_drift(config.drift, run, earlier, result.chosen, rows)
        watch.lap("drift")
        return _Fitted(df, features, files, blocks.read, dropped, rows, result, judged, base)


def _left_alone(run: RunFolder, config: FitConfig) -> str:
    """Say that a run is there, and whether it is another one than is asked for."""
    made = run.manifest().get("configuration", {})
    before = {key: made.get(key) for key in config.deciding()}
    difference = first_difference(before, config.deciding())
    other = f", though made with another configuration ({difference})" if difference else ""
    return (
        f"run {run.run_id} exists in {run.root_path} and is left alone{other} (--overwrite "
        "redoes it)"
    )


def _warm_start(
    spark: SparkSession, config: FitConfig, run: RunFolder, terminal: Terminal
) -> Mixture | None:
    """Return the model to start from; None where there is none, or it is no candidate's kind."""
    path, model = config.model.warm_start, config.model
    if path is None:
        return None
    folder: Folder | None = Folder(spark, path)
    if folder is not None and folder.uri == run.root.uri:
        folder = previous_of(run)
    if folder is None:
        terminal.say(f"no earlier run in {run.root_path}: model.warm_start begins cold")
        return None
    mixture = load_mixture(folder)
    if mixture.k in model.k and mixture.covariance_type in model.covariance_type:
        return mixture
    one = len(model.k) * len(model.covariance_type) == 1
    told = f"model.warm_start {path!r} has k = {mixture.k} and covariance_type "
    if one:
        raise ConfigurationError(
            f"{told}{mixture.covariance_type}, the configuration {model.k[0]} and "
            f"{model.covariance_type[0]}: make them equal"
        )
    terminal.say(f"{told}{mixture.covariance_type}, which is no candidate: all begin cold")
    return None


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


def _what_was_read(
    blocks: Blocks, features: Features, dropped: Sequence[str], seconds: float
) -> str:
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


def as_search(model: ModelConfig) -> Search:
    """Return the search that a configuration asks for."""
    return Search(
        k=tuple(model.k),
        covariance_type=tuple(model.covariance_type),
        criterion=model.criterion,
        init=model.init,
        n_init=model.n_init,
        seed=model.seed,
        settings=Settings(tol=model.tol, max_iter=model.max_iter, reg_covar=model.reg_covar),
    )


# matplotlib keeps fonts and texts for the whole process; jobs may run in several threads of one
_drawing = threading.Lock()


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
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    from sparkgmm.report.page import Run, report  # matplotlib takes a second to import

    try:
        found, profile = fitted.fit, fitted.rows.profile
        drifted = since(fitted.judged, run, config.drift)
        shown = Run(found.chosen, found.candidates, profile, membership, metrics, manifest, drifted)
        with _drawing:
            return report(shown)
    except Exception as error:
        terminal.say(
            f"the report could not be drawn ({type(error).__name__}: {error}); the run is "
            "published without it"
        )
        return {}


def _fit(
    df: DataFrame,
    rows: Rows,
    features: Features,
    model: ModelConfig,
    start: Mixture | None,
    terminal: Terminal,
) -> Fit:
    check(rows, max(model.k), features.names)
    if model.engine == "mllib":
        return _fit_by_mllib(df, rows, features, model, terminal)
    if start is not None and start.features not in (None, features.names):
        raise ConfigurationError(
            f"model.warm_start has features {start.features}, the input {features.names}: name the "
            "same in the same order"
        )
    with terminal.fitting(rows.profile.n_rows, model.max_iter) as progress:
        search = as_search(model)
        return fit(rows, search, features.names, None, progress, validate=True, earlier=start)


def _update(
    rows: Rows, features: Features, model: ModelConfig, base: Base, terminal: Terminal
) -> Fit:
    before = base.history.decayed(model.decay)
    terminal.say(
        f"goes on from run {base.run_id}: {before.n_rows:,} rows, which count as "
        f"{before.profile.weight:,.6g} beside the new ones"
    )
    with terminal.fitting(rows.profile.n_rows, model.max_iter) as progress:
        return update(rows, before, as_search(model).settings, features.names, progress)


def _fit_by_mllib(
    df: DataFrame, rows: Any, features: Features, model: ModelConfig, terminal: Terminal
) -> Fit:
    """Let MLlib fit from each seed, and judge what it returns by one pass of ours."""
    frame = Frame.of(rows.profile)
    vectors = assemble(df, features).cache()
    candidates, states = [], []
    try:
        for seed in range(model.seed, model.seed + model.n_init):
            terminal.say(f"MLlib fits k = {model.k[0]} from seed {seed}")
            mixture, n_iter = fit_mllib(
                vectors, features.names, model.k[0], model.tol, model.max_iter, seed
            )
            state = Trajectory(from_mixture(mixture, frame))
            scan = Scan.of([state.model], frame)
            [(state.moments, state.log_likelihood)] = scan.read(
                rows.scan(scan.kernels, "log-likelihood of MLlib's mixture")
            )
            state.log_likelihoods = [state.log_likelihood] * n_iter
            state.converged = n_iter < model.max_iter
            states.append(state)
            candidates.append(
                Candidate.of(
                    Winner(state), frame, rows.profile, Settings(tol=0, reg_covar=0), features.names
                )
            )
    finally:
        vectors.unpersist()
    best = choose(candidates, "bic")
    [state] = [s for s, c in zip(states, candidates, strict=True) if c is best]
    return Fit(best, (best,), best.n_iter, History.of(state, frame, rows.profile))
