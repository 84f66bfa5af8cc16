"""The components: weights, neighbours, means and correlations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkgmm.core.sample import Membership
from sparkgmm.formatting import mean_and_sd, number
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import Picture, picture, short
from sparkgmm.report.tables import Table
from sparkgmm.report.views import correlation, names_of, uncorrelated

# Correlation matrices are shown whole up to here; beyond, the strongest correlations.
_WHOLE = 8
_STRONGEST = 6


def component_table(membership: Membership, sum_of_weights: float) -> Table:
    """One row a component: weight, rows, certainty, neighbour and overlap."""
    mixture = membership.mixture
    mass = membership.mass
    sure = np.where(membership.responsibilities >= 0.95, mass, 0.0).sum(axis=0)
    sure /= np.maximum(mass.sum(axis=0), 1e-300)
    rows = []
    for j, neighbour in enumerate(membership.nearest):
        overlap = "–"
        if neighbour is not None:
            overlap = f"{1 - membership.confusion[j, j]:.2%}"
        rows.append(
            [
                str(j),
                number(mixture.weights[j], 4),
                f"{mixture.weights[j] * sum_of_weights:,.1f}",
                f"{sure[j]:.1%}",
                "–" if neighbour is None else str(neighbour),
                overlap,
                _strongest(mixture, j, 1) or "–",
            ]
        )
    head = ["component", "weight", "effective rows", "certain", "nearest", "overlap", "strongest r"]
    return Table(head, rows)


def mean_table(mixture: Mixture) -> Table:
    """One row a feature: mean ± standard deviation in each component."""
    sd = np.sqrt(mixture.variances)
    rows = [
        [
            name,
            *(mean_and_sd(mixture.means[j, i], sd[j, i]) for j in range(mixture.k)),
        ]
        for i, name in enumerate(names_of(mixture))
    ]
    return Table(["feature", *map(str, range(mixture.k))], rows)


def correlation_tables(mixture: Mixture) -> list[tuple[str, Table]]:
    """The correlations within each component: all of them, or the strongest of many."""
    names = names_of(mixture)
    if mixture.d <= 1 or uncorrelated(mixture):
        return []
    if mixture.d > _WHOLE:
        rows = [[str(j), _strongest(mixture, j, _STRONGEST)] for j in range(mixture.k)]
        return [("The strongest correlations", Table(["component", "r"], rows))]
    tables = []
    for j in range(mixture.k):
        r = correlation(mixture.covariances[j])
        rows = [[names[i], *(f"{r[i, m]:.3f}" for m in range(mixture.d))] for i in range(mixture.d)]
        tables.append((f"Component {j}", Table(["", *names], rows)))
    return tables


def _strongest(mixture: Mixture, j: int, most: int) -> str:
    if mixture.d == 1 or uncorrelated(mixture):
        return ""
    names = names_of(mixture)
    r = np.triu(correlation(mixture.covariances[j]), 1)
    order = np.argsort(-np.abs(r), axis=None)[:most]
    pairs = zip(*np.unravel_index(order, r.shape), strict=True)
    return "; ".join(f"{names[a]} and {names[b]}: {r[a, b]:.3f}" for a, b in pairs)


def means_figure(mixture: Mixture, centre: Array, sd: Array) -> Picture | None:
    """Draw each component's means in standard deviations of the data, or None below d = 3."""
    if mixture.d < 3 or mixture.k == 1:
        return None
    names = [short(name) for name in names_of(mixture)]
    Z = (mixture.means - centre) / sd
    height = min(0.9 + 0.24 * mixture.k, 12)
    figure = Figure(figsize=(8.2, max(2.0, height)), layout="constrained")
    axes = figure.subplots()
    end = max(float(np.abs(Z).max()), 1e-9)
    image = axes.imshow(Z, cmap="PuOr", vmin=-end, vmax=end, aspect="auto", interpolation="nearest")
    axes.set_ylabel("component")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    step = -(-mixture.d // 40)
    axes.set_xticks(range(0, mixture.d, step), names[::step], rotation=90, fontsize=7)
    bar = figure.colorbar(image, ax=axes, fraction=0.03, pad=0.01)
    # above, where it has room: a bar beside few components is shorter than these words
    axes.set_title("mean, in standard deviations of the data", fontsize=9)
    bar.outline.set_visible(False)
    return picture(
        figure, "means", "Means of the components in each feature, in standard deviations"
    )


def _fill(run: Run) -> Mapping[str, Any]:
    mixture, profile = run.mixture, run.profile
    return {
        "mixture": mixture,
        "components": component_table(run.membership, run.metrics["sum_of_weights"]),
        "means": mean_table(mixture) if mixture.d else None,
        "picture": means_figure(mixture, profile.mean, np.sqrt(profile.variance)),
        "correlations": correlation_tables(mixture),
    }


SECTION = Section(
    "Components",
    """
{{ show.grid(components, "tall", text_columns=(6,)) }}
<p class="soft">Effective rows: weight times the sum of the row weights. Certain: share of the
component's rows that belong to it with certainty 0.95 or more. Nearest: by Bhattacharyya distance.
Overlap: share of its rows that would be assigned to another component.</p>
{% if means is not none %}<h3>Means ± standard deviations, in the data's units</h3>
{{ show.grid(means, "tall") }}{% endif %}
{% if picture is not none %}{{ show.figure(picture) }}{% endif %}
{% if correlations %}
<details><summary>Correlations within the components</summary>
{% for title, table in correlations %}<h3>{{ title }}</h3>{{
    show.grid(table, text_columns=((1,) if table.head[1] == "r" and mixture.d > 8 else ()))
}}{% endfor %}
</details>
{% endif %}
""",
    _fill,
)
