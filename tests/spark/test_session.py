"""The session that a job starts."""

from __future__ import annotations

import socket
import tempfile
import uuid
import zipfile
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkgmm.spark.session import DEFAULTS, SOCKETS, ship_package, sockets_fit, start_session

pytestmark = pytest.mark.spark

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
    scheduler = log4j.LogManager.getLogger("org.apache.spark.scheduler.DAGScheduler")
    assert str(scheduler.getLevel()) == "ERROR"  # large task binaries are warned of
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


# A temporary folder whose sockets have just enough place, and those of YARN's containers.
LONGEST = "/" + "t" * 59
CONTAINER = (
    "/mnt/yarn/usercache/hadoop/appcache/application_1795688164024_0001/"
    "container_1795688164024_0001_01_000001/tmp"
)


@pytest.mark.parametrize(
    ("master", "folder", "fits"),
    [
        ("local", "/tmp", True),
        ("local[*]", "/tmp", True),
        ("local[2,4]", LONGEST, True),
        ("local[2]", LONGEST + "t", False),
        ("local[2]", "/" + "ü" * 40, False),  # bytes count
        ("local[2]", CONTAINER, False),
        # executors have folders of their own
        ("local-cluster[2,1,1024]", "/tmp", False),
        ("spark://host:7077", "/tmp", False),
        ("yarn", "/tmp", False),
        ("k8s://https://host:6443", "/tmp", False),
    ],
)
def test_unix_sockets_are_used_only_where_their_paths_fit(
    master: str, folder: str, fits: bool
) -> None:
    assert sockets_fit(master, folder) is fits


def test_a_session_in_local_mode_uses_unix_sockets(spark: SparkSession) -> None:
    assert spark.sparkContext.getConf().get(SOCKETS) == "true"


def test_the_longest_path_that_fits_is_one_that_the_system_takes() -> None:
    with tempfile.TemporaryDirectory(prefix="s") as short:
        folder = Path(short) / ("f" * (60 - len(short) - 1))
        folder.mkdir()
        assert len(str(folder)) == 60
        assert sockets_fit("local[2]", str(folder))
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(folder / f".{uuid.uuid4()}.sock"))
