"""One pair of features, or one feature, of a mixture and its rows, onto given axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon

from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.style import FAINT, INK, colour, ignoring_font_warnings
from sparkgmm.report.views import SHARES, density_levels, limits

# Up to here rows are drawn one by one, beyond as a picture of cells.
_POINTS = 2000
_CELLS = (120, 90)
# More points than this are pixels within the drawing: it would grow by megabytes.
_VECTORS = 500
_GRID = 160
_REACH = 4.5  # a component's curve ends so many standard deviations from its mean
_LABELLED = 12  # more means than this are marked, not numbered


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
    of a component. Rows that miss one of the two, NaN, are not drawn.
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
            face = mixed_colours(R)
            points = axes.scatter(
                X[:, 0], X[:, 1], s=size, c=face, alpha=0.75, linewidths=0, zorder=1
            )
            points.set_rasterized(len(X) > _VECTORS)
        else:
            _draw_cells(axes, mixture, X, ((x_low, x_high), (y_low, y_high)))
    m = _GRID // 2 if small else _GRID
    x, y = np.linspace(x_low, x_high, m), np.linspace(y_low, y_high, m)
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
    axes.plot(
        *mixture.means.T, "+", color=INK, markersize=4 if small else 8, linestyle="none", zorder=5
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

    `mixture` has d = 1 and X is (n, 1), of which NaN is not drawn.
    """
    if X is not None and np.isnan(X).any():
        seen = ~np.isnan(X[:, 0])
        X, weights = X[seen], None if weights is None else weights[seen]
    low, high = bounds or bounds_of(mixture, X)[0]
    if X is not None:
        total = len(X) if weights is None else weights.sum()
        edges = np.linspace(low, high, 30 if small else _bins(len(X)))
        counts, _ = np.histogram(X[:, 0], edges, weights=weights)
        axes.stairs(counts / (total * np.diff(edges)), edges, fill=True, color=FAINT, alpha=0.35)
    sd = np.sqrt(mixture.variances[:, 0])
    peaks = mixture.weights / (np.sqrt(2 * np.pi) * sd)
    for j, at in enumerate(mixture.means[:, 0]):
        z = np.linspace(-_REACH, _REACH, 41 if small else 121)
        curve = peaks[j] * np.exp(-0.5 * z**2)
        [line] = axes.plot(at + sd[j] * z, curve, color=colour(j), linewidth=0.9 if small else 1.4)
        [area] = axes.fill(at + sd[j] * z, curve, color=colour(j), alpha=0.2, linewidth=0)
        for artist in (line, area):
            artist.set_rasterized(_in_pixels(mixture, small))
    x = _abscissae(mixture, low, high)
    density = np.exp(mixture.log_density(x[:, None]))
    axes.plot(x, density, color=INK, linewidth=0.9 if small else 1.6)
    if not small and mixture.k <= _LABELLED:
        for j, at in enumerate(mixture.means[:, 0]):
            axes.annotate(
                str(j),
                (at, peaks[j]),
                xytext=(0, 5),
                textcoords="offset points",
                color=colour(j),
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


def _abscissae(mixture: Mixture, low: float, high: float) -> Array:
    """Return where to evaluate a density: evenly, and densely around each mean."""
    sd = np.sqrt(mixture.variances)
    around = mixture.means + sd * np.linspace(-4, 4, 25)
    inside = around[(around > low) & (around < high)]
    return np.union1d(np.linspace(low, high, 400), inside)


def _in_pixels(mixture: Mixture, small: bool) -> bool:
    return small and mixture.k > _LABELLED


def _bins(n: int) -> int:
    return int(np.clip(4 * n ** (1 / 3), 16, 100))


def _draw_cells(axes: Axes, mixture: Mixture, X: Array, bounds: Any) -> None:
    """Draw how many rows are in each cell as opacity, whose they are as colour."""
    counts, x_edges, y_edges = np.histogram2d(X[:, 0], X[:, 1], _CELLS, bounds)
    x, y = (0.5 * (edges[1:] + edges[:-1]) for edges in (x_edges, y_edges))
    centres = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    image = np.empty((len(y), len(x), 4))
    image[..., :3] = mixed_colours(mixture.responsibilities(centres)).reshape(len(y), len(x), 3)
    depth = np.log1p(counts.T) / np.log1p(max(counts.max(), 1))
    image[..., 3] = np.where(counts.T > 0, 0.12 + 0.83 * depth, 0.0)
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
    for sigmas, dash in ((1, "-"), (2, "--")):
        axes.add_artist(  # not add_patch, which looks after limits that are set below
            Polygon(
                mixture.means[j] + sigmas * sd * circle,
                fill=False,
                edgecolor=colour(j),
                linestyle=dash,
                linewidth=0.8 if small else 1.6,
                zorder=4,
                rasterized=_in_pixels(mixture, small),
            )
        )
    if not small and mixture.k <= _LABELLED:
        axes.annotate(
            str(j),
            tuple(mixture.means[j]),
            xytext=(6, 6),
            textcoords="offset points",
            color=INK,
            weight="bold",
            zorder=6,
            annotation_clip=True,
        )
