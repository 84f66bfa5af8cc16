"""metrics.prom: a run's figures in Prometheus' text exposition format, version 0.0.4.

For the node exporter's textfile collector, or a push gateway. Names end in their unit, as
https://prometheus.io/docs/practices/naming/ asks. Every sample has the label `root`, the output
root; the run_id stands in `sparkgmm_run_info` alone, else every night would begin new series.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from sparkgmm.mixture import Array
from sparkgmm.spark.masking import masked

_PREFIX = "sparkgmm"
# Name, what it means, and its key in metrics.json.
_FIGURES = (
    ("rows_read", "Rows read from the input.", "rows_read"),
    ("rows_used", "Rows that were fitted.", "rows_used"),
    ("rows_invalid", "Rows with a null, NaN or infinite feature.", "rows_invalid"),
    ("log_likelihood_nats", "Log-likelihood of all rows.", "log_likelihood"),
    ("mean_log_likelihood_nats", "Log-likelihood a row.", "mean_log_likelihood"),
    ("bic", "Bayesian information criterion, lower is better.", "bic"),
    ("aic", "Akaike information criterion, lower is better.", "aic"),
    ("icl", "Integrated completed likelihood, lower is better.", "icl"),
    ("components", "Components of the mixture.", "k"),
    ("parameters", "Free parameters of the mixture.", "n_parameters"),
    ("passes", "Passes over the rows by the chosen candidate.", "n_iter"),
    ("converged", "1 if the fit converged, 0 if it ran out of passes.", "converged"),
    ("distance_nats", "Estimated distance to the maximum, a row.", "distance"),
    ("run_duration_seconds", "Time from the start to the report.", "seconds"),
)


class _Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


def exposition(
    metrics: Mapping[str, Any], manifest: Mapping[str, Any], weights: Array, root: str
) -> str:
    """Return the text of metrics.prom; `weights` are the mixture's, (k,)."""
    lines: list[str] = []
    told = None
    for sample, meaning in _samples(metrics, manifest, weights):
        name = f"{_PREFIX}_{sample.name}"
        if name != told:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            told = name
        labels = {"root": masked(root), **sample.labels}
        inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
        lines.append(f"{name}{{{inside}}} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


def _samples(
    metrics: Mapping[str, Any], manifest: Mapping[str, Any], weights: Array
) -> Iterator[tuple[_Sample, str]]:
    """Yield the samples with their meaning, those of one name together."""
    identity = {
        "run_id": manifest["run_id"],
        "version": manifest["versions"]["sparkgmm"],
        "commit": manifest["source"]["commit"] or "",
        "covariance_type": metrics["covariance_type"],
    }
    yield _Sample("run_info", identity, 1), "The run, by its labels; always 1."
    finished = datetime.fromisoformat(manifest["finished"]).timestamp()
    yield _Sample("run_completion_timestamp_seconds", {}, finished), "When the fit was done."
    for name, meaning, key in _FIGURES:
        if metrics[key] is not None:
            yield _Sample(name, {}, float(metrics[key])), meaning
    for step, seconds in metrics["seconds_by_step"].items():
        meaning = "Time that a step took: read, fit, report."
        yield _Sample("step_duration_seconds", {"step": step}, seconds), meaning
    for j, weight in enumerate(np.asarray(weights)):
        meaning = "Weights of the components, heaviest first."
        yield _Sample("component_weight_ratio", {"component": str(j)}, float(weight)), meaning


def _escaped(value: str) -> str:
    """Return a label's value as the format wants it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
