"""Components that are round in the data's own units."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import SQUARES, Moments
from sparkgmm.covariances.stacks import Round, Stack
from sparkgmm.products import Array


class Spherical(Family):
    """One variance a component, (k,), the same for all features in the data's units."""

    name = known_as = "spherical"
    diagonal = True
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
        return Round(np.einsum("kii->k", covariances) / len(scale), scale**2)

    def nearest(self, covariances: Array, scale: Array) -> Round:
        return Round(np.einsum("kii->ki", covariances).mean(axis=1), scale**2)
