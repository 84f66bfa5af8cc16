"""Deaths of Spark's JVM, for real: one line that says so and what to do, wherever a fit runs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.spark, pytest.mark.long]

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
JOB = HERE.parents[1] / "jobs" / "fit_gmm.py"
# Each row asks for 2 GB of the JVM's heap: in local mode a task without memory ends the driver.
HUNGRY = "length(repeat('x', 2000000000 + cast(eruptions as int))) > 0"


@pytest.fixture
def config(tmp_path: Path, faithful_csv: str) -> str:
    path = tmp_path / "config.yaml"
    job = {
        "input": {"path": faithful_csv, "options": {"header": True}, "where": HUNGRY},
        "model": {"k": 2},
        "output": {"path": str(tmp_path / "runs"), "report": False},
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    return str(path)


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "SPARK_HOME"} | variables
    environment["PYSPARK_PYTHON"] = sys.executable
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, env=environment
    )


def test_the_console_script_ends_in_one_line_where_the_jvm_has_no_memory(config: str) -> None:
    done = run(
        str(BIN / "sparkgmm-fit"),
        *("--config", config),
        PYSPARK_SUBMIT_ARGS="--master local[1] --driver-memory 600m pyspark-shell",
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: the driver's JVM has no memory left")
    assert "--driver-memory" in last
    assert "Traceback" not in done.stderr
    assert "py4j" not in done.stderr.lower()


def test_under_spark_submit_the_line_outlives_the_jvm(config: str) -> None:
    submit = [str(BIN / "spark-submit"), "--master", "local[1]", "--driver-memory", "600m"]
    done = run(*submit, str(JOB), "--config", config)
    assert done.returncode == 52  # spark-submit is the JVM that ended
    assert sum(line.startswith("error: ") for line in done.stderr.splitlines()) == 1
    # the JVM ends before or after it has said why
    assert re.search("error: (Spark's JVM ended|the driver's JVM has no memory)", done.stderr)
    assert "--driver-memory" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_estimator_says_that_the_jvm_was_killed() -> None:
    done = run(sys.executable, str(HERE / "lost_app.py"))
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.strip().splitlines()
    assert line.startswith("LostSparkError: Spark's JVM was killed (signal 9)")
