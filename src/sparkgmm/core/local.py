"""Rows in this process's memory, and fitting an array: no Spark needed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits

from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit
from sparkgmm.core.initialisation import INIT
from sparkgmm.core.profile import Block, Profile, block_rows, take_rows
from sparkgmm.core.search import PILOT_ROWS, Search, draw_rows
from sparkgmm.core.statistics import Kernel, Sums, run_kernels, total
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES, Mixture


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
