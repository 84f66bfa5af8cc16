"""Quantiles of the training data's log density: a table small enough for model.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparkgmm.errors import InputError
from sparkgmm.mixture import Array

# Fine where outliers are: nine points a decade from 1e-5 to 0.1, then every twentieth.
_MANTISSAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
PROBABILITIES = (
    0.0,
    *(float(f"{m}e{e}") for e in (-5, -4, -3, -2) for m in _MANTISSAS),
    *(round(0.05 * i, 2) for i in range(2, 20)),
    0.99,
    0.999,
    1.0,
)
# A share of the weight that a product of floats misses by less than this is reached.
_ROUNDING = 1e-12


def density_quantiles(log_density: ArrayLike, weights: ArrayLike | None = None) -> dict[str, Any]:
    """Return the quantiles of log densities (n,) at PROBABILITIES, as lists for JSON.

    The quantile at p is the lowest log density such that the rows up to it hold at least the share
    p of the weight (the inverse of the distribution function): so rows strictly below it are at
    most that share, and a weight of 3 is 3 equal rows. Rows of weight 0 do not count. A density
    that underflowed (-inf) becomes the lowest number there is, which JSON can hold.

    Returns
    -------
    dict
        `probabilities` and `log_density`, both ascending, and `n_rows`, the rows of positive
        weight.

    Raises
    ------
    InputError
        If no row has a positive weight, or a log density is NaN.

    """
    values = np.asarray(log_density, dtype=np.float64)
    w = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or w.shape != values.shape:
        raise InputError(
            f"log_density has shape {values.shape} and weights {w.shape}: give (n,) and (n,)"
        )
    values, w = values[w > 0], w[w > 0]
    if len(values) == 0 or np.isnan(values).any():
        met = "NaN" if len(values) else "no row of positive weight"
        raise InputError(f"log_density holds {met}: give the densities of the training rows")
    order = np.argsort(values, kind="stable")
    held = np.cumsum(w[order])
    reached = np.searchsorted(held, np.array(PROBABILITIES) * held[-1] * (1 - _ROUNDING))
    found = np.maximum(values[order][reached], np.finfo(np.float64).min)
    return {
        "probabilities": list(PROBABILITIES),
        "log_density": found.tolist(),
        "n_rows": len(values),
    }


def threshold(stored: Mapping[str, Any], q: float) -> float:
    """Return the quantile at q in [0, 1] of what `density_quantiles` returned.

    Between two stored points the log density is taken to grow linearly with the probability.

    Raises
    ------
    InputError
        If the table is not such a one.

    """
    try:
        p = _ascending(stored, "probabilities", strictly=True)
        values = _ascending(stored, "log_density", strictly=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"the model's log_density_quantiles are no table of quantiles ({error}): fit it again"
        ) from None
    if len(p) != len(values) or (p[0], p[-1]) != (0.0, 1.0):
        raise InputError(
            f"the model's log_density_quantiles have {len(values)} values at {len(p)} "
            f"probabilities from {p[0]} to {p[-1]}: fit it again"
        )
    return float(np.interp(q, p, values))


def _ascending(stored: Mapping[str, Any], key: str, strictly: bool) -> Array:
    numbers = stored.get(key) if isinstance(stored, Mapping) else None
    array = np.array(numbers, dtype=np.float64)
    if array.ndim != 1 or len(array) < 2 or not np.isfinite(array).all():
        raise ValueError(f"{key} is {str(numbers)[:60]}, no list of finite numbers")
    steps = np.diff(array)
    if (steps < 0).any() or (strictly and (steps == 0).any()):
        raise ValueError(f"{key} does not ascend")
    return array
