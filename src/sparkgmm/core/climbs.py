"""EM over many sets of rows at once: each run climbs on the rows of its own set.

What em.py does for one model of many rows, done for many models of few rows each, where the calls
of numpy cost more than what they compute: arrays have a leading axis of runs. Steps, acceleration
and the estimate of what is left to gain are those of em.py and acceleration.py.

No number of a run depends on which others are there, or in which order: all operations are
element by element, sums along the other axes, or products of one small matrix after the other.

What is rare is left to the ordinary engine: a run is `out` where a component starves, doubles
another or gets nearly as narrow as there may be, or where products cancel.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np

from sparkgmm.core.acceleration import ALIGNED, DEPTH, GROWTH
from sparkgmm.core.em import ROUNDING, STARVED
from sparkgmm.core.widths import FEW
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments, diagonal_order, symmetric
from sparkgmm.density import LOG_2PI
from sparkgmm.products import Array

# A chunk of an E-step holds so many values of T: they stay in the cache.
_CHUNK_VALUES = 2**16
# A plain step of EM never falls by more than this, in nats a row.
_FALLEN = 1e-8
# Terms that cancel may be so large: they leave 1e-10 nats in a log density.
_CANCELLATION = 1e5
# Components nearer than this, in standard deviations and in relative covariance, may be one.
_ALIKE = 2e-3
# Logs of standard deviations in standardised coordinates are within this.
_LOG_SD = 16.0
# What is added to the normal equations of Anderson's method, whose diagonal is 1.
_RIDGE = 1e-12


@dataclass(frozen=True)
class Runs:
    """Arrays of which the first axis is that of the runs, or of the sets."""

    def take(self, which: Array) -> Self:
        """Return some of them, as a copy."""
        return type(self)(*(_taken(getattr(self, f.name), which) for f in fields(self)))

    def put(self, which: Array | slice, other: Self) -> None:
        """Write others in the place of some."""
        for f in fields(self):
            mine, theirs = getattr(self, f.name), getattr(other, f.name)
            if isinstance(mine, Runs):
                mine.put(which, theirs)
            else:
                mine[which] = theirs


def _taken(values: Array | Runs, which: Array) -> Array | Runs:
    return values.take(which) if isinstance(values, Runs) else values[which]


@dataclass(frozen=True)
class Sets(Runs):
    """Rows of G sets, each filled up to n rows by rows of weight 0.

    `T` (G, F, n) are the monomials of standardised rows, of which the first 1 + d are 1 and the
    rows; all are 0 of rows that fill up. `w` (G, n) are weights, `weight` (G,) their sums,
    `rows_per_weight` (G,) what makes rows of effective counts, `scale` (G, d) the features'
    standard deviations. `resolution` and `least` (G,) are the variances below which a component is
    too narrow, or may be: of one of many rows, and of one of few.
    """

    T: Array
    w: Array
    weight: Array
    rows_per_weight: Array
    scale: Array
    resolution: Array
    least: Array

    @property
    def d(self) -> int:
        """The number of features."""
        return int(self.scale.shape[1])

    @property
    def rows(self) -> Array:
        """The standardised rows, (G, d, n)."""
        return self.T[:, 1 : 1 + self.d]

    def responsibilities(self, eta: Array) -> Array:
        """Return weighted responsibilities (G, k, n) at a model each, of eta (G, k, F)."""
        R = np.matmul(eta, self.T[:, : eta.shape[2]])
        R -= R.max(axis=1)[:, None]
        np.exp(R, out=R)
        R *= (self.w / R.sum(axis=1))[:, None]
        return R

    def moments(self, R: Array, n_features: int) -> Array:
        """Return the moments (G, S, k, F) of weighted responsibilities (G, S, k, n)."""
        G, S, k, n = R.shape
        T = np.swapaxes(self.T[:, :n_features], 1, 2)
        return np.matmul(R.reshape(G, S * k, n), T).reshape(G, S, k, n_features)

    def least_of(self, family: Family, counts: Array, owner: Array) -> Array:
        """Return the variances below which components of effective counts (R, k) are too narrow."""
        owners = counts.sum(axis=1, keepdims=True) if family.shared else counts
        few = owners * self.rows_per_weight[owner, None] < 2 * FEW * family.least_rows(self.d)
        return np.where(few, self.least[owner, None], self.resolution[owner, None])

    def sums(self, eta: Array, owner: Array) -> tuple[Array, Array]:
        """Return the mean log-likelihoods (R,) and moments (R, k, F) at eta (R, k, F).

        `owner` (R,) says on which set's rows each is measured.
        """
        R, _, F = eta.shape
        S, total = np.empty_like(eta), np.empty(R)
        n = self.T.shape[2]
        step = max(1, _CHUNK_VALUES // (F * n))
        for start in range(0, R, step):
            here = slice(start, start + step)
            T, w = self.T[owner[here], :F], self.w[owner[here]]
            L = np.matmul(eta[here], T)
            top = L.max(axis=1)
            L -= top[:, None]
            np.exp(L, out=L)
            norm = L.sum(axis=1)
            top += np.log(norm)
            top *= w
            total[here] = top.sum(axis=1)
            w /= norm
            L *= w[:, None]
            np.matmul(L, np.swapaxes(T, 1, 2), out=S[here])
        return total / self.weight[owner], S


@dataclass(frozen=True)
class Models(Runs):
    """Mixtures of k components: `log_weights` (R, k), `means` (R, k, d), and factors.

    Those are Cholesky factors and their inverses, (R, k, d, d), or standard deviations and theirs,
    (R, k, d). `eta` (R, k, F) are the natural parameters, `vector` (R, p) the coordinates without
    bounds, as in acceleration.py. A matrix that is no covariance has NaN.
    """

    log_weights: Array
    means: Array
    factors: Array
    inverses: Array
    eta: Array
    vector: Array

    @classmethod
    def of(cls, log_weights: Array, means: Array, factors: Array) -> Models:
        """Make what follows from the parameters."""
        R, d = len(means), means.shape[2]
        if factors.ndim == 3:
            inverses = 1 / factors
            quadratic = -0.5 * inverses * inverses
            linear = -2 * quadratic * means
            logs = np.log(factors)
            log_sds = packed = logs
        else:
            inverses = inverse(factors)
            P = np.matmul(np.swapaxes(inverses, 2, 3), inverses)
            linear = np.matmul(P, means[..., None])[..., 0]
            rows, columns = diagonal_order(d)
            quadratic = -P[:, :, rows, columns]
            quadratic[:, :, :d] *= 0.5
            log_sds = np.log(np.einsum("rkii->rki", factors))
            L = factors.copy()
            np.einsum("rkii->rki", L)[...] = log_sds
            packed = L[:, :, *np.tril_indices(d)]
        constant = log_weights - 0.5 * (
            d * LOG_2PI + 2 * log_sds.sum(axis=2) + (linear * means).sum(axis=2)
        )
        eta = np.concatenate([constant[..., None], linear, quadratic], axis=2)
        vector = np.concatenate([log_weights, means.reshape(R, -1), packed.reshape(R, -1)], axis=1)
        return cls(log_weights, means, factors, inverses, eta, vector)

    def unpacked(self, vector: Array) -> Models:
        """Return the models of coordinates (R, p), of the same shape; NaN where they are none."""
        R = len(vector)
        k, d = self.means.shape[1:]
        logs, means, packed = np.split(vector, [k, k + k * d], axis=1)
        logs = logs - logs.max(axis=1, keepdims=True)
        logs -= np.log(np.exp(logs).sum(axis=1, keepdims=True))
        if self.factors.ndim == 3:
            factors = _exp(packed.reshape(R, k, d))
        else:
            factors = np.zeros((R, k, d, d))
            factors[:, :, *np.tril_indices(d)] = packed.reshape(R, k, d * (d + 1) // 2)
            diagonal = np.einsum("rkii->rki", factors)
            diagonal[...] = _exp(diagonal)
        return Models.of(logs, np.ascontiguousarray(means).reshape(R, k, d), factors)

    @property
    def variances(self) -> Array:
        """The variances, (R, k, d)."""
        squares = self.factors * self.factors
        return squares if squares.ndim == 3 else squares.sum(axis=3)

    @property
    def narrowest(self) -> Array:
        """Variances that no component is below in any direction, (R, k): NaN of no covariance."""
        squares = self.inverses * self.inverses
        return np.asarray(1 / squares.reshape(*squares.shape[:2], -1).sum(axis=2))

    def metric(self) -> Array:
        """Weigh the coordinates as acceleration.py does, (R, p)."""
        root = np.exp(0.5 * self.log_weights)[..., None]
        R, d = len(self.means), self.means.shape[2]
        if self.factors.ndim == 3:
            sd = self.factors
            shape = np.broadcast_to(root * np.sqrt(2.0), sd.shape)
        else:
            sd = np.sqrt(self.variances)
            rows, columns = np.tril_indices(d)
            shape = 1 / np.einsum("rkii->rki", self.factors)[:, :, rows]
            shape[:, :, rows == columns] = np.sqrt(2.0)
            shape *= root
        return np.concatenate(
            [root[..., 0], (root / sd).reshape(R, -1), shape.reshape(R, -1)], axis=1
        )

    def slopes(self, S: Array) -> Array:
        """Return the derivatives of the expected log-likelihood by the coordinates, (R, p).

        `S` (R, k, F) are the moments; they are summed over the rows.
        """
        R, d = len(self.means), self.means.shape[2]
        counts, first = S[:, :, 0], S[:, :, 1 : 1 + d]
        weights = np.exp(self.log_weights)
        by_weight = counts - weights * counts.sum(axis=1, keepdims=True)
        about = first - counts[..., None] * self.means
        if self.factors.ndim == 3:
            precision = self.inverses * self.inverses
            by_mean = precision * about
            second = S[:, :, 1 + d :] - (first + about) * self.means
            by_factor = second * precision - counts[..., None]
        else:
            W = self.inverses
            P = np.matmul(np.swapaxes(W, 2, 3), W)
            by_mean = np.matmul(P, about[..., None])[..., 0]
            second = symmetric(S[:, :, 1 + d :], d)
            second -= first[..., None] * self.means[:, :, None, :]
            second -= self.means[..., None] * about[:, :, None, :]
            by_factor = np.matmul(np.matmul(P, second), np.swapaxes(W, 2, 3))
            diagonal = np.einsum("rkii->rki", by_factor)
            diagonal *= np.einsum("rkii->rki", self.factors)
            diagonal -= counts[..., None]
            by_factor = by_factor[:, :, *np.tril_indices(d)]
        return np.concatenate([by_weight, by_mean.reshape(R, -1), by_factor.reshape(R, -1)], axis=1)

    def sound(self, least: Array) -> Array:
        """Say which have nothing that products cannot measure, nor is too narrow, (R,).

        `least` (R, k) are the variances below which a component is too narrow.
        """
        narrowest = self.narrowest
        reach = np.abs(self.means) + 3 * np.sqrt(self.variances)
        terms = (reach * reach).sum(axis=2) / narrowest
        good = (narrowest > least) & (terms < _CANCELLATION)  # False of NaN
        return np.asarray(good.all(axis=1))

    def doubled(self) -> Array:
        """Say which have two components that may be one, (R,)."""
        k = self.means.shape[1]
        variances = self.variances
        found = np.zeros(len(variances), dtype=bool)
        for j in range(1, k):
            own = variances[:, j : j + 1]
            near = np.abs(self.means[:, :j] - self.means[:, j : j + 1]) < _ALIKE * np.sqrt(own)
            alike = np.abs(variances[:, :j] - own) < _ALIKE * own
            found |= (near & alike).all(axis=2).any(axis=1)
        return found


def _exp(logs: Array) -> Array:
    """Return the exponentials of logs of standard deviations, NaN where they are off."""
    return np.where(np.abs(logs) < _LOG_SD, np.exp(np.minimum(logs, _LOG_SD)), np.nan)


@np.errstate(invalid="ignore", divide="ignore")
def cholesky(C: Array) -> Array:
    """Return the lower Cholesky factors of matrices (..., d, d), NaN where there is none.

    A column after the other, for all of them: LAPACK takes them one by one, and stops at the first
    that has none.
    """
    d = C.shape[-1]
    L = np.zeros_like(C)
    for j in range(d):
        rest = C[..., j:, j]
        if j:
            rest = rest - np.matmul(L[..., j:, :j], L[..., j, :j, None])[..., 0]
        pivot = rest[..., :1]
        L[..., j:, j] = rest / np.sqrt(np.where(pivot > 0, pivot, np.nan))
    return L


def inverse(L: Array) -> Array:
    """Return the inverses of lower triangular matrices (..., d, d)."""
    d = L.shape[-1]
    W = np.zeros_like(L)
    for i in range(d):
        W[..., i, i] = 1 / L[..., i, i]
        if i:
            row = np.matmul(L[..., i : i + 1, :i], W[..., :i, :i])[..., 0, :]
            W[..., i, :i] = -W[..., i, i, None] * row
    return W


def estimated(family: Family, S: Array, scale: Array, ridge: float = 0.0) -> Models:
    """Return the M-step of moments (R, k, F); `scale` (R, d) are standard deviations of the data.

    Variances are raised by `ridge`.
    """
    R, k, F = S.shape
    d = scale.shape[1]
    counts = S[:, :, 0]
    shares = counts / counts.sum(axis=1, keepdims=True)
    nothing = np.zeros((R * k, d))
    moments = Moments.unpack(
        S.reshape(R * k, F), nothing, np.repeat(scale, k, axis=0), nothing[:0]
    )._replace(ridge=ridge)
    means = moments.offset.reshape(R, k, d)
    if family.shared:
        spread = moments.scatter().reshape(R, k, d, d)
        pooled = (shares[:, :, None, None] * spread).sum(axis=1)
        np.einsum("rii->ri", pooled)[...] += ridge
        factors = np.repeat(cholesky(pooled)[:, None], k, axis=1)
    elif family.diagonal:
        with np.errstate(invalid="ignore"):
            factors = np.sqrt(family.estimate(moments).variances).reshape(R, k, d)
    else:
        factors = cholesky(family.estimate(moments).values).reshape(R, k, d, d)
    return Models.of(np.log(shares), means, factors)


@dataclass(frozen=True)
class Climbs(Runs):
    """Runs of EM: where each is, what was measured there, and what it tries next.

    `owner` (R,) says on which set's rows; `model` is the best so far, `S` (R, k, F) its moments and
    `log_likelihood` (R,) its mean. `next` is measured next: it is the `plain` step where
    `is_plain`. `distance` estimates how far the limit is. `out` are those that the ordinary engine
    has to do. The rest is what Anderson's method knows of the steps before.
    """

    owner: Array
    model: Models
    S: Array
    log_likelihood: Array
    next: Models
    plain: Models
    is_plain: Array
    distance: Array
    n_iter: Array
    out: Array
    has_last: Array
    last_point: Array
    last_residual: Array
    last_length: Array
    last_direction: Array
    residuals: Array
    steps: Array
    n_kept: Array
    reach: Array

    @classmethod
    def at(cls, models: Models, owner: Array, sets: Sets) -> Climbs:
        """Begin at some models, on the rows of their owners."""
        R, p = models.vector.shape
        all_of = np.arange(R)
        return cls(
            owner=owner,
            model=models,
            S=np.zeros_like(models.eta),
            log_likelihood=np.full(R, -np.inf),
            next=models.take(all_of),
            plain=models.take(all_of),
            is_plain=np.ones(R, dtype=bool),
            distance=np.full(R, np.inf),
            n_iter=np.zeros(R, dtype=int),
            out=~models.sound(sets.resolution[owner, None]),
            has_last=np.zeros(R, dtype=bool),
            last_point=np.zeros((R, p)),
            last_residual=np.zeros((R, p)),
            last_length=np.full(R, np.inf),
            last_direction=np.zeros((R, p)),
            residuals=np.zeros((R, DEPTH, p)),
            steps=np.zeros((R, DEPTH, p)),
            n_kept=np.zeros(R, dtype=int),
            reach=np.ones(R),
        )

    def climb(self, sets: Sets, family: Family, tol: float, most: int) -> None:
        """Go on until each is out, within `tol` of its limit, or has made so many passes."""
        ids = np.flatnonzero(~self.out & (self.distance > tol) & (self.n_iter < most))
        live = self.take(ids)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # `sound` is False then
            while len(ids):
                live._pass(sets, family, tol)
                going = ~live.out & (live.distance > tol) & (live.n_iter < most)
                if not going.all():
                    self.put(ids[~going], live.take(~going))
                    ids, live = ids[going], live.take(going)

    def _pass(self, sets: Sets, family: Family, tol: float) -> None:
        """Measure what is next, and find what comes after it."""
        log_likelihood, S = sets.sums(self.next.eta, self.owner)
        self.n_iter[:] += 1
        fell = ~(log_likelihood >= self.log_likelihood - ROUNDING)
        if fell.any():
            stuck = fell & self.is_plain  # by rounding: EM itself never falls
            self.distance[stuck] = 0.0
            self.out[stuck] |= ~(log_likelihood >= self.log_likelihood - _FALLEN)[stuck]
            back = np.flatnonzero(fell & ~self.is_plain)
            self.next.put(back, self.plain.take(back))
            self.is_plain[back] = True
            self.has_last[back] = False
            self.n_kept[back] = 0
            self.reach[back] = np.maximum(1.0, self.reach[back] / GROWTH)
            on = np.flatnonzero(~fell)
            if len(on):
                some = self.take(on)
                some._accept(S[on], log_likelihood[on], sets, family, tol)
                self.put(on, some)
        else:
            self._accept(S, log_likelihood, sets, family, tol)

    def _accept(
        self, S: Array, log_likelihood: Array, sets: Sets, family: Family, tol: float
    ) -> None:
        """Take the model that was measured for the best, and make the next step from there."""
        every = slice(None)
        self.model.put(every, self.next)
        self.S[:], self.log_likelihood[:] = S, log_likelihood
        weight, here = sets.weight[self.owner], self.model
        plain = estimated(family, S, sets.scale[self.owner])
        least = sets.least_of(family, S[:, :, 0], self.owner)
        self.out[:] |= (S[:, :, 0] < STARVED).any(axis=1) | ~plain.sound(least)
        self.plain.put(every, plain)
        vector, further = self._extrapolated(plain)
        self.next.put(every, plain)
        further = np.flatnonzero(further & ~self.out)
        self.is_plain[:] = True
        if len(further):
            proposal = plain.unpacked(vector[further])
            good = proposal.sound(least[further])
            self.next.put(further[good], proposal.take(good))
            self.is_plain[further[good]] = False
        gain = ((plain.eta - here.eta) * S).reshape(len(S), -1).sum(axis=1) / weight
        self.distance[:] = np.where(gain > 0, gain, 0.0)
        near = np.flatnonzero(gain <= tol)
        if len(near):
            way = self.next.vector[near] - here.vector[near]
            slope = (here.take(near).slopes(S[near]) * way).sum(axis=1) / weight[near]
            self.distance[near] = np.maximum(0.5 * np.abs(slope), self.distance[near])

    def _extrapolated(self, plain: Models) -> tuple[Array, Array]:
        """Return the coordinates of where to go (R, p), and where that is not the plain step (R,).

        `Anderson.extrapolate`, for all runs. The least squares are solved by normal equations: the
        directions have length 1, and what they hardly tell apart the ridge leaves.
        """
        weight, point = plain.metric(), self.model.vector
        residual = plain.vector - point
        direction = residual * weight
        length = np.sqrt((direction * direction).sum(axis=1))
        longer = length > self.last_length
        cosine = (direction * self.last_direction).sum(axis=1)
        ahead = longer & (cosine > ALIGNED * length * self.last_length)
        self.last_length[:], self.last_direction[:] = length, direction
        self.reach[ahead] *= GROWTH
        self.n_kept[longer] = 0
        mixed = self.has_last & ~longer
        at = np.flatnonzero(mixed)
        slot = self.n_kept[at] % DEPTH
        self.residuals[at, slot] = residual[at] - self.last_residual[at]
        self.steps[at, slot] = point[at] - self.last_point[at] + self.residuals[at, slot]
        self.n_kept[at] += 1
        self.has_last[:] = ~ahead
        self.last_point[:], self.last_residual[:] = point, residual
        vector = point + residual * self.reach[:, None]
        if len(at):
            known = np.arange(DEPTH) < self.n_kept[at, None]
            F = self.residuals[at] * weight[at, None]
            sizes = np.sqrt((F * F).sum(axis=2))
            known &= sizes > 0
            sizes = np.where(known, sizes, 1.0)
            F = np.where(known[..., None], F / sizes[..., None], 0.0)
            gram = np.matmul(F, np.swapaxes(F, 1, 2))
            np.einsum("rii->ri", gram)[...] = 1 + _RIDGE
            sides = np.matmul(F, direction[at, :, None])
            gamma = np.linalg.solve(gram, sides) / sizes[..., None]
            beyond = -np.matmul(np.swapaxes(gamma, 1, 2), self.steps[at])[:, 0]
            size = np.sqrt(((beyond * weight[at]) ** 2).sum(axis=1))
            excess = size / np.maximum(self.reach[at] * length[at], 1e-300)
            beyond /= np.maximum(excess, 1.0)[:, None]
            self.reach[at[excess > 1]] *= GROWTH
            vector[at] = point[at] + residual[at] + beyond
        return vector, ahead | mixed
