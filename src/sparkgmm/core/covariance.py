"""The four covariance types: what each needs of a pass, and its M-step, as pure functions.

All work in standardised coordinates. Covariances are kept as compact as their type allows:
full (k, d, d), tied (d, d), diag (k, d), spherical (k,).

The spherical type is round in the data's own units, so in standardised ones it is the diagonal
sigma_j^2 / scale^2; that is the only place where the frame's scale enters an M-step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np

from sparkgmm.core.profile import Frame, second_moment
from sparkgmm.mixture import Array, Mixture

LOG_2PI = math.log(2 * math.pi)
# A variance below this share of the feature's own is no volume: a spike on equal rows.
VOLUME_FLOOR = 1e-14


class Parameters(NamedTuple):
    """Weights (k,), means (k, d) and compact covariances, in standardised coordinates."""

    weights: Array
    means: Array
    covariances: Array


@dataclass(frozen=True, eq=False)
class Model:
    """Parameters together with the covariance type that says how to read them.

    What full and tied covariances are factored into is computed once, since a step of EM asks for
    it at several places. Whatever multiplies a precision has to take it from here: terms of 1e6
    cancel between them.
    """

    covariance_type: str
    parameters: Parameters

    @cached_property
    def factors(self) -> Array:
        """The Cholesky factors L of full or tied covariances, (..., d, d)."""
        return np.linalg.cholesky(self.parameters.covariances)

    @cached_property
    def precisions(self) -> Array:
        """The inverses of full or tied covariances, (..., d, d)."""
        W = np.linalg.inv(self.factors)
        return np.swapaxes(W, -1, -2) @ W

    @cached_property
    def log_dets(self) -> Array:
        """The logs of the determinants of full or tied covariances, (...,)."""
        return 2 * np.log(np.diagonal(self.factors, axis1=-2, axis2=-1)).sum(axis=-1)


def expand(model: Model, frame: Frame) -> Array:
    """Return the covariances densely, (k, d, d), in standardised coordinates."""
    covariances = model.parameters.covariances
    k, d = model.parameters.means.shape
    if model.covariance_type == "full":
        return covariances
    if model.covariance_type == "tied":
        return np.broadcast_to(covariances, (k, d, d))
    return variances(model, frame)[:, :, None] * np.eye(d)


def variances(model: Model, frame: Frame) -> Array:
    """Return the variances (k, d) of a diag or spherical model, in standardised coordinates."""
    covariances = model.parameters.covariances
    if model.covariance_type == "diag":
        return covariances
    return covariances[:, None] / frame.scale**2


def to_mixture(model: Model, frame: Frame, features: tuple[str, ...] | None = None) -> Mixture:
    """Go back to the data's units, heaviest component first, ties by mean."""
    w, means, _ = model.parameters
    means = frame.shift + means * frame.scale
    covariances = expand(model, frame) * np.outer(frame.scale, frame.scale)
    order = np.lexsort((*means.T[::-1], -w))
    return Mixture(w[order], means[order], covariances[order], model.covariance_type, features)


def from_mixture(mixture: Mixture, frame: Frame) -> Model:
    """Bring a mixture in the data's units into standardised coordinates."""
    means = (mixture.means - frame.shift) / frame.scale
    dense = mixture.covariances / np.outer(frame.scale, frame.scale)
    compact = {
        "full": lambda: dense,
        "tied": lambda: dense[0],
        "diag": lambda: np.einsum("kii->ki", dense).copy(),
        "spherical": lambda: np.einsum("kii->k", mixture.covariances) / mixture.d,
    }[mixture.covariance_type]()
    return Model(mixture.covariance_type, Parameters(mixture.weights, means, compact))


@cache
def diagonal_order(d: int) -> tuple[Array, Array]:
    """Return row and column of each product x_i x_j in the order of T: diagonal by diagonal.

    They are the same arrays at every call, which are not to be written to: every pass of every
    candidate asks for them.
    """
    rows = np.concatenate([np.arange(d - s) for s in range(d)])
    columns = np.concatenate([np.arange(s, d) for s in range(d)])
    rows.setflags(write=False)
    columns.setflags(write=False)
    return rows, columns


