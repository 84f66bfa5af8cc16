"""What a job says as JSON, for log shippers: an object a line, with time, level, run_id, step."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from sparkgmm.spark.masking import masked

_EMPTY: Mapping[str, str | None] = {"run_id": None, "step": "start"}
# Jobs may run in several threads of one process.
_context: ContextVar[Mapping[str, str | None]] = ContextVar("context", default=_EMPTY)


def set_context(**known: str | None) -> None:
    """Set the `run_id` or `step` of the lines from here on."""
    _context.set({**_context.get(), **known})


def context() -> Mapping[str, str | None]:
    """Return the `run_id` and `step` that lines have now."""
    return _context.get()


def clear_context() -> None:
    """Forget what an earlier job of this thread has set."""
    _context.set(_EMPTY)


def write(level: str, message: str, **fields: Any) -> None:
    """Write a line to standard error; `level` is info, warning or error, secrets are masked."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"time": now, "level": level, **_context.get(), "message": masked(message), **fields}
    print(json.dumps(line, ensure_ascii=False), file=sys.stderr, flush=True)


def write_error(error: BaseException, message: str, code: int, with_traceback: bool) -> None:
    """Write the line of an error that ends a job with an exit code."""
    message = message.removeprefix("error: ")
    fields: dict[str, Any] = {"exit_code": code}
    if with_traceback:
        fields["traceback"] = masked("".join(traceback.format_exception(error)))
    write("error", message, **fields)


def asked_for(arguments: Sequence[str]) -> bool:
    """Return whether a command line, which may be wrong otherwise, asks for JSON."""
    return "--log-format=json" in arguments or ("--log-format", "json") in pairwise(arguments)


@contextmanager
def with_warnings(as_json: bool) -> Iterator[None]:
    """Show what Python's warnings and the package's own log say: as JSON, or as plain lines."""

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        write("warning", f"{category.__name__}: {message}")

    handler = _Handler(as_json)
    log = logging.getLogger("sparkgmm")
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            if as_json:
                warnings.showwarning = show
            yield
    finally:
        log.removeHandler(handler)


class _Handler(logging.Handler):
    """Writes the package's log as a job writes all its lines."""

    def __init__(self, as_json: bool) -> None:
        super().__init__(logging.WARNING)
        self._as_json = as_json

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        if self._as_json:
            write(record.levelname.lower(), record.getMessage())
        else:
            stamp = time.strftime("%H:%M:%S")
            print(f"{stamp} {masked(record.getMessage())}", file=sys.stderr, flush=True)
