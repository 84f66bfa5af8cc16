"""Rows that come sorted by their group: each group is fitted as soon as its last row is there.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkgmm.core.groups import fit_groups
from sparkgmm.core.rows import one_blas_thread
from sparkgmm.core.search import Search
from sparkgmm.core.together import FittedGroup
from sparkgmm.errors import SparkGmmError
from sparkgmm.mixture import Array
from sparkgmm.options import KEYS
from sparkgmm.spark.blocks import Decoded, Layout, decode, prepare_worker
from sparkgmm.spark.components import rows_of_model
from sparkgmm.spark.scoring import INVALID_ROW

if TYPE_CHECKING:
    import pyarrow as pa

# What is known of a group, after the columns that name it: names, and types as pyarrow
# calls them, `list` for int64s.
FIELDS = {
    "rows_used": "int64",
    "k": "int32",
    "covariance_type": "string",
    "log_likelihood": "float64",
    "bic": "float64",
    "converged": "bool_",
    "model": "string",
    "error": "string",
    "rows_read": "int64",
    "rows_invalid": "int64",
    "sum_of_weights": "float64",
    "n_parameters": "int32",
    "n_iter": "int32",
    "rows_set_aside": "int64",
    "exit_code": "int32",
    "large": "bool_",
    "faults": "list",
}
# Results leave a task so many groups at a time.
_GROUPS = 256

OnBatches = Callable[[Iterable["pa.RecordBatch"]], Iterator["pa.RecordBatch"]]


@dataclass(frozen=True)
class GroupTask:
    """How the rows of groups come, and what to do with them.

    The first `n_keys` columns of a batch name the group, then come the features, in columns or in
    one of vectors, and the weight where there is one. A group whose values take more than
    `most_bytes` is not kept: its row says that it is `large`. With `fail` an invalid row ends the
    task.
    """

    n_keys: int
    features: tuple[str, ...]
    vector: bool
    weighted: bool
    search: Search
    drop_constants: bool
    fail: bool
    most_bytes: int

    def on_batches(self) -> OnBatches:
        """Return the function that mapInArrow runs on a partition of rows sorted by their group."""
        return partial(_fit_groups, self)

    def groups(self, batches: Iterable[pa.RecordBatch]) -> Iterator[_Group]:
        """Yield each group when its rows are all there."""
        group: _Group | None = None
        for batch in batches:
            if not batch.num_rows:
                continue
            keys = batch.columns[: self.n_keys]
            starts = _run_starts(keys)
            rows = self._decode(batch)
            for first, last in zip(starts, [*starts[1:], batch.num_rows], strict=True):
                key = [column[first].as_py() for column in keys]
                if group is None or key != group.key:
                    if group is not None:
                        yield group
                    fields = [batch.schema.field(i) for i in range(self.n_keys)]
                    group = _Group(key, fields)
                group.add(rows, slice(first, last), self.most_bytes)
        if group is not None:
            yield group

    def _decode(self, batch: pa.RecordBatch) -> Decoded:
        """Return the rows of a batch as numbers, and what is wrong with them."""
        layout = Layout(len(self.features), "float64", self.vector, self.weighted)
        rows = decode(batch.select(range(self.n_keys, batch.num_columns)), layout)
        if self.fail and not rows.valid.all():
            raise ValueError(INVALID_ROW)
        return rows


def _fit_groups(task: GroupTask, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    prepare_worker()
    found: list[tuple[list[Any], dict[str, Any]]] = []
    keys: Sequence[pa.Field] = ()

    def small() -> Iterator[tuple[_Group, Array, Array | None]]:
        nonlocal keys
        for group in task.groups(batches):
            keys = group.fields
            if group.large:
                found.append((group.key, group.counted() | {"large": True}))
            else:
                yield group, *group.rows(len(task.features))

    with one_blas_thread:
        fits = fit_groups(small(), task.search, task.features, task.drop_constants)
        for group, fitted in fits:
            found.append((group.key, group.counted() | _known(fitted)))
            if len(found) >= _GROUPS:
                yield _as_batch(found, keys)
                found = []
    if found:
        yield _as_batch(found, keys)


def _known(fitted: FittedGroup | Exception) -> dict[str, Any]:
    """Return the part of `FIELDS` that a fit gives."""
    if isinstance(fitted, SparkGmmError):
        fitted.names = KEYS
        return {"error": str(fitted), "exit_code": fitted.exit_code}
    if isinstance(fitted, Exception):
        return {"error": f"unexpected: {type(fitted).__name__}: {fitted}", "exit_code": 1}
    return of_fitted(fitted)


def of_fitted(fitted: FittedGroup) -> dict[str, Any]:
    """Return the part of `FIELDS` that a group with a mixture gives."""
    return {
        "k": fitted.k,
        "covariance_type": fitted.covariance_type,
        "log_likelihood": fitted.log_likelihood,
        "bic": fitted.bic,
        "converged": fitted.converged,
        "model": json.dumps(fitted.model, ensure_ascii=False),
        "sum_of_weights": fitted.weight,
        "n_parameters": fitted.n_parameters,
        "n_iter": fitted.n_iter,
        "rows_set_aside": fitted.rows_set_aside,
    }


@dataclass
class _Group:
    """The rows of a group as they come."""

    key: list[Any]
    fields: Sequence[pa.Field]
    n_read: int = 0
    n_invalid: int = 0
    n_values: int = 0
    large: bool = False
    faults: Array | None = None
    _X: list[Array] = field(default_factory=list)
    _w: list[Array] = field(default_factory=list)

    def add(self, rows: Decoded, here: slice, most_bytes: int) -> None:
        """Take the rows of a batch that are here."""
        valid = rows.valid[here]
        X, w = rows.X[:, here], None if rows.w is None else rows.w[here]
        n = len(valid)
        self.n_read += n
        if not valid.all():
            self.n_invalid += int(n - valid.sum())
            scalars = [int(rows.ragged[here].sum()), int(rows.negative[here].sum())]
            kinds = (rows.null, rows.nan, rows.infinite)
            faults = np.concatenate([scalars, *(kind[:, here].sum(axis=1) for kind in kinds)])
            self.faults = faults if self.faults is None else self.faults + faults
        keep = valid if w is None else valid & (w > 0)
        self.n_values += int(keep.sum()) * len(X)
        if 8 * self.n_values > most_bytes:
            self.large, self._X, self._w = True, [], []
        if not self.large:
            self._X.append(X[:, keep])
            if w is not None:
                self._w.append(w[keep])

    def rows(self, d: int) -> tuple[Array, Array | None]:
        """Return the valid rows of positive weight, (n, d), and their weights, (n,), if any.

        They are not kept any longer.
        """
        X = np.concatenate(self._X, axis=1).T if self._X else np.empty((0, d))
        w = np.concatenate(self._w) if self._w else None
        self._X, self._w = [], []
        return X, w

    def counted(self) -> dict[str, Any]:
        """Return what was counted of its rows."""
        return {
            "rows_used": self.n_read - self.n_invalid,
            "rows_read": self.n_read,
            "rows_invalid": self.n_invalid,
            "faults": None if self.faults is None else self.faults.tolist(),
            "large": False,
        }


def _run_starts(keys: Sequence[pa.Array]) -> list[int]:
    """Return where another group begins; a null is equal to a null."""
    import pyarrow.compute as pc

    same = np.ones(len(keys[0]) - 1, dtype=bool)
    for column in keys:
        null = np.asarray(column.is_null().to_numpy(zero_copy_only=False))
        equal = pc.fill_null(pc.equal(column[1:], column[:-1]), False)
        same &= equal.to_numpy(zero_copy_only=False) | (null[1:] & null[:-1])
    return [0, *(np.flatnonzero(~same) + 1).tolist()]


def _as_batch(
    found: Sequence[tuple[list[Any], dict[str, Any]]], keys: Sequence[pa.Field]
) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = [pa.array([key[i] for key, _ in found], f.type) for i, f in enumerate(keys)]
    fields = [pa.field(f.name, f.type) for f in keys]
    for name, kind in FIELDS.items():
        dtype = pa.list_(pa.int64()) if kind == "list" else getattr(pa, kind)()
        arrays.append(pa.array([values.get(name) for _, values in found], dtype))
        fields.append(pa.field(name, dtype))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def component_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield a row for each component of the mixtures in the last column, as JSON."""
    import pyarrow as pa

    vector = pa.list_(pa.float64())
    kinds = {
        "component": pa.int32(),
        "weight": pa.float64(),
        "mean": vector,
        "covariance": pa.list_(vector),
    }
    for batch in batches:
        which, rows = [], []
        for i, model in enumerate(batch.column(batch.num_columns - 1).to_pylist()):
            mine = rows_of_model(json.loads(model))
            which += [i] * len(mine)
            rows += mine
        keys = [column.take(pa.array(which, pa.int64())) for column in batch.columns[:-1]]
        arrays = [pa.array([getattr(row, name) for row in rows], t) for name, t in kinds.items()]
        fields = [batch.schema.field(i) for i in range(batch.num_columns - 1)]
        fields += [pa.field(name, dtype) for name, dtype in kinds.items()]
        yield pa.RecordBatch.from_arrays([*keys, *arrays], schema=pa.schema(fields))
