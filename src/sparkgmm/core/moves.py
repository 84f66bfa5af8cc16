"""Ways out of a poor optimum: split one component, merge two others.

EM cannot move a component from where there is one too many to where there is one too few, since
all between is unlikely. Ueda, Nakano, Ghahramani and Hinton (2000), "SMEM algorithm for mixture
models".
"""

from __future__ import annotations

import numpy as np

from sparkgmm.core.initialisation import Seeds, k_means_plus_plus, model_of, settle
from sparkgmm.core.model import Model
from sparkgmm.core.profile import bands
from sparkgmm.core.short_runs import Sample
from sparkgmm.core.starts.ground import Ground
from sparkgmm.density import Density
from sparkgmm.products import Array

# A cut takes half of a component's rows at most, times this at least.
_FEWEST = 1 / 32
# The halves of a component move to the means of their rows so many times at most.
HALVING_ROUNDS = 5


def split_and_merge(model: Model, seeds: Seeds, rng: np.random.Generator, most: int) -> list[Model]:
    """Return models in which one component of k >= 3 is split and the two most alike are merged.

    At most `most` moves, of the components that describe the seeds worst.
    """
    if model.k < 3:
        return []
    Z, w, points = seeds.Z, seeds.w, seeds.points
    R = responsibilities_of(model, seeds)
    proposals = []
    for split in _worst_described(R, model, Z, w)[:most]:
        kept, freed = _most_alike(R, w, without=split)
        halves = _halves(R[split], points, w, rng)
        if halves is None:
            continue
        moved = R.copy()
        moved[kept] += moved[freed]
        moved[freed] = R[split] * halves
        moved[split] = R[split] * ~halves
        centres = moved * w @ Z / np.maximum(moved @ w, 1e-300)[:, None]
        proposals.append(model_of(moved, centres, seeds, model.family))
    return proposals


def responsibilities_of(model: Model, seeds: Seeds) -> Array:
    """Return the responsibilities (k, n) for the seeds, however narrow components are."""
    density = Density.of(model.weights, model.means, model.stack, model.others)
    return density.responsibilities(seeds.rows).T


def likeness(R: Array, w: Array) -> Array:
    """Return how much responsibilities (k, n) go together, (k, k): Ueda et al., eq. 3.1."""
    product = (R * w) @ R.T
    norms = np.sqrt(np.diagonal(product))
    return product / np.maximum(np.outer(norms, norms), 1e-300)


def _most_alike(R: Array, w: Array, without: int) -> tuple[int, int]:
    """Return the two components whose responsibilities go together most."""
    alike = likeness(R, w)
    alike[np.tril_indices(len(R))] = -np.inf  # each pair once
    alike[without] = alike[:, without] = -np.inf
    kept, freed = np.unravel_index(np.argmax(alike), alike.shape)
    return int(kept), int(freed)


def _worst_described(R: Array, model: Model, Z: Array, w: Array) -> list[int]:
    """Order the components by how little their rows look Gaussian, weighed by their share.

    The mean fourth power of a Gaussian's whitened length is d (d + 2) (Mardia 1970, eq. 3.12); two
    clusters under one component have less, heavy tails more.
    """
    d = Z.shape[1]
    if not d:
        return [int(j) for j in np.argsort(-(R @ w), kind="stable")]
    gains = []
    for j in range(len(R)):
        share = R[j] * w
        fourths = [
            (share[some] * _squared_lengths(model, j, Z[some]) ** 2).sum()
            for some in bands(len(Z), d)
        ]
        fourth = sum(fourths) / max(share.sum(), 1e-300)
        gains.append(share.sum() * abs(fourth / (d * (d + 2)) - 1))
    return [int(j) for j in np.argsort(gains)[::-1]]


def _squared_lengths(model: Model, j: int, Z: Array) -> Array:
    """Return the squared lengths of rows (n, d) in component j's own coordinates, (n,)."""
    Y = model.stack.whitened(j, (Z - model.means[j]).T)
    return np.asarray((Y * Y).sum(axis=0))


def _halves(r: Array, Z: Array, w: Array, rng: np.random.Generator) -> Array | None:
    """Cut the rows of a component in two by 2-means: True for those of the second half."""
    mine = np.flatnonzero(r > 0.5)
    if len(mine) < 4:
        return None
    rows, share = Z[mine], r[mine] * w[mine]
    centres = k_means_plus_plus(rows, share, 2, rng)
    for _ in range(HALVING_ROUNDS):
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


