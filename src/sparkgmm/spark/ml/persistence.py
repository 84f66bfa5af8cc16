"""Save and load: metadata as Spark ML writes them, one line of JSON, and a model's data as Parquet.

Everything goes through DataFrames, so that the same files are written and read by every supported
version of Spark, and on a session without a JVM of its own.
"""

from __future__ import annotations

import json
import time
from typing import Any, Generic, TypeVar

from pyspark.errors import AnalysisException
from pyspark.ml.param import Params
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import DataFrame, SparkSession

from sparkgmm.errors import InputError
from sparkgmm.mixture import FORMAT_VERSION, FORMATS_READ, Mixture
from sparkgmm.options import MISSING
from sparkgmm.spark.components import component_rows, mixture_of
from sparkgmm.spark.file_systems import PATH_READ, PATH_WRITTEN, file_system_errors
from sparkgmm.version import __version__

S = TypeVar("S", bound="Saved")
_COMPONENTS = "component int, weight double, mean array<double>, covariance array<array<double>>"
SPARK_CLASS = "org.apache.spark.ml.clustering.GaussianMixtureModel"


class Saved(Params, MLWritable, MLReadable[Any]):
    """Params that can be saved and loaded; those with data of their own say how."""

    def write(self) -> Writer:
        """Return a writer: `write().overwrite().save(path)`."""
        return Writer(self)

    @classmethod
    def read(cls: type[S]) -> Reader[S]:
        """Return a reader: `read().load(path)`."""
        return Reader(cls)

    def _noted(self) -> dict[str, Any]:
        """Return what the metadata holds besides the params."""
        return {}

    def _save_data(self, path: str, spark: SparkSession, mode: str) -> None:
        """Write what is not a param."""

    @classmethod
    def _load_data(cls: type[S], path: str, spark: SparkSession, metadata: dict[str, Any]) -> S:
        """Make the instance from what was written, without its params."""
        return cls()


class Writer(MLWriter):
    """Writes an instance to a folder on any file system of Spark's."""

    def __init__(self, instance: Saved) -> None:
        super().__init__()
        self._instance = instance

    def save(self, path: str) -> None:
        """Write metadata/ and data/ below the path, the metadata last.

        Raises
        ------
        InputError
            If there is such a folder and it is not to be overwritten.
        ConfigurationError
            If the path cannot be written.

        """
        if not isinstance(path, str):
            raise TypeError(f"path is {path!r}: give a string")
        folder, mode = path.rstrip("/"), "overwrite" if self.shouldOverwrite else "error"
        try:
            with file_system_errors(path, PATH_WRITTEN, writing=True):
                self._instance._save_data(folder, self.sparkSession, mode)
                metadata = metadata_of(self._instance, public_name(type(self._instance)))
                save_metadata(metadata | self._instance._noted(), folder, self.sparkSession, mode)
        except AnalysisException as error:
            if "ALREADY_EXISTS" not in str(error):
                raise
            raise InputError(
                f"{path!r} already exists: give another path, or write().overwrite().save(path)"
            ) from error


class Reader(MLReader[S], Generic[S]):
    """Reads an instance of one class from a folder."""

    def __init__(self, cls: type[S]) -> None:
        super().__init__()
        self._cls = cls

    def load(self, path: str) -> S:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the folder does not hold an instance of this class, or one of a later sparkgmm.

        """
        folder = path.rstrip("/")
        metadata = load_metadata(folder, self.sparkSession)
        expected = public_name(self._cls)
        if metadata.get("class") != expected:
            hint = "GaussianMixtureModel.fromSpark(path) reads it"
            other = "load it with that class"
            raise InputError(
                f"{path!r} holds a {metadata.get('class')}, not a {expected}: "
                f"{hint if metadata.get('class') == SPARK_CLASS else other}"
            )
        with file_system_errors(path, PATH_READ):
            instance = self._cls._load_data(folder, self.sparkSession, metadata)
        instance._resetUid(metadata["uid"])
        _set_params(instance, metadata, path)
        return instance


def public_name(cls: type[Saved]) -> str:
    """Return the name under which a class is saved: where users import it, if files move or not."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    return str(cls.__dict__.get("_saved_as", name))  # a subclass is not what its base is


