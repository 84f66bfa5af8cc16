"""The fit job: read, fit, publish."""

from __future__ import annotations

import logging
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from sparkgmm.core.covariance import from_mixture
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.fit import Fit, check, fit
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.rows import Rows
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate, Winner, choose
from sparkgmm.core.statistics import Scan
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.report.views import Membership, Sample
from sparkgmm.runs.config import CompareConfig, FitConfig, InputConfig, ModelConfig
from sparkgmm.runs.folder import RunFolder, components_parquet, load_mixture, to_json
from sparkgmm.runs.terminal import Terminal, candidate_table, component_table
from sparkgmm.spark.mllib import assemble, fit_mllib
from sparkgmm.spark.quarantine import rejected
from sparkgmm.spark.rows import Blocks, Read
from sparkgmm.spark.source import Features, find_features, read
from sparkgmm.spark.storage import Folder, input_files
from sparkgmm.version import __version__

# Regularisation that makes up more of a component's narrowest variance is told.
_BINDING = 0.1


@dataclass
class Stopwatch:
    """Seconds by step."""

    seconds: dict[str, float]
    started: float

    @classmethod
    def start(cls) -> Stopwatch:
        """Begin."""
        return cls({}, time.monotonic())

    def lap(self, step: str) -> float:
        """Book the time since the last lap under a step."""
        now = time.monotonic()
        self.seconds[step] = round(now - self.started, 3)
        self.started = now
        return self.seconds[step]


def open_input(
    spark: SparkSession, config: FitConfig | CompareConfig
) -> tuple[DataFrame, Features]:
    """Open the input and resolve its features, without reading the rows."""
    source = config.input
    df = read(spark, source.path, source.format, source.options, source.where)
    return df, find_features(df, source.features, source.weight)


def plan_input(spark: SparkSession, config: FitConfig | CompareConfig) -> list[str]:
    """Say in words what would be read and fitted, a line each."""
    df, features = open_input(spark, config)
    files = df.inputFiles()
    size = sum(info.n_bytes for info in input_files(spark, files))
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
    return "\n".join([*plan_input(spark, config), f"writes   {config.output.path}/{run_id}"])


def run_fit(spark: SparkSession, config: FitConfig, terminal: Terminal, overwrite: bool) -> None:
    """Do the job.

    Raises
    ------
    SparkGmmError
        If the configuration, the input or the fit is at fault; nothing is published then.
    """
    root = Folder(spark, config.output.path)
    started = datetime.now(UTC)
    run_id = config.output.run_id or f"{started:%Y%m%dT%H%M%S.%f}"[:-3] + f"Z-{config.digest()}"
    run = RunFolder(root, run_id)
    if run.is_whole() and not overwrite:
        terminal.say(
            f"run {run_id} exists in {root.path} and is left alone (--overwrite redoes it)"
        )
        return
    root.check_writable()
    start = _warm_start(spark, config)
    watch = Stopwatch.start()
    df, features = open_input(spark, config)
    with ExitStack() as held:
        with terminal.reading(lambda: _tasks(spark)):
            blocks = held.enter_context(Blocks(df, features, config.input.path))
        judge(blocks.read, features, config.input.invalid_rows)
        blocks, features, dropped = without_constants(df, blocks, features, config.input, held)
        found = blocks.read
        seconds = watch.lap("read")
        terminal.say(_what_was_read(found, blocks, features, dropped, seconds))
        rows = blocks.rows(config.model.seed)
        result = _fit(df, rows, features, config.model, start, terminal)
    watch.lap("fit")
    membership = Membership(result.chosen.mixture, Sample.of(rows))
    quarantine = rejected(df, features) if config.input.invalid_rows == "quarantine" else None
    metrics = _metrics(result, found, dropped, watch)
    manifest = _manifest(spark, config, run_id, started, df)
    pages = _report(config, result, rows.profile, membership, metrics, manifest, terminal)
    watch.lap("report")
    files = {
        "components/part-00000.snappy.parquet": components_parquet(result.chosen.mixture),
        "model.json": to_json(_model(result.chosen, features, membership)).encode(),
        "metrics.json": to_json(_metrics(result, found, dropped, watch)).encode(),
        **pages,
    }
    run.publish(files, quarantine, manifest)
    terminal.result(_summary(result, config.model.criterion, run.path, bool(pages)))


def _warm_start(spark: SparkSession, config: FitConfig) -> Mixture | None:
    path = config.model.warm_start
    if path is None:
        return None
    mixture = load_mixture(Folder(spark, path))
    wanted = (config.model.k[0], config.model.covariance_type[0])
    if (mixture.k, mixture.covariance_type) != wanted:
        raise ConfigurationError(
            f"model.warm_start {path!r} has k = {mixture.k} and covariance_type "
            f"{mixture.covariance_type}, the configuration {wanted[0]} and {wanted[1]}: make them "
            "equal"
        )
    return mixture


def _tasks(spark: SparkSession) -> tuple[int, int]:
    tracker = spark.sparkContext.statusTracker()
    stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
    known = [stage for stage in stages if stage is not None]
    return sum(s.numCompletedTasks for s in known), sum(s.numTasks for s in known)


def judge(found: Read, features: Features, invalid_rows: str) -> None:
    """Stop at invalid rows under `fail`, saying which columns hold what how often."""
    counts = found.counts
    if counts.invalid == 0 or invalid_rows != "fail":
        return
    names = [*features.names, *([features.weight] if features.weight else [])]
    faults = []
    for kind, numbers in (
        ("null", counts.null),
        ("NaN", counts.nan),
        ("infinite", counts.infinite),
    ):
        faults += [f"{name} {kind} in {n:,}" for name, n in zip(names, numbers, strict=True) if n]
    if counts.negative:
        faults.append(f"{features.weight} negative in {counts.negative:,}")
    if counts.ragged:
        faults.append(f"{features.vector} not of length {len(features.names)} in {counts.ragged:,}")
    raise InputError(
        f"{counts.invalid:,} of {counts.read:,} rows are invalid ({', '.join(faults)}): mend them, "
        "or set input.invalid_rows to drop or quarantine"
    )


