"""Covariance matrices as they are kept, and all the linear algebra that a fit does with them.

A stack holds m matrices: one for each of k components, or one (m = 1) that all of them share.
Nothing outside this file asks how they are kept. `Diagonal` and `Round` are kept as variances, and
make no d x d array but where a dense one is asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Protocol, Self

import numpy as np

from sparkgmm.covariances.moments import Moments, diagonal_order
from sparkgmm.products import Array, diagonal

# The least variance of a component along a direction is this share of its features' variances
# there: what float64 leaves of a difference of numbers of that size.
_OBLIQUE = 1e-9


@cache
def _lower(d: int) -> tuple[Array, Array]:
    """Return row and column of each entry of a lower triangle; asked for at every step."""
    return np.tril_indices(d)


class Stack(Protocol):
    """Matrices of some components, in standardised coordinates."""

    @property
    def values(self) -> Array:
        """The numbers that are kept, (m, ...)."""
        ...

    @property
    def log_dets(self) -> Array:
        """The logs of the determinants, (m,)."""
        ...

    @property
    def variances(self) -> Array:
        """The diagonals, (m, d)."""
        ...

    @property
    def precisions(self) -> Array:
        """The inverses, in the shape of `values`."""
        ...

    @property
    def precision_factors(self) -> Array:
        """Upper triangular U, or roots, in the shape of `values`: U U^T is the inverse."""
        ...

    @property
    def precision_traces(self) -> Array:
        """The traces of the inverses, (m,)."""
        ...

    @property
    def pivots(self) -> Array:
        """Numbers of which all are above 0 if, and only if, the matrices have volume: variances."""
        ...

    @property
    def narrowest(self) -> float:
        """The least variance of any matrix in any direction."""
        ...

    def dense(self, k: int) -> Array:
        """Return one matrix a component, (k, d, d)."""
        ...

    def quadratic(self, moments: Moments, means: Array, weight: float) -> float:
        """Return the sum, over rows and components, of the squared whitened distances to means.

        `weight` is the sum of the moments' counts.
        """
        ...

    def quadratic_of(self, second: Array) -> float:
        """Return tr(precision second) of the first matrix; `second` is (d, d).

        Of diagonal matrices the diagonal of `second` will do.
        """
        ...

    def fill_natural(self, means: Array, out: Array) -> None:
        """Set out (k, F - 1) to the linear and, as far as it has columns, the quadratic terms."""
        ...

    def cancellation(self, means: Array) -> Array:
        """Bound the terms that cancel in those products for rows within 3 sd of the means, (k,)."""
        ...

    def whiteners(self, which: Array) -> tuple[Array, Array]:
        """Return half the log determinants (n,) and the inverse Cholesky factors of n components.

        The factors are (n, d, d), or their diagonals (n, d) where they have nothing else.
        """
        ...

    def whitened(self, j: int, X: Array) -> Array:
        """Return residuals X (d, n) from component j, scaled to variance 1 in all directions."""
        ...

    def coloured(self, j: int, Z: Array) -> Array:
        """Return rows Z (n, d) of variance 1 in all directions as rows of component j about 0."""
        ...

    def raised(self, least: Array) -> Self:
        """Return the most likely matrices of which none is below diag(least_j), (m, d).

        They are themselves where none is: constrained maximum likelihood.
        """
        ...

    def filled(self, flat: Array, least: float) -> Self:
        """Return matrices of no less variance than `least` in directions in which no row varies.

        `flat` (d, r) are these. Bounded is what the other directions leave of the variance there.
        """
        ...

    def share_of(self, least: Array) -> float:
        """Return the largest share, 0 to 1, of least_j (m, d) in any matrix, in any direction."""
        ...

    def thin_in(self, j: int, least: Array, total: Array, times: float, among: Array) -> Array:
        """Return by how much each feature has part in a direction in which j is too thin, (d,).

        There it is below diag(least), (d,), and `total`, (d, d) or its diagonal, is so many times
        wider. Only features that `among` (d,) marks have part. All are 0 where there is none;
        otherwise their sum is 1.
        """
        ...

    def held_in(self, j: int, least: Array) -> Array:
        """Return in which features (d,) j has no more variance than `least` (d,)."""
        ...

    def alike(self, i: int, j: int, tolerance: float) -> bool:
        """Say whether the matrices of two components are equal, relative to the variances of j."""
        ...

    def take(self, which: Array) -> Self:
        """Return the matrices of some components."""
        ...

    def like(self, values: Array) -> Self:
        """Return other matrices of the same kind, by the numbers that are kept of them."""
        ...

    def among(self, features: Array) -> Self:
        """Return the matrices of some features, without the others' rows and columns."""
        ...

    def with_mean_at(self, j: int, which: Array) -> Self:
        """Give component j the mean of the matrices of some others."""
        ...

    def pack(self) -> Array:
        """Return coordinates without bounds: any vector of as many numbers is a stack."""
        ...

    def unpacked(self, vector: Array) -> Self:
        """Undo `pack`, to a stack of this shape."""
        ...

    def scores(self, j: int, X: Array) -> tuple[Array, Array]:
        """Return derivatives of the log density of component j at residuals X (d, n) from its mean.

        The first (d, n) are by the mean, the second (q, n) by the coordinates of its matrix.
        """
        ...

    def slopes(self, moments: Moments, means: Array) -> tuple[Array, Array]:
        """Return the sums of those derivatives over the rows that the moments are of.

        The first (k, d) are by the means, the second (m, q) by the coordinates of the matrices.
        """
        ...

    def metric(self, root: Array) -> tuple[Array, Array]:
        """Return standard deviations (m, d), and what the coordinates of `pack` are weighed by.

        That is about the root of the information of complete data; `root` (k, 1) are the roots of
        the components' weights.
        """
        ...


