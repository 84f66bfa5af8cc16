"""A job that runs night after night into one output root, for the tests of drift."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession

from sparkgmm.mixture import Array, Mixture
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import plan, run_fit
from sparkgmm.runs.terminal import Terminal

CENTRES = np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])
STRICT = {"fail": {"divergence": 0.1}}


def write_rows(
    path: Path,
    n: int = 1200,
    centres: Array = CENTRES,
    seed: int = 0,
    shares: Sequence[float] | None = None,
) -> Array:
    """Write unit clusters, by default lighter from one to the next, and return the rows."""
    rng = np.random.default_rng(seed)
    p = np.arange(len(centres), 0, -1.0) if shares is None else np.array(shares)
    X = centres[rng.choice(len(centres), n, p=p / p.sum())] + rng.standard_normal((n, 2))
    write(path, X)
    return X


def write(path: Path, X: Array) -> None:
    """Write rows of two features."""
    pq.write_table(pa.table({"x": X[:, 0], "y": X[:, 1]}), path)


def read(path: Path) -> Array:
    """Return the rows that were written."""
    return pq.read_table(path).to_pandas().to_numpy()


class NightlyFits:
    """The folder of the nightly job: an input a night, and the runs."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self.folder = folder
        self.root = folder / "runs"

    def values(self, night: str, drift: Any = None, **model: Any) -> dict[str, Any]:
        return {
            "input": {"path": str(self.folder / f"{night}.parquet")},
            "model": {"k": 3, "init": "k-means++", "n_init": 2, **model},
            "output": {"path": str(self.root), "run_id": night, "report": False},
            "drift": {} if drift is None else drift,
        }

    def run(
        self, night: str, drift: Any = None, overwrite: bool = False, **model: Any
    ) -> dict[str, Any]:
        """Run the job and return its drift.json."""
        self.fit(self.values(night, drift, **model), overwrite)
        return self.json(night, "drift.json")

    def fit(self, values: dict[str, Any], overwrite: bool = False) -> None:
        run_fit(self._spark, FitConfig.model_validate(values), Terminal(), overwrite)

    def plan(self, night: str, drift: Any = None) -> str:
        return plan(self._spark, FitConfig.model_validate(self.values(night, drift)))

    def json(self, night: str, name: str) -> Any:
        return json.loads((self.root / night / name).read_text(encoding="utf-8"))

    def mixture(self, night: str) -> Mixture:
        return Mixture.from_json((self.root / night / "model.json").read_text(encoding="utf-8"))

    @property
    def latest(self) -> str:
        return (self.root / "LATEST").read_text().strip()

    @property
    def held(self) -> list[str]:
        """All that lies in the output root."""
        return sorted(path.name for path in self.root.iterdir())

    def take(self, other: NightlyFits, *nights: str) -> None:
        """Take over runs that were made elsewhere, the last of them as the latest."""
        for night in nights:
            shutil.copytree(other.root / night, self.root / night)
        (self.root / "LATEST").write_text(f"{nights[-1]}\n")
