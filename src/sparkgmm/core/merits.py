"""Moves chosen by merit: what merging two components costs, and what splitting a third gains.

Each is measured by itself, so of k components k splits and a few times as many mergers are tried,
and not all of their combinations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparkgmm.core.model import Model
from sparkgmm.core.moves import CUTS, in_own_coordinates, likeness, responsibilities
from sparkgmm.core.prior import Prior
from sparkgmm.core.short_runs import Sample, climb
from sparkgmm.core.starts.ground import Ground
from sparkgmm.products import Array

# A row counts among a component's own from this responsibility on.
_ITS_OWN = 0.02
# Each component is cut so often by each kind of cut, and its halves get so many passes.
_CUTS_EACH, _PASSES = 2, 20
# Each component may be merged with so many others, those that share most rows with it.
_PARTNERS = 3
# So many moves may be made at once, of components that have nothing to do with each other.
_AT_ONCE = 4

Move = tuple[int, int, int]


def by_merit(
    model: Model,
    ground: Ground,
    sample: Sample,
    prior: Prior,
    rng: np.random.Generator,
    most: int,
    least: float = -np.inf,
) -> list[Model]:
    """Return models in which two of k >= 3 components are merged and a third is split.

    At most `most`, those that promise most and more than `least` nats a row, and before them a few
    of several such moves at once.
    """
    if model.k < 3:
        return []
    L = sample.log_joint(model)
    R = responsibilities(L)
    gains, halves = _splits(R, model, ground, sample, prior, rng)
    pairs, costs = _mergers(L, R, model, ground, sample)
    merits = gains - costs[:, None]
    merits[np.arange(len(pairs))[:, None], pairs] = -np.inf  # what is merged is not split
    best = np.argsort(-merits, axis=None, kind="stable")[:most]
    moves: list[Move] = [
        (int(kept), int(freed), split)
        for at, split in (divmod(int(i), model.k) for i in best)
        for kept, freed in [pairs[at]]
        if merits[at, split] > least
    ]
    apart: list[Move] = []
    for move in moves:
        if not any(set(move) & set(other) for other in apart):
            apart.append(move)
    several = [apart[:n] for n in range(min(len(apart), _AT_ONCE), 1, -1)]
    together = several + [[move] for move in moves]
    return ground.models((_moved(R, some, halves) for some in together), model.family)


def _moved(R: Array, moves: Sequence[Move], halves: Array) -> Array:
    R = R.copy()
    for kept, freed, split in moves:
        R[kept] += R[freed]
        R[freed], R[split] = R[split] * halves[split], R[split] * (1 - halves[split])
    return R


def _splits(
    R: Array, model: Model, ground: Ground, sample: Sample, prior: Prior, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return what two components gain over one on each component's rows, and the second's share.

    Gains (k,) are in nats a row of all rows. The mixture gains as much at the least: its likelihood
    rises by no less than the expected one of rows whose components are known. Shares are (k, n).
    """
    gains, halves = np.full(model.k, -np.inf), np.zeros(R.shape)
    for j, r in enumerate(R):
        mine = r > _ITS_OWN
        if mine.sum() < 2 * model.family.least_rows(model.d):
            continue
        seeds = ground.seeds.take(mine)
        local = Ground(seeds._replace(w=seeds.w * r[mine]))
        own = Sample.of(local.seeds, len(sample.T))
        Y = in_own_coordinates(model, j, local)
        cuts = [cut(Y, local.w, rng) for _ in range(_CUTS_EACH) for cut in CUTS]
        one = local.models([np.ones((1, local.n))], model.family)
        two = local.models((np.array([~second, second]) * 1.0 for second in cuts), model.family)
        of_one = climb(one, own, prior, 2)
        of_two = climb(two, own, prior, _PASSES)
        if of_one and of_two:
            best, seen = max(of_two, key=lambda run: run[1].log_likelihood)
            gain = seen.log_likelihood - of_one[0][1].log_likelihood
            gains[j] = gain * local.w.sum() / sample.w.sum()
            halves[j] = responsibilities(sample.log_joint(best))[1]
    return gains, halves


def _mergers(
    L: Array, R: Array, model: Model, ground: Ground, sample: Sample
) -> tuple[Array, Array]:
    """Return pairs of components (m, 2), and what it costs to merge each, in nats a row, (m,)."""
    pairs = _alike(R, sample.w)
    merged = ground.model(R[pairs[:, 0]] + R[pairs[:, 1]], model.family)
    stack = model.stack if model.family.shared else merged.stack
    merged = replace(merged, weights=model.weights[pairs].sum(axis=1), stack=stack)
    others = np.maximum(1 - R[pairs[:, 0]] - R[pairs[:, 1]], 1e-300)
    total = np.logaddexp.reduce(L, axis=0)
    change = np.logaddexp(np.log(others), sample.log_joint(merged) - total)
    return pairs, -change @ sample.w / sample.w.sum()


def _alike(R: Array, w: Array) -> Array:
    """Return each component's pairs with those that share most rows with it, (m, 2), each once."""
    k = len(R)
    alike = likeness(R, w)
    np.fill_diagonal(alike, -np.inf)
    partners = np.argsort(-alike, axis=1, kind="stable")[:, : min(_PARTNERS, k - 1)]
    each = np.repeat(np.arange(k), partners.shape[1])
    return np.unique(np.sort(np.stack([each, partners.ravel()], axis=1), axis=1), axis=0)
