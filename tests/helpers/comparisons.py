"""Comparisons for tests, made without Spark."""

from __future__ import annotations

import numpy as np

from sparkgmm.core.sample import Sample
from sparkgmm.mixture import Mixture
from sparkgmm.report.comparison import Comparison, Solved


def comparison_of(mixture: Mixture, n: int = 600) -> Comparison:
    """Compare a mixture with itself in another order, a shifted one, and hard clusters of it."""
    X, labels = mixture.sample(n, seed=0)
    sd = np.sqrt(np.einsum("kii->ki", mixture.covariances))
    turned = np.arange(mixture.k)[::-1]
    shifted = Mixture(
        mixture.weights[turned],
        (mixture.means + 0.3 * sd)[turned],
        1.2 * mixture.covariances[turned],
        features=mixture.features,
    )
    twin = Mixture(
        mixture.weights[turned],
        mixture.means[turned],
        mixture.covariances[turned],
        features=mixture.features,
    )

    def solved(name: str, found: Mixture, **more: object) -> Solved:
        height = float(found.log_density(X).mean())
        return Solved(name, found, 0.25, 12, True, n, mean_log_likelihood=height, **more)

    clusters = (mixture.k - 1) - labels
    return Comparison(
        [
            solved("sparkgmm", mixture),
            solved("sklearn", twin, note="a note"),
            solved("mllib", shifted, note="one random start"),
            solved("kmeans", twin, labels=clusters),
        ],
        Sample(X, np.ones(n), complete=True),
    )
