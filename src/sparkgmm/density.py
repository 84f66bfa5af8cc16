"""Log densities of rows at the components of a mixture: the one engine of fits and of scoring.

By products: log(weight_j N(x)) = eta_j . T(x) with T(x) = (1, x, x^2, x_i x_j), so that one matrix
product serves all components. Its terms cancel where a component is narrow for its distance from
the origin. By residuals: log norm_j - |V_j (1; x)|^2 / 2, a component at a time, where nothing
cancels.

What is tolerated differs. A pass of a fit bounds the terms a component (`Stack.cancellation`), and
measures by residuals the components beyond CANCELLATION_LIMIT. Scoring promises each row 1e-10
nats: it bounds the terms a row (`Polynomial.reach`), and scores by residuals the rows beyond.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparkgmm import gaps
from sparkgmm.covariances.stacks import Stack
from sparkgmm.errors import InputError
from sparkgmm.parts import Parts
from sparkgmm.products import Array, aligned_empty, fill_monomials, multiply

LOG_2PI = math.log(2 * math.pi)
# Terms of this size leave errors of 1e-10 nats in a log density (float64: 2.2e-16).
CANCELLATION_LIMIT = 1e6
# Rows are scored so many at a time that the work arrays, 1 MiB, stay in the cache.
_CHUNK_VALUES = 2**17
# A log density may be wrong by this much, in nats, for the sake of speed.
_TOLERATED = 1e-10
# The polynomial is not worth it where it holds for rows within so many sds of the mean alone.
_LEAST_REACH = 6.0
# A pass by products takes components of full covariance up to so many features.
_MOST_FEATURES = 128


class Components(Protocol):
    """Weights (k,), means (k, d) and covariances, in any coordinates.

    `log_masses` (k,) are the log-weights.
    """

    @property
    def weights(self) -> Array: ...  # noqa: D102
    @property
    def means(self) -> Array: ...  # noqa: D102
    @property
    def stack(self) -> Stack: ...  # noqa: D102
    @property
    def n_features(self) -> int: ...  # noqa: D102
    @property
    def log_masses(self) -> Array: ...  # noqa: D102


def natural_parameters(components: Components) -> Array:
    """Return eta (k, F): log(weight_j N(x)) = eta_j . T(x), but for a term that all share.

    F is what the family needs of a pass: where all components share a covariance, its quadratic
    term is left out.
    """
    means, stack = components.means, components.stack
    d = means.shape[1]
    eta = np.empty((len(means), components.n_features))
    stack.fill_natural(means, eta[:, 1:])
    eta[:, 0] = components.log_masses - 0.5 * (
        d * LOG_2PI + stack.log_dets + np.einsum("kd,kd->k", eta[:, 1 : 1 + d], means)
    )
    return eta


def whitened(components: Components, centred: bool, which: Array) -> tuple[Array, Array]:
    """Return log_norm (n,) and V (n, d, 1 + d) of n components, about their means or zero.

    Of diagonal matrices, which have to be about their means, V is (n, d): what a row's deviations
    are multiplied by.
    """
    masses, means = components.log_masses[which], components.means[which]
    half_log_dets, W = components.stack.whiteners(which)
    log_norms = masses - 0.5 * means.shape[1] * LOG_2PI - half_log_dets
    if W.ndim == 2:
        assert centred
        return log_norms, W
    bias = np.zeros_like(means) if centred else -np.matmul(W, means[:, :, None])[:, :, 0]
    return log_norms, np.concatenate([bias[:, :, None], W], axis=2)


def centred_on(mean: Array, X: Array, out: Array) -> Array:
    """Set out (1 + d, n) to (1; X - mean)."""
    out[0] = 1.0
    np.subtract(X, mean[:, None], out=out[1:])
    return out


def subtract_squares(V: Array, X: Array, R: Array, buffer: Array) -> None:
    """Take half the squared lengths of V_j X, (k, n), from R; V is (k, rows, columns)."""
    k, height, width = V.shape
    n = X.shape[1]
    Y = buffer[: k * height]
    multiply(V.reshape(k * height, width), X[:width], out=Y)
    squares = Y.reshape(k, height, n)
    R -= 0.5 * np.einsum("khn,khn->kn", squares, squares)


def exponentials(L: Array, top: Array, least: float = -np.inf) -> Array:
    """Turn log joint densities (k, n) into shares of the largest, top (n,); return their sum (n,).

    Exponents below `least` are taken for it.
    """
    L -= top
    if least > -np.inf:
        np.maximum(L, least, out=L)
    np.exp(L, out=L)
    return np.asarray(L.sum(axis=0))


def scoring_by_products_pays(k: int, d: int) -> bool:
    """Say whether k components of full covariance are scored faster by products.

    Filling T costs the same for one as for fifty. Measured crossings on one core: 3 components at
    d = 5, 6 at 10, 8 at 20, 10 at 30, 17 at 50.
    """
    return k > 1 + d / 3


def pass_by_residuals_pays(n_components: int, d: int) -> bool:
    """Say whether a pass over so many full covariances, in all, is faster by residuals.

    Filling T costs the same for one component as for fifty. Measured crossings
    on one core: 2 components at d = 20, 4 at 30, 11 at 40, 14 at 50, 20 at 75, 29 at 100, 45 at
    150, more than 80 at 200. From 129 on T would take more memory than the rest of a worker.
    """
    return d > _MOST_FEATURES or n_components < min(d**2 / 200, 0.28 * d)


def fill_gaps(
    joint: Array, precisions: Array, residuals: Array, there: NDArray[np.bool_]
) -> list[tuple[gaps.Group, gaps.Filled]]:
    """Fill in the residuals (k, d, n) of ordered rows, 0 where values are not `there` (d, n).

    The joint densities (k, n) get what their constants are more for what is not there. Returned is
    what is known of that in each group of rows.
    """
    found = []
    for group in gaps.groups(~there):
        filled = gaps.fill(precisions, residuals, group)
        constant = 0.5 * group.features.shape[1] * LOG_2PI - filled.half_log_dets
        joint[:, group.rows] += constant[:, group.pattern]
        found.append((group, filled))
    return found


@dataclass(frozen=True)
class Density:
    """The density of a mixture, prepared for scoring rows.

    `whiteners` are the inverse Cholesky factors, of m = k components or one that they share: (m, d,
    d), or (m, d) where they are diagonal. `log_norms` (k,) are the log joint densities at the
    means.
    """

    weights: Array
    means: Array
    whiteners: Array
    log_norms: Array
    polynomial: Polynomial | None
    parts: Parts = ()

    @classmethod
    def of(cls, weights: Array, means: Array, stack: Stack, parts: Parts = ()) -> Density:
        """Prepare weights (k,), means (k, d) and the covariances in the same coordinates.

        With `parts` beside the Gaussian rows have their columns after the numeric ones, NaN where a
        value is not known.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance is not positive definite.

        """
        with np.errstate(divide="ignore"):
            log_norms = np.log(weights) - 0.5 * means.shape[1] * LOG_2PI
        half_log_dets, whiteners = stack.whiteners(np.arange(len(stack.values)))
        log_norms -= half_log_dets
        polynomial = Polynomial.of(weights, means, stack, whiteners, log_norms)
        return cls(weights, means, whiteners, log_norms, polynomial, parts)

    def responsibilities(self, rows: NDArray[Any], missing: bool = False) -> Array:
        """Return P(component | row) of rows (n, d), shape (n, k)."""
        R = np.empty((len(rows), len(self.means)))
        self.score(rows, R, missing)
        return R

    def score(self, rows: NDArray[Any], R: Array | None = None, missing: bool = False) -> Array:
        """Return the log density of rows (n, d), and fill R (n, k) with the responsibilities.

        Where values may be `missing`, NaN is one, and the density of a row is that of what it has;
        of a row that has nothing it is 1, and the responsibilities are the weights.

        Chunks are turned feature-major: then all that follows runs along the rows.
        """
        k, d = self.means.shape
        log_density = np.empty(len(rows))
        n_terms = 2 * d if self.polynomial is None else self.polynomial.eta.shape[1]
        step = max(64, _CHUNK_VALUES // (n_terms + 2 * k) // 8 * 8)
        work = aligned_empty(n_terms, min(step, len(rows)))
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            values = np.array(rows[here].T, dtype=np.float64, order="C")
            chunk, incomplete = values[:d], None
            if not np.isfinite(chunk).all():
                valid = ~np.isinf(chunk) if missing else np.isfinite(chunk)
                if not valid.all():
                    row = int(np.argmin(valid.all(axis=0)))
                    remedy = "give finite numbers"
                    if missing:
                        remedy += ", or NaN for what is missing"
                    elif np.isnan(chunk[:, row]).any():
                        remedy += ", or score what is there by Mixture.with_missing('model')"
                    raise InputError(
                        f"X holds {chunk[:, row].tolist()} in row {start + row}: {remedy}"
                    )
                incomplete = np.asarray(np.isnan(chunk).any(axis=0))
            if incomplete is not None:
                joint = self._with_gaps(chunk, incomplete)
            else:
                joint = self._log_joint(chunk, work[:, : chunk.shape[1]])
            for part in self.parts:
                joint += part.log_density(values)
            top = joint.max(axis=0)
            log_density[here] = top
            far = ~np.isfinite(top)
            if far.any():
                joint[:, far] = self._far_out(np.nan_to_num(chunk[:, far]))
                top[far] = 0.0
            norm = exponentials(joint, top)
            log_density[here] += np.log(norm)
            if R is not None:
                joint /= norm
                R[here] = joint.T
        return log_density

    def _with_gaps(self, X: Array, incomplete: NDArray[np.bool_]) -> Array:
        """Do it where some rows are incomplete, whose missing values are integrated over."""
        k, d = self.means.shape
        joint = np.empty((k, X.shape[1]))
        if not incomplete.all():
            whole = np.ascontiguousarray(X[:, ~incomplete])
            n_terms = 2 * d if self.polynomial is None else self.polynomial.eta.shape[1]
            work = aligned_empty(n_terms, whole.shape[1])
            joint[:, ~incomplete] = self._log_joint(whole, work)
        rows = np.flatnonzero(incomplete)
        rows = rows[gaps.order(np.isnan(X[:, rows]))]
        with np.errstate(over="ignore", invalid="ignore"):
            joint[:, rows] = self._of_gaps(X[:, rows])
        joint[np.isnan(joint)] = -np.inf
        return joint

    def _of_gaps(self, X: Array) -> Array:
        """Return the log joint density of what rows (d, n), in order, have, (k, n)."""
        there = ~np.isnan(X)
        residuals = X - self.means[:, :, None]
        np.copyto(residuals, 0.0, where=~there)
        joint = np.repeat(self.log_norms[:, None], X.shape[1], axis=1)
        if self.whiteners.ndim == 2:
            joint += (0.5 * LOG_2PI - np.log(self.whiteners)) @ ~there
        else:
            precisions = np.matmul(np.swapaxes(self.whiteners, 1, 2), self.whiteners)
            fill_gaps(joint, precisions, residuals, there)
        for j in range(len(self.means)):
            Y = self._whitened(j, residuals[j])
            joint[j] -= 0.5 * np.einsum("ij,ij->j", Y, Y)
        return joint

    def _log_joint(self, X: Array, work: Array) -> Array:
        """Return log(weight_j N(x_i | mean_j, covariance_j)) of X (d, n), shape (k, n)."""
        if self.polynomial is None:
            return self._by_residuals(X)
        joint, beyond = self.polynomial(X, work)
        if beyond.any():
            joint[:, beyond] = self._by_residuals(X[:, beyond])
        return joint

    def _by_residuals(self, X: Array) -> Array:
        """Do it a component at a time, the residual whitened, so that nothing cancels."""
        joint = np.empty((len(self.means), X.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for j in range(len(self.means)):
                Y = self._whitened(j, X - self.means[j][:, None])
                np.einsum("ij,ij->j", Y, Y, out=joint[j])
            joint *= -0.5
            joint += self.log_norms[:, None]
        # inf - inf and 0 * inf on the way are overflows too: a distance without bound
        joint[np.isnan(joint)] = -np.inf
        return joint

    def _whitened(self, j: int, residuals: Array) -> Array:
        """Return residuals (d, n) from the mean of component j in its standard deviations."""
        whitener = self.whiteners[j if len(self.whiteners) > 1 else 0]
        if whitener.ndim == 1:
            return np.asarray(whitener[:, None] * residuals)
        return np.asarray(whitener @ residuals)

    def _far_out(self, X: Array) -> Array:
        """Stand in for the log joint density where all overflow: 0 for the nearest, else -inf."""
        if not len(X):  # impossible levels, and nothing else to tell by
            return np.where(self.weights > 0, 0.0, -np.inf)[:, None] + np.zeros(X.shape[1])
        unit = np.maximum(np.abs(X).max(axis=0), np.abs(self.means).max())
        distance = np.full((len(self.means), X.shape[1]), np.inf)
        for j in np.flatnonzero(self.weights).tolist():
            residual = X / unit - self.means[j][:, None] / unit
            distance[j] = (self._whitened(j, residual) ** 2).sum(axis=0)
        nearest = np.argmin(distance, axis=0)
        return np.where(np.arange(len(self.means))[:, None] == nearest, 0.0, -np.inf)


class Polynomial(NamedTuple):
    """The log joint density as a polynomial: eta_j . T(z) with z = (x - shift) * factor.

    T(z) = (1, z, z^2, z_i z_j), without the last where all covariances are diagonal: one product
    serves all components. Its terms cancel where a component is narrow for its distance from the
    shift, so it holds for rows within `reach` of the shift in every z: there the terms sum to less
    than _TOLERATED over the precision of a float64.
    """

    shift: Array
    factor: Array
    eta: Array
    reach: float

    @classmethod
    @np.errstate(all="ignore")
    def of(
        cls, weights: Array, means: Array, stack: Stack, whiteners: Array, log_norms: Array
    ) -> Polynomial | None:
        """Return the polynomial, or None where it is not worth it."""
        k, d = means.shape
        if not d:
            return None
        if whiteners.ndim == 3 and np.count_nonzero(stack.values) <= len(stack.values) * d:
            whiteners = np.einsum("mii->mi", whiteners)
        diagonal = whiteners.ndim == 2
        if (weights == 0).any() or not (diagonal or scoring_by_products_pays(k, d)):
            return None
        shift = weights @ means
        spread = stack.variances + (means - shift) ** 2
        # a power of two: no digit changes
        factor = np.exp2(-np.round(0.5 * np.log2(weights @ spread)))
        m, V = (means - shift) * factor, whiteners / factor
        reach = (
            _reach_of_diagonals(np.abs(m), np.abs(V)) if diagonal else _reach(np.abs(m), np.abs(V))
        )
        if not reach >= _LEAST_REACH:  # or it is no number
            return None
        if diagonal:
            Vm = (V * m)[:, :, None]
            linear = V * Vm[:, :, 0]
            quadratic = [np.broadcast_to(-0.5 * V * V, (k, d))]
        else:
            Vm = np.matmul(V, m[:, :, None])
            Vt = np.swapaxes(V, 1, 2)
            linear = np.matmul(Vt, Vm)[:, :, 0]
            P = np.broadcast_to(np.matmul(Vt, V), (k, d, d))
            quadratic = [-np.diagonal(P, s, 1, 2) for s in range(d)]
            quadratic[0] = 0.5 * quadratic[0]
        constant = log_norms[:, None] - 0.5 * (Vm * Vm).sum(axis=1)
        eta = np.concatenate([constant, linear, *quadratic], axis=1)
        return cls(shift[:, None], factor[:, None], eta, reach)

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, X: Array, T: Array) -> tuple[Array, Array]:
        """Return the log joint density of X (d, n), (k, n), and where it does not hold, (n,).

        T is a buffer for the monomials.
        """
        z = T[1 : 1 + len(X)]
        np.subtract(X, self.shift, out=z)
        z *= self.factor
        fill_monomials(z, T)
        if max(z.max(), -z.min()) <= self.reach:
            beyond = np.zeros(X.shape[1], dtype=bool)
        else:
            beyond = np.abs(z).max(axis=0) > self.reach
        joint = np.empty((len(self.eta), X.shape[1]))
        multiply(self.eta, T, out=joint)
        return joint, beyond


def _reach(m: Array, V: Array) -> float:
    """Return r such that for |z| <= r the terms of |V (z - m)|^2 / 2 sum to what is tolerated.

    m (k, d) and V, (k, d, d) or one that all share, are absolute values. The precision V^T V is
    rounded too, from terms that may be larger than it is, so the bound is by |V|^T |V|.
    """
    A = np.broadcast_to(np.matmul(np.swapaxes(V, 1, 2), V), (*m.shape, m.shape[1]))
    a = A.sum(axis=(1, 2))
    b = np.einsum("kij,kj->k", A, m)
    c = np.einsum("ki,kij,kj->k", m, A, m)
    return _least_root(a, b, c)


def _reach_of_diagonals(m: Array, V: Array) -> float:
    """Return the same where V is diagonal, (k, d)."""
    A = V * V
    return _least_root(A.sum(axis=1), (A * m).sum(axis=1), (A * m * m).sum(axis=1))


def _least_root(a: Array, b: Array, c: Array) -> float:
    """Return the least r >= 0 such that a r^2 + 2 b r + c is twice what the terms may sum to."""
    terms = 2 * _TOLERATED / np.finfo(np.float64).eps
    return float(((np.sqrt(b * b + a * (terms - c)) - b) / a).min())
