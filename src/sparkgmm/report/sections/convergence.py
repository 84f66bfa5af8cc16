"""How each candidate came to its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkgmm.core.selection import Candidate
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import FAINT, Picture, colour, log_scale, picture


def convergence_figure(candidates: Sequence[Candidate], chosen: Candidate) -> Picture | None:
    """Draw how far below its own end each candidate was after each pass, in nats a row.

    Return None where none took more than two passes, or none is known but the end (MLlib's).
    """
    if all(c.n_iter < 3 or c.log_likelihoods[0] == c.log_likelihoods[-1] for c in candidates):
        return None
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for c in sorted(candidates, key=lambda c: c is chosen):
        means = np.array(c.log_likelihoods) / c.weight
        left = np.maximum(means[-1] - means, 1e-12) if len(means) > 1 else np.array([])
        mine = c is chosen
        axes.plot(
            np.arange(1, len(left)),
            left[:-1],
            color=colour(0) if mine else FAINT,
            linewidth=2.0 if mine else 0.8,
            alpha=1.0 if mine else 0.7,
            marker="o" if mine else None,
            markersize=3,
        )
    log_scale(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("pass over the data")
    axes.set_ylabel("nats a row below the end")
    others = f", {len(candidates) - 1} other candidates" if len(candidates) > 1 else ""
    end = chosen.mean_log_likelihood
    axes.set_title(f"k = {chosen.k} {chosen.covariance_type} ends at {end:.6f} nats a row{others}")
    return picture(
        figure,
        "convergence",
        "Distance of the mean log-likelihood from its end after each pass, a line a candidate; "
        f"the chosen one took {chosen.n_iter} passes",
    )


def _fill(run: Run) -> Mapping[str, Any]:
    return {
        "n_iter": run.metrics["n_iter"],
        "picture": convergence_figure(run.candidates, run.chosen),
    }


SECTION = Section(
    "Convergence",
    """
{% if picture is not none %}
{{ show.figure(picture, "A line a candidate, the chosen one in colour.") }}
{% else %}
<p>Nothing to draw: {{ n_iter }} pass{{ "es" if n_iter != 1 }} over the data{{
    ", of which the engine reports only the end" if n_iter > 2
}}.</p>
{% endif %}
""",
    _fill,
)
