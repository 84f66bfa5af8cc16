"""The JVM of a job that makes its own session, started without what every JVM of Spark's says."""

from __future__ import annotations

import os
import re
import threading
from typing import Any

from pyspark import java_gateway

# Said before any rule of ours for the log can be laid down, and about nothing that a user did.
_CHATTER = re.compile(
    rb"WARNING: Using incubator modules: "
    rb"|Using Spark's default log4j profile: "
    rb"|Setting default log level to "
    rb"|To adjust logging level use sc\.setLogLevel"
    rb"|\d\d/\d\d/\d\d \d\d:\d\d:\d\d WARN "
    rb"(Utils: (Your hostname|Set SPARK_LOCAL_IP)|NativeCodeLoader: Unable to load native)"
)
# How long to wait for the last words of a JVM that did not start.
_LAST_WORDS = 2.0


def launch_quietly() -> Any:
    """Start a JVM whose standard error is handed on without the chatter of its start.

    All else passes, line by line, to this process's own standard error.
    """
    here, there = os.pipe()
    thread = threading.Thread(target=_hand_on, args=(here,), name="standard error", daemon=True)
    thread.start()
    try:
        launch: Any = java_gateway.launch_gateway
        return launch(popen_kwargs={"stderr": there})
    except BaseException:
        os.close(there)
        there = -1
        thread.join(_LAST_WORDS)
        raise
    finally:
        if there >= 0:
            os.close(there)


def _hand_on(source: int) -> None:
    with os.fdopen(source, "rb") as lines:
        for line in lines:
            if _CHATTER.match(line):
                continue
            try:
                os.write(2, line)
            except OSError:  # nobody reads it any more
                return
