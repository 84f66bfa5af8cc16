"""Fit, save, load and transform in one kind of session, and print what came out as JSON.

python modes_app.py MODE DATA OUT, MODE one of local, local-cluster, connect.
"""

import json
import sys
from typing import Any

import numpy as np
from pyspark.ml import Pipeline
from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.sql import SparkSession

import sparkgmm.spark.cluster_rows
from sparkgmm import GaussianMixture, GaussianMixtureModel, Mixture
from sparkgmm.core.evidence import Scan
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Frame
from sparkgmm.spark.blocks import BlockRow
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.source import find_features

SETTINGS = {
    "spark.sparkgmm.driverBytes": "0",
    "spark.sql.files.maxPartitionBytes": "64m",
    "spark.sql.files.minPartitionNum": "1",
    "spark.ui.enabled": "false",
}


def open_session(mode: str) -> SparkSession:
    builder: Any = SparkSession.builder
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    if mode == "connect":
        return builder.remote("local[2]").getOrCreate()
    master = {"local": "local[2]", "local-cluster": "local-cluster[2,1,1024]"}[mode]
    return builder.master(master).getOrCreate()


def hexed(values: Any) -> list[str]:
    return [float(value).hex() for value in np.ravel(values)]


def passes_read_the_kept_blocks(spark: SparkSession, df: Any) -> bool:
    """Whether two passes find the files that the first reading made."""

    def path(rows: Any) -> Any:
        found: list[BlockRow] = list(rows)
        return iter([(row.partition, row.path or len(row.content or b"")) for row in found])

    with Blocks(df, find_features(df, "values", None)) as blocks:
        once, again = (sorted(blocks._partitions.run(path)) for _ in range(2))
    return once == again and any(isinstance(where, str) for _, where in once)


def sums_over_many_partitions(spark: SparkSession) -> list[str]:
    """Scan 36 partitions; their profiles and sums are collected, then added on the executors."""
    df = spark.range(0, 2000, 1, 36).selectExpr("sin(id) x", "cos(id * id) y")
    found = []
    for room in (2**20, 1):
        spark.conf.set("spark.sparkgmm.resultBytes", room)
        with Blocks(df, find_features(df, None, None)) as blocks:
            frame = Frame.of(blocks.profile)
            model = Mixture([0.5, 0.5], [[-0.5, 0], [0.5, 0]], np.tile(np.eye(2) / 4, (2, 1, 1)))
            [sums] = blocks.scan(Scan.of([from_mixture(model, frame)], frame).kernels, "a pass")
        found.append([*hexed(blocks.profile.pack()), *hexed(sums.moments), *hexed(sums[1])])
    spark.conf.unset("spark.sparkgmm.resultBytes")
    assert found[0] == found[1]
    return found[0]


def scored_from_files(spark: SparkSession, model: GaussianMixtureModel, data: str) -> list[str]:
    """Score the arrays of the files as they are read, with nothing between."""
    out = model.copy({model.featuresCol: "values"}).transform(spark.read.parquet(data))
    return hexed([row.height for row in out.orderBy("id").select("height").collect()])


def sizes_of_arrays(spark: SparkSession, data: str) -> list[int]:
    """Fit the arrays of the files as they are read, and count the rows of each component."""
    estimator = GaussianMixture(k=2, nInit=1, featuresCol="values", predictionCol="pre.diction")
    return [int(n) for n in estimator.fit(spark.read.parquet(data)).summary.clusterSizes]


def stay_far_from_the_files() -> None:
    """Have the driver reach none of the executors' files, as on a cluster of several machines."""
    seams: Any = sparkgmm.spark.cluster_rows
    seams.Blocks._read_here = lambda self, function: None
    seams.forget = lambda row: row.path is None


def main(mode: str, data: str, out: str) -> None:
    spark = open_session(mode)
    if mode != "local":
        stay_far_from_the_files()
    df = spark.read.parquet(data)
    df = df.select("id", "values", "w", array_to_vector("values").alias("features"))
    estimator = GaussianMixture(k=3, seed=5, weightCol="w", logDensityCol="height")
    model = estimator.fit(df)
    model.write().overwrite().save(f"{out}/model")
    loaded = GaussianMixtureModel.load(f"{out}/model")
    pipeline = Pipeline(stages=[estimator]).fit(df)
    rows = (
        loaded.transform(df)
        .orderBy("id")
        .select("prediction", vector_to_array("probability").alias("p"), "height")
        .collect()
    )
    through = pipeline.transform(df).orderBy("id").select("prediction").collect()
    print(
        json.dumps(
            {
                "weights": hexed(model.weights),
                "means": hexed(model.mixture.means),
                "covariances": hexed(model.mixture.covariances),
                "log_likelihood": float(model.summary.logLikelihood).hex(),
                "sizes": [int(size) for size in model.summary.clusterSizes],
                "prediction": [int(row.prediction) for row in rows],
                "probability": [hexed(row.p) for row in rows[:200]],
                "height": hexed([row.height for row in rows]),
                "pipeline": [int(row.prediction) for row in through],
                "height of arrays": scored_from_files(spark, loaded, data),
                "sizes of arrays": sizes_of_arrays(spark, data),
                "many partitions": sums_over_many_partitions(spark),
                "kept": passes_read_the_kept_blocks(spark, df),
            }
        )
    )
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
