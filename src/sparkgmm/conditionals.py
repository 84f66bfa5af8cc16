"""What a mixture says of some features given others: closed forms, without a pass over data.

With o the features that are known and u those that are not, component j of a mixture is, given o,

    weight    pi_j N(x_o; mu_jo, Sigma_joo) / sum over j
    mean      mu_ju + B_j (x_o - mu_jo),    B_j = Sigma_juo Sigma_joo^-1
    covariance  Sigma_juu - B_j Sigma_jou

(Bishop 2006, equations 2.81, 2.82, 2.98; Ghahramani and Jordan 1994 for the mixture). Both come
from one Cholesky factor of the covariance with the known features put first, L = [[L_oo, 0],
[L_uo, L_uu]]: B_j = L_uo L_oo^-1, and the covariance is L_uu L_uu^T, which no rounding makes
negative.

Levels and counts beside the numeric features are independent of them within a component: those that
are known multiply its weight by their probability, and say nothing else. Rows (n, D) have the d
numeric features, then such columns, NaN where a value is not known.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from sparkgmm.covariances.stacks import Dense, Diagonal
from sparkgmm.density import LOG_2PI, Density
from sparkgmm.parts import Parts
from sparkgmm.products import Array

Positions = NDArray[np.intp]

# Rows are taken so many at a time that an array of rows, components and features has 8 MiB.
_CHUNK_VALUES = 2**20
# Beyond this log density, in nats, the terms of `surprise` cancel to fewer than six digits.
_FAR = 1e9


@dataclass(frozen=True)
class Components:
    """Weights (k,), means (k, d) and matrices: covariances (k, d, d), or variances (k, d).

    The latter where no two features correlate within a component: then no d x d array is made.
    `parts` are factors of columns that follow the features.
    """

    weights: Array
    means: Array
    matrices: Array
    parts: Parts = ()

    @property
    def diagonal(self) -> bool:
        """Whether `matrices` are variances."""
        return self.matrices.ndim == 2

    @property
    def variances(self) -> Array:
        """The variances of the features, (k, d)."""
        return self.matrices if self.diagonal else np.einsum("kii->ki", self.matrices)

    def take(self, which: Positions) -> Components:
        """Return the marginal of some features, in their order, and of all parts."""
        matrices = (
            self.matrices[:, which]
            if self.diagonal
            else self.matrices[:, which[:, None], which[None, :]]
        )
        parts = (part.aligned(part.of, i) for i, part in enumerate(self.parts, len(which)))
        return Components(self.weights, self.means[:, which], matrices, tuple(parts))

    def responsibilities(self, rows: Array) -> Array:
        """Return P(component | row) of rows (n, D), (n, k): the weights where D is 0."""
        if not rows.shape[1]:
            return np.broadcast_to(self.weights / self.weights.sum(), (len(rows), len(self.means)))
        return self.density().responsibilities(rows)

    def density(self) -> Density:
        """Return what scores rows at the components."""
        stack = Diagonal(self.matrices) if self.diagonal else Dense(self.matrices)
        return Density.of(self.weights, self.means, stack, self.parts)


@dataclass(frozen=True)
class _Given:
    """Components of the features u given the features o: what does not depend on a row."""

    known: Components
    means: Array
    roots: Array | None
    slopes: Array | None
    matrices: Array

    @classmethod
    def of(cls, components: Components, o: Positions, u: Positions) -> _Given:
        known, means = components.take(o), components.means[:, u]
        if components.diagonal or not len(o):
            return cls(known, means, None, None, components.take(u).matrices)
        factors = np.linalg.cholesky(components.take(np.concatenate([o, u])).matrices)
        roots, slopes, rest = (
            factors[:, : len(o), : len(o)],
            factors[:, len(o) :, : len(o)],
            factors[:, len(o) :, len(o) :],
        )
        return cls(known, means, roots, slopes, rest @ np.swapaxes(rest, 1, 2))

    def means_at(self, rows: Array) -> Array:
        """Return the means of u in each component at rows that begin with o, (k, u, n)."""
        if self.roots is None or self.slopes is None:
            return np.broadcast_to(self.means[:, :, None], (*self.means.shape, len(rows)))
        known = self.known.means
        residuals = rows.T[: known.shape[1]] - known[:, :, None]
        return self.means[:, :, None] + self.slopes @ np.linalg.solve(self.roots, residuals)


def conditional(components: Components, o: Positions, values: Array, u: Positions) -> Components:
    """Return the components of the features u where the features o have the values (o,)."""
    given, row = _Given.of(components, o, u), values[None, :]
    return Components(
        given.known.responsibilities(row)[0], given.means_at(row)[:, :, 0], given.matrices
    )


def moments(components: Components, rows: Array, wanted: Positions) -> tuple[Array, Array]:
    """Return mean and standard deviation of the wanted features given all others of each row.

    Rows are (n, D), the results (n, wanted). What is NaN is not known, as is what is wanted.
    """
    mean = np.empty((len(rows), len(wanted)))
    sd = np.empty_like(mean)
    d = components.means.shape[1]
    known = ~np.isnan(rows[:, :d])
    known[:, wanted] = False
    for which, pattern in _patterns(known):
        o = np.flatnonzero(pattern)
        given = _Given.of(components, o, wanted)
        variances = Components(components.weights, given.means, given.matrices).variances
        step = max(64, _CHUNK_VALUES // (len(given.means) * max(len(wanted), len(o), 1)))
        for start in range(0, len(which), step):
            here = which[start : start + step]
            mean[here], sd[here] = _mixed(given, _columns(rows[here], o, d), variances)
    return mean, sd


def _columns(rows: Array, which: Positions, d: int) -> Array:
    """Return the columns of some of d features, and of all parts."""
    return np.asarray(rows[:, [*which, *range(d, rows.shape[1])]])


@np.errstate(over="ignore", invalid="ignore")
def _mixed(given: _Given, rows: Array, variances: Array) -> tuple[Array, Array]:
    """Return mean and sd (n, u) of a mixture at rows of the features o and all parts."""
    shares = given.known.responsibilities(rows).T[:, None, :]
    means = np.where(shares > 0, given.means_at(rows), 0.0)  # a share of 0 times inf is 0
    mean = (shares * means).sum(axis=0)
    spread = np.where(shares > 0, variances[:, :, None] + (means - mean) ** 2, 0.0)
    return mean.T, np.sqrt((shares * spread).sum(axis=0)).T


def imputed(components: Components, rows: Array) -> Array:
    """Return rows (n, D) with each NaN replaced by its mean given what the row has.

    A level is replaced by the most probable one.
    """
    filled = rows.copy()
    d = components.means.shape[1]
    missing = np.isnan(rows)
    for which, pattern in _patterns(missing[:, :d]):
        if pattern.any():
            u = np.flatnonzero(pattern)
            filled[np.ix_(which, u)] = moments(components, rows[which], u)[0]
    beside = np.flatnonzero(missing[:, d:].any(axis=1))
    if len(beside):
        shares = scores_with_gaps(components, rows[beside])[1]
        for i, part in enumerate(components.parts, d):
            here = missing[beside, i]
            filled[beside[here], i] = part.likely(shares[here])
    return filled


def scores_with_gaps(components: Components, rows: Array) -> tuple[Array, Array]:
    """Return log density (n,) and responsibilities (n, k) of what rows (n, D) have: NaN is unknown.

    A row that has nothing has a density of 1, and the weights for its responsibilities.
    """
    log_density = np.zeros(len(rows))
    d = components.means.shape[1]
    R = np.empty((len(rows), len(components.means)))
    for which, pattern in _patterns(~np.isnan(rows[:, :d])):
        o = np.flatnonzero(pattern)
        known, here = components.take(o), _columns(rows[which], o, d)
        if not here.shape[1]:
            R[which] = known.responsibilities(here)
            continue
        shares = np.empty((len(which), R.shape[1]))
        log_density[which] = known.density().score(here, shares)
        R[which] = shares
    return log_density, R


def surprises(components: Components, rows: Array) -> Array:
    """Return -log p(a value | the others of the row), in nats, for rows (n, D): (n, D).

    What is NaN is not known: it has no surprise (NaN), and others are given without it.
    """
    result = np.full(rows.shape, np.nan)
    d = components.means.shape[1]
    beside = np.arange(d, rows.shape[1])
    for which, pattern in _patterns(~np.isnan(rows[:, :d])):
        o = np.flatnonzero(pattern)
        at = np.ix_(which, np.concatenate([o, beside]))
        result[at] = _surprises(components.take(o), _columns(rows[which], o, d))
    return result


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _surprises(components: Components, rows: Array) -> Array:
    """Do it for rows without NaN.

    In component j, with P the precision, x_i given all others is Gaussian with variance 1 / P_ii
    and residual (P (x - mu))_i / P_ii (Rue and Held 2005, theorem 2.3): one product gives all i.
    """
    (k, d), n = components.means.shape, len(rows)
    whiteners = (
        None if components.diagonal else np.linalg.inv(np.linalg.cholesky(components.matrices))
    )
    precisions = (
        1 / components.matrices if whiteners is None else (whiteners**2).sum(axis=1)
    )  # P_ii, (k, d)
    half_log_dets = (
        0.5 * np.log(components.matrices).sum(axis=1)
        if whiteners is None
        else -np.log(np.einsum("kii->ki", whiteners)).sum(axis=1)
    )
    log_norms = np.log(components.weights) - 0.5 * d * LOG_2PI - half_log_dets
    log_peaks = 0.5 * (np.log(precisions) - LOG_2PI)
    result = np.empty(rows.shape)
    step = max(64, _CHUNK_VALUES // (k * max(d, 1)))
    for start in range(0, n, step):
        chunk = rows[start : start + step]
        joint = np.empty((k, len(chunk), 1))
        own = np.empty((k, *chunk.shape))  # log p(x_i | the others, component j)
        for j in range(k):
            residuals = chunk[:, :d] - components.means[j]
            if whiteners is None:
                pulls = residuals * precisions[j]
                squares = (residuals * pulls).sum(axis=1)
            else:
                Y = residuals @ whiteners[j].T
                pulls = Y @ whiteners[j]
                squares = np.einsum("ni,ni->n", Y, Y)
            joint[j, :, 0] = log_norms[j] - 0.5 * squares
            own[j, :, :d] = log_peaks[j] - 0.5 * pulls**2 / precisions[j]
        for i, part in enumerate(components.parts, d):
            own[:, :, i] = part.log_density(chunk.T)
        beside = own[:, :, d:]
        numeric, joint = joint, joint + beside.sum(axis=2, keepdims=True)
        found = np.empty(chunk.shape)
        found[:, :d] = _log_sum(joint - own[:, :, :d]) - _log_sum(joint)
        for i in range(d, chunk.shape[1]):
            # by a sum, since a level that cannot be would be taken from -inf
            others = numeric[:, :, 0] + np.delete(own, i, axis=2)[:, :, d:].sum(axis=2)
            found[:, i] = _log_sum(others) - _log_sum(joint[:, :, 0])
        far = ~(joint.max(axis=0)[:, 0] > -_FAR)  # or it is no number
        if far.any():
            found[far] = _far_out(components, chunk[far], own[:, far])
        for i, part in enumerate(components.parts, d):
            found[~part.known(chunk.T), i] = np.nan
        result[start : start + step] = found
    return result


def _far_out(components: Components, rows: Array, own: Array) -> Array:
    """Do it a value at a time, by the density of the others, where nothing cancels."""
    own[np.isnan(own)] = -np.inf  # inf - inf on the way is a distance without bound
    result = np.empty(rows.shape)
    d = components.means.shape[1]
    for i in range(rows.shape[1]):
        rest, others = components, rows.copy()
        if i < d:
            which = np.delete(np.arange(d), i)
            rest, others = components.take(which), _columns(rows, which, d)
        else:
            others[:, i] = np.nan
        shares = rest.responsibilities(others).T
        result[:, i] = -_log_sum(np.log(shares) + own[:, :, i])
    return result


def _log_sum(logs: Array) -> Array:
    """Return log(sum of exp) over the first axis."""
    top = logs.max(axis=0)
    safe = np.where(np.isfinite(top), top, 0.0)
    return np.asarray(np.log(np.exp(logs - safe).sum(axis=0)) + safe)


def quantile(components: Components, q: float) -> float:
    """Return where a mixture of one feature has the share q (0 to 1) of its mass below.

    By bisection down to neighbouring numbers; q is of the nearer tail, so that 1e-300 is as exact
    as 0.5.
    """
    if q in (0.0, 1.0):
        return -math.inf if q == 0.0 else math.inf
    means, sds = components.means[:, 0], np.sqrt(components.variances[:, 0])
    shares = components.weights / components.weights.sum()
    means, sds, shares = means[shares > 0], sds[shares > 0], shares[shares > 0]
    ends = means + sds * NormalDist().inv_cdf(q)
    low, high = float(ends.min()), float(ends.max())
    side, target = (1.0, q) if q <= 0.5 else (-1.0, 1 - q)
    scaled = 1 / (sds * math.sqrt(2.0))
    while True:
        middle = low + 0.5 * (high - low)
        if not low < middle < high:
            return middle
        tails = [math.erfc(-side * z) for z in ((middle - means) * scaled).tolist()]
        if side * (0.5 * float(shares @ tails) - target) < 0:
            low = middle
        else:
            high = middle


def _patterns(flags: NDArray[np.bool_]) -> Iterator[tuple[Positions, NDArray[np.bool_]]]:
    """Yield the rows of each pattern of flags (n, d), and the pattern (d,)."""
    if not len(flags):
        return
    if (flags == flags[0]).all():
        yield np.arange(len(flags)), flags[0]
        return
    packed = np.packbits(flags, axis=1)
    _, first, inverse = np.unique(packed, axis=0, return_index=True, return_inverse=True)
    inverse = inverse.ravel()  # numpy 2.0 alone returns it as a column
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse))
    for pattern, which in zip(first, np.split(order, ends[:-1]), strict=True):
        yield which, flags[pattern]
