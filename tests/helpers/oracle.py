"""The textbook, written out without a care for speed: what the kernels must meet."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from sparkgmm.mixture import Array, Mixture


class EStep(NamedTuple):
    """Log densities (n,) and responsibilities (n, k)."""

    log_density: Array
    responsibilities: Array


def e_step(mixture: Mixture, X: Array) -> EStep:
    """Evaluate Bishop (2006), eq. 9.7 and 9.13, by explicit inverses and determinants."""
    X = np.asarray(X, dtype=np.float64)
    joint = np.empty((len(X), mixture.k))
    for j in range(mixture.k):
        precision = np.linalg.inv(mixture.covariances[j])
        sign, log_det = np.linalg.slogdet(mixture.covariances[j])
        assert sign > 0
        for i, row in enumerate(X):
            residual = row - mixture.means[j]
            joint[i, j] = math.log(mixture.weights[j]) - 0.5 * (
                mixture.d * math.log(2 * math.pi) + log_det + residual @ precision @ residual
            )
    log_density = np.logaddexp.reduce(joint, axis=1)
    return EStep(log_density, np.exp(joint - log_density[:, None]))


class Sums(NamedTuple):
    """Effective counts (k,), sums (k, d), second moments (k, d, d)."""

    counts: Array
    first: Array
    second: Array


def weighted_sums(R: Array, w: Array, Z: Array, origin: Array) -> Sums:
    """Sum weight times responsibility times 1, z - origin_j and its outer product."""
    residuals = Z[:, None, :] - origin[None]
    weight = R * w[:, None]
    return Sums(
        weight.sum(axis=0),
        np.einsum("nk,nkd->kd", weight, residuals),
        np.einsum("nk,nkd,nke->kde", weight, residuals, residuals),
    )
