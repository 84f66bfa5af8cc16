"""Score batches of arrays as they come from the JVM, and return vectors, without an object a row.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.spark.blocks import Layout, decode_vectors, prepare_worker
from sparkgmm.spark.score_columns import Scored, as_lists
from sparkgmm.spark.scoring import Scorer

if TYPE_CHECKING:
    import pyarrow as pa

# What the first field of a dense vector holds; that of a sparse one is 0.
DENSE = 1
_REMEDY = "fix or drop such rows before transform"


@dataclass(frozen=True)
class ColumnScorer:
    """Scores the batches of the column `name`: a struct a row, of the columns to add.

    Arrays leave as Spark's dense vectors, or as plain arrays where not `vectors`.
    """

    scorer: Scorer
    name: str
    vectors: bool = True

    def __call__(self, batches: Iterable[pa.Array]) -> Iterator[pa.Array]:
        """Score a partition, a batch at a time."""
        prepare_worker()
        for batch in batches:
            yield self.score(batch)

    def score(self, batch: pa.Array) -> pa.Array:
        """Score n rows, given as arrays.

        Raises
        ------
        InputError
            If a row is null, of another length than the model's, or not finite.

        """
        import pyarrow as pa

        mixture = self.scorer.mixture
        missing = mixture.missing == "model"
        X = decode(batch, mixture.d, self.name, self.scorer.gaps, missing)
        scored = self._scored(X)
        arrays = self.scorer.arrays(scored, encode if self.vectors else as_lists)
        return pa.StructArray.from_arrays(arrays, self.scorer.names)

    def _scored(self, X: Array) -> Scored:
        try:
            return self.scorer.score(X)
        except InputError:
            finite = (~np.isinf(X) if self.scorer.gaps else np.isfinite(X)).all(axis=1)
            if finite.all():
                raise
            row = X[np.argmin(finite)].tolist()
            raise InputError(
                f"column {self.name!r} holds {_shortened(row)}, not finite numbers: {_REMEDY}"
            ) from None


def decode(column: pa.Array, d: int, name: str, gaps: bool = False, missing: bool = False) -> Array:
    """Return the rows of a column of arrays, (n, d), without a copy.

    Where there may be `gaps` a null inside an array is a NaN; where values may be `missing`, a row
    that is null is NaN throughout.

    Raises
    ------
    InputError
        If one has another length than d, or is null or holds null where that is not missing.

    """
    if missing and (column.null_count or column.flatten().null_count):
        layout = Layout(d, "float64", vector=True, weighted=False)
        X, _, ragged = decode_vectors(column, layout)
        if not ragged.any():
            return X.T
        column = column.drop_null()
    if column.null_count:
        raise InputError(f"column {name!r} is null in {column.null_count:,} row(s): {_REMEDY}")
    lengths = np.diff(column.offsets.to_numpy())
    if (lengths != d).any():
        raise InputError(
            f"column {name!r} holds a vector of {lengths[lengths != d][0]} value(s), the model has "
            f"{d} feature(s): give vectors of that length"
        )
    values = column.flatten()
    if values.null_count and gaps:
        return np.asarray(values.to_numpy(zero_copy_only=False).reshape(len(column), d))
    if values.null_count:
        raise InputError(f"column {name!r} holds null inside an array: {_REMEDY}")
    return np.asarray(values.to_numpy().reshape(len(column), d))


def encode(R: Array) -> pa.Array:
    """Return the rows of R (n, k) as dense vectors, as Spark lays them out."""
    import pyarrow as pa

    n = len(R)
    indices = pa.list_(pa.field("element", pa.int32(), nullable=False))
    arrays = [
        pa.array(np.full(n, DENSE, dtype=np.int8)),
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
