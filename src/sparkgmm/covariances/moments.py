"""What a pass over the rows says of each component, and which part of it a family needs.

Everything is in standardised coordinates: each feature has mean 0 and standard deviation 1.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple, Protocol

import numpy as np

from sparkgmm.products import Array, second_moment


@cache
def diagonal_order(d: int) -> tuple[Array, Array]:
    """Return row and column of each product x_i x_j in the order of T: diagonal by diagonal.

    They are the same arrays at every call, which are not to be written to: every pass of every
    candidate asks for them.
    """
    rows = np.concatenate([np.arange(d - s) for s in range(d)])
    columns = np.concatenate([np.arange(s, d) for s in range(d)])
    rows.setflags(write=False)
    columns.setflags(write=False)
    return rows, columns


def symmetric(packed: Array, d: int) -> Array:
    """Return symmetric matrices (..., d, d) of their diagonals one after the other."""
    rows, columns = diagonal_order(d)
    matrices = np.empty((*packed.shape[:-1], d, d))
    matrices[..., rows, columns] = packed
    matrices[..., columns, rows] = packed
    return matrices


class Moments(NamedTuple):
    """Per component: effective count (k,), sum (k, d) and second moment, about `origin` (k, d).

    `second` is (k, d, d), or its diagonal (k, d), or None where the family needs none. `scale` (d,)
    is the standard deviation of each feature in the data's units, and `total` the second moment of
    all the rows, a row, in standardised coordinates: (d, d), or its diagonal (d,) where no family
    asks for more. `ridge`, a number or (d,), is what a prior adds to the variances of every
    component. `others` are the sums (k, width) of parts beside the Gaussian.

    Where values are missing these are expected sums, given what is there. Then `seen` (k, d) are
    the effective counts of the rows that have each feature, and `hidden` (k,) the entropy of the
    missing values, in nats. `seen` is None where nothing is missing.
    """

    counts: Array
    first: Array
    second: Array | None
    origin: Array
    scale: Array
    total: Array
    ridge: float | Array = 0.0
    others: tuple[Array, ...] = ()
    seen: Array | None = None
    hidden: float | Array = 0.0

    @classmethod
    def unpack(
        cls,
        packed: Array,
        origin: Array,
        scale: Array,
        total: Array,
        others: tuple[Array, ...] = (),
    ) -> Moments:
        """Read the (k, F) array of a pass, F as in `Statistics.n_features`."""
        d = origin.shape[1]
        counts, first, rest = packed[:, 0], packed[:, 1 : 1 + d], packed[:, 1 + d :]
        second: Array | None = None
        if rest.shape[1] == d != 1:  # of one feature, the diagonal is all there is: dense
            second = rest
        elif rest.shape[1]:
            second = symmetric(rest, d)
        return cls(counts, first, second, origin, scale, total, others=others)

    @property
    def offset(self) -> Array:
        """The components' means less their origins, (k, d)."""
        return self.first / self.counts[:, None]

    @property
    def known(self) -> Array:
        """The effective counts by which widths are judged: (k,), or (k, d) where values miss."""
        return self.counts if self.seen is None else self.seen

    @property
    def shares(self) -> Array:
        """The components' shares of the rows, (k,)."""
        return self.counts / self.counts.sum()

    def scatter(self) -> Array:
        """Return each component's second moment about its own mean, (k, d, d) or (k, d)."""
        assert self.second is not None
        offset = self.offset
        if self.second.ndim == 2:
            return self.second / self.counts[:, None] - offset**2
        return self.second / self.counts[:, None, None] - offset[:, :, None] * offset[:, None, :]

    def squares(self) -> Array:
        """Return the second moments of single features about the origins, (k, d)."""
        assert self.second is not None
        return self.second if self.second.ndim == 2 else np.einsum("kii->ki", self.second)

    def added_to(self, new: Moments) -> Moments:
        """Return `new`, moments of other rows about the same origins, with these added to it.

        They are added as far as the new ones go, and the constants of the data are the new ones'.
        """
        second = new.second
        if new.second is not None and self.second is not None:
            if new.second.ndim == self.second.ndim:
                second = new.second + self.second
            else:
                second = new.squares() + self.squares()
        seen = None
        if new.seen is not None or self.seen is not None:
            mine, theirs = (
                np.broadcast_to(m.counts[:, None], m.first.shape) if m.seen is None else m.seen
                for m in (self, new)
            )
            seen = mine + theirs
        return new._replace(
            seen=seen,
            hidden=new.hidden + self.hidden,
            counts=new.counts + self.counts,
            first=new.first + self.first,
            second=second,
            others=tuple(a + b for a, b in zip(new.others, self.others, strict=True)),
        )


class Statistics(Protocol):
    """How much of T(x) = (1, x, x^2, x_i x_j) a family needs of a pass, and what it makes of it."""

    def n_features(self, d: int) -> int:
        """Count the leading entries of T(x) that a pass has to add up."""
        ...

    def spread(self, moments: Moments) -> Array:
        """Return the covariances about the components' means, as compact as they may be.

        The ridge of the moments is added to each variance.
        """
        ...

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """Return the shape of a spread."""
        ...

    def squared(self, scale: Array) -> Array:
        """Return what a spread is multiplied by where features are multiplied by `scale` (d,)."""
        ...

    def second(self, spread: Array, means: Array) -> Array:
        """Return the second moments, a row, of components of these means (k, d) and spread."""
        ...


class _Products:
    """All products of two features, of each component: spreads are (k, d, d)."""

    def n_features(self, d: int) -> int:
        return 1 + d + d * (d + 1) // 2

    def spread(self, moments: Moments) -> Array:
        scatter = moments.scatter()
        np.einsum("kii->ki", scatter)[...] += moments.ridge
        return scatter

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return k, d, d

    def squared(self, scale: Array) -> Array:
        return np.outer(scale, scale)

    def second(self, spread: Array, means: Array) -> Array:
        dense = np.broadcast_to(spread, (*means.shape, means.shape[1]))
        return dense + means[:, :, None] * means[:, None, :]


class _Pooled(_Products):
    """The spread of all components together, (d, d).

    The quadratic term of a covariance that is common to all components cancels from the
    responsibilities, and the total scatter is a constant of the data: a pass needs neither.
    """

    def n_features(self, d: int) -> int:
        return 1 + d

    def spread(self, moments: Moments) -> Array:
        if moments.second is None:
            means = moments.origin + moments.offset
            within = second_moment(means.T, moments.counts) / moments.counts.sum()
            pooled = np.asarray(moments.total - within)
        else:
            pooled = np.tensordot(moments.shares, moments.scatter(), axes=1)
        pooled[np.diag_indices_from(pooled)] += moments.ridge
        return pooled

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return d, d


class _Squares:
    """The squares of the features, of each component: spreads are variances (k, d)."""

    def n_features(self, d: int) -> int:
        return 1 + 2 * d

    def spread(self, moments: Moments) -> Array:
        scatter = moments.scatter()
        variances = scatter if scatter.ndim == 2 else np.einsum("kii->ki", scatter)
        return np.asarray(variances + moments.ridge)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return k, d

    def squared(self, scale: Array) -> Array:
        return np.asarray(scale**2)

    def second(self, spread: Array, means: Array) -> Array:
        return np.asarray(spread + means**2)


PRODUCTS: Statistics = _Products()
POOLED: Statistics = _Pooled()
SQUARES: Statistics = _Squares()
