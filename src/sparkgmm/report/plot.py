"""A picture of a mixture in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from sparkgmm.core.sample import Sample
from sparkgmm.errors import InputError
from sparkgmm.levels import read_mixed_like
from sparkgmm.mixture import Mixture
from sparkgmm.report.drawing import draw_pair, draw_single
from sparkgmm.report.views import informative_features, marginal, names_of

# A notebook's picture needs no more rows.
_MOST_ROWS = 50_000


def plot(
    mixture: Mixture,
    X: ArrayLike | None = None,
    features: Sequence[str | int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one feature or a pair of a mixture, over rows X (n, d) if given, and return the axes.

    A pair shows the rows in the mixed colours of their components, contours that hold 50, 80, 95
    and 99% of the mixture, ellipses of one and two standard deviations, and the means; one feature
    shows a histogram, the density and each weighted component. `features` are one or two names or
    positions; by default the pair that says most about the component. A new figure is made by
    pyplot unless `ax` is given. Of more than 50,000 rows, evenly spaced ones are drawn; where NaN
    is missing to the mixture, those that have all numeric features.

    Raises
    ------
    InputError
        If a feature is unknown, more than two are named, or X does not have d columns.

    """
    rows = None
    if X is not None:
        array = read_rows(mixture, X).astype(np.float64)
        rows = array[:: max(1, -(-len(array) // _MOST_ROWS))] if len(array) else None
    if not mixture.d:
        raise InputError("the mixture has no numeric feature to draw: print it, or its report")
    index = _resolve(mixture, rows, features)
    if ax is None:
        from matplotlib import pyplot

        ax = pyplot.figure(layout="constrained").subplots()
    names = [names_of(mixture)[i] for i in index]
    shown = marginal(mixture, index)
    chosen = None if rows is None else rows[:, index]
    if len(index) == 1:
        draw_single(ax, shown, chosen)
        ax.set_ylabel("density")
    else:
        draw_pair(ax, shown, chosen)
        ax.set_ylabel(names[1], parse_math=False)
    ax.set_xlabel(names[0], parse_math=False)
    return ax


def read_rows(mixture: Mixture, X: Any) -> Any:
    """Return rows for a mixture: with the columns beside the numeric ones where it has such."""
    gaps = mixture.missing == "model"
    columns = [part.of for part in mixture.parts]
    rows = read_mixed_like(X, mixture.features, mixture.d, columns, gaps=gaps)
    return rows[~np.isnan(rows[:, : mixture.d]).any(axis=1)] if gaps else rows


def _resolve(mixture: Mixture, rows: Any, features: Sequence[str | int] | None) -> list[int]:
    if features is None:
        drawn = mixture.sample(2000, seed=0)[0] if rows is None else rows
        sample = Sample(drawn, np.ones(len(drawn)), complete=False)
        return informative_features(mixture, sample, min(2, mixture.d))
    names = names_of(mixture)
    asked = [features] if isinstance(features, str | int | np.integer) else list(features)
    if not 1 <= len(asked) <= 2:
        raise InputError(f"features names {len(asked)} features: name one or two")
    found = []
    for name in asked:
        if isinstance(name, str) and name in names:
            found.append(names.index(name))
        elif isinstance(name, int | np.integer) and -mixture.d <= name < mixture.d:
            found.append(int(name) % mixture.d)
        else:
            raise InputError(f"feature {name!r} is not in the mixture: it has {', '.join(names)}")
    if len(set(found)) < len(found):
        raise InputError(f"feature {names[found[0]]!r} appears twice: name two, or only one")
    return found
