"""One matrix for all components."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import POOLED, Moments
from sparkgmm.covariances.stacks import Dense, Stack
from sparkgmm.products import Array


class Tied(Family):
    """One matrix (1, d, d): the scatter of all rows about the means of their components."""

    name = known_as = "tied"
    shared = True
    statistics = POOLED

    def n_parameters(self, k: int, d: int) -> int:
        return d * (d + 1) // 2

    def least_rows(self, d: int) -> int:
        return 1

    def rows_needed(self, k: int, d: int) -> int:
        return d + k  # about the means of k components n rows lie in n - k directions

    def estimate(self, moments: Moments, before: Stack | None = None) -> Dense:
        return Dense(self.statistics.spread(moments)[None])

    def estimate_each(self, moments: Moments, k: int) -> Dense | None:
        if moments.second is not None:
            return None
        d = len(moments.total)
        means = (moments.origin + moments.offset).reshape(-1, k, d)
        counts = moments.counts.reshape(-1, k, 1)
        half = means * np.sqrt(counts / counts.sum(axis=1, keepdims=True))
        pooled = moments.total - np.swapaxes(half, 1, 2) @ half
        np.einsum("mii->mi", pooled)[...] += moments.ridge
        return Dense(pooled)

    def read(self, covariances: Array, scale: Array) -> Dense:
        return Dense(covariances[:1] / np.outer(scale, scale))

    def nearest(self, covariances: Array, scale: Array) -> Dense:
        return self.read(covariances.mean(axis=0)[None], scale)
