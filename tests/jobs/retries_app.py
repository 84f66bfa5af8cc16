"""Score rows through spark-submit while each task dies once; print what was counted and written.

usage: retries_app.py PARQUET OUTPUT
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sparkgmm.mixture import Mixture
from sparkgmm.spark.scored_rows import ScoreRequest, score_rows
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import find_model_features, read


def die_once(batches: Iterable[Any]) -> Iterator[Any]:
    """Hand the rows on; at the first attempt, kill the worker after some of them."""
    from pyspark import TaskContext

    context = TaskContext.get()
    for i, batch in enumerate(batches):
        if i == 3 and context is not None and context.attemptNumber() == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        yield batch


def main(path: str, output: str) -> None:
    spark = start_session("retries")
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", 1000)
    df = read(spark, path)
    mixture = Mixture([1.0], [[0.0] * 3], [np.eye(3)], features=df.columns)
    features = find_model_features(df, mixture.features, 3, None)
    troubled = df.mapInArrow(die_once, df.schema)
    request = ScoreRequest(("a",), ("log_density",), -5.0, fail=False)
    scored, totals = score_rows(troubled, features, mixture, request)
    scored.write.parquet(output)
    written = spark.read.parquet(output)
    print("counted", totals.read.value, totals.invalid.value, totals.outliers.value)
    print("written", written.count(), written.where("outlier").count())
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
