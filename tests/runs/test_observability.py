"""What others see of a run: Spark's UI, the JSON lines, metrics.prom and the manifest."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
import warnings
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pyspark.sql import SparkSession

from sparkgmm.runs.cli import fit_main
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]
Configured = Callable[..., FitConfig]


@pytest.fixture
def configured(tmp_path: Path, write_csv: Callable[..., str]) -> Configured:
    """A function that makes a configuration for Old Faithful with one bad row more."""
    lines = (ROOT / "data" / "faithful.csv").read_text().splitlines()
    path = write_csv(*lines, "NaN,50")

    def make(**output: Any) -> FitConfig:
        values = {
            "input": {
                "path": path,
                "options": {"header": True},
                "features": ["eruptions", "waiting"],
                "invalid_rows": "quarantine",
            },
            "model": {"k": [1, 2], "init": "k-means++", "n_init": 2},
            "output": {"path": str(tmp_path / "runs"), "run_id": "a", "report": False, **output},
        }
        return FitConfig.model_validate(values)

    return make


def jobs(spark: SparkSession) -> list[dict[str, Any]]:
    """The application's jobs by the REST API of Spark's UI, oldest first."""
    context = spark.sparkContext
    url = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/jobs"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=300) as answer:
        found = json.load(answer)
    return sorted(found, key=lambda job: job["jobId"])


@pytest.mark.usefixtures("on_executors", "far_from_the_driver")
def test_the_ui_says_of_every_job_what_it_is_for(
    spark: SparkSession, configured: Configured
) -> None:
    before = len(jobs(spark))
    run_fit(spark, configured(), Terminal(), overwrite=False)
    ours: list[Any] = []
    end = time.monotonic() + 60
    while "writing the run" not in ours and time.monotonic() < end:  # the UI learns of jobs later
        time.sleep(0.1)
        ours = [job.get("description") for job in jobs(spark)[before:]]
    assert "reading the rows" in ours
    assert "drawing the pilot sample" in ours
    assert "EM pass 1, 2 candidates" in ours
    assert any(str(text).startswith("EM pass 2, ") for text in ours)
    assert "writing the run" in ours  # the rejected rows
    assert [text for text in ours if not text] == []


def test_metrics_prom_says_what_metrics_json_says(
    spark: SparkSession, configured: Configured, tmp_path: Path
) -> None:
    run_fit(spark, configured(), Terminal(), overwrite=False)
    run = tmp_path / "runs" / "a"
    metrics = json.loads((run / "metrics.json").read_text())
    found = {
        sample.name: sample
        for family in text_string_to_metric_families((run / "metrics.prom").read_text())
        for sample in family.samples
    }
    assert found["sparkgmm_bic"].value == metrics["bic"]
    assert found["sparkgmm_rows_invalid"].value == metrics["rows_invalid"] == 1
    assert found["sparkgmm_run_duration_seconds"].value == metrics["seconds"]
    assert found["sparkgmm_bic"].labels == {"root": str(tmp_path / "runs")}
    assert found["sparkgmm_run_info"].labels["run_id"] == "a"
    listed = json.loads((run / "manifest.json").read_text())["files"]
    assert "metrics.prom" in {entry["path"] for entry in listed}


def test_the_manifest_names_commit_versions_application_and_input(
    spark: SparkSession, configured: Configured, tmp_path: Path
) -> None:
    config = configured()
    run_fit(spark, config, Terminal(), overwrite=False)
    manifest = json.loads((tmp_path / "runs" / "a" / "manifest.json").read_text())
    head = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    commit = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
    assert manifest["source"]["commit"] == commit
    assert manifest["spark"]["application_id"] == spark.sparkContext.applicationId
    assert manifest["versions"]["spark"] == spark.version
    [source] = manifest["input"]
    assert source["path"].endswith("data.csv")
    assert source["bytes"] == Path(str(config.input.path)).stat().st_size


def test_two_runs_differ_in_no_bit_of_the_model_whatever_the_manifest_says(
    spark: SparkSession,
    configured: Configured,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_fit(spark, configured(run_id="a"), Terminal(), overwrite=False)
    other = {"commit": None, "dirty": None}
    monkeypatch.setattr("sparkgmm.runs.record.source", lambda: other)
    run_fit(spark, configured(run_id="b"), Terminal(), overwrite=False)
    one, two = (tmp_path / "runs" / name for name in "ab")
    assert json.loads((two / "manifest.json").read_text())["source"] == other
    assert (one / "model.json").read_bytes() == (two / "model.json").read_bytes()


def told(text: str) -> list[dict[str, Any]]:
    """The lines of standard error, each of which must be an object with what shippers want."""
    found = [json.loads(line) for line in text.splitlines()]
    for line in found:
        assert {"time", "level", "run_id", "step", "message"} <= line.keys()
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in {"info", "warning", "error"}
    return found


def test_json_lines_name_run_and_step_and_end_with_the_figures(
    spark: SparkSession, configured: Configured, capfd: pytest.CaptureFixture[str]
) -> None:
    run_fit(spark, configured(), Terminal(as_json=True), overwrite=False)
    lines = told(capfd.readouterr().err)
    assert {line["run_id"] for line in lines} == {"a"}
    steps = list(dict.fromkeys(line["step"] for line in lines))
    assert steps == ["read", "fit", "publish"]
    done = lines[-1]
    assert done["message"] == "done"
    assert done["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-4)
    assert done["rows_invalid"] == 1
    assert done["converged"] is True


@pytest.mark.parametrize(
    ("arguments", "code", "step"),
    [
        (["--config", "/nowhere.yaml"], 2, "start"),
        (["--config", "conf/faithful.yaml", "--set", "input.path=/nowhere.csv"], 3, "read"),
        (["--config", "conf/faithful.yaml", "--overwrit"], 2, "start"),
    ],
)
def test_an_error_is_a_line_of_json_with_its_exit_code(
    spark: SparkSession,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    step: str,
) -> None:
    monkeypatch.chdir(ROOT)
    here = ["--set", f"output.path={tmp_path}/runs", "--log-format", "json"]
    assert fit_main([*arguments, *here]) == code
    last = told(capfd.readouterr().err)[-1]
    assert last["level"] == "error"
    assert last["exit_code"] == code
    assert last["step"] == step
    assert "\n" not in last["message"]
    assert "traceback" not in last


@pytest.mark.filterwarnings("always")
def test_an_error_that_nobody_expected_is_a_line_of_json_with_its_traceback(
    spark: SparkSession,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> None:
        warnings.warn("beware", RuntimeWarning, stacklevel=1)
        raise KeyError("what nobody expected")

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("sparkgmm.runs.fit_job.run_fit", broken)
    assert fit_main(["--config", "conf/faithful.yaml", "--log-format=json"]) == 1
    ours = [line for line in told(capfd.readouterr().err) if "logger" not in line]
    first, last = ours
    assert first["level"] == "warning"
    assert "beware" in first["message"]
    assert last["exit_code"] == 1
    assert "KeyError" in last["traceback"]
