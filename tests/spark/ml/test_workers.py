"""What the workers import for a transform: numpy and pyarrow, no more."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.spark

PROGRAM = """
import sys
import sparkgmm.spark.ml.vectors
heavy = {"pandas", "pyspark.ml", "pyspark.sql", "pydantic", "matplotlib", "sklearn", "scipy"}
print(sorted(heavy & sys.modules.keys()))
"""


def test_the_module_that_workers_import_is_light() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
