"""metrics.prom: a run's figures in Prometheus' text exposition format, version 0.0.4.

For the node exporter's textfile collector, or a push gateway. Names end in their unit, as
https://prometheus.io/docs/practices/naming/ asks. Every sample has the label `root`, the output
root; the run_id is in `sparkgmm_run_info` alone, else every night would begin new series.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from sparkgmm.core.figures import Exposed, exposed_figures
from sparkgmm.mixture import Array
from sparkgmm.spark.masking import masked

_PREFIX = "sparkgmm"
# What a run has beside the figures of the candidate chosen, by the keys of metrics.json.
_ROWS = (
    ("rows_read", Exposed("rows_read", "Rows read from the input.")),
    ("rows_used", Exposed("rows_used", "Rows that were fitted.")),
    ("rows_invalid", Exposed("rows_invalid", "Rows with a null, NaN or infinite feature.")),
)
_GROUPS = (
    ("n_groups", Exposed("groups", "Groups of rows.")),
    ("groups_fitted", Exposed("groups_fitted", "Groups that have a mixture.")),
    ("groups_failed", Exposed("groups_failed", "Groups without a mixture.")),
)
_SECONDS = ("seconds", Exposed("run_duration_seconds", "Time from the start to the report."))


class _Sample(NamedTuple):
    name: str
    labels: Mapping[str, str]
    value: float


def exposition(
    metrics: Mapping[str, Any], manifest: Mapping[str, Any], weights: Array, root: str
) -> str:
    """Return the text of metrics.prom; `weights` are the mixture's, (k,)."""
    return _text(_samples(metrics, manifest, weights), root)


def groups_exposition(metrics: Mapping[str, Any], manifest: Mapping[str, Any], root: str) -> str:
    """Return the text of metrics.prom of a run with a mixture for each group."""
    return _text(_group_samples(metrics, manifest), root)


def _text(samples: Iterator[tuple[_Sample, str]], root: str) -> str:
    lines: list[str] = []
    described = None
    for sample, meaning in samples:
        name = f"{_PREFIX}_{sample.name}"
        if name != described:
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
            described = name
        labels = {"root": masked(root), **sample.labels}
        inside = ",".join(f'{key}="{_escaped(value)}"' for key, value in labels.items())
        lines.append(f"{name}{{{inside}}} {_number(sample.value)}")
    return "\n".join(lines) + "\n"


def _samples(
    metrics: Mapping[str, Any], manifest: Mapping[str, Any], weights: Array
) -> Iterator[tuple[_Sample, str]]:
    """Yield the samples with their meaning, those of one name together."""
    yield from _run(manifest, covariance_type=metrics["covariance_type"])
    yield from _figures(metrics, (*_ROWS, *exposed_figures(), _SECONDS))
    for j, weight in enumerate(np.asarray(weights)):
        meaning = "Weights of the components, heaviest first."
        yield _Sample("component_weight_ratio", {"component": str(j)}, float(weight)), meaning


def _group_samples(
    metrics: Mapping[str, Any], manifest: Mapping[str, Any]
) -> Iterator[tuple[_Sample, str]]:
    yield from _run(manifest)
    yield from _figures(metrics, (*_ROWS, *_GROUPS, _SECONDS))


def _run(manifest: Mapping[str, Any], **more: str) -> Iterator[tuple[_Sample, str]]:
    """Yield which run it is, and when it was done."""
    identity = {
        "run_id": manifest["run_id"],
        "version": manifest["versions"]["sparkgmm"],
        "commit": manifest["source"]["commit"] or "",
        **more,
    }
    yield _Sample("run_info", identity, 1), "The run, by its labels; always 1."
    finished = datetime.fromisoformat(manifest["finished"]).timestamp()
    yield _Sample("run_completion_timestamp_seconds", {}, finished), "When the fit was done."


def _figures(
    metrics: Mapping[str, Any], exposed_by_key: Iterable[tuple[str, Exposed]]
) -> Iterator[tuple[_Sample, str]]:
    """Yield figures of metrics.json, and its seconds by step."""
    for key, exposed in exposed_by_key:
        if metrics[key] is not None:
            yield _Sample(exposed.name, {}, float(metrics[key])), exposed.meaning
    for step, seconds in metrics["seconds_by_step"].items():
        meaning = "Time that a step took: read, fit, report."
        yield _Sample("step_duration_seconds", {"step": step}, seconds), meaning


def _escaped(value: str) -> str:
    """Return a label's value as the format wants it."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