def n_features(covariance_type: str, d: int) -> int:
    """Count the leading entries of T(x) = (1, x, x^2, x_i x_j) that the type needs of a pass.

    The quadratic term of a tied covariance is common to all components: it cancels from the
    responsibilities, and the total scatter that its M-step needs is a constant of the data.
    """
    return {"full": 1 + d + d * (d + 1) // 2, "tied": 1 + d}.get(covariance_type, 1 + 2 * d)


class Moments(NamedTuple):
    """Per component: effective count (k,), sum (k, d) and second moment, about `origin` (k, d).

    `second` is (k, d, d), or its diagonal (k, d), or None where the type needs none.
    """

    counts: Array
    first: Array
    second: Array | None
    origin: Array

    @classmethod
    def unpack(cls, packed: Array, origin: Array) -> Moments:
        """Read the (k, F) array of a pass, F as in `n_features`."""
        k, d = origin.shape
        counts, first, rest = packed[:, 0], packed[:, 1 : 1 + d], packed[:, 1 + d :]
        second: Array | None = None
        if rest.shape[1] == d > 1:  # of one feature, the diagonal is all there is: dense
            second = rest
        elif rest.shape[1]:
            second = np.empty((k, d, d))
            rows, columns = diagonal_order(d)
            second[:, rows, columns] = rest
            second[:, columns, rows] = rest
        return cls(counts, first, second, origin)


def _scatter(m: Moments, offset: Array) -> Array:
    """Return each component's second moment about its own mean, (k, d, d) or (k, d)."""
    assert m.second is not None
    if m.second.ndim == 2:
        return m.second / m.counts[:, None] - offset**2
    return m.second / m.counts[:, None, None] - offset[:, :, None] * offset[:, None, :]


def _diagonal(m: Moments, offset: Array) -> Array:
    scatter = _scatter(m, offset)
    return scatter if scatter.ndim == 2 else np.einsum("kii->ki", scatter).copy()


def _full(m: Moments, offset: Array, frame: Frame, reg: float) -> Array:
    covariances = _scatter(m, offset)
    np.einsum("kii->ki", covariances)[...] += reg
    return covariances


def _tied(m: Moments, offset: Array, frame: Frame, reg: float) -> Array:
    if m.second is None:
        means = m.origin + offset
        pooled = frame.correlation - second_moment(means.T, m.counts) / m.counts.sum()
    else:
        pooled = np.tensordot(m.counts / m.counts.sum(), _scatter(m, offset), axes=1)
    pooled[np.diag_indices_from(pooled)] += reg
    return pooled


def _diag(m: Moments, offset: Array, frame: Frame, reg: float) -> Array:
    return _diagonal(m, offset) + reg


def _spherical(m: Moments, offset: Array, frame: Frame, reg: float) -> Array:
    return ((_diagonal(m, offset) + reg) * frame.scale**2).mean(axis=1)


ESTIMATE: dict[str, Callable[[Moments, Array, Frame, float], Array]] = {
    "full": _full,
    "tied": _tied,
    "diag": _diag,
    "spherical": _spherical,
}


def m_step(covariance_type: str, moments: Moments, frame: Frame, reg_covar: float) -> Model:
    """Return the model that maximises the expected log-likelihood of the moments.

    Dempster, Laird and Rubin (1977), section 4.3. `reg_covar` is added to each variance in
    standardised coordinates, that is, relative to the feature's variance in the data.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance comes out without volume.

    """
    offset = moments.first / moments.counts[:, None]
    covariances = ESTIMATE[covariance_type](moments, offset, frame, reg_covar)
    weights = moments.counts / moments.counts.sum()
    model = Model(covariance_type, Parameters(weights, moments.origin + offset, covariances))
    check_volume(model, frame)
    return model


def check_volume(model: Model, frame: Frame) -> None:
    """Raise LinAlgError where a component has no volume, or far more than all the data.

    Rows have variance 1 in standardised coordinates: no step of EM leads above one over the
    smallest weight, but an extrapolation may, to where matrices cannot be inverted any more.
    """
    covariances = model.parameters.covariances
    if model.covariance_type in ("full", "tied"):
        widths = np.diagonal(model.factors, axis1=-2, axis2=-1) ** 2
    elif model.covariance_type == "diag":
        widths = covariances
    else:
        widths = covariances / (frame.scale**2).mean()
    if not (widths.min() > VOLUME_FLOOR and widths.max() < 1 / VOLUME_FLOOR):
        told = f"{widths.min():.3g} to {widths.max():.3g}"
        raise np.linalg.LinAlgError(f"the components' variances are {told} of the data's")


def expected_log_likelihood(model: Model, moments: Moments, frame: Frame) -> float:
    """Return the mean over the rows of the expected complete-data log-likelihood, Q of EM."""
    w, means, _ = model.parameters
    k, d = means.shape
    offset = means - moments.origin
    total = moments.counts.sum()
    # second + offset cross^T, made symmetric, is the second moment about the means; beside a
    # precision, which is symmetric, it need not be made so
    cross = moments.counts[:, None] * offset - 2 * moments.first
    if model.covariance_type in ("diag", "spherical"):
        v = variances(model, frame)
        second = _diagonal_of(moments.second)
        quadratic = float(((second + offset * cross) / v).sum()) / total
        log_det = np.log(v).sum(axis=1)
    else:
        common = frame.correlation * (total / k)  # of tied, where a pass does not measure it
        second = common if moments.second is None else moments.second
        about = second + offset[:, :, None] * cross[:, None, :]
        quadratic = float((model.precisions * about).sum()) / total
        log_det = model.log_dets
    return float(moments.counts @ (np.log(w) - 0.5 * log_det)) / total - 0.5 * (
        quadratic + d * LOG_2PI
    )


def penalty(model: Model, moments: Moments, frame: Frame, reg_covar: float) -> float:
    """Return what reg_covar takes from the mean log-likelihood: half reg_covar tr(precision).

    Adding reg_covar to the variances is the M-step of the likelihood less this.
    """
    if reg_covar == 0:
        return 0.0
    if model.covariance_type in ("diag", "spherical"):
        trace = (1 / variances(model, frame)).sum(axis=1)
    else:
        trace = np.trace(model.precisions, axis1=-2, axis2=-1)
    return 0.5 * reg_covar * float((moments.counts / moments.counts.sum() * trace).sum())


def _diagonal_of(second: Array | None) -> Array:
    assert second is not None
    return second if second.ndim == 2 else np.einsum("kii->ki", second)
