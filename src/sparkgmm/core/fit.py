"""From rows to the chosen mixture, and the same for an array in memory: no Spark needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from sparkgmm.core.covariance import from_mixture
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.initialisation import INIT
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.search import PILOT_ROWS, Progress, Race, Rows, Search, draw_rows, draw_starts, pilot
from sparkgmm.core.selection import Candidate, choose
from sparkgmm.core.statistics import Kernel, Sums, run_kernels, total
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES, Array, Mixture

# Where all rows fit the pilot sample a pass costs next to nothing: go on to this share of tol.
_SMALL_DATA_TOL = 1e-3
_BLOCK_BYTES = 2**21


@dataclass(frozen=True)
class Fit:
    """All the candidates, and the one that the criterion chose."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]


def fit(
    rows: Rows,
    search: Search,
    features: tuple[str, ...] | None = None,
    starts: Sequence[Mixture] | None = None,
    progress: Progress | None = None,
) -> Fit:
    """Fit every candidate of the search and choose one by its criterion.

    `starts`, if given, take the place of those drawn from the sample.

    Raises
    ------
    InputError
        If a feature is constant or there are fewer distinct rows than components.
    FitError
        If every candidate is degenerate.
    """
    check(rows, max(search.k), features)
    profile, settings = rows.profile, search.settings
    frame = Frame.of(profile)
    if rows.complete:
        settings = replace(settings, tol=settings.tol * _SMALL_DATA_TOL)
    if starts is not None:
        states = [Trajectory(from_mixture(start, frame)) for start in starts]
    elif rows.complete:
        states = draw_starts(rows, search, frame)
    else:
        states = pilot(rows, search, frame)
    race = Race(states, frame, profile, settings, rows.scan, progress)
    race.run(profile.n_rows)
    candidates = tuple(
        Candidate.of(best, frame, profile, search.settings.tol, settings.reg_covar, features)
        for best in race.best().values()
    )
    return Fit(choose(candidates, search.criterion), candidates)


def check(rows: Rows, k: int, features: Sequence[str] | None = None) -> None:
    """Raise InputError where no mixture of k components can be fitted."""
    profile = rows.profile
    names = features or [f"column {i}" for i in range(len(profile.mean))]
    for name, value, low, high in zip(
        names, profile.variance, profile.low, profile.high, strict=True
    ):
        if low == high:
            raise InputError(
                f"feature {name!r} is constant ({low:.6g} in all {profile.n_rows} rows): leave it "
                "out of the features or set input.constant_features: drop"
            )
        if not (np.isfinite(value) and value > 0):
            raise InputError(
                f"feature {name!r} ranges from {low:.6g} to {high:.6g}, so that its variance is "
                f"{value:.3g} in float64: rescale it, or leave out such rows with input.where"
            )
    distinct = n_distinct(rows.sample, k)
    if distinct < k:
        raise InputError(
            f"there are {distinct} distinct rows for k = {k} components: lower k to {distinct} or "
            "less, or give more data"
        )


def n_distinct(blocks: Sequence[Block], enough: int) -> int:
    """Count distinct rows, up to `enough`."""
    seen: set[bytes] = set()
    for block in blocks:
        for row in block.values.T:
            seen.add((row + 0.0).tobytes())  # + 0.0: minus zero is zero
            if len(seen) >= enough:
                return enough
    return len(seen)


def block_rows(d: int) -> int:
    """Return how many rows a block holds: about 2 MiB of float64, whatever the machine."""
    return max(1024, _BLOCK_BYTES // (8 * d) // 1024 * 1024)


class LocalRows:
    """Blocks in this process's memory, scanned by a pool of threads.

    Each block is one unit of work; its sums are added within its partition first and then over
    the partitions in their order, so the bits do not depend on the number of threads and are those
    of a cluster on the same partitions.
    """

    def __init__(self, partitions: Sequence[Sequence[Block]], profile: Profile, seed: int) -> None:
        self.profile = profile
        self._partitions = [p for p in partitions if p]
        self._blocks = [block for p in self._partitions for block in p]
        self.complete = profile.n_rows <= PILOT_ROWS
        self.sample: Sequence[Block] = (
            self._blocks
            if self.complete
            else [take_rows(self._blocks, draw_rows(profile.n_rows, seed))]
        )

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        with threadpool_limits(1, user_api="blas"):
            if len(self._blocks) == 1:
                results = [run_kernels(kernels, self._blocks[0])]
            else:
                with ThreadPoolExecutor(os.cpu_count()) as pool:
                    results = list(pool.map(lambda b: run_kernels(kernels, b), self._blocks))
        sums, first = [], 0
        for partition in self._partitions:
            sums.append(total(results[first : first + len(partition)]))
            first += len(partition)
        return total(sums)


def take_rows(blocks: Sequence[Block], rows: Array) -> Block:
    """Gather rows by their ascending numbers, counted through all the blocks."""
    ends = np.cumsum([block.n_rows for block in blocks])
    values, weights = [], []
    for block, end in zip(blocks, ends, strict=True):
        start = end - block.n_rows
        mine = rows[np.searchsorted(rows, start) : np.searchsorted(rows, end)] - start
        values.append(block.values[:, mine])
        weights.append(None if block.weights is None else block.weights[mine])
    weighted = [w for w in weights if w is not None]
    return Block(
        np.ascontiguousarray(np.concatenate(values, axis=1)),
        np.concatenate(weighted) if weighted else None,
    )


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
    covariance_type : "full", "tied", "diag" or "spherical"
    sample_weight : (n,) weights >= 0, or None
    init : "k-means++" or "random_from_data"
    n_init : starts; the best sound one wins
    tol : stop when the mean log-likelihood is estimated to be within tol nats of its limit
    max_iter : passes over the data at most
    reg_covar : added to the covariance diagonal, relative to each feature's variance
    seed : of the starts
    weights_init, means_init, precisions_init : (k,), (k, d) and (k, d, d): where to start
        instead; what is not given comes from the rows nearest to the means

    Raises
    ------
    InputError
        If X, a weight or an option is not as above, or there are fewer distinct rows than k.
    FitError
        If every start ends degenerate.
    """
    rows = _array_rows(X, sample_weight, seed)
    search = Search(
        k=(_checked_k(k),),
        covariance_type=(_one_of("covariance_type", covariance_type, COVARIANCE_TYPES),),
        init=_one_of("init", init, tuple(INIT)),
        n_init=n_init,
        seed=seed,
        settings=Settings(tol=tol, max_iter=max_iter, reg_covar=reg_covar),
    )
    chosen = fit(rows, search).chosen
    assert chosen.mixture is not None
    return FitResult(
        chosen.mixture,
        chosen.converged,
        chosen.n_iter,
        chosen.log_likelihood,
        chosen.log_likelihoods,
    )


def _checked_k(k: int) -> int:
    if not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"k is {k!r}: give an integer of 1 or more")
    return int(k)


def _one_of(name: str, value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise InputError(f"{name} is {value!r}: use one of {', '.join(choices)}")
    return value


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
    step = block_rows(values.shape[1])
    blocks = [
        Block(
            np.ascontiguousarray(values[i : i + step].T),
            None if weights is None else weights[i : i + step],
        )
        for i in range(0, len(values), step)
    ]
    return LocalRows([blocks], reduce(add, map(Profile.of, blocks)), seed)