@dataclass(frozen=True, eq=False)
class Dense:
    """Symmetric matrices (m, d, d); coordinates are their log-Cholesky factors.

    The factors are computed once, since a step of EM asks for them at several places. Whatever
    multiplies a precision has to take it from here: terms of 1e6 cancel between them.
    """

    values: Array

    @cached_property
    def factors(self) -> Array:
        """The Cholesky factors, (m, d, d)."""
        return np.linalg.cholesky(self.values)

    @cached_property
    def precisions(self) -> Array:
        """The inverses, (m, d, d)."""
        W = np.linalg.inv(self.factors)
        return np.swapaxes(W, -1, -2) @ W

    @property
    def precision_factors(self) -> Array:
        return np.ascontiguousarray(np.swapaxes(np.linalg.inv(self.factors), -1, -2))

    @cached_property
    def log_dets(self) -> Array:
        return np.asarray(2 * np.log(np.diagonal(self.factors, axis1=-2, axis2=-1)).sum(axis=-1))

    @property
    def variances(self) -> Array:
        return np.einsum("mii->mi", self.values)

    @property
    def precision_traces(self) -> Array:
        return np.asarray(np.trace(self.precisions, axis1=-2, axis2=-1))

    @property
    def pivots(self) -> Array:
        return np.asarray(np.diagonal(self.factors, axis1=-2, axis2=-1) ** 2)

    @property
    def narrowest(self) -> float:
        return float(np.linalg.eigvalsh(self.values).min())

    def dense(self, k: int) -> Array:
        return np.broadcast_to(self.values, (k, *self.values.shape[1:]))

    def quadratic(self, moments: Moments, means: Array, weight: float) -> float:
        offset = means - moments.origin
        # second + offset cross^T, made symmetric, is the second moment about the means; beside a
        # precision, which is symmetric, it need not be made so
        cross = moments.counts[:, None] * offset - 2 * moments.first
        second = moments.second
        if second is None:  # what all components share a pass does not measure
            second = moments.total * (weight / len(means))
        about = second + offset[:, :, None] * cross[:, None, :]
        return float((self.precisions * about).sum())

    def quadratic_of(self, second: Array) -> float:
        return float((self.precisions[0] * second).sum())

    def fill_natural(self, means: Array, out: Array) -> None:
        d = means.shape[1]
        P = self.precisions
        out[:, :d] = np.matmul(P, means[:, :, None])[:, :, 0]
        if out.shape[1] > d:
            rows, columns = diagonal_order(d)
            out[:, d:] = -P[:, rows, columns]
            out[:, d : 2 * d] *= 0.5  # the squares come first

    def cancellation(self, means: Array) -> Array:
        reach = np.abs(means) + 3 * np.sqrt(self.variances)
        along = np.matmul(np.abs(self.precisions), reach[:, :, None])
        return np.asarray(np.einsum("ki,ki->k", reach, along[:, :, 0]))

    def whiteners(self, which: Array) -> tuple[Array, Array]:
        L = self.factors[which if len(self.values) > 1 else np.zeros_like(which)]
        return np.log(np.diagonal(L, axis1=1, axis2=2)).sum(axis=1), np.linalg.inv(L)

    def whitened(self, j: int, X: Array) -> Array:
        return np.linalg.solve(self.factors[_at(j, self.values)], X)

    def coloured(self, j: int, Z: Array) -> Array:
        return np.asarray(Z @ self.factors[_at(j, self.values)].T)

    def raised(self, least: Array) -> Dense:
        own = self.variances
        least = np.maximum(least, _OBLIQUE * own)
        below = self.values.copy()
        np.einsum("mii->mi", below)[...] = own - least
        try:
            np.linalg.cholesky(below)  # a tenth of the time that eigenvalues take
        except np.linalg.LinAlgError:
            least = np.broadcast_to(least, own.shape)
            root = np.sqrt(least)
            shares, V = np.linalg.eigh(self.values / (root[:, :, None] * root[:, None, :]))
            raised = self.values.copy()
            for j in np.flatnonzero((shares < 2).any(axis=1)):
                raised[j] = _raised(self.values[j], root[j], V[j][:, shares[j] < 2])
            return Dense(raised)
        return self

    def filled(self, flat: Array, least: float) -> Dense:
        filled = self.values.copy()
        for j, matrix in enumerate(self.values):
            left, V = np.linalg.eigh(np.linalg.inv(flat.T @ np.linalg.solve(matrix, flat)))
            added = flat @ V * np.sqrt(np.maximum(least - left, 0.0))
            filled[j] = matrix + added @ added.T
        return Dense(filled)

    def share_of(self, least: Array) -> float:
        root = np.sqrt(least)
        scaled = self.values / (root[:, :, None] * root[:, None, :])
        return float(min(1.0, 1 / max(np.linalg.eigvalsh(scaled).min(), 1e-300)))

    def thin_in(self, j: int, least: Array, total: Array, times: float, among: Array) -> Array:
        parts = np.zeros(len(least))
        if not among.any():
            return parts
        root = np.sqrt(least[among])
        here = np.ix_(among, among)
        unit = np.outer(root, root)
        shares, V = np.linalg.eigh(self.values[_at(j, self.values)][here] / unit)
        thin = V[:, shares <= 1]
        if thin.size:
            of_all, W = np.linalg.eigh(thin.T @ (total[here] / unit) @ thin)
            if of_all[-1] > times * max(shares[shares <= 1].max(), 1e-300):
                parts[among] = (thin @ W[:, -1]) ** 2
        return parts

    def held_in(self, j: int, least: Array) -> Array:
        return np.asarray(self.variances[_at(j, self.values)] <= least)

    def alike(self, i: int, j: int, tolerance: float) -> bool:
        one, other = self.values[_at(i, self.values)], self.values[_at(j, self.values)]
        sd = np.sqrt(np.diagonal(other))
        return bool((np.abs(one - other) <= tolerance * np.outer(sd, sd)).all())

    def like(self, values: Array) -> Dense:
        return Dense(values)

    def take(self, which: Array) -> Dense:
        return self if len(self.values) == 1 else Dense(self.values[which])

    def among(self, features: Array) -> Dense:
        return Dense(self.values[:, features[:, None], features])

    def with_mean_at(self, j: int, which: Array) -> Dense:
        return self if len(self.values) == 1 else Dense(_with_mean_at(self.values, j, which))

    def pack(self) -> Array:
        L = self.factors.copy()
        diagonal = np.einsum("mii->mi", L)
        diagonal[...] = np.log(diagonal)
        return L[..., *_lower(L.shape[-1])].ravel()

    def unpacked(self, vector: Array) -> Dense:
        L = np.zeros_like(self.values)
        L[..., *_lower(L.shape[-1])] = vector.reshape(len(L), -1)
        diagonal = np.einsum("mii->mi", L)
        with np.errstate(over="ignore", invalid="ignore"):  # `pivots` show what overflowed
            diagonal[...] = np.exp(diagonal)
            return Dense(L @ np.swapaxes(L, -1, -2))

    def scores(self, j: int, X: Array) -> tuple[Array, Array]:
        L = self.factors[_at(j, self.values)]
        W = np.linalg.inv(L)
        Y = W @ X
        by_mean = W.T @ Y
        rows, columns = _lower(len(L))
        by_factor = by_mean[rows]
        by_factor *= Y[columns]
        diagonal = rows == columns
        by_factor[diagonal] = by_factor[diagonal] * np.diagonal(L)[:, None] - 1
        return by_mean, by_factor

    def slopes(self, moments: Moments, means: Array) -> tuple[Array, Array]:
        offset = means - moments.origin
        first = moments.first - moments.counts[:, None] * offset
        by_mean = np.matmul(self.precisions, first[:, :, None])[:, :, 0]
        cross = 0.5 * moments.counts[:, None] * offset - moments.first
        shift = offset[:, :, None] * cross[:, None, :]
        shift += np.swapaxes(shift, 1, 2)
        counts, second = moments.counts, moments.second
        if len(self.values) < len(means) or second is None:
            whole = counts.sum() * moments.total if second is None else second.sum(axis=0)
            second, shift, counts = whole[None], shift.sum(axis=0)[None], counts.sum()[None]
        W = np.linalg.inv(self.factors)
        by_factor = self.precisions @ (second + shift) @ np.swapaxes(W, 1, 2)
        rows, columns = _lower(W.shape[-1])
        by_factor = by_factor[:, rows, columns]
        diagonal = rows == columns
        sizes = np.einsum("mii->mi", self.factors)
        by_factor[:, diagonal] = by_factor[:, diagonal] * sizes - counts[:, None]
        return by_mean, by_factor

    def metric(self, root: Array) -> tuple[Array, Array]:
        rows, columns = _lower(self.values.shape[-1])
        shape = 1 / np.einsum("mii->mi", self.factors)[..., rows]
        shape[..., rows == columns] = np.sqrt(2.0)
        return np.sqrt(self.variances), root * shape if len(shape) == len(root) else shape


