"""Features that do not correlate within a component."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import SQUARES, Moments
from sparkgmm.covariances.stacks import Diagonal, Stack, diagonals
from sparkgmm.products import Array


class Diag(Family):
    """Variances (k, d), without any constraint."""

    name = known_as = "diag"
    diagonal = True
    statistics = SQUARES

    def n_parameters(self, k: int, d: int) -> int:
        return k * d

    def least_rows(self, d: int) -> int:
        return 2

    def estimate(self, moments: Moments, before: Stack | None = None) -> Diagonal:
        return Diagonal(self.statistics.spread(moments))

    def read(self, covariances: Array, scale: Array) -> Diagonal:
        return Diagonal(diagonals(covariances) / scale**2)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        return k, d

    def kept(self, written: Array, scale: Array) -> Diagonal:
        return Diagonal(written / scale**2)

    def written(self, stack: Stack, scale: Array) -> Array:
        return np.asarray(stack.values * scale**2)
