"""How the rows belong to the components, and which are outliers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkgmm.core.quantiles import threshold
from sparkgmm.core.sample import Membership
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import FAINT, Picture, colour, log_scale, picture

# Shares of the rows whose log density is marked as that of outliers.
OUTLIERS = (0.001, 0.01)
_CAPTION = (
    "Left: weights. Middle: the largest responsibility of a row; at 1 there is no doubt. Right: "
    "log density of the rows, and what the mixture itself would give; lines mark the lowest 0.1% "
    "and 1%."
)


def membership_figure(membership: Membership) -> Picture:
    """Draw the weights, how certain the rows' components are, and the log density."""
    figure = Figure(figsize=(8.2, 3.2), layout="constrained")
    weights, certainty, density = figure.subplots(1, 3)
    _draw_weights(weights, membership.mixture)
    w = membership.sample.weights / membership.sample.weights.sum()
    certainty.hist(membership.certainty, np.linspace(0, 1, 41), weights=w, color=colour(0))
    certainty.set_xlim(min(0.45, float(membership.certainty.min()) - 0.02), 1.0)
    certainty.set_xlabel("largest responsibility")
    certainty.set_ylabel("share of rows")
    certainty.set_title("certainty")
    _draw_density(density, membership, w)
    sure = float(w[membership.certainty >= 0.95].sum())
    return picture(
        figure,
        "membership",
        f"Weights of the components; {sure:.1%} of the rows belong to one component with "
        "certainty 0.95 or more; histogram of the log density with the outliers' thresholds",
    )


def _draw_weights(axes: Axes, mixture: Mixture) -> None:
    axes.bar(range(mixture.k), mixture.weights, color=[colour(j) for j in range(mixture.k)])
    axes.set_xlabel("component")
    axes.set_title("weight")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_density(axes: Axes, membership: Membership, w: Array) -> None:
    values = membership.log_density
    drawn = membership.sample.like_it(membership.mixture.sample(20_000, seed=0)[0])
    expected = membership.mixture.log_density(drawn)
    low = min(np.quantile(values, 0.0005), np.quantile(expected, 0.0005))
    edges = np.linspace(low, max(values.max(), expected.max()), 50).tolist()
    axes.hist(values.clip(low), edges, weights=w, color=FAINT, alpha=0.5, label="rows")
    axes.hist(
        expected.clip(low),
        edges,
        weights=np.full(len(expected), 1 / len(expected)),
        histtype="step",
        color=colour(0),
        label="expected",
    )
    for share, dash in zip(OUTLIERS, (":", "--"), strict=True):
        at = threshold(membership.density_quantiles, share)
        axes.axvline(
            max(at, low), color=colour(4), linestyle=dash, ymax=0.8, label=f"lowest {share:.1%}"
        )
    log_scale(axes)
    axes.set_ylim(top=30)  # room for the legend
    axes.set_xlabel("log density, nats")
    axes.set_title("outliers")
    axes.legend(fontsize=7, loc="upper left", ncols=2)


def _fill(run: Run) -> Mapping[str, Any]:
    quantiles = run.membership.density_quantiles
    thresholds = [
        f"{share:.1%} of the rows have a log density below {threshold(quantiles, share):.4f}"
        for share in OUTLIERS
    ]
    return {
        "picture": membership_figure(run.membership),
        "caption": _CAPTION,
        "thresholds": "; ".join(thresholds) + ".",
    }


SECTION = Section(
    "Membership and outliers",
    """
{{ show.figure(picture, caption) }}
<p>{{ thresholds }}</p>
""",
    _fill,
)
