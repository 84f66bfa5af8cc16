"""What all tests share: one Spark session, real data, and the mark of what uses the session."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
DRIVER_BYTES = "spark.sparkgmm.driverBytes"
# A JVM starts in half the time with the classes that make keeps, and ignores those of others.
CLASSES = Path(sys.prefix) / "classes.jsa"
if CLASSES.exists():
    os.environ["SPARK_SUBMIT_OPTS"] = (
        f"-XX:SharedArchiveFile={CLASSES} -Xlog:cds=off -Xlog:cds+dynamic=off"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # the other marks are in the files, see test_suites.py
    for item in items:
        if "spark" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.spark)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The session of this run of the tests, started the way a job starts its own."""
    from sparkgmm.spark.session import start_session

    scratch = tmp_path_factory.mktemp("spark")
    arguments = {
        "spark.local.dir": scratch / "local",
        "spark.sql.warehouse.dir": scratch / "warehouse",
        "spark.sql.shuffle.partitions": 2,
        "spark.ui.port": 0,
        "spark.executorEnv.MKL_NUM_THREADS": 2,  # another than our default, which must not win
        "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    }
    confs = " ".join(f"--conf {key}={value}" for key, value in arguments.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYSPARK_DRIVER_PYTHON", sys.executable)
        patch.setenv(
            "PYSPARK_SUBMIT_ARGS",
            f"--master local[2] {confs} pyspark-shell",
        )
        patch.delenv("SPARK_HOME", raising=False)
        session = start_session("sparkgmm tests")
        yield session
        session.stop()


@pytest.fixture
def driver_bytes(spark: Any) -> Iterator[Callable[[int], None]]:
    """A function that sets how many bytes of blocks the driver may keep itself."""
    yield lambda limit: spark.conf.set(DRIVER_BYTES, limit)
    spark.conf.unset(DRIVER_BYTES)


@pytest.fixture
def on_executors(driver_bytes: Callable[[int], None]) -> None:
    """Have passes run as Spark jobs, however small the data are."""
    driver_bytes(0)


@pytest.fixture
def far_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the driver reach none of the executors' files, as on a cluster of several machines."""
    from sparkgmm.spark.cluster_rows import Blocks

    monkeypatch.setattr(Blocks, "_read_here", lambda self, function: None)
    monkeypatch.setattr("sparkgmm.spark.cluster_rows.forget", lambda row: row.path is None)


@pytest.fixture(scope="session")
def faithful_csv() -> str:
    return str(ROOT / "data" / "faithful.csv")


@pytest.fixture(scope="session")
def faithful(faithful_csv: str) -> np.ndarray:
    """Old Faithful, (272, 2)."""
    return np.loadtxt(faithful_csv, delimiter=",", skiprows=1)


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., str]:
    """A function that writes lines to a file of that name and returns its path."""

    def write(*lines: str, name: str = "data.csv") -> str:
        path = tmp_path / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(path)

    return write