@dataclass(frozen=True, eq=False)
class Diagonal:
    """Diagonal matrices, kept as their variances (m, d); coordinates are the logs of the sds."""

    values: Array

    @property
    def variances(self) -> Array:
        return self.values

    @property
    def log_dets(self) -> Array:
        return np.asarray(np.log(self.variances).sum(axis=1))

    @property
    def precisions(self) -> Array:
        return np.asarray(1 / self.values)

    @property
    def precision_factors(self) -> Array:
        return np.asarray(1 / np.sqrt(self.values))

    @property
    def precision_traces(self) -> Array:
        return np.asarray((1 / self.variances).sum(axis=1))

    @property
    def pivots(self) -> Array:
        return self.variances

    @property
    def narrowest(self) -> float:
        return float(self.pivots.min())

    def dense(self, k: int) -> Array:
        d = self.variances.shape[1]
        return np.broadcast_to(self.variances[:, :, None] * np.eye(d), (k, d, d))

    def quadratic(self, moments: Moments, means: Array, weight: float) -> float:
        offset = means - moments.origin
        cross = moments.counts[:, None] * offset - 2 * moments.first
        return float(((moments.squares() + offset * cross) / self.variances).sum())

    def quadratic_of(self, second: Array) -> float:
        return float((diagonal(second) / self.variances[0]).sum())

    def fill_natural(self, means: Array, out: Array) -> None:
        d = means.shape[1]
        out[:, :d] = means / self.variances
        if out.shape[1] > d:
            out[:, d:] = -0.5 / self.variances

    def cancellation(self, means: Array) -> Array:
        v = self.variances
        return np.asarray(((np.abs(means) + 3 * np.sqrt(v)) ** 2 / v).sum(axis=1))

    def whiteners(self, which: Array) -> tuple[Array, Array]:
        sd = np.sqrt(self.variances[which if len(self.values) > 1 else np.zeros_like(which)])
        return np.log(sd).sum(axis=1), 1 / sd

    def whitened(self, j: int, X: Array) -> Array:
        return np.asarray(X / np.sqrt(self.variances[_at(j, self.values)])[:, None])

    def coloured(self, j: int, Z: Array) -> Array:
        return np.asarray(Z * np.sqrt(self.variances[_at(j, self.values)]))

    def raised(self, least: Array) -> Self:
        if (self.variances >= least).all():
            return self
        return self._of(np.maximum(self.values, least))

    def filled(self, flat: Array, least: float) -> Self:
        return self

    def share_of(self, least: Array) -> float:
        return float(min(1.0, (least / self.variances).max()))

    def thin_in(self, j: int, least: Array, total: Array, times: float, among: Array) -> Array:
        own = self.variances[_at(j, self.values)]
        thin = (own <= least) & (diagonal(total) > times * own) & among
        return np.asarray(thin / max(1, thin.sum()))

    def held_in(self, j: int, least: Array) -> Array:
        return np.asarray(self.variances[_at(j, self.values)] <= least)

    def alike(self, i: int, j: int, tolerance: float) -> bool:
        one, other = (self.variances[_at(at, self.values)] for at in (i, j))
        return bool((np.abs(one - other) <= tolerance * other).all())

    def like(self, values: Array) -> Self:
        return self._of(values)

    def take(self, which: Array) -> Self:
        return self if len(self.values) == 1 else self._of(self.values[which])

    def among(self, features: Array) -> Self:
        return self._of(self.values[:, features])

    def with_mean_at(self, j: int, which: Array) -> Self:
        return self if len(self.values) == 1 else self._of(_with_mean_at(self.values, j, which))

    def pack(self) -> Array:
        return np.asarray(0.5 * np.log(self.values)).ravel()

    def unpacked(self, vector: Array) -> Self:
        with np.errstate(over="ignore"):  # `pivots` show what overflowed
            return self._of(np.exp(2 * vector).reshape(self.values.shape))

    def scores(self, j: int, X: Array) -> tuple[Array, Array]:
        by_mean = X / self.variances[_at(j, self.values)][:, None]
        return by_mean, self._of_coordinates(X * by_mean - 1)

    def slopes(self, moments: Moments, means: Array) -> tuple[Array, Array]:
        offset = means - moments.origin
        first = moments.first - moments.counts[:, None] * offset
        cross = moments.counts[:, None] * offset - 2 * moments.first
        second = (moments.squares() + offset * cross) / self.variances - moments.counts[:, None]
        if len(self.values) < len(means):
            second = second.sum(axis=0)[None]
        return first / self.variances, self._of_coordinates(second.T).T

    def _of_coordinates(self, by_log_sd: Array) -> Array:
        """Return derivatives by the coordinates from those by the features' log sds, (d, n)."""
        return by_log_sd

    def metric(self, root: Array) -> tuple[Array, Array]:
        shape = np.sqrt(2.0) * np.ones_like(self.values)
        return np.sqrt(self.values), root * shape if len(shape) == len(root) else shape

    def _of(self, values: Array) -> Self:
        """Return other matrices of the same kind."""
        return type(self)(values)