def remove_and_split(
    model: Model, ground: Ground, sample: Sample, rng: np.random.Generator, most: int
) -> list[Model]:
    """Return models in which one component of k >= 2 is left out and another is split.

    The rows of the one go to those that explain them best. The other is cut in its own
    coordinates, in which its rows have variance 1 in all directions, by a way drawn at random from
    CUTS. All pairs are taken in turn, in an order drawn at random, until there are `most`.
    """
    if model.k < 2:
        return []
    L = sample.log_joint(model)
    pairs = [(i, j) for i in range(model.k) for j in range(model.k) if i != j]
    order = [pairs[p] for _ in range(-(-most // len(pairs))) for p in rng.permutation(len(pairs))]
    cut = (_cut(responsibilities(L, without=i), i, j, model, ground, rng) for i, j in order[:most])
    return ground.models(cut, model.family)


def split_one(
    model: Model, ground: Ground, sample: Sample, rng: np.random.Generator, most: int
) -> list[Model]:
    """Return models with one component more, which is half of another."""
    R = responsibilities(sample.log_joint(model))
    R = np.concatenate([R, np.zeros((1, R.shape[1]))])
    order = [j for _ in range(-(-most // model.k)) for j in rng.permutation(model.k)]
    cut = (_cut(R.copy(), model.k, int(j), model, ground, rng) for j in order[:most])
    return ground.models(cut, model.family)


def shaken(
    model: Model, ground: Ground, sample: Sample, rng: np.random.Generator, most: int
) -> list[Model]:
    """Return models that rows of random weights make of the same responsibilities.

    The weights are exponential, as those of the weighted likelihood bootstrap (Newton and Raftery
    1994), to a power drawn at random: there are optima beside an optimum, that differ by a few
    rows.
    """
    if model.k < 2:
        return []
    R = responsibilities(sample.log_joint(model))
    weights = (rng.standard_exponential(ground.n) ** rng.uniform(0.5, 2.0) for _ in range(most))
    return ground.models((R * w for w in weights), model.family)


def responsibilities(L: Array, without: int | None = None) -> Array:
    """Return the responsibilities (k, n) by log joint densities, those of one being nothing."""
    L = L.copy()
    if without is not None:
        L[without] = -np.inf
    R = np.exp(L - L.max(axis=0))
    return np.asarray(R / R.sum(axis=0))


def in_own_coordinates(model: Model, j: int, ground: Ground) -> Array:
    """Return the rows where component j has variance 1 in all directions, (n, d).

    What parts beside the Gaussian make of the rows is appended as it is.
    """
    Y = model.stack.whitened(j, (ground.seeds.Z - model.means[j]).T).T
    return np.concatenate([Y, ground.seeds.part_points], axis=1) if model.others else Y


def _cut(R: Array, i: int, j: int, model: Model, ground: Ground, rng: np.random.Generator) -> Array:
    """Give component i a part of the rows of component j, in the responsibilities (k, n)."""
    Y = in_own_coordinates(model, j, ground)
    give(R, i, j, CUTS[rng.integers(len(CUTS))](Y, R[j] * ground.w, rng))
    return R


def give(R: Array, i: int, j: int, rows: Array) -> None:
    """Give component i these rows (n,) of component j, and no others, in responsibilities."""
    R[i] = np.where(rows, R[j], 0.0)
    R[j] = np.where(rows, 0.0, R[j])


def _by_two_means(Y: Array, share: Array, rng: np.random.Generator) -> Array:
    mine = np.flatnonzero(share > 0.5 * share.max())
    if not len(mine):  # it has no row at all once the others take theirs
        return np.zeros(len(Y), dtype=bool)
    rows, weights = Y[mine], share[mine]
    centres = settle(k_means_plus_plus(rows, weights, 2, rng), rows, weights, HALVING_ROUNDS)
    return _nearer_second(Y, centres)


def _by_a_line(Y: Array, share: Array, rng: np.random.Generator) -> Array:
    """Cut across a direction drawn at random, where a random share of the rows is on one side."""
    return _beyond(Y @ rng.standard_normal(Y.shape[1]), share, rng)


def _by_a_shell(Y: Array, share: Array, rng: np.random.Generator) -> Array:
    """Cut the rows that are far from the mean from those that are near."""
    return _beyond(np.einsum("nd,nd->n", Y, Y), share, rng)


def _by_a_ball(Y: Array, share: Array, rng: np.random.Generator) -> Array:
    """Cut a few rows off that are nearest to one of them: a small cluster within a wide one."""
    passed = np.cumsum(share)
    centre = Y[min(len(Y) - 1, int(np.searchsorted(passed, rng.random() * passed[-1])))]
    distances = ((Y - centre) ** 2).sum(axis=1)
    return np.asarray(distances <= _edge(distances, share, _few(rng)))


def _beyond(values: Array, share: Array, rng: np.random.Generator) -> Array:
    """Cut the rows of the greatest values: about half of the rows, or a few, or all but a few."""
    below = _few(rng) if rng.random() < 0.5 else rng.uniform(0.2, 0.8)
    if rng.random() < 0.5:
        below = 1 - below
    return np.asarray(values > _edge(values, share, below))


def _few(rng: np.random.Generator) -> float:
    """Draw a share of a component's rows, by its logarithm: small clusters are as likely found."""
    return float(0.5 * _FEWEST ** rng.random())


def _edge(values: Array, share: Array, below: float) -> float:
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(share[order])
    return float(values[order[min(len(order) - 1, np.searchsorted(passed, below * passed[-1]))]])


CUTS = (_by_two_means, _by_a_ball, _by_a_line, _by_a_shell)
