"""Score batches of rows as they come; the columns to keep go through as they are.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sparkgmm.mixture import Array, Mixture
from sparkgmm.spark.blocks import Layout, decode_vectors, prepare_worker
from sparkgmm.spark.score_columns import ScoreColumn, Scored, arrow_of, as_lists

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark import Accumulator

# What a task that must not go on says; the driver then says what is wrong with the rows.
INVALID_ROW = "sparkgmm met an invalid row"
# A batch that leaves has at most so many features and probabilities: 8 MiB, however large it came.
_BATCH_VALUES = 2**20

OnBatches = Callable[[Iterable["pa.RecordBatch"]], Iterator["pa.RecordBatch"]]
"""What mapInArrow runs on a partition."""


# What stands for a level that the mixture does not have: it is not known, but it is no null.
UNSEEN = -1.0


class Totals(NamedTuple):
    """Rows read, invalid rows, outliers: Spark adds what a task counted once, when it is done.

    `unseen` has the rows scored of which a column holds a level that the mixture does not have.
    """

    read: Accumulator[int]
    invalid: Accumulator[int]
    outliers: Accumulator[int]
    unseen: tuple[tuple[str, Accumulator[int]], ...] = ()

    @classmethod
    def of(cls, new: Callable[[], Accumulator[int]], mixture: Mixture) -> Totals:
        """Return new accumulators."""
        of_levels = [part.of.name for part in mixture.parts if part.of.kind == "categorical"]
        return cls(new(), new(), new(), tuple((name, new()) for name in of_levels))


@dataclass(frozen=True)
class Scorer:
    """What to make of rows: the columns to add, of a mixture and what is known beside it.

    `threshold` says below which log density a row is an outlier; `labels` has one for each
    component. Each is None where no column needs it.
    """

    mixture: Mixture
    columns: tuple[ScoreColumn, ...]
    threshold: float | None = None
    labels: tuple[int, ...] | None = None

    @cached_property
    def gaps(self) -> bool:
        """Whether rows may have values, NaN, that are not known: for a column, or the mixture."""
        return self.mixture.missing == "model" or any(column.gaps for column in self.columns)

    def score(self, X: Array) -> Scored:
        """Score rows X (n, d)."""
        with_gaps = self.gaps and bool(np.isnan(X[:, : self.mixture.d]).any())
        marginal = with_gaps and self.mixture.missing != "model"
        scores = self.mixture.score_with_gaps(X) if marginal else self.mixture.score(X)
        return Scored(*scores, self.labels, self.threshold, X, self.mixture, with_gaps)

    def arrays(
        self, scored: Scored, arrays: Callable[[Array], pa.Array] = as_lists
    ) -> list[pa.Array]:
        """Return the columns of scored rows; `arrays` makes one of (n, k) numbers."""
        return [arrow_of(column, scored, arrays) for column in self.columns]

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]


@dataclass(frozen=True)
class RecordScorer:
    """Scores the batches of a table.

    The first `n_kept` columns of a batch go through. `sources` are the positions of the features,
    or of the one vector that holds them all. An invalid row fails the task, or is left out. At the
    positions `gaps` a feature may be null or NaN: it is not known then.
    """

    scorer: Scorer
    n_kept: int
    sources: tuple[int, ...]
    vector: bool
    fail: bool
    gaps: tuple[int, ...] = ()

    def on_batches(self, totals: Totals) -> OnBatches:
        """Return the function that mapInArrow runs on a partition."""
        mixture = self.scorer.mixture
        step = max(64, _BATCH_VALUES // (mixture.d + mixture.k))

        def score_batches(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
            prepare_worker()
            for batch in batches:
                for start in range(0, batch.num_rows, step):
                    yield self.score(batch.slice(start, step), totals)

        return score_batches

    def score(self, batch: pa.RecordBatch, totals: Totals) -> pa.RecordBatch:
        """Return the columns kept and those added, without the invalid rows."""
        import pyarrow as pa

        X, ragged = self._features(batch)
        totals.read.add(batch.num_rows)
        mixture = self.scorer.mixture
        good = np.isfinite(X)
        if self.gaps and not good.all():
            here = list(self.gaps)
            good[here] |= np.isnan(X[here])
        # what is not known beside the numeric features is integrated out
        first = 0 if mixture.missing == "model" else mixture.d
        good[first:] |= np.isnan(X[first:])
        valid = np.asarray(good.all(axis=0)) & ~ragged
        if not valid.all():
            if self.fail:
                raise ValueError(INVALID_ROW)
            totals.invalid.add(int(len(valid) - valid.sum()))
            batch, X = batch.filter(pa.array(valid)), X[:, valid]
        unseen = dict(totals.unseen)
        for part in mixture.parts:
            if part.of.name in unseen:
                unseen[part.of.name].add(int(np.count_nonzero(X[part.column] == UNSEEN)))
        scored = self.scorer.score(X.T)
        totals.outliers.add(int(scored.outlier.sum()))
        added = self.scorer.arrays(scored)
        fields = [batch.schema.field(i) for i in range(self.n_kept)]
        fields += [
            pa.field(name, array.type, nullable=False)
            for name, array in zip(self.scorer.names, added, strict=True)
        ]
        arrays = batch.columns[: self.n_kept] + added
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _features(self, batch: pa.RecordBatch) -> tuple[Array, Array]:
        """Return X (D, n), null as NaN, and which rows hold a vector of another length."""
        d, beside = self.scorer.mixture.d, len(self.scorer.mixture.parts)
        ragged = np.zeros(batch.num_rows, dtype=bool)
        if self.vector and not beside:
            return self._vectors(batch)
        X = np.empty((d + beside, batch.num_rows))
        first, scalars = 0, self.sources
        if self.vector:
            X[:d], ragged = self._vectors(batch)
            first, scalars = d, self.sources[1:]
        for i, source in enumerate(scalars, first):
            X[i] = batch.column(source).to_numpy(zero_copy_only=False)
        return X, ragged

    def _vectors(self, batch: pa.RecordBatch) -> tuple[Array, Array]:
        layout = Layout(self.scorer.mixture.d, "float64", vector=True, weighted=False)
        X, _, ragged = decode_vectors(batch.column(self.sources[0]), layout)
        return X, ragged
