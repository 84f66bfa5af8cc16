"""Standard error of a driver that spark-submit started, which hands it on as standard output."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any


class JvmStderr(io.RawIOBase):
    """The standard error of the JVM that started this process."""

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
        """Write bytes through py4j, or where the JVM is gone to what Python has."""
        from pyspark import SparkContext

        text = bytearray(content)
        try:
            SparkContext._ensure_initialized()
            assert SparkContext._jvm is not None
            SparkContext._jvm.java.lang.System.err.write(text)
        except Exception:
            assert sys.__stderr__ is not None
            sys.__stderr__.buffer.write(bytes(text))
            sys.__stderr__.flush()
        return len(text)


def direct_errors() -> None:
    """Make what is meant for standard error arrive there, under spark-submit too."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        stream = io.BufferedWriter(JvmStderr())
        sys.stderr = io.TextIOWrapper(stream, encoding="utf-8", line_buffering=True)


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
