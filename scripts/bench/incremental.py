"""An update against a full refit: cost, and how far below the full refit's likelihood it ends.

Each problem is some nights of history, fitted once in full, and new nights, each fitted by an
update; against them a fit of all rows. All go through the fit job. Both mixtures' likelihoods over
all rows come from one scan.

    python scripts/bench/incremental.py [FOLDER]

keeps the rows below FOLDER (default build/bench/data) and writes docs/incremental.md's table. Lines
are kept in build/bench/incremental.json; one that is there is not measured again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sparkgmm.core.evidence import OverRows
from sparkgmm.core.model import from_mixture
from sparkgmm.mixture import Mixture
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import find_features, read

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "incremental.md"
MARKS = ("<!-- measured -->\n", "<!-- end -->\n")
D, K = 10, 5
COLUMNS = [f"x{i}" for i in range(D)]


@dataclass(frozen=True)
class Problem:
    """Nights of rows; `apart` is the spread of the components' means in about their sds.

    `drift` is how far every mean moves a night, in about the sds of its component.
    """

    name: str
    apart: float
    drift: float = 0.0
    rows: int = 300_000
    before: int = 10
    updates: int = 1
    decay: float = 1.0

    def night(self, root: Path, number: int) -> Path:
        """Write the rows of a night unless they are there; column w is their weight at the end."""
        last = self.before + self.updates - 1
        age = self.updates if number < self.before else last - number
        weight = self.decay**age
        path = (
            root
            / f"apart{self.apart}-drift{self.drift}-n{self.rows}-w{weight:.6f}-{number:03d}.parquet"
        )
        if path.exists():
            return path
        shared = np.random.default_rng(7)
        means = shared.standard_normal((K, D)) * self.apart
        mixers = shared.standard_normal((K, D, D)) / np.sqrt(D) * 0.5 + np.eye(D)
        ways = shared.standard_normal((K, D))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        rng = np.random.default_rng([11, number])
        labels = rng.integers(0, K, self.rows)
        X = rng.standard_normal((self.rows, D))
        for j in range(K):
            mine = labels == j
            X[mine] = X[mine] @ mixers[j].T + means[j] + self.drift * number * ways[j]
        columns = dict(zip(COLUMNS, np.ascontiguousarray(X.T), strict=True))
        root.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({**columns, "w": np.full(self.rows, weight)}), path)
        return path


OVERLAPPING, APART = 0.6, 2.0
SLOW, FAST = 0.02, 0.1
CHAIN = {"rows": 60_000, "updates": 10}
PROBLEMS = [
    Problem("stationary, overlapping", OVERLAPPING, rows=1_000_000),
    Problem("stationary, apart", APART, rows=1_000_000),
    Problem("stationary, apart", APART),
    Problem("stationary, overlapping", OVERLAPPING),
    Problem("stationary, overlapping", OVERLAPPING, before=30),
    Problem("stationary, overlapping", OVERLAPPING, decay=0.9),
    Problem("drift, apart", APART, SLOW),
    Problem("drift, overlapping", OVERLAPPING, SLOW),
    Problem("stationary, overlapping", OVERLAPPING, **CHAIN),
    Problem("drift, apart", APART, SLOW, **CHAIN),
    Problem("drift, overlapping", OVERLAPPING, SLOW, **CHAIN),
    Problem("drift, overlapping", OVERLAPPING, SLOW, **CHAIN, decay=0.9),
    Problem("fast drift, overlapping", OVERLAPPING, FAST, **CHAIN),
]


def cpu_seconds() -> float:
    """Return the processor time of this process and all below it: the JVM and its workers."""
    parents, ticks = {}, {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        parents[int(entry.name)] = int(fields[1])
        ticks[int(entry.name)] = sum(map(int, fields[11:15]))  # its own, and its ended children's
    mine, grown = {os.getpid()}, True
    while grown:
        below = {pid for pid, parent in parents.items() if parent in mine} - mine
        grown = bool(below)
        mine |= below
    return sum(ticks.get(pid, 0) for pid in mine) / os.sysconf("SC_CLK_TCK")


class Bench:
    """Fits by the job, below one folder."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self.spark = spark
        self.folder = folder

    def fit(
        self, run_id: str, paths: list[Path], weight: str | None, **model: Any
    ) -> dict[str, Any]:
        """Run the job; return its metrics, with the processor time beside."""
        values = {
            "input": {
                "path": [str(path) for path in paths],
                "features": COLUMNS,
                "weight": weight,
            },
            "model": {"k": K, **model},
            "output": {"path": str(self.folder / "runs"), "run_id": run_id, "report": False},
        }
        begun = cpu_seconds()
        run_fit(self.spark, FitConfig.model_validate(values), Terminal(), overwrite=True)
        used = cpu_seconds() - begun
        metrics = json.loads((self.folder / "runs" / run_id / "metrics.json").read_text())
        return {**metrics, "cpu": used}

    def mixture(self, run_id: str) -> Mixture:
        """Read the model of a run."""
        return Mixture.from_json((self.folder / "runs" / run_id / "model.json").read_text())

    def heights(self, paths: list[Path], weight: str | None, runs: list[str]) -> list[float]:
        """Return the mean log-likelihoods of some runs' mixtures over rows, from one scan."""
        df = read(self.spark, [str(path) for path in paths])
        features = find_features(df, COLUMNS, weight)
        with Blocks(df, features) as blocks:
            evidence = OverRows.of(blocks.rows(0))
            frame = evidence.frame
            models = [from_mixture(self.mixture(run), frame) for run in runs]
            measured = evidence.measure(models, "judging")
        return [found.log_likelihood - frame.log_volume for found in measured]

    def solve(self, problem: Problem, data: Path) -> dict[str, Any]:
        """Fit one problem both ways."""
        shutil.rmtree(self.folder / "runs", ignore_errors=True)
        nights = [problem.night(data, i) for i in range(problem.before + problem.updates)]
        weight = None if problem.decay == 1 else "w"
        full = self.fit("full", nights, weight)
        self.fit("base", nights[: problem.before], None)
        for i, night in enumerate(nights[problem.before :]):
            earlier = str(self.folder / "runs" / (f"update-{i - 1}" if i else "base"))
            update = self.fit(f"update-{i}", [night], None, update=earlier, decay=problem.decay)
        last = f"update-{problem.updates - 1}"
        heights = self.heights(nights, weight, ["full", "base", last])
        return {
            "problem": problem,
            "full": full,
            "update": update,
            "stale_gap": heights[0] - heights[1],
            "gap": heights[0] - heights[2],
        }


