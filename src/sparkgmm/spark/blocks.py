"""Rows of a DataFrame into numpy blocks, every row accounted for, and where the blocks live.

This runs on the executors: numpy and pyarrow, nothing else.

A partition's blocks go to one file in the executor's own Spark local directory, and the DataFrame
holds only its path. Spark caches that row, so tasks go where the file is, and rebuilds a lost one
from the source; the operating system caches the file; a pass maps it: no row crosses a socket.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import mmap
import os
import signal
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from sparkgmm.core.profile import Block, Profile, block_rows, grouped, take_rows
from sparkgmm.core.statistics import Kernel, run_kernels, total
from sparkgmm.mixture import Array
from sparkgmm.parts import MOST_LEVELS

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = (
    "partition int, path string, content binary, block_rows array<bigint>, "
    "counts binary, profile binary"
)
# A partition of no more than this travels in the row itself: no file, and no job to fetch it.
INLINE_BYTES = 2**16
# Blocks begin at multiples of this in a file.
_ALIGNMENT = 64


@dataclass(frozen=True)
class Layout:
    """How a projected row is laid out: d features of a dtype, in columns or a vector, a weight.

    `products` says whether its profile is to have them, `missing` whether a feature that is null or
    NaN is a missing value, rather than what makes a row invalid. `n_beside` columns of parts beside
    the Gaussian are between the features and the weight.
    """

    d: int
    dtype: str
    vector: bool
    weighted: bool
    products: bool = True
    missing: bool = False
    n_beside: int = 0

    @property
    def width(self) -> int:
        """The columns of a block."""
        return self.d + self.n_beside

    def sizes(self, n_rows: int) -> tuple[int, int]:
        """Return the bytes that a block's values and weights take in a file."""
        values = self.width * n_rows * np.dtype(self.dtype).itemsize
        weights = 8 * n_rows if self.weighted else 0
        return _aligned(values), _aligned(weights)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT) * _ALIGNMENT


class Place(Protocol):
    """Where a partition's blocks are, in a file or inline; `block_rows` has the rows of each."""

    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def path(self) -> str | None: ...  # noqa: D102
    @property
    def content(self) -> bytes | None: ...  # noqa: D102
    @property
    def block_rows(self) -> Sequence[int]: ...  # noqa: D102


class BlockRow(Place, Protocol):
    """A row of the DataFrame of blocks: one a partition, with what was packed of its rows."""

    @property
    def counts(self) -> bytes: ...  # noqa: D102
    @property
    def profile(self) -> bytes | None: ...  # noqa: D102


class Counts(NamedTuple):
    """Rows read and what was wrong with the invalid ones; two of them add.

    `null`, `nan` and `infinite` count per feature, and once more for the weight; `negative` is
    about the weight, `ragged` about a vector of another length. Where values may be missing `null`
    and `nan` count them in all rows, valid or not.
    """

    read: int
    invalid: int
    ragged: int
    negative: int
    null: Array
    nan: Array
    infinite: Array

    @classmethod
    def unpack(cls, packed: bytes) -> Counts:
        """Undo `pack`."""
        numbers = np.frombuffer(packed, np.int64)
        return cls(*numbers[:4].tolist(), *numbers[4:].reshape(3, -1))

    def pack(self) -> bytes:
        """Return the counts as bytes."""
        scalars = np.array([self.read, self.invalid, self.ragged, self.negative], np.int64)
        return np.concatenate([scalars, self.null, self.nan, self.infinite]).tobytes()


class Findings(NamedTuple):
    """What the first look at rows found: their profile, None without rows in blocks, and counts."""

    profile: Profile | None
    counts: Counts

    @classmethod
    def of(cls, row: BlockRow, layout: Layout) -> Findings:
        """Read what is packed in a row of the DataFrame of blocks."""
        packed = row.profile
        profile = None if packed is None else Profile.unpack(np.frombuffer(packed), layout.d)
        return cls(profile, Counts.unpack(row.counts))

    @staticmethod
    def n_bytes(layout: Layout) -> int:
        """Return how many bytes the findings of a partition take."""
        d = layout.d
        scatter = d * d if layout.products else d
        at_all = 3 * (layout.width + layout.weighted)
        return 8 * (6 + scatter + 3 * d + at_all + layout.missing * (1 + 2 * d))


@dataclass(frozen=True)
class PartitionSummary:
    """What the driver knows of a partition: where its blocks are and how many rows they have.

    `content` and `findings` are None where they would be too much for the driver.
    """

    partition: int
    path: str | None
    content: bytes | None
    block_rows: tuple[int, ...]
    fingerprint: bytes
    findings: Findings | None

    @property
    def n_rows(self) -> int:
        """The rows in its blocks."""
        return sum(self.block_rows)


