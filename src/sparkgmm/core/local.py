"""Fitting an array in memory: no Spark needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sparkgmm import checks
from sparkgmm.core.cautions import apart_cautions, cautions, warn
from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit
from sparkgmm.core.grid import counted
from sparkgmm.core.judging import names_of
from sparkgmm.core.prior import Bounded
from sparkgmm.core.profile import Profile
from sparkgmm.core.rows import LocalRows, pilot_rows
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.stacks import Stack
from sparkgmm.errors import InputError, Remedy, option_names
from sparkgmm.levels import read_mixed
from sparkgmm.mixture import Mixture
from sparkgmm.options import (
    COVARIANCE_TYPE,
    CRITERION,
    INIT,
    MAX_ITER,
    MISSING,
    N_INIT,
    PYTHON,
    REG_COVAR,
    SEED,
    TOL,
    K,
    Option,
    taken,
)
from sparkgmm.parts import Column
from sparkgmm.products import Array
from sparkgmm.tabular import as_table, read_like


@dataclass(frozen=True)
class FitResult:
    """What `fit_array` returns; log-likelihoods are sums over the rows, in nats.

    `candidates` has every k with every covariance type that was asked for, the chosen one among
    them: each has k, covariance_type, mixture, log_likelihood, bic, aic, icl, converged, n_iter,
    and in `degenerate` the reason why it must not win, or None.
    """

    mixture: Mixture
    converged: bool
    n_iter: int
    log_likelihood: float
    log_likelihoods: tuple[float, ...]
    candidates: tuple[Candidate, ...] = ()


def fit_array(
    X: ArrayLike,
    k: int | Sequence[int],
    *,
    covariance_type: str | Sequence[str] = "full",
    criterion: str = "bic",
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
    categorical: Sequence[str] = (),
    counts: Sequence[str] = (),
    missing: str = "invalid",
) -> FitResult:
    """Fit a mixture of k Gaussians to an array in memory.

    Parameters
    ----------
    X : array-like of shape (n, d), finite; or a table of pandas, polars or pyarrow
        The names of a table's columns become `mixture.features`. Its columns of text, categories
        and booleans are modelled as such: each has a multinomial in every component, independent
        of the other columns within the component. With `missing="model"` numbers may be NaN, or
        null in a table.
    k : the number of components, or a list of them to choose from
    covariance_type : "full", "tied", "diag", "spherical" or "VEV", or a list to choose from
    criterion : "bic", "aic" or "icl": the lowest chooses among every k with every covariance type
    sample_weight : (n,) weights >= 0, or None
    init : "auto", "k-means++" or "random_from_data"
    n_init : starts of each kind; the best sound one wins
    tol : stop when the mean log-likelihood is estimated to be within tol nats of its limit
    max_iter : passes over the data at most
    reg_covar : the least variance of a component of few rows, relative to each feature's
    seed : of the starts
    weights_init, means_init, precisions_init : (k,), (k, d) and (k, d, d) or None
        Where to start, in place of `init` and `n_init`, if the means are given. Weights default
        to equal ones, precisions (inverse covariances, dense or in the shape of their type) to
        those of all the data.
    categorical : more columns of a table that are categorical, as integers that are codes
    counts : columns of a table that are counts: each has a Poisson in every component
    missing : "invalid" or "model": what NaN in X is
        "invalid": an error. "model": a value missing at random, which is integrated over: every row
        counts by what it has, the log-likelihood is that of what is there, and the mixture scores
        such rows too (Ghahramani and Jordan 1994). Entropies of missing values are not in icl. A
        row that has nothing counts, and says nothing.

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
        k=_several(K, k),
        covariance_type=_several(COVARIANCE_TYPE, covariance_type),
        criterion=_taken(CRITERION, criterion),
        init=_taken(INIT, init),
        n_init=_taken(N_INIT, n_init),
        seed=_taken(SEED, seed),
        settings=Settings(
            tol=_taken(TOL, tol),
            max_iter=_taken(MAX_ITER, max_iter),
            prior=Bounded(_taken(REG_COVAR, reg_covar)),
        ),
        missing=_taken(MISSING, missing),
    )
    values, features, columns = read_mixed(
        X, _names(categorical), _names(counts), gaps=search.missing == "model"
    )
    rows, unit = _array_rows(values, features, sample_weight, search, columns)
    if columns and means_init is not None:
        raise InputError(
            "means_init is for numeric columns alone, and X has "
            f"{', '.join(column.name for column in columns)} beside them: leave it out"
        )
    means = _by_name(means_init, features, len(rows.profile.mean))
    starts = _starts(rows.profile, search, weights_init, means, precisions_init)
    with option_names(PYTHON):
        found = fit(rows, search, features, starts=starts)
    chosen = found.chosen
    of_fit = cautions(chosen, found.candidates, search.settings.max_iter, PYTHON)
    called = names_of(features, len(rows.profile.mean))
    apart = apart_cautions(rows, called, [chosen.covariance_type], PYTHON)
    warn([*of_fit, *apart], stacklevel=2)
    return FitResult(
        chosen.mixture,
        chosen.converged,
        chosen.n_iter,
        unit * chosen.log_likelihood,
        tuple(unit * value for value in chosen.log_likelihoods),
        found.candidates,
    )


