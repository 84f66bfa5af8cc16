"""Make the example reports of the documentation, by real runs: build/gallery (make docs)."""

from __future__ import annotations

import logging
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.session import start_session, stopping

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "build" / "gallery"
FAITHFUL = {"path": str(ROOT / "data" / "faithful.csv"), "options": {"header": True}}


def main() -> None:
    """Fit each example and keep its report, its picture and what is to be said of it."""
    shutil.rmtree(GALLERY, ignore_errors=True)
    spark = start_session("sparkgmm gallery", verbose=False)
    with stopping(spark), tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        fit(
            spark,
            folder,
            "1-faithful",
            "Old Faithful\n272 eruptions of a geyser; bic chooses among one to four components.",
            FAITHFUL,
            {"k": [1, 2, 3, 4], "covariance_type": ["full", "diag"]},
        )
        rows = trips(np.random.default_rng(0), 4000)
        write(folder / "trips.parquet", rows)
        fit(
            spark,
            folder,
            "2-trips",
            "Trips\nA table as it comes: nulls, categories, counts, and fares over powers of ten.",
            {
                "path": str(folder / "trips.parquet"),
                "missing": "model",
                "categorical": ["paid"],
                "counts": ["stops"],
            },
            {"k": [2, 3, 4]},
        )
        write(folder / "wide.parquet", wide(np.random.default_rng(1), 3000, 30, 8))
        fit(
            spark,
            folder,
            "3-wide",
            "Thirty features, eight components\nThe pairs that say most, and any other.",
            {"path": str(folder / "wide.parquet")},
            {"k": 8},
        )
        fit(
            spark,
            folder,
            "4-groups",
            "A mixture for each group\nOne job fits a mixture for each city.",
            {
                "path": str(folder / "trips.parquet"),
                "features": ["km", "minutes"],
                "group_by": ["city"],
                "invalid_rows": "drop",
            },
            {"k": [1, 2, 3]},
        )


def fit(
    spark: SparkSession,
    folder: Path,
    name: str,
    about: str,
    source: dict[str, object],
    model: dict[str, object],
) -> None:
    """Run one fit, and copy its report."""
    output = {"path": str(folder / "runs"), "run_id": name}
    config = FitConfig.model_validate({"input": source, "model": model, "output": output})
    run_fit(spark, config, Terminal(), overwrite=True)
    run, here = folder / "runs" / name, GALLERY / name
    here.mkdir(parents=True)
    shutil.copy(run / "report.html", here / "report.html")
    picture = next(
        p for n in ("mixture", "groups-largest") if (p := run / f"plots/{n}.png").exists()
    )
    shutil.copy(picture, here / "picture.png")
    (here / "about.txt").write_text(about, encoding="utf-8")


def write(path: Path, columns: dict[str, object]) -> None:
    """Write a table."""
    pq.write_table(pa.table(columns), path)


def trips(rng: np.random.Generator, n: int) -> dict[str, object]:
    """Return short and long trips of five cities, a tenth of their minutes missing."""
    far = rng.random(n) < 0.3
    km = np.where(far, rng.normal(40, 8, n), rng.normal(6, 2, n))
    minutes = 1.5 * km + rng.normal(8, 3, n)
    return {
        "km": km,
        "minutes": pa.array(minutes, mask=rng.random(n) < 0.1),
        "fare": np.exp(np.where(far, rng.normal(5, 1.4, n), rng.normal(1.5, 1, n))),
        "stops": rng.poisson(np.where(far, 6, 1)),
        "paid": np.where(rng.random(n) < np.where(far, 0.8, 0.3), "card", "cash"),
        "city": rng.choice(["Rome", "Oslo", "Lima", "Cairo", "Kyoto"], n),
    }


def wide(rng: np.random.Generator, n: int, d: int, k: int) -> dict[str, object]:
    """Return rows about k centres in d features."""
    centres = 4 * rng.normal(size=(k, d))
    X = centres[rng.integers(0, k, n)] + rng.normal(size=(n, d))
    return {f"x{i}": X[:, i] for i in range(d)}


if __name__ == "__main__":
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    main()
