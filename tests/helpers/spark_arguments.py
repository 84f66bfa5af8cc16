"""Spark's own parser of what is given to spark-submit, and its own list of configuration keys."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.errors import IllegalArgumentException
from pyspark.sql import SparkSession

# Scala's objects that declare configuration keys when they are loaded.
_DECLARE = (
    "org.apache.spark.internal.config.package$",
    "org.apache.spark.deploy.k8s.Config$",
    "org.apache.spark.deploy.yarn.config.package$",
    "org.apache.spark.sql.internal.SQLConf$",
)
# Families of keys whose last parts are the user's to name, and what platforms add to Spark's.
_FREE = re.compile(
    r"spark\.executorEnv\.\w+"
    r"|spark\.kubernetes\.(driver|executor)\.volumes\.(emptyDir|hostPath|persistentVolumeClaim)"
    r"\.[\w-]+\.(mount\.(path|readOnly)|options\.\w+)"
    r"|spark\.emr-serverless\.driverEnv\.\w+"
    r"|spark\.emr-serverless\.(driver|executor)\.disk"
    r"|spark\.openlineage\.(namespace|transport\.(type|url))"
)


class RefusedError(Exception):
    """Spark refuses the arguments, in its own words."""


@dataclass(frozen=True)
class Submission:
    """What Spark makes of the arguments: how it would launch, with what configuration."""

    main: str
    main_arguments: list[str | None]
    primary: str
    arguments: list[str]
    conf: Mapping[str, str]


def submission(spark: SparkSession, arguments: Sequence[str]) -> Submission:
    """Parse arguments by Spark's own code, up to the point where it would launch something."""
    jvm: Any = spark.sparkContext._jvm
    given = jvm.java.util.ArrayList()
    for argument in arguments:
        given.add(argument)
    env = jvm.java.util.HashMap()
    env.put("HADOOP_CONF_DIR", "/etc/hadoop/conf")  # without it YARN is refused at once
    utils = jvm.org.apache.spark.api.python.PythonUtils
    deploy = jvm.org.apache.spark.deploy
    try:
        parsed = deploy.SparkSubmitArguments(utils.toSeq(given), utils.toScalaMap(env))
        its_own = _strings(parsed.childArgs())  # preparing puts others before them
        stores = jvm.scala.Option.apply(_object_stores(jvm))
        prepared = deploy.SparkSubmit().prepareSubmitEnvironment(parsed, stores)
    except Py4JJavaError as error:
        raise RefusedError(error.java_exception.getMessage()) from error
    session = _pairs(jvm.org.apache.spark.SparkConf())  # of the tests: Spark adds it to any other
    conf = {k: v for k, v in _pairs(prepared._3()).items() if session.get(k) != v}
    check_keys(spark, conf)
    return Submission(
        prepared._4(),
        _strings(prepared._1()),
        parsed.primaryResource(),
        its_own,
        conf,
    )


def _object_stores(jvm: Any) -> Any:
    """Return a Hadoop configuration in which objects of any store are said to exist.

    Hadoop's file system for http takes every path for a file, and asks nobody.
    """
    hadoop = jvm.org.apache.hadoop.conf.Configuration()
    for scheme in ("s3", "s3a", "gs"):
        hadoop.set(f"fs.{scheme}.impl", "org.apache.hadoop.fs.http.HttpFileSystem")
        hadoop.set(f"fs.{scheme}.impl.disable.cache", "true")
    return hadoop


def check_keys(spark: SparkSession, conf: Mapping[str, str]) -> None:
    """Refuse keys that Spark does not declare, and values that are not of the key's type."""
    jvm: Any = spark.sparkContext._jvm
    for name in _DECLARE:
        jvm.java.lang.Class.forName(name)
    for key, value in conf.items():
        entry = jvm.org.apache.spark.internal.config.ConfigEntry.findEntry(key)
        if entry is None:
            if key not in _UNDECLARED and not _FREE.fullmatch(key):
                raise RefusedError(f"Spark knows no {key}")
            continue
        try:
            entry.valueConverter().apply(value)
        except (Py4JJavaError, IllegalArgumentException) as error:
            raise RefusedError(str(error)) from error


# Spark reads these without declaring them.
_UNDECLARED = {"spark.app.name", "spark.app.submitTime", "spark.master"}


def arguments_of(script: Path, folder: Path, *given: str, **env: str) -> list[str]:
    """Run a shell script with a spark-submit that only writes down what it is given."""
    stand_in = folder / "bin" / "spark-submit"
    stand_in.parent.mkdir(exist_ok=True)
    seen = folder / "arguments"
    stand_in.write_text(f'#!/bin/sh\nprintf "%s\\0" "$@" > {seen}\n')
    stand_in.chmod(0o755)
    subprocess.run(
        [str(script), *given],
        check=True,
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": f"{stand_in.parent}:{os.environ['PATH']}", **env},
    )
    return seen.read_text().split("\0")[:-1]


def _pairs(conf: Any) -> dict[str, str]:
    return {pair._1(): pair._2() for pair in conf.getAll()}


def _strings(sequence: Any) -> list[str]:
    return [sequence.apply(i) for i in range(sequence.size())]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
