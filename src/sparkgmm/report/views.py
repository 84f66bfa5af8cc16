"""What there is to see in a mixture: marginals, contours by share, features that say most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkgmm.core.sample import Sample
from sparkgmm.covariances import FAMILIES
from sparkgmm.mixture import Array, Mixture

# The contours of a pair hold these shares of the mixture.
SHARES = (0.5, 0.8, 0.95, 0.99)
# So many rows suffice to rank features, and so many of the best are looked at in pairs.
_RANKING_ROWS = 2000
_PAIRED = 10
_DRAWN = 20_000
# Positive values whose bulk is spread as far as this are drawn by their logarithms.
_POWERS = 1000.0


def names_of(mixture: Mixture) -> list[str]:
    """Return the features' names, x0 and so on where there are none."""
    return list(mixture.features or [f"x{i}" for i in range(mixture.d)])


def marginal(mixture: Mixture, features: Sequence[int]) -> Mixture:
    """Return the mixture of some features: its means and covariances without the others'."""
    index = np.array(features)
    family = FAMILIES[FAMILIES[mixture.covariance_type].known_as]
    return Mixture(
        mixture.weights,
        mixture.means[:, index],
        family.compact(mixture.stack.among(index).values),
        family.name,
        features=[names_of(mixture)[i] for i in features],
        missing=mixture.missing,
    )


def density_levels(mixture: Mixture, shares: Sequence[float] = SHARES) -> Array:
    """Return the densities whose contours hold these shares of the mixture.

    The highest-density regions of Hyndman (1996): the level is a quantile of the density at rows
    drawn from the mixture itself.
    """
    X, _ = mixture.sample(_DRAWN, seed=0)
    return np.quantile(np.exp(mixture.log_density(X)), 1 - np.array(shares))


def limits(values: Array) -> tuple[float, float]:
    """Return the ends of an axis: all values, or without the tails where they would fill it.

    What is NaN is not drawn.
    """
    values = values[~np.isnan(values)]
    low, high = np.quantile(values, [0.005, 0.995])
    span = max(high - low, 1e-12 * max(abs(low), abs(high), 1e-300))
    least, most = values.min(), values.max()
    first = least if low - least < 0.35 * span else low
    last = most if most - high < 0.35 * span else high
    margin = 0.07 * max(last - first, span)
    return float(first - margin), float(last + margin)


def spans_powers(values: Array) -> bool:
    """Return whether values are all positive and spread over powers of ten, as money is."""
    values = values[~np.isnan(values)]
    if not len(values) or values.min() <= 0:
        return False
    low, high = np.quantile(values, [0.005, 0.995])
    return bool(high >= _POWERS * low)


def log_limits(values: Array) -> tuple[float, float]:
    """Return the ends of a logarithmic axis, as `limits` does of a plain one."""
    low, high = limits(np.log10(values))
    return float(10.0**low), float(10.0**high)


def share_outside(X: Array, bounds: Sequence[tuple[float, float]]) -> float:
    """Return the share of rows outside these axes; what is NaN is not."""
    low, high = np.array(bounds).T
    return float(((low > X) | (high < X)).any(axis=1).mean())


def informative_features(mixture: Mixture, sample: Sample, most: int) -> list[int]:
    """Return the features whose pairs say most about the component that a row belongs to.

    A pair says as much as the mutual information of the component and the two features in the
    mixture, estimated over rows of the sample; features join by the best pair that they make with
    those before them. With one component the most correlated pairs come first.
    """
    if mixture.d <= most:
        return list(range(mixture.d))
    X = sample.thinned(_RANKING_ROWS)
    if mixture.k == 1:
        if uncorrelated(mixture):
            return list(range(most))  # no pair says more than another
        among, pairs = list(range(mixture.d)), _correlations(mixture)
    else:
        alone = [_information(marginal(mixture, [i]), X[:, [i]]) for i in range(mixture.d)]
        best = np.argsort(alone)[::-1][: max(_PAIRED, most)].tolist()
        among = sorted(best)
        pairs = np.full((len(best), len(best)), -np.inf)
        for a, i in enumerate(best):
            for j in best[a + 1 :]:
                at = [among.index(i), among.index(j)], [among.index(j), among.index(i)]
                pairs[at] = _information(marginal(mixture, [i, j]), X[:, [i, j]])
    chosen = [int(i) for i in np.unravel_index(np.argmax(pairs), pairs.shape)]
    while len(chosen) < most:
        gains = pairs[chosen].max(axis=0)
        gains[chosen] = -np.inf
        chosen.append(int(np.argmax(gains)))
    return [among[i] for i in chosen]


def _information(mixture: Mixture, X: Array) -> float:
    """Return the mutual information of component and row, but for the component's own entropy."""
    R = mixture.responsibilities(X)
    return float((R * np.log(np.maximum(R, 1e-300))).sum(axis=1).mean())


def _correlations(mixture: Mixture) -> Array:
    found = np.abs(correlation(mixture.covariances[0]))
    np.fill_diagonal(found, -np.inf)  # no feature makes a pair with itself
    return found


def uncorrelated(mixture: Mixture) -> bool:
    """Return whether features do not correlate within a component, by the covariance type."""
    return FAMILIES[mixture.covariance_type].diagonal


def correlation(covariance: Array) -> Array:
    """Return the correlation matrix of a covariance matrix (d, d)."""
    sd = np.sqrt(np.diagonal(covariance))
    return np.asarray(covariance / np.outer(sd, sd))
