"""The rows of a fit: blocks made once by Spark, then scanned on the driver or on the executors.

The only module that knows which of the two it is. Both run the same kernels on the same blocks and
add the sums in the same order, so both give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from pyspark.sql import DataFrame

from sparkgmm.core.profile import LEAST_WEIGHT, Block, Profile, count_rows, take_rows
from sparkgmm.core.rows import PILOT_ROWS, LocalRows, cut, draw_rows
from sparkgmm.core.statistics import Kernel, Sums, total
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.options import FEATURES, READER_OPTIONS, WEIGHT
from sparkgmm.spark.blocks import (
    SCHEMA,
    BlockRow,
    Counts,
    Layout,
    OnPartition,
    block_maker,
    fetch,
    forget,
    pick,
    statistics,
)
from sparkgmm.spark.error_translation import translated_errors
from sparkgmm.spark.names import place_named
from sparkgmm.spark.partitions import described, is_local, partitions_of
from sparkgmm.spark.source import NO_ROWS, Features

# Blocks of no more than this are scanned on the driver: an empty Spark job costs more.
# spark.sparkgmm.driverBytes sets it.
DRIVER_BYTES = 64 * 2**20
_ATTEMPTS = 3


class Read(NamedTuple):
    """What reading found: rows read, used and invalid, and why; bytes of the blocks."""

    counts: Counts
    used: int
    n_bytes: int
    n_partitions: int


@dataclass(frozen=True)
class PartitionSummary:
    """Where a partition's blocks are, and what the first look at its rows found."""

    partition: int
    path: str | None
    content: bytes | None
    block_rows: tuple[int, ...]
    profile: Profile | None
    counts: Counts
    n_bytes: int

    @classmethod
    def of(cls, row: BlockRow, layout: Layout) -> PartitionSummary:
        """Read a row of the DataFrame of blocks."""
        profile = None if row.profile is None else Profile.unpack(row.profile, layout.d)
        return cls(
            row.partition,
            row.path,
            row.content,
            tuple(row.block_rows),
            profile,
            Counts.unpack(row.counts),
            sum(sum(layout.sizes(n)) for n in row.block_rows),
        )

    @property
    def n_rows(self) -> int:
        """The rows in its blocks."""
        return sum(self.block_rows)

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """What must be the same when the partition is made again."""
        packed = None if self.profile is None else tuple(self.profile.pack())
        return self.partition, self.block_rows, packed, tuple(self.counts.pack())


