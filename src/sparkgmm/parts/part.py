"""What a part is: a factor of a component's density over one column beside the numeric ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from sparkgmm.products import Array


class Column(NamedTuple):
    """A column that is modelled by a part: its name, which of PARTS, and the levels it may have."""

    name: str
    kind: str
    levels: tuple[str, ...] = ()


class Part(Protocol):
    """One factor of the density of each of k components.

    log f_j(x) = natural_j . t(x). What a row's density has beside that (the log of x! of a count)
    is an entry of t whose natural parameter is 1 for every component. A value that is not known,
    NaN, makes all entries of t 0: then the factor is 1, which integrates the value out.
    """

    @property
    def of(self) -> Column:
        """The column that it is of."""
        ...

    @property
    def column(self) -> int:
        """Where that column is among all columns of a block."""
        ...

    @property
    def width(self) -> int:
        """The number of entries of t(x)."""
        ...

    @property
    def n_parameters(self) -> int:
        """The number of free parameters of all components."""
        ...

    @property
    def natural(self) -> Array:
        """The natural parameters, (k, width)."""
        ...

    @property
    def sound(self) -> bool:
        """Whether the parameters are numbers to go on with: an extrapolation may overflow."""
        ...

    def fill(self, values: Array, out: Array) -> None:
        """Set out (width, n) to t of n rows; `values` are all columns of a block, (D, n)."""
        ...

    def known(self, values: Array) -> Array:
        """Return at which of n rows (D, n) there is a value that the part knows, (n,)."""
        ...

    def log_density(self, values: Array) -> Array:
        """Return the log of the factor at n rows (D, n), (k, n): -inf where it is 0."""
        ...

    def coordinates(self, values: Array) -> Array:
        """Return n rows (D, n) as points whose distances tell them apart, (m, n), for starts."""
        ...

    def estimate(self, counts: Array, sums: Array) -> Self:
        """Return the M-step: from effective counts (k,) and sums of t (k, width)."""
        ...

    def pack(self) -> Array:
        """Return coordinates without bounds: any vector of as many numbers is such a part."""
        ...

    def unpacked(self, vector: Array) -> Self:
        """Undo `pack`."""
        ...

    def metric(self, root: Array) -> Array:
        """Return what the coordinates of `pack` are weighed by: the root of their information.

        `root` (k, 1) are the roots of the components' weights.
        """
        ...

    def slopes(self, sums: Array) -> Array:
        """Return the derivatives of natural . sums (k, width) by the coordinates, (k, m)."""
        ...

    def scores(self, j: int, values: Array) -> Array:
        """Return those of component j's log factor at n rows (D, n), (m, n)."""
        ...

    @property
    def free(self) -> Array:
        """For each component the direction that its coordinates may take at will, (k, m), or 0."""
        ...

    def take(self, which: Array) -> Self:
        """Return the factors of some components."""
        ...

    def joined(self, others: Sequence[Self]) -> Self:
        """Return the factors of these components and of those of the others, in turn."""
        ...

    def with_mean_at(self, j: int, which: Array) -> Self:
        """Give component j what some others are on average."""
        ...

    def alike(self, i: int, j: int, tolerance: float) -> bool:
        """Say whether two components have the same factor, to this share."""
        ...

    def affinity(self, other: Part) -> Array:
        """Return the logs of Bhattacharyya's coefficients of components with others', (k, k').

        Of a part of another kind there is nothing to compare: 0.
        """
        ...

    def aligned(self, of: Column, column: int, unseen: float = 1.0) -> Self:
        """Return the same for rows that have the column elsewhere, and perhaps other levels.

        `unseen` is the factor of levels that the part does not have: 1 is as if they were not
        known, 0 as if they could not be.
        """
        ...

    def likely(self, shares: Array) -> Array:
        """Return what to take for n values not known, of components' shares (n, k), (n,)."""
        ...

    def sample(self, labels: Array, rng: np.random.Generator) -> Array:
        """Draw a value from the components of these labels (n,), (n,)."""
        ...

    def summary(self, j: int) -> str:
        """Say in a few words what component j has."""
        ...

    def written(self) -> dict[str, list[float]] | list[float]:
        """Return the parameters for JSON: k numbers, or k numbers of each level."""
        ...


Parts = tuple[Part, ...]


def fill(parts: Sequence[Part], values: Array) -> Array:
    """Return t(x) of all parts for the columns of a block (D, n), (width, n)."""
    T = np.empty((sum(part.width for part in parts), values.shape[1]))
    first = 0
    for part in parts:
        part.fill(values, T[first : first + part.width])
        first += part.width
    return T


def natural(parts: Sequence[Part]) -> Array:
    """Return the natural parameters of one part or more, (k, width)."""
    return np.concatenate([part.natural for part in parts], axis=1)


def split(parts: Sequence[Part], sums: Array) -> tuple[Array, ...]:
    """Cut sums of t (k, width) into those of each part."""
    ends = np.cumsum([part.width for part in parts])
    return tuple(np.split(sums, ends[:-1], axis=1)) if parts else ()


def estimated(parts: Sequence[Part], counts: Array, sums: Sequence[Array]) -> Parts:
    """Return the M-step of all parts, from effective counts (k,) and each one's sums."""
    pairs = zip(parts, sums, strict=True)
    return tuple(part.estimate(counts, of_part) for part, of_part in pairs)


def cut_vector(parts: Sequence[Part], vector: Array) -> Parts:
    """Undo the concatenation of the parts' coordinates."""
    ends = np.cumsum([len(part.pack()) for part in parts])
    vectors = np.split(vector, ends[:-1])
    return tuple(part.unpacked(v) for part, v in zip(parts, vectors, strict=True))
