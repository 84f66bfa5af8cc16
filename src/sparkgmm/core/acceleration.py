"""Anderson acceleration of the EM map, in coordinates where every point is a valid mixture.

Anderson (1965); Walker and Ni (2011), eq. 2.1-2.3; for EM with safeguards: Henderson and Varadhan
(2019), arXiv:1803.06673. The coordinates are (log-weights, means, log-Cholesky factors): an
extrapolation in them has positive weights and positive definite covariances wherever it lands.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from sparkgmm.core.model import Model
from sparkgmm.parts import Parts, cut_vector
from sparkgmm.products import Array

DEPTH = 5
# By how much the reach of an extrapolation grows and shrinks.
GROWTH = 2.0
# Steps of EM that get longer and whose directions have a cosine above this lead away from a saddle.
ALIGNED = 0.9
# The rate at which plain steps shrink is taken for this before two are known, and for at most that.
_UNKNOWN_RATE, _MOST_RATE = 0.9, 0.999
# Directions that the history hardly distinguishes are left out of the least-squares problem.
_RCOND = 1e-7


def pack(model: Model) -> Array:
    """Return the parameters as one vector without bounds."""
    others = [part.pack() for part in model.others]
    return np.concatenate([np.log(model.weights), model.means.ravel(), model.stack.pack(), *others])


def unpack(vector: Array, like: Model) -> Model:
    """Undo `pack`, for a model of the family and shapes of `like`; the weights sum to 1 again."""
    k, d = like.k, like.d
    log_w, means, rest = vector[:k], vector[k : k + k * d], vector[k + k * d :]
    w = np.exp(log_w - log_w.max())
    others: Parts = ()
    if like.others:
        rest, tail = np.split(rest, [len(like.stack.pack())])
        others = cut_vector(like.others, tail)
    stack = like.stack.unpacked(rest)
    return Model(like.family, w / w.sum(), means.reshape(k, d), stack, others)


def metric(model: Model) -> Array:
    """Weigh the coordinates of `pack` as the information of complete data does, about.

    A mean counts in standard deviations of its component, a component by the root of its weight.
    """
    root = np.sqrt(model.weights)[:, None]
    sd, rest = model.stack.metric(root)
    others = [part.metric(root).ravel() for part in model.others]
    return np.concatenate([root.ravel(), (root / sd).ravel(), rest.ravel(), *others])


class Anderson:
    """Extrapolates the fixed point of EM from its last few steps (type II, Walker and Ni).

    It waits until the steps of EM get shorter: before that EM is not linear yet, and the history
    says nothing. But where they get longer in one direction EM is leaving a saddle, and a multiple
    of its step is taken. A step goes at most `reach` EM steps beyond the plain one; the reach grows
    while steps at its end succeed and shrinks when one has to be taken back (as the step length of
    SQUAREM does, Varadhan and Roland 2008, section 5).

    With a depth of 0 every step is the plain one. Then `ahead` says how many such steps lie between
    here and the limit, if they go on to shrink as the last one did (Aitken's extrapolation).
    """

    def __init__(self, depth: int = DEPTH) -> None:
        self._depth = depth
        # the last point and residual, and how they and where plain EM led changed before
        self._here: tuple[Array, Array] | None = None
        self._dF: deque[Array] = deque(maxlen=depth)
        self._dG: deque[Array] = deque(maxlen=depth)
        self._reach = 1.0
        self._last = (np.inf, np.zeros(0))
        self.ahead = 1.0

    def take_back(self) -> None:
        """Start again, after a step that fell."""
        self._forget()
        self._reach = max(1.0, self._reach / GROWTH)

    def _forget(self) -> None:
        self._here = None
        self._dF.clear()
        self._dG.clear()

    def extrapolate(self, current: Model, plain: Model) -> Model:
        """Return the next point, from where we are and where the plain EM step leads."""
        weight = metric(plain)
        point = pack(current)
        residual = pack(plain) - point
        direction = residual * weight
        length = float(np.linalg.norm(direction))
        last_length, last_direction = self._last
        self._last = (length, direction)
        if not self._depth:
            rate = length / last_length if last_length < np.inf else _UNKNOWN_RATE
            self.ahead = 1 / (1 - min(rate, _MOST_RATE)) if length else 1.0
            return plain
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
