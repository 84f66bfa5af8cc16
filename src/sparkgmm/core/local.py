"""Fitting an array in memory: no Spark needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparkgmm.core.cautions import cautions, warn
from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit
from sparkgmm.core.grid import counted
from sparkgmm.core.prior import Bounded
from sparkgmm.core.profile import Block, Profile, block_rows
from sparkgmm.core.rows import LocalRows, pilot_rows
from sparkgmm.core.search import Search
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.stacks import Stack
from sparkgmm.errors import InputError, option_names
from sparkgmm.mixture import Mixture
from sparkgmm.options import (
    COVARIANCE_TYPE,
    INIT,
    MAX_ITER,
    N_INIT,
    PYTHON,
    REG_COVAR,
    SEED,
    TOL,
    K,
    Option,
    taken,
)
from sparkgmm.products import Array


@dataclass(frozen=True)
class FitResult:
    """What `fit_array` returns; log-likelihoods are sums over the rows, in nats."""

    mixture: Mixture
    converged: bool
    n_iter: int
    log_likelihood: float
    log_likelihoods: tuple[float, ...]


def fit_array(
    X: ArrayLike,
    k: int,
    *,
    covariance_type: str = "full",
    sample_weight: ArrayLike | None = None,
    init: str = "auto",
    n_init: int = 10,
    tol: float = 1e-6,
    max_iter: int = 200,
    reg_covar: float = 1e-6,
    seed: int = 0,
    weights_init: ArrayLike | None = None,
    means_init: ArrayLike | None = None,
    precisions_init: ArrayLike | None = None,
) -> FitResult:
    """Fit a mixture of k Gaussians to an array in memory.

    Parameters
    ----------
    X : array-like of shape (n, d), finite
    k : the number of components
    covariance_type : "full", "tied", "diag", "spherical" or "VEV"
    sample_weight : (n,) weights >= 0, or None
    init : "auto", "k-means++" or "random_from_data"
    n_init : starts; the best sound one wins
    tol : stop when the mean log-likelihood is estimated to be within tol nats of its limit
    max_iter : passes over the data at most
    reg_covar : the least variance of a component of few rows, relative to each feature's
    seed : of the starts
    weights_init, means_init, precisions_init : (k,), (k, d) and (k, d, d) or None
        Where to start, in place of `init` and `n_init`, if the means are given. Weights default
        to equal ones, precisions (inverse covariances, dense or in the shape of their type) to
        those of all the data.

    Raises
    ------
    InputError
        If X, a weight or an option is not as above, or there are fewer distinct rows than k.
    FitError
        If every start ends degenerate.

    Examples
    --------
    >>> import numpy as np
    >>> from sparkgmm import fit_array
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(0, 1, (300, 2)), rng.normal(8, 1, (100, 2))])
    >>> result = fit_array(X, 2)
    >>> result.converged
    True
    >>> result.mixture.weights.round(2).tolist()
    [0.75, 0.25]

    """
    search = Search(
        k=(_taken(K, k),),
        covariance_type=(_taken(COVARIANCE_TYPE, covariance_type),),
        init=_taken(INIT, init),
        n_init=_taken(N_INIT, n_init),
        seed=_taken(SEED, seed),
        settings=Settings(
            tol=_taken(TOL, tol),
            max_iter=_taken(MAX_ITER, max_iter),
            prior=Bounded(_taken(REG_COVAR, reg_covar)),
        ),
    )
    rows, unit = _array_rows(X, sample_weight, search)
    start = _start(rows.profile, k, covariance_type, weights_init, means_init, precisions_init)
    with option_names(PYTHON):
        chosen = fit(rows, search, starts=start).chosen
    warn(cautions(chosen, (chosen,), search.settings.max_iter, PYTHON), stacklevel=2)
    return FitResult(
        chosen.mixture,
        chosen.converged,
        chosen.n_iter,
        unit * chosen.log_likelihood,
        tuple(unit * value for value in chosen.log_likelihoods),
    )


def _taken(option: Option, value: Any) -> Any:
    return taken(option, value, PYTHON[option.name])


def _start(
    profile: Profile,
    k: int,
    covariance_type: str,
    weights: ArrayLike | None,
    means: ArrayLike | None,
    precisions: ArrayLike | None,
) -> list[Mixture] | None:
    """Build the mixture to start from, where one is given."""
    if means is None:
        if weights is not None or precisions is not None:
            raise InputError("weights_init and precisions_init need means_init: give it too")
        return None
    d = len(profile.mean)
    family = FAMILIES[covariance_type]
    if precisions is None:
        of_all = profile.scatter / profile.weight
        shape = (k, d) if of_all.ndim == 1 else (k, d, d)
        stack = family.nearest(np.broadcast_to(of_all, shape), np.ones(d))
    else:
        stack = _inverse(np.asarray(precisions, dtype=np.float64), family, k, d)
    start = Mixture(
        np.full(k, 1 / k) if weights is None else weights,
        means,
        family.written(stack, np.ones(d)),
        covariance_type,
    )
    if (start.k, start.d) != (k, d):
        raise InputError(f"means_init has shape {start.means.shape}: give {(k, d)}")
    return [start]


def _inverse(given: Array, family: Family, k: int, d: int) -> Stack:
    """Return the covariances whose inverses are given, dense or in the shape of the family."""
    shapes = {(k, d, d), family.shape(k, d)}
    if given.shape not in shapes:
        raise InputError(
            f"precisions_init has shape {given.shape}: give {' or '.join(map(str, sorted(shapes)))}"
        )
    unit = np.ones(d)
    try:
        if given.ndim == 3:
            return family.nearest(np.linalg.inv(given), unit)
        if family.shared:
            return family.kept(np.linalg.inv(given), unit)
    except np.linalg.LinAlgError:
        raise InputError("a matrix of precisions_init is singular: give invertible ones") from None
    if not (given > 0).all():
        raise InputError(f"precisions_init holds {given.min():g}: give numbers above 0")
    return family.kept(1 / given, unit)


def _array_rows(
    X: ArrayLike, sample_weight: ArrayLike | None, search: Search
) -> tuple[LocalRows, float]:
    """Return the rows, and what a unit of their weights is of one that was given.

    Shares of a count are fitted as the counts: to the same bits.
    """
    values = np.asarray(X)
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"X has shape {values.shape}: give (n, d) with n and d of 1 or more")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise InputError(f"X holds {values[row].tolist()} in row {row}: give finite numbers")
    weights, unit = None, 1.0
    if sample_weight is not None:
        weights = np.asarray(sample_weight, dtype=np.float64)
        if weights.shape != (len(values),) or not (np.isfinite(weights) & (weights >= 0)).all():
            raise InputError(
                f"sample_weight has shape {weights.shape} and minimum {weights.min(initial=0)}: "
                f"give ({len(values)},) finite weights >= 0"
            )
        values, weights = values[weights > 0], weights[weights > 0]
        if not len(values):
            raise InputError("every sample_weight is 0: give a row some weight")
        with np.errstate(over="ignore"):
            total = float(weights.sum())
        observations = counted(weights, total)
        if observations:
            unit = total / observations
            weights = np.rint(weights / unit)
    step = block_rows(values.shape[1])
    blocks = [
        Block(
            np.ascontiguousarray(values[i : i + step].T),
            None if weights is None else weights[i : i + step],
        )
        for i in range(0, len(values), step)
    ]
    profile = reduce(add, (Profile.of(block, search.products) for block in blocks))
    return LocalRows([blocks], profile, search.seed, pilot_rows(max(search.k))), unit
