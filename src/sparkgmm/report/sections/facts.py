"""The features of the rows used, and how the run was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import yaml

from sparkgmm.core.profile import Profile
from sparkgmm.formatting import by_value, near, number, some_of
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.tables import Table
from sparkgmm.report.views import names_of

# What metrics.json says of the rows by column, and how a table heads it.
_ACCOUNT = {"missing_by_column": "missing", "invalid_by_column": "invalid"}

# So many reasons for which columns are left out are shown.
_REASONS = 30


def profile_table(
    profile: Profile, names: Sequence[str], metrics: Mapping[str, Any] | None = None
) -> Table:
    """One row a feature: mean, standard deviation and range of the rows used.

    And in how many of the rows read it is missing or invalid, where `metrics` say that some are.
    """
    sd = np.sqrt(profile.variance)
    account = {
        heading: metrics[key]
        for key, heading in _ACCOUNT.items()
        if metrics is not None and any(metrics.get(key, {}).values())
    }
    rows = [
        [name, near(profile.mean[i], sd[i]), number(sd[i], 4)]
        + [near(value[i], sd[i]) for value in (profile.low, profile.high)]
        + [f"{by_column.get(name, 0):,}" for by_column in account.values()]
        for i, name in enumerate(names)
    ]
    return Table(["feature", "mean", "sd", "least", "most", *account], rows)


def left_out_table(reasons: Mapping[str, str]) -> Table:
    """One row a reason for which columns were left out: how many, and the first of them."""
    grouped = by_value(reasons)
    rows = [[why, f"{len(names):,}", some_of(names)] for why, names in grouped[:_REASONS]]
    if len(grouped) > _REASONS:
        n = sum(len(names) for _, names in grouped[_REASONS:])
        rows.append(["other reasons, in metrics.json", f"{n:,}", ""])
    return Table(["left out, for the reason", "columns", "names"], rows)


def fact_table(metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> Table:
    """What was read, how the fit ended and where it ran."""
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    seconds = ", ".join(
        f"{step} {value:.1f} s" for step, value in metrics["seconds_by_step"].items()
    )
    before = "; the others were on the sample that starts are tried on"
    before = before if metrics["n_iter"] > metrics["n_passes"] else ""
    ended = "converged" if metrics["converged"] else "not converged"
    rows = [
        [
            "rows",
            f"{metrics['rows_read']:,} read, {metrics['rows_used']:,} used, "
            f"{metrics['rows_invalid']:,} invalid",
        ],
        ["sum of weights", number(metrics["sum_of_weights"])],
        *_history(metrics),
        ["log-likelihood", f"{metrics['log_likelihood']:,.5f}"],
        ["nats a row", f"{metrics['mean_log_likelihood']:.7f}"],
        ["bic, aic, icl", ", ".join(f"{metrics[key]:,.3f}" for key in ("bic", "aic", "icl"))],
        ["free parameters", str(metrics["n_parameters"])],
        ["end", f"{ended} after {metrics['n_iter']} passes"],
        ["passes over all rows", f"{metrics['n_passes']}, which all candidates share{before}"],
        ["seconds", seconds],
        ["input", _input(manifest["input"])],
        ["started", str(manifest["started"])],
        ["Spark", f"{manifest['spark']['master']}, {manifest['spark']['application_id']}"],
        ["versions", versions],
    ]
    return Table(["", ""], rows)


def _input(read: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Say which files, or which table in which state, were read."""
    if isinstance(read, Mapping):
        name = f"table {read['table']}" if "table" in read else str(read["path"])
        state = [
            f"{key.replace('_', ' ')} {value}"
            for key, value in read.items()
            if key not in ("table", "path", "files", "format")
        ]
        kind = [str(read["format"])] if "format" in read else []
        files = [_input(read["files"])] if "files" in read else []
        return ", ".join([name, *kind, *state, *files])
    size = sum(info["bytes"] for info in read)
    return f"{len(read)} file(s), {size:,} bytes"


def _history(metrics: Mapping[str, Any]) -> list[list[str]]:
    if metrics.get("updated_from") is None:
        return []
    weight = number(metrics["history_weight"])
    origin = f"run {metrics['updated_from']}: {metrics['history_rows']:,} rows, weight {weight}"
    return [["updated from", origin]]


def _fill_data(run: Run) -> Mapping[str, Any] | None:
    without = left_out_table(run.metrics.get("columns_left_out", {}))
    if not run.mixture.d and not without.rows:
        return None
    profile = profile_table(run.profile, names_of(run.mixture), run.metrics)
    return {"profile": profile, "without": without}


def _fill_run(run: Run) -> Mapping[str, Any]:
    configuration = dict(run.configuration)
    return {
        "facts": fact_table(run.metrics, run.manifest),
        "configuration": yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True),
    }


DATA = Section(
    "The data",
    """
{% if profile.rows %}
{{ show.grid(profile, "tall") }}
{% endif %}
{% if without.rows %}
<h3>Columns that were left out</h3>
{{ show.grid(without, "tall", text_columns=(0, 2)) }}
{% endif %}
""",
    _fill_data,
    long=True,
)
RUN = Section(
    "The run",
    """
{{ show.facts(facts) }}
<details><summary>Configuration</summary><pre>{{ configuration }}</pre></details>
""",
    _fill_run,
    long=True,
)
