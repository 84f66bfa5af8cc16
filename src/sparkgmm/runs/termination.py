"""SIGTERM: Spark's jobs are cancelled, what they were writing is taken back, the process ends."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

# What a shell says of a process that SIGTERM ended.
TERMINATED = 128 + signal.SIGTERM
GRACE_SECONDS = 10.0

_asked = threading.Event()
_at_rest = threading.Event()  # nothing is being moved to where others look for it
_at_rest.set()


def asked_to_end() -> bool:
    """Return whether SIGTERM came."""
    return _asked.is_set()


def end_on_sigterm() -> None:
    """End soon after SIGTERM with exit code 143, by the error that cancelled jobs raise or anyhow.

    A handler that raised in the middle of a call would leave the connection to the JVM with an
    answer too many; so the handler only starts a thread, which has a connection of its own.
    """
    with contextlib.suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGTERM, lambda *_: _begin_to_end())


def _begin_to_end() -> None:
    if not _asked.is_set():
        _asked.set()
        threading.Thread(target=_end, daemon=True).start()


def _end() -> None:
    from pyspark import SparkContext

    end = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < end:
        context = SparkContext._active_spark_context
        if context is not None:
            with contextlib.suppress(Exception):  # the JVM may have got the signal too
                context.cancelAllJobs()
        time.sleep(0.5)  # and what was started in between
    _at_rest.wait(GRACE_SECONDS)
    sys.stdout.flush()
    os._exit(TERMINATED)


def check() -> None:
    """Raise where SIGTERM came, between two jobs of Spark's, where there is none to cancel.

    Raises
    ------
    InterruptedError
        Then.

    """
    if _asked.is_set():
        raise InterruptedError("SIGTERM")


@contextlib.contextmanager
def sigterm_delayed() -> Iterator[None]:
    """Let SIGTERM wait for what is done here, which takes a moment."""
    _at_rest.clear()
    try:
        yield
    finally:
        _at_rest.set()
