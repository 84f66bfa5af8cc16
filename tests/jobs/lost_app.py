"""Fit by the estimator a DataFrame whose rows, once read, kill the JVM; print what was raised."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from pyspark.sql import SparkSession

from sparkgmm import GaussianMixture


def kill_the_jvm(batches: Iterable[Any]) -> Iterator[Any]:
    with open(f"/proc/{os.getppid()}/stat") as file:  # noqa: PTH123
        jvm = int(file.read().rpartition(")")[2].split()[1])  # the parent of the workers' daemon
    os.kill(jvm, signal.SIGKILL)
    yield from batches


def main() -> None:
    spark = (
        SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    )
    rows = spark.range(100).selectExpr("array(sin(id), cos(id)) as features")
    try:
        GaussianMixture(k=2).fit(rows.mapInArrow(kill_the_jvm, rows.schema))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(0)
    sys.exit("fitted")


if __name__ == "__main__":
    main()
