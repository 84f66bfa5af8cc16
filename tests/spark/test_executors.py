"""What executors lack is said as that, by what Spark 4.3 raised when it was made to happen."""

from __future__ import annotations

import pytest

from sparkgmm.errors import ConfigurationError
from sparkgmm.runs.cli import _ending
from sparkgmm.spark.error_translation import translate
from sparkgmm.spark.executors import executor_fault

pytestmark = pytest.mark.spark

DAEMON = """An error occurred while calling o1.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 2.0 failed 4 \
times, most recent failure: Lost task 0.3 in stage 2.0 (TID 5) (host executor 1): \
org.apache.spark.SparkException:
Error from python worker:
  {said}
PYTHONPATH was:
  /mnt/yarn/usercache/hadoop/filecache/10/pyspark.zip
org.apache.spark.SparkException: EOFException occurred while reading the port number from \
pyspark.daemon's stdout and terminated with code: 1..
\tat org.apache.spark.errors.SparkCoreErrors$.eofExceptionWhileReadPortNumberError
"""
CRASHED = """An error occurred while calling o1.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 in stage 0.0 failed 1 \
times: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed). Consider \
setting 'spark.python.worker.faulthandler.enabled' configuration to 'true'
Caused by: java.io.EOFException
"""
LOST = (
    "Job aborted due to stage failure: Task 0 in stage 1.0 failed 4 times, most recent failure: "
    "Lost task 0.3 in stage 1.0 (TID 7) (host executor 4): ExecutorLostFailure (executor 4 exited "
    "caused by one of the running tasks) Reason: {reason}\nDriver stacktrace:"
)
OVER = (
    "Container killed by YARN for exceeding physical memory limits. 4.1 GB of 4 GB physical "
    "memory used. Consider boosting spark.executor.memoryOverhead."
)
RUNNING_BEYOND = (
    "[2026-11-26 10:00:00.000]Container [pid=10,containerID=container_1_0001_01_000002] is "
    "running 1048576B beyond the 'PHYSICAL' memory limit. Current usage: 1.1 GB of 1 GB physical "
    "memory used; 4.5 GB of 2.1 GB virtual memory used. Killing container."
)
TOO_LARGE = (
    "Job aborted due to stage failure: Total size of serialized results of 119 tasks (1030.6 MiB) "
    "is bigger than spark.driver.maxResultSize (1024.0 MiB)"
)
K8S = "The executor with id 3 exited with exit code 137(SIGKILL, possible container OOM)."


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            DAEMON.format(said="Traceback\n  OSError: AF_UNIX path too long"),
            ["temporary folder is too long", "spark.python.unix.domain.socket.enabled"],
        ),
        (
            TOO_LARGE,
            ["119 tasks are 1030.6 MiB", "spark.driver.maxResultSize allows (1024.0 MiB)"],
        ),
        (
            "Lost task 0.0 in stage 0.0 (TID 0) (10.0.0.1 executor 4): java.lang.OutOfMemoryError",
            ["an executor's heap is used up", "spark.executor.memory"],
        ),
        (LOST.format(reason="Command exited with code 52"), ["heap is used up", "executor.memory"]),
        (
            "org.apache.spark.memory.SparkOutOfMemoryError: [UNABLE_TO_ACQUIRE_MEMORY] Unable to",
            ["a task found no memory in its executor's heap", "spark.executor.memory"],
        ),
        (
            DAEMON.format(said="ModuleNotFoundError: No module named 'numpy'"),
            ["numpy is missing on the executors", "--archives"],
        ),
        (
            DAEMON.format(said="/usr/bin/python3: No module named pyspark"),
            ["pyspark is missing on the executors"],
        ),
        (
            DAEMON.format(said="error: Python 3.11 is needed on this machine: install it"),
            ["does not start (Python 3.11 is needed on this machine: install it)"],
        ),
        (
            "org.apache.spark.SparkException: EOFException occurred while reading the port number "
            "from pyspark.daemon's stdout and terminated with code: 137..",
            ["does not start (it ended with code 137)", "spark.pyspark.python"],
        ),
        (
            'java.io.IOException: Cannot run program "./environment/bin/python": error=2, No such '
            "file or directory",
            ["cannot run ./environment/bin/python (there is no such file)"],
        ),
        (
            'java.io.IOException: Cannot run program "python3": Exec failed, error: 13 (Permission '
            "denied)",
            ["cannot run python3 (it may not be executed)"],
        ),
        (
            "ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by x.so)",
            ["cannot load a package", "GLIBC_2.34"],
        ),
        (CRASHED, ["ended in the middle of its work", "spark.executor.memoryOverhead"]),
        (LOST.format(reason=OVER), ["physical memory (4.1 GB of 4 GB physical memory used)"]),
        (
            LOST.format(reason=f"Container marked as failed. {RUNNING_BEYOND}"),
            ["memory (1.1 GB of 1 GB physical memory used)", "spark.executor.memoryOverhead"],
        ),
        (LOST.format(reason=K8S), ["killed (137)", "spark.executor.memoryOverhead"]),
        (
            LOST.format(reason="Container marked as failed: x. Exit status: 137. Diagnostics: y"),
            ["killed (137)"],
        ),
        (
            LOST.format(reason="Executor heartbeat timed out after 121000 ms"),
            ["executors were lost (Executor heartbeat timed out after 121000 ms)"],
        ),
        (
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 TiB for an array",
            ["no memory left (Unable to allocate 8.00 TiB for an array)"],
        ),
    ],
)
def test_what_executors_lack_is_never_a_fault_of_the_input(text: str, parts: list[str]) -> None:
    error = translate(RuntimeError(text), "hdfs://host/trips")
    assert isinstance(error, ConfigurationError)
    assert "input.path" not in str(error)
    assert "\n" not in str(error)
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "java.util.zip.ZipException: invalid block type",
        "java.io.EOFException: Unexpected end of input stream",
        "java.io.IOException: Permission denied",
        "ValueError: exit code 3",
    ],
)
def test_other_errors_are_not_laid_on_the_executors(text: str) -> None:
    assert executor_fault(text) is None


def test_where_nobody_translates_it_a_job_ends_with_it_as_configuration() -> None:
    line, code = _ending(RuntimeError(CRASHED))
    assert code == 2
    assert line.startswith("error: an executor's Python ended")
