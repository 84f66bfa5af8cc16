"""A Spark session fit for this work, quiet on the terminal, with the package on its executors."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from weakref import WeakSet

from pyspark import SparkConf, SparkContext
from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError
from sparkgmm.spark.java import java_problem
from sparkgmm.spark.launching import launch_quietly
from sparkgmm.spark.tables import plan_in_one_thread

DEFAULTS = {
    # Partitions by the data alone, never by the number of cores: the same bits everywhere.
    "spark.sql.files.maxPartitionBytes": "64m",
    "spark.sql.files.minPartitionNum": "8",
    # A worker's matrix products run on its own core.
    "spark.executorEnv.OMP_NUM_THREADS": "1",
    "spark.executorEnv.OPENBLAS_NUM_THREADS": "1",
    "spark.executorEnv.MKL_NUM_THREADS": "1",
    # The C library keeps what a worker frees: else each batch of rows faults its pages in anew,
    # which takes a third of the time to score it.
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": "33554432",
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": "268435456",
}

# Hadoop's clients try for minutes, without a word, where nothing answers: 160 s on S3A without a
# server, longer than 330 s on one that takes connections and never answers, 15 min on a namenode
# whose machine drops packets. By these it is 15 to 75 s, and requests of which a fifth is answered
# 503 go through. What the user set, here or in a core-site.xml, stays as it is.
HADOOP_DEFAULTS = {
    "fs.s3a.attempts.maximum": "0",  # of the SDK: none again, S3A's own are around it
    "fs.s3a.retry.limit": "2",
    "fs.s3a.retry.interval": "1s",
    "fs.s3a.retry.throttle.limit": "7",  # where the answer is 503
    "fs.s3a.retry.throttle.interval": "200ms",
    # the newer stream of Hadoop 3.5 ends a job when two connections break in a row
    "fs.s3a.input.stream.type": "classic",
    "fs.s3a.connection.establish.timeout": "15000",  # milliseconds; Hadoop 3.3 takes no unit
    "fs.s3a.connection.timeout": "15000",
    "fs.s3a.connection.request.timeout": "15s",
    # no look before each put whether it hides a folder, no marker where a folder became empty
    "fs.s3a.performance.flags": "create,delete,mkdir",
    "ipc.client.connect.max.retries.on.timeouts": "2",
    "ipc.client.rpc-timeout.ms": "60000",
}
# Before, it bounded uploads too, of which a part may take longer.
_REQUEST_TIMEOUT = "fs.s3a.connection.request.timeout"
_REQUEST_TIMEOUT_SINCE = (3, 4, 1)

# Rows reach the Python workers faster through a Unix socket (Spark 4.1 and later).
SOCKETS = "spark.python.unix.domain.socket.enabled"
_SOCKET_FOLDER = "spark.python.unix.domain.socket.dir"
# What Spark adds to the folder: "/.", a uuid and ".sock".
_SOCKET_NAME = 43
# The most bytes of a socket's path on macOS; Linux takes four more.
_SOCKET_PATH = 103


_PATTERN = "sparkgmm.pattern"  # the system property that log4j2.properties asks for
# How a line of Spark's own log reads: for people, and for log shippers.
_TEXT = r"%d{HH:mm:ss} Spark %p %c{1}: %replace{%m}{\R[\s\S]*}{}%n%ex{0}"
_JSON = (
    '{"time": "%d{yyyy-MM-dd\'T\'HH:mm:ss.SSSxxx}{UTC}", '
    '"level": "%level{FATAL=error, ERROR=error, WARN=warning, INFO=info, DEBUG=debug}", '
    '"run_id": "RUN_ID", "step": "STEP", '
    '"logger": "%c{1}", "message": "%enc{%m}{JSON}"}%n%ex{0}'
)

_not_ours: WeakSet[SparkSession] = WeakSet()


def start_session(name: str, verbose: bool = False, as_json: bool = False) -> SparkSession:
    """Return the session of this job; what the user set with --conf stays as it is.

    Spark's own log is as `verbose` has it, or one line a warning: JSON where `as_json`.

    Raises
    ------
    ConfigurationError
        If Java is missing or too old.

    """
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit, which has a JVM
        problem = java_problem()
        if problem:
            raise ConfigurationError(problem)
    was_there = SparkContext._active_spark_context is not None
    # the JVM knows what the user set, SparkConf asks it
    if verbose or SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:
        SparkContext._ensure_initialized()
    else:
        SparkContext._ensure_initialized(gateway=launch_quietly())
    conf = SparkConf()
    for key, value in DEFAULTS.items():
        conf.setIfMissing(key, value)
    _bound_waits(conf)
    if sockets_fit(conf.get("spark.master") or "local", _temporary_folder(conf)):
        conf.setIfMissing(SOCKETS, "true")
    conf.setIfMissing("spark.app.name", name)
    conf.set("spark.ui.showConsoleProgress", "false")  # PySpark sets it; a job has its own bar
    plan_in_one_thread(SparkContext._jvm)
    if (conf.get("spark.master") or "local").startswith("local"):
        # here the workers are of this machine: the driver's own Python unless another is named
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if not verbose:
        _quiet_about_queries()
        _set_log_levels(_JSON.replace("RUN_ID", "").replace("STEP", "start") if as_json else _TEXT)
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    if was_there:
        _not_ours.add(spark)
    if not str(spark.sparkContext.master).startswith("local["):
        ship_package(spark)
    return spark


def _bound_waits(conf: SparkConf) -> None:
    """Set Hadoop's own settings that nobody else has set."""
    jvm = SparkContext._jvm
    assert jvm is not None
    version = str(jvm.org.apache.hadoop.util.VersionInfo.getVersion())
    numbers = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    hadoop = jvm.org.apache.hadoop.conf.Configuration()
    for key, value in HADOOP_DEFAULTS.items():
        if key == _REQUEST_TIMEOUT and numbers < _REQUEST_TIMEOUT_SINCE:
            continue
        sources = hadoop.getPropertySources(key) or ()
        if all(str(source).endswith("-default.xml") for source in sources):
            conf.setIfMissing(f"spark.hadoop.{key}", value)


