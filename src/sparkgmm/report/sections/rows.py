"""The rows and the mixture: a histogram, a pair or a corner plot, and any other pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparkgmm.core.sample import Membership, Sample
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.drawing import bounds_of, draw_pair, draw_single
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section, as_data
from sparkgmm.report.style import COLOURS, Picture, log_scale, picture, short
from sparkgmm.report.views import (
    correlation,
    informative_features,
    log_limits,
    marginal,
    names_of,
    share_outside,
    spans_powers,
    uncorrelated,
)

CORNER = 5
# Names longer than this are cut, on the axes of a single plot.
_LONG = 60
# What the page itself carries for the pairs that are not drawn: so many numbers of the sample.
_CARRIED = 60_000
_CARRIED_ROWS = 1500
# Corners of the shapes after the circle, in the order of `style.MARKERS`, y downwards.
_SHAPES = [
    [],
    [[-0.8, -0.8], [0.8, -0.8], [0.8, 0.8], [-0.8, 0.8]],
    [[0, -1.1], [1, 0.7], [-1, 0.7]],
    [[0, -1.2], [0.9, 0], [0, 1.2], [-0.9, 0]],
    [[0, 1.1], [1, -0.7], [-1, -0.7]],
    [
        *([-0.35, -1], [0.35, -1], [0.35, -0.35], [1, -0.35], [1, 0.35], [0.35, 0.35]),
        *([0.35, 1], [-0.35, 1], [-0.35, 0.35], [-1, 0.35], [-1, -0.35], [-0.35, -0.35]),
    ],
]


def mixture_figure(mixture: Mixture, sample: Sample, features: Sequence[int]) -> Picture:
    """Draw the rows and the mixture: one feature, a pair, or a corner of several."""
    names = [names_of(mixture)[i] for i in features]
    shown = marginal(mixture, features)
    X = sample.X[:, list(features)]
    bounds = bounds_of(shown, X)
    log = [spans_powers(column) for column in X.T]
    bounds = [log_limits(X[:, i]) if log[i] else ends for i, ends in enumerate(bounds)]
    if len(features) == 1:
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.subplots()
        _scale(axes, log[0], False)
        draw_single(axes, shown, X, sample.weights, bounds[0])
        axes.set_xlabel(short(names[0], _LONG))
        axes.set_ylabel("density of its decimal logarithm" if log[0] else "density")
        alt = f"Histogram of {names[0]} with the density of the mixture and of its components"
    elif len(features) == 2:
        figure = Figure(figsize=(7.2, 5.2), layout="constrained")
        axes = figure.subplots()
        _scale(axes, *log)
        draw_pair(axes, shown, X, bounds)
        axes.set_xlabel(short(names[0], _LONG))
        axes.set_ylabel(short(names[1], _LONG))
        alt = (
            f"{names[1]} against {names[0]}: the rows, contours that hold 50, 80, 95 and 99% of "
            f"the mixture, and ellipses of one and two standard deviations of {mixture.k} "
            "component(s)"
        )
    else:
        figure = _corner(shown, X, sample.weights, names, bounds, log)
        alt = f"Corner plot of {', '.join(names)}: every pair with contours, every feature alone"
    outside = share_outside(X, bounds)
    if outside > 0:
        alt += f"; {outside:.2%} of the rows are outside the axes"
    return picture(figure, "mixture", alt)


def _corner(
    mixture: Mixture,
    X: Array,
    weights: Array,
    names: Sequence[str],
    bounds: Sequence[tuple[float, float]],
    log: Sequence[bool],
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
            _scale(axes, log[column], log[row] and row > column)
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
            if not log[column]:
                axes.locator_params(axis="x", nbins=4)
            if row == m - 1:
                axes.set_xlabel(short(names[column]))
                axes.tick_params(axis="x", rotation=30)
            if column == 0 and row > 0:
                axes.set_ylabel(short(names[row]))
    return figure


def _scale(axes: Axes, x: bool, y: bool) -> None:
    if x:
        log_scale(axes, "x")
    if y:
        log_scale(axes, "y")


def pairs_json(mixture: Mixture, membership: Membership, features: Sequence[int]) -> Markup:
    """Return what the page needs to draw any pair, as JSON that cannot end its element."""
    rows = membership.sample.thinned(max(50, min(_CARRIED_ROWS, _CARRIED // mixture.d)))
    X = rows[:, : mixture.d]
    seen = [column[~np.isnan(column)] for column in X.T]
    low, high = np.array([np.quantile(c, [0.005, 0.995]) if len(c) else [0, 1] for c in seen]).T
    most = np.array([np.abs(c).max(initial=0.0) for c in seen])
    units = np.where(high > low, high - low, np.maximum(most, 1e-300))
    log = [spans_powers(column) for column in X.T]
    units = np.where(log, low, units)
    sd = np.sqrt(mixture.variances)
    below = np.tril_indices(mixture.d, -1)
    carried = {
        "names": names_of(mixture),
        "first": list(features[:2]),
        "colours": COLOURS,
        "log": log,
        "shapes": _SHAPES,
        "means": [_rounded(mean, units) for mean in mixture.means],
        "sd": [_rounded(mine, mine) for mine in sd],
        # in thousandths, row by row below the diagonal; none where there are no correlations
        "correlations": None
        if uncorrelated(mixture)
        else [
            np.rint(1e3 * correlation(c)[below]).astype(int).tolist() for c in mixture.covariances
        ],
        "rows": [
            _rounded(column, np.full(len(X), unit)) for column, unit in zip(X.T, units, strict=True)
        ],
        "labels": mixture.predict(rows).tolist(),
    }
    return as_data(carried)


def _rounded(values: Array, units: Array) -> list[float | None]:
    """Return numbers to a thousandth of their unit or better, without more digits than that.

    What is missing is None.
    """
    decimals = 3 - np.floor(np.log10(units)).astype(int)
    pairs = zip(values.tolist(), decimals.tolist(), strict=True)
    rounded = (round(value, places) for value, places in pairs)
    return [
        int(value) if value.is_integer() else None if np.isnan(value) else value
        for value in rounded
    ]


def _caption(run: Run, features: Sequence[int]) -> str:
    """Say what is drawn and how it is to be read."""
    shown = [names_of(run.mixture)[i] for i in features]
    spread = [
        name for i, name in zip(features, shown, strict=True) if spans_powers(run.sample.X[:, i])
    ]
    axes = f" Axes of {', '.join(spread)} are logarithmic." if spread else ""
    what = "lines have other dashes" if run.mixture.d == 1 else "rows and means have another shape"
    shapes = f" After every six components {what}." if run.mixture.k > 6 else ""
    return _what_is_drawn(run, shown) + axes + shapes


def _what_is_drawn(run: Run, shown: Sequence[str]) -> str:
    sample, d = run.sample, run.mixture.d
    rows = "all rows" if sample.complete else f"a random sample of {len(sample.X):,} rows"
    if d == 1:
        return (
            f"Histogram of {rows}; the line without colour is the density of the mixture, the "
            "others its weighted components."
        )
    if d == 2:
        return (
            f"Drawn from {rows}, each in the colours of the components mixed by its "
            "responsibilities. Lines without colour hold 50, 80, 95 and 99% of the mixture; "
            "ellipses are one (solid) and two (dashed) standard deviations of a component, "
            f"{'crosses' if run.mixture.k <= 6 else 'larger marks'} their means."
        )
    why = (
        ". All features are here."
        if len(shown) == d
        else ", the features whose pairs say most about a row's component (mutual information)."
    )
    return (
        f"Drawn from {rows}: {', '.join(shown)}{why} Contours hold 50, 80, 95 and 99% of the "
        "mixture, ellipses are one and two standard deviations of a component."
    )


def _fill(run: Run) -> Mapping[str, Any] | None:
    mixture = run.mixture
    if not mixture.d:
        return None
    features = informative_features(mixture, run.sample, CORNER)
    return {
        "picture": mixture_figure(mixture, run.sample, features),
        "caption": _caption(run, features),
        "pairs": pairs_json(mixture, run.membership, features) if mixture.d > 2 else None,
    }


SECTION = Section(
    "The rows and the mixture",
    """
{{ show.figure(picture, caption) }}
{% if pairs is not none %}
<div class="screen">
<h3>Any other pair</h3>
<p><select id="pair-x" aria-label="horizontal feature"></select> and
<select id="pair-y" aria-label="vertical feature"></select></p>
<svg id="pair" viewBox="0 0 640 460" role="img"
aria-label="Rows and ellipses of the two chosen features"></svg>
<p class="soft">A part of the sample, in the colour of the likeliest component; ellipses of one and
two standard deviations.</p>
</div>
{% endif %}
""",
    _fill,
    script="pairs.js",
    data="pairs",
)
