"""The page of a run with groups: all of them at a glance, and a few of them drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import yaml
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sparkgmm.mixture import Mixture
from sparkgmm.report.drawing import draw_pair, draw_single
from sparkgmm.report.page import data_named, plots, render
from sparkgmm.report.sections.facts import left_out_table
from sparkgmm.report.style import Picture, colour, picture, short, style
from sparkgmm.report.tables import Table
from sparkgmm.report.views import marginal, names_of

_NAME = 34
_COLUMNS = 4
_WEIGHTS = 8


class GroupShown(NamedTuple):
    """A group that is shown: its name, rows used, nats a row, and its mixture."""

    name: str
    rows: int
    mean_log_likelihood: float
    converged: bool
    mixture: Mixture


def groups_page(
    names: Sequence[str],
    by_size: Sequence[Mapping[str, Any]],
    facts: Mapping[str, int],
    worst: Sequence[GroupShown],
    largest: Sequence[GroupShown],
    failed: Sequence[tuple[str, str]],
    without: Mapping[str, str],
    manifest: Mapping[str, Any],
) -> dict[str, bytes]:
    """Return report.html and plots/*.png.

    `by_size` has how many groups have which k and covariance type; `worst` are the groups of the
    least likelihood a row, `largest` those of most rows, `failed` some without a mixture.
    `without` has the reasons of the columns that were left out.
    """
    with style():
        sizes = size_figure(by_size)
        pictures = [sizes]
        drawn = {}
        for title, groups in (("worst", worst), ("largest", largest)):
            drawn[title] = small_multiples(title, groups)
            pictures.append(drawn[title])
    page = render(
        "groups.html",
        run_id=manifest["run_id"],
        data=data_named(manifest["configuration"]["input"]),
        output=manifest["configuration"]["output"]["path"],
        names=names,
        facts=Table(["", ""], [[key, f"{value:,}"] for key, value in facts.items()]),
        sizes=sizes,
        worst=group_table(worst),
        largest=group_table(largest),
        drawn=drawn,
        failed=Table(["group", "why it has no mixture"], [[*one] for one in failed]),
        without=left_out_table(without),
        more=facts["without a mixture"] - len(failed),
        configuration=yaml.safe_dump(
            dict(manifest["configuration"]), sort_keys=False, allow_unicode=True
        ),
    )
    return {"report.html": page.encode(), **plots(pictures)}


def size_figure(by_size: Sequence[Mapping[str, Any]]) -> Picture:
    """Draw how many groups have which k, by covariance type."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots()
    below: dict[int, int] = {}
    types = dict.fromkeys(str(row["covariance_type"]) for row in by_size)
    for i, covariance_type in enumerate(types):
        mine = [row for row in by_size if row["covariance_type"] == covariance_type]
        k = [int(row["k"]) for row in mine]
        counts = [int(row["count"]) for row in mine]
        axes.bar(
            k, counts, bottom=[below.get(n, 0) for n in k], color=colour(i), label=covariance_type
        )
        below |= {n: below.get(n, 0) + count for n, count in zip(k, counts, strict=True)}
    axes.set_xlabel("number of components k")
    axes.set_ylabel("groups")
    sizes = [int(row["k"]) for row in by_size] or [1]
    axes.set_xlim(min(sizes) - 1.5, max(sizes) + 1.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return picture(figure, "sizes", "How many groups have how many components")


def group_table(groups: Sequence[GroupShown]) -> Table:
    """A row a group: its rows, k, weights and likelihood."""
    rows = []
    for group in groups:
        weights = group.mixture.weights
        shown = ", ".join(f"{weight:.3f}" for weight in weights[:_WEIGHTS])
        more = ", ..." if len(weights) > _WEIGHTS else ""
        rows.append(
            [
                group.name,
                f"{group.rows:,}",
                str(group.mixture.k),
                group.mixture.covariance_type,
                shown + more,
                f"{group.mean_log_likelihood:.4f}",
                "yes" if group.converged else "no",
            ]
        )
    head = ["group", "rows", "k", "type", "weights", "nats a row", "converged"]
    return Table(head, rows)


def small_multiples(name: str, groups: Sequence[GroupShown]) -> Picture:
    """Draw some groups beside each other: the pair of features that tells most apart, or the one.

    Each has axes of its own.
    """
    pair = _telling_features([group.mixture for group in groups])
    lines = -(-len(groups) // _COLUMNS)
    figure = Figure(figsize=(2.4 * _COLUMNS, 2.2 * lines), layout="constrained")
    grid = figure.subplots(lines, _COLUMNS, squeeze=False)
    for axes in grid.flat[len(groups) :]:
        axes.set_axis_off()
    for axes, group in zip(grid.flat, groups, strict=False):
        _draw(axes, group, pair)
    shown = " and ".join(pair)
    return picture(figure, f"groups-{name}", f"{shown} of the {name} groups, each with its mixture")


def _draw(axes: Axes, group: GroupShown, pair: Sequence[str]) -> None:
    names = names_of(group.mixture)
    axes.set_title(short(group.name, _NAME), fontsize=8)
    axes.tick_params(labelsize=6)
    own = [names.index(name) for name in pair if name in names]
    if not own:
        axes.text(0.5, 0.5, "of other features", ha="center", transform=axes.transAxes)
        return
    shown = marginal(group.mixture, own)
    if len(own) == 1:
        draw_single(axes, shown, None, small=True)
    else:
        draw_pair(axes, shown, None, small=True)
        axes.set_ylabel(short(names[own[1]], 20), fontsize=7)
    axes.set_xlabel(short(names[own[0]], 20), fontsize=7)


def _telling_features(mixtures: Sequence[Mixture]) -> list[str]:
    """Return up to two features whose means differ most from component to component."""
    apart: dict[str, float] = {}
    for mixture in mixtures:
        between = mixture.weights @ (mixture.means - mixture.weights @ mixture.means) ** 2
        within = mixture.weights @ mixture.variances
        for name, share in zip(names_of(mixture), between / within, strict=True):
            apart[name] = apart.get(name, 0.0) + float(np.log1p(share))
    order = list(apart)
    return sorted(order, key=lambda name: (-apart[name], order.index(name)))[:2]
