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
from sparkgmm.core.tree import groups
from sparkgmm.covariances import FAMILIES
from sparkgmm.spark.driver_memory import DRIVER_BYTES, RESULT_BYTES, DriverMemory

BENCHMARKS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
MIB = 2**20
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
    def sums(self) -> int:
        """What one task makes in a pass, all candidates together."""
        return (sum(self.k) * n_features(self.features) + 1) * 8

    @property
    def collected(self) -> int:
        """What the driver gets in a pass: no more than the executors leave to it."""
        return max(self.sums, min(self.tasks * self.sums, RESULT_BYTES))

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


MEMORY = [
    (1_000_000, 8, 8, 10, "full"),
    (1_000_000_000, 1_193, 8, 10, "full"),
    (1_000_000_000, 10_000, 8, 10, "full"),
    (100_000_000, 1_193, 10, 100, "full"),
    (100_000_000, 10_000, 10, 100, "full"),
    (1_000_000_000, 10_000, 10, 100, "tied"),
    (100_000_000, 1_193, 10, 200, "full"),
    (7_000, 140, 2, 1_000, "diag"),
    (1_000_000_000, 10_000, 10, 1_000, "diag"),
    (4_000, 40, 2, 2_000, "spherical"),
    (10_000_000, 1_000, 10, 1_000, "full"),
]


def memory_table() -> str:
    """Return the table of docs/deploy.md of what a driver holds."""
    lines = [
        "| rows | partitions | k | d | type | Python | JVM's heap |",
        "|---|---|---|---|---|---|---|",
    ]
    for rows, partitions, k, d, name in MEMORY:
        need = DriverMemory.of(rows, partitions, k, d, name)
        cells = [f"{rows:,}", f"{partitions:,}", str(k), f"{d:,}", name]
        lines.append("| " + " | ".join([*cells, _size(need.python), _size(need.heap)]) + " |")
    return "\n".join(lines)


# Rows, features, components, type, split and cores of the arithmetic on paper.
PAPER = [
    (10_000_000_000, 10, 8, "full", "512m", 256),
    (1_000_000_000, 200, 10, "full", "1024m", 1024),
    (1_000_000_000, 1_000, 10, "diag", "4096m", 1024),
]


def paper_table(costs: np.ndarray) -> str:
    """Return the table of docs/deploy.md of tables that no machine here holds."""
    lines = [
        "| rows | d | k | type | features | split | partitions | a partition's sums | of all | "
        "to the driver a pass | cores | a pass |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for n, d, k, name, split, cores in PAPER:
        F = FAMILIES[name].statistics.n_features(d)
        tasks = -(-n * d * 8 // (int(split.rstrip("m")) * MIB))
        rows = n / cores
        parts = np.array([1.0, tasks / cores, rows, rows * F, rows * k, rows * k * F])
        sums = (k * F + 1) * 8
        brought, levels, left = tasks * sums, 0, tasks
        while left > 1 and left * sums > RESULT_BYTES:
            left, levels = groups(left), levels + 1
            brought = left * sums
        shuffles = "" if not levels else f" ({levels} level{'s' if levels > 1 else ''})"
        cells = [f"{n:,}", f"{d:,}", str(k), name, _size(n * d * 8), split, f"{tasks:,}"]
        cells += [_size(sums), _size(tasks * sums), _size(brought) + shuffles, f"{cores:,}"]
        lines.append("| " + " | ".join([*cells, f"{float(parts @ costs):.1f} s"]) + " |")
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
    return f"{n_bytes / MIB:.0f} MiB" if n_bytes >= MIB else f"{n_bytes / 1024:.0f} KiB"


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
    parser.add_argument("--table", action="store_true", help="print the tables of docs/deploy.md")
    options = parser.parse_args()
    costs = coefficients(BENCHMARKS.read_text(encoding="utf-8"))
    if options.table:
        print(table(costs), memory_table(), paper_table(costs), sep="\n\n")
        return
    given = (options.rows, options.features, options.k, options.minutes, options.width)
    print(advice(sized(*given, costs)))


if __name__ == "__main__":
    main()
