"""Rows of which some values are missing: their order, and what the others say of those.

Values are missing at random (Rubin 1976): whether one is may depend on what was seen, not on what
was not. Then what is missing is integrated over. Of a normal with precision P a row whose missing
features are m and whose residuals r are 0 there has

    C = (P_mm)^-1                     the covariance of x_m given the others
    r_m = -C (P r)_m                  the mean of x_m given the others, less its own mean
    |Sigma_oo| = |Sigma| |P_mm|       and r' P r, with r filled in, is the distance of the others

(Little and Rubin 2002, section 11.2; theory.md derives it). Few values are missing in most rows, so
these are small systems; those of all patterns that miss as many values are solved at once.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sparkgmm.products import Array

# Patterns of so many rows and more, on average, are filled one by one.
_MANY_ROWS = 24
# Systems of no more unknowns are solved for all patterns at once, by hand.
_BY_HAND = 5


class Group(NamedTuple):
    """Rows next to each other that miss m values each.

    `features` (P, m) has which of them each of P patterns misses, ascending; rows of one pattern
    are next to each other, from `starts` (P,) on, and `pattern` (n,) is that of each row.
    """

    rows: slice
    features: Array
    starts: Array
    pattern: Array


class Filled(NamedTuple):
    """What is known of the missing values of a group in each of k components.

    `covariances` (k, P, m, m) are those given the others, and `half_log_dets` (k, P) half the log
    determinants of the inverses.
    """

    covariances: Array
    half_log_dets: Array


def order(missing: Array) -> Array:
    """Return the order of rows, of missing (d, n), in which equal patterns stand together.

    Those that miss fewer values first, then by the bits of their patterns, then as they came.
    """
    packed = np.packbits(missing, axis=0)
    return np.lexsort((*packed[::-1], missing.sum(axis=0)))


def is_ordered(missing: Array) -> bool:
    """Return whether rows that miss fewer values come first, which is all that `groups` needs."""
    n_missing = missing.sum(axis=0)
    return bool((n_missing[1:] >= n_missing[:-1]).all())


def groups(missing: Array) -> list[Group]:
    """Return the groups of ordered rows of which something is missing, (d, n)."""
    n = missing.shape[1]
    new = np.ones(n, dtype=bool)
    new[1:] = (missing[:, 1:] != missing[:, :-1]).any(axis=0)
    firsts = np.flatnonzero(new)
    patterns = missing[:, firsts].T
    n_missing = patterns.sum(axis=1)
    edges = np.flatnonzero(np.diff(n_missing, prepend=-1))
    found = []
    for a, b in zip(edges, [*edges[1:], len(firsts)], strict=True):
        m = int(n_missing[a])
        if m == 0:
            continue
        start, stop = int(firsts[a]), int(firsts[b]) if b < len(firsts) else n
        features = np.nonzero(patterns[a:b])[1].reshape(b - a, m)
        starts = firsts[a:b] - start
        sizes = np.diff(starts, append=stop - start)
        found.append(
            Group(slice(start, stop), features, starts, np.repeat(np.arange(b - a), sizes))
        )
    return found


def fill(precisions: Array, residuals: Array, group: Group) -> Filled:
    """Fill in the missing residuals of a group's rows: (k, d, n), 0 where values are missing.

    `precisions` are (k, d, d).
    """
    of, features = group.pattern, group.features
    m = features.shape[1]
    small = precisions[:, features[:, :, None], features[:, None, :]]
    filled = Filled(*_inverses(small))
    here = residuals[:, :, group.rows]
    if len(of) >= _MANY_ROWS * len(features):
        edges = [*group.starts.tolist(), len(of)]
        for p, (start, stop) in enumerate(pairwise(edges)):
            those = features[p]
            slopes = np.matmul(filled.covariances[:, p], precisions[:, those])
            here[:, those, start:stop] = -np.matmul(slopes, here[:, :, start:stop])
        return filled
    pulls = np.matmul(precisions, here)
    rows = np.arange(len(of))
    missing = [features[of, a] for a in range(m)]
    mine = [pulls[:, feature, rows] for feature in missing]
    for a, feature in enumerate(missing):
        expected = filled.covariances[:, of, a, 0] * mine[0]
        for b in range(1, m):
            expected += filled.covariances[:, of, a, b] * mine[b]
        here[:, feature, rows] = -expected
    return filled


def add_covariances(second: Array, counts: Array, group: Group, filled: Filled) -> None:
    """Add what varies in the missing values to second moments (k, d, d).

    `counts` (k, P) are the effective counts of the rows of each pattern.
    """
    k, d, _ = second.shape
    flat = second.reshape(k, d * d)
    m = group.features.shape[1]
    for a in range(m):
        for b in range(a, m):
            value = counts * filled.covariances[:, :, a, b]
            i, j = group.features[:, a], group.features[:, b]
            for at in {0: [i * d + j], 1: [i * d + j, j * d + i]}[int(a < b)]:
                for row, mine in zip(flat, value, strict=True):
                    row += np.bincount(at, mine, d * d)


def _inverses(A: Array) -> tuple[Array, Array]:
    """Return the inverses of A (k, P, m, m), and half the logs of its determinants (k, P)."""
    m = A.shape[-1]
    if m > _BY_HAND:
        L = np.linalg.cholesky(A)
        W = np.linalg.inv(L)
        half = np.log(np.einsum("kpii->kpi", L)).sum(axis=-1)
        return np.swapaxes(W, -1, -2) @ W, half
    # Cholesky, then the inverse of the factor, an entry of all matrices at a time
    L = np.zeros_like(A)
    W = np.zeros_like(A)
    for j in range(m):
        pivot = A[..., j, j] - (L[..., j, :j] ** 2).sum(axis=-1)
        if not (pivot > 0).all():
            raise np.linalg.LinAlgError("a precision is not positive definite")
        L[..., j, j] = np.sqrt(pivot)
        for i in range(j + 1, m):
            inner = (L[..., i, :j] * L[..., j, :j]).sum(axis=-1)
            L[..., i, j] = (A[..., i, j] - inner) / L[..., j, j]
    for i in range(m):
        W[..., i, i] = 1 / L[..., i, i]
        for j in range(i):
            inner = (L[..., i, j:i] * W[..., j:i, j]).sum(axis=-1)
            W[..., i, j] = -inner * W[..., i, i]
    inverse = np.empty_like(A)
    for i in range(m):
        for j in range(i + 1):
            inverse[..., i, j] = (W[..., i:, i] * W[..., i:, j]).sum(axis=-1)
            inverse[..., j, i] = inverse[..., i, j]
    return inverse, np.log(np.einsum("...ii->...i", L)).sum(axis=-1)
