"""The DataFrame of blocks as Spark keeps it: through an RDD, or without one on Spark Connect.

The only module that knows which of the two a session has. On both a pass is a Spark job that runs
a function on every partition of blocks and collects what it yields; or adds it up on the executors
first, in the tree of `core/tree.py`, by a shuffle a level. What a shuffle has written stays where
it is while the next stage reads: a partition is not scanned twice, unless its executor is lost.
"""

from __future__ import annotations

import contextlib
from typing import Any, Protocol
from weakref import WeakSet

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession

from sparkgmm.core.tree import group_of, groups
from sparkgmm.spark.blocks import OnPartition, forget, forget_all
from sparkgmm.spark.results import SCHEMA, Combine, add_members, adder, mapper, unpacked
from sparkgmm.spark.session import packed_package

_served: WeakSet[SparkSession] = WeakSet()


class Partitions(Protocol):
    """The partitions of blocks, read from the source once and kept near the executors."""

    def make(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Make the blocks, keep them, and run a function on every partition."""
        ...

    def run(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Run a function on every partition; return its number and result, in any order."""
        ...

    def add(
        self, function: OnPartition, combine: Combine, n: int, levels: int
    ) -> list[tuple[int, Any]]:
        """Run a function on all n partitions and add the results up, so many levels of the tree.

        Return a group's number and result, in any order: None where one of its results is None.
        """
        ...

    def drop(self) -> None:
        """Release the rows that Spark keeps, before the blocks are made again."""
        ...

    def release(self, resident: bool) -> None:
        """Release the rows, and the files where there are any."""
        ...


def is_connect(spark: SparkSession) -> bool:
    """Tell a session of Spark Connect, which has no RDDs and no JVM at hand."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def is_local(spark: SparkSession) -> bool:
    """Tell a session whose executor is the driver itself."""
    return not is_connect(spark) and str(spark.sparkContext.master).partition("[")[0] == "local"


def ship_to(spark: SparkSession) -> None:
    """Send this package to the workers of a Spark Connect session, once."""
    if is_connect(spark) and spark not in _served:
        session: Any = spark
        with contextlib.suppress(Exception):  # a server may refuse what it has already
            session.addArtifacts(packed_package(), pyfile=True)
        _served.add(spark)


def partitions_of(made: DataFrame) -> Partitions:
    """Return how this DataFrame's session keeps and maps partitions."""
    connect = is_connect(made.sparkSession)
    return FramePartitions(made) if connect else RddPartitions(made)


class RddPartitions:
    """By an RDD: what a partition yields is collected as it is."""

    def __init__(self, made: DataFrame) -> None:
        self._rdd: Any = made.rdd

    def make(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Make the blocks and run a function on them."""
        self._rdd.persist(StorageLevel.MEMORY_AND_DISK)
        return self.run(function)

    def run(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Run a function on every partition."""
        return list(self._rdd.mapPartitions(function).collect())

    def add(
        self, function: OnPartition, combine: Combine, n: int, levels: int
    ) -> list[tuple[int, Any]]:
        """Run a function on every partition and add the results up."""
        add, results = add_members(combine), self._rdd.mapPartitions(function)
        for _ in range(levels):
            n = groups(n)
            keyed = results.map(lambda numbered: (group_of(numbered[0]), numbered))
            members = keyed.partitionBy(n, int).values()
            results = members.mapPartitions(add)
        try:
            return list(results.collect())
        finally:
            # three files a partition and level, and their places in the driver's heap: else they
            # stay until the JVM looks for garbage, and to delete those of many passes at the end
            # takes longer than the 30 s that Hadoop gives to what runs when a JVM ends
            with contextlib.suppress(Exception):  # its JVM may be gone: that is what failed
                results._jrdd.rdd().cleanShuffleDependencies(False)

    def drop(self) -> None:
        """Release the rows."""
        self._rdd.unpersist(blocking=True)

    def release(self, resident: bool) -> None:
        """Release rows and files."""
        if resident:
            with contextlib.suppress(Exception):  # whatever stays goes with the executor
                self._rdd.foreach(forget)
        self._rdd.unpersist()


class FramePartitions:
    """By a persisted DataFrame and mapInArrow: results travel as bytes in a column.

    Where the session cannot persist, as on some serverless ones, every pass reads the source.
    """

    def __init__(self, made: DataFrame) -> None:
        ship_to(made.sparkSession)
        self._made = made
        self._kept = False

    def make(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Make the blocks and run a function on them."""
        with contextlib.suppress(Exception):
            self._made.persist(StorageLevel.MEMORY_AND_DISK)
            self._kept = True
        return self.run(function)

    def run(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Run a function on every partition."""
        return self._collected(self._mapped(function))

    def add(
        self, function: OnPartition, combine: Combine, n: int, levels: int
    ) -> list[tuple[int, Any]]:
        """Run a function on every partition and add the results up."""
        add, results = adder(combine), self._mapped(function)
        for _ in range(levels):
            n = groups(n)
            results = results.repartition(n, "part_group").mapInArrow(add, SCHEMA)
        return self._collected(results)

    def drop(self) -> None:
        """Release the rows."""
        if self._kept:
            self._made.unpersist(blocking=True)

    def release(self, resident: bool) -> None:
        """Release rows and files."""
        with contextlib.suppress(Exception):
            if resident and self._kept:
                self.run(forget_all)
            self.drop()

    def _mapped(self, function: OnPartition) -> DataFrame:
        return self._made.mapInArrow(mapper(function, clean=not self._kept), SCHEMA)

    @staticmethod
    def _collected(results: DataFrame) -> list[tuple[int, Any]]:
        return [unpacked(row) for row in results.collect()]


class described:  # noqa: N801
    """A context in which the Spark UI shows jobs under our description."""

    def __init__(self, spark: SparkSession, label: str) -> None:
        self._context: Any = None if is_connect(spark) else spark.sparkContext
        self._label = label

    def __enter__(self) -> None:
        if self._context is not None:
            self._before = self._context.getLocalProperty("spark.job.description")
            self._context.setJobDescription(self._label)

    def __exit__(self, *_: object) -> None:
        if self._context is not None:
            with contextlib.suppress(Exception):  # its JVM may be gone: that is what failed
                self._context.setLocalProperty("spark.job.description", self._before)
