"""The only computation that touches rows: sufficient statistics of a block, and two of them add.

A Gaussian mixture of any covariance type is an exponential family over the features of a row,

    T(x) = (1, x, x^2, x_i x_j)                F = 1 + d + d(d+1)/2 values

so for a block of rows, with T of shape (F, rows):

    E-step    log(weight_j N(x; mean_j, covariance_j)) = eta_j . T(x)      L = eta @ T
              responsibilities R = softmax of L over the components of a candidate
    M-step    effective counts, sums and second moments                    S = R @ T^T

Candidates (each k, each covariance type, each start) stack their rows of eta: one product serves
all.

The products cancel where a component is far narrower than its distance from the origin: such a one
is measured about its own mean instead. And T outgrows the cache where d is large: there
`WhitenedKernel` computes the same statistics, a component at a time. Where covariances are diagonal
T is (1, x, x^2), which never does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, reduce
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np

from sparkgmm.core.model import Model
from sparkgmm.core.profile import Block, Frame
from sparkgmm.covariances.moments import diagonal_order
from sparkgmm.density import (
    centred_on,
    exponentials,
    natural_parameters,
    subtract_squares,
    whitened,
)
from sparkgmm.parts import Parts, fill, natural
from sparkgmm.products import Array, add_product, aligned_empty, fill_monomials, multiply

# A chunk's T, or its X and Z, fill so many values of a second-level cache of 2 MB, within these
# numbers of rows: fewer cost more, for the calls, than a T that outgrows the cache.
_NATURAL_VALUES, _NATURAL_ROWS = 5 * 2**15, (400, 5000)
# A candidate's joint densities of a chunk are so many at most: with 1,000 components in 2 columns
# a pass took 82 ms when they were five times as many, and takes 64.
_JOINT_VALUES = 2**20
_WHITENED_VALUES, _WHITENED_ROWS = 2**18, (400, 1040)
# A band of the whitened kernel's triangular factors has about so many rows.
_BAND_ROWS = 12
# Responsibilities are exp of this at least: nothing beside any that counts, but neither they nor
# products with them are subnormal numbers, which cost a hundred times as much.
_LEAST = -600.0


class Sums(NamedTuple):
    """A candidate's packed moments (k, F) and its log-likelihood, in standardised coordinates."""

    moments: Array
    log_likelihood: float


def total(parts: Sequence[Sequence[Sums]]) -> list[Sums]:
    """Add the statistics of several blocks, candidate by candidate, in the order given."""
    return [
        Sums(
            reduce(np.add, (s.moments for s in candidate)),
            math.fsum(s.log_likelihood for s in candidate),
        )
        for candidate in zip(*parts, strict=True)
    ]


def add_partitions(parts: Sequence[Sequence[Sums]]) -> list[Sums]:
    """Add the statistics of partitions in the order given; those without rows have none."""
    return total([sums for sums in parts if sums])


def standardise(block: Block, rows: slice, frame: Frame, out: Array) -> Array:
    """Set out (d, n) to some rows of a block, standardised."""
    np.subtract(block.values[: len(out), rows], frame.shift[:, None], out=out)
    out *= 1 / frame.scale[:, None]
    return out


