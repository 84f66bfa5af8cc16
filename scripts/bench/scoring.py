"""Time to score rows: ours against moving the same rows through Python, and against MLlib.

All score by one model, and write to a sink that drops the rows; ours once more to Parquet.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark.ml.clustering import GaussianMixture, GaussianMixtureModel
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import DataFrame

from sparkgmm.mixture import Mixture
from sparkgmm.spark.score_columns import columns_of
from sparkgmm.spark.scored_rows import ScoreRequest, score_rows
from sparkgmm.spark.scoring import RecordScorer, Scorer, Totals
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import find_model_features, read

sys.path.insert(0, str(Path(__file__).parent))
from machine import keep

from data import Recipe

D, K = 10, 10
SIZES = (1_000_000, 10_000_000)
COLUMNS = ("component", "probability", "log_density")
RUNS = 3


def recipe(n: int) -> Recipe:
    """Components that overlap, scaled so that densities stay above MLlib's floor."""
    return Recipe("scoring", n, D, K, apart=1.0, scale=0.1)


def mllib_model(df: DataFrame) -> GaussianMixtureModel:
    """Return MLlib's model after one iteration on some of the rows."""
    return GaussianMixture(k=K, maxIter=1, seed=1).fit(vectors(df.limit(100_000)))


def vectors(df: DataFrame) -> DataFrame:
    """Put the columns into one vector."""
    return VectorAssembler(inputCols=df.columns, outputCol="features").transform(df)


def moved(df: DataFrame) -> DataFrame:
    """Send the rows to the Python workers and back."""
    return df.mapInArrow(lambda batches: batches, df.schema)


def ours(df: DataFrame, mixture: Mixture) -> DataFrame:
    """Score as the job does, all columns kept and all added."""
    features = find_model_features(df, mixture.features, mixture.d, None)
    return score_rows(
        df, features, mixture, ScoreRequest(tuple(df.columns), COLUMNS, None, fail=True)
    )[0]


def write_nothing(df: DataFrame) -> float:
    """Return the seconds to compute all rows and columns."""
    begun = time.perf_counter()
    df.write.format("noop").mode("overwrite").save()
    return time.perf_counter() - begun


def peak_mib(df: DataFrame, mixture: Mixture) -> float:
    """Return the most memory that a worker held while it scored, in MiB."""
    features = find_model_features(df, mixture.features, mixture.d, None)
    columns = tuple(df.columns)
    sources = tuple(columns.index(name) for name in features.columns)
    scorer = Scorer(mixture, columns_of(COLUMNS))
    records = RecordScorer(scorer, len(columns), sources, False, True)
    context = df.sparkSession.sparkContext
    score = records.on_batches(Totals(*(context.accumulator(0) for _ in range(3))))

    def measure(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is another job's
        for _ in score(batches):
            pass
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        yield pa.RecordBatch.from_arrays([pa.array([peak])], ["kib"])

    peaks = df.mapInArrow(measure, "kib long").collect()
    return max(row.kib for row in peaks) / 1024


def main(root: str, out: str) -> None:
    """Measure."""
    spark = start_session("benchmark")
    few, many = (read(spark, str(recipe(n).write(Path(root)))) for n in SIZES)
    model = mllib_model(few)
    gaussians = model.gaussians
    mixture = Mixture(
        model.weights,
        [g.mean.toArray() for g in gaussians],
        [g.cov.toArray() for g in gaussians],
        features=few.columns,
    )
    results: list[dict[str, Any]] = []
    for n, df in zip(SIZES, (few, many), strict=True):
        keep(results, {"what": "peak", "n": n, "mib": peak_mib(df, mixture)}, out)
    ways: dict[str, Callable[[DataFrame], DataFrame]] = {
        "moved": moved,
        "ours": lambda df: ours(df, mixture),
        "mllib": lambda df: model.transform(vectors(df)).drop("features"),
    }
    for what, way in ways.items():
        write_nothing(way(few))  # the JVM compiles
        seconds = [write_nothing(way(many)) for _ in range(RUNS)]
        keep(results, {"what": what, "n": SIZES[1], "seconds": seconds}, out)
    cached = vectors(many).select("features").cache()
    cached.count()
    seconds = [write_nothing(model.transform(cached)) for _ in range(RUNS)]
    keep(results, {"what": "mllib, vectors cached", "n": SIZES[1], "seconds": seconds}, out)
    cached.unpersist(blocking=True)
    path = Path(root) / "scored.parquet"
    begun = time.perf_counter()
    ours(many, mixture).write.mode("overwrite").parquet(str(path))
    seconds = [time.perf_counter() - begun]
    keep(results, {"what": "ours, to Parquet", "n": SIZES[1], "seconds": seconds}, out)
    shutil.rmtree(path)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
