"""The small real data sets of the tests, and rows drawn from mixtures that are known."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from sparkgmm.covariances import FAMILIES
from sparkgmm.mixture import Array, Mixture

ROOT = Path(__file__).resolve().parents[2]
# The covariance types that textbooks and scikit-learn have.
TEXTBOOK = tuple(name for name, family in FAMILIES.items() if family.known_as == name)


def _read(path: Path) -> Array:
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    rows.setflags(write=False)
    return rows


@cache
def faithful() -> Array:
    """Return 272 eruptions of Old Faithful: minutes they lasted, minutes to the next."""
    return _read(ROOT / "data" / "faithful.csv")


@cache
def iris() -> Array:
    """Return the 150 flowers of Fisher's iris data, four lengths in cm."""
    return _read(ROOT / "tests" / "data" / "iris.csv")


def clusters(
    rng: np.random.Generator, k: int, d: int, n: int, separation: float
) -> tuple[Array, Array]:
    """Return n rows of k round unit clusters, `separation` apart from their neighbours, labelled.

    The centres stand on different axes, at different heights, so that none is a mirror image.
    """
    centres = np.zeros((k, d))
    for j in range(k):
        centres[j, j % d] = separation * (1 + j // d)
    labels = np.arange(n) % k
    return centres[labels] + rng.standard_normal((n, d)), labels


def random_mixture(
    rng: np.random.Generator, k: int, d: int, covariance_type: str, spread: float = 2.0
) -> Mixture:
    """Return a mixture of overlapping components, whose features have unlike units."""
    unit = 10.0 ** rng.uniform(-2, 2, d) if covariance_type != "spherical" else np.full(d, 3.0)
    A = rng.standard_normal((k, d, d)) / np.sqrt(d)
    dense = A @ A.transpose(0, 2, 1) + 0.3 * np.eye(d)
    if covariance_type == "tied":
        dense = np.broadcast_to(dense[0], (k, d, d))
    elif covariance_type == "diag":
        dense = dense * np.eye(d)
    elif covariance_type == "spherical":
        dense = dense[:, :1, :1] * np.eye(d)
    dense = dense * np.outer(unit, unit)
    if covariance_type not in TEXTBOOK:
        dense = FAMILIES[covariance_type].nearest(dense, np.ones(d)).dense(k)
    means = spread * rng.standard_normal((k, d)) + rng.uniform(-3, 3, d)
    weights = rng.dirichlet(np.full(k, 5.0))
    return Mixture(weights, means * unit, dense, covariance_type)
