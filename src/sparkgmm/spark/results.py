"""On executors: what partitions yield, as bytes in a column where there is no RDD, and added up."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sparkgmm.core.tree import add_groups, group_of
from sparkgmm.spark.blocks import OnPartition, forget_all, prepare_worker

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "part_group int, partition int, result binary"
Combine = Callable[[Sequence[Any]], Any]
"""Adds results of partitions in the order given."""
Numbered = tuple[int, Any]
OnBatches = Callable[[Iterable["pa.RecordBatch"]], Iterator["pa.RecordBatch"]]


def add_members(combine: Combine) -> Callable[[Iterable[Numbered]], Iterator[Numbered]]:
    """Return the function that adds the groups whose members a task has."""

    def add(members: Iterable[Numbered]) -> Iterator[Numbered]:
        prepare_worker()
        return add_groups(members, lambda results: combine_unless_lost(combine, results))

    return add


def combine_unless_lost(combine: Combine, results: Sequence[Any]) -> Any:
    """Add results up, or return None where one is None: its blocks were not where it ran."""
    return None if any(result is None for result in results) else combine(results)


def mapper(function: OnPartition, clean: bool) -> OnBatches:
    """Return what mapInArrow runs on the blocks; `clean` deletes the files that it has read."""

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        prepare_worker()
        rows = [SimpleNamespace(**row) for batch in batches for row in batch.to_pylist()]
        results = list(function(rows))
        if clean:
            forget_all(rows)
        yield _packed(results)

    return run


def adder(combine: Combine) -> OnBatches:
    """Return what mapInArrow runs on results, to add the groups whose members a task has."""
    add = add_members(combine)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        rows = (row for batch in batches for row in batch.to_pylist())
        yield _packed(list(add(map(unpacked, rows))))

    return run


def unpacked(row: Any) -> Numbered:
    """Undo what was packed into a row."""
    return row["partition"], pickle.loads(row["result"])


def _packed(results: Sequence[Numbered]) -> pa.RecordBatch:
    import pyarrow as pa

    numbers = [number for number, _ in results]
    arrays = [
        pa.array([group_of(number) for number in numbers], pa.int32()),
        pa.array(numbers, pa.int32()),
        pa.array([pickle.dumps(result) for _, result in results], pa.binary()),
    ]
    return pa.RecordBatch.from_arrays(arrays, names=["part_group", "partition", "result"])
