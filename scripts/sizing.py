"""How large a cluster for how many rows: executors, memory, partitions by the measured cost model.

    python scripts/sizing.py --rows 1e9 --features 10 --k 2,3,4,5,6 [--minutes 10] [--width 4]

prints a recommendation with spark-submit's options. The cost of a pass is that of
scripts/bench/model.py with the coefficients of docs/benchmarks.md, which were measured on the
machine named there: take it for the order of magnitude.
"""

from __future__ import annotations

import argparse
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.model import NAMES, terms

BENCHMARKS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
MIB = 2**20
DRIVER_BYTES = 64 * MIB  # up to here the driver scans by itself (sparkgmm.spark.cluster_rows)
PASSES = 20  # of the 5 to 30 that fits take
READ_SECONDS = 120e-9  # a value and core: 61 s for 1e9 values on two cores (docs/benchmarks.md)
TASKS = 2000  # more in a pass and handing them out costs more than they do
CORES = 4  # an executor
WORKER_BYTES = 256 * MIB  # a Python worker with numpy and pyarrow, blocks and sums
HEAP = 1024 * MIB  # of an executor: it holds paths, no rows
MOST_CORES = 4096


@dataclass(frozen=True)
class Sizing:
    """A recommendation; bytes are those of memory and disk, seconds the model's."""

    rows: int
    features: int
    k: tuple[int, ...]
    width: int
    split: str
    tasks: int
    cores: int
    pass_seconds: float
    total_seconds: float

    @property
    def n_bytes(self) -> int:
        """The features of all rows."""
        return self.rows * self.features * self.width

    @property
    def on_driver(self) -> bool:
        """Whether the rows are few enough for the driver alone."""
        return self.n_bytes <= DRIVER_BYTES

    @property
    def executors(self) -> int:
        """Executors of four cores."""
        return math.ceil(self.cores / CORES)

    @property
    def disk(self) -> int:
        """Of an executor, in spark.local.dir."""
        return math.ceil(self.n_bytes / self.executors)

    @property
    def overhead(self) -> int:
        """Beside an executor's heap: its Python workers, each with a mapped partition."""
        return CORES * (WORKER_BYTES + math.ceil(self.n_bytes / self.tasks))

    @property
    def collected(self) -> int:
        """What the driver gets in a pass: the sums of every task, all candidates together."""
        return self.tasks * (sum(self.k) * n_features(self.features) + 1) * 8

    @property
    def driver(self) -> int:
        """The driver's heap, through which the sums go."""
        return 1024 * MIB + 2 * self.collected


def n_features(d: int) -> int:
    """Return F, the features of a row with full covariance (docs/decisions.md)."""
    return 1 + d + d * (d + 1) // 2


def coefficients(text: str) -> np.ndarray:
    """Read the coefficients of the cost model, in seconds, from docs/benchmarks.md."""
    [line] = re.findall(r"^Coefficients: (.*)\.$", text, flags=re.MULTILINE)
    units = {"ms": 1e-3, "ns": 1e-9}
    found = re.findall(r"([\w ]+) ([\d.e+-]+) (ms|ns)", line)
    values = {name.strip(): float(value) * units[unit] for name, value, unit in found}
    return np.array([values[name] for name in NAMES])


def sized(
    rows: int, features: int, k: tuple[int, ...], minutes: float, width: int, costs: np.ndarray
) -> Sizing:
    """Return the smallest cluster, in powers of two, that fits in the time; or the largest."""
    megabytes = 64
    while _tasks(rows, features, f"{megabytes}m") > TASKS:
        megabytes *= 2
    split = f"{megabytes}m"
    tasks = _tasks(rows, features, split)
    cores = 1
    while True:
        a_pass = float(terms(rows, features, sum(k), split, cores) @ costs)
        total = READ_SECONDS * rows * features / cores + PASSES * a_pass
        if total <= 60 * minutes or cores >= min(tasks, MOST_CORES):
            return Sizing(rows, features, k, width, split, tasks, cores, a_pass, total)
        cores *= 2


