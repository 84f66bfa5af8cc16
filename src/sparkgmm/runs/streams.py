"""Standard error of a driver that spark-submit started, which hands it on as standard output."""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import Any


class JvmStderr(io.RawIOBase):
    """The standard error of the JVM that started this process, and outlives it on Linux."""

    def __init__(self) -> None:
        super().__init__()
        self._copy = _copy_of_jvm_stderr()

    def writable(self) -> bool:
        """Return True: one can write to it."""
        return True

    def isatty(self) -> bool:
        """Return whether it is a terminal, where that can be seen (on Linux)."""
        try:
            target = Path(f"/proc/{os.getppid()}/fd/2").readlink()
        except OSError:
            return False
        return str(target).startswith(("/dev/pts/", "/dev/tty"))

    def write(self, content: Any) -> int:
        """Write bytes through py4j, or where the JVM is gone to its end of standard error.

        What Python has itself is a pipe to the JVM, which nobody reads any more.
        """
        from pyspark import SparkContext

        text = bytearray(content)
        try:
            SparkContext._ensure_initialized()
            assert SparkContext._jvm is not None
            SparkContext._jvm.java.lang.System.err.write(text)
        except Exception:
            if self._copy is not None:
                return os.write(self._copy, bytes(text))
            assert sys.__stderr__ is not None
            sys.__stderr__.buffer.write(bytes(text))
            sys.__stderr__.flush()
        return len(text)


def _copy_of_jvm_stderr() -> int | None:
    """Open what the JVM has as standard error, where that can be done: not if it is a socket."""
    try:
        return os.open(f"/proc/{os.getppid()}/fd/2", os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    except OSError:
        return None


def direct_errors() -> None:
    """Make what is meant for standard error arrive there, under spark-submit too."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        stream = io.BufferedWriter(JvmStderr())
        sys.stderr = io.TextIOWrapper(stream, encoding="utf-8", line_buffering=True)


def without_py4js_tracebacks() -> None:
    """Drop what py4j logs of a call that the JVM did not live to answer: the job says it itself."""
    logging.getLogger().addFilter(_is_not_py4js)


def _is_not_py4js(record: logging.LogRecord) -> bool:
    return record.getMessage() != "Exception while sending command."
