"""The console scripts, as callers use them that pass a returned exit code by."""

from __future__ import annotations

import json
import sys
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

ROOT = Path(__file__).resolve().parents[2]


def as_wheel_task(task: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Call an entry point by its name with parameters, as Databricks describes its wheel tasks."""
    points = distribution(task["package_name"]).entry_points
    [point] = [point for point in points if point.name == task["entry_point"]]
    monkeypatch.setattr(sys, "argv", [task["entry_point"], *task["parameters"]])
    point.load()()


@pytest.fixture
def task(tmp_path: Path, faithful_csv: str) -> dict[str, Any]:
    """The task of conf/deploy/databricks-job.json with a table and a folder that are here."""
    [task] = json.loads((ROOT / "conf/deploy/databricks-job.json").read_text())["tasks"]
    wheel = task["python_wheel_task"]
    config = ROOT / "conf" / "faithful.yaml"
    here = [f"input.path={faithful_csv}", f"output.path={tmp_path}/runs", "output.report=false"]
    given = wheel["parameters"]
    given[given.index("--config") + 1] = str(config)
    given[given.index("--set") + 1] = "output.run_id=2026-11-22"  # what Databricks fills in
    return {**wheel, "parameters": [*given, *(p for key in here for p in ("--set", key))]}


def test_the_wheel_task_fits_and_leaves_the_session_of_the_platform_alone(
    spark: SparkSession, task: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_wheel_task(task, monkeypatch)
    metrics = json.loads((tmp_path / "runs" / "2026-11-22" / "metrics.json").read_text())
    assert metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-4)
    assert spark.range(3).count() == 3


def test_a_wheel_task_that_fails_raises_its_exit_code(
    spark: SparkSession, task: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task["parameters"] += ["--set", "input.path=/nowhere.csv"]
    with pytest.raises(SystemExit) as raised:
        as_wheel_task(task, monkeypatch)
    assert raised.value.code == 3


@pytest.mark.parametrize("name", ["fit", "score", "compare", "export"])
def test_every_console_script_raises_for_a_wrong_command_line(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = {"package_name": "sparkgmm", "entry_point": f"sparkgmm-{name}", "parameters": ["--x"]}
    with pytest.raises(SystemExit) as raised:
        as_wheel_task(script, monkeypatch)
    assert raised.value.code == 2
