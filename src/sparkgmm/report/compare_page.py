"""The page of a comparison: the same contour side by side, the tables, the verdict."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sparkgmm.formatting import mean_and_sd
from sparkgmm.mixture import Array, Labels
from sparkgmm.report.comparison import Comparison, Solved, hard_loss, mllib_problems, reordered
from sparkgmm.report.drawing import bounds_of, draw_pair, draw_single
from sparkgmm.report.page import plots, render
from sparkgmm.report.style import Picture, picture, short, style
from sparkgmm.report.tables import Table
from sparkgmm.report.views import informative_features, marginal, names_of

_POINTS = 2000
_FEATURES = 12
_NAME = 40


def compare_page(comparison: Comparison, title: str) -> dict[str, bytes]:
    """Return compare.html and plots/*.png."""
    with style():
        contours = contour_figure(comparison)
    ours = comparison.ours
    kmeans = next((s for s in comparison.solved if s.name == "kmeans" and s.mixture), None)
    mllib = next((s for s in comparison.solved if s.name == "mllib" and s.mixture), None)
    losses = []
    if kmeans is not None:
        labels = comparison.labels_of(kmeans)
        losses = hard_loss(ours, comparison.sample, labels, comparison.matched["kmeans"])
    problems = []
    if mllib is not None and mllib.mixture is not None:
        problems = mllib_problems(mllib.mixture, comparison.sample)
    page = render(
        "compare.html",
        contours=contours,
        title=title,
        verdict=comparison.verdict(),
        mixture=ours,
        sample=comparison.sample,
        solvers=_solver_table(comparison),
        parameters=_parameter_table(comparison),
        more=max(0, ours.d - _FEATURES),
        notes=[f"{s.title}: {s.note}" for s in comparison.solved if s.note],
        losses=losses,
        problems=problems,
    )
    return {"compare.html": page.encode(), **plots([contours])}


def contour_figure(comparison: Comparison) -> Picture:
    """Draw what each software found on the same axes: the pair that says most, or the one."""
    found = [s for s in comparison.solved if s.mixture is not None]
    features = informative_features(comparison.ours, comparison.sample, min(2, comparison.ours.d))
    names = [names_of(comparison.ours)[i] for i in features]
    thin = slice(None, None, max(1, -(-len(comparison.sample.X) // _POINTS)))
    X = comparison.sample.X[thin][:, features]
    bounds = bounds_of(marginal(comparison.ours, features), X)
    columns = min(2, len(found))
    lines = -(-len(found) // columns)
    figure = Figure(figsize=(4.3 * columns, 3.6 * lines), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, solved in zip(grid.flat, found, strict=False):
        order = comparison.matched[solved.name]
        assert solved.mixture is not None
        shown = marginal(reordered(solved.mixture, order), features)
        if len(features) == 1:
            draw_single(axes, shown, X, bounds=bounds[0])
        else:
            R = None if solved.labels is None else one_hot(solved.labels[thin], order)
            draw_pair(axes, shown, X, bounds, responsibilities=R)
        axes.set_title(f"{solved.title}: {solved.mean_log_likelihood:.6f} nats a row")
    for axes in grid.flat[len(found) - columns : len(found)]:  # the lowest of each column
        axes.set_xlabel(short(names[0], _NAME))
        axes.tick_params(labelbottom=True)
    for axes in grid[:, 0]:
        axes.set_ylabel(short(names[1], _NAME) if len(names) > 1 else "density")
    software = ", ".join(s.title for s in found)
    return picture(figure, "contours", f"{' and '.join(names)}: the mixtures found by {software}")


def one_hot(labels: Labels, order: Sequence[int]) -> Array:
    """Return hard labels (n,) as responsibilities (n, k) of the components in this order."""
    return np.asarray(labels[:, None] == np.array(order), dtype=np.float64)


def _solver_table(comparison: Comparison) -> Table:
    rows = []
    for s in comparison.solved:
        if s.mixture is None:
            rows.append([s.title, "–", "–", "–", "–", "–", "–", f"failed: {s.failed}"])
            continue
        rows.append(
            [
                s.title,
                f"{s.mean_log_likelihood:.7f}",
                f"{comparison.short_by(s):.1e}" if s is not comparison.solved[0] else "–",
                *_differences(comparison, s),
                f"{comparison.adjusted_rand[s.name]:.4f}",
                f"{s.seconds:.2f} s, {s.passes} passes over {s.rows:,} rows, "
                + ("converged" if s.converged else "stopped at its limit"),
            ]
        )
    head = ["", "nats a row", "short by", "weights", "means", "covariances", "Rand index", "cost"]
    return Table(head, rows)


def _differences(comparison: Comparison, solved: Solved) -> list[str]:
    found = comparison.differences.get(solved.name)
    if found is None:
        return ["–"] * 3
    return [f"{value:.1e}" for value in (found.weights, found.means, found.covariances)]


def _parameter_table(comparison: Comparison) -> Table:
    """A row for each of our components and software: weight, means ± standard deviations."""
    ours = comparison.ours
    rows = []
    for j in range(ours.k):
        for s in comparison.solved:
            order = comparison.matched.get(s.name)
            if s.mixture is None or order is None or order[j] < 0:
                continue
            i = order[j]
            sd = np.sqrt(s.mixture.variances[i])
            values = [
                mean_and_sd(s.mixture.means[i, a], sd[a]) for a in range(min(ours.d, _FEATURES))
            ]
            rows.append([str(j), s.title, f"{s.mixture.weights[i]:.6f}", *values])
    return Table(["component", "by", "weight", *names_of(ours)[:_FEATURES]], rows)
