"""Rows so far out that no component can hold them and others: they are set aside, and named.

A mistyped row that lies 10,000 times as far out as all others makes a component that takes it so
wide that other components take all its rows; alone it is none. So the mixture that the other rows
have is no optimum with it. What such a row is due to the others say nothing about: in the terms of
Gallegos and Ritter (2005), "A robust method for cluster analysis", it is a spurious outlier, whose
density is no part of the likelihood.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import NDArray

from sparkgmm.core.grid import counted
from sparkgmm.core.profile import Block, Profile
from sparkgmm.core.rows import Rows
from sparkgmm.core.selection import Aside
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.core.widths import ATOM_ROWS, HANDFUL, is_handful
from sparkgmm.core.within import Bounds, ProfileKernel, Within
from sparkgmm.parts import Column
from sparkgmm.products import Array

# A row is wild if it is so many times as far from the middle as any that is not.
FAR = 20.0
# A sample's median is no farther from the mean of all rows than so many standard deviations.
_MEDIAN_FROM_MEAN = 1.5


@dataclass(frozen=True)
class TamedRows:
    """The rows that are within bounds, of rows wherever they are."""

    rows: Rows
    bounds: Bounds
    profile: Profile
    sample: Sequence[Block]

    @property
    def complete(self) -> bool:
        """Whether the sample is all of them."""
        return self.rows.complete

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns after the numeric ones, each modelled by a part."""
        return self.rows.columns

    @property
    def range_beside(self) -> Array | None:
        """That of the columns of parts is not measured again."""
        return None

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        return self.rows.scan([Within(kernel, self.bounds) for kernel in kernels], label)


def set_aside(rows: Rows, features: Sequence[str] | None) -> tuple[Rows, tuple[Aside, ...]]:
    """Return the rows without a handful of wild ones, and where those are; all if none is wild.

    Nothing is read where the sample and the range of all the rows show none; where the range of
    counts is not known, on a cluster, that of the sample stands for it. Where the sample is not all
    the rows, one pass counts those within the bounds. A value that is missing is wild in no row.
    """
    profile = rows.profile
    found = _bounds(rows)
    if found is None:
        return rows, ()
    bounds, which = found
    sample = [block for block in map(bounds.kept, rows.sample) if block.n_rows]
    if not sample:
        return rows, ()
    tamed = _profile_within(rows, bounds, sample)
    per_weight = profile.rows_per_weight
    n_wild = float((profile.weight - tamed.weight) * per_weight)
    varied = (tamed.low < tamed.high).all()
    if not (varied and is_handful(n_wild, profile.weight * per_weight)):
        return rows, ()
    aside = tuple(
        Aside(_name(rows, features, i), _farthest(_range(rows, i), bounds, i), n_wild)
        for i in which
    )
    return TamedRows(rows, bounds, tamed, sample), aside


def _name(rows: Rows, features: Sequence[str] | None, i: int) -> str:
    d = len(rows.profile.mean)
    if i >= d:
        return rows.columns[i - d].name
    return features[i] if features else f"column {i}"


def _farthest(ends: tuple[float, float], bounds: Bounds, i: int) -> float:
    """Return the value of a column that is farthest from the middle."""
    middle = (bounds.low[i] + bounds.high[i]) / 2
    low, high = ends
    return low if middle - low > high - middle else high


def _range(rows: Rows, i: int) -> tuple[float, float]:
    """Return the least and the greatest value of a column; of the sample, if no more is known."""
    profile = rows.profile
    d = len(profile.mean)
    if i < d:
        return float(profile.low[i]), float(profile.high[i])
    known = rows.range_beside
    if known is not None:
        return float(known[0, i - d]), float(known[1, i - d])
    values, _ = _column(rows.sample, i)
    return float(values.min()), float(values.max())


def _column(blocks: Sequence[Block], i: int) -> tuple[Array, Array]:
    """Return the values of a column that are there, and the weights of their rows."""
    values = np.concatenate([block.values[i] for block in blocks]).astype(np.float64)
    weights = _weights(blocks)
    missing = np.isnan(values)
    return (values[~missing], weights[~missing]) if missing.any() else (values, weights)


