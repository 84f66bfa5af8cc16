"""Score rows of many groups, each by the mixture of its own.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sparkgmm.mixture import Array, Labels, Mixture
from sparkgmm.spark.blocks import Layout, decode_vectors, prepare_worker
from sparkgmm.spark.score_columns import ScoreColumn
from sparkgmm.spark.scoring import INVALID_ROW, Scorer

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Accumulator, Broadcast

# Rows are gathered up to so many values before they are scored, so that a group has some of them.
_VALUES = 2**22

OnBatches = Callable[[Iterable["pa.RecordBatch"]], Iterator["pa.RecordBatch"]]


class GroupCounts(NamedTuple):
    """Rows read and invalid ones; rows of groups that the run does not know, or has no mixture of.

    Spark adds what a task counted once, when it is done.
    """

    read: Accumulator[int]
    invalid: Accumulator[int]
    unknown: Accumulator[int]
    without: Accumulator[int]


@dataclass(frozen=True)
class GroupScorer:
    """Scores the batches of a table whose last column has the number of each row's group.

    `models` has the mixture of each number as JSON, None of a group without one. Rows of such a
    group, and of none, get nulls. The first `n_kept` columns go through; `sources` are the
    positions of the features, or of the one vector that holds them all. An invalid row fails the
    task, or is left out.
    """

    models: Broadcast[list[str | None]]
    features: tuple[str, ...]
    columns: tuple[ScoreColumn, ...]
    n_kept: int
    sources: tuple[int, ...]
    vector: bool
    fail: bool

    def on_batches(self, counts: GroupCounts) -> OnBatches:
        """Return the function that mapInArrow runs on a partition."""
        return partial(_score_batches, self, counts)

    def features_of(self, batch: pa.RecordBatch) -> Array:
        """Return X (d, n); what is null, or in a vector of another length, is NaN."""
        d = len(self.features)
        if self.vector:
            layout = Layout(d, "float64", vector=True, weighted=False)
            return decode_vectors(batch.column(self.sources[0]), layout)[0]
        X = np.empty((d, batch.num_rows))
        for i, source in enumerate(self.sources):
            X[i] = batch.column(source).to_numpy(zero_copy_only=False)
        return X


@dataclass
class _Known:
    """The scorers of a task, each made of its JSON when it is first needed."""

    task: GroupScorer
    found: dict[int, tuple[Scorer, Labels] | None] = field(default_factory=dict)

    def scorer(self, number: int) -> tuple[Scorer, Labels] | None:
        """Return the scorer of a group and which features it takes, None without a mixture."""
        if number not in self.found:
            text = self.task.models.value[number]
            self.found[number] = None if text is None else self._made(text)
        return self.found[number]

    def _made(self, text: str) -> tuple[Scorer, Labels]:
        mixture = Mixture.from_json(text)
        names = mixture.features or self.task.features
        which = np.array([self.task.features.index(name) for name in names])
        return Scorer(mixture, self.task.columns), which


def _score_batches(
    task: GroupScorer, counts: GroupCounts, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    prepare_worker()
    known = _Known(task)
    gathered: list[pa.RecordBatch] = []
    n_rows = 0
    for batch in batches:
        gathered.append(batch)
        n_rows += batch.num_rows
        if n_rows * (len(task.features) + 1) >= _VALUES:
            yield from _score(task, known, counts, gathered)
            gathered, n_rows = [], 0
    if gathered:
        yield from _score(task, known, counts, gathered)


def _score(
    task: GroupScorer, known: _Known, counts: GroupCounts, batches: list[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    table = pa.Table.from_batches(batches).combine_chunks()
    for batch in table.to_batches():
        counts.read.add(batch.num_rows)
        X = task.features_of(batch)
        valid = np.asarray(np.isfinite(X).all(axis=0))
        if not valid.all():
            if task.fail:
                raise ValueError(INVALID_ROW)
            counts.invalid.add(int(len(valid) - valid.sum()))
            batch, X = batch.filter(pa.array(valid)), X[:, valid]
        yield _scored(task, known, counts, batch, X)


def _scored(
    task: GroupScorer, known: _Known, counts: GroupCounts, batch: pa.RecordBatch, X: Array
) -> pa.RecordBatch:
    """Return a batch of valid rows X (d, n) with the columns added, in the order they came in."""
    import pyarrow as pa

    numbers = batch.column(batch.num_columns - 1).fill_null(-1).to_numpy(zero_copy_only=False)
    order = np.argsort(numbers, kind="stable")
    starts = np.flatnonzero(np.diff(numbers[order], prepend=-2))
    parts: list[list[Any]] = []
    for first, last in zip(starts, [*starts[1:], len(order)], strict=True):
        rows, number = order[first:last], int(numbers[order[first]])
        found = known.scorer(number) if number >= 0 else None
        if found is None:
            (counts.unknown if number < 0 else counts.without).add(len(rows))
            parts.append([pa.nulls(len(rows), _arrow_type(c)) for c in task.columns])
            continue
        scorer, which = found
        arrays = scorer.arrays(scorer.score(X[np.ix_(which, rows)].T))
        parts.append([a.cast(_arrow_type(c)) for a, c in zip(arrays, task.columns, strict=True)])
    back = pa.array(np.argsort(order, kind="stable"))
    added = [
        pa.concat_arrays([part[i] for part in parts]).take(back)
        if parts
        else pa.nulls(0, _arrow_type(column))
        for i, column in enumerate(task.columns)
    ]
    fields = [batch.schema.field(i) for i in range(task.n_kept)]
    fields += [
        pa.field(column.name, array.type) for column, array in zip(task.columns, added, strict=True)
    ]
    arrays = [*batch.columns[: task.n_kept], *added]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _arrow_type(column: ScoreColumn) -> pa.DataType:
    import pyarrow as pa

    doubles = pa.field("element", pa.float64(), nullable=False)
    types: Mapping[str, pa.DataType] = {
        "int": pa.int32(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "array<double>": pa.list_(doubles),
        "map<string,double>": pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False)),
    }
    return types[column.type]