@dataclass(frozen=True, eq=False)
class Round(Diagonal):
    """Matrices that are round in the data's own units: one variance each, (m,), there.

    `unit` (d,) is the variance of each feature in the data's units, so that in standardised
    coordinates the matrices are diagonal, variance / unit. What is narrow is judged by the data's
    mean variance.
    """

    unit: Array

    @cached_property
    def variances(self) -> Array:
        return np.asarray(self.values[:, None] / self.unit)

    @property
    def pivots(self) -> Array:
        return np.asarray(self.values / self.unit.mean())

    def among(self, features: Array) -> Self:
        return type(self)(self.values, self.unit[features])

    def raised(self, least: Array) -> Self:
        volume = self._volume(least)
        return self if (self.values >= volume).all() else self._of(np.maximum(self.values, volume))

    def share_of(self, least: Array) -> float:
        return float(min(1.0, (self._volume(least) / self.values).max()))

    def thin_in(self, j: int, least: Array, total: Array, times: float, among: Array) -> Array:
        own = self.values[_at(j, self.values)]
        wide = float((diagonal(total) * self.unit).mean()) > times * own
        thin = own <= self._volume(least) and wide and among.any()
        return np.full(len(least), 1 / len(least) if thin else 0.0)

    def held_in(self, j: int, least: Array) -> Array:
        held = self.values[_at(j, self.values)] <= self._volume(least)
        return np.full(len(self.unit), held)

    def _volume(self, least: Array) -> Array:
        """Return the variance, in the data's units, of a ball with the volume of diag(least).

        What is bounded is a density, and that of a ball is by its volume: one coarse feature must
        not widen clusters that the others show.
        """
        return np.asarray(np.exp(np.log(least * self.unit).mean(axis=-1)))

    def _of_coordinates(self, by_log_sd: Array) -> Array:
        return np.asarray(by_log_sd.sum(axis=0)[None])

    def metric(self, root: Array) -> tuple[Array, Array]:
        d = len(self.unit)
        # in the data's units, though means are in standardised ones: a weight that is less apt than
        # it might be, which the path of every spherical fit goes by
        sd = np.repeat(np.sqrt(self.values)[:, None], d, axis=1)
        shape = np.full((len(self.values), 1), np.sqrt(2 * d))
        return sd, root * shape if len(shape) == len(root) else shape

    def _of(self, values: Array) -> Self:
        return type(self)(values, self.unit)


def diagonals(covariances: Array) -> Array:
    """Return the diagonals (k, d) of matrices (k, d, d), or what are diagonals already."""
    return covariances if covariances.ndim == 2 else np.einsum("kii->ki", covariances)


def _raised(matrix: Array, root: Array, V: Array) -> Array:
    """Return the matrix (d, d) with least log det + tr(inverse matrix), of those >= diag(least).

    `root` (d,) are the roots of least, V the eigenvectors of small eigenvalues in coordinates in
    which diag(least) is the identity. There it is the matrix with eigenvalues below 1 set to 1.
    Only what is missing is added, and it is computed in the space of the small eigenvalues alone:
    features without a grid have large ones, whose rounding is more than the small ones are.
    """
    shares, W = np.linalg.eigh(V.T @ (matrix / np.outer(root, root)) @ V)
    added = root[:, None] * (V @ W) * np.sqrt(np.maximum(1 - shares, 0.0))
    return np.asarray(matrix + added @ added.T)


def _at(j: int, values: Array) -> int:
    """Return where the matrix of component j is."""
    return j if len(values) > 1 else 0


def _with_mean_at(values: Array, j: int, which: Array) -> Array:
    changed = values.copy()
    changed[j] = values[which].mean(axis=0)
    return changed
