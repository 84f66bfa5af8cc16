"""Mixtures to and from the other forms that Spark users keep: Spark's own model above all."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import numpy as np
from pyspark.errors import AnalysisException
from pyspark.ml.param import Params
from pyspark.mllib.linalg import Matrices, Matrix, MatrixUDT, Vectors, VectorUDT
from pyspark.sql import SparkSession
from pyspark.sql.types import ArrayType, DoubleType, StructField, StructType

from sparkgmm.checks import numeric_alone
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import OVERWRITE, InputError
from sparkgmm.exports.files import FORMS, write_file
from sparkgmm.mixture import Mixture
from sparkgmm.spark.components import DENSE_UP_TO
from sparkgmm.spark.file_systems import PATH_READ, PATH_WRITTEN, error_of, file_system_errors
from sparkgmm.spark.ml.persistence import SPARK_CLASS, load_metadata, save_metadata

_SCHEMA = StructType(
    [
        StructField("weights", ArrayType(DoubleType())),
        StructField("mus", ArrayType(VectorUDT())),
        StructField("sigmas", ArrayType(MatrixUDT())),
    ]
)
# Spark's own defaults, without which its reader leaves these params undefined.
_DEFAULTS = {
    "featuresCol": "features",
    "predictionCol": "prediction",
    "probabilityCol": "probability",
    "k": 2,
    "tol": 0.01,
    "maxIter": 100,
    "seed": 0,
    "aggregationDepth": 2,
}


def write_spark_model(
    mixture: Mixture,
    path: str,
    spark: SparkSession,
    overwrite: bool = False,
    params: Params | None = None,
) -> None:
    """Write the folder of a `pyspark.ml.clustering.GaussianMixtureModel`, for its own `load`.

    Covariances are written as matrices, whatever their type; diagonal ones of many features as
    sparse ones. `params`, if given, lends its uid and the
    values that were set of those params that Spark's model has.

    Raises
    ------
    InputError
        If there is such a folder and it is not to be overwritten.
    ConfigurationError
        If the path cannot be written.

    """
    folder, mode = path.rstrip("/"), "overwrite" if overwrite else "error"
    given = {} if params is None else {p.name: v for p, v in params._paramMap.items()}
    known = {name: value for name, value in given.items() if name in (*_DEFAULTS, "weightCol")}
    if mixture.k > 1:  # Spark's k must be, though its model may have a single component
        known["k"] = mixture.k
    else:
        known.pop("k", None)
    metadata = {
        "class": SPARK_CLASS,
        "timestamp": round(time.time() * 1000),
        "uid": f"GaussianMixtureModel_{uuid.uuid4().hex[-12:]}" if params is None else params.uid,
        "paramMap": known,
        "defaultParamMap": _DEFAULTS,
    }
    numeric_alone(mixture.parts, "Spark's own model")
    row = (
        [float(weight) for weight in mixture.weights],
        [Vectors.dense(mean) for mean in mixture.means],
        list(old_matrices(mixture)),
    )
    try:
        data = spark.createDataFrame([row], _SCHEMA).coalesce(1)
        with file_system_errors(path, PATH_WRITTEN, writing=True):
            data.write.mode(mode).parquet(f"{folder}/data")
            save_metadata(metadata, folder, spark, mode)
    except AnalysisException as error:
        if "ALREADY_EXISTS" not in str(error):
            raise
        raise InputError(f"{path!r} already exists", "give another path", (OVERWRITE,)) from error


def old_matrices(mixture: Mixture) -> Iterator[Matrix]:
    """Yield each component's covariance as a matrix of Spark's older types.

    Diagonal ones are sparse from where components/ are compact on.
    """
    d = mixture.d
    if FAMILIES[mixture.covariance_type].diagonal and d > DENSE_UP_TO:
        for variances in mixture.variances:
            yield Matrices.sparse(d, d, list(range(d + 1)), list(range(d)), variances)
    else:
        for covariance in mixture.covariances:
            yield Matrices.dense(d, d, covariance.ravel(order="F"))


def read_spark_model(source: Any, spark: SparkSession) -> tuple[Mixture, dict[str, Any]]:
    """Take a mixture, and the params that were set, from a model of Spark's or its folder.

    Raises
    ------
    InputError
        If it is none, or not a mixture (a covariance that is not positive definite).

    """
    if not isinstance(source, str):
        return _of_model(source)
    folder = source.rstrip("/")
    metadata = load_metadata(folder, spark)
    if metadata.get("class") != SPARK_CLASS:
        raise InputError(
            f"{source!r} holds a {metadata.get('class')}, not a {SPARK_CLASS}: give the folder of "
            "one"
        )
    with file_system_errors(source, PATH_READ):
        row = spark.read.parquet(f"{folder}/data").select("weights", "mus", "sigmas").first()
    if row is None:
        raise InputError(f"{source!r} has no row in its folder data: save the model again")
    means = [mean.toArray() for mean in row["mus"]]
    covariances = [covariance.toArray() for covariance in row["sigmas"]]
    return Mixture(row["weights"], means, covariances), metadata["paramMap"]


def _of_model(model: Any) -> tuple[Mixture, dict[str, Any]]:
    if not hasattr(model, "gaussians") or not hasattr(model, "weights"):
        raise InputError(
            f"a {type(model).__name__} is no Gaussian mixture of Spark's: give a fitted model or "
            "the path of its folder"
        )
    gaussians = model.gaussians
    means = np.array([gaussian.mean.toArray() for gaussian in gaussians])
    covariances = np.array([gaussian.cov.toArray() for gaussian in gaussians])
    params = {param.name: value for param, value in model._paramMap.items()}
    return Mixture(model.weights, means, covariances), params


def export(
    mixture: Mixture,
    to: str,
    path: str,
    spark: SparkSession | None = None,
    overwrite: bool = False,
    dialect: str = "spark",
    input_type: str = "float64",
) -> None:
    """Write a mixture for another to read.

    Parameters
    ----------
    mixture : what to write
    to : "spark", a folder for `pyspark.ml.clustering.GaussianMixtureModel.load`; "sparkgmm", a
        folder for `sparkgmm.GaussianMixtureModel.load`; "sklearn", a joblib file of a fitted
        `sklearn.mixture.GaussianMixture`; "json", a model.json; "sql", a SELECT over a table named
        `rows`; "onnx", a graph
    path : a folder on any file system of Spark's, or for the last four a local file
    spark : the session, which the folders need
    overwrite : whether to replace what is there
    dialect : of sql: "spark", "duckdb", "postgres", "bigquery" or "snowflake"
    input_type : of the tensor that onnx takes: "float64" or "float32"

    Raises
    ------
    InputError
        If `to` is none of these, or the path is taken.
    ConfigurationError
        If the path cannot be written.

    """
    if to in ("spark", "sparkgmm"):
        if spark is None:
            raise InputError(f"a folder for {to} is written by Spark: give a session")
        _export_folder(mixture, to, path, spark, overwrite)
    elif to in FORMS:
        try:
            write_file(mixture, to, path, overwrite, dialect, input_type)
        except OSError as error:
            known = error_of(error, PATH_WRITTEN, path, writing=True)
            raise known or error from error
    else:
        raise InputError(f"to is {to!r}: use one of spark, sparkgmm, {', '.join(FORMS)}")


def _export_folder(
    mixture: Mixture, to: str, path: str, spark: SparkSession, overwrite: bool
) -> None:
    if to == "spark":
        write_spark_model(mixture, path, spark, overwrite)
        return
    from sparkgmm.spark.ml.model import GaussianMixtureModel  # which imports this module

    writer = GaussianMixtureModel(mixture).write().session(spark)
    (writer.overwrite() if overwrite else writer).save(path)
