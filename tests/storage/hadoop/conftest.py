"""HDFS and YARN, started once, and rows in HDFS."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.mini_cluster import HOME, KERNELS, ROOT, MiniCluster, Session, session_on

FAITHFUL = ROOT / "data" / "faithful.csv"


@pytest.fixture(scope="session")
def hadoop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MiniCluster]:
    """A namenode, two datanodes, a resource manager and a node manager; faithful.csv in HDFS."""
    with MiniCluster(tmp_path_factory.mktemp("hadoop")) as cluster:
        cluster.tell("put", FAITHFUL, f"{HOME}/faithful.csv")
        yield cluster


@pytest.fixture(scope="session")
def session(hadoop: MiniCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """One Spark in local mode for many jobs."""
    with session_on(hadoop, tmp_path_factory.mktemp("session")) as started:
        yield started


@pytest.fixture(scope="session")
def local_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of some 60,000 rows by 10 that overlap, so that EM takes many passes.

    No two files are of one size: Spark puts the largest first, and those of one size in the order
    in which the file system lists them, which is any order for a local folder.
    """
    folder = tmp_path_factory.mktemp("rows.parquet")
    rng = np.random.default_rng(0)
    for i in range(6):
        X = rng.standard_normal((60_000 + 100 * i, 10))
        X[::3] += 0.8
        X[1::3] *= 1.3
        table = pa.table({f"x{j}": X[:, j] for j in range(10)})
        pq.write_table(table, folder / f"{i}.parquet")
    return folder


@pytest.fixture(scope="session")
def rows(hadoop: MiniCluster, local_rows: Path) -> str:
    """The same rows in HDFS."""
    hadoop.tell("put", local_rows, f"{HOME}/rows.parquet")
    return f"{hadoop.uri}{HOME}/rows.parquet"


@pytest.fixture(scope="session")
def many_passes() -> dict[str, Any]:
    """A model that takes sixty passes over those rows, of some tenths of a second each."""
    return {"k": 16, "tol": 1e-13, "max_iter": 60, "n_init": 1, "init": "k-means++"}


@pytest.fixture(scope="session")
def local_fit(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that fits local files by spark-submit on local[2] and returns model.json."""

    def fit(config: Path, *overrides: str) -> bytes:
        output = tmp_path_factory.mktemp("local")
        given = [*overrides, f"output.path={output}", "output.run_id=run"]
        command = [
            str(ROOT / ".venv" / "bin" / "spark-submit"),
            *("--master", "local[2]", "--conf", "spark.ui.enabled=false"),
            *("jobs/fit_gmm.py", "--config", str(config)),
            *(part for text in given for part in ("--set", text)),
        ]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **KERNELS},  # as in the containers
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return (output / "run" / "model.json").read_bytes()

    return fit
