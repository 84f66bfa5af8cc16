"""The sums of a pass over rows of which values are missing at random.

The E-step takes the density of what a row has, the M-step what is expected of the rest given that
(Ghahramani and Jordan 1994; Little and Rubin 2002, chapter 11): the sums are those of complete
rows,

    S_j = sum_i r_ij E[T(x_i) | what is there, component j]

so that all that comes after a pass is as ever. Rows that miss nothing go the ordinary way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from sparkgmm import gaps
from sparkgmm.core.model import Model
from sparkgmm.core.profile import Block, Frame
from sparkgmm.core.statistics import Kernel, Sums, run_kernels, softmax, standardise
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import SQUARES, diagonal_order
from sparkgmm.covariances.stacks import Dense, Diagonal
from sparkgmm.density import LOG_2PI, fill_gaps, natural_parameters, whitened
from sparkgmm.parts import Parts, fill, natural
from sparkgmm.products import Array, aligned_empty, fill_monomials

# Residuals of all components in a chunk are so many values.
_CHUNK_VALUES = 2**18
# Patterns of so many rows and more in a block go by products.
_MANY_ROWS = 32
# T of those has so many values.
_NATURAL_VALUES = 2**17
# What a missing value of variance 1 has of entropy, in nats.
_ENTROPY = 0.5 * (1 + LOG_2PI)


def without_constraint(model: Model) -> Model:
    """Return a model of which nothing is shared: of family full, or diag where it is diagonal."""
    family = model.family
    if family.diagonal:
        variances = np.ascontiguousarray(np.broadcast_to(model.stack.variances, model.means.shape))
        return Model(
            FAMILIES["diag"], model.weights, model.means, Diagonal(variances), model.others
        )
    if not family.shared:
        return Model(FAMILIES["full"], model.weights, model.means, model.stack, model.others)
    stack = Dense(np.ascontiguousarray(model.stack.dense(model.k)))
    return Model(FAMILIES["full"], model.weights, model.means, stack, model.others)


def n_extra(d: int) -> int:
    """Return how many sums there are beside the moments: weights seen, and an entropy."""
    return d + 1


def _chunks(
    block: Block, first: int, most: int, frame: Frame, d: int, parts: Parts
) -> Iterator[tuple[Array, Array | None, Array | None]]:
    """Yield the rows from `first` on, standardised (d, n), their weights, and t of the parts."""
    step = -(-(block.n_rows - first) // -(-(block.n_rows - first) // most))
    for start in range(first, block.n_rows, step):
        rows = slice(start, min(start + step, block.n_rows))
        X = standardise(block, rows, frame, np.empty((d, rows.stop - start)))
        w = None if block.weights is None else block.weights[rows]
        yield X, w, fill(parts, block.values[:, rows]) if parts else None


@cache
def _unpacked_order(d: int) -> Array:
    """Return where packed moments have each entry of (1; x) (1; x)^T, (1 + d, 1 + d)."""
    order = np.zeros((1 + d, 1 + d), dtype=np.intp)
    order[0, 1:] = order[1:, 0] = 1 + np.arange(d)
    rows, columns = diagonal_order(d)
    order[1 + rows, 1 + columns] = order[1 + columns, 1 + rows] = 1 + d + np.arange(len(rows))
    order.setflags(write=False)
    return order


def _side_by_side(M: Array) -> Array:
    """Return matrices (P, k, r, c) as k of them, (k, r, P c)."""
    return np.moveaxis(M, 0, 2).reshape(M.shape[1], M.shape[2], -1)


def _flags(features: Array, d: int) -> Array:
    """Return which of d features are among those of each pattern (P, m), (P, d)."""
    flags = np.zeros((len(features), d), dtype=bool)
    flags[np.arange(len(features))[:, None], features] = True
    return flags


@dataclass(frozen=True)
class DenseGaps:
    """A candidate whose covariances are not diagonal, on the rows that miss something.

    `origins` (k, d) are what its moments are about; `precisions` are (k, d, d), or (1, d, d) where
    all are one.
    """

    log_norms: Array
    means: Array
    precisions: Array
    whiteners: Array
    origins: Array
    parts: Parts
    part_eta: Array

    @classmethod
    def of(cls, model: Model, origins: Array) -> DenseGaps:
        """Prepare a model of family full."""
        log_norms, W = whitened(model, True, np.arange(model.k))
        eta = natural(model.others) if model.others else np.empty((model.k, 0))
        W = np.ascontiguousarray(W[:, :, 1:])
        P = np.ascontiguousarray(model.stack.precisions)
        if (P[:1] == P).all():  # as of a family that shares one
            P = P[:1]
        return cls(log_norms, model.means, P, W, origins, model.others, eta)

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        numbers = (self.log_norms, self.means, self.precisions, self.whiteners, self.origins)
        return (*numbers, self.part_eta) if self.parts else numbers

    def sums(self, block: Block, first: int, frame: Frame, out: Array) -> float:
        """Add the sums over the ordered rows from `first` on, each of which misses something.

        `out` is (k, F + d + 1 + parts); returned is the log-likelihood. Patterns of many rows go by
        products, a pattern at a time; the others all at once.
        """
        d = self.means.shape[1]
        log_likelihood = 0.0
        few = []
        narrow = bool(self.origins.any())
        for group in gaps.groups(np.isnan(block.values[:d, first:])):
            sizes = np.diff(group.starts, append=len(group.pattern))
            many = (sizes >= _MANY_ROWS) & (not narrow)
            rows = np.arange(first + group.rows.start, first + group.rows.stop)
            of_many = many[group.pattern]
            few.append(rows[~of_many])
            step = max(1, _CHUNK_VALUES // (len(self.means) * (1 + d) ** 2))
            which = np.flatnonzero(many)
            for some in (which[start : start + step] for start in range(0, len(which), step)):
                mine = rows[of_many & (group.pattern >= some[0]) & (group.pattern <= some[-1])]
                chosen = block.between(mine[0], mine[-1] + 1)
                if len(mine) < chosen.n_rows:
                    chosen = block.take(mine)
                log_likelihood += self._by_products(
                    chosen, group.features[some], sizes[some], frame, out
                )
        rest = np.concatenate(few) if few else np.empty(0, dtype=np.intp)
        if len(rest):
            chosen = block.take(rest)
            step = max(256, _CHUNK_VALUES // self.means.size)
            for X, w, T in _chunks(chosen, 0, step, frame, d, self.parts):
                log_likelihood += self._by_residuals(X, w, T, out)
        return log_likelihood

    def _by_products(
        self, block: Block, features: Array, sizes: Array, frame: Frame, out: Array
    ) -> float:
        """Add the sums over rows of P patterns, `sizes` (P,) of each, that miss features (P, m).

        With z the row, 0 where it misses a value, a pattern's densities are eta_p . T(z). What is
        expected of the row is affine in z, so that sums over T(z) are mapped once a pattern.
        """
        (k, d), m = self.means.shape, features.shape[1]
        filled = gaps.conditionals(self.precisions, features)
        eta, A = self._marginals(features, filled)
        S, beside = np.zeros_like(eta), np.zeros_like(self.part_eta)
        log_likelihood = 0.0
        ends = np.cumsum(sizes)
        starts = ends - sizes
        step = _NATURAL_VALUES // eta.shape[-1]
        T_buffer = aligned_empty(eta.shape[-1], min(step, block.n_rows))
        L_buffer = aligned_empty(k, T_buffer.shape[1])
        for start in range(0, block.n_rows, step):
            here = slice(start, min(start + step, block.n_rows))
            n = here.stop - start
            T, L = T_buffer[:, :n], L_buffer[:, :n]
            X = standardise(block, here, frame, T[1 : 1 + d])
            np.copyto(X, 0.0, where=np.isnan(X))
            fill_monomials(X, T)
            first, last = np.searchsorted(ends, [start, here.stop - 1], side="right")
            cuts = [
                (p, slice(max(starts[p] - start, 0), min(ends[p] - start, n)))
                for p in range(first, last + 1)
            ]
            for p, cut in cuts:
                np.matmul(eta[p], T[:, cut], out=L[:, cut])
            T_parts = fill(self.parts, block.values[:, here]) if self.parts else None
            if T_parts is not None:
                L += self.part_eta @ T_parts
            log_likelihood += softmax(L, None if block.weights is None else block.weights[here])
            for p, cut in cuts:
                S[p] += L[:, cut] @ T[:, cut].T
            if T_parts is not None:
                beside += L @ T_parts.T
        counts = S[..., 0].T
        sums = _side_by_side(np.matmul(A, S[..., _unpacked_order(d)]))
        sums = np.matmul(sums, np.swapaxes(_side_by_side(A), 1, 2))
        second = np.ascontiguousarray(sums[:, 1:, 1:])
        gaps.add_covariances(second, counts, features, filled)
        seen = counts.sum(axis=1, keepdims=True) - counts @ _flags(features, d)
        hidden = (counts * (m * _ENTROPY - filled.half_log_dets)).sum(axis=1)
        rows, columns = diagonal_order(d)
        every = [sums[:, :, 0], second[:, rows, columns], seen, hidden[:, None], beside]
        out += np.concatenate(every, axis=1)
        return log_likelihood

    def _marginals(self, features: Array, filled: gaps.Filled) -> tuple[Array, Array]:
        """Return eta (P, k, F) of what rows of P patterns have, and A (P, k, 1 + d, 1 + d).

        Given what is there (1; x) is expected to be A (1; z).
        """
        (k, d), (n_patterns, m) = self.means.shape, features.shape
        C = np.moveaxis(filled.covariances, (3, 2), (0, 1))
        pulls = np.swapaxes(self.precisions[:, features], 0, 1)
        slopes = -np.matmul(C, pulls)
        Q = self.precisions + np.matmul(np.swapaxes(pulls, -1, -2), slopes)
        linear = np.matmul(Q, self.means[:, :, None])[..., 0]
        constant = self.log_norms + 0.5 * m * LOG_2PI - filled.half_log_dets.T
        constant -= 0.5 * (linear * self.means).sum(axis=-1)
        rows, columns = diagonal_order(d)
        quadratic = -Q[..., rows, columns]
        quadratic[..., :d] *= 0.5
        quadratic = np.broadcast_to(quadratic, (n_patterns, k, len(rows)))
        eta = np.concatenate([constant[..., None], linear, quadratic], axis=-1)
        slopes[np.broadcast_to(_flags(features, d)[:, None, None, :], slopes.shape)] = 0.0
        A = np.zeros((n_patterns, k, 1 + d, 1 + d))
        A[..., np.arange(1 + d), np.arange(1 + d)] = 1.0
        each = np.arange(n_patterns)
        for a, f in enumerate(features.T):
            A[each, :, 1 + f, 1:] = slopes[:, :, a]
            A[each, :, 1 + f, 0] = self.means[:, f].T - (slopes[:, :, a] * self.means).sum(axis=-1)
        return eta, A

    def _by_residuals(self, X: Array, w: Array | None, T_parts: Array | None, out: Array) -> float:
        """Add the sums over rows X (d, n), whatever their patterns."""
        k, d = self.means.shape
        there = ~np.isnan(X)
        X[~there] = 0.0
        residuals = X - self.means[:, :, None]
        residuals *= there
        L = np.repeat(self.log_norms[:, None], X.shape[1], axis=1)
        found = fill_gaps(L, self.precisions, residuals, there)
        for j, W in enumerate(self.whiteners):
            Y = W @ residuals[j]
            L[j] -= 0.5 * np.einsum("in,in->n", Y, Y)
        if T_parts is not None:
            L += self.part_eta @ T_parts
        log_likelihood = softmax(L, w)
        second = np.empty((k, d, d))
        first = np.empty((k, d))
        counts = L.sum(axis=1)
        root = np.sqrt(L)
        for j, r in enumerate(L):
            first[j] = residuals[j] @ r
            residuals[j] *= root[j]
            second[j] = residuals[j] @ residuals[j].T
        hidden = np.zeros(k)
        for group, what in found:
            mine = np.add.reduceat(L[:, group.rows], group.starts, axis=1)
            gaps.add_covariances(second, mine, group.features, what)
            entropy = group.features.shape[1] * _ENTROPY - what.half_log_dets
            hidden += (mine * entropy).sum(axis=1)
        away = self.means - self.origins
        cross = away[:, :, None] * first[:, None, :]
        second += cross + np.swapaxes(cross, 1, 2)
        second += counts[:, None, None] * (away[:, :, None] * away[:, None, :])
        first += counts[:, None] * away
        rows, columns = diagonal_order(d)
        sums = [counts[:, None], first, second[:, rows, columns], L @ there.T, hidden[:, None]]
        if T_parts is not None:
            sums.append(L @ T_parts.T)
        out += np.concatenate(sums, axis=1)
        return log_likelihood


@dataclass(frozen=True)
class DiagonalGaps:
    """A candidate of diagonal covariances: no feature says anything of another.

    T(x) is (1, x, x^2, whether it is there), 0 where it is not: no patterns are needed. Components
    that `narrow` (k,) marks are measured about their means, as `origins` (k, d) has it.
    """

    eta: Array
    log_masses: Array
    means: Array
    variances: Array
    narrow: Array
    parts: Parts
    part_eta: Array

    @classmethod
    def of(cls, model: Model, narrow: Array) -> DiagonalGaps:
        """Prepare a model of family diag."""
        means, v = model.means, model.stack.variances
        eta = natural_parameters(model)
        eta[:, 0] = model.log_masses
        there = -0.5 * (LOG_2PI + np.log(v) + means**2 / v)
        part_eta = natural(model.others) if model.others else np.empty((model.k, 0))
        return cls(
            np.concatenate([eta, there], axis=1),
            model.log_masses,
            means,
            np.asarray(v),
            narrow,
            model.others,
            part_eta,
        )

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        numbers = (self.eta, self.log_masses, self.means, self.variances, self.narrow)
        return (*numbers, self.part_eta) if self.parts else numbers

    def sums(self, block: Block, first: int, frame: Frame, out: Array) -> float:
        """Add the sums over the rows from `first` on, as `DenseGaps.sums` does."""
        step = max(256, _CHUNK_VALUES // (3 * self.means.size))
        chunks = _chunks(block, first, step, frame, self.means.shape[1], self.parts)
        return sum(self._of_chunk(X, w, T, out) for X, w, T in chunks)

    def _of_chunk(self, X: Array, w: Array | None, T_parts: Array | None, out: Array) -> float:
        """Add the sums over rows X (d, n) to out (k, F), and return the log-likelihood."""
        d = self.means.shape[1]
        T = np.empty((1 + 3 * d, X.shape[1]))
        T[0] = 1.0
        values, there = T[1 : 1 + d], T[1 + 2 * d :]
        np.logical_not(np.isnan(X), out=there)
        np.copyto(values, 0.0)
        np.copyto(values, X, where=there > 0)
        np.multiply(values, values, out=T[1 + d : 1 + 2 * d])
        L = self.eta @ T
        which = np.flatnonzero(self.narrow)
        residuals = [(values - self.means[j][:, None]) * there for j in which]
        for j, residual in zip(which, residuals, strict=True):
            v = self.variances[j]
            L[j] = self.log_masses[j] - 0.5 * (LOG_2PI + np.log(v)) @ there
            L[j] -= 0.5 * (1 / v) @ residual**2
        if T_parts is not None:
            L += self.part_eta @ T_parts
        log_likelihood = softmax(L, w)
        S = L @ T.T
        for j, residual in zip(which, residuals, strict=True):
            S[j, 1 : 1 + d] = residual @ L[j]
            S[j, 1 + d : 1 + 2 * d] = residual**2 @ L[j]
        counts, seen = S[:, :1], S[:, 1 + 2 * d :]
        missed = np.maximum(counts - seen, 0.0)
        means = np.where(self.narrow[:, None], 0.0, self.means)
        S[:, 1 : 1 + d] += missed * means
        S[:, 1 + d : 1 + 2 * d] += missed * (means**2 + self.variances)
        hidden = (missed * (_ENTROPY + 0.5 * np.log(self.variances))).sum(axis=1)
        sums = [S, hidden[:, None]]
        if T_parts is not None:
            sums.append(L @ T_parts.T)
        out += np.concatenate(sums, axis=1)
        return log_likelihood


@dataclass(frozen=True)
class IncompleteKernel:
    """The statistics of some candidates over rows of which some miss values.

    `ordinary` are the kernels of complete rows, `candidates` the same candidates in the order of
    their results. Sums are (k, F + d + 1 + parts): the moments, the weight of the rows that have
    each feature, and the entropy of the missing values, a component.
    """

    frame: Frame
    ordinary: tuple[Kernel, ...]
    candidates: tuple[DenseGaps | DiagonalGaps, ...]

    @classmethod
    def of(
        cls,
        models: Sequence[Model],
        narrow: Sequence[Array],
        ordinary: Sequence[Kernel],
        frame: Frame,
    ) -> IncompleteKernel:
        """Prepare models without constraints, in the order of the ordinary kernels' results."""
        candidates: list[DenseGaps | DiagonalGaps] = []
        for model, mine in zip(models, narrow, strict=True):
            if model.family.statistics is SQUARES:
                candidates.append(DiagonalGaps.of(model, mine))
            else:
                origins = np.where(mine[:, None], model.means, 0.0)
                candidates.append(DenseGaps.of(model, origins))
        return cls(frame, tuple(ordinary), tuple(candidates))

    def arrays(self) -> tuple[Array, ...]:
        """Return all the numbers that decide what a block's statistics are."""
        more = [array for candidate in self.candidates for array in candidate.arrays()]
        return (*(array for kernel in self.ordinary for array in kernel.arrays()), *more)

    def __call__(self, block: Block) -> list[Sums]:
        """Return the statistics of one block, a candidate each."""
        d = len(self.frame.shift)
        missing = np.isnan(block.values[:d])
        if not gaps.is_ordered(missing):
            rows = gaps.order(missing)
            block, missing = block.take(rows), missing[:, rows]
        n_whole = int(np.count_nonzero(~missing.any(axis=0)))
        whole = self._of_whole(block, n_whole)
        return [
            self._with_gaps(candidate, block, n_whole, sums)
            for candidate, sums in zip(self.candidates, whole, strict=True)
        ]

    def _of_whole(self, block: Block, n: int) -> list[Sums | None]:
        """Return the sums over the first n rows, which miss nothing."""
        if n == 0:
            return [None] * len(self.candidates)
        weights = None if block.weights is None else block.weights[:n]
        return [*run_kernels(self.ordinary, Block(block.values[:, :n], weights))]

    def _with_gaps(
        self, candidate: DenseGaps | DiagonalGaps, block: Block, n_whole: int, whole: Sums | None
    ) -> Sums:
        """Add the rows from n_whole on to the sums over those before."""
        k, d = candidate.means.shape
        width = sum(part.width for part in candidate.parts)
        squares = isinstance(candidate, DiagonalGaps)
        F = 1 + 2 * d if squares else 1 + d + d * (d + 1) // 2
        out = np.zeros((k, F + n_extra(d) + width))
        log_likelihood = 0.0
        if whole is not None:
            out[:, :F] = whole.moments[:, :F]
            out[:, F : F + d] = whole.moments[:, :1]
            out[:, F + d + 1 :] = whole.moments[:, F:]
            log_likelihood = whole.log_likelihood
        if block.n_rows > n_whole:
            log_likelihood += candidate.sums(block, n_whole, self.frame, out)
        return Sums(out, log_likelihood)
