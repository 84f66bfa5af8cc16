"""The grid that the values of a feature were recorded on: whole years, cents, tenths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sparkgmm.core.profile import Block
from sparkgmm.products import Array

# Distances are looked at between so many values first, and between those that do not fit.
_FIRST = 2048
# Values that have no grid show it among so few of them, nearly always: most features have none.
_FEW = 64
# How far off a distance may be, in roundings of the largest value: what a computation in float64
# leaves, and what reading numbers in float32 does.
COMPUTED = 64
READ = 2
# Distances that are multiples of a step by chance are so with less than this probability.
_BY_CHANCE = 1e-6
_MOST_ROUNDS = 60
# Values that are no whole numbers, or none of float32, show it among so many.
_AT_ONCE = 16
# From so many features on what is done with few values is done with all features' together.
_MANY = 8
# Euclid's algorithm goes on by itself where it comes to more divisors.
_MOST_DIVISORS = 16
_EPS, _EPS_SINGLE = float(np.finfo(np.float64).eps), float(np.finfo(np.float32).eps)
# How near to a whole the sum of shares is.
_WHOLE = 1e-9


def steps(blocks: Sequence[Block], d: int | None = None) -> Array:
    """Return the step of each feature's grid in the data's units, (d,), 0 where it has none.

    The first d columns are looked at, all without d.
    """
    d = len(blocks[0].values) if d is None else d
    found = np.zeros(d)
    for i in range(d) if d < _MANY else np.flatnonzero(~_without(blocks, d)).tolist():
        found[i] = step(_there(np.concatenate([b.values[i] for b in blocks])))
    return found


@np.errstate(invalid="ignore", over="ignore")
def _without(blocks: Sequence[Block], d: int) -> NDArray[np.bool_]:
    """Say of which of many features `step` would find at once that they have no grid, (d,).

    What it does with a feature's first few values is done with all features' together. Where
    values are missing, whole or of float32, or are few, it is not said.
    """
    X = [block.values[:d] for block in blocks]
    n = sum(values.shape[1] for values in X)
    low = np.min([values.min(axis=1) for values in X], axis=0)
    most = np.maximum(np.abs(low), np.abs(np.max([values.max(axis=1) for values in X], axis=0)))
    first = X[0][:, :_AT_ONCE]
    fine = ~(_is_whole(first).all(axis=1) | _is_single(first).all(axis=1)) & np.isfinite(most)
    error = COMPUTED * most * _EPS
    every = max(1, n // _FEW)
    some, passed = [], 0
    for values in X:
        some.append(values[:, -passed % every :: every].astype(np.float64))
        passed += values.shape[1]
    few = np.concatenate([np.zeros((d, 1)), np.concatenate(some, axis=1) - low[:, None]], axis=1)
    few.sort(axis=1)
    between = few[:, 1:] - few[:, :-1]
    number = (between > 2 * error[:, None]).sum(axis=1)
    going = np.flatnonzero(fine & ((between > 0).sum(axis=1) > 1) & (number > 1))
    # as in `_common_divisor`: what is left, infinite where nothing is, and the divisors at the end
    gaps = np.full((len(going), between.shape[1] + _MOST_DIVISORS), np.inf)
    gaps[:, : between.shape[1]] = np.where(
        between[going] > 2 * error[going, None], between[going], np.inf
    )
    errors = np.repeat(error[going, None], gaps.shape[1], axis=1)
    without = np.zeros(d, dtype=bool)
    for at in range(between.shape[1], gaps.shape[1]):
        rows = np.arange(len(going))
        i = np.argmin(gaps, axis=1)
        least, bound = gaps[rows, i][:, None], errors[rows, i][:, None]
        without[going] = _by_chance(least[:, 0], bound[:, 0], number[going])
        gaps, errors = _remainders(gaps, errors, least, bound)
        left = gaps > errors  # not where nothing was: inf - inf is no number
        left[rows, i] = False
        gaps, errors = np.where(left, gaps, np.inf), np.where(left, errors, np.inf)
        gaps[:, at], errors[:, at] = least[:, 0], bound[:, 0]
        open_ones = ~without[going] & left.any(axis=1)
        going, gaps, errors = going[open_ones], gaps[open_ones], errors[open_ones]
        if not len(going):
            break
    return without


def _there(values: Array) -> Array:
    """Return the values (n,) that are not missing."""
    missing = np.isnan(values)
    return values[~missing] if missing.any() else values


def counted(weights: Array, total: float) -> float:
    """Return of how many observations weights (n,) of this sum are shares; 0 if they are not.

    Shares and percentages of a histogram sum to 1 or 100 and are multiples of one observation's.
    Whole weights are counts whatever they sum to: 100 rows in pairs are no 50 observations.
    """
    if bool((np.rint(weights) == weights).all()):
        return 0.0
    if not any(abs(total / whole - 1) < _WHOLE for whole in (1.0, 100.0)):
        return 0.0
    one = step(np.append(weights, 0.0))
    return float(np.rint(total / one)) if one else 0.0


def step(values: Array) -> float:
    """Return the largest number of which all distances between values (n,) are multiples.

    To rounding, that of float32 where all values are such. 0 where there is none, as of values that
    were measured as finely as floats are, and of a single one. Multiples are of distances and not
    of the values themselves, so that a grid may begin anywhere: a shift or a change of units leaves
    it what it is.
    """
    values = np.asarray(values)
    if not len(values):
        return 0.0
    most = float(np.abs(values).max())
    values = values.astype(np.float64)
    if most < 2**53 and _all(_is_whole, values):
        return float(np.rint(_step(values, 0.0)))
    read = READ * most * _EPS_SINGLE
    found = _step(values, COMPUTED * most * _EPS)
    # any numbers in float32 are multiples of a power of two: if small, it is that of their rounding
    return _step(values, read) if found < read and _all(_is_single, values) else found


def _all(kind: Callable[[Array], Array], values: Array) -> bool:
    """Say whether all values are of a kind: most that are not show it at once."""
    return bool(kind(values[:_AT_ONCE]).all() and kind(values).all())


def _is_whole(values: Array) -> Array:
    return np.asarray(np.rint(values) == values)


@np.errstate(over="ignore")
def _is_single(values: Array) -> Array:
    return np.asarray(values.astype(np.float32) == values)


def _step(values: Array, error: float) -> float:
    """Return the step of values whose distances may be off by so much."""
    distances = values - values.min()
    few = _from_zero(distances[:: max(1, len(distances) // _FEW)])
    if len(few) > 2 and not _common_divisor(few, error) > 0:
        return 0.0
    known = _from_zero(distances[:: max(1, len(distances) // _FIRST)])
    found = math.inf
    for _ in range(_MOST_ROUNDS):
        finer = _common_divisor(known, error)
        if not 0 < finer < 0.75 * found:  # a finer grid is so by a half at least
            return 0.0
        found = finer
        off = np.abs(distances - np.rint(distances / found) * found) > error
        if not off.any():
            return found
        missed = np.unique(distances[off])
        known = np.union1d(known, missed[:: max(1, len(missed) // _FIRST)])
    return 0.0


def _from_zero(distances: Array) -> Array:
    """Return 0 and the distances in ascending order, each once."""
    ascending = np.zeros(len(distances) + 1)
    ascending[1:] = distances
    ascending.sort()
    fresh = np.empty(len(ascending), dtype=bool)
    fresh[0] = True
    np.not_equal(ascending[1:], ascending[:-1], out=fresh[1:])
    return ascending[fresh]


def _common_divisor(distances: Array, error: float) -> float:
    """Return the greatest common divisor of ascending distances from 0, or 0: Euclid's algorithm.

    Each number comes with a bound of its error, which grows with the multiples that are subtracted.
    """
    between = distances[1:] - distances[:-1]
    apart = between[between > 2 * error]
    gaps, errors = apart, np.full(len(apart), error)
    while len(gaps):
        i = int(np.argmin(gaps))
        least, bound = gaps[i : i + 1], errors[i : i + 1]
        if len(apart) > 1 and _by_chance(least, bound, len(apart)):
            return 0.0
        gaps, errors = _remainders(gaps, errors, least, bound)
        left = gaps > errors
        left[i] = False
        if not left.any():
            if error == 0:
                return float(least[0])
            times = np.cumsum(np.rint(between / least))
            return float(times @ distances[1:] / (times @ times))  # least squares
        gaps = np.concatenate((gaps[left], least))
        errors = np.concatenate((errors[left], bound))
    return 0.0


def _by_chance(least: Array, bound: Array, number: Array | int) -> NDArray[np.bool_]:
    """Say whether so many gaps may be multiples of the least by chance: its error has a bound."""
    return np.asarray(np.minimum(1.0, 4 * bound / least) ** (number - 1) > _BY_CHANCE)


def _remainders(gaps: Array, errors: Array, least: Array, bound: Array) -> tuple[Array, Array]:
    """Return how far gaps are from multiples of the least one, and bounds of the errors of that."""
    times = np.rint(gaps / least)
    return np.abs(gaps - times * least), errors + times * bound
