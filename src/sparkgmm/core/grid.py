"""The grid that the values of a feature were recorded on: whole years, cents, tenths."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

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
# How near to a whole the sum of shares is.
_WHOLE = 1e-9


def steps(blocks: Sequence[Block], d: int | None = None) -> Array:
    """Return the step of each feature's grid in the data's units, (d,), 0 where it has none.

    The first d columns are looked at, all without d.
    """
    d = len(blocks[0].values) if d is None else d
    columns = (np.concatenate([b.values[i] for b in blocks]) for i in range(d))
    return np.array([step(_there(column)) for column in columns])


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
    with np.errstate(over="ignore"):
        single = bool((values.astype(np.float32) == values).all())
        values = values.astype(np.float64)
    if most < 2**53 and bool((np.rint(values) == values).all()):
        return float(np.rint(_step(values, 0.0)))
    read = READ * most * float(np.finfo(np.float32).eps)
    found = _step(values, COMPUTED * most * float(np.finfo(np.float64).eps))
    # any numbers in float32 are multiples of a power of two: if small, it is that of their rounding
    return _step(values, read) if single and found < read else found


def _step(values: Array, error: float) -> float:
    """Return the step of values whose distances may be off by so much."""
    distances = values - values.min()
    few = np.unique(np.append(distances[:: max(1, len(distances) // _FEW)], 0.0))
    if len(few) > 2 and not _common_divisor(few, error) > 0:
        return 0.0
    known = np.unique(np.append(distances[:: max(1, len(distances) // _FIRST)], 0.0))
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


def _common_divisor(distances: Array, error: float) -> float:
    """Return the greatest common divisor of ascending distances from 0, or 0: Euclid's algorithm.

    Each number comes with a bound of its error, which grows with the multiples that are subtracted.
    """
    between = np.diff(distances)
    apart = between[between > 2 * error]
    gaps, errors = apart, np.full(len(apart), error)
    while len(gaps):
        i = int(np.argmin(gaps))
        least, bound = float(gaps[i]), float(errors[i])
        if (min(1.0, 4 * bound / least)) ** (len(apart) - 1) > _BY_CHANCE and len(apart) > 1:
            return 0.0
        times = np.rint(gaps / least)
        residuals = np.abs(gaps - times * least)
        bounds = errors + times * bound
        left = (residuals > bounds) & (np.arange(len(gaps)) != i)
        if not left.any():
            if error == 0:
                return least
            times = np.cumsum(np.rint(between / least))
            return float(times @ distances[1:] / (times @ times))  # least squares
        gaps = np.append(residuals[left], least)
        errors = np.append(bounds[left], bound)
    return 0.0
