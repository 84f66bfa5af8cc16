"""What is wrong with the executors or their Python, by what Spark raises when they fail."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pyspark import SparkContext

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_INSTALL = (
    "install it for their Python, or send a packed environment with --archives and "
    "spark.pyspark.python"
)
# Spark's words for what YARN did, and YARN's own.
_OVER_LIMIT = re.compile(
    r"killed by YARN for exceeding (\w+) memory limits\. ((?:[^.\n]|\.\d)* used)"
    r"|beyond (?:the )?'?(\w+)'? memory limit[^:\n]*: ([^;\n]* used)"
)
_HEAP = "give executors more with spark.executor.memory, or fewer cores each"
_MEMORY = "give executors more with spark.executor.memoryOverhead, or fewer cores each"


def executor_fault(text: str) -> str | None:
    """Return in one line what the executors lack, by the text of an exception, or None.

    It needs no job of its own: the first one that runs on them fails by it. None of these is a
    fault of the rows, though they appear while rows are read.
    """
    return next((said for say in _CAUSES if (said := say(text))), None)


def use_own_python(spark: SparkSession) -> None:
    """Have the workers of local mode run the driver's Python, unless the user named one.

    PySpark takes the first python3 of the PATH for them, which in a virtual environment that is not
    activated is another one, without numpy.
    """
    context = getattr(spark, "_sc", None)  # there is none on Spark Connect
    if context is None or not _local(context.master) or "PYSPARK_PYTHON" in os.environ:
        return
    if spark.conf.get("spark.pyspark.python", None) is None:
        context.pythonExec = sys.executable


def _local(master: str) -> bool:
    return master == "local" or master.startswith("local[")


def _both_pythons() -> str | None:
    """Name the Python of workers on this machine and the driver's, and the line that mends it.

    None where they are the same, or the workers are elsewhere.
    """
    context = SparkContext._active_spark_context
    if context is None or not _local(str(context.master)):
        return None
    theirs = getattr(context, "pythonExec", None) or os.environ.get("PYSPARK_PYTHON", "python3")
    if theirs == sys.executable:
        return None
    return (
        f" (the workers run {theirs}, the driver {sys.executable}): set PYSPARK_PYTHON to the "
        f"driver's, in Python by os.environ['PYSPARK_PYTHON'] = {sys.executable!r} before the "
        "session is made"
    )


def _missing_package(text: str) -> str | None:
    missing = re.search(r"No module named '(numpy|pyarrow|pandas|pyspark|sparkgmm)", text)
    if missing is None and _python_did_not_start(text):
        missing = re.search(r"No module named '?(\w+)", text)
    if missing is None:
        return None
    if (both := _both_pythons()) is not None:
        return f"{missing.group(1)} is missing in the workers' Python{both}"
    return f"{missing.group(1)} is missing on the executors: {_INSTALL}"


def _broken_package(text: str) -> str | None:
    """A package of another processor, system or version of Python: there, but not to be loaded."""
    found = re.search(
        r"^\s*(?:Original error was: |ImportError: |OSError: )?"
        r"([^\n]*(?:cannot open shared object file|wrong ELF class|version `[^\n']*' not found"
        r"|invalid ELF header|undefined symbol)[^\n]*)",
        text,
        flags=re.MULTILINE,
    )
    if found is None:
        return None
    return (
        f"the executors cannot load a package ({_short(found.group(1))}): build the environment "
        "for the system, processor and Python that they have"
    )


def _other_version(text: str) -> str | None:
    if (
        "PYTHON_VERSION_MISMATCH" not in text
        and "different version than that in driver" not in text
    ):
        return None
    versions = re.findall(r"\b3\.\d+", text)
    met = f" ({versions[0]} and {versions[1]})" if len(versions) > 1 else ""
    if (both := _both_pythons()) is not None:
        return f"the workers' Python is of another version than the driver's{met}{both}"
    return (
        f"the executors' Python is of another version than the driver's{met}: set PYSPARK_PYTHON "
        "and PYSPARK_DRIVER_PYTHON to the same version"
    )


def _old_package(text: str) -> str | None:
    found = re.search(r"(PyArrow|Pandas) >= \S+ must be installed[^.\n]*", text)
    if found is None:
        return None
    return f"the executors need a newer package ({found.group(0)}): update their Python"


def _no_interpreter(text: str) -> str | None:
    found = re.search(
        r'Cannot run program "([^"]*)"[^\n]*?(?:error[=:] ?|Exec failed, error: )(\d+)', text
    )
    if found is None:
        return None
    why = {
        "2": "there is no such file",
        "8": "it is for another processor",
        "13": "it may not be executed",
    }.get(found.group(2))
    said = f" ({why})" if why else ""
    return (
        f"the executors cannot run {found.group(1)}{said}: set spark.pyspark.python, or "
        "PYSPARK_PYTHON, to a Python that they have"
    )


def _socket_too_long(text: str) -> str | None:
    if "AF_UNIX path too long" not in text and "Unix domain path too long" not in text:
        return None
    return (
        "the executors' temporary folder is too long for a Unix socket: take "
        "spark.python.unix.domain.socket.enabled from your settings, or set "
        "spark.python.unix.domain.socket.dir to a short folder that all machines have"
    )


def _out_of_memory(text: str) -> str | None:
    limit = _OVER_LIMIT.search(text)
    if limit:
        kind, used = (part for part in limit.groups() if part)
        kind = kind.lower()
        return f"an executor was killed for its {kind} memory ({used}): {_MEMORY}"
    if "OOMKilled" in text or re.search(r"[Ee]xit (?:code|status)(?: is)?:? ?137", text):
        return f"an executor was killed (137), most often for its memory: {_MEMORY}"
    # 52 is Spark's own exit code where a thread found no memory
    if re.search(
        r"ExecutorLostFailure.*(java\.lang\.OutOfMemoryError|code 52\b)"
        r"|executor \d+\): java\.lang\.OutOfMemoryError",
        text,
        re.DOTALL,
    ):
        return f"an executor's heap is used up: {_HEAP}"
    if "SparkOutOfMemoryError" in text or "UNABLE_TO_ACQUIRE_MEMORY" in text:
        return f"a task found no memory in its executor's heap: {_HEAP}"
    return None


def _too_much_for_the_driver(text: str) -> str | None:
    """What the driver refuses to take, of all tasks together."""
    found = re.search(
        r"results of (\d+) tasks \(([^)]*)\) is bigger than \S*maxResultSize \(([^)]*)\)", text
    )
    if found:
        n, size, limit = found.groups()
        return (
            f"the results of {n} tasks are {size}, more than spark.driver.maxResultSize allows "
            f"({limit}): set it higher, and spark.driver.memory with it"
        )
    return None


def _no_memory_left(text: str) -> str | None:
    found = re.search(r"^\S*(?:MemoryError|ArrowMemoryError)\b:? ?([^\n]*)", text, re.MULTILINE)
    if found is None:
        return None
    said = f" ({_short(found.group(1))})" if found.group(1).strip() else ""
    return f"an executor's Python has no memory left{said}: {_MEMORY}"


def _lost(text: str) -> str | None:
    found = re.search(r"ExecutorLostFailure \([^\n]*?Reason: ([^\n]*)", text)
    if found is None:
        return None
    return (
        f"executors were lost ({_short(found.group(1))}): look into their logs; where they were "
        f"killed for memory, {_MEMORY}"
    )


def _python_died(text: str) -> str | None:
    if "Python worker exited unexpectedly" not in text:
        return None
    return (
        "an executor's Python ended in the middle of its work, most often killed for its memory: "
        f"{_MEMORY}"
    )


def _python_did_not_start(text: str) -> bool:
    return "Error from python worker" in text or "reading the port number" in text


def _did_not_start(text: str) -> str | None:
    """What is left: a Python that ended, or did not answer, before it took any work."""
    if _python_did_not_start(text):
        said = re.search(r"Error from python worker:\n(.*?)\nPYTHONPATH was:", text, re.DOTALL)
        lines = [line.strip() for line in said.group(1).splitlines()] if said else []
        ended = re.search(r"terminated with code: (\d+)", text)
        silent = f"it ended with code {ended.group(1)}" if ended else "it said nothing"
        last = next((line for line in reversed(lines) if line), silent)
    elif "Python worker failed to connect back" in text:
        last = "it did not connect to its executor"
    else:
        return None
    return (
        f"the executors' Python does not start ({_short(last)}): set spark.pyspark.python, or "
        "PYSPARK_PYTHON, to one that works on them"
    )


def _short(text: str) -> str:
    return text.strip().removeprefix("error: ")[:200].rstrip(".;: ")


# The first that finds its cause says it; the last ones are what more special ones left.
_CAUSES: Sequence[Callable[[str], str | None]] = (
    _socket_too_long,
    _missing_package,
    _other_version,
    _old_package,
    _broken_package,
    _no_interpreter,
    _out_of_memory,
    _no_memory_left,
    _too_much_for_the_driver,
    _did_not_start,
    _lost,
    _python_died,
)
