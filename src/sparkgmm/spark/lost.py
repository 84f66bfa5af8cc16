"""Whether Spark itself is gone: its JVM ended, or the connection to its server was lost."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

from sparkgmm.errors import SparkGmmError
from sparkgmm.spark.executors import executor_fault
from sparkgmm.spark.file_systems import first_line

# What Spark exits by where a thread found no memory: in local mode tasks run in the driver's JVM.
_NO_MEMORY = 52
_AGAIN = "start the same job again (a fit with an output.run_id goes on after its last pass)"
_MORE = "give the driver more with --driver-memory, or spark.driver.memory where a session is made"
# What Spark Connect's client says of a server that does not answer, or that was started anew.
_NO_SERVER = (
    "StatusCode.UNAVAILABLE",
    "failed to connect to all addresses",
    "SESSION_NOT_FOUND",
    "SESSION_CHANGED",
    "Socket closed",
)
# What jobs are ended by where Spark is stopped: by a signal to its JVM, a scheduler, or stop().
_STOPPED = (
    "SparkContext was shut down",
    "SparkContext has been shutdown",
    "Cannot call methods on a stopped SparkContext",
)


class LostSparkError(SparkGmmError):
    """Spark ended, or cannot be reached any more; the same job may go well later."""

    may_pass = True


def jvm_is_gone() -> bool:
    """Return whether there was a JVM and it does not answer any more."""
    from pyspark import SparkContext

    if SparkContext._jvm is None:
        return False
    try:
        SparkContext._jvm.java.lang.System.nanoTime()
    except Exception:
        return True
    return False


def lost_spark(error: BaseException) -> LostSparkError | None:
    """Return what to say where an exception came because Spark is gone, or None.

    Ask before the exception's text is read: py4j asks the JVM for it.
    """
    if isinstance(error, LostSparkError):
        return error
    text = None if jvm_is_gone() else _text_of(error)
    if text is None:
        return LostSparkError(_of_jvm(_exit_code_of_jvm()))
    if "java.lang.OutOfMemoryError" in text and executor_fault(text) is None:
        return LostSparkError(_of_jvm(_NO_MEMORY))  # it is about to end
    if any(mark in text for mark in _STOPPED):
        return LostSparkError(f"Spark was stopped while it was at work: {_AGAIN}")
    of_connect = type(error).__module__.startswith(("grpc", "pyspark.errors.exceptions.connect"))
    if of_connect and any(mark in text for mark in _NO_SERVER):
        return LostSparkError(
            f"the connection to Spark's server was lost ({first_line(error)}): look whether "
            "it runs, and for its memory in its log, then make a new session and fit again"
        )
    return None


def _text_of(error: BaseException) -> str | None:
    try:
        return str(error)
    except Exception:  # the JVM ended just now
        return None


def _of_jvm(code: int | None) -> str:
    if code == _NO_MEMORY:
        return (
            f"the driver's JVM has no memory left (java.lang.OutOfMemoryError, exit code {code}): "
            f"{_MORE}, then {_AGAIN}"
        )
    if code is not None and code < 0:
        return (
            f"Spark's JVM was killed (signal {-code}): where the machine had no memory left, give "
            f"the driver less, or the machine more; {_AGAIN}"
        )
    met = "" if code is None else f" (exit code {code})"
    return (
        f"Spark's JVM ended{met}: it was killed or had no memory left; in the second case {_MORE}; "
        f"{_AGAIN}"
    )


def _exit_code_of_jvm() -> int | None:
    """Return how the JVM ended, less than 0 for a signal; None where it is not our child."""
    from pyspark import SparkContext

    gateway: Any = SparkContext._gateway
    process = getattr(gateway, "proc", None)
    if process is None:
        return None
    with contextlib.suppress(subprocess.TimeoutExpired):
        return int(process.wait(timeout=5))
    return None
