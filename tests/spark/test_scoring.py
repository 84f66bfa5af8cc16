"""Batches scored as on an executor: what goes through, what is added, how much is held."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from helpers.data_sets import random_mixture
from sparkgmm.spark.score_columns import columns_of
from sparkgmm.spark.scoring import INVALID_ROW, RecordScorer, Scorer, Totals

pytestmark = pytest.mark.spark

ALL = ("component", "probability", "log_density", "outlier")
MIXTURE = random_mixture(np.random.default_rng(0), 3, 2, "full")


class Count:
    """Stands in for an accumulator."""

    def __init__(self) -> None:
        self.value = 0

    def add(self, n: int) -> None:
        self.value += n


def totals() -> Any:
    return Totals(Count(), Count(), Count())  # type: ignore[arg-type]


def scorer(**changes: Any) -> RecordScorer:
    added = {"mixture": MIXTURE, "columns": ALL, "threshold": -8.0}
    given = {"n_kept": 3, "sources": (1, 2), "vector": False, "fail": False}
    added.update((key, value) for key, value in changes.items() if key in added)
    given.update((key, value) for key, value in changes.items() if key in given)
    assert changes.keys() <= {*added, *given}
    return RecordScorer(Scorer(**{**added, "columns": columns_of(added["columns"])}), **given)


def batch(X: np.ndarray, **columns: pa.Array) -> pa.RecordBatch:
    ids = pa.array([f"row {i}" for i in range(len(X))])
    values = {"id": ids, "a": pa.array(X[:, 0]), "b": pa.array(X[:, 1])}
    return pa.RecordBatch.from_pydict({**values, **columns})


@pytest.fixture(name="X")
def rows() -> np.ndarray:
    return MIXTURE.sample(1000, seed=1)[0]


def test_what_is_added_is_what_the_mixture_says(X: np.ndarray) -> None:
    counts = totals()
    scored = scorer().score(batch(X), counts)
    density, R = MIXTURE.score(X)
    assert scored.schema.names == ["id", "a", "b", *ALL]
    np.testing.assert_array_equal(np.array(scored["probability"].to_pylist()), R)
    np.testing.assert_array_equal(scored["log_density"], density)
    np.testing.assert_array_equal(scored["component"], MIXTURE.predict(X))
    np.testing.assert_array_equal(scored["outlier"], density < -8)
    kinds = [str(scored.schema.field(name).type) for name in ALL]
    assert kinds == ["int32", "list<element: double not null>", "double", "bool"]
    assert [c.value for c in counts[:3]] == [1000, 0, int((density < -8).sum())]
    assert 0 < counts.outliers.value < 1000


def test_the_columns_kept_are_the_very_arrays_that_came(X: np.ndarray) -> None:
    given = batch(X)
    scored = scorer().score(given, totals())
    for i in range(3):
        assert [b.address for b in scored.column(i).buffers() if b] == [
            b.address for b in given.column(i).buffers() if b
        ]
        assert scored.schema.field(i) == given.schema.field(i)


@pytest.mark.parametrize("columns", [("log_density",), ("probability", "component"), ("outlier",)])
def test_only_what_is_wanted_is_added_in_the_order_wanted(
    X: np.ndarray, columns: tuple[str, ...]
) -> None:
    scored = scorer(n_kept=0, columns=columns).score(batch(X), totals())
    assert scored.schema.names == list(columns)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), float("-inf")])
def test_an_invalid_row_is_left_out_with_all_its_columns_and_counted(
    X: np.ndarray, bad: float | None
) -> None:
    a = pa.array([None if bad is None else bad, *X[1:-1, 0], bad])
    counts = totals()
    scored = scorer().score(batch(X, a=a), counts)
    assert scored["id"].to_pylist() == [f"row {i}" for i in range(1, 999)]
    np.testing.assert_array_equal(scored["log_density"], MIXTURE.log_density(X[1:-1]))
    assert (counts.read.value, counts.invalid.value) == (1000, 2)


def test_an_invalid_row_fails_the_task_where_it_must(X: np.ndarray) -> None:
    X[7, 1] = np.nan
    with pytest.raises(ValueError, match=INVALID_ROW):
        scorer(fail=True).score(batch(X), totals())


def test_a_batch_of_invalid_rows_alone_leaves_an_empty_batch(X: np.ndarray) -> None:
    scored = scorer().score(batch(X * np.nan), totals())
    assert scored.num_rows == 0
    assert scored.schema.names == ["id", "a", "b", *ALL]


def test_float_and_integer_columns_are_scored_in_double_precision() -> None:
    a, b = np.array([1, 2, 3], dtype=np.int32), np.array([0.1, 0.2, 0.3], dtype=np.float32)
    given = batch(np.zeros((3, 2)), a=pa.array(a), b=pa.array(b))
    scored = scorer().score(given, totals())
    X = np.column_stack([a.astype(float), b.astype(float)])
    np.testing.assert_array_equal(scored["log_density"], MIXTURE.log_density(X))
    assert scored.schema.field("a").type == pa.int32()
    assert scored.schema.field("b").type == pa.float32()


def test_a_vector_of_another_length_is_an_invalid_row() -> None:
    lists = [[1.0, 2.0], [1.0], None, [1.0, None], [0.0, 1.0], [1.0, 2.0, 3.0], [1.0, np.nan]]
    given = pa.RecordBatch.from_pydict({"v": pa.array(lists)})
    counts = totals()
    scored = scorer(n_kept=1, sources=(0,), vector=True).score(given, counts)
    assert scored["v"].to_pylist() == [[1.0, 2.0], [0.0, 1.0]]
    np.testing.assert_array_equal(
        scored["log_density"], MIXTURE.log_density([[1.0, 2.0], [0.0, 1.0]])
    )
    assert (counts.read.value, counts.invalid.value) == (7, 5)


def test_a_batch_however_large_leaves_in_pieces_of_bounded_size(X: np.ndarray) -> None:
    wide = random_mixture(np.random.default_rng(1), 50, 2, "spherical")
    many = np.tile(X, (60, 1))
    pieces = list(scorer(mixture=wide).on_batches(totals())(iter([batch(many)])))
    assert len(pieces) > 2
    assert max(piece.num_rows * 52 for piece in pieces) <= 2**20
    density = np.concatenate([piece["log_density"] for piece in pieces])
    np.testing.assert_allclose(density, wide.log_density(many), rtol=1e-12)
    assert [i for piece in pieces for i in piece["id"].to_pylist()][-1] == "row 59999"


def test_no_batches_and_empty_batches_are_no_rows(X: np.ndarray) -> None:
    counts = totals()
    run = scorer().on_batches(counts)
    assert list(run(iter([]))) == []
    assert list(run(iter([batch(X[:0])]))) == []
    assert counts.read.value == 0


def test_an_executor_needs_numpy_and_pyarrow_alone() -> None:
    code = (
        "import sys, sparkgmm.spark.scoring, sparkgmm.mixture; print(*sorted({m.split('.')[0] "
        "for m in sys.modules} & {'pandas', 'pydantic', 'yaml', 'rich', 'scipy', 'pyspark', "
        "'matplotlib', 'jinja2', 'threadpoolctl'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_a_worker_holds_no_more_when_the_input_grows_tenfold(spark: SparkSession) -> None:
    run = scorer(sources=(0, 1), n_kept=3, columns=ALL).on_batches(
        Totals(*(spark.sparkContext.accumulator(0) for _ in range(3)))
    )

    def peak(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of earlier tasks
        n = sum(scored.num_rows for scored in run(batches))
        kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield pa.RecordBatch.from_pydict({"n": [n], "kib": [kib]})

    def measure(n: int) -> SimpleNamespace:
        df = spark.range(0, n, 1, 1).select(
            (F.col("id") % 7).cast("double").alias("a"),
            F.rand(0).alias("b"),
            F.expr("uuid()").alias("s"),
        )
        [row] = df.mapInArrow(peak, "n long, kib long").collect()
        return SimpleNamespace(n=row.n, mib=row.kib / 1024)

    measure(50_000)  # what is imported and allocated once
    little, much = measure(40_000), measure(400_000)
    assert (little.n, much.n) == (40_000, 400_000)
    assert little.mib > 30
    assert much.mib < little.mib + 10
