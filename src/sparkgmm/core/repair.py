"""What to do with a component that has no rows of its own: put it elsewhere, or leave it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sparkgmm.core.em import Trajectory
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.model import Model
from sparkgmm.core.prior import Prior
from sparkgmm.core.profile import Profile
from sparkgmm.density import Density

# Components nearer than this, in standard deviations and in relative covariance, are one.
_ALIKE = 1e-3
# A component is put on a row from this share of those that the others describe worst.
_BADLY_EXPLAINED = 0.05
# Two that share a place go so many standard deviations from its mean.
_HALF = 0.5

Reseed = Callable[[Model, int], Model]


def weakest(state: Trajectory, profile: Profile) -> int | None:
    """Return a component that starves or doubles another, or None."""
    if state.measured is None or state.model.k == 1:
        return None
    counts = state.measured.effective_rows(profile)
    if counts.min() < state.model.family.least_rows(state.model.d):
        return int(np.argmin(counts))
    return _double(state.model)


def starved(state: Trajectory, profile: Profile) -> list[int]:
    """Return the components that have fewer rows than they need, but never all."""
    if state.measured is None:
        return []
    counts = state.measured.effective_rows(profile)
    few = np.flatnonzero(counts < state.model.family.least_rows(state.model.d)).tolist()
    return few if len(few) < state.model.k else few[1:]


def by_chance(state: Trajectory, profile: Profile, prior: Prior) -> list[int]:
    """Return the components that are spikes: few rows, without width where the data are wide."""
    measured, model = state.measured, state.model
    if measured is None or prior.widths is None or model.family.shared:
        return []
    total, widths = measured.moments.total, prior.widths
    counts = measured.effective_rows(profile).tolist()
    return [j for j, n in enumerate(counts) if widths.by_chance(model, j, n, total).any()]


def _double(model: Model) -> int | None:
    means, stack = model.means, model.stack
    sd = np.broadcast_to(np.sqrt(stack.variances), means.shape)
    for j in range(1, model.k):
        near = (np.abs(means[:j] - means[j]) / sd[j]).max(axis=1, initial=0.0)
        for i in np.flatnonzero(near < _ALIKE).tolist():
            alike = all(part.alike(i, j, _ALIKE) for part in model.others)
            if alike and stack.alike(i, j, _ALIKE):
                return j
    return None


def reseeder(seeds: Seeds, rng: np.random.Generator) -> Reseed:
    """Return a function that moves component j to a row of the seeds that others explain badly.

    It starts there with an equal share and the others' mean covariance.
    """

    def reseed(model: Model, j: int) -> Model:
        weights, means = model.weights.copy(), model.means.copy()
        others = np.arange(model.k) != j
        stack = model.stack.take(others)
        parts = tuple(part.take(others) for part in model.others)
        rest = Density.of(weights[others] / weights[others].sum(), means[others], stack, parts)
        order = np.argsort(rest.score(seeds.rows))
        worst = order[: max(1, int(_BADLY_EXPLAINED * len(order)))]
        means[j] = seeds.Z[rng.choice(worst, p=seeds.w[worst] / seeds.w[worst].sum())]
        stack = model.stack.with_mean_at(j, others)
        if not model.family.closed:
            stack = model.family.nearest(stack.dense(model.k), np.ones(model.d))
        weights[j] = weights[others].sum() / others.sum()
        parts = tuple(part.with_mean_at(j, others) for part in model.others)
        return Model(model.family, weights / weights.sum(), means, stack, parts)

    return reseed


def beside_the_heaviest(model: Model, js: Sequence[int], rng: np.random.Generator) -> Model:
    """Move components to where most rows are: each shares the place of one of the heaviest.

    Both go half a standard deviation from its mean, in opposite directions.
    """
    weights, means = model.weights.copy(), model.means.copy()
    which = np.arange(model.k)
    weights[list(js)] = 0.0
    for j, i in zip(js, np.argsort(-weights, kind="stable").tolist(), strict=False):
        away = _HALF * model.stack.coloured(i, rng.standard_normal((1, model.d)))[0]
        means[j], means[i] = means[i] + away, means[i] - away
        weights[j] = weights[i] = weights[i] / 2
        which[j] = i
    parts = tuple(part.take(which) for part in model.others)
    return Model(model.family, weights / weights.sum(), means, model.stack.take(which), parts)


def without(model: Model, j: int | Sequence[int]) -> Model:
    """Leave component j out, or several; the others keep their proportions."""
    others = ~np.isin(np.arange(model.k), j)
    weights = model.weights[others]
    stack = model.stack.take(others)
    parts = tuple(part.take(others) for part in model.others)
    return Model(model.family, weights / weights.sum(), model.means[others], stack, parts)
