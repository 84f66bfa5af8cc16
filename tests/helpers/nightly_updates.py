"""A table that grows by a night, and the job that updates its own last run."""

from __future__ import annotations

import json
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

ROWS = 600
CENTRES = np.array([[0.0, 0.0], [4.0, 2.0]])


class NightlyUpdates:
    """A table that grows by a night, and a job that updates its own last run."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self.folder = folder
        self.root = folder / "runs"

    def rows(self, night: str) -> Array:
        """Two components that overlap a little."""
        rng = np.random.default_rng(sum(map(ord, night)))
        return CENTRES[rng.integers(0, 2, ROWS)] + rng.standard_normal((ROWS, 2))

    def write(self, night: str, X: Array | None = None) -> Path:
        X = self.rows(night) if X is None else X
        path = self.folder / f"{night}.parquet"
        pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), path)
        return path

    def config(self, night: str, paths: Sequence[Path] = (), **sections: Any) -> FitConfig:
        found = [str(path) for path in paths or [self.write(night)]]
        base: dict[str, dict[str, Any]] = {
            "input": {"path": found},
            "model": {"k": 2, "init": "k-means++", "n_init": 3, "update": str(self.root)},
            "output": {"path": str(self.root), "run_id": night, "report": False},
        }
        return FitConfig.model_validate({k: {**v, **sections.get(k, {})} for k, v in base.items()})

    def run(
        self, night: str, paths: Sequence[Path] = (), overwrite: bool = False, **sections: Any
    ) -> Path:
        run_fit(self._spark, self.config(night, paths, **sections), Terminal(), overwrite)
        return self.root / night

    def plan(self, night: str) -> str:
        return plan(self._spark, self.config(night))


def content(run: Path, name: str) -> Any:
    return json.loads((run / name).read_text(encoding="utf-8"))


def mixture_of(run: Path) -> Mixture:
    return Mixture.from_json((run / "model.json").read_text())


def rows_of_statistics(run: Path) -> list[str]:
    return [path.rpartition("/")[2] for path in content(run, "statistics.json")["runs"]]
