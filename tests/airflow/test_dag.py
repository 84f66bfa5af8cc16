"""conf/schedule/sparkgmm_nightly.py in a real Airflow."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from helpers.spark_arguments import submission
from sparkgmm.runs.cli import _fit_steps, _Job, _parser
from sparkgmm.runs.config import FitConfig, ScoreConfig, load_config

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).resolve().parents[2]
FOLDER = str(ROOT / "conf" / "schedule")
DAY = "2026-11-22"
ENDINGS = {0: "success", 1: "retried", 143: "retried", **dict.fromkeys((2, 3, 4, 5), "failed")}


@pytest.fixture(scope="module")
def dag(airflow: Any) -> Any:
    env = {"SPARKGMM_INPUT": "s3a://bucket/trips/date={{ ds }}"}
    return airflow.json("describe_dag.py", FOLDER, DAY, *map(str, ENDINGS), env=env)


def test_airflow_imports_it_and_sees_the_fit_before_the_score(dag: Any) -> None:
    assert dag["errors"] == {}
    assert dag["id"] == "sparkgmm_nightly"
    assert dag["order"] == {"fit": ["score"], "score": []}


def test_one_run_at_a_time_and_none_that_nobody_asked_for(dag: Any) -> None:
    assert dag["max_active_runs"] == 1
    assert dag["catchup"] is False
    assert min(dag["retries"].values()) > 0


def test_a_run_is_that_of_the_day_before_whose_rows_are_all_there(dag: Any) -> None:
    assert dag["first_run"] == {"at": "2026-01-02T02:15:00+00:00", "ds": "2026-01-01"}


@pytest.mark.parametrize(("task", "schema"), [("fit", FitConfig), ("score", ScoreConfig)])
def test_the_rendered_command_is_one_that_spark_and_the_job_accept(
    spark: SparkSession, dag: Any, task: str, schema: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, *arguments = shlex.split(dag["commands"][task])
    assert Path(program) == ROOT / ".venv" / "bin" / "spark-submit"
    monkeypatch.chdir(ROOT)
    found = submission(spark, arguments)
    assert found.primary == f"file:{ROOT}/jobs/{task}_gmm.py"
    options = _parser(_Job(task, "", schema, _fit_steps)).parse_args(found.arguments)
    config = load_config(options.config, options.overrides, schema)
    assert config.input.path == f"s3a://bucket/trips/date={DAY}"
    if task == "fit":
        assert config.output.run_id == DAY
        assert config.model.warm_start == config.output.path
    else:
        assert config.model == f"runs/nightly/{DAY}"
        assert config.output.path == f"scored/nightly/date={DAY}"


@pytest.mark.parametrize("code", ENDINGS)
def test_a_code_that_would_come_again_fails_without_retries(dag: Any, code: int) -> None:
    ending, message = dag["endings"][str(code)]
    assert ending == ENDINGS[code]
    assert code == 0 or re.search(rf"code {code}\b", message)


def test_airflow_runs_a_night_of_old_faithful(airflow: Any) -> None:
    runs, scored = airflow.home / "runs", airflow.home / "scored"
    quick = "--master 'local[1]' --driver-java-options -XX:TieredStopAtLevel=1"
    env = {
        "SPARKGMM_SUBMIT": f"{ROOT}/.venv/bin/spark-submit {quick}",
        "SPARKGMM_OUTPUT": str(runs),
        "SPARKGMM_SCORED": str(scored),
    }
    for task in ("fit", "score"):  # a whole run would wait ten minutes before a retry
        said = airflow.run("airflow", "tasks", "test", "sparkgmm_nightly", task, DAY, env=env)
        assert "Command exited with return code 0" in said
    assert (runs / "LATEST").read_text() == f"{DAY}\n"
    metrics = json.loads((runs / DAY / "metrics.json").read_text())
    assert metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-4)
    assert pq.read_table(scored / f"date={DAY}").num_rows == 272
