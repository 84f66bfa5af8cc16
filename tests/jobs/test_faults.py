"""Faults made real while passes run: whatever dies, the sums have the same bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.spark, pytest.mark.long]

APP = Path(__file__).parent / "faults_app.py"
SPARK_SUBMIT = Path(sys.executable).parent / "spark-submit"


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty files, a partition each, too large to travel in a row: two groups to be added."""
    folder = tmp_path_factory.mktemp("rows.parquet")
    rng = np.random.default_rng(0)
    for i in range(40):
        X = rng.standard_normal((4_000, 3))
        X[::3] += 4
        table = pa.table({name: X[:, j] for j, name in enumerate("abc")})
        pq.write_table(table, folder / f"{i}.parquet")
    return str(folder)


def digests(master: str, parquet: str, fault: str, *more: str) -> list[str]:
    """Submit the application and return the digest of each of its three passes."""
    split = ["spark.sql.files.maxPartitionBytes=1m", "spark.sql.files.openCostInBytes=1m"]
    split.append("spark.ui.enabled=false")
    confs = [word for conf in [*split, *more] for word in ("--conf", conf)]
    command = [str(SPARK_SUBMIT), "--master", master, *confs, str(APP), parquet, fault]
    environment = {k: v for k, v in os.environ.items() if k != "SPARK_HOME"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("digest")]


def test_a_killed_executor_and_a_killed_task_leave_the_same_bits_as_none(parquet: str) -> None:
    # local[2,4]: a task may fail three times, as on a cluster; the first pass is undisturbed
    task = digests("local[2,4]", parquet, "task")
    executor = digests("local-cluster[2,1,1024]", parquet, "executor")
    # sums that the executors add in a tree: one dies in the middle of adding, with what the
    # partitions' sums that it had shuffled
    adding = digests("local-cluster[2,1,1024]", parquet, "adding", "spark.sparkgmm.resultBytes=1")
    assert len(task) == len(executor) == len(adding) == 3
    assert len({*task, *executor, *adding}) == 1