@dataclass(frozen=True)
class Decoded:
    """A batch of rows as read: X (d, n), weights (n,) or None, and which rows are valid.

    What is wrong with them is told for each feature and the weight, whose `values` these are: which
    are null, NaN or infinite. `ragged` and `negative` (n,) are as in `Counts`.
    """

    X: Array
    w: Array | None
    valid: Array
    ragged: Array
    negative: Array
    values: Array
    absent: Array

    @cached_property
    def null(self) -> Array:
        """Which values are null, but for vectors of another length."""
        return np.asarray(self.absent & ~self.ragged)

    @cached_property
    def nan(self) -> Array:
        """Which values are NaN, but for vectors of another length."""
        return np.asarray(np.isnan(self.values) & ~self.absent & ~self.ragged)

    @cached_property
    def infinite(self) -> Array:
        """Which values are infinite."""
        return np.asarray(np.isinf(self.values))


def block_maker(
    layout: Layout,
) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return the function that mapInArrow runs on a partition of projected rows.

    Blocks are of a fixed number of rows whatever the size of the batches, so the bits depend on
    the data alone.
    """

    def make_blocks(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from pyspark import TaskContext

        context = TaskContext.get()
        partition = 0 if context is None else context.partitionId()
        prepare_worker()
        tally, buffer, profile = Tally(layout), _Buffer(layout), None
        with _Store(layout) as store:
            for arrow_batch in batches:
                for block in buffer.add(tally.counted(decode(arrow_batch, layout))):
                    profile = _joined(profile, _profile(block, layout))
                    store.write(grouped(block, layout.n_beside) if layout.missing else block)
            for block in buffer.rest():
                profile = _joined(profile, _profile(block, layout))
                store.write(grouped(block, layout.n_beside) if layout.missing else block)
            path, content = store.close()
        packed = None if profile is None else profile.pack().tobytes()
        row = (partition, path, content, store.block_rows, tally.total().pack(), packed)
        yield _as_batch(row)

    return make_blocks


def distinct_levels(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Return the distinct texts of each column of a partition, with the column's number.

    A column that has too many for a categorical one brings one more than it may have.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    prepare_worker()
    found: list[set[str]] = []
    for batch in batches:
        found = found or [set() for _ in range(batch.num_columns)]
        for levels, column in zip(found, batch.columns, strict=True):
            if len(levels) <= MOST_LEVELS:
                levels.update(text for text in pc.unique(column).to_pylist() if text is not None)
    for i, levels in enumerate(found):
        some = sorted(levels)[: MOST_LEVELS + 1]
        numbers = pa.array([i] * len(some), pa.int32())
        yield pa.RecordBatch.from_arrays([numbers, pa.array(some, pa.string())], ["at", "level"])


def prepare_worker() -> None:
    """Prepare a worker of Spark's: it ends quietly, and its tasks cost less.

    At its first write to a task that Spark gave up, or when it is let go, it would leave a
    traceback about a broken pipe on the terminal. And the daemon collects garbage after each task:
    10 ms spent on modules that stay, unless they are frozen.
    """
    from pyspark import TaskContext

    if TaskContext.get() is not None:  # not a process that called us by itself
        with contextlib.suppress(AttributeError, ValueError):  # not on Windows, not in a thread
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if not gc.get_freeze_count():
            gc.freeze()


def _profile(block: Block, layout: Layout) -> Profile:
    return Profile.of(block, layout.products, layout.n_beside)


def _joined(profile: Profile | None, more: Profile) -> Profile:
    return more if profile is None else profile + more


def _as_batch(row: tuple[Any, ...]) -> pa.RecordBatch:
    import pyarrow as pa

    schema = pa.schema(
        [
            ("partition", pa.int32()),
            ("path", pa.string()),
            ("content", pa.binary()),
            ("block_rows", pa.list_(pa.int64())),
            ("counts", pa.binary()),
            ("profile", pa.binary()),
        ]
    )
    arrays = [pa.array([value], kind) for value, kind in zip(row, schema.types, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class _Store:
    """Keeps a partition's blocks: in memory while they are few, then in a file.

    Where the disk is full they stay in memory, and travel in the row, which Spark caches.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._memory: bytearray | None = bytearray()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._done = False
        self.block_rows: list[int] = []

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if not self._done and self._path is not None:  # a task that failed leaves nothing
            self._path.unlink(missing_ok=True)

    def write(self, block: Block) -> None:
        """Append a block."""
        self.block_rows.append(block.n_rows)
        for array, size in zip(block, self._layout.sizes(block.n_rows), strict=True):
            if array is not None:
                self._append(array.tobytes().ljust(size, b"\0"))

    def close(self) -> tuple[str | None, bytes | None]:
        """Return the path of the file, or else the content."""
        if self._file is not None:
            try:
                self._file.flush()
            except OSError:
                self._back_to_memory(b"")
        self._done = True
        if self._memory is not None:
            return None, bytes(self._memory)
        return str(self._path), None

    def _append(self, content: bytes) -> None:
        if self._memory is not None:
            self._memory += content
            if self._file is None and self._path is None and len(self._memory) > INLINE_BYTES:
                self._to_file()
        elif self._file is not None:
            try:
                self._file.write(content)
            except OSError:
                self._back_to_memory(content)

    def _to_file(self) -> None:
        assert self._memory is not None
        self._path = _local_directory() / f"sparkgmm-{uuid.uuid4().hex}.blocks"
        try:
            self._file = self._path.open("wb", buffering=0)
            self._file.write(self._memory)
        except OSError:
            self._path.unlink(missing_ok=True)
            self._file = None
        else:
            self._memory = None

    def _back_to_memory(self, content: bytes) -> None:
        """The disk is full: take back what is in the file, without what was half-written."""
        assert self._path is not None
        whole = sum(sum(self._layout.sizes(n)) for n in self.block_rows) - len(content)
        self._memory = bytearray(self._path.read_bytes()[:whole])
        self._memory += content
        self._path.unlink(missing_ok=True)
        self._file = None