def _tasks(rows: int, features: int, split: str) -> int:
    return round(float(terms(rows, features, 1, split, 1)[1]))


def advice(s: Sizing) -> str:
    """Say a recommendation in words and options."""
    lines = [
        f"features   {_size(s.n_bytes)} in {s.tasks:,} partitions of {s.split}",
        f"a pass     {s.pass_seconds:.1f} s on {s.cores} core(s); reading and {PASSES} passes: "
        f"{s.total_seconds / 60:.1f} minutes",
    ]
    if s.on_driver:
        return "\n".join([*lines, "options    --master 'local[*]' (the driver scans by itself)"])
    options = [
        f"--num-executors {s.executors}",
        f"--executor-cores {CORES}",
        f"--executor-memory {HEAP // MIB}m",
        f"--conf spark.executor.memoryOverhead={_up(s.overhead)}m",
        f"--driver-memory {_up(s.driver)}m",
    ]
    if s.split != "64m":
        options.append(f"--conf spark.sql.files.maxPartitionBytes={s.split}")
    if s.collected > 900 * MIB:
        options.append(f"--conf spark.driver.maxResultSize={_up(2 * s.collected)}m")
    lines += [
        f"disk       {_size(s.disk)} an executor in spark.local.dir; as much memory that is free "
        "beside it keeps the passes off the disk",
        "options    " + " ".join(options),
    ]
    return "\n".join(lines)


TABLE = [
    (1_000_000, 10, (5,)),
    (100_000_000, 10, (8,)),
    (1_000_000_000, 10, (8,)),
    (10_000_000_000, 10, (8,)),
    (1_000_000_000, 10, (2, 3, 4, 5, 6)),
    (1_000_000_000, 50, (10,)),
    (100_000_000, 200, (10,)),
]


def table(costs: np.ndarray) -> str:
    """Return the table of docs/deploy.md."""
    lines = [
        "| rows | d | k | features | split | partitions | executors x cores | memory overhead | "
        "driver | disk an executor | a pass | read and 20 passes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for rows, d, k in TABLE:
        s = sized(rows, d, k, 10, 8, costs)
        ks = str(k[0]) if len(k) == 1 else f"{k[0]} to {k[-1]}"
        cluster = f"{s.executors} x {min(s.cores, CORES)}"
        cells = [f"{rows:,}", str(d), ks, _size(s.n_bytes), s.split, f"{s.tasks:,}", cluster]
        cells += [_size(s.overhead), _size(s.driver), _size(s.disk)]
        cells += [f"{s.pass_seconds:.1f} s", f"{s.total_seconds / 60:.1f} min"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _size(n_bytes: int) -> str:
    for unit, scale in (("TiB", 2**40), ("GiB", 2**30)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f} {unit}"
    return f"{n_bytes / MIB:.0f} MiB"


def _up(n_bytes: int) -> int:
    """Return MiB, rounded up to halves of a GiB."""
    return math.ceil(n_bytes / (512 * MIB)) * 512


def _count(text: str) -> int:
    return int(float(text))


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def main() -> None:
    """Print a recommendation, or the table of docs/deploy.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=_count, default=1_000_000_000)
    parser.add_argument("--features", type=_count, default=10)
    parser.add_argument("--k", type=_counts, default=(8,), help="one number, or several: 2,3,4")
    parser.add_argument("--minutes", type=float, default=10, help="for reading and 20 passes")
    parser.add_argument("--width", type=int, choices=[4, 8], default=8, help="bytes of a value")
    parser.add_argument("--table", action="store_true", help="print the table of docs/deploy.md")
    options = parser.parse_args()
    costs = coefficients(BENCHMARKS.read_text(encoding="utf-8"))
    if options.table:
        print(table(costs))
        return
    given = (options.rows, options.features, options.k, options.minutes, options.width)
    print(advice(sized(*given, costs)))


if __name__ == "__main__":
    main()
