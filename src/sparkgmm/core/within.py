"""Passes over the rows that lie within bounds alone: the others are passed over, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkgmm.core.profile import Block, Profile
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.products import Array, second_moment, squares


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value (D,) of the first D columns, in the data's units.

    A value that is missing is within.
    """

    low: Array
    high: Array

    def kept(self, block: Block) -> Block:
        """Return the rows of a block that are within: the block itself if all are."""
        values = block.values[: len(self.low)]
        # the least and the greatest first: a block with a row beyond is rare
        inside = (values.min(axis=1) >= self.low) & (values.max(axis=1) <= self.high)
        if inside.all():
            return block
        beyond = (values < self.low[:, None]) | (values > self.high[:, None])
        keep = np.asarray(~beyond.any(axis=0))
        if keep.all():  # but some values are missing
            return block
        return block.take(keep)


@dataclass(frozen=True)
class Within:
    """A kernel over the rows that are within bounds."""

    kernel: Kernel
    bounds: Bounds

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        return *self.kernel.arrays(), self.bounds.low, self.bounds.high

    def __call__(self, block: Block) -> list[Sums]:
        """Return the statistics of one block, a candidate each."""
        return self.kernel(self.bounds.kept(block))


@dataclass(frozen=True)
class ProfileKernel:
    """Measures rows about a centre (d,), with or without products of two features.

    Where values may be missing, with `gaps`, each feature is measured by those that are there.
    """

    centre: Array
    products: bool
    gaps: bool = False

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        return self.centre, np.array([self.products, self.gaps])

    def __call__(self, block: Block) -> list[Sums]:
        """Return the number of rows, their weight and their moments, flat, as one row."""
        X = block.values[: len(self.centre)].astype(np.float64) - self.centre[:, None]
        w = block.row_weights
        numbers = np.array([float(block.n_rows), float(w.sum())])
        if self.gaps:
            there = ~np.isnan(X)
            X = np.where(there, X, 0.0)
            seen = [there.sum(axis=1), there @ w]
            flat = np.concatenate([numbers, X @ w, squares(X, block.weights), *seen])
            return [Sums(flat[None], 0.0)]
        second = second_moment(X, block.weights) if self.products else squares(X, block.weights)
        return [Sums(np.concatenate([numbers, X @ w, second.ravel()])[None], 0.0)]

    def profile(self, sums: Sums, low: Array, high: Array) -> Profile:
        """Read what was added over all blocks; the range (d,) is that of a sample."""
        d = len(self.centre)
        n_rows, weight = sums.moments[0, :2].tolist()
        first, second = sums.moments[0, 2 : 2 + d], sums.moments[0, 2 + d :]
        if self.gaps:
            second, seen = second[:d], second[d:].reshape(2, d)
            offset = first / np.where(seen[1] > 0, seen[1], 1.0)
            scatter = second - seen[1] * offset**2
            return Profile(int(n_rows), weight, self.centre + offset, scatter, low, high, seen=seen)
        offset = first / weight
        if len(second) == d * d:
            scatter = second.reshape(d, d) - weight * np.outer(offset, offset)
        else:
            scatter = second - weight * offset**2
        return Profile(int(n_rows), weight, self.centre + offset, scatter, low, high)
