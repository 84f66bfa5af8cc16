"""What a run writes down: model.json, metrics.json, manifest.json, and the words at its end."""

from __future__ import annotations

import math
import platform
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from pyspark.sql import SparkSession

from sparkgmm.core.cautions import Caution, cautions, refused_above_one
from sparkgmm.core.figures import figures_of
from sparkgmm.core.fit import Fit
from sparkgmm.core.sample import Membership
from sparkgmm.core.selection import Candidate
from sparkgmm.core.update import Update
from sparkgmm.options import KEYS
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.drift_check import Judged, lines_of
from sparkgmm.runs.provenance import source
from sparkgmm.runs.statistics_file import BaseRun
from sparkgmm.runs.terminal import candidates_as_text, components_as_text
from sparkgmm.spark.cluster_rows import Read
from sparkgmm.spark.quarantine import invalid_by_column, missing_by_column
from sparkgmm.spark.source import Features
from sparkgmm.version import __version__

# matplotlib keeps fonts and texts for the whole process; jobs may run in several threads of one
drawing = threading.Lock()


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
        """Add the time since the last lap to a step."""
        now = time.monotonic()
        self.seconds[step] = round(now - self.started, 3)
        self.started = now
        return self.seconds[step]


def model_json(
    chosen: Candidate, features: Features, membership: Membership, judged: Judged | None = None
) -> dict[str, Any]:
    """Return model.json: the mixture, and what scoring wants to know beside it."""
    labels = {}
    if judged is not None:
        labelled = judged.labelled
        labels = {"labels": list(labelled.labels), "next_label": labelled.next_label}
    return {
        **chosen.mixture.to_dict(),
        "vector": features.vector,
        "log_density_quantiles": membership.density_quantiles,
        "n_parameters": chosen.n_parameters,
        "log_likelihood": chosen.log_likelihood,
        **labels,
    }


def metrics_of(
    result: Fit,
    found: Read,
    features: Features,
    dropped: Sequence[str],
    columns: Sequence[Caution],
    watch: Stopwatch,
    max_iter: int,
    base: BaseRun | None = None,
) -> dict[str, Any]:
    """Return metrics.json: the chosen candidate's figures, the rows', and all candidates'."""
    row = figures_of(result.chosen)
    del row["degenerate"]
    return {
        **row,
        "log_likelihoods": list(result.chosen.log_likelihoods),
        "n_passes": result.n_passes,
        "rows_read": found.counts.read,
        "rows_used": found.used,
        "rows_invalid": found.counts.invalid,
        "missing_by_column": missing_by_column(found.counts, features),
        "invalid_by_column": invalid_by_column(found.counts, features),
        "sum_of_weights": result.chosen.weight,
        "constant_features_dropped": list(dropped),
        "updated_from": None if base is None else base.run_id,
        **_of_history(result),
        "every_k_above_1_refused": refused_above_one(result.candidates),
        "warnings": [caution.text for caution in (*result_cautions(result, max_iter), *columns)],
        "candidates": [figures_of(candidate) for candidate in result.candidates],
        "seconds": sum(watch.seconds.values()),
        "seconds_by_step": dict(watch.seconds),
    }


def figures(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers and flags of metrics.json that describe a run in a line."""
    return {
        key: value
        for key, value in metrics.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _of_history(result: Fit) -> dict[str, Any]:
    """Return what stood for the rows that were not read, and what the update climbed."""
    if not isinstance(result, Update):
        return {}
    return {
        "history_rows": result.before.n_rows,
        "history_weight": result.before.profile.weight,
        "objective": result.objectives[-1],
        "objectives": list(result.objectives),
    }


def manifest_of(
    spark: SparkSession,
    config: FitConfig,
    run_id: str,
    started: datetime,
    rows_from: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return manifest.json but for the checksums: how the run was made, and from what."""
    context = spark.sparkContext
    return {
        "format_version": 1,
        "run_id": run_id,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "configuration": config.resolved(),
        "versions": versions(spark),
        "source": source(),
        "spark": {"master": context.master, "application_id": context.applicationId},
        "input": rows_from,
    }


def versions(spark: SparkSession) -> Mapping[str, str]:
    """Return the version of everything that could change a run's bits."""
    jvm: Any = spark.sparkContext._jvm
    return {
        "sparkgmm": __version__,
        "spark": spark.version,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "java": str(jvm.java.lang.System.getProperty("java.version")),
    }


def summary(
    result: Fit,
    criterion: str,
    path: str,
    reported: bool,
    max_iter: int,
    judged: Judged | None = None,
    columns: Sequence[Caution] = (),
    fate: str | None = None,
) -> str:
    """Return what the person at the terminal reads at the end.

    `columns` are the cautions about the features, `fate` what became of invalid rows.
    """
    chosen = result.chosen
    lines = []
    if len(result.candidates) > 1:
        lines += [candidates_as_text(result.candidates, chosen, criterion), ""]
    ended = "converged" if chosen.converged else "NOT converged (raise model.max_iter)"
    lines += [
        components_as_text(chosen.mixture, None if judged is None else judged.labelled.labels),
        "",
        f"log-likelihood {chosen.log_likelihood:.5f}, bic {chosen.bic:.4f}, {ended} after "
        f"{chosen.n_iter} passes",
        *([] if fate is None else [fate]),
        *([] if judged is None else lines_of(judged)),
        f"run {path}",
        *([f"report {path}/report.html"] if reported else []),
    ]
    said = [_shown(caution) for caution in (*result_cautions(result, max_iter), *columns)]
    return "\n".join([*said, *([""] if said else []), *lines])


def result_cautions(result: Fit, max_iter: int) -> list[Caution]:
    """Return what to know of a result, in the words of the configuration."""
    return cautions(result.chosen, result.candidates, max_iter, KEYS)


def _shown(caution: Caution) -> str:
    """Return a line, or for what is grave a frame around it that no one overlooks."""
    if not caution.grave:
        return f"warning: {caution.text}"
    rule = "!" * 78
    return f"{rule}\n{caution.text}\n{rule}"
