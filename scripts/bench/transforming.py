"""Time of the estimator's transform against MLlib's, on a vector column, by one model.

Both append probability and prediction, and write to a sink that drops the rows.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from pyspark.ml.clustering import GaussianMixture
from pyspark.sql import DataFrame, SparkSession

import sparkgmm
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import read

sys.path.insert(0, str(Path(__file__).parent))
from machine import keep
from scoring import recipe, vectors, write_nothing

N = 10_000_000
COMPONENTS = (2, 10)
RUNS = 2


def vector_table(spark: SparkSession, root: Path) -> DataFrame:
    """Return the rows as one vector column from Parquet, written once."""
    path = root / "vectors.parquet"
    if not (path / "_SUCCESS").exists():
        table = vectors(read(spark, str(recipe(N).write(root)))).select("features")
        table.write.mode("overwrite").parquet(str(path))
    return spark.read.parquet(str(path))


def timed(df: DataFrame) -> float:
    """Return the least seconds to compute all rows and columns, after one run for the JVM."""
    write_nothing(df)
    return min(write_nothing(df) for _ in range(RUNS))


def main(root: str, out: str) -> None:
    """Measure what reading costs, and both transforms for each k."""
    spark = start_session("benchmark")
    table = vector_table(spark, Path(root))
    results: list[dict[str, Any]] = []
    keep(results, {"what": "read", "seconds": timed(table)}, out)
    few = table.limit(100_000)
    for k in COMPONENTS:
        theirs = GaussianMixture(k=k, maxIter=1, seed=1).fit(few)
        ours = sparkgmm.GaussianMixtureModel.fromSpark(theirs)
        begun = time.perf_counter()
        for what, model in (("ours", ours), ("mllib", theirs)):
            seconds = timed(model.transform(table))
            keep(results, {"what": what, "k": k, "seconds": seconds}, out)
        print(f"k = {k}: {time.perf_counter() - begun:.0f} s in all", file=sys.stderr)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
