"""The DataFrame of blocks as Spark keeps it: through an RDD, or without one on Spark Connect.

The only module that knows which of the two a session has. On both a pass is a Spark job that runs a
function on every partition of blocks and collects what it yields.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable, Iterable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession

from sparkgmm.spark.blocks import OnPartition, forget, forget_all, prepare_worker
from sparkgmm.spark.session import packed_package

if TYPE_CHECKING:
    import pyarrow as pa

_SCHEMA = "partition int, result binary"
_served: WeakSet[SparkSession] = WeakSet()


class Partitions(Protocol):
    """The partitions of blocks, read from the source once and kept near the executors."""

    def make(self) -> list[Any]:
        """Make the blocks, keep them, and return a row of `blocks.SCHEMA` a partition."""
        ...

    def run(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Run a function on every partition; return its number and result, in any order."""
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

    def make(self) -> list[Any]:
        """Make the blocks."""
        self._rdd.persist(StorageLevel.MEMORY_AND_DISK)
        return list(self._rdd.collect())

    def run(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Run a function on every partition."""
        return list(self._rdd.mapPartitions(function).collect())

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

    def make(self) -> list[Any]:
        """Make the blocks."""
        with contextlib.suppress(Exception):
            self._made.persist(StorageLevel.MEMORY_AND_DISK)
            self._kept = True
        return list(self._made.collect())

    def run(self, function: OnPartition) -> list[tuple[int, Any]]:
        """Run a function on every partition."""
        mapper = _mapper(function, clean=not self._kept)
        rows = self._made.mapInArrow(mapper, _SCHEMA).collect()
        return [(row.partition, pickle.loads(row.result)) for row in rows]

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


def _mapper(
    function: OnPartition, clean: bool
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that mapInArrow runs; `clean` deletes the files that it has read."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        prepare_worker()
        rows = [SimpleNamespace(**row) for batch in batches for row in batch.to_pylist()]
        results = list(function(rows))
        if clean:
            forget_all(rows)
        numbers = pa.array([number for number, _ in results], pa.int32())
        content = pa.array([pickle.dumps(result) for _, result in results], pa.binary())
        yield pa.RecordBatch.from_arrays([numbers, content], names=["partition", "result"])

    return run


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
            self._context.setLocalProperty("spark.job.description", self._before)
