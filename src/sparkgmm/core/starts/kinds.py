"""The kinds of starts: to which component each row belongs at first."""

from __future__ import annotations

import numpy as np

from sparkgmm.core.initialisation import (
    k_means_plus_plus,
    nearest_centres,
    random_from_data,
    settle,
)
from sparkgmm.core.starts.ground import Ground
from sparkgmm.products import Array

# So many directions are followed at once, so many rounds, to where the rows are least normal.
_DIRECTIONS, _TURNS = 64, 15


def _k_means(Y: Array, w: Array, k: int, rng: np.random.Generator, rounds: int = 5) -> Array:
    """Return labels (n,) by k-means++ and Lloyd's rounds."""
    return nearest_centres(settle(k_means_plus_plus(Y, w, k, rng), Y, w, rounds), Y)


def bounded(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Clusters of k-means in coordinates that outliers do not scale."""
    return _k_means(ground.bounded, ground.w, k, rng)


def whitened(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Clusters of k-means in coordinates without correlation: they lie apart in any direction."""
    return _k_means(ground.whitened, ground.w, k, rng)


def whitened_rows(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Rows nearest to rows far apart, in coordinates without correlation."""
    return _k_means(ground.whitened, ground.w, k, rng, rounds=0)


def random_metric(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Clusters of k-means where some directions, drawn at random, count for more than others."""
    d = ground.whitened.shape[1]
    axes = rng.standard_normal((d, min(d, 16)))
    axes = np.linalg.qr(axes)[0] * np.exp(rng.standard_normal(axes.shape[1]))
    return _k_means(ground.whitened @ axes, ground.w, k, rng)


def some_features(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Clusters of k-means in some of the features, drawn at random."""
    d = ground.bounded.shape[1]
    some = rng.permutation(d)[: rng.integers(1, max(2, d))]
    return _k_means(np.ascontiguousarray(ground.bounded[:, some]), ground.w, k, rng)


def projected(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Clusters of k-means on a line or a plane, drawn at random."""
    axes = rng.standard_normal((ground.whitened.shape[1], rng.integers(1, 3)))
    return _k_means(ground.whitened @ axes, ground.w, k, rng)


def neighbourhoods(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """The nearest rows of k rows drawn at random, a share of their number that is random too."""
    Y = ground.whitened if rng.random() < 0.5 else ground.bounded
    centres = random_from_data(Y, ground.w, k, rng)
    least = min(2 * (ground.d + 1), ground.n)
    size = min(ground.n, max(least, int(ground.n / k * rng.uniform(0.1, 0.6))))
    R = np.full((k, ground.n), 1e-3)
    for j in range(k):
        distances = ((Y - centres[j]) ** 2).sum(axis=1)
        R[j, np.argpartition(distances, size - 1)[:size]] = 1.0
    return R


def cuts(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Slices across a direction drawn at random."""
    along = ground.whitened @ rng.standard_normal(ground.whitened.shape[1])
    edges = np.sort(rng.choice(along, k - 1))
    return np.searchsorted(edges, along)


def soft(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Rows shared among means drawn at random and drawn together."""
    Y = ground.whitened
    centres = random_from_data(Y, ground.w, k, rng) * rng.uniform(0.3, 1.0)
    L = centres @ Y.T - 0.5 * np.einsum("kd,kd->k", centres, centres)[:, None]
    L *= rng.choice([0.5, 1.0, 2.0, 4.0])
    R = np.exp(L - L.max(axis=0))
    return np.asarray(R / R.sum(axis=0))


def shells(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Shells about a row drawn at random: components that lie within each other."""
    Y = ground.whitened
    centre = Y[rng.integers(len(Y))] * rng.uniform(0.0, 1.0)
    radius = ((Y - centre) ** 2).sum(axis=1)
    edges = np.sort(rng.choice(radius, k - 1))
    return np.searchsorted(edges, radius)


def flattest(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Clusters of k-means along the direction of least kurtosis: they lie apart in no other.

    Not one of KINDS: it is for tables of so many columns that a direction drawn at random shows
    nothing. From many of them by the fixed points of Hyvarinen and Oja (1997), "A fast fixed-point
    algorithm for independent component analysis", eq. 11.
    """
    share = ground.w / ground.w.sum()
    Y = ground.whitened - share @ ground.whitened
    weighted = (Y * share[:, None]).T
    A = rng.standard_normal((Y.shape[1], _DIRECTIONS))
    for _ in range(_TURNS):
        A /= np.linalg.norm(A, axis=0)
        along = Y @ A
        A = weighted @ (along * along * along) - 3 * A  # a power takes several times as long
    along = Y @ (A / np.linalg.norm(A, axis=0))
    squared = along * along
    kurtosis = share @ (squared * squared) / np.maximum(share @ squared, 1e-300) ** 2
    return _k_means(along[:, [int(np.argmin(kurtosis))]], ground.w, k, rng)


def balanced(ground: Ground, k: int, rng: np.random.Generator) -> Array:
    """Parts of about as many rows each, cut in two across directions drawn at random.

    Not one of KINDS: it is for tables that have hardly rows enough for so many components.
    """
    Y, labels = ground.whitened, np.zeros(ground.n, dtype=int)
    for new in range(1, k):
        mine = np.flatnonzero(labels == np.argmax(np.bincount(labels, minlength=new)))
        along = Y[mine] @ rng.standard_normal(Y.shape[1])
        labels[mine[np.argsort(along, kind="stable")[len(mine) // 2 :]]] = new
    return labels
