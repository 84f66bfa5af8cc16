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
    log_w, means, shape = vector[:k], vector[k : k + k * d], vector[k + k * d :]
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
        sd = np.repeat(np.sqrt(c)[:, None], d, axis=1)
        shape = root * np.sqrt(2 * d)
    elif model.covariance_type == "diag":
        sd = np.sqrt(c)
        shape = root * np.sqrt(2.0) * np.ones((k, d))
    else:
        sd = np.sqrt(np.einsum("...ii->...i", c))
        rows, columns = _lower(d)
        shape = 1 / np.einsum("...ii->...i", model.factors)[..., rows]
        shape[..., rows == columns] = np.sqrt(2.0)
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
        # the last point and residual, and how they and where plain EM led changed before
        self._here: tuple[Array, Array] | None = None
        self._dF: deque[Array] = deque(maxlen=depth)
        self._dG: deque[Array] = deque(maxlen=depth)
        self._reach = 1.0
        self._last = (np.inf, np.zeros(0))

    def take_back(self) -> None:
        """Start anew, after a step that fell."""
        self._forget()
        self._reach = max(1.0, self._reach / GROWTH)

    def _forget(self) -> None:
        self._here = None
        self._dF.clear()
        self._dG.clear()

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
            self._forget()
            if direction @ last_direction > ALIGNED * length * last_length:
                self._reach *= GROWTH
                return unpack(point + residual * self._reach, plain)
        if self._here is None:
            self._here = point, residual
            return plain
        last_point, last_residual = self._here
        self._here = point, residual
        self._dF.append(residual - last_residual)
        self._dG.append(point - last_point + self._dF[-1])
        dF = np.array(self._dF) * weight
        gamma = np.linalg.lstsq(dF.T, direction, rcond=_RCOND)[0]
        beyond = -gamma @ np.array(self._dG)
        excess = float(np.linalg.norm(beyond * weight)) / max(self._reach * length, 1e-300)
        if excess > 1:
            beyond /= excess
            self._reach *= GROWTH
        return unpack(point + residual + beyond, plain)
