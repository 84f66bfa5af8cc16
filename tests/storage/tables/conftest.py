"""Real Delta and Iceberg tables: a session that has both, and jobs that are submitted with them.

Run by the Python of .venv-spark-4.1 (make test-storage), whose Spark they are made for.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helpers.table_jobs import Jobs, Run, Submit, draw, jars, settings


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """One session for all tests that do not submit a job, started as a job starts its own."""
    from sparkgmm.spark.session import start_session

    scratch = tmp_path_factory.mktemp("spark")
    confs = {
        **settings(scratch / "ice"),
        "spark.local.dir": scratch / "local",
        "spark.sql.warehouse.dir": scratch / "warehouse",
        "spark.sql.shuffle.partitions": 2,
        "spark.ui.enabled": "false",
        "spark.databricks.delta.retentionDurationCheck.enabled": "false",
    }
    given = " ".join(f"--conf {key}={value}" for key, value in confs.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYSPARK_DRIVER_PYTHON", sys.executable)
        patch.setenv(
            "PYSPARK_SUBMIT_ARGS",
            f"--master local[2] --jars {jars('delta', 'iceberg')} {given} "
            "--driver-java-options -XX:TieredStopAtLevel=1 pyspark-shell",
        )
        patch.delenv("SPARK_HOME", raising=False)
        session = start_session("sparkgmm tests of tables")
        session.sql("CREATE SCHEMA IF NOT EXISTS db")
        yield session
        session.stop()


@pytest.fixture
def jobs(spark: Any, tmp_path: Path) -> Jobs:
    return Jobs(spark, tmp_path)


@pytest.fixture
def passes_as_jobs(spark: Any) -> Iterator[None]:
    """Passes are jobs over blocks on the executors, as with large tables."""
    spark.conf.set("spark.sparkgmm.driverBytes", 1)
    yield
    spark.conf.unset("spark.sparkgmm.driverBytes")


@pytest.fixture(scope="module")
def one_fit(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run to score by."""
    made = Jobs(spark, tmp_path_factory.mktemp("fit"))
    return made.fit("one", path=made.parquet("rows", draw()))


@pytest.fixture
def submit(tmp_path: Path) -> Submit:
    return Submit(tmp_path)
