"""Categorical columns and counts: each component's levels as bars, with lift, and its rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from sparkgmm.core.dispersion import dispersion
from sparkgmm.formatting import number
from sparkgmm.mixture import Array, Mixture
from sparkgmm.parts import Multinomial, Poisson
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import FAINT, Picture, colour, picture, short
from sparkgmm.report.tables import Table

# So many columns, and levels of each, are drawn; tables have up to so many levels.
_DRAWN_COLUMNS = 6
_DRAWN_LEVELS = 12
_LISTED_LEVELS = 40


def level_table(mixture: Mixture, part: Multinomial) -> Table:
    """One row a level: its share in all rows, and in each component, with lift."""
    overall = mixture.weights @ part.probabilities
    order = _most_frequent(overall, _LISTED_LEVELS)
    rows = [
        [
            part.of.levels[i],
            f"{overall[i]:.2%}",
            *(
                f"{p:.2%} (×{p / max(overall[i], 1e-300):.2f})"
                for p in part.probabilities[:, i].tolist()
            ),
        ]
        for i in order
    ]
    return Table(["level", "all", *map(str, range(mixture.k))], rows)


def count_table(mixture: Mixture, parts: Sequence[Poisson], dispersions: Array) -> Table:
    """One row a column of counts: the mean of all rows, and of each component, with dispersion."""
    rows = [
        [
            part.of.name,
            number(float(mixture.weights @ part.rates), 4),
            *(
                f"{number(rate, 4)} (dispersion {number(spread, 3)})"
                for rate, spread in zip(part.rates.tolist(), of_part.tolist(), strict=True)
            ),
        ]
        for part, of_part in zip(parts, dispersions, strict=True)
    ]
    return Table(["counts", "all", *map(str, range(mixture.k))], rows)


def levels_figure(mixture: Mixture, parts: Sequence[Multinomial]) -> Picture | None:
    """Draw the shares of the levels in each component, and in all rows, a column a panel."""
    parts = parts[:_DRAWN_COLUMNS]
    if not parts:
        return None
    shown = [_most_frequent(mixture.weights @ p.probabilities, _DRAWN_LEVELS) for p in parts]
    height = 0.7 + 0.1 * sum(len(levels) for levels in shown) * (1 + 0.35 * mixture.k)
    figure = Figure(figsize=(8.2, min(max(2.2, height), 16)), layout="constrained")
    ratios = [max(2, len(levels)) for levels in shown]
    panels = figure.subplots(len(parts), 1, squeeze=False, height_ratios=ratios)[:, 0]
    thick = 0.8 / (mixture.k + 1)
    for axes, part, levels in zip(panels, parts, shown, strict=True):
        at = np.arange(len(levels))
        overall = (mixture.weights @ part.probabilities)[levels]
        axes.barh(at - 0.4 + thick / 2, overall, thick, color=FAINT, label="all")
        for j in range(mixture.k):
            axes.barh(
                at - 0.4 + (j + 1.5) * thick,
                part.probabilities[j, levels],
                thick,
                color=colour(j),
                label=str(j),
            )
        axes.set_yticks(at, [short(part.of.levels[i], 28) for i in levels])
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_title(short(part.of.name, 60))
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, fontsize=7, ncols=min(mixture.k + 1, 12), loc="outside upper right"
    )
    panels[-1].set_xlabel("share of the component's rows")
    names = ", ".join(part.of.name for part in parts)
    return picture(figure, "levels", f"Shares of the levels of {names} in each component")


def _most_frequent(overall: Array, most: int) -> list[int]:
    """Return the levels that rows have most, in the order of their text."""
    return sorted(np.argsort(-overall, kind="stable")[:most].tolist())


def _fill(run: Run) -> Mapping[str, Any] | None:
    mixture = run.mixture
    if not mixture.parts:
        return None
    levels = [part for part in mixture.parts if isinstance(part, Multinomial)]
    counts = [part for part in mixture.parts if isinstance(part, Poisson)]
    return {
        "picture": levels_figure(mixture, levels),
        "levels": [(part.of.name, level_table(mixture, part)) for part in levels],
        "counts": count_table(mixture, counts, dispersion(run.membership)) if counts else None,
        "more": len(levels) - _DRAWN_COLUMNS,
    }


SECTION = Section(
    "Categories and counts",
    """
{% if picture is not none %}{{ show.figure(picture, "The share of each level in the components, "
~ "and in all rows" ~ (", of the first columns" if more > 0 else "") ~ ".") }}{% endif %}
{% for name, table in levels %}<h3>{{ name }}</h3>{{ show.grid(table, "tall") }}{% endfor %}
{% if levels %}<p class="soft">In brackets the lift: how many times as frequent the level is in the
component as in all rows.</p>{% endif %}
{% if counts is not none %}<h3>Mean counts</h3>{{ show.grid(counts, "tall") }}
<p class="soft">Dispersion: the variance of the component's counts over their mean, which of a
Poisson is 1.</p>{% endif %}
""",
    _fill,
)
