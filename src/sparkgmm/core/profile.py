"""Blocks of rows, and what one look at them shows: counts, centred moments and range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from sparkgmm.products import Array, second_moment

_BLOCK_BYTES = 2**21
# Below it the sum of the weights, or what it is multiplied by, would be subnormal: without digits.
LEAST_WEIGHT = 1e-290


class Block(NamedTuple):
    """Rows held feature-major, so that a pass needs no transpose.

    `values` is (d, rows), C-contiguous, float32 or float64 as the source had it;
    `weights` is (rows,) float64, every one above 0, or None where all are 1.
    """

    values: Array
    weights: Array | None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.values.shape[1])


def block_rows(d: int) -> int:
    """Return how many rows a block holds: about 2 MiB of float64, whatever the machine.

    But 2048 at least: products of fewer rows are a tenth slower (measured at d = 200 and 300).
    """
    return max(2048, _BLOCK_BYTES // (8 * d) // 1024 * 1024)


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
    """Weighted count, mean (d,), centred scatter (d, d) and range of some rows."""

    n_rows: int
    weight: float
    mean: Array
    scatter: Array
    low: Array
    high: Array

    @classmethod
    @np.errstate(over="ignore", invalid="ignore")
    def of(cls, block: Block) -> Profile:
        """Profile one block; the sums are float64 whatever the block holds.

        Where they overflow the variance is not finite; the fit refuses such a feature by name.
        """
        X = block.values.astype(np.float64)
        w = np.ones(block.n_rows) if block.weights is None else block.weights
        weight = float(w.sum())
        # A shift that is among the rows first: sums of 1.7e12 would lose the digits that differ.
        origin = X[:, :1].copy()
        X -= origin
        offset = X @ w / weight
        X -= offset[:, None]
        return cls(
            block.n_rows,
            weight,
            origin[:, 0] + offset,
            second_moment(X, block.weights),
            block.values.min(axis=1).astype(np.float64),
            block.values.max(axis=1).astype(np.float64),
        )

    @np.errstate(over="ignore", invalid="ignore")
    def __add__(self, other: Profile) -> Profile:
        """Merge two profiles: Chan, Golub and LeVeque (1979), eq. 1.5, in several dimensions."""
        weight = self.weight + other.weight
        share = other.weight / weight
        delta = other.mean - self.mean
        return Profile(
            self.n_rows + other.n_rows,
            weight,
            self.mean + share * delta,
            self.scatter + other.scatter + np.outer(delta, delta) * (self.weight * share),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    def pack(self) -> Array:
        """Return the profile as one flat array of numbers, every one exact."""
        numbers = [float(self.n_rows), self.weight]
        return np.concatenate([numbers, self.mean, self.scatter.ravel(), self.low, self.high])

    @classmethod
    def unpack(cls, packed: Array, d: int) -> Profile:
        """Undo `pack`."""
        mean, scatter, low, high = np.split(packed[2:], [d, d + d * d, 2 * d + d * d])
        n_rows, weight = packed[:2].tolist()
        return cls(int(n_rows), weight, mean, scatter.reshape(d, d), low, high)

    @property
    def rows_per_weight(self) -> float:
        """What makes rows of effective counts: weights of 3 are 3 rows, but shares are not less."""
        return max(1.0, self.n_rows / self.weight)

    @property
    def variance(self) -> Array:
        """Weighted variance of each feature (divided by the sum of weights), shape (d,)."""
        return np.diagonal(self.scatter) / self.weight


@dataclass(frozen=True)
class Frame:
    """The coordinates that a fit works in: each feature shifted to mean 0 and scaled to sd 1.

    Timestamps of 1.7e12 and rates of 1e-8 then cost no digits. `correlation` (d, d) is the
    second moment of all the data in these coordinates; `weight` is the sum of the row weights.
    """

    shift: Array
    scale: Array
    correlation: Array
    weight: float

    @classmethod
    def of(cls, profile: Profile) -> Frame:
        """Take mean and standard deviation from the profile."""
        scale = np.sqrt(profile.variance)
        correlation = profile.scatter / profile.weight / np.outer(scale, scale)
        return cls(profile.mean, scale, correlation, profile.weight)

    def over(self, blocks: Sequence[Block]) -> Frame:
        """Keep the coordinates, but take the constants of the data from these rows: a sample."""
        Z, w = self.standardise(blocks)
        return replace(self, correlation=second_moment(Z.T, w) / w.sum(), weight=float(w.sum()))

    def standardise(self, blocks: Sequence[Block]) -> tuple[Array, Array]:
        """Return some rows in these coordinates, (n, d), and their weights, (n,)."""
        X = np.concatenate([block.values for block in blocks], axis=1).astype(np.float64)
        Z = np.ascontiguousarray(((X - self.shift[:, None]) / self.scale[:, None]).T)
        return Z, np.concatenate(
            [np.ones(b.n_rows) if b.weights is None else b.weights for b in blocks]
        )

    @property
    def log_volume(self) -> float:
        """What a row's log density loses on the way back to the data's units."""
        return float(np.log(self.scale).sum())
