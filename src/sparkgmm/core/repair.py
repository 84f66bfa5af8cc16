"""What to do with a component that has no rows of its own: put it elsewhere, or leave it out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sparkgmm.core.covariance import Model, Parameters, expand
from sparkgmm.core.em import Trajectory
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.mixture import Array, Mixture

# Components nearer than this, in standard deviations and in relative covariance, are one.
_ALIKE = 1e-3
# A component is put on a row from this share of those that the others describe worst.
_BADLY_EXPLAINED = 0.05

Reseed = Callable[[Model, int], Model]


def rows_needed(covariance_type: str, d: int) -> int:
    """Return the effective rows below which a component is no more than a spike on them."""
    return {"full": d + 1, "tied": 1}.get(covariance_type, 2)


def weakest(state: Trajectory, frame: Frame, profile: Profile) -> int | None:
    """Return a component that starves or doubles another, or None."""
    if state.moments is None or len(state.moments.counts) == 1:
        return None
    counts = state.moments.counts * profile.rows_per_weight
    if counts.min() < rows_needed(state.model.covariance_type, len(frame.shift)):
        return int(np.argmin(counts))
    return _double(state.model, frame)


def _double(model: Model, frame: Frame) -> int | None:
    covariances = expand(model, frame)
    sd = np.sqrt(np.einsum("kii->ki", covariances))
    for j in range(1, len(sd)):
        near = (np.abs(model.parameters.means[:j] - model.parameters.means[j]) / sd[j]).max(axis=1)
        for i in np.flatnonzero(near < _ALIKE):
            scale = np.outer(sd[j], sd[j])
            if (np.abs(covariances[i] - covariances[j]) <= _ALIKE * scale).all():
                return j
    return None


def reseeder(Z: Array, w: Array, frame: Frame, rng: np.random.Generator) -> Reseed:
    """Return a function that moves component j to a row of Z (n, d) that the others explain badly.

    It starts there with an equal share and the others' mean covariance.
    """

    def reseed(model: Model, j: int) -> Model:
        weights, means, covariances = (a.copy() for a in model.parameters)
        others = np.arange(len(weights)) != j
        dense = expand(model, frame)[others]
        rest = Mixture(weights[others] / weights[others].sum(), means[others], dense)
        order = np.argsort(rest.log_density(Z))
        worst = order[: max(1, int(_BADLY_EXPLAINED * len(order)))]
        means[j] = Z[rng.choice(worst, p=w[worst] / w[worst].sum())]
        if model.covariance_type != "tied":
            covariances[j] = covariances[others].mean(axis=0)
        weights[j] = weights[others].sum() / others.sum()
        return Model(model.covariance_type, Parameters(weights / weights.sum(), means, covariances))

    return reseed


def without(model: Model, j: int) -> Model:
    """Leave component j out; the others keep their proportions."""
    weights, means, covariances = model.parameters
    others = np.arange(len(weights)) != j
    kept = covariances if model.covariance_type == "tied" else covariances[others]
    return Model(
        model.covariance_type,
        Parameters(weights[others] / weights[others].sum(), means[others], kept),
    )
