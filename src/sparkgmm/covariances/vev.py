"""Components of one shape, each of a volume and an orientation of its own: mclust's VEV.

The covariances are volume_j D_j A D_j^T in the data's own units: A, of determinant 1, is common to
all components, the rotations D_j are not. Celeux and Govaert (1995), "Gaussian parsimonious
clustering models", model [lambda_k D_k A D_k^T].
"""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import PRODUCTS, Moments
from sparkgmm.covariances.stacks import Dense, Stack
from sparkgmm.products import Array

# Volumes and shape take turns until the shape's logarithm moves by less, or so often.
_STILL = 1e-13
_MOST_TURNS = 1000


class VEV(Family):
    """Matrices (k, d, d) whose eigenvalues are in the same proportions."""

    name = "VEV"
    known_as = "full"
    closed = False
    statistics = PRODUCTS

    def n_parameters(self, k: int, d: int) -> int:
        return k + d - 1 + k * d * (d - 1) // 2

    def least_rows(self, d: int) -> int:
        return 2

    def estimate(self, moments: Moments, before: Stack | None = None) -> Dense:
        unit = self.statistics.squared(moments.scale)
        spread = self.statistics.spread(moments) * unit
        return Dense(_of_one_shape(spread, moments.counts) / unit)

    def read(self, covariances: Array, scale: Array) -> Dense:
        like = _of_one_shape(covariances, np.ones(len(covariances)))
        return Dense(like / np.outer(scale, scale))


def _of_one_shape(covariances: Array, counts: Array) -> Array:
    """Return the matrices of one shape that make rows of these covariances most likely.

    The eigenvectors stay (their theorem of von Neumann's trace inequality), the eigenvalues become
    volumes times a shape. In their logarithms what is minimised is convex, so that taking turns
    ends at its one minimum.
    """
    values, vectors = np.linalg.eigh(covariances)
    if not values.min() > 0:
        raise np.linalg.LinAlgError(f"an eigenvalue of a covariance is {values.min():.3g}")
    shape = np.exp(_centred(np.log(values).mean(axis=0)))
    for _ in range(_MOST_TURNS):
        volumes = (values / shape).mean(axis=1)
        last, shape = shape, np.exp(_centred(np.log(counts / volumes @ values)))
        if np.abs(np.log(shape / last)).max() < _STILL:
            break
    volumes = (values / shape).mean(axis=1)
    half = vectors * np.sqrt(volumes[:, None] * shape)[:, None, :]
    return np.asarray(half @ np.swapaxes(half, 1, 2))


def _centred(logarithms: Array) -> Array:
    """Return logarithms whose sum is 0, so that the product is 1."""
    return np.asarray(logarithms - logarithms.mean())
