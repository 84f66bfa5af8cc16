"""In a driver that YARN runs in a container: errors that would come again are not tried again."""

from __future__ import annotations

import contextlib
import os
from typing import Any

# Spark sets it for the processes that it starts in YARN's containers; a driver at a terminal has
# none.
_STAGING = "SPARK_YARN_STAGING_DIR"


def give_up(message: str) -> None:
    """Tell YARN that this application failed for good, and why; elsewhere do nothing.

    YARN starts the driver of an application again as often as `spark.yarn.maxAppAttempts` has it,
    whatever it ended with, unless the driver has signed off before. The message becomes the
    application's diagnostics, which spark-submit prints where it was started.

    Call it when the session is stopped, as the last thing that a driver does. Where signing off
    fails, YARN tries again, as it would have done.
    """
    if _STAGING not in os.environ or "PYSPARK_GATEWAY_PORT" not in os.environ:
        return
    with contextlib.suppress(Exception):
        _unregister(message)


def _unregister(message: str) -> None:
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized()
    jvm: Any = SparkContext._jvm
    master = _application_master(jvm)
    if master is None:
        return
    if not _field(master.getClass(), "registered").get(master):
        # only who has a SparkContext is known to YARN, and only who is known can sign off
        conf = SparkConf().set("spark.dynamicAllocation.enabled", "false")
        SparkContext(conf=conf.set("spark.executor.instances", "0")).stop()
    failed = jvm.org.apache.hadoop.yarn.api.records.FinalApplicationStatus.FAILED
    master.unregister(failed, message)
    if SparkConf().get("spark.yarn.preserve.staging.files", "false") != "true":
        # the files of the submission: Spark deletes them only where it signs off itself
        staging = jvm.org.apache.hadoop.fs.Path(os.environ[_STAGING])
        hadoop = jvm.org.apache.spark.deploy.SparkHadoopUtil.get().conf()
        staging.getFileSystem(hadoop).delete(staging, True)


def _application_master(jvm: Any) -> Any:
    """Return Spark's side of the application in this JVM; Spark has no public way to it."""
    loader = jvm.java.lang.Thread.currentThread().getContextClassLoader()
    name = "org.apache.spark.deploy.yarn.ApplicationMaster$"
    return _field(jvm.java.lang.Class.forName(name, True, loader), "master").get(None)


def _field(owner: Any, name: str) -> Any:
    """Return a private field of a class of Scala's, which may put the class before the name."""
    for field in owner.getDeclaredFields():
        if str(field.getName()).rsplit("$", 1)[-1] == name:
            field.setAccessible(True)
            return field
    raise AttributeError(name)
