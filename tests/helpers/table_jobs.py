"""Fits and scores of Delta and Iceberg tables, in a session and as processes."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.scenarios import Done

ROOT = Path(__file__).resolve().parents[2]
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
TIMEOUT = 240
DELTA = "io.delta.sql.DeltaSparkSessionExtension"
ICEBERG = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"


def jars(*names: str) -> str:
    """The jars that `make test-storage` fetches, as spark-submit takes them."""
    return ",".join(
        str(jar) for name in names for jar in (ROOT / "build/jars" / name).glob("*.jar")
    )


def settings(warehouse: Path) -> dict[str, object]:
    """What a user sets for Delta in Spark's own catalog, and for an Iceberg catalog `ice`."""
    return {
        "spark.sql.extensions": f"{DELTA},{ICEBERG}",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.catalog.ice": "org.apache.iceberg.spark.SparkCatalog",
        "spark.sql.catalog.ice.type": "hadoop",
        "spark.sql.catalog.ice.warehouse": warehouse,
        # a log of some versions is read back in two tasks, not in 50
        "spark.databricks.delta.snapshotPartitions": 2,
    }


def draw(n: int = 3000, seed: int = 0) -> pa.Table:
    """Rows of three clusters with a day each: id, x, y, day."""
    rng = np.random.default_rng(seed)
    label = rng.integers(3, size=n)
    centres = np.array([[0.0, 0.0], [6.0, 1.0], [1.0, 7.0]])
    X = centres[label] + rng.normal(size=(n, 2)) * [1.0, 0.5]
    day = np.where(np.arange(n) % 2 == 0, "2026-11-01", "2026-11-02")
    return pa.table({"id": np.arange(n) + n * seed, "x": X[:, 0], "y": X[:, 1], "day": day})


@dataclass(frozen=True)
class Run:
    """What a fit published."""

    path: Path

    def read(self, name: str) -> Any:
        return json.loads((self.path / name).read_text())

    @property
    def model(self) -> bytes:
        return (self.path / "model.json").read_bytes()

    @property
    def input(self) -> Any:
        return self.read("manifest.json")["input"]

    @property
    def rows(self) -> int:
        return int(self.read("metrics.json")["rows_read"])

    @property
    def log_likelihood(self) -> float:
        return float(self.read("metrics.json")["log_likelihood"])


