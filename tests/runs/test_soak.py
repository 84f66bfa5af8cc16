"""Many fits in one application: one after the other without growth, and at once without mixing."""

from __future__ import annotations

import gc
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.terminal import Terminal

pytestmark = pytest.mark.nights

# `make test-soak` asks for 200
N_FITS = int(os.environ.get("SPARKGMM_SOAK", "24"))
N_JOBS = 20


def write_rows(folder: Path, number: int) -> Path:
    """Write 40,000 rows that no other number has: too many to travel in Spark's own rows."""
    rng = np.random.default_rng(number)
    X = rng.standard_normal((40_000, 2)) + np.array([number, -number])
    X[::3] += 5
    path = folder / f"{number}.parquet"
    pq.write_table(pa.table({"x": X[:, 0], "y": X[:, 1]}), path)
    return path


def fit(spark: SparkSession, rows: Path, runs: Path, run_id: str, report: bool = False) -> None:
    values = {
        "input": {"path": str(rows)},
        "model": {"k": 2, "n_init": 2},
        "output": {"path": str(runs), "run_id": run_id, "report": report},
    }
    run_fit(spark, FitConfig.model_validate(values), Terminal(), overwrite=False)


def held(spark: SparkSession) -> dict[str, float]:
    """What an application holds on to: memory in MiB, and how many of everything else."""
    context: Any = spark.sparkContext
    gc.collect()
    context._jvm.System.gc()
    runtime = context._jvm.java.lang.Runtime.getRuntime()
    status = Path("/proc/self/status").read_text()
    [resident] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    local = Path(context.getConf().get("spark.local.dir"))
    most, free = (
        getattr(context._jsc.sc().getExecutorMemoryStatus().values().head(), part)()
        for part in ("_1", "_2")
    )
    return {
        "python": int(resident) / 1024,
        "heap": (runtime.totalMemory() - runtime.freeMemory()) / 2**20,
        "cached": context._jsc.getPersistentRDDs().size(),
        "blocks": (most - free) / 2**20,  # cached rows and broadcast variables
        "files": sum(1 for path in local.rglob("*.blocks")),
        "threads": threading.active_count(),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
    }


@pytest.mark.usefixtures("on_executors")
def test_fits_one_after_the_other_leave_nothing_behind(spark: SparkSession, tmp_path: Path) -> None:
    rows = write_rows(tmp_path, 0)
    warm = max(4, N_FITS // 8)
    for i in range(warm):
        fit(spark, rows, tmp_path / "runs", str(i))
    before = held(spark)
    for i in range(warm, N_FITS):
        fit(spark, rows, tmp_path / "runs", str(i))
    after = held(spark)
    print(json.dumps({"fits": N_FITS, "before": before, "after": after}))
    assert after["python"] - before["python"] < 60
    assert after["heap"] - before["heap"] < 60
    assert (after["cached"], after["files"]) == (before["cached"], before["files"])
    for what in ("blocks", "threads", "descriptors"):
        assert after[what] - before[what] < 10, what


def test_twenty_jobs_at_once_find_what_each_finds_alone(
    spark: SparkSession, tmp_path: Path
) -> None:
    inputs = [write_rows(tmp_path, number) for number in range(N_JOBS)]

    def one(number: int) -> None:
        fit(spark, inputs[number], tmp_path / "together", str(number), report=number % 4 == 0)

    with ThreadPoolExecutor(N_JOBS) as pool:
        list(pool.map(one, range(N_JOBS)))
    for number in range(N_JOBS):
        fit(spark, inputs[number], tmp_path / "alone", str(number))
        found = [tmp_path / way / str(number) / "model.json" for way in ("together", "alone")]
        assert found[0].read_bytes() == found[1].read_bytes(), number
    assert (tmp_path / "together" / "0" / "report.html").exists()
    left = {path.name for path in (tmp_path / "together").iterdir()}
    assert left == {"LATEST", "index.html", *map(str, range(N_JOBS))}