def metadata_of(instance: Params, class_name: str) -> dict[str, Any]:
    """Return the metadata of an instance in Spark's own form; the Spark version comes later."""
    return {
        "class": class_name,
        "timestamp": round(time.time() * 1000),
        "uid": instance.uid,
        "paramMap": {p.name: value for p, value in instance._paramMap.items()},
        "defaultParamMap": {p.name: value for p, value in instance._defaultParamMap.items()},
    }


def save_metadata(metadata: dict[str, Any], folder: str, spark: SparkSession, mode: str) -> None:
    """Write metadata/ as Spark does: one file of one line."""
    text = json.dumps(metadata | {"sparkVersion": spark.version, "sparkgmmVersion": __version__})
    line = spark.createDataFrame([(text,)], "value string").coalesce(1)
    line.write.mode(mode).text(f"{folder}/metadata")


def load_metadata(folder: str, spark: SparkSession) -> dict[str, Any]:
    """Read metadata/.

    Raises
    ------
    InputError
        If there is none.

    """
    try:
        with file_system_errors(folder, PATH_READ):
            row = spark.read.text(f"{folder}/metadata").first()
    except AnalysisException as error:
        if "PATH_NOT_FOUND" not in str(error):
            raise
        raise InputError(
            f"{folder!r} has no folder metadata: give a path that something was saved to"
        ) from error
    try:
        metadata = json.loads("" if row is None else row[0])
    except ValueError:
        metadata = None
    if not isinstance(metadata, dict) or "uid" not in metadata:
        raise InputError(f"{folder!r} has no metadata of Spark ML's in it: save it again")
    return metadata


def _set_params(instance: Params, metadata: dict[str, Any], path: str) -> None:
    for name, value in metadata["paramMap"].items():
        if not instance.hasParam(name):
            raise InputError(
                f"{path!r} was saved by sparkgmm {metadata.get('sparkgmmVersion')} with param "
                f"{name}, which this one does not have: update sparkgmm"
            )
        instance._set(**{name: value})
    known = {k: v for k, v in metadata["defaultParamMap"].items() if instance.hasParam(k)}
    instance._setDefault(**known)


def note_mixture(mixture: Mixture) -> dict[str, Any]:
    """Return what the metadata say of a mixture; its numbers are in data/."""
    return {
        "formatVersion": FORMAT_VERSION,
        "covarianceType": mixture.covariance_type,
        "features": None if mixture.features is None else list(mixture.features),
        **({} if mixture.missing == MISSING.default else {"missing": mixture.missing}),
    }


def components(mixture: Mixture, spark: SparkSession) -> DataFrame:
    """Return a row a component, as a run's folder has them."""
    return spark.createDataFrame(component_rows(mixture), _COMPONENTS).coalesce(1)


def read_mixture(folder: str, spark: SparkSession, metadata: dict[str, Any]) -> Mixture:
    """Read a mixture from data/ and what the metadata say of it.

    Raises
    ------
    InputError
        If it was saved in a later format, or is no mixture.

    """
    version = metadata.get("formatVersion")
    if version not in FORMATS_READ:
        raise InputError(
            f"{folder!r} has formatVersion {version!r}, this sparkgmm reads 1 to {FORMAT_VERSION}: "
            "update sparkgmm or save the model again"
        )
    rows = spark.read.parquet(f"{folder}/data").orderBy("component").collect()
    mixture = mixture_of(rows, metadata["covarianceType"], metadata["features"])
    missing = metadata.get("missing", MISSING.default)
    return mixture if missing == MISSING.default else mixture.with_missing(missing)
