"""Save a model, an estimator and a pipeline by this environment's Spark, for others to load.

    .venv-min-spark/bin/python tests/spark/ml/save_models.py tests/data/models/3.5

tests/spark/ml/test_versions.py loads what each supported Spark has saved so.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pyspark.ml import Pipeline
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import SparkSession

from sparkgmm import GaussianMixture


def main(folder: str) -> None:
    root = Path(__file__).resolve().parents[3]
    X = np.loadtxt(root / "data" / "faithful.csv", delimiter=",", skiprows=1)
    spark = SparkSession.builder.master("local[1]").getOrCreate()
    df = spark.createDataFrame(X.tolist(), "eruptions double, waiting double").coalesce(1)
    assembler = VectorAssembler(inputCols=df.columns, outputCol="features")
    estimator = GaussianMixture(k=3, covarianceType="tied", seed=1, logDensityCol="height")
    pipeline = Pipeline(stages=[assembler, estimator]).fit(df)
    model = pipeline.stages[1]
    estimator.write().overwrite().save(f"{folder}/estimator")
    model.write().overwrite().save(f"{folder}/model")
    pipeline.write().overwrite().save(f"{folder}/pipeline")
    (Path(folder) / "expected.json").write_text(model.mixture.to_json())
    for checksum in Path(folder).rglob("*.crc"):
        checksum.unlink()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