def _chunk_rows(n: int, most: int, limits: tuple[int, int]) -> int:
    """Cut n rows into chunks of nearly one size, of about `most` rows within the limits.

    The size is an odd number of cache lines. At powers of two all rows of a chunk begin in the
    same few sets of the first-level cache, which costs a third of the speed (measured at 1024 and
    4096).
    """
    least, greatest = limits
    most = max(least, min(most, greatest))
    step = -(-n // -(-n // most))
    return step + (8 - step) % 16


def softmax(L: Array, w: Array | None) -> float:
    """Turn log joint densities (k, rows) into weighted responsibilities; return their total."""
    top = L.max(axis=0)
    norm = exponentials(L, top, _LEAST)
    if w is None:
        L *= 1 / norm
        return float(top.sum()) + _sum_of_logs(norm)
    L *= w / norm
    top += np.log(norm)
    return float(top @ w)


def _sum_of_logs(norm: Array) -> float:
    """Return the sum of log(norm), of values from 1 to k, by the logs of products of eight."""
    whole = len(norm) // 8 * 8
    products = norm[:whole].reshape(8, -1).prod(axis=0)
    return float(np.log(products).sum() + np.log(norm[whole:]).sum())


@dataclass(frozen=True)
class _Narrow:
    """A component that is measured about its own mean, and its row of which eta."""

    group: int
    row: int
    log_norm: float
    mean: Array
    whitener: Array

    def set_joint(self, X: Array, L: Array, Z: Array, Y: Array) -> None:
        """Set its row of L (k, n), log joint densities of X (d, n); Z and Y are buffers."""
        mine = slice(self.row, self.row + 1)
        L[mine] = self.log_norm
        subtract_squares(self.whitener[None], centred_on(self.mean, X, out=Z), L[mine], Y)

    def add_moments(self, X: Array, R: Array, Z: Array, out: Array) -> None:
        """Add the second moment (1 + d, 1 + d) of (1; X - mean), of its row of R (k, n)."""
        np.multiply(centred_on(self.mean, X, out=Z), np.sqrt(R[self.row]), out=Z)
        out += Z @ Z.T

    def no_moments(self) -> Array:
        """Return moments of no rows, to add to."""
        d = len(self.mean)
        return np.zeros((1 + d, 1 + d))

    def packed(self, moments: Array, width: int) -> Array:
        """Return the leading entries of moments in the order of T."""
        return moments.ravel()[_packed_order(len(self.mean))[:width]]


@dataclass(frozen=True)
class _NarrowDiagonal(_Narrow):
    """One of diagonal covariance: the whitener is (d,), moments are those of (1; x; x^2)."""

    def set_joint(self, X: Array, L: Array, Z: Array, Y: Array) -> None:
        Y = Y[: len(X)]
        np.multiply(np.subtract(X, self.mean[:, None], out=Y), self.whitener[:, None], out=Y)
        L[self.row] = self.log_norm
        L[self.row] -= 0.5 * np.einsum("in,in->n", Y, Y)

    def add_moments(self, X: Array, R: Array, Z: Array, out: Array) -> None:
        d, r = len(X), R[self.row]
        residuals = centred_on(self.mean, X, out=Z)
        out[: 1 + d] += residuals @ r
        np.multiply(residuals, residuals, out=residuals)
        out[1 + d :] += residuals[1:] @ r

    def no_moments(self) -> Array:
        return np.zeros(1 + 2 * len(self.mean))

    def packed(self, moments: Array, width: int) -> Array:
        return moments[:width]


@dataclass(frozen=True)
class NaturalKernel:
    """E-step and sufficient statistics by two matrix products, for all candidates at once.

    Rows of the products that would cancel are replaced, a narrow component at a time.
    """

    frame: Frame
    etas: tuple[Array, ...]
    # How many candidates share each eta, as the row where each begins and the last ends.
    bounds: tuple[tuple[int, ...], ...]
    narrow: tuple[_Narrow, ...]
    # Parts beside the Gaussian fill rows of T; their rows of eta, for each of the stacks above.
    parts: Parts = ()
    part_etas: tuple[Array, ...] = ()

    @classmethod
    def of(
        cls, models: Sequence[Model], frame: Frame, narrow: Sequence[Array] | None = None
    ) -> NaturalKernel:
        """Stack the candidates; those that need the same features of T must be next to each other.

        All have the same kinds of parts: one T serves all.

        `narrow` says for each which of its components (k,) are to be measured about their means:
        none of one whose components share a covariance: its products lack a term.
        """
        etas: list[list[Array]] = []
        part_etas: list[list[Array]] = []
        parts = models[0].others
        narrow_ones: list[_Narrow] = []
        for i, model in enumerate(models):
            eta = natural_parameters(model)
            if not (etas and etas[-1][0].shape[1] == eta.shape[1]):
                etas.append([])
                part_etas.append([])
            first = sum(map(len, etas[-1]))
            etas[-1].append(eta)
            if parts:
                part_etas[-1].append(natural(model.others))
            if narrow is not None and narrow[i].any():
                which = np.flatnonzero(narrow[i])
                log_norms, whiteners = whitened(model, True, which)
                means = model.means[which]
                kind = _NarrowDiagonal if model.family.diagonal else _Narrow
                narrow_ones += [
                    kind(len(etas) - 1, first + j, log_norm, mean, V)
                    for j, log_norm, mean, V in zip(
                        which.tolist(), log_norms.tolist(), means, whiteners, strict=True
                    )
                ]
        bounds = (tuple(np.cumsum([0, *map(len, group)]).tolist()) for group in etas)
        stacked = tuple(np.concatenate(group) for group in etas)
        beside = tuple(np.concatenate(group) for group in part_etas) if parts else ()
        return cls(frame, stacked, tuple(bounds), tuple(narrow_ones), parts, beside)

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        numbers = [np.array([c.group, c.row, c.log_norm]) for c in self.narrow]
        whiteners = [c.whitener for c in self.narrow]
        means = [c.mean for c in self.narrow]
        stacked = *self.etas, *map(np.array, self.bounds), *self.part_etas
        return self.frame.shift, self.frame.scale, *stacked, *numbers, *means, *whiteners

    def __call__(self, block: Block) -> list[Sums]:
        """Return the statistics of one block, a candidate each."""
        d, n = len(self.frame.shift), block.n_rows
        F = max(eta.shape[1] for eta in self.etas)
        k = max(end - first for bounds in self.bounds for first, end in pairwise(bounds))
        most = _NATURAL_VALUES // (F + sum(part.width for part in self.parts))
        step = _chunk_rows(n, min(most, _JOINT_VALUES // k), _NATURAL_ROWS)
        T_buffer = aligned_empty(F, step)
        L_buffer = aligned_empty(max(len(eta) for eta in self.etas), step)
        Z_buffer, Y_buffer = aligned_empty(1 + d, step), aligned_empty(d, step)
        moments = [np.zeros_like(eta) for eta in self.etas]
        beside = [np.zeros_like(eta) for eta in self.part_etas]
        narrow = [(c, c.no_moments()) for c in self.narrow]
        narrow_of = [[(c, S_c) for c, S_c in narrow if c.group == g] for g in range(len(self.etas))]
        log_likelihoods = [[0.0] * (len(bounds) - 1) for bounds in self.bounds]
        for start in range(0, n, step):
            rows = slice(start, min(start + step, n))
            T = T_buffer[:, : rows.stop - start]
            X, Z, Y = T[1 : 1 + d], Z_buffer[:, : T.shape[1]], Y_buffer[:, : T.shape[1]]
            fill_monomials(standardise(block, rows, self.frame, X), T)
            w = None if block.weights is None else block.weights[rows]
            T_parts = fill(self.parts, block.values[:, rows]) if self.parts else None
            for g, (eta, bounds) in enumerate(zip(self.etas, self.bounds, strict=True)):
                T_used, L = T[: eta.shape[1]], L_buffer[: len(eta), : T.shape[1]]
                multiply(eta, T_used, out=L)
                for c, _ in narrow_of[g]:
                    c.set_joint(X, L, Z, Y)
                if T_parts is not None:
                    L += self.part_etas[g] @ T_parts
                for i, (first, end) in enumerate(pairwise(bounds)):
                    log_likelihoods[g][i] += softmax(L[first:end], w)
                add_product(L, T_used, out=moments[g])
                if T_parts is not None:
                    beside[g] += L @ T_parts.T
                for c, S_c in narrow_of[g]:
                    c.add_moments(X, L, Z, out=S_c)
        for c, S_c in narrow:
            here = moments[c.group]
            here[c.row] = c.packed(S_c, here.shape[1])
        if self.parts:
            moments = [np.concatenate(both, axis=1) for both in zip(moments, beside, strict=True)]
        return [
            Sums(moments[g][first:end], log_likelihoods[g][i])
            for g, bounds in enumerate(self.bounds)
            for i, (first, end) in enumerate(pairwise(bounds))
        ]


@dataclass(frozen=True)
class WhitenedKernel:
    """The same statistics of one candidate, a component at a time, by its whitened residuals.

    With X = (1; x) and V_j = (-L_j^-1 (mean_j - origin_j), L_j^-1), L_j the Cholesky factor:

        E-step    log joint density_j = log_norm_j - |V_j X|^2 / 2
        M-step    Z = X sqrt(r_j),  S_j = Z Z^T         a symmetric product

    Half of V_j is zeros and half of S_j is a mirror image, so both products cost half of a full
    one. Where a component is narrow for its distance from the frame's origin, `origins` are the
    means and X is taken about them: then nothing cancels. Else they are zero.
    """

    frame: Frame
    log_norms: Array
    whiteners: Array
    origins: Array
    centred: bool
    # Parts beside the Gaussian, and their rows of eta, (k, width).
    parts: Parts
    part_eta: Array

    @classmethod
    def of(cls, model: Model, frame: Frame, centred: bool) -> WhitenedKernel:
        """Prepare one candidate whose covariances are not diagonal."""
        origins = model.means if centred else np.zeros_like(model.means)
        log_norms, whiteners = whitened(model, centred, np.arange(model.k))
        part_eta = natural(model.others) if model.others else np.empty((model.k, 0))
        return cls(frame, log_norms, whiteners, origins, centred, model.others, part_eta)

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        frame = self.frame
        beside = (self.part_eta,) if self.parts else ()
        return frame.shift, frame.scale, self.log_norms, self.whiteners, self.origins, *beside

    def __call__(self, block: Block) -> list[Sums]:
        """Return the statistics of one block, about the origins."""
        k, d = self.origins.shape
        bands = self._bands
        S = np.zeros((k, 1 + d, 1 + d))
        beside = np.zeros_like(self.part_eta)
        log_likelihood = 0.0
        step = _chunk_rows(block.n_rows, _WHITENED_VALUES // (2 + 2 * d), _WHITENED_ROWS)
        n_rows = (1 + d, 1 + d, k, max(V.shape[0] * V.shape[1] for V in bands))
        buffers = [aligned_empty(n, step) for n in n_rows]
        for start in range(0, block.n_rows, step):
            rows = slice(start, min(start + step, block.n_rows))
            X, Z, R, Y = (values[:, : rows.stop - start] for values in buffers)
            X[0] = 1.0
            standardise(block, rows, self.frame, X[1:])
            R[:] = self.log_norms[:, None]
            for group in self._groups():
                X_g = self._about_origin(group.start, X, out=Z)
                for V in bands:
                    subtract_squares(V[group], X_g, R[group], Y)
            T_parts = fill(self.parts, block.values[:, rows]) if self.parts else None
            if T_parts is not None:
                R += self.part_eta @ T_parts
            log_likelihood += softmax(R, None if block.weights is None else block.weights[rows])
            if T_parts is not None:
                beside += R @ T_parts.T
            np.sqrt(R, out=R)
            for j in range(k):
                np.multiply(self._about_origin(j, X, out=Z), R[j], out=Z)
                S[j] += Z @ Z.T
        moments = S.reshape(k, -1).take(_packed_order(d), axis=1)
        if self.parts:
            moments = np.concatenate([moments, beside], axis=1)
        return [Sums(moments, log_likelihood)]

    @cached_property
    def _bands(self) -> list[Array]:
        """Cut the triangular factors into bands of rows that leave out most of their zeros.

        Each is (k, rows, columns): one product serves the same band of all components.
        """
        d = self.origins.shape[1]
        edges = np.linspace(0, d, max(1, d // _BAND_ROWS) + 1).astype(int).tolist()
        return [
            np.ascontiguousarray(self.whiteners[:, low:high, : 1 + high])
            for low, high in pairwise(edges)
        ]

    def _groups(self) -> list[slice]:
        """Return the components that share an origin."""
        k = len(self.origins)
        return [slice(j, j + 1) for j in range(k)] if self.centred else [slice(0, k)]

    def _about_origin(self, j: int, X: Array, out: Array) -> Array:
        return centred_on(self.origins[j], X[1:], out) if self.centred else X


@cache
def _packed_order(d: int) -> Array:
    """Return where the flat (1 + d, 1 + d) second moment of (1; x) has each packed moment."""
    rows, columns = diagonal_order(d)
    order = np.concatenate([np.arange(1 + d), (1 + rows) * (1 + d) + 1 + columns])
    order.setflags(write=False)
    return order


class Kernel(Protocol):
    """Makes the statistics of a block, of one candidate or several; it travels to executors."""

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        ...

    def __call__(self, block: Block) -> list[Sums]:
        """Return the statistics of one block, a candidate each."""
        ...


def run_kernels(kernels: Sequence[Kernel], block: Block) -> list[Sums]:
    """Return the statistics of all candidates over one block."""
    return [sums for kernel in kernels for sums in kernel(block)]