def without_constants(
    df: DataFrame, blocks: Blocks, features: Features, source: InputConfig, held: ExitStack
) -> tuple[Blocks, Features, list[str]]:
    """Read again without the constant features, where there are any and they are to be dropped."""
    profile = blocks.profile
    constant = [
        name
        for name, low, high in zip(features.names, profile.low, profile.high, strict=True)
        if low == high
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
    found: Read, blocks: Blocks, features: Features, dropped: list[str], seconds: float
) -> str:
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


def _report(
    config: FitConfig,
    result: Fit,
    profile: Profile,
    membership: Membership,
    metrics: dict[str, Any],
    manifest: dict[str, Any],
    terminal: Terminal,
) -> dict[str, bytes]:
    """Draw the report's files; a fit of hours is not lost for a picture that fails."""
    if not config.output.report:
        return {}
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache
    from sparkgmm.report.page import Run, report  # matplotlib takes a second to import

    try:
        return report(Run(result.chosen, result.candidates, profile, membership, metrics, manifest))
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
        starts = None if start is None else [start]
        return fit(rows, as_search(model), features.names, starts, progress, validate=True)


def _fit_by_mllib(
    df: DataFrame, rows: Any, features: Features, model: ModelConfig, terminal: Terminal
) -> Fit:
    """Let MLlib fit from each seed, and judge what it returns by one pass of ours."""
    frame = Frame.of(rows.profile)
    vectors = assemble(df, features).cache()
    candidates = []
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
            candidates.append(
                Candidate.of(
                    Winner(state), frame, rows.profile, Settings(tol=0, reg_covar=0), features.names
                )
            )
    finally:
        vectors.unpersist()
    best = choose(candidates, "bic")
    return Fit(best, (best,), best.n_iter)


def _model(chosen: Candidate, features: Features, membership: Membership) -> dict[str, Any]:
    return {
        **chosen.mixture.to_dict(),
        "vector": features.vector,
        "log_density_quantiles": membership.density_quantiles,
        "n_parameters": chosen.n_parameters,
        "log_likelihood": chosen.log_likelihood,
    }


def _row(candidate: Candidate) -> dict[str, Any]:
    return {
        "k": candidate.k,
        "covariance_type": candidate.covariance_type,
        "log_likelihood": candidate.log_likelihood,
        "mean_log_likelihood": candidate.mean_log_likelihood,
        "n_parameters": candidate.n_parameters,
        "bic": candidate.bic,
        "aic": candidate.aic,
        "icl": candidate.icl,
        "n_iter": candidate.n_iter,
        "n_rejected": candidate.n_rejected,
        "converged": candidate.converged,
        "distance": candidate.distance,
        "held_out_mean_log_likelihood": candidate.held_out,
        "n_starts": candidate.n_starts,
        "n_starts_at_this_optimum": candidate.n_agreeing,
        "n_components_dropped": candidate.n_dropped,
        "regularised_share": candidate.regularised,
        "degenerate": candidate.degenerate,
    }


def _metrics(result: Fit, found: Read, dropped: list[str], watch: Stopwatch) -> dict[str, Any]:
    row = _row(result.chosen)
    del row["degenerate"]
    return {
        **row,
        "log_likelihoods": list(result.chosen.log_likelihoods),
        "n_passes": result.n_passes,
        "rows_read": found.counts.read,
        "rows_used": found.used,
        "rows_invalid": found.counts.invalid,
        "sum_of_weights": result.chosen.weight,
        "constant_features_dropped": dropped,
        "candidates": [_row(candidate) for candidate in result.candidates],
        "seconds": sum(watch.seconds.values()),
        "seconds_by_step": dict(watch.seconds),
    }


def _manifest(
    spark: SparkSession, config: FitConfig, run_id: str, started: datetime, df: DataFrame
) -> dict[str, Any]:
    context = spark.sparkContext
    jvm: Any = context._jvm
    inputs = input_files(spark, df.inputFiles())
    return {
        "format_version": 1,
        "run_id": run_id,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "configuration": config.resolved(),
        "versions": {
            "sparkgmm": __version__,
            "spark": spark.version,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "java": str(jvm.java.lang.System.getProperty("java.version")),
        },
        "spark": {"master": context.master, "application_id": context.applicationId},
        "input": [
            {"path": info.path, "bytes": info.n_bytes, "modified_ms": info.modified}
            for info in inputs
        ],
    }


def _summary(result: Fit, criterion: str, path: str, reported: bool) -> str:
    chosen = result.chosen
    lines = []
    if len(result.candidates) > 1:
        lines += [candidate_table(result.candidates, chosen, criterion), ""]
    ended = "converged" if chosen.converged else "NOT converged (raise model.max_iter)"
    lines += [
        component_table(chosen.mixture),
        "",
        f"log-likelihood {chosen.log_likelihood:.5f}, bic {chosen.bic:.4f}, {ended} after "
        f"{chosen.n_iter} passes",
        f"run {path}",
        *([f"report {path}/report.html"] if reported else []),
    ]
    if chosen.regularised > _BINDING:
        lines.insert(
            0,
            f"model.reg_covar is {chosen.regularised:.0%} of the narrowest variance: lower it if "
            "components may be that narrow\n",
        )
    if chosen.n_dropped:
        lines.insert(0, f"{chosen.n_dropped} component(s) found no rows of their own: dropped\n")
    return "\n".join(lines)
