"""Components that together are one cluster: merged by the entropy of the responsibilities.

Baudry, Raftery, Celeux, Lo and Gottardo (2010), "Combining mixture components for clustering",
Journal of Computational and Graphical Statistics 19(2), equation 9.
"""

from __future__ import annotations

import numpy as np

from sparkgmm.products import Array

Groups = tuple[tuple[int, ...], ...]


def merged(R: Array, weights: Array, k: int, threshold: float) -> Groups:
    """Merge components, two at a time, until at most k groups are left of least entropy.

    Parameters
    ----------
    R : responsibilities (n, components)
    weights : of the rows, (n,)
    k : merge on while there are more groups than this
    threshold : and while the mean entropy of the groups' responsibilities, in nats a row, is above

    The two merged are those whose merger lowers the entropy most. Merging stops where either k or
    the threshold is met; a group's components are in rising order, groups in that of their first.
    """
    T = R.T.copy()
    shares = weights / weights.sum()
    groups: list[tuple[int, ...]] = [(j,) for j in range(len(T))]
    entropies = _entropy(T) @ shares
    gains = np.full((len(T), len(T)), -np.inf)
    for a in range(len(T)):
        for b in range(a):
            gains[a, b] = _gain(T, entropies, shares, a, b)
    while len(groups) > k and entropies.sum() > threshold:
        gone, keep = divmod(int(np.argmax(gains)), len(groups))  # of the lower triangle
        T[keep] += T[gone]
        groups[keep] = tuple(sorted(groups[keep] + groups[gone]))
        del groups[gone]
        T = np.delete(T, gone, axis=0)
        gains = np.delete(np.delete(gains, gone, axis=0), gone, axis=1)
        entropies = np.delete(entropies, gone)
        entropies[keep] = _entropy(T[keep]) @ shares
        for other in range(len(T)):
            if other != keep:
                pair = max(keep, other), min(keep, other)
                gains[pair] = _gain(T, entropies, shares, *pair)
    return tuple(sorted(groups))


def _gain(T: Array, entropies: Array, shares: Array, a: int, b: int) -> float:
    """Return by how much the entropy falls where a and b are merged."""
    return float(entropies[a] + entropies[b] - _entropy(T[a] + T[b]) @ shares)


def _entropy(T: Array) -> Array:
    return np.asarray(-T * np.log(np.where(T > 0, T, 1.0)))
