"""A mixture for each group: one job, beside a loop of scikit-learn over pandas' groups.

Both read the same Parquet files, in one run of this script: `groups.py OUT [WORK [STARTS]]`. The
job's seconds are those from reading to the published run, in a session that is there already; its
processor seconds are those of the driver, its JVM and all workers.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.terminal import Terminal
from sparkgmm.scikit import mixture_from_sklearn
from sparkgmm.spark.session import start_session

# groups, rows of each
PROBLEMS = ((20, 500_000), (10_000, 100))
_FILES = 4
# Before anything is measured a job of so many groups and rows compiles what the JVM runs.
_WARM_UP = (100, 100)
# A run of the loop is measured on so many groups at most, or for so long, and its seconds are taken
# for all.
_LOOP, _LOOP_SECONDS = 500, 60.0
# One of two is lower by so many nats a row.
_LOWER = 1e-3


def write(folder: Path, n_groups: int, n: int) -> None:
    """Write rows of two clusters a group, all groups mixed."""
    rng = np.random.default_rng(0)
    group = rng.permutation(np.repeat(np.arange(n_groups), n))
    apart = rng.uniform(3, 8, n_groups)[group] * (rng.random(len(group)) < 0.4)
    x, y = rng.normal(0, 1, (2, len(group)))
    table = pa.table({"group": group, "x": x + apart, "y": y + apart / 2})
    folder.mkdir(parents=True)
    for i in range(_FILES):
        first, last = len(group) * i // _FILES, len(group) * (i + 1) // _FILES
        pq.write_table(table.slice(first, last - first), folder / f"{i}.parquet")


def cpu_of_tree() -> dict[int, float]:
    """Return the processor seconds of this process, its parent and all below, by process."""
    stats = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        stats[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:13]))
    mine = {os.getppid()}
    while more := {pid for pid, (parent, _) in stats.items() if parent in mine} - mine:
        mine |= more
    tick = os.sysconf("SC_CLK_TCK")
    return {pid: stats[pid][1] / tick for pid in mine if pid in stats}


def ours(spark: Any, data: Path, runs: Path, n_init: int) -> tuple[float, float, dict[int, float]]:
    """Return the seconds of the job, its processor seconds, and nats a row by group."""
    config = FitConfig.model_validate(
        {
            "input": {"path": str(data), "format": "parquet", "group_by": "group"},
            "model": {"k": 2, "n_init": n_init},
            "output": {"path": str(runs), "report": False},
        }
    )
    begun, before = time.perf_counter(), cpu_of_tree()
    run_fit(spark, config, Terminal(), overwrite=False)
    seconds = time.perf_counter() - begun
    # a worker of an earlier job that is let go meanwhile takes its seconds along
    cpu = sum(value - before.get(pid, 0.0) for pid, value in cpu_of_tree().items())
    run = runs / (runs / "LATEST").read_text().strip()
    found = pq.read_table(run / "groups").to_pandas()
    assert found["error"].isna().all()
    return (
        seconds,
        cpu,
        dict(zip(found["group"], found["log_likelihood"] / found["rows_used"], strict=True)),
    )


def theirs(data: Path, n_init: int, most: int) -> tuple[float, float, dict[int, float]]:
    """Return the seconds of the loop, its processor seconds, and nats a row by group."""
    found = {}
    clocks = np.array([time.perf_counter(), time.process_time()])
    rows = pd.read_parquet(data)
    read = np.array([time.perf_counter(), time.process_time()]) - clocks
    begun = time.perf_counter()
    clocks = np.array([time.perf_counter(), time.process_time()])
    with threadpool_limits(1):  # waiting threads would count as busy
        for group, mine in rows.groupby("group"):
            X = mine[["x", "y"]].to_numpy()
            found[int(group)] = X, GaussianMixture(2, n_init=n_init, random_state=0).fit(X)
            if len(found) == most or time.perf_counter() - begun > _LOOP_SECONDS:
                break
    loop = np.array([time.perf_counter(), time.process_time()]) - clocks
    seconds, cpu = read + loop * rows["group"].nunique() / len(found)
    means = {
        group: mixture_from_sklearn(fitted).log_likelihood(X) / len(X)
        for group, (X, fitted) in found.items()
    }
    return float(seconds), float(cpu), means


def main(out: str, work: str | None = None, starts: str = "1,10") -> None:
    """Measure, and keep what is there already."""
    path = Path(out)
    results = json.loads(path.read_text()) if path.exists() else []
    known = {(*r["problem"], r["n_init"]) for r in results}
    folder = Path(work or tempfile.mkdtemp(prefix="groups-"))
    spark = start_session("sparkgmm bench: groups")
    write(folder / "warm-up", *_WARM_UP)
    ours(spark, folder / "warm-up", folder / "runs-warm-up", 1)
    for n_groups, n in PROBLEMS:
        data = folder / f"{n_groups}-{n}"
        if not data.exists():
            write(data, n_groups, n)
        for n_init in map(int, starts.split(",")):
            if (n_groups, n, n_init) in known:
                continue
            seconds, cpu, mean = ours(spark, data, folder / f"runs-{n_groups}-{n}-{n_init}", n_init)
            loop, loop_cpu, other = theirs(data, n_init, _LOOP)
            short = np.array([mean[group] - value for group, value in other.items()])
            results.append(
                {
                    "problem": [n_groups, n],
                    "n_init": n_init,
                    "ours": seconds,
                    "ours_cpu": cpu,
                    "sklearn": loop,
                    "sklearn_cpu": loop_cpu,
                    "of": len(other),
                    "ours_lower": int((short < -_LOWER).sum()),
                    "sklearn_lower": int((short > _LOWER).sum()),
                }
            )
            print(results[-1], flush=True)
            path.write_text(json.dumps(results, indent=1))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