def row_of(found: dict[str, Any]) -> list[str]:
    """Return a line of the table: of a chain, the last update."""
    problem, full, update = found["problem"], found["full"], found["update"]

    def seconds(metrics: dict[str, Any]) -> float:
        return metrics["seconds_by_step"]["read"] + metrics["seconds_by_step"]["fit"]

    def row_passes(metrics: dict[str, Any]) -> float:
        return metrics["n_passes"] * metrics["rows_used"]

    return [
        problem.name,
        f"{problem.before} + {problem.updates} of {problem.rows // 1000}k",
        f"{problem.decay:g}",
        f"{full['n_passes']}, {update['n_passes']}",
        f"{row_passes(update) / row_passes(full):.1%}",
        f"{full['cpu']:.1f}, {update['cpu']:.1f}",
        f"{update['cpu'] / full['cpu']:.1%}",
        f"{seconds(full):.1f}, {seconds(update):.1f}",
        f"{found['stale_gap']:.1e}",
        f"{found['gap']:.1e}",
    ]


HEAD = [
    "problem",
    "nights of rows",
    "decay",
    "passes",
    "rows x passes",
    "CPU s",
    "of full",
    "seconds",
    "gap without",
    "gap",
]


def main(data: str = "build/bench/data") -> None:
    """Measure the problems whose lines are not known yet, and write the table after each."""
    kept = ROOT / "build" / "bench" / "incremental.json"
    known = json.loads(kept.read_text()) if kept.exists() else {}
    spark = start_session("benchmark")
    bench = Bench(spark, ROOT / "build" / "bench" / "incremental")
    folder = Path(data) / "nights"
    bench.solve(Problem("warm", APART, before=3, updates=6), folder)
    for problem in PROBLEMS:
        if repr(problem) not in known:
            known[repr(problem)] = row_of(bench.solve(problem, folder))
            kept.write_text(json.dumps(known))
        write([known[repr(problem)] for problem in PROBLEMS if repr(problem) in known])
    spark.stop()


def write(rows: list[list[str]]) -> None:
    """Put the table between its marks."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    table = "".join("| " + " | ".join(line) + " |\n" for line in lines)
    before, _, rest = DOCUMENT.read_text().partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    DOCUMENT.write_text(f"{before}{MARKS[0]}\n{table}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main(*sys.argv[1:])
