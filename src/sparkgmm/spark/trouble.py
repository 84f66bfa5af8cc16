"""What an exception from Spark means to the user, where that can be told."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError
from sparkgmm.spark.executors import executor_fault

# What a reader throws at rows or files that it cannot read, as it appears in Spark's messages.
_UNREADABLE = (
    "FAILED_READ_FILE",
    "is not a Parquet file",
    "Could not read footer",
    "CANNOT_READ_FILE_FOOTER",
    "FAILED_READ_",
    "MALFORMED_RECORD_IN_PARSING",
    "MALFORMED_CSV_RECORD",
    "ParquetDecodingException",
    "BadRecordException",
    "ZipException",
    "not in GZIP format",
    "EOFException",
    "FileFormatException",
    "MalformedInputException",
    "FileNotFoundException",
    "Encountered error while reading file",
    "AccessControlException",
    "Permission denied",
)
# What Spark throws where an expression has no value for a row.
_NOT_COMPUTED = re.compile(
    r"\[(USER_RAISED_EXCEPTION|DIVIDE_BY_ZERO|REMAINDER_BY_ZERO|CAST_INVALID_INPUT|CAST_OVERFLOW"
    r"|ARITHMETIC_OVERFLOW|BINARY_ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT_OF_RANGE"
    r"|INVALID_ARRAY_INDEX|INVALID_PARAMETER_VALUE|CANNOT_PARSE_TIMESTAMP|DATETIME_"
    r"|FAILED_EXECUTE_UDF)"
)
# What Hadoop throws at an address that it cannot make a file system of.
_UNREACHABLE = (
    "No FileSystem for scheme",
    "FileSystem not found",
    "URISyntaxException",
    "UnknownHostException",
)


# What a file system throws when it takes no more, or not from us.
_UNWRITABLE = (
    "No space left on device",
    "Disk quota exceeded",
    "QuotaExceeded",
    "Read-only file system",
    "AccessControlException",
    "Permission denied",
    "java.io.IOException",
    "java.nio.file.",
)


def unwritable(error: BaseException, path: str) -> ConfigurationError | None:
    """Return the error to show where an output could not be written, or None for another cause."""
    if not isinstance(error, OSError) and not any(mark in str(error) for mark in _UNWRITABLE):
        return None
    return ConfigurationError(
        f"output.path {path!r} cannot be written ({first_line(error)}): make room there or choose "
        "another, and start the same job again"
    )


def first_line(error: BaseException) -> str:
    """Return the one line of an exception's text that says most, without Java's frames."""
    text = str(error)
    causes = re.findall(r"^Caused by: (.+)$", text, flags=re.MULTILINE)
    # py4j says first which call failed, and on the next line why
    text = re.sub(r"^An error occurred while calling .*\n(?:: )?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = causes[-1] if causes else (lines[0] if lines else type(error).__name__)
    line = re.sub(r"^(?:[\w$]+\.)+[\w$]+(?:Exception|Error): ", "", line)
    return re.sub(r"\s+SQLSTATE: \w+.*$", "", line)[:300].rstrip(".; ")


def input_at(path: object) -> str:
    """Return how a message calls the input, which has a path or none."""
    return "the input" if path is None else f"input.path {path!r}"


def translate(error: BaseException, path: object = None) -> SparkGmmError | None:
    """Return the error to show instead of Spark's, or None where it is not a known one."""
    text = str(error)
    told = input_at(path)
    executor = executor_fault(text)
    if executor:
        return ConfigurationError(executor)
    if "PATH_NOT_FOUND" in text or "Path does not exist" in text:
        return InputError(f"{told} does not exist: give an existing file or folder")
    if "UNABLE_TO_INFER_SCHEMA" in text or "Unable to infer schema" in text:
        return InputError(
            f"{told} holds no readable data: give a file with rows, or set "
            "input.format to what it is"
        )
    if "COLUMN_ALREADY_EXISTS" in text:
        return InputError(
            f"{told} has a column twice, or again in another case ({first_line(error)}): rename "
            "one, or tell them apart by --conf spark.sql.caseSensitive=true"
        )
    if any(mark in text for mark in _UNREACHABLE):
        return InputError(
            f"{told} cannot be reached ({first_line(error)}): check the address, or "
            "add its file system with --packages"
        )
    if any(mark in text for mark in _UNREADABLE):
        return InputError(
            f"{told} cannot be read ({first_line(error)}): check that the files are "
            "whole and that input.format and input.options are right"
        )
    if _NOT_COMPUTED.search(text):
        return InputError(
            f"{told} has a row that cannot be computed ({first_line(error)}): mend the row, or the "
            "expression, as in input.where (try_divide and try_cast give null)"
        )
    return None


@contextlib.contextmanager
def telling(path: object = None) -> Iterator[None]:
    """Raise what Spark raises as the error to show, where it is a known one."""
    try:
        yield
    except SparkGmmError:
        raise
    except Exception as error:
        known = translate(error, path)
        if known:
            raise known from error
        raise
