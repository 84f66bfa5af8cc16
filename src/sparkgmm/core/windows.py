"""Moves onto narrow clusters: where more rows lie close together than a component expects.

A burst in time, or a price at which many buy, are some rows within a component that is far wider.
Cuts drawn at random hardly ever meet them; looking at all windows along an axis does. The largest
number of rows in a window is the scan statistic of Naus (1965), "The distribution of the size of
the maximum cluster of points on a line".
"""

from __future__ import annotations

import numpy as np

from sparkgmm.core.model import Model
from sparkgmm.core.moves import give, in_own_coordinates, responsibilities
from sparkgmm.core.short_runs import Sample
from sparkgmm.core.starts.ground import Ground
from sparkgmm.products import Array

# A window holds such a share of a component's rows.
_SHARES = (0.02, 0.04, 0.08, 0.15, 0.3, 0.5)
# So many axes of a component are looked at, drawn at random where there are more.
_AXES = 16
# A row is within a component from this share of the largest responsibility on.
_ITS_OWN = 0.02
# A normal distribution function is about the logistic one of so many times the value.
_LOGISTIC = 1.702


def onto_windows(
    model: Model, ground: Ground, sample: Sample, rng: np.random.Generator, most: int
) -> list[Model]:
    """Return models in which a component is put on rows that lie close together in another.

    At most `most`: each in place of every other component in turn, the windows first that gain
    most: m rows, where the component expects e, gain m log(m / e).
    """
    if model.k < 2 or not model.d:
        return []
    L = sample.log_joint(model)
    R = responsibilities(L)
    found = [
        (gain, j, inside)
        for j in range(model.k)
        for gain, inside in _windows(in_own_coordinates(model, j, ground), R[j] * ground.w, rng)
    ]
    found.sort(key=lambda window: -window[0])
    moved = []
    for _, j, inside in found[: -(-most // (model.k - 1))]:
        for i in range(model.k):
            if i != j:
                freed = responsibilities(L, without=i)
                give(freed, i, j, inside)
                moved.append(freed)
    return ground.models(moved[:most], model.family)


def _windows(Y: Array, share: Array, rng: np.random.Generator) -> list[tuple[float, Array]]:
    """Return the best window along each axis: what it gains, and which rows are in it (n,)."""
    found: list[tuple[float, Array]] = []
    mine = np.flatnonzero(share > _ITS_OWN * share.max())
    if not len(mine):  # a component that others leave no row
        return []
    share = share[mine]
    axes = rng.permutation(Y.shape[1])[:_AXES]
    for values in Y[mine][:, axes].T:
        order = np.argsort(values, kind="stable")
        passed = np.cumsum(share[order])
        ascending = values[order]
        below = 1 / (1 + np.exp(-_LOGISTIC * np.clip(ascending, -40, 40)))
        best, ends = 0.0, (0, 0)
        for part in _SHARES:
            rows = part * passed[-1]
            first = np.flatnonzero(passed <= passed[-1] - rows)
            if not len(first):
                continue
            last = np.minimum(np.searchsorted(passed, passed[first] + rows), len(mine) - 1)
            expected = (below[last] - below[first]) * passed[-1]
            at = int(np.argmin(expected))
            gain = rows * np.log(rows / max(expected[at], 1e-3))
            if gain > best:
                best, ends = float(gain), (int(first[at]), int(last[at]))
        if best > 0:
            inside = np.zeros(len(Y), dtype=bool)
            inside[mine[order[ends[0] : ends[1] + 1]]] = True
            found.append((best, inside))
    return found
