"""Blocks of rows, and what one look at them shows: counts, centred moments and range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sparkgmm.gaps import order
from sparkgmm.products import Array, diagonal, second_moment, squares

_BLOCK_BYTES = 2**21
# Standardising 2,000 rows by 1,000 columns takes 4.3 ms so, 6.2 whole, and a third of the memory.
_BAND_BYTES = 2**19
# Below it the sum of the weights, or what it is multiplied by, would be subnormal: without digits.
LEAST_WEIGHT = 1e-290


class Block(NamedTuple):
    """Rows held feature-major, so that a pass needs no transpose.

    The numeric features come first, the columns of parts beside the Gaussian (`parts`) after them.
    `values` is (d, rows), C-contiguous, float32 or float64 as the source had it, NaN where a value
    is missing; `weights` is (rows,) float64, every one above 0, or None where all are 1.
    """

    values: Array
    weights: Array | None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.values.shape[1])

    @property
    def row_weights(self) -> Array:
        """The weights, (rows,): ones where there are none."""
        return np.ones(self.n_rows) if self.weights is None else self.weights

    def between(self, start: int, stop: int) -> Block:
        """Return the rows from `start` to before `stop`, without a copy."""
        weights = None if self.weights is None else self.weights[start:stop]
        return Block(self.values[:, start:stop], weights)

    def take(self, rows: Array) -> Block:
        """Return some of the rows, by their numbers or by flags."""
        weights = None if self.weights is None else self.weights[rows]
        return Block(np.ascontiguousarray(self.values[:, rows]), weights)


def block_rows(d: int) -> int:
    """Return how many rows a block holds: about 2 MiB of float64, whatever the machine.

    But 2048 at least: products of fewer rows are a tenth slower (measured at d = 200 and 300).
    """
    return max(2048, _BLOCK_BYTES // (8 * d) // 1024 * 1024)


def grouped(block: Block, n_beside: int = 0) -> Block:
    """Return the rows in the order of `gaps.order`, where any value is missing; else the block.

    The last columns, so many, are of parts beside the Gaussian and not looked at.
    """
    missing = np.isnan(block.values[: len(block.values) - n_beside])
    return block.take(order(missing)) if missing.any() else block


def count_rows(blocks: Sequence[Block]) -> int:
    """Return how many rows the blocks hold together."""
    return sum(block.n_rows for block in blocks)


def take_rows(blocks: Sequence[Block], rows: Array) -> Block:
    """Gather rows by their ascending numbers, counted through all the blocks."""
    ends = np.cumsum([block.n_rows for block in blocks])
    values, weights = [], []
    for block, end in zip(blocks, ends, strict=True):
        start = end - block.n_rows
        mine = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
        values.append(block.values[:, mine])
        weights.append(None if block.weights is None else block.weights[mine])
    weighted = [w for w in weights if w is not None]
    return Block(
        np.ascontiguousarray(np.concatenate(values, axis=1)),
        np.concatenate(weighted) if weighted else None,
    )


@dataclass(frozen=True)
class Profile:
    """Weighted count, mean (d,), centred scatter and range of some rows.

    The scatter is (d, d), or its diagonal (d,) where no covariance type asks for more.
    `observations` is how many the rows stand for where their weights are shares of that, or 0.
    Where values are missing `seen` (2, d) has how many rows have each feature, and their weight;
    mean, scatter, then a diagonal, and range are of those. It is None where none is missing.
    """

    n_rows: int
    weight: float
    mean: Array
    scatter: Array
    low: Array
    high: Array
    observations: float = 0.0
    seen: Array | None = None

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")
    def of(cls, block: Block, products: bool = True, n_beside: int = 0) -> Profile:
        """Profile one block; the sums are float64 whatever the block holds.

        The last columns, so many, are of parts beside the Gaussian and not looked at.

        Without `products` the scatter is a diagonal, but of one feature, where that is all there
        is; its variances may differ in their last bits from those with products. Where sums
        overflow the variance is not finite; the fit refuses such a feature by name.
        """
        values = block.values[: len(block.values) - n_beside]
        w = block.row_weights
        weight = float(w.sum())
        means, scatters = [], []
        products = products or len(values) == 1
        for band in [slice(None)] if products else bands(len(values), block.n_rows):
            X = values[band].astype(np.float64)
            # A shift that is among the rows first: sums of 1.7e12 would lose the digits that differ
            origin = X[:, :1].copy()
            X -= origin
            offset = X @ w / weight
            if np.isnan(offset).any() and np.isnan(values).any():
                return cls._of_seen(values.astype(np.float64), w, weight)
            X -= offset[:, None]
            means.append(origin[:, 0] + offset)
            moment_of = second_moment if products else squares
            scatters.append(moment_of(X, block.weights))
        return cls(
            block.n_rows,
            weight,
            np.concatenate(means) if means else np.empty(0),
            np.concatenate(scatters) if scatters else np.empty(0),
            values.min(axis=1).astype(np.float64),
            values.max(axis=1).astype(np.float64),
        )

    @classmethod
    def _of_seen(cls, X: Array, w: Array, weight: float) -> Profile:
        """Profile X (d, n), of which values are missing, by those that are there."""
        there = ~np.isnan(X)
        low = np.min(X, axis=1, where=there, initial=np.inf)
        high = np.max(X, axis=1, where=there, initial=-np.inf)
        known = there @ w
        origin = np.where(known > 0, low, 0.0)
        X = np.where(there, X - origin[:, None], 0.0)
        offset = X @ w / np.where(known > 0, known, 1.0)
        residual = np.where(there, X - offset[:, None], 0.0)
        scatter = squares(residual, w)
        seen = np.array([there.sum(axis=1), known])
        return cls(len(w), weight, origin + offset, scatter, low, high, seen=seen)

    def incomplete(self) -> Profile:
        """Return itself in the form that a profile has where values are missing."""
        if self.seen is not None:
            return self
        seen = np.repeat([[float(self.n_rows)], [self.weight]], len(self.mean), axis=1)
        return replace(self, scatter=diagonal(self.scatter), seen=seen)

    @np.errstate(over="ignore", invalid="ignore")
    def __add__(self, other: Profile) -> Profile:
        """Merge two profiles: Chan, Golub and LeVeque (1979), eq. 1.5, in several dimensions."""
        weight = self.weight + other.weight
        if self.seen is not None or other.seen is not None:
            return self.incomplete()._plus(other.incomplete(), weight)
        share = other.weight / weight
        delta = other.mean - self.mean
        mine, theirs = self.scatter, other.scatter
        if mine.ndim == theirs.ndim == 2:
            between = np.outer(delta, delta)
        else:
            mine, theirs, between = diagonal(mine), diagonal(theirs), delta**2
        return Profile(
            self.n_rows + other.n_rows,
            weight,
            self.mean + share * delta,
            mine + theirs + between * (self.weight * share),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def _plus(self, other: Profile, weight: float) -> Profile:
        """Merge two profiles of which values are missing, a feature at a time."""
        assert self.seen is not None
        assert other.seen is not None
        seen = self.seen + other.seen
        share = other.seen[1] / np.where(seen[1] > 0, seen[1], 1.0)
        delta = np.where(self.seen[1] > 0, other.mean - self.mean, 0.0)
        start = np.where(self.seen[1] > 0, self.mean, other.mean)
        return Profile(
            self.n_rows + other.n_rows,
            weight,
            start + share * delta,
            self.scatter + other.scatter + delta**2 * (self.seen[1] * share),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
            seen=seen,
        )

    def pack(self) -> Array:
        """Return the profile as one flat array of numbers, every one exact."""
        numbers = [float(self.n_rows), self.weight]
        flat = np.concatenate([numbers, self.mean, self.scatter.ravel(), self.low, self.high])
        if self.seen is None:
            return flat
        return np.concatenate([flat, self.seen.ravel(), [1.0]])

    @classmethod
    def unpack(cls, packed: Array, d: int) -> Profile:
        """Undo `pack`."""
        seen = None
        if len(packed) == 3 + 6 * d:  # odd, which that of rows without gaps never is
            packed, seen = packed[: 2 + 4 * d], packed[2 + 4 * d : -1].reshape(2, d)
        m = len(packed) - 2 - 3 * d  # the numbers of the scatter
        mean, scatter, low, high = np.split(packed[2:], [d, d + m, 2 * d + m])
        n_rows, weight = packed[:2].tolist()
        if seen is None and m == d * d:  # of incomplete rows it is a diagonal, of one feature too
            scatter = scatter.reshape(d, d)
        return cls(int(n_rows), weight, mean, scatter, low, high, seen=seen)

    @property
    def rows_per_weight(self) -> float:
        """What makes rows of effective counts: weights of 3 are 3 rows, but shares are not less."""
        return max(1.0, max(self.n_rows, self.observations) / self.weight)

    @property
    def variance(self) -> Array:
        """Weighted variance of each feature (divided by the sum of weights), shape (d,)."""
        if self.seen is not None:
            return np.asarray(self.scatter / np.where(self.seen[1] > 0, self.seen[1], 1.0))
        return np.asarray(diagonal(self.scatter) / self.weight)


@dataclass(frozen=True)
class Frame:
    """The coordinates that a fit works in: each feature shifted to mean 0 and scaled to sd 1.

    Timestamps of 1.7e12 and rates of 1e-8 then cost no digits. `correlation` is the second moment
    of all the data in these coordinates, (d, d), or its diagonal (d,) as in the profile; `weight`
    is the sum of the row weights. Where values are missing `seen` (d,) is the share of the weight
    that each feature is there in, and the second moments are those of the values that are there.
    """

    shift: Array
    scale: Array
    correlation: Array
    weight: float
    seen: Array | None = None

    @classmethod
    def of(cls, profile: Profile) -> Frame:
        """Take mean and standard deviation from the profile."""
        scale = np.sqrt(profile.variance)
        if profile.seen is not None:
            share = profile.seen[1] / profile.weight
            return cls(profile.mean, scale, np.ones(len(scale)), profile.weight, share)
        correlation = profile.scatter / profile.weight / squared(scale, profile.scatter)
        return cls(profile.mean, scale, correlation, profile.weight)

    def over(self, blocks: Sequence[Block]) -> Frame:
        """Keep the coordinates, but take the constants of the data from these rows: a sample."""
        Z, w = self.standardise(blocks)
        if self.seen is not None:
            share = w @ ~np.isnan(Z) / w.sum()
            return replace(self, weight=float(w.sum()), seen=share)
        second = second_moment(Z.T, w) if self.correlation.ndim == 2 else squares(Z.T, w)
        return replace(self, correlation=second / w.sum(), weight=float(w.sum()))

    def standardise(self, blocks: Sequence[Block]) -> tuple[Array, Array]:
        """Return some rows in these coordinates, (n, d), and their weights, (n,)."""
        shift, scale = self.shift[:, None], self.scale[:, None]
        Z = np.empty((count_rows(blocks), len(shift)))
        start = 0
        for block in blocks:
            mine = Z[start : start + block.n_rows]
            for some in bands(len(shift), block.n_rows):
                band = block.values[: len(shift)][some] - shift[some]
                band /= scale[some]
                mine[:, some] = band.T
            start += block.n_rows
        return Z, np.concatenate([block.row_weights for block in blocks])

    @property
    def log_volume(self) -> float:
        """What a row's log density loses, on average, on the way back to the data's units."""
        if self.seen is not None:
            return float(np.log(self.scale) @ self.seen)
        return float(np.log(self.scale).sum())


def bands(d: int, n: int) -> list[slice]:
    """Cut d features of n rows, or rows of features, into bands that stay in cache in between.

    Their sizes are multiples of 16, and the last has what is left beside: so BLAS adds up each
    of them as it does in the whole.
    """
    step = max(16, _BAND_BYTES // (8 * max(n, 1)) // 16 * 16)
    edges = [*range(0, d - step + 1, step)] or [0]
    return [slice(start, stop) for start, stop in pairwise([*edges, d]) if stop > start]


def squared(scale: Array, like: Array) -> Array:
    """Return what second moments, (d, d) or a diagonal (d,), are multiplied by for `scale` (d,)."""
    return np.outer(scale, scale) if like.ndim == 2 else np.asarray(scale**2)
