"""Parts: a component's density is a product of factors over different columns.

The first factor is the Gaussian over the numeric columns, which the engine knows inside out. Every
other one is a `Part`: counts, categories, whatever is an exponential family. It fills rows of T and
reads rows of S; the products eta T and R T^T and the softmax between them never change.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, Self

import numpy as np

from sparkgmm.products import Array


class Part(Protocol):
    """One factor of the density of each of k components.

    log f_j(x) = natural_j . t(x) + constant_j. What a row's density has beside that (the log of x!
    of a count) is an entry of t whose natural parameter is 1 for every component.
    """

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
    def constants(self) -> Array:
        """The log normalisers with their sign, (k,)."""
        ...

    @property
    def sound(self) -> bool:
        """Whether the parameters are numbers to go on with: an extrapolation may overflow."""
        ...

    def fill(self, values: Array, out: Array) -> None:
        """Set out (width, n) to t of n rows; `values` are all columns of a block, (D, n)."""
        ...

    def estimate(self, counts: Array, sums: Array) -> Self:
        """Return the M-step: from effective counts (k,) and sums of t (k, width), a prior's too."""
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

    def take(self, which: Array) -> Self:
        """Return the factors of some components."""
        ...

    def with_mean_at(self, j: int, which: Array) -> Self:
        """Give component j what some others are on average."""
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


def cut_vector(parts: Sequence[Part], vector: Array) -> Parts:
    """Undo the concatenation of the parts' coordinates."""
    ends = np.cumsum([len(part.pack()) for part in parts])
    vectors = np.split(vector, ends[:-1])
    return tuple(part.unpacked(v) for part, v in zip(parts, vectors, strict=True))
