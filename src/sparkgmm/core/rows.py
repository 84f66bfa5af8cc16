"""The rows as a fit sees them, wherever they are, and rows in this process's memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import add
from typing import Any, Protocol

import numpy as np

from sparkgmm.core.profile import Block, Profile, block_rows, grouped, take_rows
from sparkgmm.core.statistics import Kernel, Sums, add_partitions, run_kernels, total
from sparkgmm.core.tree import add_in_tree
from sparkgmm.mixture import Array
from sparkgmm.parts import Column

# Starts are compared on this many rows, or on so many a component where that is more; data no
# larger than this is its own sample.
PILOT_ROWS = 2**15
_PILOT_ROWS_A_COMPONENT = 100
# The sample is cut finer than the data, so that it keeps several threads busy.
_SAMPLE_BLOCK_ROWS = 2**12


def pilot_rows(k: int) -> int:
    """Return how many rows starts of k components are compared on."""
    return max(PILOT_ROWS, _PILOT_ROWS_A_COMPONENT * k)


class _OneBlasThread:
    """A context in which BLAS has one thread: ours are the cores' already.

    The limit is the process's, so it is set by the first thread that comes and lifted by the last.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limits = _blas_limits()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._limits is not None:
                self._limits.restore_original_limits()


def _blas_limits() -> Any:
    """Limit BLAS to one thread; executors may lack the package, and have Spark's limit."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return None
    return threadpool_limits(1, user_api="blas")


one_blas_thread = _OneBlasThread()


class Rows(Protocol):
    """The data as a fit sees it; `sample` is all of it where `complete`."""

    @property
    def profile(self) -> Profile: ...  # noqa: D102
    @property
    def sample(self) -> Sequence[Block]: ...  # noqa: D102
    @property
    def complete(self) -> bool: ...  # noqa: D102
    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns after the numeric ones, each modelled by a part."""
        ...

    @property
    def range_beside(self) -> Array | None:
        """The least and the greatest value of each of those, (2, n); None where not known."""
        ...

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        ...


class LocalRows:
    """Blocks in this process's memory, by partition; `n_pilot` are the rows of the sample."""

    def __init__(
        self,
        partitions: Sequence[Sequence[Block]],
        profile: Profile,
        seed: int,
        n_pilot: int = PILOT_ROWS,
        columns: tuple[Column, ...] = (),
    ) -> None:
        self.profile = profile
        self.columns = columns
        self._partitions = partitions
        blocks = [block for p in self._partitions for block in p]
        self.complete = profile.n_rows <= n_pilot
        self.sample: Sequence[Block] = (
            blocks
            if self.complete
            else cut(take_rows(blocks, draw_rows(profile.n_rows, seed, n_pilot)))
        )

    @classmethod
    def of_array(
        cls,
        X: Array,
        weights: Array | None,
        seed: int,
        products: bool = True,
        n_pilot: int = PILOT_ROWS,
        columns: tuple[Column, ...] = (),
    ) -> LocalRows:
        """Cut rows (n, d) and their weights (n,), if they have any, into blocks.

        The last of the columns are those of the parts `columns`.
        `products` says whether the profile needs all products of two features.
        """
        step = block_rows(X.shape[1])
        blocks = [
            Block(
                np.ascontiguousarray(X[i : i + step].T),
                None if weights is None else weights[i : i + step],
            )
            for i in range(0, len(X), step)
        ]
        profile = reduce(add, (Profile.of(block, products, len(columns)) for block in blocks))
        if profile.seen is not None:
            blocks = [grouped(block, len(columns)) for block in blocks]
        return cls([blocks], profile, seed, n_pilot, columns)

    @property
    def range_beside(self) -> Array | None:
        """The least and the greatest value of each column of a part, (2, n), NaN if it has none."""
        first = len(self.profile.mean)
        beside = [block.values[first:] for p in self._partitions for block in p]
        low = reduce(np.fmin, (np.fmin.reduce(values, axis=1) for values in beside))
        high = reduce(np.fmax, (np.fmax.reduce(values, axis=1) for values in beside))
        return np.array([low, high], dtype=np.float64)

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        return scan_blocks(self._partitions, kernels)


def scan_blocks(
    partitions: Sequence[Sequence[Block]], kernels: Sequence[Kernel], threads: int | None = None
) -> list[Sums]:
    """Run the kernels over blocks in memory, in a pool of threads (default: one a core).

    Each block is one unit of work; its sums are added within its partition first and then over
    the partitions in a tree of fixed shape, so the bits do not depend on the number of threads and
    are those of a cluster on the same partitions. A partition may have no block.
    """
    blocks = [block for partition in partitions for block in partition]
    with one_blas_thread:
        if len(blocks) == 1:
            results = [run_kernels(kernels, blocks[0])]
        else:
            with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
                results = list(pool.map(lambda block: run_kernels(kernels, block), blocks))
    sums, first = [], 0
    for partition in partitions:
        sums.append(total(results[first : first + len(partition)]))
        first += len(partition)
    return add_in_tree(enumerate(sums), add_partitions)


def draw_rows(n_rows: int, seed: int, most: int = PILOT_ROWS) -> Array:
    """Return the ascending numbers of so many rows, drawn without replacement."""
    if n_rows <= most:
        return np.arange(n_rows)
    rng = np.random.default_rng([seed, n_rows])
    return np.sort(rng.choice(n_rows, most, replace=False, shuffle=False))


def cut(block: Block, step: int = _SAMPLE_BLOCK_ROWS) -> list[Block]:
    """Cut a block into blocks of `step` rows."""
    numbers = np.arange(block.n_rows)
    return [take_rows([block], numbers[i : i + step]) for i in range(0, block.n_rows, step)]
