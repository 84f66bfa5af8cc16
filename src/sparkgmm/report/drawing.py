"""One pair of features, or one feature, of a mixture and its rows, onto given axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon

from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.style import (
    FAINT,
    INK,
    MARKERS,
    TOLD_APART,
    colour,
    dash,
    ignoring_font_warnings,
    marker,
)
from sparkgmm.report.views import SHARES, density_levels, limits

# Up to here rows are drawn one by one, beyond as a picture of cells.
_POINTS = 2000
_CELLS = (120, 90)
# More points than this are pixels within the drawing: it would grow by megabytes.
_VECTORS = 500
_GRID = 160
_REACH = 4.5  # a component's curve ends so many standard deviations from its mean
_LABELLED = 12  # more means than this are numbered in small print
_NUMBERED = 60  # and more than this are marked alone
_LEAST = 1e-300  # of which an ellipse's logarithm is taken, where it has values below 0
_LN10 = float(np.log(10))


def draw_pair(
    axes: Axes,
    mixture: Mixture,
    X: Array | None,
    bounds: Sequence[tuple[float, float]] | None = None,
    small: bool = False,
    responsibilities: Array | None = None,
) -> None:
    """Draw two features: rows in the mixed colours of their components, contours, ellipses, means.

    `mixture` has d = 2 and X is (n, 2); `responsibilities` (n, k) replace the mixture's. The
    contours hold 50, 80, 95 and 99% of the mixture, the ellipses are 1 and 2 standard deviations
    of a component. Rows that miss one of the two, NaN, are not drawn. With more than six components
    rows and means have shapes as well. Axes that are logarithmic stay so.
    """
    if X is not None:
        whole = ~np.isnan(X).any(axis=1)
        if not whole.all():
            X = X[whole]
            responsibilities = None if responsibilities is None else responsibilities[whole]
    (x_low, x_high), (y_low, y_high) = bounds or bounds_of(mixture, X)
    if X is not None:
        if len(X) <= _POINTS or responsibilities is not None:
            size = 5 if small else 16
            R = mixture.responsibilities(X) if responsibilities is None else responsibilities
            for shape, mine in _by_shape(R):
                points = axes.scatter(
                    X[mine, 0],
                    X[mine, 1],
                    s=size,
                    c=mixed_colours(R[mine]),
                    alpha=0.75,
                    linewidths=0,
                    zorder=1,
                    marker=shape,
                )
                points.set_rasterized(len(X) > _VECTORS)
        else:
            _draw_cells(axes, mixture, X, ((x_low, x_high), (y_low, y_high)))
    m = _GRID // 2 if small else _GRID
    x, y = _even(axes.get_xscale(), x_low, x_high, m), _even(axes.get_yscale(), y_low, y_high, m)
    grid = np.stack(np.meshgrid(x, y), axis=-1)
    density = np.exp(mixture.log_density(grid.reshape(-1, 2))).reshape(m, m)
    levels, indices = np.unique(density_levels(mixture), return_index=True)
    with ignoring_font_warnings():
        lines = axes.contour(
            x, y, density, levels=levels, colors=INK, linewidths=0.5 if small else 0.9, zorder=3
        )
    if not small:
        named = {level: f"{SHARES[i]:.0%}" for level, i in zip(levels, indices, strict=True)}
        axes.clabel(lines, fmt=named, fontsize=7, inline_spacing=2)
    for j in range(mixture.k):
        _draw_component(axes, mixture, j, small)
    if mixture.k <= TOLD_APART:
        axes.plot(
            *mixture.means.T,
            "+",
            color=INK,
            markersize=4 if small else 8,
            linestyle="none",
            zorder=5,
        )
    else:
        for j, mean in enumerate(mixture.means):
            axes.plot(
                *mean,
                marker(j),
                color=colour(j),
                markeredgecolor=INK,
                markeredgewidth=0.4 if small else 0.8,
                markersize=3 if small else 6,
                zorder=5,
                rasterized=_in_pixels(mixture, small),
            )
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)


def draw_single(
    axes: Axes,
    mixture: Mixture,
    X: Array | None,
    weights: Array | None = None,
    bounds: tuple[float, float] | None = None,
    small: bool = False,
) -> None:
    """Draw one feature: a histogram, the density of the mixture and each weighted component.

    `mixture` has d = 1 and X is (n, 1), of which NaN is not drawn. On logarithmic axes densities
    are those of the decimal logarithm, so that areas stay shares.
    """
    if X is not None and np.isnan(X).any():
        seen = ~np.isnan(X[:, 0])
        X, weights = X[seen], None if weights is None else weights[seen]
    low, high = bounds or bounds_of(mixture, X)[0]
    log = axes.get_xscale() == "log"
    if X is not None:
        total = len(X) if weights is None else weights.sum()
        edges = _even(axes.get_xscale(), low, high, 30 if small else _bins(len(X)))
        counts, _ = np.histogram(X[:, 0], edges, weights=weights)
        widths = np.diff(np.log10(edges) if log else edges)
        axes.stairs(counts / (total * widths), edges, fill=True, color=FAINT, alpha=0.35)
    sd = np.sqrt(mixture.variances[:, 0])
    peaks = mixture.weights / (np.sqrt(2 * np.pi) * sd)
    tops = []
    for j, at in enumerate(mixture.means[:, 0]):
        z = np.linspace(-_REACH, _REACH, 41 if small else 121)
        if log:
            z = (np.geomspace(low, high, 241) - at) / sd[j]
        here = at + sd[j] * z
        curve = peaks[j] * np.exp(-0.5 * z**2) * (here * _LN10 if log else 1)
        tops.append((float(here[curve.argmax()]), float(curve.max())) if log else (at, peaks[j]))
        [line] = axes.plot(
            here, curve, color=colour(j), linestyle=dash(j), linewidth=0.9 if small else 1.4
        )
        [area] = axes.fill(here, curve, color=colour(j), alpha=0.2, linewidth=0)
        for artist in (line, area):
            artist.set_rasterized(_in_pixels(mixture, small))
    x = _abscissae(mixture, _even(axes.get_xscale(), low, high, 400))
    density = np.exp(mixture.log_density(x[:, None])) * (x * _LN10 if log else 1)
    axes.plot(x, density, color=INK, linewidth=0.9 if small else 1.6)
    if not small and mixture.k <= _NUMBERED:
        for j, top in enumerate(tops):
            axes.annotate(
                str(j),
                top,
                xytext=(0, 5),
                textcoords="offset points",
                color=colour(j),
                fontsize=_print(mixture),
                weight="bold",
                ha="center",
                annotation_clip=True,
            )
    axes.set_xlim(low, high)
    axes.set_ylim(bottom=0)


def bounds_of(mixture: Mixture, X: Array | None) -> list[tuple[float, float]]:
    """Return the ends of the axes, one pair a feature, with room for rows and mixture."""
    drawn = mixture.sample(_POINTS if X is None else len(X), seed=0)[0]
    rows = drawn if X is None else np.concatenate([X, drawn])
    return [limits(column) for column in rows.T]


def mixed_colours(R: Array) -> Array:
    """Return the colours of the components mixed by responsibilities (n, k), shape (n, 3)."""
    return np.asarray(R @ np.array([to_rgb(colour(j)) for j in range(R.shape[1])])).clip(0, 1)


def _by_shape(R: Array) -> list[tuple[str, Any]]:
    """Return the shapes of rows with responsibilities R (n, k), and which rows have each."""
    if R.shape[1] <= TOLD_APART:
        return [(MARKERS[0], slice(None))]
    labels = R.argmax(axis=1)
    shapes = np.array([marker(j) for j in range(R.shape[1])])[labels]
    return [(shape, shapes == shape) for shape in MARKERS if (shapes == shape).any()]


def _print(mixture: Mixture) -> float:
    return 9 if mixture.k <= _LABELLED else 7


def _even(scale: str, low: float, high: float, m: int) -> Array:
    """Return m values from end to end, evenly spaced on an axis of this scale."""
    return np.geomspace(low, high, m) if scale == "log" else np.linspace(low, high, m)


def _abscissae(mixture: Mixture, even: Array) -> Array:
    """Return where to evaluate a density: evenly, and densely around each mean."""
    sd = np.sqrt(mixture.variances)
    around = mixture.means + sd * np.linspace(-4, 4, 25)
    inside = around[(around > even[0]) & (around < even[-1])]
    return np.union1d(even, inside)


def _in_pixels(mixture: Mixture, small: bool) -> bool:
    return small and mixture.k > _LABELLED


def _bins(n: int) -> int:
    return int(np.clip(4 * n ** (1 / 3), 16, 100))


def _draw_cells(axes: Axes, mixture: Mixture, X: Array, bounds: Any) -> None:
    """Draw how many rows are in each cell as opacity, whose they are as colour."""
    scales = (axes.get_xscale(), axes.get_yscale())
    given = [
        _even(s, low, high, n + 1) for s, (low, high), n in zip(scales, bounds, _CELLS, strict=True)
    ]
    counts, x_edges, y_edges = np.histogram2d(X[:, 0], X[:, 1], given)
    x, y = (0.5 * (edges[1:] + edges[:-1]) for edges in (x_edges, y_edges))
    centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    image = np.empty((len(y), len(x), 4))
    image[..., :3] = mixed_colours(mixture.responsibilities(centres)).reshape(len(y), len(x), 3)
    depth = np.log1p(counts.T) / np.log1p(max(counts.max(), 1))
    image[..., 3] = np.where(counts.T > 0, 0.12 + 0.83 * depth, 0.0)
    if "log" in scales:
        axes.pcolormesh(x_edges, y_edges, image, rasterized=True)
        return
    extent = (x_edges[0], x_edges[-1], y_edges[0], y_edges[-1])
    axes.imshow(image, extent=extent, origin="lower", aspect="auto", interpolation="nearest")


def _draw_component(axes: Axes, mixture: Mixture, j: int, small: bool) -> None:
    # as a polygon: the axes of an ellipse cannot be computed where units are 1e20 apart
    sd = np.sqrt(np.diagonal(mixture.covariances[j]))
    r = mixture.covariances[j, 0, 1] / sd.prod()
    angle = np.linspace(0, 2 * np.pi, 73)
    circle = np.stack(
        [np.cos(angle), r * np.cos(angle) + np.sqrt(max(1 - r * r, 0)) * np.sin(angle)], axis=1
    )
    ends = [_LEAST if s == "log" else -np.inf for s in (axes.get_xscale(), axes.get_yscale())]
    for sigmas, dashes in ((1, "-"), (2, "--")):
        axes.add_artist(  # not add_patch, which looks after limits that are set below
            Polygon(
                np.maximum(mixture.means[j] + sigmas * sd * circle, ends),
                fill=False,
                edgecolor=colour(j),
                linestyle=dashes,
                linewidth=0.8 if small else 1.6,
                zorder=4,
                rasterized=_in_pixels(mixture, small),
            )
        )
    if not small and mixture.k <= _NUMBERED and (mixture.means[j] > ends).all():
        axes.annotate(
            str(j),
            tuple(mixture.means[j]),
            xytext=(6, 6),
            textcoords="offset points",
            color=INK,
            fontsize=_print(mixture),
            weight="bold",
            zorder=6,
            annotation_clip=True,
        )
