"""The rows of a fit: blocks made once by Spark, then scanned on the driver or on the executors.

The only module that knows which of the two it is. Both run the same kernels on the same blocks and
add the sums in the same order, so both give the same bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
from pyspark.sql import DataFrame

from sparkgmm.core.profile import LEAST_WEIGHT, Block, Profile, count_rows, take_rows
from sparkgmm.core.rows import PILOT_ROWS, LocalRows, cut, draw_rows
from sparkgmm.core.statistics import Kernel, Sums, add_partitions
from sparkgmm.core.tree import add_in_tree, groups
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.options import FEATURES, READER_OPTIONS, WEIGHT
from sparkgmm.spark.blocks import (
    SCHEMA,
    Counts,
    Findings,
    Layout,
    OnPartition,
    PartitionSummary,
    Tally,
    block_maker,
    fetch,
    find,
    forget,
    join_findings,
    pick,
    statistics,
    summarise,
)
from sparkgmm.spark.driver_memory import (
    DRIVER_BYTES,
    byte_size,
    check_sums_fit,
    room_for_results,
)
from sparkgmm.spark.error_translation import translated_errors
from sparkgmm.spark.executors import use_own_python
from sparkgmm.spark.names import place_named
from sparkgmm.spark.partitions import described, is_local, partitions_of
from sparkgmm.spark.quarantine import describe_faults
from sparkgmm.spark.results import Combine
from sparkgmm.spark.source import NO_ROWS, Features

T = TypeVar("T")

_ATTEMPTS = 3


class Read(NamedTuple):
    """What reading found: rows read, used and invalid, and why; bytes of the blocks."""

    counts: Counts
    used: int
    n_bytes: int
    n_partitions: int


class Blocks:
    """The blocks of a DataFrame, kept near the executors; a context that lets go of them.

    `products` says whether a covariance type asks for the profile's scatter (`Search.products`).
    """

    def __init__(
        self, df: DataFrame, features: Features, path: object = None, products: bool = True
    ) -> None:
        self._spark = df.sparkSession
        use_own_python(self._spark)
        self._path = path
        self._room = room_for_results(self._spark)
        self._features = features
        self._layout = Layout(
            len(features.names),
            features.dtype,
            features.vector is not None,
            features.weight is not None,
            products,
            features.missing,
            len(features.beside),
        )
        self.columns = features.beside
        with translated_errors(
            self._path
        ):  # some sources look at their files only when rows are planned
            made = features.project(df).mapInArrow(block_maker(self._layout), SCHEMA)
            self._partitions = partitions_of(made)
        self._summaries = self._make()

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, failed: object, *_: object) -> None:
        # what the driver deletes by itself needs no job; but where an executor can be lost, a
        # partition may have been made again in a file that the driver does not know of
        gone = [forget(summary) for summary in self._summaries]
        known = is_local(self._spark) and all(gone)
        resident = not known and any(s.path for s in self._summaries)
        # where Spark is gone, that is what failed, not that nothing can be released
        with contextlib.suppress(Exception) if failed else contextlib.nullcontext():
            self._partitions.release(resident)

    def _make(self) -> list[PartitionSummary]:
        """Read everything once: make the blocks, profile them, count the rows."""
        function = summarise(self._layout, self._room)
        made = self._run(lambda: self._partitions.make(function), "reading the rows")
        return [summary for _, summary in sorted(made, key=lambda numbered: numbered[0])]

    def _run(self, action: Callable[[], T], label: str) -> T:
        """Run a Spark action under a description that the Spark UI shows."""
        with described(self._spark, label), translated_errors(self._path):
            return action()

    def _on_partitions(
        self, action: Callable[[], list[tuple[int, Any]]], label: str
    ) -> list[tuple[int, Any]]:
        """Run a Spark job on the partitions and return the numbered results, all of them there.

        A task may run where its file is not: away from its executor, or after a disk was lost.
        Then the blocks are made again from the source, and the function runs again on all.
        """
        for _ in range(_ATTEMPTS):
            results = self._run(action, label)
            if all(result is not None for _, result in results):
                return results
            self._make_again()
        raise RuntimeError(
            f"blocks were lost {_ATTEMPTS} times while {label}: executors keep losing their local "
            "directories"
        )

    def _add(self, function: OnPartition, combine: Combine, n_bytes: int, label: str) -> Any:
        """Run a function on every partition and add the results up in the tree of fixed shape.

        `n_bytes` is about what a result takes: the executors add where all would be too much.
        """
        n, levels = len(self._summaries), 0
        while n > 1 and n * n_bytes > self._room:
            n, levels = groups(n), levels + 1

        def action() -> list[tuple[int, Any]]:
            if levels == 0:
                return self._partitions.run(function)
            return self._partitions.add(function, combine, len(self._summaries), levels)

        return add_in_tree(self._on_partitions(action, label), combine)

    def _fetched(
        self,
        function: Callable[[Collection[int]], OnPartition],
        n_bytes: Mapping[int, int],
        label: str,
    ) -> list[list[Block]]:
        """Return what a function yields of each partition, in their order.

        On the driver where it reaches the files, as in local mode: no job. Else by jobs that bring
        no more than there is room for; `n_bytes` has about what each partition yields.
        """
        here = self._read_here(function(n_bytes))
        if here is not None:
            return here
        results: dict[int, list[Block]] = {s.partition: [] for s in self._summaries}
        for some in _rounds(n_bytes, self._room):
            run = partial(self._partitions.run, function(some))
            brought = self._on_partitions(run, label)
            results.update((number, blocks) for number, blocks in brought if number in some)
        return [results[number] for number in sorted(results)]

    def _read_here(self, function: OnPartition) -> list[list[Block]] | None:
        """Run a function on the driver, or return None where it does not reach all blocks."""
        results = []
        for summary in self._summaries:
            [(_, result)] = function([summary])
            if result is None:
                return None
            results.append(result)
        return results

    def _make_again(self) -> None:
        self._partitions.drop()
        for summary in self._summaries:
            forget(summary)
        before, self._summaries = self._summaries, self._make()
        same = [s.fingerprint for s in before] == [s.fingerprint for s in self._summaries]
        if not same:
            raise InputError(
                f"{place_named(self._path)} changed while it was being fitted: run the job again"
            )

    @cached_property
    def _findings(self) -> Findings:
        """What was found in all partitions."""
        if not self._summaries:
            return Findings(None, Tally(self._layout).total())
        here = [(s.partition, s.findings) for s in self._summaries if s.findings is not None]
        if len(here) == len(self._summaries):
            return add_in_tree(here, join_findings)
        n_bytes = Findings.n_bytes(self._layout)
        added = self._add(find(self._layout), join_findings, n_bytes, "adding the profiles")
        assert isinstance(added, Findings)
        return added

    @property
    def products(self) -> bool:
        """Whether the profile has products of features."""
        return self._layout.products

    @property
    def read(self) -> Read:
        """What reading found."""
        counts = self._findings.counts
        return Read(
            counts,
            counts.read - counts.invalid,
            sum(map(self._n_bytes, self._summaries)),
            len(self._summaries),
        )

    def _n_bytes(self, summary: PartitionSummary) -> int:
        return sum(sum(self._layout.sizes(n)) for n in summary.block_rows)

    @cached_property
    def profile(self) -> Profile:
        """The profile of the rows of positive weight, partitions merged in a fixed order.

        Raises
        ------
        InputError
            If there are none, or if their weights are too large or too small to be added.
        """
        profile = self._findings.profile
        if profile is None:
            raise _no_rows_error(self.read, self._features)
        if not LEAST_WEIGHT < profile.weight < np.inf:
            raise InputError(
                f"the weights of the {profile.n_rows:,} rows sum to {profile.weight:.3g} in "
                "float64",
                ("rescale the column that", WEIGHT, "names"),
            )
        return profile

    def rows(self, seed: int, n_pilot: int = PILOT_ROWS) -> LocalRows | ClusterRows:
        """Choose where passes run, by the size of the blocks; `n_pilot` rows are the sample."""
        wanted = self._spark.conf.get("spark.sparkgmm.driverBytes", None)
        limit = byte_size(wanted) if wanted else DRIVER_BYTES
        if self.read.n_bytes > limit:
            return ClusterRows(self, seed, n_pilot)
        sizes = {s.partition: self._n_bytes(s) for s in self._summaries}
        label = "fetching the rows to the driver"
        partitions = self._fetched(partial(fetch, self._layout), sizes, label)
        return LocalRows(partitions, self.profile, seed, n_pilot, self.columns)

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels where the blocks are; add a partition's blocks there, in order."""
        function = statistics(self._layout, tuple(kernels))
        # what decides the sums takes as much as they do, or twice as much
        n_bytes = sum(array.nbytes for kernel in kernels for array in kernel.arrays())
        check_sums_fit(self._spark, n_bytes // 2, self._layout.d, label)
        sums: list[Sums] = self._add(function, add_partitions, n_bytes, label)
        return sums

    def take(self, numbers: Array) -> Block:
        """Fetch some rows by their ascending numbers, counted over the partitions in order."""
        by_partition, start = {}, 0
        for summary in self._summaries:
            end = start + summary.n_rows
            mine = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)]
            by_partition[summary.partition] = mine - start
            start = end

        def picked(partitions: Collection[int]) -> OnPartition:
            return pick(self._layout, {number: by_partition[number] for number in partitions})

        a_row = sum(self._layout.sizes(1))
        sizes = {number: len(mine) * a_row for number, mine in by_partition.items()}
        fetched = self._fetched(picked, sizes, "drawing the pilot sample")
        blocks = [block for part in fetched for block in part if block.n_rows]
        return take_rows(blocks, np.arange(count_rows(blocks)))


