"""Where EM starts: k-means++ seeds or random rows of a sample, and a model drawn around them.

Rows are picked by inverting the cumulative weight, so a weight of 3 acts as three equal rows and a
weight of 0 as none, draw by draw.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sparkgmm.core.model import Model
from sparkgmm.core.prior import Regularised, m_step
from sparkgmm.core.profile import Frame, bands
from sparkgmm.core.rows import Rows
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.parts import Parts, fill, of_all, split
from sparkgmm.products import Array, second_moment, squares

# k-means++ looks at this many rows at most, or at a quarter of a sample that many components made
# larger.
SEEDING_ROWS = 8192
# Missing values are taken from the nearest of so many rows; products of two features are made of
# the rows filled in so far up to so many features.
_DONORS = 1024
_MOST_PRODUCTS = 1024
# Distances and memberships of many components are computed so many at a time.
_AT_ONCE = 2**22
# Of many components each k-means++ seed is the best of a draw for so many of them, up to this: of
# 512 clusters apart in 39 columns 20 got no seed when each was the best of 8, and 6 of 32; then
# of 1,000 in 10 columns 6 and not 22. Twice as many found hardly more.
_A_TRIAL, _TRIALS = 8, 32
# k-means++ seeds move to the means of their rows so many times.
SETTLING_ROUNDS = 10
# A start must have volume even where its rows do not: variances of 1e-3 of each feature's own.
LEAST_START = 1e-3
_START = Regularised(LEAST_START)


class Seeds(NamedTuple):
    """Rows that starts are drawn from, standardised (n, d), and their weights (n,).

    `scale` (d,) are the features' standard deviations in the data's units, `total` the second
    moment of all the rows, standardised, as `Moments` has it. `beside` (n, columns) are the columns
    of parts beside the Gaussian, `parts` those of one component for all rows.
    """

    Z: Array
    w: Array
    scale: Array
    total: Array
    beside: Array | None = None
    parts: Parts = ()

    @classmethod
    def of(cls, rows: Rows, frame: Frame, most: int = SEEDING_ROWS) -> Seeds:
        """Take evenly spaced rows of the sample: so many, or a quarter where that is more.

        Values that are missing are those of the nearest row that has them; rows of which all are
        missing say nothing of where to start.
        """
        Z, w = frame.standardise(rows.sample)
        seeds = cls(Z, w, frame.scale, frame.correlation)
        if rows.columns:
            beside = np.concatenate([b.values[len(frame.scale) :].T for b in rows.sample])
            seeds = seeds._replace(beside=beside.astype(np.float64))
            seeds = seeds._replace(parts=of_all(rows.columns, seeds.rows.T, w))
        elif frame.seen is not None:
            some = ~np.isnan(Z).all(axis=1)
            seeds = seeds._replace(Z=Z[some], w=w[some])
        thin = slice(None, None, max(1, -(-len(seeds.Z) // max(most, len(seeds.Z) // 4))))
        seeds = seeds.take(thin)
        return seeds if frame.seen is None else seeds._filled()

    def _filled(self) -> Seeds:
        """Return the rows with what is missing filled in, and their second moment."""
        Z = filled_by_neighbours(self.Z)
        second = (
            second_moment(Z.T, self.w) if Z.shape[1] <= _MOST_PRODUCTS else squares(Z.T, self.w)
        )
        return self._replace(Z=Z, total=second / self.w.sum())

    def take(self, rows: slice | Array) -> Seeds:
        """Return some of the rows."""
        beside = None if self.beside is None else self.beside[rows]
        return self._replace(Z=self.Z[rows], w=self.w[rows], beside=beside)

    @property
    def rows(self) -> Array:
        """All columns of the rows, the numeric ones standardised, (n, D)."""
        return self.Z if self.beside is None else np.concatenate([self.Z, self.beside], axis=1)

    @property
    def points(self) -> Array:
        """The rows as points whose distances tell clusters apart: Z, and what parts see."""
        return self.Z if not self.parts else np.concatenate([self.Z, self.part_points], axis=1)

    @property
    def part_points(self) -> Array:
        """What the parts make of the rows: coordinates of levels and counts, (n, m)."""
        if not self.parts:
            return np.empty((len(self.Z), 0))
        values = self.rows.T
        return np.concatenate([part.coordinates(values) for part in self.parts]).T

    def part_sums(self, share: Array, n_rows: float) -> tuple[Array, ...]:
        """Return the parts' sums, of the rows' shares (k, n) and of so many rows like all of them.

        Then a component that has few rows has something of every level.
        """
        if not self.parts:
            return ()
        T = fill(self.parts, self.rows.T)
        return split(self.parts, share @ T.T + n_rows * (T @ self.w / len(self.w)))


def filled_by_neighbours(Z: Array) -> Array:
    """Return standardised rows (n, d) with what is missing taken from the nearest row that has it.

    Distances are the mean squares over the features that both rows have. Unlike means, what is
    filled in varies as the data do, and is of the row's own cluster where that is seen at all.
    """
    there = ~np.isnan(Z)
    X, seen = np.where(there, Z, 0.0), there.astype(np.float64)
    donors = np.arange(0, len(Z), max(1, -(-len(Z) // _DONORS)))
    Y, known = X[donors], seen[donors]
    filled = Z.copy()
    step = max(1, _AT_ONCE // len(donors))
    for start in range(0, len(Z), step):
        here = slice(start, start + step)
        distances = X[here] ** 2 @ known.T + seen[here] @ (Y**2).T - 2 * (X[here] @ Y.T)
        in_common = seen[here] @ known.T
        distances = np.where(in_common > 0, distances / np.maximum(in_common, 1.0), np.inf)
        for i in range(Z.shape[1]):
            wanted = np.flatnonzero(~there[here, i])
            able = np.flatnonzero(known[:, i])
            if len(wanted) and len(able):
                nearest = able[np.argmin(distances[np.ix_(wanted, able)], axis=1)]
                filled[start + wanted, i] = Y[nearest, i]
    filled[np.isnan(filled)] = 0.0  # no donor has it: the mean
    return filled


def _pick(cumulative: Array, u: Array) -> Array:
    """Return the rows where the shares u in [0, 1) of the cumulative weight fall."""
    rows = np.searchsorted(cumulative, u * cumulative[-1], side="right")
    return np.minimum(rows, len(cumulative) - 1)


def _squared_distances(Z: Array, squares: Array, centres: Array) -> Array:
    """Return |z_i - c_j|^2, shape (centres, rows)."""
    D = squares - 2 * (centres @ Z.T) + np.einsum("jd,jd->j", centres, centres)[:, None]
    return np.maximum(D, 0.0, out=D)


def k_means_plus_plus(Z: Array, w: Array, k: int, rng: np.random.Generator) -> Array:
    """Draw k rows of Z (n, d), each far from those before: Arthur and Vassilvitskii (2007).

    Each is the best of 2 + ln k draws (their section 4), of more where there are many. The first j
    rows of a draw of k are a draw of j.
    """
    trials = max(2 + int(math.log(k)), min(k // _A_TRIAL, _TRIALS))
    squares = np.einsum("nd,nd->n", Z, Z)
    centres = [Z[_pick(np.cumsum(w), rng.random(1))[0]]]
    nearest = _squared_distances(Z, squares, centres[0][None])[0]
    for _ in range(1, k):
        drawn = _pick(np.cumsum(w * nearest), rng.random(trials))
        candidates = np.minimum(nearest, _squared_distances(Z, squares, Z[drawn]))
        best = int(np.argmin(candidates @ w))
        centres.append(Z[drawn[best]])
        nearest = candidates[best]
    return np.array(centres)


def random_from_data(Z: Array, w: Array, k: int, rng: np.random.Generator) -> Array:
    """Draw k rows of Z (n, d) by weight; equal rows are drawn again where others are left."""
    cumulative = np.cumsum(w)
    rows: list[Array] = []
    for _ in range(100 * k):
        row = Z[_pick(cumulative, rng.random(1))[0]]
        if not any(np.array_equal(row, other) for other in rows):
            rows.append(row)
        if len(rows) == k:
            return np.array(rows)
    drawn = Z[_pick(cumulative, rng.random(k))]
    return np.asarray(drawn)


# The mix of k-means++ and the kinds of `core.starts`, with moves of its own (`core.scout`).
AUTO = "auto"
INIT: dict[str, Callable[[Array, Array, int, np.random.Generator], Array]] = {
    "k-means++": k_means_plus_plus,
    "random_from_data": random_from_data,
}


def nearest_centres(centres: Array, Z: Array) -> Array:
    """Return which of the centres (k, d) is nearest to each row of Z (n, d)."""
    return _nearest(Z, np.einsum("nd,nd->n", Z, Z), centres)


def settle(centres: Array, Z: Array, w: Array, rounds: int = SETTLING_ROUNDS) -> Array:
    """Move centres (k, d) to the means of their nearest rows, a few times: Lloyd (1982).

    A single row is a poor centre in many dimensions: its noise, squared, hides the clusters.
    """
    if not rounds:
        return centres
    squares = np.einsum("nd,nd->n", Z, Z)
    step = max(1, _AT_ONCE // len(Z))
    labels = np.full(len(Z), -1)
    for _ in range(rounds):
        before, labels = labels, _nearest(Z, squares, centres)
        if np.array_equal(before, labels):  # the centres are where they stay
            break
        moved = []
        for start in range(0, len(centres), step):
            some = centres[start : start + step]
            R = (labels == np.arange(start, start + len(some))[:, None]) * w
            counts = R.sum(axis=1, keepdims=True)
            means = R @ Z / np.maximum(counts, 1e-300)
            moved.append(np.where(counts > 0, means, some))
        centres = np.concatenate(moved)
    return centres


def _nearest(Z: Array, squares: Array, centres: Array) -> Array:
    """Return which centre is nearest to each row of Z (n, d); `squares` (n,) are their lengths'."""
    step = max(1, _AT_ONCE // len(centres))
    labels = [
        np.argmin(_squared_distances(Z[i : i + step], squares[i : i + step], centres), axis=0)
        for i in range(0, len(Z), step)
    ]
    return np.concatenate(labels)


def model_around(centres: Array, seeds: Seeds, family: Family) -> Model:
    """Turn centres among the points of seeds into a model: each takes the rows nearest to it."""
    labels = nearest_centres(centres, seeds.points)
    R = (labels == np.arange(len(centres))[:, None]).astype(np.float64)
    return model_of(R, centres[:, : seeds.Z.shape[1]], seeds, family)


def model_of(R: Array, centres: Array, seeds: Seeds, family: Family) -> Model:
    """Turn responsibilities (k, n) for n rows into a model, by an M-step that is no spike.

    Each covariance is drawn towards the pooled one by d + 1 rows' worth, so that a component with
    few rows starts wide. One without rows stays at its centre (k, d).
    """
    Z, w = seeds.Z, seeds.w
    k, d = centres.shape
    counts = np.maximum(R @ w, 1e-3 * w.sum() / len(w))
    offset = np.empty((k, d))
    moment_of = squares if family.diagonal else second_moment
    scatter = np.empty((k, d) if family.diagonal else (k, d, d))
    for j in range(k):
        mine = np.flatnonzero(R[j] > 0)
        share = R[j][mine] * w[mine]
        for band in bands(d, len(mine)) if family.diagonal else [slice(None)]:
            residual = Z[mine, band]
            residual -= centres[j, band]
            offset[j, band] = share @ residual / counts[j]
            residual -= offset[j, band]
            scatter[j, band] = moment_of(residual.T, share)
    pooled = scatter.sum(axis=0) / counts.sum()
    prior = (d + 1) * w.sum() / len(w)
    scatter += prior * pooled
    scatter *= (counts / (counts + prior)).reshape(k, *[1] * (scatter.ndim - 1))
    nothing = np.zeros((k, d))
    moments = Moments(counts, nothing, scatter, centres + offset, seeds.scale, seeds.total)
    if not seeds.parts:
        return m_step(family, moments, _START)
    moments = moments._replace(others=seeds.part_sums(R * w, d + 1))
    return m_step(family, moments, _START, others=seeds.parts)