def sockets_fit(master: str, folder: str) -> bool:
    """Return whether Unix sockets can be made in `folder`, and in those of all other processes.

    An executor makes its sockets in its own temporary folder, of which the driver knows nothing:
    that of a YARN container is longer than a socket's path may be. In local mode there is none.
    """
    is_local = master == "local" or master.startswith("local[")
    return is_local and len(os.fsencode(folder)) + _SOCKET_NAME <= _SOCKET_PATH


def _temporary_folder(conf: SparkConf) -> str:
    """Return where this process and its Python workers would make their sockets."""
    jvm = SparkContext._jvm
    assert jvm is not None
    folder = conf.get(_SOCKET_FOLDER) or jvm.java.lang.System.getProperty("java.io.tmpdir")
    return str(Path(folder).absolute())


@contextlib.contextmanager
def stopping(spark: SparkSession) -> Iterator[None]:
    """Stop a session at the end; where its JVM is gone, what it was doing is what failed.

    A session that was there before the job, as a platform's own, is not the job's to stop.
    """
    if spark in _not_ours:
        yield
        return
    try:
        yield
    except BaseException:
        with contextlib.suppress(Exception):
            spark.stop()
        raise
    spark.stop()


def note_in_log(run_id: str, step: str) -> None:
    """Make the lines of Spark's own log, where they are JSON, name what a job is at."""
    jvm = SparkContext._jvm
    if jvm is not None and (jvm.java.lang.System.getProperty(_PATTERN) or "").startswith("{"):
        _log_by(_JSON.replace("RUN_ID", run_id).replace("STEP", step))


def _set_log_levels(pattern: str) -> None:
    """Make the JVM log by our rules before the SparkContext says its first word."""
    jvm = SparkContext._jvm
    assert jvm is not None
    if any(
        jvm.java.lang.System.getProperty(key)
        for key in ("log4j2.configurationFile", "log4j.configurationFile")
    ):
        return  # the user has rules of their own
    # Spark lays its defaults over any rules at its first word: have it say that first
    jvm.org.apache.spark.SparkConf(False).initializeLogIfNecessary(False)
    _log_by(pattern)


def _quiet_about_queries() -> None:
    """Stop PySpark from logging what it raises; the job says what was wrong in its own words."""
    with contextlib.suppress(ImportError):  # Spark 3.5 logs nothing of the kind
        from pyspark.logger import PySparkLogger

        for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
            PySparkLogger.getLogger(name).setLevel(logging.CRITICAL + 1)


def _log_by(pattern: str) -> None:
    """Make the JVM write its log by our rules, in lines of a pattern."""
    jvm = SparkContext._jvm
    assert jvm is not None
    jvm.java.lang.System.setProperty(_PATTERN, pattern)
    with as_file(files("sparkgmm.spark") / "log4j2.properties") as rules:
        jvm.org.apache.logging.log4j.core.config.Configurator.reconfigure(
            jvm.java.net.URI(rules.as_uri())
        )


def ship_package(spark: SparkSession) -> None:
    """Send this package to the executors: they need numpy and pyarrow, nothing else."""
    spark.sparkContext.addPyFile(packed_package())


def packed_package() -> str:
    """Return the path of a zip of this package, which goes when the process ends."""
    folder = tempfile.mkdtemp(prefix="sparkgmm-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    package = Path(__file__).resolve().parent.parent
    return shutil.make_archive(
        str(Path(folder) / "sparkgmm"), "zip", root_dir=package.parent, base_dir=package.name
    )
