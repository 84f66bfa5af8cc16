"""Score batches of rows as they come; the columns to keep go through as they are.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sparkgmm.mixture import Array, Mixture
from sparkgmm.spark.blocks import Layout, decode_vectors, settle_worker

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Accumulator

# What a task that must not go on says; the driver then tells what is wrong with the rows.
INVALID_ROW = "sparkgmm met an invalid row"
# A batch that leaves has at most so many features and probabilities: 8 MiB, however large it came.
_BATCH_VALUES = 2**20

OnBatches = Callable[[Iterable["pa.RecordBatch"]], Iterator["pa.RecordBatch"]]
"""What mapInArrow runs on a partition."""


class Totals(NamedTuple):
    """Rows read, invalid rows, outliers: Spark adds what a task counted once, when it is done."""

    read: Accumulator[int]
    invalid: Accumulator[int]
    outliers: Accumulator[int]


@dataclass(frozen=True)
class Scorer:
    """What to do with a batch.

    Its first `n_kept` columns go through. `sources` are the positions of the features, or of the
    one vector that holds them all. `columns` are the names of those to add, among them `outlier`
    where `threshold` says below which log density a row is one. An invalid row fails the task, or
    is left out. `labels` has one for each component, where `label` is among the columns.
    """

    mixture: Mixture
    n_kept: int
    sources: tuple[int, ...]
    vector: bool
    columns: tuple[str, ...]
    threshold: float | None
    fail: bool
    labels: tuple[int, ...] | None = None

    def on_batches(self, totals: Totals) -> OnBatches:
        """Return the function that mapInArrow runs on a partition."""
        step = max(64, _BATCH_VALUES // (self.mixture.d + self.mixture.k))

        def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            settle_worker()
            for batch in batches:
                for start in range(0, batch.num_rows, step):
                    yield self.score(batch.slice(start, step), totals)

        return score_batches

    def score(self, batch: pa.RecordBatch, totals: Totals) -> pa.RecordBatch:
        """Return the columns kept and those added, without the invalid rows."""
        import pyarrow as pa

        X = self._features(batch)
        totals.read.add(batch.num_rows)
        finite = np.isfinite(X)
        if not finite.all():
            if self.fail:
                raise ValueError(INVALID_ROW)
            valid = np.asarray(finite.all(axis=0))
            totals.invalid.add(int(len(valid) - valid.sum()))
            batch, X = batch.filter(pa.array(valid)), X[:, valid]
        log_density, R = self.mixture.score(X.T)
        outlier = log_density < (-np.inf if self.threshold is None else self.threshold)
        totals.outliers.add(int(outlier.sum()))
        added = {
            "component": lambda: pa.array(R.argmax(axis=1).astype(np.int32)),
            "probability": lambda: as_lists(R),
            "log_density": lambda: pa.array(log_density),
            "label": lambda: pa.array(np.array(self.labels, dtype=np.int32)[R.argmax(axis=1)]),
            "outlier": lambda: pa.array(outlier),
        }
        arrays = batch.columns[: self.n_kept] + [added[name]() for name in self.columns]
        fields = [batch.schema.field(i) for i in range(self.n_kept)]
        fields += [
            pa.field(name, array.type, nullable=False)
            for name, array in zip(self.columns, arrays[self.n_kept :], strict=True)
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _features(self, batch: pa.RecordBatch) -> Array:
        """Return X (d, n); what is null, or in a vector of another length, is NaN."""
        d = self.mixture.d
        if self.vector:
            layout = Layout(d, "float64", vector=True, weighted=False)
            return decode_vectors(batch.column(self.sources[0]), layout)[0]
        X = np.empty((d, batch.num_rows))
        for i, source in enumerate(self.sources):
            X[i] = batch.column(source).to_numpy(zero_copy_only=False)
        return X


def as_lists(R: Array) -> pa.Array:
    """Return the rows of R (n, k) as arrays of doubles, without a copy."""
    import pyarrow as pa

    n, k = R.shape
    offsets = pa.array(np.arange(0, (n + 1) * k, k, dtype=np.int32))
    kind = pa.list_(pa.field("element", pa.float64(), nullable=False))
    return pa.ListArray.from_arrays(offsets, pa.array(R.reshape(-1)), type=kind)
