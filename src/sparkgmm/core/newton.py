"""Newton's method on all the rows, with the information of a sample for the curvature.

The gradient comes from a pass over all the rows, what the likelihood curves by from the scores of a
sample: the method of scoring (Fisher 1925; Berndt, Hall, Hall and Hausman 1974), damped as by
Levenberg (1944) and Marquardt (1963). The slow directions of EM are no slower here than others.
"""

from __future__ import annotations

import numpy as np

from sparkgmm.core.acceleration import metric, pack, unpack
from sparkgmm.core.information import Information, gradient
from sparkgmm.core.model import Model, check_volume
from sparkgmm.covariances.moments import Moments
from sparkgmm.products import Array

# A step that gains more than this share of what was expected lessens the damping, one that gains
# less than that share adds to it, and one that has to be taken back adds more.
_GOOD, _POOR = 0.75, 0.4
_LESS, _MORE, _FAILED = 1 / 4, 3.0, 5.0
# Damping begins at this share of the information of complete data, and ends at that.
_FIRST, _NONE = 1e-3, 1e-6
# Rows that curve the likelihood more than the sample's do make steps shorter, down to this share.
_MOST_CURVED = 3.0
# After so many steps taken back in a row a plain step of EM is due.
_PATIENCE = 6
# A full step confirms the estimate if along it all the rows have this share of the curvature that
# the sample has. So many make it certain if the last left no more than this share; before, the
# distance may be so many times as far.
_CONFIRMING, _ENOUGH, _QUICK = 0.5, 2, 0.15
_DOUBT = 5.0
# Where they have less, the information along the step is lowered to theirs, to this share at least.
_FLATTEST = 0.02
# Directions of which the sample knows nothing are left alone.
_RIDGE = 1e-10


class Newton:
    """Steps to the top of the likelihood, and how far it is above.

    With the gradient g and the information A a step is (c A + t D)^-1 g. D is the information that
    complete data would have, about: with much damping t a step is a short one of EM. c corrects A
    by the curvature that all rows had along the step before.
    """

    def __init__(self, information: Information) -> None:
        self._information = information
        self._here: Model | None = None
        self._point = self._slope = self._A = self._B = self._D = np.zeros(0)
        self._flat: tuple[Array, float] | None = None
        self._objective = self._expected = self._left = 0.0
        self._damping = 0.0
        self._curved = 1.0
        self._n_failed = 0
        self._n_confirmed = 0

    def step(
        self, here: Model, plain: Model, moments: Moments, objective: float
    ) -> tuple[Model | None, float]:
        """Return where to go on from a model that was measured, and what the limit is above it.

        `plain` is the EM step from there, and meant where None is returned; `objective` is what is
        climbed. The limit is above by half the slope along the undamped step, in nats a row, and by
        some times as much as long as steps have not confirmed that the sample knows the curvature:
        near a saddle it does not.
        """
        point = pack(here)
        # where a prior holds the plain step back the difference is what is left to climb
        slope = gradient(here, moments) - gradient(plain, moments)
        if self._here is not None:
            self._learn(point - self._point, self._slope - slope, objective - self._objective)
        self._here, self._point, self._slope, self._objective = here, point, slope, objective
        self._A, self._D = self._information(here), metric(here) ** 2
        self._B = self._flattened()
        self._n_failed = 0
        before, self._left = self._left, 0.5 * float(slope @ self._solve(1.0, 0.0))
        sure = self._n_confirmed >= _ENOUGH and self._left < _QUICK * before
        return self._proposal(), self._left * (1.0 if sure else _DOUBT)

    def again(self) -> Model | None:
        """Return a shorter step from the same model, after one that fell; None where none is."""
        self._n_failed += 1
        self._damp()
        self._expected = 0.0
        return self._proposal() if self._n_failed < _PATIENCE else None

    def leave(self) -> None:
        """Forget the step that was proposed: another is taken."""
        self._expected = 0.0

    def _learn(self, moved: Array, change: Array, gain: float) -> None:
        """Compare what the last step found with what was expected of it."""
        if self._expected <= 0:  # it was none of ours
            self._n_confirmed = 0
            return
        ratio = gain / self._expected
        if ratio > _GOOD and not self._n_failed:
            self._damping *= _LESS if self._damping > _NONE else 0.0
        elif ratio < _POOR:
            self._damping = max(_MORE * self._damping, _FIRST / 10)
        bend = float(moved @ change)
        curvature = bend / max(float(moved @ self._B @ moved), 1e-300)
        by_sample = bend / max(float(moved @ self._A @ moved), 1e-300)
        full = self._expected > 0.5 * self._left / self._curved
        flat = full and by_sample < _CONFIRMING
        self._flat = (moved, max(by_sample, _FLATTEST)) if flat else None
        confirmed = full and curvature > _CONFIRMING
        self._n_confirmed = self._n_confirmed + 1 if confirmed else 0
        self._curved = min(max(curvature, 1.0), _MOST_CURVED)

    def _flattened(self) -> Array:
        """Return the information, less along a direction in which all rows curve less than it."""
        if self._flat is None:
            return self._A
        moved, share = self._flat
        along = self._A @ moved
        return np.asarray(self._A - (1 - share) * np.outer(along, along) / (moved @ along))

    def _damp(self) -> None:
        self._damping = max(_FAILED * self._damping, _FIRST)

    def _proposal(self) -> Model | None:
        """Return where the damped step leads, damped more while there is no mixture there."""
        assert self._here is not None
        for _ in range(_PATIENCE):
            step = self._solve(self._curved, self._damping)
            self._expected = float(
                self._slope @ step - 0.5 * self._curved * (step @ self._B @ step)
            )
            model = unpack(self._point + step, self._here)
            try:
                check_volume(model)
                return model
            except np.linalg.LinAlgError:
                self._damp()
        self._expected = 0.0
        return None

    def _solve(self, curved: float, damping: float) -> Array:
        B = curved * self._B
        B[np.diag_indices_from(B)] += damping * self._D
        unit = 1 / np.sqrt(np.diagonal(B))
        B *= np.outer(unit, unit)
        B[np.diag_indices_from(B)] += _RIDGE
        return np.asarray(unit * np.linalg.solve(B, unit * self._slope))