def _local_directory() -> Path:
    """Return the directory that Spark gave this executor, and clears when it ends."""
    directories = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")
    usable = [Path(d) for d in directories if d and os.access(d, os.W_OK)]
    if not usable:
        import tempfile

        return Path(tempfile.gettempdir())
    return usable[os.getpid() % len(usable)]


class Tally:
    """Counts the rows of a partition as they come."""

    def __init__(self, layout: Layout) -> None:
        width = layout.width + layout.weighted
        self._missing = layout.missing
        self.read = self.invalid = self.ragged = self.negative = 0
        self.null, self.nan, self.infinite = (np.zeros(width, dtype=np.int64) for _ in range(3))

    def counted(self, rows: Decoded) -> Decoded:
        """Count what is wrong with some rows, and return them."""
        n = len(rows.valid)
        self.read += n
        all_valid = bool(rows.valid.all())
        if not all_valid:
            self.invalid += int(n - rows.valid.sum())
            self.ragged += int(rows.ragged.sum())
            self.negative += int(rows.negative.sum())
            self.infinite += rows.infinite.sum(axis=1)
        if self._missing or not all_valid:
            self.null += rows.null.sum(axis=1)
            self.nan += rows.nan.sum(axis=1)
        return rows

    def total(self) -> Counts:
        """Return what was counted."""
        return Counts(
            self.read, self.invalid, self.ragged, self.negative, self.null, self.nan, self.infinite
        )


