"""The session that a job starts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkgmm.spark.session import DEFAULTS, ship_package, start_session

OVERRIDDEN = "spark.executorEnv.MKL_NUM_THREADS"


@pytest.mark.parametrize("key", sorted(DEFAULTS.keys() - {OVERRIDDEN}))
def test_the_session_has_the_defaults_that_keep_the_bits_the_same(
    spark: SparkSession, key: str
) -> None:
    assert spark.sparkContext.getConf().get(key) == DEFAULTS[key]


def test_sparks_own_progress_bar_is_off_beside_ours(spark: SparkSession) -> None:
    assert spark.sparkContext.getConf().get("spark.ui.showConsoleProgress") == "false"


def test_what_the_user_set_stays(spark: SparkSession) -> None:
    assert OVERRIDDEN in DEFAULTS
    assert spark.sparkContext.getConf().get(OVERRIDDEN) == "2"
    assert spark.sparkContext.master == "local[2]"


def test_a_running_session_is_taken_and_not_replaced(spark: SparkSession) -> None:
    again = start_session("another name")
    assert again.sparkContext is spark.sparkContext


def test_spark_is_quiet_below_warnings(spark: SparkSession) -> None:
    log4j = spark.sparkContext._jvm.org.apache.logging.log4j
    assert str(log4j.LogManager.getRootLogger().getLevel()) == "WARN"
    tasks = log4j.LogManager.getLogger("org.apache.spark.scheduler.TaskSetManager")
    assert str(tasks.getLevel()) == "OFF"


def test_executors_get_the_whole_package(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(type(spark.sparkContext), "addPyFile", lambda _, path: sent.append(path))
    ship_package(spark)
    [archive] = sent
    names = zipfile.ZipFile(archive).namelist()
    source = Path(__file__).resolve().parents[2] / "src"
    for module in (source / "sparkgmm").rglob("*.py"):
        assert str(module.relative_to(source)) in names
