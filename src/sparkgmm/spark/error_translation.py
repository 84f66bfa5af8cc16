"""What an exception from Spark means to the user, where that is known."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError
from sparkgmm.spark.executors import executor_fault
from sparkgmm.spark.file_systems import INPUT, OUTPUT, error_of, fault_in, first_line
from sparkgmm.spark.lost import lost_spark
from sparkgmm.spark.names import place_named
from sparkgmm.spark.table_errors import table_error

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
    "Encountered error while reading file",
)
# What Spark throws where an expression has no value for a row.
_NOT_COMPUTED = re.compile(
    r"\[(USER_RAISED_EXCEPTION|DIVIDE_BY_ZERO|REMAINDER_BY_ZERO|CAST_INVALID_INPUT|CAST_OVERFLOW"
    r"|ARITHMETIC_OVERFLOW|BINARY_ARITHMETIC_OVERFLOW|NUMERIC_VALUE_OUT_OF_RANGE"
    r"|INVALID_ARRAY_INDEX|INVALID_PARAMETER_VALUE|CANNOT_PARSE_TIMESTAMP|DATETIME_"
    r"|FAILED_EXECUTE_UDF)"
)
# Faults of a file system that, while rows are read, are those of an executor's own disk.
_OF_A_DISK = ("full", "read-only")


def input_at(path: object) -> str:
    """Return how a message calls the input, which has a path, a table's name, or neither."""
    return place_named(path)


def translate(error: BaseException, path: object = None) -> SparkGmmError | None:
    """Return the error to show instead of Spark's, or None where it is not a known one."""
    lost = lost_spark(error)
    if lost:
        return lost
    text = str(error)
    name = input_at(path)
    executor = _executor_error(text)
    if executor:
        return executor
    of_table = table_error(error, name)
    if of_table:
        return of_table
    if "PATH_NOT_FOUND" in text or "Path does not exist" in text:
        return InputError(f"{name} does not exist: give an existing file or folder")
    if "UNABLE_TO_INFER_SCHEMA" in text or "Unable to infer schema" in text:
        return InputError(
            f"{name} holds no readable data: give a file with rows, or set "
            "input.format to what it is"
        )
    if "COLUMN_ALREADY_EXISTS" in text:
        return InputError(
            f"{name} has a column twice, or again in another case ({first_line(error)}): rename "
            "one, or distinguish them by --conf spark.sql.caseSensitive=true"
        )
    fault = fault_in(text)
    if fault is not None and fault.name not in _OF_A_DISK:
        return error_of(error, INPUT, path)
    if any(mark in text for mark in _UNREADABLE):
        return InputError(
            f"{name} cannot be read ({first_line(error)}): check that the files are "
            "whole and that input.format and input.options are right"
        )
    if _NOT_COMPUTED.search(text):
        return InputError(
            f"{name} has a row that cannot be computed ({first_line(error)}): fix the row, or "
            "the expression, as in input.where (try_divide and try_cast give null)"
        )
    return None


def translate_writing(
    error: Exception, read_from: object, written_to: str, draft: str
) -> SparkGmmError | None:
    """Return the error to show where rows are read and written in one go, or None.

    `read_from` and `written_to` are the paths as the user gave them. `draft` is a
    regular expression for the folder that Spark wrote to, by which it is known whose fault an
    exception is.
    """
    if isinstance(error, SparkGmmError):
        return error
    output = error_of(error, OUTPUT, written_to, writing=True)
    if output is not None and (isinstance(error, OSError) or re.search(draft, str(error))):
        return _executor_error(str(error)) or output
    return translate(error, read_from) or output


@contextlib.contextmanager
def translated_errors(path: object = None) -> Iterator[None]:
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


def _executor_error(text: str) -> ConfigurationError | None:
    found = executor_fault(text)
    return None if found is None else ConfigurationError(found)
