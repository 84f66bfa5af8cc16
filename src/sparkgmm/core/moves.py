"""Ways out of a poor optimum: split one component, merge two others.

EM cannot move a component from where there is one too many to where there is one too few, since
all between is unlikely. Ueda, Nakano, Ghahramani and Hinton (2000), "SMEM algorithm for mixture
models".
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from sparkgmm.core.initialisation import Seeds, k_means_plus_plus, model_of
from sparkgmm.core.model import Model
from sparkgmm.density import Density
from sparkgmm.products import Array


def split_and_merge(model: Model, seeds: Seeds, rng: np.random.Generator, most: int) -> list[Model]:
    """Return models in which one component of k >= 3 is split and the two most alike are merged.

    At most `most` moves, of the components that describe the seeds worst.
    """
    if model.k < 3 or model.others:  # the seeds have no column of another part
        return []
    Z, w = seeds.Z, seeds.w
    R = Density.of(model.weights, model.means, model.stack).responsibilities(Z).T
    proposals = []
    for split in _worst_described(R, model, Z, w)[:most]:
        kept, freed = _most_alike(R, w, without=split)
        halves = _halves(R[split], Z, w, rng)
        if halves is None:
            continue
        moved = R.copy()
        moved[kept] += moved[freed]
        moved[freed] = R[split] * halves
        moved[split] = R[split] * ~halves
        centres = moved * w @ Z / np.maximum(moved @ w, 1e-300)[:, None]
        proposals.append(model_of(moved, centres, seeds, model.family))
    return proposals


def _most_alike(R: Array, w: Array, without: int) -> tuple[int, int]:
    """Return the two components whose responsibilities go together most (Ueda et al., eq. 3.1)."""
    product = (R * w) @ R.T
    norms = np.sqrt(np.diagonal(product))
    alike = product / np.maximum(np.outer(norms, norms), 1e-300)
    pairs = [pair for pair in combinations(range(len(R)), 2) if without not in pair]
    return max(pairs, key=lambda pair: alike[pair])


def _worst_described(R: Array, model: Model, Z: Array, w: Array) -> list[int]:
    """Order the components by how little their rows look Gaussian, weighed by their share.

    The mean fourth power of a Gaussian's whitened length is d (d + 2) (Mardia 1970, eq. 3.12); two
    clusters under one component have less, heavy tails more.
    """
    d = Z.shape[1]
    gains = []
    for j in range(len(R)):
        share = R[j] * w
        Y = model.stack.whitened(j, (Z - model.means[j]).T)
        fourth = (share * (Y * Y).sum(axis=0) ** 2).sum() / max(share.sum(), 1e-300)
        gains.append(share.sum() * abs(fourth / (d * (d + 2)) - 1))
    return [int(j) for j in np.argsort(gains)[::-1]]


def _halves(r: Array, Z: Array, w: Array, rng: np.random.Generator) -> Array | None:
    """Cut the rows of a component in two by 2-means: True for those of the second half."""
    mine = np.flatnonzero(r > 0.5)
    if len(mine) < 4:
        return None
    rows, share = Z[mine], r[mine] * w[mine]
    centres = k_means_plus_plus(rows, share, 2, rng)
    for _ in range(5):
        second = _nearer_second(rows, centres)
        if second.all() or not second.any():
            return None
        centres = np.array(
            [np.average(rows[half], axis=0, weights=share[half]) for half in (~second, second)]
        )
    return _nearer_second(Z, centres)


def _nearer_second(Z: Array, centres: Array) -> Array:
    middle, direction = centres.mean(axis=0), centres[1] - centres[0]
    return np.asarray((Z - middle) @ direction > 0)
