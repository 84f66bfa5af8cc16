"""Short runs of plain EM, many at once: what a start is worth, before it is worth its own run.

Biernacki, Celeux and Govaert (2003), "Choosing starting values for the EM algorithm for getting the
highest likelihood in multivariate Gaussian mixture models": em-EM. The runs share a family and k;
their components stand in one stack, so a step costs a few calls however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from sparkgmm.core.evidence import Measured
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.model import Model, check_volume
from sparkgmm.core.prior import Prior, m_step
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Stack
from sparkgmm.density import natural_parameters
from sparkgmm.parts import Parts, estimated, fill, natural, split
from sparkgmm.products import Array, fill_monomials, second_moment, squares

# A chunk of log joint densities holds so many values.
_CHUNK_VALUES = 2**19
# Models whose terms cancel more than this are left to runs of their own. At this size a log density
# is wrong by 1e-6 nats, which tells optima apart, also where a component is on equal rows.
_CANCELLATION = 1e10
# What it is of a component of the least variance in one feature, and so about that of all.
_LEAST_CANCELLATION = 1e9
# Weights above this are taken for shares of it.
_HUGE = 1e150
# A component of fewer effective rows than this share of the least ends its run.
_LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Sample:
    """Rows in memory: their weights (n,) and monomials T (F, n), and the constants of the data.

    `scale` (d,) and `total` (d, d) are those of `Seeds`. `beside` (width, n) is what parts beside
    the Gaussian make of the rows.
    """

    w: Array
    T: Array
    scale: Array
    total: Array
    beside: Array

    @classmethod
    def of(cls, seeds: Seeds, n_features: int) -> Sample:
        """Fill so many monomials of the seeds: those that the families to be fitted need."""
        Z, w, scale, total = seeds[:4]
        if w.max(initial=0.0) > _HUGE:  # sums of them would overflow: only shares matter then
            w = w / w.max()
        n, d = Z.shape
        T = np.empty((n_features, n))
        T[1 : 1 + d] = Z.T
        fill_monomials(T[1 : 1 + d], T)
        second = second_moment(Z.T, w) if total.ndim == 2 else squares(Z.T, w)
        beside = fill(seeds.parts, seeds.rows.T) if seeds.parts else np.empty((0, n))
        return cls(w, T, scale, second / w.sum(), beside)

    @property
    def d(self) -> int:
        """The number of features."""
        return len(self.scale)

    def sums(self, every: Model, k: int) -> tuple[Array, Array]:
        """Return each run's mean log-likelihood (B,), and the moments (B k, F).

        The sums of parts beside the Gaussian come last.
        """
        eta, T = self._products(every)
        B, F = len(eta) // k, eta.shape[1]
        n = T.shape[1]
        step = max(64, _CHUNK_VALUES // len(eta))
        S, total = np.zeros((B * k, F)), np.zeros(B)
        for start in range(0, n, step):
            here = slice(start, start + step)
            T_here, w = T[:, here], self.w[here]
            L = (eta @ T_here).reshape(B, k, -1)
            top = L.max(axis=1)
            L -= top[:, None]
            np.exp(L, out=L)
            norm = L.sum(axis=1)
            total += (np.log(norm) + top) @ w
            L *= (w / norm)[:, None]
            S += L.reshape(B * k, -1) @ T_here.T
        return total / self.w.sum(), S

    def log_joint(self, model: Model) -> Array:
        """Return the log joint densities (k, n) at a model, but for a term that all share."""
        eta, T = self._products(model)
        return np.asarray(eta @ T)

    def _products(self, model: Model) -> tuple[Array, Array]:
        """Return what is multiplied for log joint densities: eta (k, F) and T (F, n)."""
        eta = natural_parameters(model)
        T = self.T[: eta.shape[1]]
        if not model.others:
            return eta, T
        eta = np.concatenate([eta, natural(model.others)], axis=1)
        return eta, np.concatenate([T, self.beside])

    def moments(self, packed: Array, parts: Parts) -> Moments:
        """Read the sums (k, F)."""
        origin = np.zeros((len(packed), self.d))
        others: tuple[Array, ...] = ()
        if parts:
            width = len(self.beside)
            packed, others = packed[:, :-width], split(parts, packed[:, -width:])
        return Moments.unpack(packed, origin, self.scale, self.total, others)

    @property
    def rows_per_weight(self) -> float:
        """What makes rows of effective counts."""
        return max(1.0, len(self.w) / float(self.w.sum()))


def least_variances(seeds: Seeds) -> Array:
    """Return the least variances (d,) of components that products of these rows can measure.

    Components on one value far out are narrower. Held so wide, rows of that value are less likely
    by a factor that all optima share.
    """
    return np.asarray((seeds.Z**2).max(axis=0, initial=0.0) / _LEAST_CANCELLATION)


def climb(
    models: Sequence[Model], sample: Sample, prior: Prior, passes: int
) -> list[tuple[Model, Measured]]:
    """Run plain EM from each model, so many passes, and return each with what was measured at it.

    All are of one family and k. Those that lost a component are left out. The last pass measures:
    nothing is estimated from it.
    """
    if not models:
        return []
    k = models[0].k
    every = _measurable(_joined(models), k)
    if every is None:
        return []
    for number in range(passes):
        log_likelihoods, packed = sample.sums(every, k)
        if number + 1 < passes:
            after = _step(every, k, packed, sample, prior)
            if after is None:
                return []
            every = after
    parts = _parts(every, k)
    if every.family.shared:  # what all components share eta leaves out
        log_likelihoods -= [0.5 * model.stack.quadratic_of(sample.total) for model in parts]
    sums = packed.reshape(-1, k, packed.shape[1])
    return [
        (model, Measured(sample.moments(mine, model.others), log_likelihood))
        for model, mine, log_likelihood in zip(parts, sums, log_likelihoods.tolist(), strict=True)
    ]


def _step(every: Model, k: int, packed: Array, sample: Sample, prior: Prior) -> Model | None:
    """Return the models one step of EM on, without those that have no next step."""
    counts = packed[:, 0].reshape(-1, k)
    least = _LEAST_SHARE * every.family.least_rows(sample.d)
    enough = counts.min(axis=1) * sample.rows_per_weight >= least
    if not enough.any():
        return None
    every, packed = _some(every, enough, k), packed[np.repeat(enough, k)]
    after: Model | None
    try:
        after = _step_at_once(every, k, packed, sample, prior)
    except np.linalg.LinAlgError:
        after = None
    if after is None:
        stepped = []
        sums = packed.reshape(-1, k, packed.shape[1])
        for model, mine in zip(_parts(every, k), sums, strict=True):
            with suppress(np.linalg.LinAlgError):
                moments = sample.moments(mine, model.others)
                stepped.append(m_step(every.family, moments, prior, model.stack, model.others))
        if not stepped:
            return None
        after = _joined(stepped)
    weights = after.weights.reshape(-1, k)
    after = replace(after, weights=(weights / weights.sum(axis=1, keepdims=True)).ravel())
    return _measurable(after, k)


def _measurable(every: Model, k: int) -> Model | None:
    """Leave out the models that products cannot measure: a spike, or one for a run of its own."""
    wide = every.stack.cancellation(every.means).reshape(-1, k).max(axis=1) <= _CANCELLATION
    return _some(every, wide, k) if wide.any() else None


def _step_at_once(
    every: Model, k: int, packed: Array, sample: Sample, prior: Prior
) -> Model | None:
    """Return what one M-step for all makes of them, None where each has to make its own.

    Where each component's matrix is estimated from its own rows there is no difference between
    the components of one model and of many.
    """
    family = every.family
    moments = sample.moments(packed, every.others)
    if not family.closed:
        return None
    if not family.shared:
        return m_step(family, moments, prior, every.stack, every.others)
    stack = family.estimate_each(moments, k)
    if stack is None:
        return None
    parts = estimated(every.others, moments.counts, moments.others)
    model = Model(family, moments.shares, moments.origin + moments.offset, stack, parts)
    model = prior.within(model, moments.counts)
    check_volume(model)
    return _spread(model, k)


def _spread(model: Model, k: int) -> Model:
    """Return a model with a matrix a component from one with a matrix for k components."""
    which = np.repeat(np.arange(len(model.stack.values)), k)
    return Model(model.family, model.weights, model.means, _at(model.stack, which), model.others)


def _joined(models: Sequence[Model]) -> Model:
    """Return one model with the components of all, a matrix a component."""
    stack = models[0].stack
    values = [
        m.stack.values if len(m.stack.values) == m.k else np.repeat(m.stack.values, m.k, axis=0)
        for m in models
    ]
    weights = np.concatenate([model.weights for model in models])
    means = np.concatenate([model.means for model in models])
    parts = tuple(
        first.joined(others) for first, *others in zip(*(m.others for m in models), strict=True)
    )
    return Model(models[0].family, weights, means, stack.like(np.concatenate(values)), parts)


def _at(stack: Stack, which: Array) -> Stack:
    return stack.like(stack.values[which])


def _some(every: Model, which: Array, k: int) -> Model:
    """Return some of the models, by a mask (models,)."""
    if which.all():
        return every
    rows = np.flatnonzero(np.repeat(which, k))
    parts = tuple(part.take(rows) for part in every.others)
    return Model(
        every.family, every.weights[rows], every.means[rows], _at(every.stack, rows), parts
    )


def _parts(every: Model, k: int) -> list[Model]:
    """Return the single models, of k components each."""
    family = every.family
    models = []
    for first in range(0, every.k, k):
        mine = slice(first, first + k)
        stack = every.stack.like(every.stack.values[first : first + (1 if family.shared else k)])
        parts = tuple(part.take(np.arange(every.k)[mine]) for part in every.others)
        models.append(Model(family, every.weights[mine], every.means[mine], stack, parts))
    return models
