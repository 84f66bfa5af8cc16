"""What every form of a mixture that scores by residuals is made from."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances import FAMILIES
from sparkgmm.density import LOG_2PI
from sparkgmm.mixture import Mixture
from sparkgmm.products import Array


def whitened(mixture: Mixture) -> tuple[Array, Array]:
    """Return log norms (k,) and W (k, d, d), lower triangular, of all components.

    log(weight_j N(x; j)) = log norm_j - |W_j (x - mean_j)|^2 / 2; W is diagonal where features do
    not correlate within a component. The log norm of a weight of 0 is minus infinity.
    """
    d = mixture.d
    W: Array
    norms: Array
    if FAMILIES[mixture.covariance_type].diagonal:
        W = np.eye(d) / np.sqrt(mixture.variances)[:, None, :]
    else:
        W = np.linalg.inv(np.linalg.cholesky(mixture.covariances))
    with np.errstate(divide="ignore"):
        norms = np.log(mixture.weights / mixture.weights.sum())
    norms += np.log(np.einsum("kii->ki", W)).sum(axis=1) - 0.5 * d * LOG_2PI
    return norms, np.tril(W)