class _Buffer:
    """Collects valid rows of positive weight into blocks of a fixed number of rows."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._capacity = block_rows(layout.width)
        self._values = np.empty((layout.width, self._capacity), dtype=layout.dtype)
        self._weights = np.empty(self._capacity) if layout.weighted else None
        self._filled = 0

    def add(self, batch: Decoded) -> Iterator[Block]:
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


def decode(batch: pa.RecordBatch, layout: Layout) -> Decoded:
    """Turn an arrow batch into arrays, and look at what is wrong with its rows."""
    n = batch.num_rows
    ragged = np.zeros(n, dtype=bool)
    X = np.empty((layout.width, n), dtype=layout.dtype)
    null = np.zeros((layout.width, n), dtype=bool)
    scalars = list(range(layout.width))
    if layout.vector:
        X[: layout.d], null[: layout.d], ragged = decode_vectors(batch.column(0), layout)
        scalars = scalars[layout.d :]
    for i, column in zip(scalars, batch.columns[layout.vector :], strict=False):
        X[i], null[i] = _decode_scalars(column)
    w = None
    everything, nulls = X, null
    if layout.weighted:
        w, w_null = _decode_scalars(batch.column(batch.num_columns - 1))
        everything, nulls = np.vstack([X, w]), np.vstack([null, w_null])
    good = np.isfinite(everything)
    if layout.missing:
        good[: layout.width] |= np.isnan(X)
    negative = np.zeros(n, dtype=bool) if w is None else w < 0
    valid = np.asarray(good.all(axis=0) & ~ragged & ~negative)
    return Decoded(X, w, valid, ragged, negative, everything, nulls)


def _decode_scalars(column: pa.Array) -> tuple[Array, Array]:
    values = column.to_numpy(zero_copy_only=False)
    if column.null_count == 0:
        return values, np.zeros(len(values), dtype=bool)
    return values, np.asarray(column.is_null().to_numpy(zero_copy_only=False))


def decode_vectors(column: pa.Array, layout: Layout) -> tuple[Array, Array, Array]:
    """Return X (d, n), its nulls, and which rows hold another number of values than d.

    A row that is null or of another length is NaN throughout.
    """
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


def blocks_of(row: Place, layout: Layout) -> list[Block] | None:
    """Return the blocks of a partition without a copy, or None if they are not here."""
    buffer: Any = row.content
    if row.path is not None:
        try:
            with Path(row.path).open("rb") as file:
                buffer = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        except OSError:
            return None
    elif buffer is None:
        return None
    blocks, offset = [], 0
    for n in row.block_rows:
        values_size, weights_size = layout.sizes(n)
        values = np.frombuffer(buffer, layout.dtype, layout.width * n, offset)
        values = values.reshape(layout.width, n)
        weights = None
        if layout.weighted:
            weights = np.frombuffer(buffer, np.float64, n, offset + values_size)
        blocks.append(Block(values, weights))
        offset += values_size + weights_size
    return blocks


OnPartition = Callable[[Iterable[Place]], Iterator[tuple[int, Any]]]
"""What runs on a partition: it yields the partition's number and a result, or None where the
blocks are not here. It reads all rows: PySpark 4.3 stalls 10 s where one stops early."""


def _on_blocks(layout: Layout, function: Callable[[int, list[Block]], Any]) -> OnPartition:
    def run(rows: Iterable[Place]) -> Iterator[tuple[int, Any]]:
        prepare_worker()
        for row in rows:
            blocks = blocks_of(row, layout)
            result = None if blocks is None else function(row.partition, blocks)
            yield row.partition, result

    return run


def summarise(layout: Layout, room: int) -> OnPartition:
    """Return what the driver has to know of each partition: a `PartitionSummary`.

    All of them bring about twice `room` bytes beside the rows' counts, however many they are: the
    first partitions' findings and content, as far as they fit. A task does not know how many there
    are.
    """

    def run(rows: Any) -> Iterator[tuple[int, Any]]:
        prepare_worker()
        for row in rows:
            brought = (row.partition + 1) * Findings.n_bytes(layout) <= room
            carried = (row.partition + 1) * INLINE_BYTES <= room and len(row.content or b"") <= (
                INLINE_BYTES
            )
            yield (
                row.partition,
                PartitionSummary(
                    row.partition,
                    row.path,
                    row.content if carried else None,
                    tuple(row.block_rows),
                    _fingerprint(row),
                    Findings.of(row, layout) if brought else None,
                ),
            )

    return run


def _fingerprint(row: BlockRow) -> bytes:
    """Return a digest of what must be the same when a partition is made again."""
    parts = [repr((row.partition, tuple(row.block_rows))).encode(), row.counts, row.profile or b""]
    return hashlib.blake2b(b"".join(parts), digest_size=16).digest()


def find(layout: Layout) -> OnPartition:
    """Return the findings of each partition."""

    def run(rows: Any) -> Iterator[tuple[int, Any]]:
        prepare_worker()
        for row in rows:
            yield row.partition, Findings.of(row, layout)

    return run


def join_findings(parts: Sequence[Findings]) -> Findings:
    """Add what was found of several partitions, in the order given."""
    profiles = [part.profile for part in parts if part.profile is not None]
    kinds = zip(*(part.counts for part in parts), strict=True)
    counts = Counts(*(reduce(add, values) for values in kinds))
    return Findings(reduce(add, profiles) if profiles else None, counts)


def fetch(layout: Layout, partitions: Collection[int] | None = None) -> OnPartition:
    """Return the blocks themselves, of all partitions or of some."""

    def copies(partition: int, blocks: list[Block]) -> list[Block]:
        if partitions is not None and partition not in partitions:
            return []
        return [
            Block(b.values.copy(), None if b.weights is None else b.weights.copy()) for b in blocks
        ]

    return _on_blocks(layout, copies)


def statistics(layout: Layout, kernels: tuple[Kernel, ...]) -> OnPartition:
    """Run the kernels on each block and add up, in order."""
    return _on_blocks(
        layout, lambda _, blocks: total([run_kernels(kernels, block) for block in blocks])
    )


def pick(layout: Layout, numbers: Mapping[int, Array]) -> OnPartition:
    """Take some rows of each partition, by their ascending numbers within it: a block or none."""

    def taken(partition: int, blocks: list[Block]) -> list[Block]:
        mine = numbers.get(partition, ())
        return [take_rows(blocks, np.asarray(mine))] if blocks and len(mine) else []

    return _on_blocks(layout, taken)


def forget(row: Place) -> bool:
    """Delete a partition's file; return False where one may be left that is not reached here."""
    if row.path is None:
        return True
    try:
        Path(row.path).unlink()
    except OSError:
        return False
    return True


def forget_all(rows: Iterable[Place]) -> Iterator[tuple[int, Any]]:
    """Delete the files of a partition, if they are within reach."""
    for row in rows:
        forget(row)
    return iter(())
