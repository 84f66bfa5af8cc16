"""Components that are round in the data's own units."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import SQUARES, Moments
from sparkgmm.covariances.stacks import Round, Stack, diagonals
from sparkgmm.products import Array


class Spherical(Family):
    """One variance a component, (k,), the same for all features in the data's units."""

    name = known_as = "spherical"
    diagonal = True
    round = True
    statistics = SQUARES

    def n_parameters(self, k: int, d: int) -> int:
        return k

    def least_rows(self, d: int) -> int:
        return 2

    def estimate(self, moments: Moments, before: Stack | None = None) -> Round:
        unit = moments.scale**2
        variances = self.statistics.spread(moments) * unit
        return Round(variances.mean(axis=1), unit)

    def read(self, covariances: Array, scale: Array) -> Round:
        variances = diagonals(covariances)
        mean = variances.mean(axis=1)
        alike = (variances == variances[:, :1]).all(axis=1)  # then their mean may be rounded
        return Round(np.where(alike, variances[:, 0], mean), scale**2)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return (k,)

    def kept(self, written: Array, scale: Array) -> Round:
        return Round(written, scale**2)

    def written(self, stack: Stack, scale: Array) -> Array:
        return stack.values