class Blocks:
    """The blocks of a DataFrame, kept near the executors; a context that lets go of them.

    `products` says whether a covariance type asks for the profile's scatter (`Search.products`).
    """

    def __init__(
        self, df: DataFrame, features: Features, path: object = None, products: bool = True
    ) -> None:
        self._spark = df.sparkSession
        self._path = path
        self._layout = Layout(
            len(features.names),
            features.dtype,
            features.vector is not None,
            features.weight is not None,
            products,
        )
        with translated_errors(
            self._path
        ):  # some sources look at their files only when rows are planned
            made = features.project(df).mapInArrow(block_maker(self._layout), SCHEMA)
            self._partitions = partitions_of(made)
        self._summaries = self._make()

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        # what the driver deletes by itself needs no job; but where an executor can be lost, a
        # partition may have been made again in a file that the driver does not know of
        gone = [forget(summary) for summary in self._summaries]
        known = is_local(self._spark) and all(gone)
        self._partitions.release(resident=not known and any(s.path for s in self._summaries))

    def _make(self) -> list[PartitionSummary]:
        """Read everything once: make the blocks, profile them, count the rows."""
        rows = self._run(self._partitions.make, "reading the rows")
        summaries = (PartitionSummary.of(row, self._layout) for row in rows)
        return sorted(summaries, key=lambda summary: summary.partition)

    def _run(self, action: Callable[[], list[Any]], label: str) -> list[Any]:
        """Run a Spark action under a description that the Spark UI shows."""
        with described(self._spark, label), translated_errors(self._path):
            return action()

    def _on_partitions(self, function: OnPartition, label: str) -> list[Any]:
        """Run a function on every partition and return the results in the partitions' order.

        A task may run where its file is not: away from its executor, or after a disk was lost.
        Then the blocks are made again from the source, and the function runs again on all.
        """
        for _ in range(_ATTEMPTS):
            results = self._run(lambda: self._partitions.run(function), label)
            if all(result is not None for _, result in results):
                return [result for _, result in sorted(results, key=lambda r: r[0])]
            self._make_again()
        raise RuntimeError(
            f"blocks were lost {_ATTEMPTS} times while {label}: executors keep losing their local "
            "directories"
        )

    def _on_partitions_here(self, function: OnPartition, label: str) -> list[Any]:
        """Do so on the driver where it reaches the files, as in local mode: no job."""
        results = []
        for summary in self._summaries:
            [(_, result)] = function([summary])
            if result is None:
                return self._on_partitions(function, label)
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

    @property
    def products(self) -> bool:
        """Whether the profile has products of features."""
        return self._layout.products

    @property
    def read(self) -> Read:
        """What reading found."""
        width = self._layout.d + self._layout.weighted
        zero = Counts(0, 0, 0, 0, *np.zeros((3, width), dtype=np.int64))
        kinds = zip(zero, *(s.counts for s in self._summaries), strict=True)
        counts = Counts(*(reduce(add, values) for values in kinds))
        return Read(
            counts,
            counts.read - counts.invalid,
            sum(s.n_bytes for s in self._summaries),
            len(self._summaries),
        )

    @cached_property
    def profile(self) -> Profile:
        """The profile of the rows of positive weight, partitions merged in their order.

        Raises
        ------
        InputError
            If there are none, or if their weights are too large or too small to be added.
        """
        profiles = [s.profile for s in self._summaries if s.profile is not None]
        if not profiles:
            raise _no_rows_error(self.read)
        with np.errstate(over="ignore", invalid="ignore"):
            profile = reduce(add, profiles)
        if not LEAST_WEIGHT < profile.weight < np.inf:
            raise InputError(
                f"the weights of the {profile.n_rows:,} rows sum to {profile.weight:.3g} in "
                "float64",
                ("rescale the column that", WEIGHT, "names"),
            )
        return profile

    def rows(self, seed: int) -> LocalRows | ClusterRows:
        """Choose where passes run, by the size of the blocks."""
        limit = int(self._spark.conf.get("spark.sparkgmm.driverBytes", None) or DRIVER_BYTES)
        if self.read.n_bytes > limit:
            return ClusterRows(self, seed)
        label = "fetching the rows to the driver"
        partitions = self._on_partitions_here(fetch(self._layout), label)
        return LocalRows(partitions, self.profile, seed)

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels where the blocks are; add a partition's blocks there, in order."""
        function = statistics(self._layout, tuple(kernels))
        return total([sums for sums in self._on_partitions(function, label) if sums])

    def take(self, numbers: Array) -> Block:
        """Fetch some rows by their ascending numbers, counted over the partitions in order."""
        by_partition, start = {}, 0
        for summary in self._summaries:
            end = start + summary.n_rows
            mine = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)]
            by_partition[summary.partition] = mine - start
            start = end
        function = pick(self._layout, by_partition)
        picked = self._on_partitions_here(function, "drawing the pilot sample")
        blocks = [block for part in picked for block in part if block.n_rows]
        return take_rows(blocks, np.arange(count_rows(blocks)))


class ClusterRows:
    """Blocks that stay on the executors; a pass is a Spark job."""

    def __init__(self, blocks: Blocks, seed: int) -> None:
        self.profile = blocks.profile
        self.complete = self.profile.n_rows <= PILOT_ROWS
        self.sample = cut(blocks.take(draw_rows(self.profile.n_rows, seed)))
        self._blocks = blocks

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        return self._blocks.scan(kernels, label)


def _no_rows_error(read: Read) -> InputError:
    if read.counts.read == 0:
        return InputError(NO_ROWS)
    if read.counts.invalid == read.counts.read:
        return InputError(
            f"all {read.counts.read} rows are invalid",
            ("check", FEATURES),
            ("check", READER_OPTIONS, "for how nulls and numbers are written"),
        )
    return InputError(f"none of the {read.used} valid rows has a weight above 0", ("check", WEIGHT))
