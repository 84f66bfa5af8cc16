"""What changed since an earlier run, and how the last runs went."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sparkgmm.core.drift import OUTLIERS, Change, Drift, divergence_by_chance, largest
from sparkgmm.formatting import near, number
from sparkgmm.mixture import Array
from sparkgmm.report.past_runs import PastRun, PastRuns
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import FAINT, Picture, colour, dash, picture
from sparkgmm.report.tables import Table
from sparkgmm.report.views import names_of

# So many features of each component are in the table.
_FEATURES = 6
# Labels are written beside their lines where they are no more than this.
_NAMED = 12
_RUN_ID = 16
_CAPTION = (
    "A point a run. The lines across are the thresholds of drift.warn (dashed) and drift.fail; a "
    "cross is a run that failed them, drawn near the others where it is far from them. Dotted: "
    "what outliers are by definition."
)


def change_sentences(past: PastRuns) -> list[str]:
    """Return what changed, a sentence each."""
    if past.drift is None:
        return []
    return [*_about_rows(past.drift), *_about_components(past.drift)]


def _about_rows(drift: Drift) -> Iterator[str]:
    value, error = drift.divergence
    chance = divergence_by_chance(drift.before, drift.after)
    yield (
        f"The mixtures differ by {value:.3g} nats (Jensen-Shannon divergence, ± {error:.1g}; about "
        f"{chance:.1g} by chance where nothing changed, 0.693 where they share nothing)."
    )
    side = "less" if drift.log_density_fall >= 0 else "more"
    yield (
        f"The earlier mixture gives the new rows {abs(drift.log_density_fall):.4g} nats a row "
        f"{side} than it gave its own: {number(drift.mean_log_density)}."
    )
    if drift.outlier_share is not None:
        yield (
            f"{drift.outlier_share:.2%} of the new rows are rarer than all but {OUTLIERS:.1%} of "
            "the earlier rows were."
        )


def _about_components(drift: Drift) -> Iterator[str]:
    new = [f"{c.label} ({c.weight:.2%} of the rows)" for c in drift.changes if c.weight_before == 0]
    gone = [f"{c.label} ({c.weight_before:.2%})" for c in drift.changes if c.weight == 0]
    if new:
        yield f"New: label {', '.join(new)}."
    if gone:
        yield f"Gone: label {', '.join(gone)}."
    weight = largest([c for c in drift.changes if c.status == "matched"], "weight_change")
    if weight is not None:
        yield (
            f"The weight that changed most is label {weight.label}'s: from "
            f"{weight.weight_before:.4f} to {weight.weight:.4f} ({weight.weight_z:+.1f} standard "
            "errors)."
        )
    mean = largest(drift.changes, "mean_shift")
    if mean is not None and mean.mean_z is not None and mean.mean_z_feature is not None:
        name = names_of(drift.after.mixture)[mean.mean_z_feature]
        yield (
            f"The mean that moved most is label {mean.label}'s: by {mean.mean_shift:.3g} of its "
            f"standard deviations (largest in {name}: {mean.mean_z:+.1f} standard errors)."
        )


def change_table(drift: Drift) -> Table:
    """One row a label: its numbers, its weight and means before and now, and how far apart."""
    names = names_of(drift.after.mixture)
    rows = [
        [
            str(change.label),
            "" if change.component is None else str(change.component),
            {"matched": ""}.get(change.status, change.status),
            f"{change.weight_before:.4f}",
            f"{change.weight:.4f}",
            f"{change.weight_z:+.1f}",
            "–" if change.mean_shift is None else number(change.mean_shift, 3),
            "–" if change.mean_z is None else f"{change.mean_z:+.1f}",
            *(_moved(drift, change, i) for i in range(min(_FEATURES, len(names)))),
        ]
        for change in drift.changes
    ]
    head = [
        "label",
        "component",
        "",
        "weight before",
        "weight now",
        "in se",
        "mean moved, sd",
        "in se",
    ]
    return Table([*head, *names[:_FEATURES]], rows)


def _moved(drift: Drift, change: Change, feature: int) -> str:
    """Return the mean of a feature before and now, as far as there is one."""
    shown = []
    for labelled, component in (
        (drift.before, change.component_before),
        (drift.after, change.component),
    ):
        if component is None:
            shown.append("–")
            continue
        mixture = labelled.mixture
        sd = float(np.sqrt(mixture.variances[component, feature]))
        shown.append(near(float(mixture.means[component, feature]), sd))
    return " → ".join(shown)


def past_runs_figure(past: PastRuns) -> Picture | None:
    """Draw the last runs: weights by label, divergence, log density and outliers, or None for one.

    Lines across are the thresholds that are set.
    """
    runs = past.runs
    if len(runs) < 2:
        return None
    figure = Figure(figsize=(8.2, 6.4), layout="constrained")
    (weights, divergence), (density, outliers) = figure.subplots(2, 2, sharex=True)
    _draw_weights(weights, runs)
    _draw_line(divergence, runs, _values(runs, lambda run: run.divergence))
    divergence.set_title("divergence from the run compared with, nats")
    own = _values(runs, lambda run: run.mean_log_likelihood)
    earlier = _values(runs, lambda run: run.mean_log_density)
    _draw_line(density, runs, _within_sight(own, runs), 0, "own mixture")
    _draw_line(density, runs, _within_sight(earlier, runs), 1, "the earlier mixture")
    density.set_title("mean log density of the rows, nats")
    density.legend(fontsize=7)
    _draw_line(outliers, runs, _values(runs, lambda run: run.outlier_share))
    outliers.axhline(OUTLIERS, color=FAINT, linestyle=":")
    outliers.set_title(f"share below the earlier {OUTLIERS:.1%} quantile")
    for axes, measure in ((divergence, "divergence"), (outliers, "outlier_share")):
        _draw_limits(axes, past.limits, measure)
        axes.set_ylim(bottom=0)
    _name_runs((density, outliers), runs)
    last = runs[-1]
    return picture(
        figure,
        "nights",
        f"The last {len(runs)} runs, {runs[0].run_id} to {last.run_id}: weight of each label, "
        "divergence, mean log density and share of outliers, a point a run",
    )


def _draw_weights(axes: Axes, runs: Sequence[PastRun]) -> None:
    labels = sorted({label for run in runs for label in run.weights})
    for label in labels:
        values = np.array([run.weights.get(label, np.nan) for run in runs])
        axes.plot(values, color=colour(label), linestyle=dash(label), marker="o", markersize=2.5)
        if len(labels) <= _NAMED:
            at = int(np.flatnonzero(np.isfinite(values))[-1])
            axes.annotate(
                str(label),
                (at, values[at]),
                xytext=(4, 0),
                textcoords="offset points",
                color=colour(label),
                weight="bold",
                va="center",
            )
    axes.set_ylim(bottom=0)
    axes.set_title("weight by label")


def _draw_line(
    axes: Axes,
    runs: Sequence[PastRun],
    values: Array,
    j: int = 0,
    name: str | None = None,
) -> None:
    axes.plot(values, color=colour(j), marker="o", markersize=2.5, label=name)
    failed = [i for i, run in enumerate(runs) if run.verdict == "failed"]
    axes.plot(failed, values[failed], "x", color=colour(4), markersize=8, markeredgewidth=2)


def _values(runs: Sequence[PastRun], figure_of: Callable[[PastRun], float | None]) -> Array:
    values = [figure_of(run) for run in runs]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _within_sight(values: Array, runs: Sequence[PastRun]) -> Array:
    """Bring what failed runs measured near to the others, which else would be a flat line."""
    good = np.array([run.verdict != "failed" for run in runs]) & np.isfinite(values)
    if good.sum() < 2:
        return values
    low, high = values[good].min(), values[good].max()
    reach = 0.5 * max(high - low, 0.1)
    return np.asarray(np.where(good, values, np.clip(values, low - reach, high + reach)))


def _draw_limits(axes: Axes, limits: Mapping[str, Mapping[str, float | None]], name: str) -> None:
    for level, dashes in (("warn", "--"), ("fail", "-")):
        limit = limits[level][name]
        if limit is not None:
            axes.axhline(limit, color=colour(4), linestyle=dashes, linewidth=0.9, label=level)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7)


def _name_runs(below: Sequence[Axes], runs: Sequence[PastRun]) -> None:
    """Write the run_ids below, those for which there is room."""

    def named(at: float, _: object) -> str:
        inside = at == int(at) and 0 <= at < len(runs)
        return runs[int(at)].run_id[:_RUN_ID] if inside else ""

    for axes in below:
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(named))
        axes.tick_params(axis="x", rotation=30, labelsize=7)


def _fill(run: Run) -> Mapping[str, Any] | None:
    past = run.past
    if past is None:
        return None
    return {
        "past": past,
        "changed": change_sentences(past),
        "changes": None if past.drift is None else change_table(past.drift),
        "picture": past_runs_figure(past),
        "caption": _CAPTION,
    }


SECTION = Section(
    "Since {{ past.against if past.against is not none else 'the first run' }}",
    """
{% if changes is not none %}
<ul>{% for sentence in changed %}<li>{{ sentence }}</li>{% endfor %}</ul>
{{ show.grid(changes, "tall") }}
<p class="soft">A label stays with its component from run to run; components are numbered again, by
weight, in each. In se: in standard errors, which take the rows' components for known. Means: before
→ now.</p>
{% else %}
<p>There is no earlier run to compare with. The labels that stay with the components begin here.</p>
{% endif %}
{% if picture is not none %}
<h3>The last {{ past.runs | length }} runs</h3>
{{ show.figure(picture, caption) }}
{% endif %}
""",
    _fill,
)
