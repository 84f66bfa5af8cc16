"""What the values of a feature say of its kind: few values, two, or another in every row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sparkgmm.core.profile import Block
from sparkgmm.core.selection import Hidden
from sparkgmm.core.widths import NO_WIDTH
from sparkgmm.products import Array

# A feature has few values if they are no more than the hours of a day, each in so many rows on
# average. Iris, where a petal's width has 22 in 150 rows, has none.
_FEW = 24
_ROWS_A_VALUE = 10
# Fewer rows may have integers that all differ by chance.
_LEAST_ROWS = 100
# Integers drawn evenly from their range would hold so many pairs that are equal, at least.
_PAIRS = 3.0
# Most features are seen to be none of these by so many rows.
_FIRST, _FEWER = 1024, 64


class Discrete(NamedTuple):
    """A feature whose numbers may be no quantity, by what the rows looked at hold.

    `values` are its distinct values, ascending, and empty where they are integers that differ in
    every row; `whole` says whether all are integers of 0 or more.
    """

    feature: str
    values: tuple[float, ...]
    whole: bool

    @property
    def is_id(self) -> bool:
        """Whether it differs in every row."""
        return not self.values


def discrete_features(blocks: Sequence[Block], names: Sequence[str]) -> list[Discrete]:
    """Return the features that have few values, or integers that differ in every row.

    Rows that have weights may be the cells of a histogram, and so differ in every row by nature.
    """
    weighted = any(block.weights is not None for block in blocks)
    found = (
        _discrete(name, [block.values[i] for block in blocks], weighted)
        for i, name in enumerate(names)
    )
    return [one for one in found if one is not None]


def never_together(blocks: Sequence[Block], names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of features that no row has both of, though some have either."""
    d = len(names)
    there = [(~np.isnan(block.values[:d])).astype(np.float64) for block in blocks]
    together = np.sum([seen @ seen.T for seen in there], axis=0)
    some = np.diagonal(together) > 0
    apart = (together == 0) & some & some[:, None]
    return [(names[i], names[j]) for i, j in np.argwhere(np.triu(apart, 1))]


def hidden_features(blocks: Sequence[Block], names: Sequence[str]) -> tuple[Hidden, ...]:
    """Return the features most of whose distinct values have no width, in standard deviations.

    Some few must be so far out that a fit, which computes in standard deviations, loses the others.
    """
    found, least = [], math.sqrt(NO_WIDTH)
    for i in np.flatnonzero(_may_hide(blocks, len(names), least)).tolist():
        values = np.concatenate([block.values[i] for block in blocks]).astype(np.float64)
        distinct = np.unique(values[~np.isnan(values)])
        if len(distinct) <= _FEW:
            continue
        low, middle, high = distinct[[len(distinct) // 4, len(distinct) // 2, -len(distinct) // 4]]
        far = float(np.abs(distinct - middle).max())
        if high - low < least * float(np.nanstd(values / far)) * far:
            ends = distinct[[0, -1]]
            farthest = ends[np.argmax(np.abs(ends - middle))]
            found.append(Hidden(names[i], float(low), float(high), float(farthest)))
    return tuple(found)


def _may_hide(blocks: Sequence[Block], d: int, least: float) -> NDArray[np.bool_]:
    """Say of which features values may be hidden: in most, those of a few rows differ by enough."""
    with np.errstate(all="ignore"):  # 1e308 - -1e308, and what has no value
        low = np.fmin.reduce([np.fmin.reduce(block.values[:d], axis=1) for block in blocks])
        high = np.fmax.reduce([np.fmax.reduce(block.values[:d], axis=1) for block in blocks])
        first = np.sort(blocks[0].values[:d, :_FEWER].astype(np.float64), axis=1)
        steps = np.diff(first, axis=1) / (high.astype(np.float64) - low)[:, None]
    differ, apart = (steps > 0).sum(axis=1), (steps > least).sum(axis=1)
    return np.asarray((differ < _FEWER // 8) | (apart < 0.75 * differ))


def _discrete(name: str, parts: Sequence[Array], weighted: bool) -> Discrete | None:
    first = parts[0][:_FIRST]
    first = first[~np.isnan(first)]
    distinct = np.unique(first)
    may_be_few = len(distinct) <= _FEW
    may_be_id = not weighted and len(distinct) == len(first) and _are_integers(first)
    if not may_be_few and not may_be_id:
        return None
    values = np.concatenate(parts).astype(np.float64)
    values = values[~np.isnan(values)]
    distinct = np.unique(values)
    if 1 < len(distinct) <= _FEW and len(values) >= _ROWS_A_VALUE * len(distinct):
        whole = _are_integers(distinct) and distinct[0] >= 0
        return Discrete(name, tuple(distinct.tolist()), whole)
    if may_be_id and len(distinct) == len(values) >= _LEAST_ROWS and _is_id(values, distinct):
        return Discrete(name, (), bool(distinct[0] >= 0))
    return None


def _are_integers(values: Array) -> bool:
    return bool((np.rint(values) == values).all())


def _is_id(values: Array, distinct: Array) -> bool:
    """Return whether distinct integers are in order, or from a range where some should be equal."""
    if not _are_integers(values):
        return False
    steps = np.diff(values)
    if (steps > 0).all() or (steps < 0).all():
        return True
    n, span = len(values), float(distinct[-1] - distinct[0]) + 1
    return n * (n - 1) / 2 / span >= _PAIRS
