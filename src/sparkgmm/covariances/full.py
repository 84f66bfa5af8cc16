"""A matrix of its own for every component."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import PRODUCTS, Moments
from sparkgmm.covariances.stacks import Dense, Stack
from sparkgmm.products import Array


class Full(Family):
    """Matrices (k, d, d) without any constraint."""

    name = known_as = "full"
    statistics = PRODUCTS

    def n_parameters(self, k: int, d: int) -> int:
        return k * d * (d + 1) // 2

    def least_rows(self, d: int) -> int:
        return d + 1

    def estimate(self, moments: Moments, before: Stack | None = None) -> Dense:
        return Dense(self.statistics.spread(moments))

    def read(self, covariances: Array, scale: Array) -> Dense:
        return Dense(covariances / np.outer(scale, scale))
