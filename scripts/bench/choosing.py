"""What choosing k costs: k from 1 to 10 in one run against k = 10 alone; and what is chosen."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from machine import keep

from data import Recipe
from sparkgmm.core.fit import Fit, fit
from sparkgmm.core.search import Search
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import find_features, read

FAITHFUL = Path(__file__).parents[2] / "data" / "faithful.csv"
TYPES = ("full", "tied", "diag", "spherical")


def timed(spark: Any, path: str, search: Search) -> tuple[float, Fit]:
    """Return the median seconds of three fits, and the last of them."""
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        df = (
            read(spark, path, "csv", {"header": "true"})
            if path.endswith("csv")
            else read(spark, path)
        )
        features = find_features(df, None, None)
        with Blocks(df, features, path) as blocks:
            found = fit(blocks.rows(0), search, features.names)
        seconds.append(time.perf_counter() - begun)
    return median(seconds), found


def main(root: str, out: str) -> None:
    """Measure Old Faithful and a larger table."""
    spark = start_session("benchmark")
    r = Recipe("overlapping", 400_000, 5, 4, apart=0.8)
    problems = [
        ("Old Faithful, 272 x 2", str(FAITHFUL)),
        (f"{r.n:,} x {r.d}", str(r.write(Path(root)))),
    ]
    timed(spark, str(FAITHFUL), Search(k=(2,)))
    results: list[dict[str, Any]] = []
    for data, path in problems:
        one, _ = timed(spark, path, Search(k=(10,)))
        ten, found = timed(spark, path, Search(k=tuple(range(1, 11))))
        types, of_types = timed(spark, path, Search(k=tuple(range(1, 6)), covariance_type=TYPES))
        row = {"data": data, "one": one, "ten": ten, "chosen": found.chosen.mixture.k}
        best = of_types.chosen.mixture
        row |= {"types": types, "types_chosen": f"{best.k} {best.covariance_type}"}
        keep(results, row, out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
