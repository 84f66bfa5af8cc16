"""Short runs of plain EM, many at once: what a start is worth, before it is worth its own run.

Biernacki, Celeux and Govaert (2003), "Choosing starting values for the EM algorithm for getting the
highest likelihood in multivariate Gaussian mixture models": em-EM. The runs share a family and k;
their components stand in one stack, so a step costs a few calls however many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sparkgmm.core.evidence import Measured
from sparkgmm.core.model import Model
from sparkgmm.core.prior import Prior, m_step
from sparkgmm.covariances.moments import Moments
from sparkgmm.density import CANCELLATION_LIMIT, natural_parameters
from sparkgmm.products import Array, fill_monomials

# A chunk of log joint densities holds so many values.
_CHUNK_VALUES = 2**19
# A component of fewer effective rows than this share of the least ends its run.
_LEAST_SHARE = 0.5


class Sample:
    """Standardised rows Z (n, d), their weights (n,) and monomials (F, n)."""

    def __init__(self, Z: Array, w: Array, scale: Array, total: Array) -> None:
        self.w, self.scale, self.total = w, scale, total
        n, d = Z.shape
        self.d = d
        self._T = np.empty((1 + d + d * (d + 1) // 2, n))
        self._T[1 : 1 + d] = Z.T
        fill_monomials(self._T[1 : 1 + d], self._T)

    def sums(self, eta: Array, k: int) -> tuple[Array, Array]:
        """Return each run's mean log-likelihood (B,), and the moments (B k, F)."""
        B, F = len(eta) // k, eta.shape[1]
        T = self._T[:F]
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
        eta = natural_parameters(model)
        return np.asarray(eta @ self._T[: eta.shape[1]])

    def moments(self, packed: Array) -> Moments:
        """Read the sums (k, F)."""
        origin = np.zeros((len(packed), self.d))
        return Moments.unpack(packed, origin, self.scale, self.total)

    @property
    def rows_per_weight(self) -> float:
        """What makes rows of effective counts."""
        return max(1.0, len(self.w) / float(self.w.sum()))


def climb(
    models: Sequence[Model], sample: Sample, prior: Prior, passes: int
) -> list[tuple[Model, Measured]]:
    """Run plain EM from each model, so many passes, and return each with what was measured at it.

    All are of one family and k. Those that lost a component are left out. The last pass measures:
    nothing is estimated from it.
    """
    k = models[0].k if models else 0
    for number in range(passes):
        if not models:
            break
        every = _joined(models)
        eta = natural_parameters(every)
        log_likelihoods, packed = sample.sums(eta, k)
        if number + 1 == passes:
            if every.family.shared:  # what all components share eta leaves out
                left_out = [0.5 * m.stack.quadratic_of(sample.total) for m in _parts(every, k)]
                log_likelihoods -= left_out
            sums = packed.reshape(-1, k, packed.shape[1])
            return [
                (model, Measured(sample.moments(mine), log_likelihood))
                for model, mine, log_likelihood in zip(
                    _parts(every, k), sums, log_likelihoods.tolist(), strict=True
                )
            ]
        models = _step(every, k, packed, sample, prior)
    return []


def _step(every: Model, k: int, packed: Array, sample: Sample, prior: Prior) -> list[Model]:
    """Return the models one step of EM on, without those that have no next step.

    Where each component's matrix is estimated from its own rows one step serves all.
    """
    family = every.family
    counts = packed[:, 0].reshape(-1, k)
    least = _LEAST_SHARE * family.least_rows(sample.d)
    enough = np.repeat(counts.min(axis=1) * sample.rows_per_weight >= least, k)
    every, packed = _part(every, enough), packed[enough]
    if not enough.any():
        return []
    one_by_one = family.shared or not family.closed
    if not one_by_one:
        try:
            after = m_step(family, sample.moments(packed), prior, every.stack)
        except np.linalg.LinAlgError:
            one_by_one = True
    if one_by_one:
        stepped = []
        for model, mine in zip(_parts(every, k), packed.reshape(-1, k, packed.shape[1]), strict=True):
            with suppress(np.linalg.LinAlgError):
                stepped.append(m_step(family, sample.moments(mine), prior, model.stack))
        if not stepped:
            return []
        after = _joined(stepped)
    counts = after.weights.reshape(-1, k)
    after = replace(after, weights=(counts / counts.sum(axis=1, keepdims=True)).ravel())
    # too narrow to be measured by products: a spike, or for a run of its own
    narrow = (after.stack.cancellation(after.means) > CANCELLATION_LIMIT).reshape(-1, k)
    wide = np.repeat(~narrow.any(axis=1), k)
    return [_part(after, wide)] if wide.any() else []


def _joined(models: Sequence[Model]) -> Model:
    """Return one model with the components of all, a matrix a component."""
    if len(models) == 1 and len(models[0].stack.values) == models[0].k:
        return models[0]
    first = models[0]
    values = [
        np.repeat(m.stack.values, m.k, axis=0) if len(m.stack.values) < m.k else m.stack.values
        for m in models
    ]
    stack = replace(first.stack, values=np.concatenate(values))
    weights = np.concatenate([model.weights for model in models])
    means = np.concatenate([model.means for model in models])
    return Model(first.family, weights, means, stack)


def _part(every: Model, which: Array) -> Model:
    """Return the model of some components, a matrix a component, their weights as they are."""
    stack = replace(every.stack, values=every.stack.values[which])
    return Model(every.family, every.weights[which], every.means[which], stack)


def _parts(every: Model, k: int) -> list[Model]:
    """Return the single models, of k components each."""
    family = every.family
    models = []
    for first in range(0, every.k, k):
        mine = slice(first, first + k)
        matrices = slice(first, first + 1) if family.shared else mine
        stack = replace(every.stack, values=every.stack.values[matrices])
        models.append(Model(family, every.weights[mine], every.means[mine], stack))
    return models
