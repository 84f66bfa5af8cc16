"""The candidates, and why one of them was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkgmm.core.selection import Candidate
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import INK, MARKERS, Picture, colour, picture
from sparkgmm.report.tables import Table


def criterion_figure(candidates: Sequence[Candidate], chosen: Candidate, criterion: str) -> Picture:
    """Draw the criterion by k, a line a covariance type."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, kind in enumerate(dict.fromkeys(c.covariance_type for c in candidates)):
        mine = sorted((c for c in candidates if c.covariance_type == kind), key=lambda c: c.k)
        sound = [c for c in mine if c.degenerate is None]
        axes.plot(
            [c.k for c in sound],
            [getattr(c, criterion) for c in sound],
            color=colour(i),
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            label=kind,
        )
        ghosts = [c for c in mine if c.degenerate is not None]
        if ghosts:
            axes.plot(
                [c.k for c in ghosts],
                [getattr(c, criterion) for c in ghosts],
                color=colour(i),
                marker="x",
                linestyle="none",
                label=f"{kind}, degenerate",
            )
    height = getattr(chosen, criterion)
    axes.plot(chosen.k, height, "o", markersize=14, fillstyle="none", color=INK)
    axes.annotate(
        f"k = {chosen.k} {chosen.covariance_type}",
        (chosen.k, height),
        xytext=(0, -18),
        textcoords="offset points",
        ha="center",
        weight="bold",
    )
    axes.margins(y=0.16)
    axes.set_xlabel("number of components k")
    axes.set_ylabel(f"{criterion} (lower is better)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return picture(
        figure,
        "criterion",
        f"{criterion} by k and covariance type; the lowest sound one is k = {chosen.k} "
        f"{chosen.covariance_type} at {height:.2f}",
    )


def candidate_table(candidates: Sequence[Candidate], chosen: Candidate, criterion: str) -> Table:
    """One row a candidate, the best first, degenerate ones last."""
    order = sorted(candidates, key=lambda c: (c.degenerate is not None, getattr(c, criterion)))
    rows = []
    for c in order:
        held_out = "–" if c.held_out is None else f"{c.held_out:.5f}"
        note = c.degenerate or ("" if c.converged else "not converged")
        rows.append(
            [
                "chosen" if c is chosen else "",
                str(c.k),
                c.covariance_type,
                f"{c.log_likelihood:,.3f}",
                f"{c.bic:,.3f}",
                f"{c.aic:,.3f}",
                f"{c.icl:,.3f}",
                held_out,
                f"{c.n_agreeing} of {c.n_starts}" if c.n_agreeing else "by a move",
                str(c.n_iter),
                note,
            ]
        )
    head = ["", "k", "covariance", "log-likelihood", "bic", "aic", "icl", "held out, nats a row"]
    return Table([*head, "starts here", "passes", "note"], rows)


def _fill(run: Run) -> Mapping[str, Any] | None:
    if len(run.candidates) < 2:
        return None
    return {
        "picture": criterion_figure(run.candidates, run.chosen, run.criterion),
        "candidates": candidate_table(run.candidates, run.chosen, run.criterion),
    }


SECTION = Section(
    "Choosing among {{ candidates.rows | length }} candidates",
    """
{{ show.figure(picture) }}
{{ show.grid(candidates, "tall", words=(10,)) }}
""",
    _fill,
)
