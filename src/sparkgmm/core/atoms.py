"""Values that many rows have in a feature, and moves that put a component on them.

Zeros, -9999, what a clipped sensor reads: such rows are likeliest by far under a component of their
own, but one that starts wide amid other values does not find them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import numpy as np

from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.model import Model
from sparkgmm.core.moves import responsibilities_of
from sparkgmm.core.prior import Prior, m_step
from sparkgmm.core.widths import ATOM_ROWS, Widths
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.products import Array, second_moment, squares

# A value stands out where so many times as many rows have it as the model expects.
_STANDS_OUT = 2.0
# So many atoms are tried at most, each in place of so many components.
_ATOMS = 3
_PLACES = 2


class Atom(NamedTuple):
    """A feature, a value in standardised coordinates, and how many effective rows have it."""

    feature: int
    value: float
    n_rows: float


def find_atoms(seeds: Seeds, prior: Prior) -> list[Atom]:
    """Return the values that rows enough have for a component of their own.

    None where the prior does not bound widths.
    """
    widths, found = prior.widths, []
    if widths is None:
        return []
    most = float(seeds.w.max()) * widths.rows_per_weight
    least = max(1, int(ATOM_ROWS / most))  # rows that a value has before it may weigh so many
    if least > len(seeds.Z):
        return []
    for feature, column in enumerate(seeds.Z.T):
        ascending = np.sort(column)
        if not (ascending[least - 1 :] == ascending[: len(ascending) - least + 1]).any():
            continue
        values, which = np.unique(column, return_inverse=True)
        if len(values) < 2:
            continue
        n_rows = np.bincount(which, seeds.w) * widths.rows_per_weight
        enough = n_rows >= ATOM_ROWS
        of_value = zip(values[enough].tolist(), n_rows[enough].tolist(), strict=True)
        found += [Atom(feature, value, n) for value, n in of_value]
    return found


def onto_atoms(model: Model, seeds: Seeds, prior: Prior, atoms: Sequence[Atom]) -> list[Model]:
    """Return models in which a component is put on the rows of an atom that none is on yet.

    Those come first that gain most by it, about.
    """
    if model.k < 2 or model.family.shared or prior.widths is None:
        return []
    gains = _gains(model, atoms, seeds, prior.widths)
    promising = (atoms[i] for i in np.argsort(-gains, kind="stable") if gains[i] > 0)
    apart = (atom for atom in promising if not _is_held(model, atom, prior.widths))
    atoms = list(islice(apart, _ATOMS))
    if not atoms:
        return []
    R = responsibilities_of(model, seeds)
    lightest = np.argsort(R @ seeds.w, kind="stable")[:_PLACES]
    moved = (_put(R, int(freed), atom, seeds) for atom in atoms for freed in lightest)
    return _estimated(moved, seeds, model.family, prior)


def onto_some_atoms(
    models: Sequence[Model],
    seeds: Seeds,
    prior: Prior,
    atoms: Sequence[Atom],
    rng: np.random.Generator,
    most: int,
) -> list[Model]:
    """Return models in which some components are put on atoms, all drawn at random.

    Each model is changed about as often: one component in half of the cases, two in half of the
    rest. EM leads no component from one atom to another, so that where columns hold few values each
    set of atoms has optima of its own, also of those that the model expects about as many rows of.
    """
    if not models or models[0].k < 2 or models[0].family.shared or prior.widths is None:
        return []
    moved = []
    for model, times in zip(models, _shared(most, len(models)), strict=True):
        free = [atom for atom in atoms if not _is_held(model, atom, prior.widths)]
        R = responsibilities_of(model, seeds) if free and times else np.empty((0, 0))
        for _ in range(times if free else 0):
            number = min(len(free), model.k, int(rng.geometric(0.5)))
            places, which = rng.permutation(model.k)[:number], rng.permutation(len(free))[:number]
            put = R
            for freed, atom in zip(places.tolist(), which.tolist(), strict=True):
                put = _put(put, freed, free[atom], seeds)
            moved.append(put)
    return _estimated(moved, seeds, models[0].family, prior)


def _shared(most: int, n: int) -> list[int]:
    """Share a number out to n, as evenly as it goes."""
    return [most // n + (i < most % n) for i in range(n)]


def _put(R: Array, freed: int, atom: Atom, seeds: Seeds) -> Array:
    """Give a component the rows of an atom, and its own to the others."""
    mine = seeds.Z[:, atom.feature] == atom.value
    moved = R.copy()
    moved[freed] = 0
    moved /= np.maximum(moved.sum(axis=0), 1e-300)
    moved[:, mine] = 0
    moved[freed, mine] = 1
    return moved


def _gains(model: Model, atoms: Sequence[Atom], seeds: Seeds, widths: Widths) -> Array:
    """Return about what a component on each atom gains, in nats; 0 where it does not stand out.

    n rows, where the model expects m within a step of the grid, gain n log(n / m).
    """
    features = np.array([atom.feature for atom in atoms], dtype=int)
    values = np.array([atom.value for atom in atoms])
    n_rows = np.array([atom.n_rows for atom in atoms])
    least = widths.resolution[features]
    variances = np.broadcast_to(model.stack.variances, (model.k, model.d))[:, features] + least
    away = (values - model.means[:, features]) ** 2 / variances
    density = model.weights @ (np.exp(-0.5 * away) / np.sqrt(2 * np.pi * variances))
    n = float(seeds.w.sum()) * widths.rows_per_weight
    expected = np.maximum(n * density * np.sqrt(12 * least), 1e-300)
    return np.where(n_rows < _STANDS_OUT * expected, 0.0, n_rows * np.log(n_rows / expected))


def _is_held(model: Model, atom: Atom, widths: Widths) -> bool:
    least = widths.resolution[atom.feature]
    own = np.broadcast_to(model.stack.variances, (model.k, model.d))[:, atom.feature]
    near = np.abs(model.means[:, atom.feature] - atom.value) < 3 * np.sqrt(own)
    return bool((near & (own < 4 * least)).any())


def _estimated(many: Iterable[Array], seeds: Seeds, family: Family, prior: Prior) -> list[Model]:
    """Return the M-step from each responsibilities (k, n), as narrow as the rows are.

    Those that leave a component without rows or without volume are left out.
    """
    models = []
    for R in many:
        share = R * seeds.w
        if (share.sum(axis=1) > 0).all():
            with suppress(np.linalg.LinAlgError):
                models.append(_model(share, seeds, family, prior))
    return models


def _model(share: Array, seeds: Seeds, family: Family, prior: Prior) -> Model:
    counts = share.sum(axis=1)
    means = share @ seeds.Z / counts[:, None]
    moment_of = squares if family.diagonal else second_moment
    second = np.array(
        [moment_of((seeds.Z - mean).T, mine) for mean, mine in zip(means, share, strict=True)]
    )
    nothing = np.zeros_like(means)
    moments = Moments(counts, nothing, second, means, seeds.scale, seeds.total)
    moments = moments._replace(others=seeds.part_sums(share, family.least_rows(seeds.Z.shape[1])))
    return m_step(family, moments, prior, others=seeds.parts)
