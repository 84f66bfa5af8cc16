"""Anderson acceleration of the EM map, in coordinates where every point is a valid mixture.

Anderson (1965); Walker and Ni (2011), eq. 2.1-2.3; for EM with safeguards: Henderson and Varadhan
(2019), arXiv:1803.06673. The coordinates are (log-weights, means, log-Cholesky factors): an
extrapolation in them has positive weights and positive definite covariances wherever it lands.
"""

from __future__ import annotations

from collections import deque
from functools import cache

import numpy as np

from sparkgmm.core.covariance import Model, Parameters
from sparkgmm.mixture import Array

DEPTH = 5
# By how much the reach of an extrapolation grows and shrinks.
GROWTH = 2.0
# Steps of EM that get longer and whose directions have a cosine above this lead away from a saddle.
ALIGNED = 0.9
# Directions that the history hardly tells apart are left out of the least-squares problem.
_RCOND = 1e-7


@cache
def _lower(d: int) -> tuple[Array, Array]:
    """Return row and column of each entry of a lower triangle; asked for at every step."""
    return np.tril_indices(d)


def pack(model: Model) -> Array:
    """Return the parameters as one vector without bounds."""
    w, means, covariances = model.parameters
    if model.covariance_type in ("diag", "spherical"):
        shape = 0.5 * np.log(covariances)
    else:
        L = model.factors.copy()
        diagonal = np.einsum("...ii->...i", L)
        diagonal[...] = np.log(diagonal)
        shape = L[..., *_lower(L.shape[-1])]
    return np.concatenate([np.log(w), means.ravel(), shape.ravel()])


def unpack(vector: Array, like: Model) -> Model:
    """Undo `pack`, for a model of the type and shapes of `like`; the weights sum to 1 again."""
    k, d = like.parameters.means.shape
    log_w, means, shape = np.split(vector, [k, k + k * d])
    w = np.exp(log_w - log_w.max())
    covariances = np.zeros_like(like.parameters.covariances)
    if like.covariance_type in ("diag", "spherical"):
        with np.errstate(over="ignore"):
            covariances = np.exp(2 * shape).reshape(covariances.shape)
    else:
        L = covariances
        L[..., *_lower(d)] = shape.reshape(*L.shape[:-2], -1)
        diagonal = np.einsum("...ii->...i", L)
        with np.errstate(over="ignore", invalid="ignore"):  # check_volume finds what overflowed
            diagonal[...] = np.exp(diagonal)
            covariances = L @ np.swapaxes(L, -1, -2)
    return Model(like.covariance_type, Parameters(w / w.sum(), means.reshape(k, d), covariances))


def metric(model: Model) -> Array:
    """Weigh the coordinates of `pack` as the information of complete data does, about.

    A mean counts in standard deviations of its component, a component by the root of its weight.
    """
    w, means, c = model.parameters
    k, d = means.shape
    root = np.sqrt(w)[:, None]
    if model.covariance_type == "spherical":
        sd = np.ones((k, d)) * np.sqrt(c)[:, None]
        shape = root * np.sqrt(2 * d)
    elif model.covariance_type == "diag":
        sd = np.sqrt(c)
        shape = root * np.sqrt(2.0) * np.ones((k, d))
    else:
        sd = np.ones((k, d)) * np.sqrt(np.einsum("...ii->...i", c))
        diagonal = np.diagonal(model.factors, axis1=-2, axis2=-1)
        rows, columns = _lower(d)
        shape = np.where(rows == columns, np.sqrt(2.0), 1 / diagonal[..., rows])
        if model.covariance_type == "full":
            shape = root * shape
    return np.concatenate([root.ravel(), (root / sd).ravel(), shape.ravel()])


class Anderson:
    """Extrapolates the fixed point of EM from its last few steps (type II, Walker and Ni).

    It waits until the steps of EM get shorter: before that EM is not linear yet, and the history
    tells nothing. But where they get longer in one direction EM is leaving a saddle, and a multiple
    of its step is taken. A step goes at most `reach` EM steps beyond the plain one; the reach grows
    while steps at its end succeed and shrinks when one has to be taken back (as the step length of
    SQUAREM does, Varadhan and Roland 2008, section 5).
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        self._points: deque[Array] = deque(maxlen=depth + 1)
        self._residuals: deque[Array] = deque(maxlen=depth + 1)
        self._reach = 1.0
        self._last = (np.inf, np.zeros(0))

    def take_back(self) -> None:
        """Start anew, after a step that fell."""
        self._points.clear()
        self._residuals.clear()
        self._reach = max(1.0, self._reach / GROWTH)

    def extrapolate(self, current: Model, plain: Model) -> Model:
        """Return the next point, from where we are and where the plain EM step leads."""
        if not self._depth:
            return plain
        weight = metric(plain)
        point = pack(current)
        residual = pack(plain) - point
        direction = residual * weight
        length = float(np.linalg.norm(direction))
        last_length, last_direction = self._last
        self._last = (length, direction)
        if length > last_length:
            self._points.clear()
            self._residuals.clear()
            if direction @ last_direction > ALIGNED * length * last_length:
                self._reach *= GROWTH
                return unpack(point + residual * self._reach, plain)
        self._points.append(point)
        self._residuals.append(residual)
        if len(self._points) < 2:
            return plain
        dF = np.diff(np.array(self._residuals), axis=0).T
        dG = np.diff(np.array(self._points), axis=0).T + dF
        gamma = np.linalg.lstsq(dF * weight[:, None], direction, rcond=_RCOND)[0]
        beyond = -dG @ gamma
        excess = float(np.linalg.norm(beyond * weight)) / max(self._reach * length, 1e-300)
        if excess > 1:
            beyond /= excess
            self._reach *= GROWTH
        return unpack(point + residual + beyond, plain)
