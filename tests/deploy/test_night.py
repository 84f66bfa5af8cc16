"""The crontab's command, run as cron runs it, and the file for serverless compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.crontab import command_of, parse
from sparkgmm import Mixture

pytestmark = pytest.mark.nights

ROOT = Path(__file__).resolve().parents[2]
SETTINGS, LINES = parse((ROOT / "conf" / "schedule" / "crontab").read_text(encoding="utf-8"))


@pytest.mark.spark
def test_the_command_of_the_crontab_fits_and_scores_a_day(tmp_path: Path) -> None:
    """With nothing but the crontab's own settings in the environment, as crontab(5) has it."""
    texts = tmp_path / "texts"
    texts.mkdir()
    here = {
        "SPARKGMM": str(ROOT),
        "LOGS": str(tmp_path),
        "OUTPUT": str(tmp_path / "runs"),
        "SCORED": str(tmp_path / "scored"),
        "TEXTFILES": str(texts),
    }
    assert set(here) - {"TEXTFILES"} <= set(SETTINGS)
    java = {"JAVA_HOME": os.environ["JAVA_HOME"]} if "JAVA_HOME" in os.environ else {}
    done = subprocess.run(
        [SETTINGS["SHELL"], "-c", command_of(LINES[0])],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd="/",
        env={"HOME": str(tmp_path), **SETTINGS, **here, **java},
    )
    [log] = tmp_path.glob("nightly-*.log")
    assert (done.stdout, done.stderr) == ("", ""), log.read_text()  # cron would write a mail
    [run] = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-4)
    assert pq.read_table(tmp_path / "scored" / f"date={run.name}").num_rows == 272
    assert (texts / "sparkgmm.prom").read_text() == (run / "metrics.prom").read_text()


@pytest.mark.spark
def test_the_file_for_serverless_compute_fits_through_spark_connect(
    tmp_path: Path, faithful: np.ndarray
) -> None:
    rows = tmp_path / "rows.parquet"
    table = pa.table(dict(zip(["eruptions", "waiting"], faithful.T, strict=True)))
    pq.write_table(table, rows)
    path = tmp_path / "trips.json"
    parameters = [f"parquet.`{rows}`", "eruptions,waiting", "2", str(path)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "conf/deploy/databricks_serverless.py"), *parameters],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=tmp_path,
        env={
            **os.environ,
            "SPARK_REMOTE": "local[1]",
            "SPARK_LOCAL_DIRS": str(tmp_path / "local"),
            "PYSPARK_PYTHON": sys.executable,
        },
    )
    assert done.returncode == 0, done.stderr
    mixture = Mixture.from_json(path.read_text())
    assert mixture.log_likelihood(faithful) == pytest.approx(-1130.26396, abs=1e-3)
