"""The candidates, and why one of them was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkgmm.core.figures import columns, ranked
from sparkgmm.core.selection import Candidate
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import INK, MARKERS, Picture, colour, picture
from sparkgmm.report.tables import Table

NOT_CONVERGED = "not converged"
# k and the covariance type, by which a candidate is known.
_NAMES = 2


def criterion_figure(candidates: Sequence[Candidate], chosen: Candidate, criterion: str) -> Picture:
    """Draw the criterion by k, a line a covariance type."""
    figure = Figure(figsize=(7.2, 3.6), layout="constrained")
    axes = figure.subplots()
    for i, covariance_type in enumerate(dict.fromkeys(c.covariance_type for c in candidates)):
        mine = sorted(
            (c for c in candidates if c.covariance_type == covariance_type), key=lambda c: c.k
        )
        sound = [c for c in mine if c.degenerate is None]
        axes.plot(
            [c.k for c in sound],
            [getattr(c, criterion) for c in sound],
            color=colour(i),
            marker=MARKERS[i % len(MARKERS)],
            markersize=5,
            label=covariance_type,
        )
        ghosts = [c for c in mine if c.degenerate is not None]
        if ghosts:
            axes.plot(
                [c.k for c in ghosts],
                [getattr(c, criterion) for c in ghosts],
                color=colour(i),
                marker="x",
                linestyle="none",
                label=f"{covariance_type}, degenerate",
            )
    value = getattr(chosen, criterion)
    axes.plot(chosen.k, value, "o", markersize=14, fillstyle="none", color=INK)
    axes.annotate(
        f"k = {chosen.k} {chosen.covariance_type}",
        (chosen.k, value),
        xytext=(0, -18),
        textcoords="offset points",
        ha="center",
        weight="bold",
    )
    axes.margins(x=0.1, y=0.16)
    axes.set_xlabel("number of components k")
    axes.set_ylabel(f"{criterion} (lower is better)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
    return picture(
        figure,
        "criterion",
        f"{criterion} by k and covariance type; the lowest sound one is k = {chosen.k} "
        f"{chosen.covariance_type} at {value:.2f}",
    )


def candidate_table(candidates: Sequence[Candidate], chosen: Candidate, criterion: str) -> Table:
    """One row a candidate, the best first, degenerate ones last.

    Why one was refused stands beside it, before the figures, which a narrow window cuts off. Where
    there is nothing to note there is no such column.
    """
    shown = columns()
    rows = []
    for c in ranked(candidates, criterion):
        cells = [column.text(value(c)) for column, value in shown]
        note = f"refused: {c.degenerate}" if c.degenerate else "" if c.converged else NOT_CONVERGED
        rows.append(["chosen" if c is chosen else "", *cells[:_NAMES], note, *cells[_NAMES:]])
    heads = ["", *(column.heading for column, _ in shown)]
    at = _NAMES + 1
    if not any(row[at] for row in rows):
        return Table(heads, [[*row[:at], *row[at + 1 :]] for row in rows])
    return Table([*heads[:at], "note", *heads[at:]], rows)


def _fill(run: Run) -> Mapping[str, Any] | None:
    if len(run.candidates) < 2:
        return None
    table = candidate_table(run.candidates, run.chosen, run.criterion)
    return {
        "picture": criterion_figure(run.candidates, run.chosen, run.criterion),
        "candidates": table,
        "text_columns": (table.head.index("note"),) if "note" in table.head else (),
    }


SECTION = Section(
    "Choosing among {{ candidates.rows | length }} candidates",
    """
{{ show.figure(picture) }}
{{ show.grid(candidates, "tall", text_columns=text_columns) }}
""",
    _fill,
)
