"""Rows into blocks, on one partition and without a session: what an executor does."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from sparkgmm.core.profile import Profile, block_rows
from sparkgmm.spark import blocks
from sparkgmm.spark.blocks import Counts, Layout, block_maker, blocks_of, fetch, forget, pick

pytestmark = pytest.mark.spark

D = 40  # wide enough for small blocks
PLAIN = Layout(D, "float64", vector=False, weighted=False)


@pytest.fixture(name="X")
def rows_of_three_blocks() -> np.ndarray:
    """Rows for two whole blocks and a rest, (n, D)."""
    n = 2 * block_rows(D) + 100
    return np.random.default_rng(0).normal(size=(n, D))


@pytest.fixture(autouse=True)
def local_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory that Spark gives an executor."""
    directory = tmp_path / "local"
    directory.mkdir()
    monkeypatch.setenv("SPARK_LOCAL_DIRS", str(directory))
    return directory


def batches(X: np.ndarray, step: int, w: np.ndarray | None = None) -> Iterator[pa.RecordBatch]:
    """Cut rows into arrow batches, as Spark hands them over."""
    columns = [*X.T, *([] if w is None else [w])]
    names = [f"f{i}" for i in range(len(columns))]
    for start in range(0, len(X), step):
        arrays = [pa.array(column[start : start + step]) for column in columns]
        yield pa.RecordBatch.from_arrays(arrays, names=names)


def made(stream: Iterator[pa.RecordBatch], layout: Layout) -> Any:
    """Run the maker on a partition and return its one row."""
    [batch] = block_maker(layout)(stream)
    [row] = batch.to_pylist()
    return SimpleNamespace(**row)


def values(row: Any, layout: Layout) -> list[np.ndarray]:
    found = blocks_of(row, layout)
    assert found is not None
    return [block.values for block in found]


def test_blocks_hold_every_row_in_order_feature_major(X: np.ndarray) -> None:
    row = made(batches(X, 1000), PLAIN)
    found = values(row, PLAIN)
    assert [block.shape[1] for block in found] == [block_rows(D), block_rows(D), 100]
    assert row.block_rows == [block_rows(D), block_rows(D), 100]
    np.testing.assert_array_equal(np.concatenate(found, axis=1), X.T)
    assert all(block.flags.c_contiguous for block in found)


def test_the_size_of_arrow_batches_leaves_no_trace(X: np.ndarray) -> None:
    rows = [made(batches(X, step), PLAIN) for step in (7, 1000, 10**6)]
    assert rows[0].profile == rows[1].profile == rows[2].profile
    for other in rows[1:]:
        for a, b in zip(values(rows[0], PLAIN), values(other, PLAIN), strict=True):
            np.testing.assert_array_equal(a, b)