def _names(given: Sequence[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _taken(option: Option, value: Any) -> Any:
    return taken(option, value, PYTHON[option.name])


def _several(option: Option, value: Any) -> tuple[Any, ...]:
    """Return the values of an option that takes one or a list of them, each once."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return (_taken(option, value),)
    values = tuple(dict.fromkeys(_taken(option, one) for one in value))
    if not values:
        raise InputError(f"{PYTHON[option.name]} is {value!r}: give one or more")
    return values


def _by_name(means: Any, features: tuple[str, ...] | None, d: int) -> Any:
    """Return means to start from; those of a table by the names of its columns."""
    if as_table(means) is None:
        return means
    try:
        return read_like(means, features, d)
    except InputError as error:
        raise InputError(str(error).replace("X has", "means_init has", 1)) from None


def _starts(
    profile: Profile,
    search: Search,
    weights: ArrayLike | None,
    means: ArrayLike | None,
    precisions: ArrayLike | None,
) -> list[Mixture] | None:
    """Build the mixtures to start from, one a covariance type, where any are given."""
    if means is not None and len(search.k) > 1:
        raise InputError(f"means_init is for one k, and k is {list(search.k)}: give one")
    starts = [
        _start(profile, search.k[0], name, weights, means, precisions)
        for name in search.covariance_type
    ]
    return None if starts[0] is None else [start for start in starts if start is not None]


def _start(
    profile: Profile,
    k: int,
    covariance_type: str,
    weights: ArrayLike | None,
    means: ArrayLike | None,
    precisions: ArrayLike | None,
) -> Mixture | None:
    """Build the mixture to start from, where one is given."""
    if means is None:
        if weights is not None or precisions is not None:
            raise InputError("weights_init and precisions_init need means_init: give it too")
        return None
    d = len(profile.mean)
    family = FAMILIES[covariance_type]
    if precisions is None:
        of_all = profile.scatter / profile.weight
        if profile.seen is not None:  # of two features that are seldom seen together it says less
            of_all = profile.variance if family.diagonal else np.diag(profile.variance)
        shape = (k, d) if of_all.ndim == 1 else (k, d, d)
        stack = family.nearest(np.broadcast_to(of_all, shape), np.ones(d))
    else:
        shapes = {(k, d, d), family.shape(k, d)}
        stack = _inverse(checks.start_precisions(precisions, shapes), family, d)
    return Mixture(
        checks.start_weights(weights, k),
        checks.start_means(means, k, profile.low, profile.high),
        family.written(stack, np.ones(d)),
        covariance_type,
    )


def _inverse(given: Array, family: Family, d: int) -> Stack:
    """Return the covariances whose inverses are given, dense or in the shape of the family."""
    unit = np.ones(d)
    if given.ndim == 3 or family.shared:
        least = float(np.linalg.eigvalsh(given).min())
        if not least > 0:
            raise InputError(
                f"precisions_init is not positive definite (smallest eigenvalue {least:.3g}): give "
                "inverses of covariances"
            )
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
    values: Array,
    features: tuple[str, ...] | None,
    sample_weight: ArrayLike | None,
    search: Search,
    columns: tuple[Column, ...] = (),
) -> tuple[LocalRows, float]:
    """Return the rows, and what a unit of their weights is of one that was given.

    Shares of a count are fitted as the counts: to the same bits.
    """
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"X has shape {values.shape}: give (n, d) with n and d of 1 or more")
    valid = np.isfinite(values)
    if search.missing == "model":
        valid |= np.isnan(values)
    if not valid.all():
        row, at = map(int, np.argwhere(~valid)[0])
        if np.isnan(values[:, at]).all():
            name = f"column {at}" if features is None else f"column {features[at]!r}"
            raise InputError(f"{name} holds no value at all in {len(values):,} rows: leave it out")
        where = f"in row {row}" + ("" if features is None else f", column {features[at]!r}")
        remedies: list[Remedy] = ["give finite numbers"]
        if np.isnan(values[row, at]):
            remedies.append(("set", MISSING, "to model"))
        with option_names(PYTHON):
            raise InputError(f"X holds {values[row].tolist()} {where}", *remedies)
    weights, unit = None, 1.0
    if sample_weight is not None:
        weights = checks.row_weights(sample_weight, len(values))
        values, weights = values[weights > 0], weights[weights > 0]
        if not len(values):
            raise InputError("every sample_weight is 0: give a row some weight")
        with np.errstate(over="ignore"):
            total = float(weights.sum())
        observations = counted(weights, total)
        if observations:
            unit = total / observations
            weights = np.rint(weights / unit)
    rows = LocalRows.of_array(
        values, weights, search.seed, search.products, pilot_rows(max(search.k)), columns
    )
    return rows, unit
