"""Fit a table where there are no RDDs (serverless compute, Spark Connect) and save the model.

A Python script task with the wheel among the dependencies of its environment and the parameters

    main.default.trips distance,duration,fare 3 /Volumes/main/default/sparkgmm/trips.json
"""

import sys
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkgmm import GaussianMixture


def main(table: str, columns: str, k: str, path: str) -> None:
    """Fit k components to some columns of a table and write them as JSON."""
    spark = SparkSession.builder.getOrCreate()
    names = columns.split(",")
    values = F.array(*(F.col(name).cast("double") for name in names)).alias("features")
    rows = spark.table(table).dropna(subset=names).select(values)
    model = GaussianMixture(k=int(k), seed=0).fit(rows)
    Path(path).write_text(model.mixture.to_json(), encoding="utf-8")
    print(model.mixture.weights.round(4))


if __name__ == "__main__":
    main(*sys.argv[1:])