class Jobs:
    """Fits and scores in the session of the tests, in a folder of their own."""

    def __init__(self, spark: Any, folder: Path) -> None:
        self.spark = spark
        self.folder = folder

    def parquet(self, name: str, rows: pa.Table, n_files: int = 2) -> str:
        """Write rows to a folder of Parquet files."""
        (self.folder / name).mkdir()
        step = -(-rows.num_rows // n_files)
        for i in range(n_files):
            pq.write_table(rows.slice(i * step, step), self.folder / name / f"part-{i}.parquet")
        return str(self.folder / name)

    def frame(self, rows: pa.Table, n_files: int = 1) -> Any:
        """Return rows as a DataFrame of so many partitions."""
        return self.spark.createDataFrame(rows.to_pandas()).coalesce(n_files)

    def config(self, schema: Any, values: Mapping[str, Any]) -> Any:
        from sparkgmm.runs.config import load_config

        path = self.folder / "config.json"  # JSON is YAML
        path.write_text(json.dumps(values))
        return load_config(str(path), (), schema)

    def fit(
        self,
        run_id: str,
        overwrite: bool = False,
        model: Any = None,
        drift: Any = None,
        **source: Any,
    ) -> Run:
        """Fit three components to x and y; `source` is the section input."""
        from sparkgmm.runs.config import FitConfig
        from sparkgmm.runs.fit_job import run_fit
        from sparkgmm.runs.terminal import Terminal

        values = {
            "input": {"features": ["x", "y"], **source},
            "model": {"k": 3, "n_init": 2, "tol": 1e-10, **(model or {})},
            "output": {"path": str(self.folder / "runs"), "run_id": run_id, "report": False},
            "drift": drift,
        }
        run_fit(self.spark, self.config(FitConfig, values), Terminal(), overwrite)
        return Run(self.folder / "runs" / run_id)

    def plan(self, **source: Any) -> str:
        """Say what a fit would read."""
        from sparkgmm.runs.config import FitConfig
        from sparkgmm.runs.fit_job import plan

        values = {"input": {"features": ["x", "y"], **source}, "output": {"path": str(self.folder)}}
        return plan(self.spark, self.config(FitConfig, values))

    def score(self, run: Run, source: Mapping[str, Any], output: Mapping[str, Any]) -> str:
        """Score, and return what the terminal says at the end."""
        from sparkgmm.runs.config import ScoreConfig
        from sparkgmm.runs.score_job import run_score
        from sparkgmm.runs.terminal import Terminal

        values = {"input": dict(source), "model": str(run.path), "output": dict(output)}
        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdout", said)
            run_score(self.spark, self.config(ScoreConfig, values), Terminal())
        return said.getvalue()

    def refused(self, work: Callable[[], Any], code: int) -> str:
        """Return the one line by which a job ends with an exit code."""
        from sparkgmm.errors import SparkGmmError

        with pytest.raises(SparkGmmError) as caught:
            work()
        message = str(caught.value)
        assert caught.value.exit_code == code, message
        assert "\n" not in message.strip()
        assert "\tat " not in message
        assert "Exception" not in message, message
        return message


class Submit:
    """Jobs as processes by spark-submit, as users start them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # not by counting files: two jobs that are started at once would share one configuration
        self._numbers = itertools.count()

    def start(
        self,
        job: str,
        values: Mapping[str, Any],
        jar_names: tuple[str, ...] = ("delta", "iceberg"),
        confs: Mapping[str, object] | None = None,
        environment: str | None = None,
    ) -> subprocess.Popen[str]:
        """Start a job without waiting; `environment` is that of another Spark."""
        config = self.folder / f"{job}-{next(self._numbers)}.json"
        config.write_text(json.dumps(values))
        bin_folder = ROOT / environment / "bin" if environment else Path(sys.executable).parent
        given: dict[str, object] = {"spark.ui.enabled": "false", **(confs or {})}
        command = [
            str(bin_folder / "spark-submit"),
            *("--master", "local[1]", "--driver-java-options", QUICK),
            *(("--jars", jars(*jar_names)) if jar_names else ()),
            *(part for key, value in given.items() for part in ("--conf", f"{key}={value}")),
            *(str(ROOT / "jobs" / f"{job}_gmm.py"), "--config", str(config)),
        ]
        hidden = ("SPARK_HOME", "PYSPARK_", "PYTHONPATH", "SPARK_CONF_DIR")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**inherited, "SPARK_LOCAL_DIRS": str(self.folder / "local")},
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Done:
        """Wait for a job; one that hangs is ended with all that it started."""
        watchdog = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        out, err = process.communicate()
        watchdog.cancel()
        return Done(process.returncode, out, err, self.folder)

    def run(self, job: str, values: Mapping[str, Any], **how: Any) -> Done:
        """Start a job and wait."""
        return self.finish(self.start(job, values, **how))


def written_while_it_is_read(monkeypatch: pytest.MonkeyPatch, write: Any) -> list[str]:
    """Before the first pass, write to the table and lose all blocks; note that they are made again.

    The rows must be too many to be kept inline, and passes must be jobs.
    """
    from sparkgmm.spark.cluster_rows import Blocks

    written: list[str] = []
    made: list[str] = []
    scan, make_again = Blocks.scan, Blocks._make_again

    def lossy(self: Any, kernels: Any, label: str) -> Any:
        if not written:
            written.append("written")
            write()
            for summary in self._summaries:
                if summary.path is not None:
                    Path(summary.path).unlink()
        return scan(self, kernels, label)

    def noted(self: Any) -> None:
        made.append("again")
        make_again(self)

    monkeypatch.setattr(Blocks, "scan", lossy)
    monkeypatch.setattr(Blocks, "_make_again", noted)
    return made


class Stopped(BaseException):
    """A job that is ended in the middle of its passes."""


def stop_after(monkeypatch: pytest.MonkeyPatch, passes: int) -> pytest.MonkeyPatch:
    """End the next fit when it has put down so many passes."""
    from sparkgmm.runs.state import State

    put_down = State._write_passes

    def counted(self: State) -> None:
        put_down(self)
        self._next_write = 0
        if sum(1 for info in self._folder.files() if info.path.endswith(".passes")) >= passes:
            raise Stopped

    monkeypatch.setattr("sparkgmm.runs.state._EVERY_SECONDS", 0.0)
    monkeypatch.setattr(State, "_write_passes", counted)
    return monkeypatch


def stopped_fit(jobs: Jobs, run_id: str, **source: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(Stopped):
            jobs.fit(run_id, **source)
