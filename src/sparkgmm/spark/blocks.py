"""Rows of a DataFrame into numpy blocks, every row accounted for.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from sparkgmm.core.profile import Block, Profile, block_rows, take_rows
from sparkgmm.core.statistics import Kernel, Sums, run_kernels, total
from sparkgmm.mixture import Array

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "values binary, weights binary, counts array<bigint>"


@dataclass(frozen=True)
class Layout:
    """How a projected row is laid out: d features of a dtype, in columns or a vector, a weight."""

    d: int
    dtype: str
    vector: bool
    weighted: bool


class Counts(NamedTuple):
    """Rows read and what was wrong with the invalid ones; two of them add.

    `null`, `nan` and `infinite` count per feature, and once more for the weight; `negative` is
    about the weight, `ragged` about a vector of another length.
    """

    read: int
    invalid: int
    ragged: int
    negative: int
    null: Array
    nan: Array
    infinite: Array

    @classmethod
    def unpack(cls, packed: Sequence[int]) -> Counts:
        """Undo `pack`."""
        kinds = np.array(packed[4:], dtype=np.int64).reshape(3, -1)
        return cls(packed[0], packed[1], packed[2], packed[3], *kinds)

    def pack(self) -> list[int]:
        """Return the counts as one flat list."""
        scalars = [self.read, self.invalid, self.ragged, self.negative]
        return [*scalars, *np.concatenate([self.null, self.nan, self.infinite]).tolist()]


class _Batch(NamedTuple):
    """A batch of rows as read: X (d, n), weights (n,) or None, and which rows are valid."""

    X: Array
    w: Array | None
    valid: Array


def block_maker(
    layout: Layout,
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that mapInArrow runs on a partition of projected rows.

    It yields a row a block and, last, a row with the partition's counts. Blocks are of a fixed
    number of rows whatever the size of the batches, so the bits depend on the data alone.
    """

    def make_blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        schema = pa.schema(
            [
                ("values", pa.binary()),
                ("weights", pa.binary()),
                ("counts", pa.list_(pa.int64())),
            ]
        )

        def row(values: bytes | None, weights: bytes | None, counts: Any) -> pa.RecordBatch:
            columns = ([values], [weights], [counts])
            arrays = [pa.array(c, t) for c, t in zip(columns, schema.types, strict=True)]
            return pa.RecordBatch.from_arrays(arrays, schema=schema)

        counts = Tally(layout)
        buffer = _Buffer(layout)
        for arrow_batch in batches:
            batch = _decode(arrow_batch, layout, counts)
            for block in buffer.add(batch):
                yield row(*_to_bytes(block), None)
        for block in buffer.rest():
            yield row(*_to_bytes(block), None)
        yield row(None, None, counts.total().pack())

    return make_blocks


def _to_bytes(block: Block) -> tuple[bytes, bytes | None]:
    return block.values.tobytes(), None if block.weights is None else block.weights.tobytes()


def from_row(values: bytes, weights: bytes | None, layout: Layout) -> Block:
    """Read a block back from the bytes of a row, without a copy."""
    return Block(
        np.frombuffer(values, dtype=layout.dtype).reshape(layout.d, -1),
        None if weights is None else np.frombuffer(weights, dtype=np.float64),
    )


class Tally:
    """Counts the rows of a partition as they come."""

    def __init__(self, layout: Layout) -> None:
        width = layout.d + layout.weighted
        self.read = self.invalid = self.ragged = self.negative = 0
        self.null, self.nan, self.infinite = (np.zeros(width, dtype=np.int64) for _ in range(3))

    def total(self) -> Counts:
        """Return what was counted."""
        return Counts(
            self.read, self.invalid, self.ragged, self.negative, self.null, self.nan, self.infinite
        )