def _bounds(rows: Rows) -> tuple[Bounds, list[int]] | None:
    """Return bounds that the rows which are not wild keep, and the columns in which some are."""
    profile = rows.profile
    d = len(profile.mean)
    counts = [i for i, column in enumerate(rows.columns, d) if column.kind == "counts"]
    D = 1 + counts[-1] if counts else d
    low, high = np.full(D, -np.inf), np.full(D, np.inf)
    which = []
    for i in [*np.flatnonzero(_may_be_wild(profile)).tolist(), *counts]:
        values, weights = _column(rows.sample, i)
        if not len(values):
            continue
        middle, far = _reach(values, weights * profile.rows_per_weight)
        least, greatest = _range(rows, i)
        if far > 0 and max(greatest - middle, middle - least) >= FAR * far:
            margin = far * np.sqrt(FAR)
            low[i], high[i] = middle - margin, middle + margin
            which.append(i)
    return (Bounds(low, high), which) if which else None


def _may_be_wild(profile: Profile) -> NDArray[np.bool_]:
    """Say by their ranges in which features rows may be wild: in most none is far enough out.

    Rows that are not wild are within 1 / sqrt(FAR) of the farthest distance from the median, the
    others are a share p of all. So the variance is at most 1 / FAR + p of that distance's square,
    and the median is no farther from the mean than a standard deviation.
    """
    if profile.seen is not None:
        return np.ones(len(profile.mean), dtype=bool)
    share = min(HANDFUL, ATOM_ROWS / (profile.weight * profile.rows_per_weight))
    farthest = np.maximum(profile.high - profile.mean, profile.mean - profile.low)
    least = 1 / np.sqrt(1 / FAR + share) - _MEDIAN_FROM_MEAN
    return np.asarray(farthest >= least * np.sqrt(profile.variance))


def _reach(values: Array, weights: Array) -> tuple[float, float]:
    """Return the median of values (n,), and how far from it those reach that are not wild.

    `weights` (n,) are effective rows.
    """
    total = float(weights.sum())
    middle = _median(values, weights)
    distances = np.abs(values - middle)
    ends = max(0, len(distances) - ATOM_ROWS)
    edge = float(np.partition(distances, ends)[ends])
    far, beyond = float(distances.max()), 0.0
    if far < FAR * edge:
        return middle, far
    outer = np.flatnonzero(distances >= edge)
    outward = outer[np.argsort(-distances[outer], kind="stable")[:ATOM_ROWS]]
    for nearer, farther in zip(outward[1:], outward[:-1], strict=True):
        beyond += float(weights[farther])
        if not is_handful(beyond, total):
            break
        if distances[farther] >= FAR * distances[nearer]:
            far = float(distances[nearer])
    return middle, far


def _median(values: Array, weights: Array) -> float:
    if (weights == weights[0]).all():
        middle = (len(values) - 1) // 2
        return float(np.partition(values, middle)[middle])
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(passed, passed[-1] / 2)]])


def _profile_within(rows: Rows, bounds: Bounds, sample: Sequence[Block]) -> Profile:
    """Return the profile of the rows within bounds."""
    products = rows.profile.scatter.ndim == 2
    of_sample = reduce(add, (Profile.of(block, products, len(rows.columns)) for block in sample))
    gaps = rows.profile.seen is not None
    if gaps:  # even if it is the wild rows alone that miss something
        of_sample = of_sample.incomplete()
    if not rows.complete:
        kernel = ProfileKernel(of_sample.mean, products, gaps)
        [sums] = rows.scan([Within(kernel, bounds)], "counting the rows within bounds")
        found = np.isfinite(of_sample.low)  # a feature may be missing in all of the sample
        low = np.where(found, of_sample.low, rows.profile.low)
        return kernel.profile(sums, low, np.where(found, of_sample.high, rows.profile.high))
    if all(block.weights is None for block in rows.sample):
        return of_sample
    # shares of a count are still so when a few are gone
    observations = counted(_weights(rows.sample), rows.profile.weight)
    share = of_sample.weight / rows.profile.weight
    return replace(of_sample, observations=observations * share)


def _weights(blocks: Iterable[Block]) -> Array:
    return np.concatenate([block.row_weights for block in blocks])
