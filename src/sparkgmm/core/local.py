"""Fitting an array in memory: no Spark needed."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit
from sparkgmm.core.prior import Bounded
from sparkgmm.core.profile import Profile
from sparkgmm.core.rows import LocalRows
from sparkgmm.core.search import Search
from sparkgmm.covariances import FAMILIES
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
    init: str = "k-means++",
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
    init : "k-means++" or "random_from_data"
    n_init : starts; the best sound one wins
    tol : stop when the mean log-likelihood is estimated to be within tol nats of its limit
    max_iter : passes over the data at most
    reg_covar : the least variance of a component of few rows, relative to each feature's
    seed : of the starts
    weights_init, means_init, precisions_init : (k,), (k, d) and (k, d, d) or None
        Where to start, in place of `init` and `n_init`, if the means are given. Weights default
        to equal ones, precisions (inverse covariances, always dense) to those of all the data.

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
    rows = _array_rows(X, sample_weight, search.seed)
    start = _start(rows.profile, k, covariance_type, weights_init, means_init, precisions_init)
    with option_names(PYTHON):
        chosen = fit(rows, search, starts=start).chosen
    if chosen.n_dropped:
        warnings.warn(
            f"{chosen.n_dropped} of {k} components found no rows of their own and were dropped: "
            "lower k or give more rows",
            stacklevel=2,
        )
    return FitResult(
        chosen.mixture,
        chosen.converged,
        chosen.n_iter,
        chosen.log_likelihood,
        chosen.log_likelihoods,
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
    covariances: Array = np.broadcast_to(profile.scatter / profile.weight, (k, d, d))
    if precisions is not None:
        given = np.asarray(precisions, dtype=np.float64)
        if given.shape != (k, d, d):
            raise InputError(f"precisions_init has shape {given.shape}: give {(k, d, d)}")
        try:
            covariances = np.linalg.inv(given)
        except np.linalg.LinAlgError:
            raise InputError(
                "a matrix of precisions_init is singular: give invertible ones"
            ) from None
    start = Mixture(
        np.full(k, 1 / k) if weights is None else weights,
        means,
        FAMILIES[covariance_type].nearest(covariances, np.ones(d)).dense(k),
        covariance_type,
    )
    if (start.k, start.d) != (k, d):
        raise InputError(f"means_init has shape {start.means.shape}: give {(k, d)}")
    return [start]


def _array_rows(X: ArrayLike, sample_weight: ArrayLike | None, seed: int) -> LocalRows:
    values = np.asarray(X)
    if values.dtype != np.float32:
        values = values.astype(np.float64, copy=False)
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"X has shape {values.shape}: give (n, d) with n and d of 1 or more")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values).all(axis=1)))
        raise InputError(f"X holds {values[row].tolist()} in row {row}: give finite numbers")
    weights = None
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
    return LocalRows.of_array(values, weights, seed)
