"""Which component of one mixture is which of another."""

from __future__ import annotations

import numpy as np

from sparkgmm.covariances import FAMILIES
from sparkgmm.mixture import Array, Mixture

# Components farther apart than this Hellinger distance are not one and the same: of equal shape,
# their means are 3.6 standard deviations apart.
SAME_COMPONENT = 0.9


def bhattacharyya_between(one: Mixture, other: Mixture) -> Array:
    """Return the Bhattacharyya distances between the components of two mixtures, in nats.

    Bhattacharyya (1943); for two Gaussians with mean covariance S the distance is
    (m1 - m2)' S^-1 (m1 - m2) / 8 + log(det S / sqrt(det S1 det S2)) / 2. Of independent factors the
    distances add.
    """
    distances = _between_gaussians(one, other)
    theirs = {part.of.name: part for part in other.parts}
    for part in one.parts:
        if part.of.name in theirs:
            distances = distances - part.affinity(theirs[part.of.name])
    return distances


def _between_gaussians(one: Mixture, other: Mixture) -> Array:
    if not one.d:
        return np.zeros((one.k, other.k))
    if all(FAMILIES[m.covariance_type].diagonal for m in (one, other)):
        return _between_diagonal(one, other)
    matrices = [m.stack.dense(len(m.stack.values)) for m in (one, other)]
    log_dets = [
        np.broadcast_to(np.linalg.slogdet(c)[1], (m.k,))
        for c, m in zip(matrices, (one, other), strict=True)
    ]
    distances = np.zeros((one.k, other.k))
    for i in range(one.k):
        middle = 0.5 * (matrices[0][i if len(matrices[0]) > 1 else 0] + matrices[1])
        delta = one.means[i] - other.means
        if len(middle) == 1:  # all share one: it is factorised once
            apart = (delta.T * np.linalg.solve(middle[0], delta.T)).sum(axis=0)
        else:
            apart = (delta * np.linalg.solve(middle, delta[:, :, None])[:, :, 0]).sum(axis=1)
        shape = np.linalg.slogdet(middle)[1] - 0.5 * (log_dets[0][i] + log_dets[1])
        distances[i] = apart / 8 + shape / 2
    return distances


def _between_diagonal(one: Mixture, other: Mixture) -> Array:
    """Return the same of mixtures of diagonal covariances, from their variances alone."""
    log_dets = [np.log(m.variances).sum(axis=1) for m in (one, other)]
    distances = np.zeros((one.k, other.k))
    for i in range(one.k):
        middle = 0.5 * (one.variances[i] + other.variances)
        delta = one.means[i] - other.means
        shape = np.log(middle).sum(axis=1) - 0.5 * (log_dets[0][i] + log_dets[1])
        distances[i] = (delta * (delta / middle)).sum(axis=1) / 8 + shape / 2
    return distances


def hellinger_between(one: Mixture, other: Mixture) -> Array:
    """Return the Hellinger distances between the components of two mixtures, (k, k), 0 to 1.

    sqrt(1 - exp(-B)) of the Bhattacharyya distance B (Kailath 1967).
    """
    distances = np.maximum(bhattacharyya_between(one, other), 0.0)
    return np.sqrt(-np.expm1(-distances))


def match(before: Mixture, after: Mixture, most: float = SAME_COMPONENT) -> list[int | None]:
    """Return for each component of `after` the one of `before` that it continues, or None.

    The pairs are those with the least sum of squared Hellinger distances, where a component left
    alone costs as much as half a pair at the distance `most`; no pair is farther apart than that.
    """
    distances = hellinger_between(before, after)
    cost = np.minimum(distances, most) ** 2
    pairs = {column: row for row, column in assign(cost) if distances[row, column] < most}
    return [pairs.get(j) for j in range(after.k)]


def farthest(one: Mixture, other: Mixture) -> float:
    """Return the greatest Hellinger distance of the pairs that are nearest together, 0 to 1."""
    distances = hellinger_between(one, other)
    if one.k != other.k:
        return 1.0
    return float(max(distances[pair] for pair in assign(distances**2)))


def assign(cost: Array) -> list[tuple[int, int]]:
    """Return the pairs (row, column) with the least sum of costs (m, n): min(m, n) of them.

    Shortest augmenting paths over reduced costs (Kuhn 1955; Jonker and Volgenant 1987).
    """
    m, n = cost.shape
    if m > n:
        return sorted((row, column) for column, row in assign(cost.T))
    of_row, of_column = np.zeros(m), np.zeros(n + 1)  # the duals; column n is where a path begins
    owner = np.full(n + 1, -1)
    for row in range(m):
        owner[n], here = row, n
        least, came_from, seen = np.full(n, np.inf), np.full(n, n), np.zeros(n + 1, dtype=bool)
        while owner[here] >= 0:
            seen[here] = True
            reduced = cost[owner[here]] - of_row[owner[here]] - of_column[:n]
            nearer = ~seen[:n] & (reduced < least)
            least[nearer], came_from[nearer] = reduced[nearer], here
            following = int(np.argmin(np.where(seen[:n], np.inf, least)))
            step = least[following]
            of_row[owner[seen]] += step
            of_column[seen] -= step
            least[~seen[:n]] -= step
            here = following
        while here != n:
            owner[here], here = owner[came_from[here]], int(came_from[here])
    return sorted((int(owner[column]), column) for column in range(n) if owner[column] >= 0)
