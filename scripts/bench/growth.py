"""How a pass grows with rows, components, features and partitions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from machine import keep
from passes import ours

from data import Recipe
from sparkgmm.spark.session import start_session

GRID = [
    *((n, 10, 8, "64m") for n in (100_000, 1_000_000, 10_000_000, 30_000_000)),
    *((1_000_000, 10, k, "64m") for k in (2, 32)),
    *((1_000_000, d, 8, "64m") for d in (2, 30)),
    *((10_000_000, 10, 8, split) for split in ("16m", "256m")),
]


def main(root: str, out: str) -> None:
    """Measure the grid."""
    spark = start_session("benchmark")
    results: list[dict[str, Any]] = []
    for n, d, k, split in GRID:
        folder = Recipe("growth", n, d, k=5, apart=1.0).write(Path(root))
        spark.conf.set("spark.sql.files.maxPartitionBytes", split)
        times = sorted(ours(spark, folder, k, warm=4))
        row = {"n": n, "d": d, "k": k, "split": split, "seconds": times[len(times) // 2]}
        keep(results, row, out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