def test_the_profile_is_that_of_the_rows(X: np.ndarray) -> None:
    X = X * 1e-3 + 1e6
    row = made(batches(X, 1000), PLAIN)
    profile = Profile.unpack(np.frombuffer(row.profile), D)
    assert profile.n_rows == len(X)
    np.testing.assert_allclose(profile.mean, X.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(profile.variance, X.var(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(profile.low, X.min(axis=0))
    np.testing.assert_array_equal(profile.high, X.max(axis=0))


def test_float_rows_take_half_the_room(X: np.ndarray) -> None:
    layout = Layout(D, "float32", vector=False, weighted=False)
    row = made(batches(X.astype(np.float32), 1000), layout)
    found = np.concatenate(values(row, layout), axis=1)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, X.T.astype(np.float32))


def test_rows_of_no_weight_are_read_and_valid_but_in_no_block() -> None:
    layout = Layout(2, "float64", vector=False, weighted=True)
    X = np.arange(8.0).reshape(4, 2)
    row = made(batches(X, 3, np.array([1.0, 0.0, 2.5, 0.0])), layout)
    counts = Counts.unpack(row.counts)
    assert (counts.read, counts.invalid) == (4, 0)
    [block] = blocks_of(row, layout) or []
    np.testing.assert_array_equal(block.values, X[[0, 2]].T)
    np.testing.assert_array_equal(block.weights, [1.0, 2.5])


def test_each_kind_of_invalid_value_is_counted_at_its_column() -> None:
    layout = Layout(2, "float64", vector=False, weighted=True)
    columns = [
        pa.array([1.0, None, float("nan"), 4.0, 5.0, 6.0, 7.0, None]),
        pa.array([1.0, 2.0, float("inf"), float("-inf"), 5.0, 6.0, 7.0, 8.0]),
        pa.array([1.0, 1.0, 1.0, 1.0, -1.0, None, float("nan"), float("-inf")]),
    ]
    batch = pa.RecordBatch.from_arrays(columns, names=["f0", "f1", "weight"])
    row = made(iter([batch]), layout)
    counts = Counts.unpack(row.counts)
    assert (counts.read, counts.invalid, counts.ragged, counts.negative) == (8, 7, 0, 2)
    np.testing.assert_array_equal(counts.null, [2, 0, 1])
    np.testing.assert_array_equal(counts.nan, [1, 0, 1])
    np.testing.assert_array_equal(counts.infinite, [0, 2, 1])
    assert row.block_rows == [1]


def test_vectors_of_another_length_and_null_ones_are_counted() -> None:
    layout = Layout(2, "float64", vector=True, weighted=False)
    column = pa.array(
        [[1.0, 2.0], None, [3.0], [], [4.0, None], [5.0, 6.0, 7.0], [float("nan"), 1.0], [8.0, 9.0]]
    )
    row = made(iter([pa.RecordBatch.from_arrays([column], names=["f0"])]), layout)
    counts = Counts.unpack(row.counts)
    assert (counts.read, counts.invalid, counts.ragged) == (8, 6, 3)
    np.testing.assert_array_equal(counts.null, [1, 2])
    np.testing.assert_array_equal(counts.nan, [1, 0])
    [found] = values(row, layout)
    np.testing.assert_array_equal(found, [[1.0, 8.0], [2.0, 9.0]])


def test_a_slice_of_a_vector_column_is_read_from_its_own_start() -> None:
    layout = Layout(2, "float64", vector=True, weighted=False)
    column = pa.array([[0.0, 0.0], None, [1.0, 2.0], [3.0], [4.0, 5.0]]).slice(2)
    row = made(iter([pa.RecordBatch.from_arrays([column], names=["f0"])]), layout)
    [found] = values(row, layout)
    np.testing.assert_array_equal(found, [[1.0, 4.0], [2.0, 5.0]])


def test_an_empty_partition_reports_that_it_is_empty() -> None:
    row = made(iter([]), PLAIN)
    assert Counts.unpack(row.counts).read == 0
    assert row.profile is None
    assert blocks_of(row, PLAIN) == []


def test_an_empty_partition_has_no_rows_to_pick() -> None:
    row = made(iter([]), PLAIN)
    assert list(pick(PLAIN, {0: np.arange(0)})([row])) == [(0, [])]


def test_picked_rows_are_those_asked_for(X: np.ndarray) -> None:
    row = made(batches(X, 1000), PLAIN)
    numbers = np.array([0, 5, block_rows(D) - 1, block_rows(D), len(X) - 1])
    [(_, [picked])] = pick(PLAIN, {0: numbers})([row])
    np.testing.assert_array_equal(picked.values, X[numbers].T)


def test_a_small_partition_travels_in_its_row_and_a_large_one_in_a_file(
    X: np.ndarray, local_directory: Path
) -> None:
    small = made(batches(X[:10], 1000), PLAIN)
    assert small.path is None
    assert list(local_directory.iterdir()) == []
    large = made(batches(X, 1000), PLAIN)
    assert large.content is None
    assert list(local_directory.iterdir()) == [Path(large.path)]


def test_fetched_blocks_outlive_their_file(X: np.ndarray, local_directory: Path) -> None:
    row = made(batches(X, 1000), PLAIN)
    [(_, found)] = fetch(PLAIN)([row])
    forget(row)
    assert list(local_directory.iterdir()) == []
    np.testing.assert_array_equal(np.concatenate([b.values for b in found], axis=1), X.T)


def test_a_file_that_is_gone_is_reported_and_not_an_error(X: np.ndarray) -> None:
    row = made(batches(X, 1000), PLAIN)
    forget(row)
    forget(row)
    assert blocks_of(row, PLAIN) is None
    assert list(fetch(PLAIN)([row])) == [(0, None)]


def test_a_task_that_fails_leaves_no_file(X: np.ndarray, local_directory: Path) -> None:
    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches(X, 1000)
        assert len(list(local_directory.iterdir())) == 1
        raise OSError("the source went away")

    with pytest.raises(OSError, match="went away"):
        list(block_maker(PLAIN)(broken()))
    assert list(local_directory.iterdir()) == []


@pytest.mark.parametrize("room", [0, 1, 2])
def test_on_a_full_disk_the_blocks_travel_in_the_row(
    X: np.ndarray, local_directory: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    class Full(io.FileIO):
        writes = 0

        def write(self, content: Any) -> int:
            type(self).writes += 1
            if type(self).writes > room:
                super().write(bytes(content)[:100])  # half-written, as a full disk leaves it
                raise OSError(28, "No space left on device")
            return super().write(content)

    def open_full(path: Path, mode: str = "r", **_: Any) -> io.FileIO:
        return Full(str(path), mode.replace("b", ""))

    before = values(made(batches(X, 1000), PLAIN), PLAIN)
    for file in local_directory.iterdir():
        file.unlink()
    monkeypatch.setattr(blocks.Path, "open", open_full)
    row = made(batches(X, 1000), PLAIN)
    assert Full.writes == room + 1
    assert row.path is None
    assert list(local_directory.iterdir()) == []
    for a, b in zip(before, values(row, PLAIN), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("d", "dtype", "weighted"), [(2, "float32", False), (10, "float64", True)])
def test_what_is_kept_is_hardly_more_than_the_raw_rows(d: int, dtype: str, weighted: bool) -> None:
    layout = Layout(d, dtype, vector=False, weighted=weighted)
    n = block_rows(d)
    raw = n * (d * np.dtype(dtype).itemsize + 8 * weighted)
    assert sum(layout.sizes(n)) <= 1.001 * raw
