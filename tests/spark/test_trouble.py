"""What Spark's exceptions mean to the user."""

from __future__ import annotations

import pytest

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.spark.error_translation import translate
from sparkgmm.spark.file_systems import first_line

pytestmark = pytest.mark.spark

JAVA = """An error occurred while calling o71.collectToPython.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 failed 1 times
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2844)
Caused by: java.util.zip.ZipException: invalid block type
\tat java.base/java.util.zip.InflaterInputStream.read(InflaterInputStream.java:165)
"""


def test_the_line_shown_is_that_of_the_last_cause_without_java() -> None:
    assert first_line(Exception(JAVA)) == "invalid block type"


def test_the_line_shown_of_a_plain_exception_is_its_first() -> None:
    assert first_line(Exception("\n  one thing. SQLSTATE: 42K03\nmore")) == "one thing"
    assert first_line(KeyError()) == "KeyError"


def test_the_line_shown_of_a_java_exception_without_cause_is_its_own() -> None:
    error = Exception("An error occurred while calling o1.load.\n: a.b.SomeException: why\n\tat x")
    assert first_line(error) == "why"


def test_a_line_is_never_endless() -> None:
    assert len(first_line(Exception("x" * 10_000))) == 300


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("[PATH_NOT_FOUND] Path does not exist: file:/x", InputError, "does not exist"),
        ("[UNABLE_TO_INFER_SCHEMA] Unable to infer schema", InputError, "no readable data"),
        ("[FAILED_READ_FILE.NO_HINT] file:/x", InputError, "cannot be read"),
        (JAVA, InputError, "invalid block type"),
        ("ModuleNotFoundError: No module named 'numpy'", ConfigurationError, "numpy is missing"),
        ("No module named 'pyarrow.lib'", ConfigurationError, "pyarrow is missing"),
        (
            "[PYTHON_VERSION_MISMATCH] Python in worker has different version: 3.9 than 3.11",
            ConfigurationError,
            "(3.9 and 3.11)",
        ),
        (
            "PyArrow >= 15.0.0 must be installed; however, your version was 9.0.0.",
            ConfigurationError,
            "PyArrow >= 15",
        ),
        (
            'Cannot run program "python9": error=2, No such file or directory',
            ConfigurationError,
            "cannot run python9",
        ),
    ],
)
def test_known_trouble_becomes_an_error_with_a_remedy(
    text: str, kind: type[Exception], part: str
) -> None:
    found = translate(Exception(text), "some/path")
    assert type(found) is kind
    assert part in str(found)


def test_unknown_trouble_stays_what_it_is() -> None:
    assert translate(ValueError("something else")) is None
