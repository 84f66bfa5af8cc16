"""The rows of a fit: blocks made once by Spark, then scanned on the driver or on the executors.

The only module that knows which of the two it is. Both run the same kernels on the same blocks and
add the sums in the same order, so both give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import numpy as np
from pyspark import RDD, SparkContext, StorageLevel
from pyspark.sql import DataFrame

from sparkgmm.core.profile import Block, Profile, take_rows
from sparkgmm.core.rows import PILOT_ROWS, LocalRows, cut, draw_rows
from sparkgmm.core.statistics import Kernel, Sums, total
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.spark.blocks import (
    SCHEMA,
    Counts,
    Layout,
    OnPartition,
    PartitionSummary,
    block_maker,
    fetch,
    pick,
    statistics,
    summarise,
)
from sparkgmm.spark.source import Features
from sparkgmm.spark.trouble import translate

# Blocks of no more than this are fetched and scanned on the driver: an empty Spark job costs more.
# spark.sparkgmm.driverBytes sets it.
DRIVER_BYTES = 64 * 2**20


class Read(NamedTuple):
    """What reading found: rows read, used and invalid, and why; bytes of the blocks."""

    counts: Counts
    used: int
    n_bytes: int
    n_partitions: int


class Blocks:
    """The blocks of a DataFrame, cached on the executors; a context that lets go of them."""

    def __init__(self, df: DataFrame, features: Features, path: object = None) -> None:
        self._spark = df.sparkSession
        self._features = features
        self._path = path
        self._layout = Layout(
            len(features.names),
            features.dtype,
            features.vector is not None,
            features.weight is not None,
        )
        made = features.project(df).mapInArrow(block_maker(self._layout), SCHEMA)
        self._rdd: RDD[Any] = made.rdd.persist(StorageLevel.MEMORY_AND_DISK)
        self._summaries = self._look()

    def __enter__(self) -> Blocks:
        return self

    def __exit__(self, *_: object) -> None:
        self._rdd.unpersist()

    def _look(self) -> list[PartitionSummary]:
        """Read everything once: make the blocks, profile them, count the rows."""
        summaries = self._collect(summarise(self._layout), "reading the rows")
        return sorted(summaries, key=lambda summary: summary.index)

    def _collect(self, function: OnPartition, label: str) -> list[Any]:
        """Run a function on every partition under a description that the Spark UI shows."""
        context = self._spark.sparkContext
        with described(context, label):
            try:
                return self._rdd.mapPartitionsWithIndex(function).collect()
            except Exception as error:
                known = translate(error, self._path)
                if known:
                    raise known from error
                raise

    @property
    def read(self) -> Read:
        """What reading found."""
        kinds = [s.counts for s in self._summaries]
        width = self._layout.d + self._layout.weighted
        zero = Counts(0, 0, 0, 0, *np.zeros((3, width), dtype=np.int64))
        counts = Counts(*(reduce(add, values) for values in zip(zero, *kinds, strict=True)))
        return Read(
            counts,
            counts.read - counts.invalid,
            sum(s.n_bytes for s in self._summaries),
            len(self._summaries),
        )

    @property
    def profile(self) -> Profile:
        """The profile of the rows of positive weight, partitions merged in their order.

        Raises
        ------
        InputError
            If there are none.

        """
        profiles = [s.profile for s in self._summaries if s.profile is not None]
        if not profiles:
            raise InputError(_nothing_left(self.read))
        with np.errstate(over="ignore", invalid="ignore"):
            return reduce(add, profiles)

    def rows(self, seed: int) -> LocalRows | ClusterRows:
        """Choose where passes run, by the size of the blocks."""
        conf = self._spark.sparkContext.getConf()
        limit = int(conf.get("spark.sparkgmm.driverBytes", str(DRIVER_BYTES)) or DRIVER_BYTES)
        if self.read.n_bytes <= limit:
            partitions = self._collect(fetch(self._layout), "fetching the rows to the driver")
            self._rdd.unpersist()
            ordered = [blocks for _, blocks in sorted(partitions, key=lambda p: p[0])]
            return LocalRows(ordered, self.profile, seed)
        return ClusterRows(self, seed)

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels where the blocks are; add a partition's blocks there, in order."""
        parts = self._collect(statistics(self._layout, tuple(kernels)), label)
        return total([sums for _, sums in sorted(parts, key=lambda part: part[0])])

    def take(self, numbers: Array) -> Block:
        """Fetch some rows by their ascending numbers, counted over the partitions in order."""
        wanted, start = {}, 0
        for summary in self._summaries:
            end = start + summary.n_rows
            mine = numbers[np.searchsorted(numbers, start) : np.searchsorted(numbers, end)]
            wanted[summary.index] = mine - start
            start = end
        picked = self._collect(pick(self._layout, wanted), "drawing the pilot sample")
        blocks = [block for _, block in sorted(picked, key=lambda p: p[0])]
        return take_rows(blocks, np.arange(sum(block.n_rows for block in blocks)))


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


class described:  # noqa: N801
    """A context in which the Spark UI shows jobs under our description."""

    def __init__(self, context: SparkContext, label: str) -> None:
        self._context = context
        self._label = label

    def __enter__(self) -> None:
        self._before = self._context.getLocalProperty("spark.job.description")
        self._context.setJobDescription(self._label)

    def __exit__(self, *_: object) -> None:
        self._context.setLocalProperty("spark.job.description", self._before)  # type: ignore[arg-type]


def _nothing_left(read: Read) -> str:
    if read.counts.read == 0:
        return "the input has no rows: give a file with data, or check input.where"
    if read.counts.invalid == read.counts.read:
        return (
            f"all {read.counts.read} rows are invalid: check input.features, and input.options "
            "for how nulls and numbers are written"
        )
    return f"none of the {read.used} valid rows has a weight above 0: check input.weight"