def _rounds(n_bytes: Mapping[int, int], room: int) -> Iterator[set[int]]:
    """Cut partitions into runs of neighbours that bring no more than the room, if they can."""
    some: set[int] = set()
    held = 0
    for number, mine in n_bytes.items():
        if some and held + mine > room:
            yield some
            some, held = set(), 0
        some.add(number)
        held += mine
    if some:
        yield some


class ClusterRows:
    """Blocks that stay on the executors; a pass is a Spark job."""

    def __init__(self, blocks: Blocks, seed: int, n_pilot: int) -> None:
        self.profile = blocks.profile
        self.complete = self.profile.n_rows <= n_pilot
        self.columns = blocks.columns
        drawn = blocks.take(draw_rows(self.profile.n_rows, seed, n_pilot))
        self.sample = cut(drawn)
        self.range_beside: Array | None = None
        self._blocks = blocks

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        return self._blocks.scan(kernels, label)


def _no_rows_error(read: Read, features: Features) -> InputError:
    if read.counts.read == 0:
        return InputError(NO_ROWS)
    if read.counts.invalid == read.counts.read:
        return InputError(
            f"all {read.counts.read} rows are invalid ({describe_faults(read.counts, features)})",
            ("check", FEATURES),
            ("check", READER_OPTIONS, "for how nulls and numbers are written"),
        )
    return InputError(f"none of the {read.used} valid rows has a weight above 0", ("check", WEIGHT))
