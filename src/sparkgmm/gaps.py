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
# Systems of no more unknowns are solved by hand, an entry of all at a time, where there are so
# many: LAPACK takes 3 to 8 times as long for small ones. So many at a time stay in the cache.
_BY_HAND = 24
_MANY_SYSTEMS = 128
_SYSTEMS = 4096


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

    `covariances` (m, m, k, P) are those given the others, and `half_log_dets` (k, P) half the log
    determinants of the inverses; of one for all components k is 1.
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

    `precisions` are (k, d, d), or (1, d, d) where all components share one.
    """
    of, features = group.pattern, group.features
    n_patterns = len(features)
    filled = conditionals(precisions, features)
    here = residuals[:, :, group.rows]
    if len(of) >= _MANY_ROWS * n_patterns:
        edges = [*group.starts.tolist(), len(of)]
        for p, (start, stop) in enumerate(pairwise(edges)):
            those = features[p]
            C = np.moveaxis(filled.covariances[..., p], 2, 0)
            slopes = np.matmul(C, precisions[:, those])
            here[:, those, start:stop] = -np.matmul(slopes, here[:, :, start:stop])
        return filled
    pulls = np.matmul(precisions, here).reshape(len(here), -1)
    rows, at = np.arange(len(of)), features[of].T
    C = filled.covariances
    if len(of) > n_patterns:
        C = C.take(of, axis=3)
    mine = pulls.take(at * len(of) + rows, axis=1)
    here[:, at, rows] = -np.einsum("abkn,kbn->kan", C, mine)
    return filled


def add_covariances(second: Array, counts: Array, features: Array, filled: Filled) -> None:
    """Add what varies in the missing values to second moments (k, d, d).

    `features` (P, m) are what P patterns miss, and `counts` (k, P) their effective counts of rows.
    """
    k, d, _ = second.shape
    a, b = np.triu_indices(features.shape[1])
    at = np.arange(k)[:, None] * (d * d) + (features[:, a] * d + features[:, b]).T[:, None, :]
    values = counts * filled.covariances[a, b]
    sums = np.bincount(at.ravel(), values.ravel(), k * d * d)
    upper = sums.reshape(k, d, d)
    second += upper
    second += np.swapaxes(np.triu(upper, 1), 1, 2)


def conditionals(precisions: Array, features: Array) -> Filled:
    """Return what is known of missing features (P, m) of P patterns, of precisions (k, d, d)."""
    k, d, _ = precisions.shape
    n_patterns, m = features.shape
    flat = precisions.reshape(k, d * d)
    covariances = np.empty((m, m, k, n_patterns))
    half_log_dets = np.empty((k, n_patterns))
    step = max(1, _SYSTEMS // k)
    for start in range(0, n_patterns, step):
        some = slice(start, start + step)
        A = covariances[..., some]
        for a in range(m):
            for b in range(a + 1):
                A[a, b] = flat.take(features[some, a] * d + features[some, b], axis=1)
        A[...], half_log_dets[:, some] = _inverses(A)
    return Filled(covariances, half_log_dets)


def _inverses(A: Array) -> tuple[Array, Array]:
    """Return the inverses of A (m, m, k, P), and half the logs of its determinants (k, P).

    Of A the lower triangles are read.

    Cholesky, then the inverse of the factor; of many matrices at once, an entry of all at a time.
    """
    m, shape = len(A), A.shape[2:]
    if m > 1 and (m > _BY_HAND or A[0, 0].size < _MANY_SYSTEMS):
        L = np.linalg.cholesky(np.moveaxis(A, (0, 1), (-2, -1)))
        W = np.linalg.inv(L)
        half = np.log(np.einsum("kpii->kpi", L)).sum(axis=-1)
        return np.moveaxis(np.swapaxes(W, -1, -2) @ W, (-2, -1), (0, 1)), half
    A = A.reshape(m, m, -1)
    L, W = np.empty_like(A), np.empty_like(A)
    half = np.zeros(A.shape[2])
    for j in range(m):
        pivot = A[j, j] - _dot(L[j, :j], L[j, :j]) if j else A[j, j]
        if not (pivot > 0).all():
            raise np.linalg.LinAlgError("a precision is not positive definite")
        half += 0.5 * np.log(pivot)
        np.divide(1.0, np.sqrt(pivot), out=W[j, j])
        for i in range(j + 1, m):
            rest = A[i, j] - _dot(L[i, :j], L[j, :j]) if j else A[i, j]
            np.multiply(rest, W[j, j], out=L[i, j])
    for i in range(m):
        for j in range(i):
            np.multiply(_dot(L[i, j:i], W[j:i, j]), -W[i, i], out=W[i, j])
    inverse = np.empty_like(A)
    for i in range(m):
        for j in range(i + 1):
            inverse[i, j] = inverse[j, i] = _dot(W[i:, i], W[i:, j])
    return inverse.reshape(m, m, *shape), half.reshape(shape)


def _dot(A: Array, B: Array) -> Array:
    """Return the products of A and B (m, n) summed over the first axis, (n,)."""
    return np.einsum("mn,mn->n", A, B)
