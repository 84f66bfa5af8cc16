"""Passes over the rows that lie within bounds alone: the others are passed over, block by block."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkgmm.core.profile import Block, Profile
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.products import Array, second_moment, squares


@dataclass(frozen=True)
class Bounds:
    """The least and the greatest value (d,) of the first d features, in the data's units."""

    low: Array
    high: Array

    def kept(self, block: Block) -> Block:
        """Return the rows of a block that are within: the block itself if all are."""
        values = block.values[: len(self.low)]
        # the least and the greatest first: a block with a row beyond is rare
        inside = (values.min(axis=1) >= self.low) & (values.max(axis=1) <= self.high)
        if inside.all():
            return block
        keep = ((values >= self.low[:, None]) & (values <= self.high[:, None])).all(axis=0)
        weights = None if block.weights is None else block.weights[keep]
        return Block(np.ascontiguousarray(block.values[:, keep]), weights)


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
    """Measures rows about a centre (d,), with or without products of two features."""

    centre: Array
    products: bool

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        return self.centre, np.array([self.products])

    def __call__(self, block: Block) -> list[Sums]:
        """Return the number of rows, their weight and their moments, flat, as one row."""
        X = block.values[: len(self.centre)].astype(np.float64) - self.centre[:, None]
        w = np.ones(block.n_rows) if block.weights is None else block.weights
        second = second_moment(X, block.weights) if self.products else squares(X, block.weights)
        numbers = np.array([float(block.n_rows), float(w.sum())])
        return [Sums(np.concatenate([numbers, X @ w, second.ravel()])[None], 0.0)]

    def profile(self, sums: Sums, low: Array, high: Array) -> Profile:
        """Read what was added over all blocks; the range (d,) is that of a sample."""
        d = len(self.centre)
        n_rows, weight = sums.moments[0, :2].tolist()
        first, second = sums.moments[0, 2 : 2 + d], sums.moments[0, 2 + d :]
        offset = first / weight
        if len(second) == d * d:
            scatter = second.reshape(d, d) - weight * np.outer(offset, offset)
        else:
            scatter = second - weight * offset**2
        return Profile(int(n_rows), weight, self.centre + offset, scatter, low, high)
