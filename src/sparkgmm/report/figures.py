"""The figures of a run's report."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter

from sparkgmm.core.quantiles import threshold
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.core.selection import Candidate
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.drawing import bounds_of, draw_pair, draw_single
from sparkgmm.report.style import FAINT, INK, MARKERS, Picture, colour, picture
from sparkgmm.report.views import marginal, names_of, share_outside

CORNER = 5
# Names longer than this are cut, on the axes of a corner plot and of a single one.
_SHORT = 18
_LONG = 60
# Shares of the rows whose log density is marked as that of outliers.
OUTLIERS = (0.001, 0.01)


def mixture_figure(mixture: Mixture, sample: Sample, features: Sequence[int]) -> Picture:
    """Draw the rows and the mixture: one feature, a pair, or a corner of several."""
    names = [names_of(mixture)[i] for i in features]
    shown = marginal(mixture, features)
    X = sample.X[:, list(features)]
    bounds = bounds_of(shown, X)
    if len(features) == 1:
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        draw_single(axes, shown, X, sample.weights, bounds[0])
        axes.set_xlabel(short(names[0], _LONG))
        axes.set_ylabel("density")
        alt = f"Histogram of {names[0]} with the density of the mixture and of its components"
    elif len(features) == 2:
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        axes = figure.subplots()
        draw_pair(axes, shown, X, bounds)
        axes.set_xlabel(short(names[0], _LONG))
        axes.set_ylabel(short(names[1], _LONG))
        alt = (
            f"{names[1]} against {names[0]}: the rows, contours that hold 50, 80, 95 and 99% of "
            f"the mixture, and ellipses of one and two standard deviations of {mixture.k} "
            "component(s)"
        )
    else:
        figure = _corner(shown, X, sample.weights, names, bounds)
        alt = f"Corner plot of {', '.join(names)}: every pair with contours, every feature alone"
    outside = share_outside(X, bounds)
    if outside > 0:
        alt += f"; {outside:.2%} of the rows lie outside the axes"
    return picture(figure, "mixture", alt)


def _corner(
    mixture: Mixture,
    X: Array,
    weights: Array,
    names: Sequence[str],
    bounds: Sequence[tuple[float, float]],
) -> Figure:
    m = len(names)
    figure = Figure(figsize=(8.2, 7.6), layout="constrained")
    grid = figure.subplots(m, m, sharex="col", squeeze=False)
    for row in range(m):
        for column in range(m):
            axes = grid[row, column]
            if column > row:
                axes.set_axis_off()
                continue
            if row == column:
                one = marginal(mixture, [row])
                draw_single(axes, one, X[:, [row]], weights, bounds[row], small=True)
                axes.set_yticks([])
            else:
                pair = marginal(mixture, [column, row])
                draw_pair(
                    axes, pair, X[:, [column, row]], (bounds[column], bounds[row]), small=True
                )
                if column > 0:
                    axes.tick_params(labelleft=False)
            axes.tick_params(labelsize=7)
            axes.locator_params(axis="x", nbins=4)
            if row == m - 1:
                axes.set_xlabel(short(names[column]))
                axes.tick_params(axis="x", rotation=30)
            if column == 0 and row > 0:
                axes.set_ylabel(short(names[row]))
    return figure


def convergence_figure(candidates: Sequence[Candidate], chosen: Candidate) -> Picture | None:
    """Draw how far below its own end each candidate was after each pass, in nats a row.

    Return None where none took more than two passes, or none is known but the end (MLlib's).
    """
    if all(c.n_iter < 3 or c.log_likelihoods[0] == c.log_likelihoods[-1] for c in candidates):
        return None
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for c in sorted(candidates, key=lambda c: c is chosen):
        heights = np.array(c.log_likelihoods) / c.weight
        left = np.maximum(heights[-1] - heights, 1e-12) if len(heights) > 1 else np.array([])
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
    _log_scale(axes)
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


def criterion_figure(
    candidates: Sequence[Candidate], chosen: Candidate, criterion: str
) -> Picture | None:
    """Draw the criterion by k, a line a covariance type, or return None for one candidate."""
    if len(candidates) < 2:
        return None
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
    expected = membership.mixture.log_density(membership.mixture.sample(20_000, seed=0)[0])
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
    _log_scale(axes)
    axes.set_ylim(top=30)  # room for the legend
    axes.set_xlabel("log density, nats")
    axes.set_title("outliers")
    axes.legend(fontsize=7, loc="upper left", ncols=2)


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
    bar.set_label("mean, in sd of the data")
    bar.outline.set_visible(False)
    return picture(
        figure, "means", "Means of the components in each feature, in standard deviations"
    )


def _log_scale(axes: Axes) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))  # mathtext is off
    axes.yaxis.set_minor_formatter(NullFormatter())


def short(name: str, most: int = _SHORT) -> str:
    """Return a name, cut if it is longer than that."""
    return name if len(name) <= most else name[: most - 1] + "…"