class _Buffer:
    """Collects valid rows of positive weight into blocks of a fixed number of rows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._capacity = block_rows(layout.d)
        self._values = np.empty((layout.d, self._capacity), dtype=layout.dtype)
        self._weights = np.empty(self._capacity) if layout.weighted else None
        self._filled = 0

    def add(self, batch: _Batch) -> Iterator[Block]:
        keep = batch.valid if batch.w is None else batch.valid & (batch.w > 0)
        X, w = batch.X, batch.w
        if not keep.all():
            X, w = X[:, keep], None if w is None else w[keep]
        start, n = 0, X.shape[1]
        while start < n:
            taken = min(n - start, self._capacity - self._filled)
            here = slice(self._filled, self._filled + taken)
            self._values[:, here] = X[:, start : start + taken]
            if self._weights is not None and w is not None:
                self._weights[here] = w[start : start + taken]
            self._filled += taken
            start += taken
            if self._filled == self._capacity:
                yield from self.rest()

    def rest(self) -> Iterator[Block]:
        if self._filled:
            used = slice(0, self._filled)
            weights = None if self._weights is None else self._weights[used]
            yield Block(self._values[:, used], weights)
            self._filled = 0


def _decode(batch: pa.RecordBatch, layout: Layout, tally: Tally) -> _Batch:
    """Turn an arrow batch into arrays and count what is wrong with its rows."""
    n = batch.num_rows
    ragged = np.zeros(n, dtype=bool)
    if layout.vector:
        X, null, ragged = _decode_vectors(batch.column(0), layout)
    else:
        X = np.empty((layout.d, n), dtype=layout.dtype)
        null = np.zeros((layout.d, n), dtype=bool)
        for i in range(layout.d):
            X[i], null[i] = _decode_scalars(batch.column(i))
    w = None
    everything, nulls = X, null
    if layout.weighted:
        w, w_null = _decode_scalars(batch.column(batch.num_columns - 1))
        everything, nulls = np.vstack([X, w]), np.vstack([null, w_null])
    finite = np.isfinite(everything)
    valid = finite.all(axis=0) & ~ragged
    negative = np.zeros(n, dtype=bool) if w is None else w < 0
    valid &= ~negative
    tally.read += n
    if not valid.all():
        tally.invalid += int(n - valid.sum())
        tally.ragged += int(ragged.sum())
        tally.negative += int(negative.sum())
        tally.null += (nulls & ~ragged).sum(axis=1)
        tally.nan += (np.isnan(everything) & ~nulls & ~ragged).sum(axis=1)
        tally.infinite += np.isinf(everything).sum(axis=1)
    return _Batch(X, w, valid)


def _decode_scalars(column: pa.Array) -> tuple[Array, Array]:
    values = column.to_numpy(zero_copy_only=False)
    if column.null_count == 0:
        return values, np.zeros(len(values), dtype=bool)
    return values, np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def _decode_vectors(column: pa.Array, layout: Layout) -> tuple[Array, Array, Array]:
    """Return X (d, n), its nulls, and which rows hold another number of values than d."""
    n, d = len(column), layout.d
    row_null = np.asarray(column.is_null().to_numpy(zero_copy_only=False))
    lengths = np.diff(column.offsets.to_numpy())
    ragged = ~row_null & (lengths != d)
    whole = ~row_null & ~ragged
    values, element_null = _decode_scalars(column.flatten())
    owner_whole = np.repeat(whole, np.where(row_null, 0, lengths))
    X = np.full((d, n), np.nan, dtype=layout.dtype)
    null = np.zeros((d, n), dtype=bool)
    X[:, whole] = values[owner_whole].reshape(-1, d).T
    null[:, whole] = element_null[owner_whole].reshape(-1, d).T
    null[:, row_null] = True
    return X, null, ragged


@dataclass(frozen=True)
class PartitionSummary:
    """What a partition sends back of the first look at its blocks."""

    index: int
    profile: Profile | None
    counts: Counts
    n_bytes: int

    @property
    def n_rows(self) -> int:
        """The rows in its blocks."""
        return 0 if self.profile is None else self.profile.n_rows


class BlockRow(Protocol):
    """A row of the DataFrame of blocks: a block, or the counts of its partition."""

    values: bytes
    weights: bytes | None
    counts: Sequence[int] | None


OnPartition = Callable[[int, Iterable[BlockRow]], Iterator[Any]]
"""What Spark runs on a partition. It reads all rows: PySpark 4.3 stalls 10 s where one stops."""


def blocks_of(rows: Iterable[BlockRow], layout: Layout) -> Iterator[Block]:
    """Yield the blocks of a partition in their order."""
    return (from_row(row.values, row.weights, layout) for row in rows if row.counts is None)


def summarise(layout: Layout) -> OnPartition:
    """Profile each partition and read its counts."""

    def run(index: int, rows: Iterable[BlockRow]) -> Iterator[PartitionSummary]:
        profile, counts, n_bytes = None, None, 0
        for row in rows:
            if row.counts is not None:
                counts = Counts.unpack(row.counts)
                continue
            block = from_row(row.values, row.weights, layout)
            n_bytes += block.values.nbytes
            this = Profile.of(block)
            profile = this if profile is None else profile + this
        if counts is not None:
            yield PartitionSummary(index, profile, counts, n_bytes)

    return run


def fetch(layout: Layout) -> OnPartition:
    """Return the blocks themselves."""

    def run(index: int, rows: Iterable[BlockRow]) -> Iterator[tuple[int, list[Block]]]:
        yield index, list(blocks_of(rows, layout))

    return run


def statistics(layout: Layout, kernels: tuple[Kernel, ...]) -> OnPartition:
    """Run the kernels on each block and add up, in order."""

    def run(index: int, rows: Iterable[BlockRow]) -> Iterator[tuple[int, list[Sums]]]:
        parts = [run_kernels(kernels, block) for block in blocks_of(rows, layout)]
        if parts:
            yield index, total(parts)

    return run


def pick(layout: Layout, numbers: dict[int, Array]) -> OnPartition:
    """Take some rows of each partition, by their ascending numbers within it."""

    def run(index: int, rows: Iterable[BlockRow]) -> Iterator[tuple[int, Block]]:
        blocks = list(blocks_of(rows, layout))
        if len(numbers.get(index, ())):
            yield index, take_rows(blocks, numbers[index])

    return run
