"""Score batches of Spark's vectors or arrays as they come from the JVM, without an object a row.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkgmm.errors import InputError
from sparkgmm.mixture import Array, Mixture
from sparkgmm.spark.blocks import settle_worker

if TYPE_CHECKING:
    import pyarrow as pa

# The fields of a scored row, in their order.
PROBABILITY, PREDICTION, LOG_DENSITY = FIELDS = ("probability", "prediction", "log_density")
# A vector's first field tells the dense from the sparse.
_DENSE = 1
_REMEDY = "mend or drop such rows before transform"


@dataclass(frozen=True)
class Scorer:
    """What to make of the batches of column `name`: a struct a row with the wanted fields.

    Probabilities leave as Spark's dense vectors, or as plain arrays where not `vectors`.
    """

    mixture: Mixture
    name: str
    wanted: tuple[str, ...]
    vectors: bool = True

    def __call__(self, batches: Iterable[tuple[pa.Array, ...]]) -> Iterator[pa.Array]:
        """Score a partition, a batch at a time."""
        settle_worker()
        for batch in batches:
            yield self.score(batch)

    def score(self, batch: tuple[pa.Array, ...]) -> pa.Array:
        """Score n rows, given as one array of arrays or as the four fields of vectors.

        Raises
        ------
        InputError
            If a row is null, of another length than the model's, or not finite.

        """
        import pyarrow as pa

        decode = decode_arrays if len(batch) == 1 else decode_vectors
        scores = self._scores(decode(*batch, self.mixture.d, self.name))
        made = {
            PROBABILITY: lambda: (encode if self.vectors else as_lists)(scores.responsibilities),
            PREDICTION: lambda: pa.array(
                scores.responsibilities.argmax(axis=1).astype(np.int32), pa.int32()
            ),
            LOG_DENSITY: lambda: pa.array(scores.log_density, pa.float64()),
        }
        return pa.StructArray.from_arrays([made[name]() for name in self.wanted], list(self.wanted))

    def _scores(self, X: Array) -> Any:
        try:
            return self.mixture.score(X)
        except InputError:
            finite = np.isfinite(X).all(axis=1)
            if finite.all():
                raise
            row = X[np.argmin(finite)].tolist()
            raise InputError(
                f"column {self.name!r} holds {_shortened(row)}, not finite numbers: {_REMEDY}"
            ) from None


def decode_vectors(
    kinds: pa.Array, sizes: pa.Array, indices: pa.Array, values: pa.Array, d: int, name: str
) -> Array:
    """Return the rows of a column of Spark's vectors, by its fields, (n, d); dense without a copy.

    Raises
    ------
    InputError
        If one is null or has another length than d.

    """
    _check_nulls(kinds, name)
    dense = kinds.to_numpy() == _DENSE
    if dense.all():
        return decode_arrays(values, d, name)
    counts = _lengths(values)
    _check_lengths(np.where(dense, counts, sizes.fill_null(0).to_numpy()), d, name)
    numbers = values.flatten().to_numpy()
    owner = np.repeat(np.arange(len(kinds)), counts)
    of_dense = dense[owner]
    X = np.zeros((len(kinds), d))
    X[dense] = numbers[of_dense].reshape(-1, d)
    X[owner[~of_dense], indices.flatten().to_numpy()] = numbers[~of_dense]
    return X


def decode_arrays(column: pa.Array, d: int, name: str) -> Array:
    """Return the rows of a column of arrays, (n, d), without a copy.

    Raises
    ------
    InputError
        If one is null, holds null, or has another length than d.

    """
    _check_nulls(column, name)
    _check_lengths(_lengths(column), d, name)
    values = column.flatten()
    if values.null_count:
        raise InputError(f"column {name!r} holds null inside an array: {_REMEDY}")
    return np.asarray(values.to_numpy().reshape(len(column), d))


def _check_nulls(column: pa.Array, name: str) -> None:
    if column.null_count:
        raise InputError(f"column {name!r} is null in {column.null_count:,} row(s): {_REMEDY}")


def _lengths(column: pa.Array) -> Array:
    """Return how many values each row holds, which is none where a row is null."""
    return np.asarray(np.diff(column.offsets.to_numpy()))


def _check_lengths(lengths: Array, d: int, name: str) -> None:
    other = lengths[lengths != d]
    if len(other):
        raise InputError(
            f"column {name!r} holds a vector of {other[0]} value(s), the model has {d} feature(s): "
            "give vectors of that length"
        )


def as_lists(R: Array) -> pa.Array:
    """Return the rows of R (n, k) as arrays of doubles, without a copy."""
    import pyarrow as pa

    n, k = R.shape
    offsets = pa.array(np.arange(0, (n + 1) * k, k, dtype=np.int32))
    kind = pa.list_(pa.field("element", pa.float64(), nullable=False))
    return pa.ListArray.from_arrays(offsets, pa.array(R.reshape(-1)), type=kind)


def encode(R: Array) -> pa.Array:
    """Return the rows of R (n, k) as dense vectors, as Spark lays them out."""
    import pyarrow as pa

    n = len(R)
    indices = pa.list_(pa.field("element", pa.int32(), nullable=False))
    arrays = [
        pa.array(np.full(n, _DENSE, dtype=np.int8)),
        pa.nulls(n, pa.int32()),
        pa.nulls(n, indices),
        as_lists(R),
    ]
    names = ("type", "size", "indices", "values")
    fields = [
        pa.field(name, array.type, nullable=name != "type")
        for name, array in zip(names, arrays, strict=True)
    ]
    return pa.StructArray.from_arrays(arrays, fields=fields)


def _shortened(row: list[float], most: int = 8) -> str:
    shown = ", ".join(f"{value:.6g}" for value in row[:most])
    return f"[{shown}, ...]" if len(row) > most else f"[{shown}]"
