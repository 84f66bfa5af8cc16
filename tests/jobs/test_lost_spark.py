"""Deaths of Spark's JVM, for real: one line that says so and what to do, wherever a fit runs."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.spark, pytest.mark.long]

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
JOB = HERE.parents[1] / "jobs" / "fit_gmm.py"
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "SPARK_HOME"}
ENVIRONMENT["PYSPARK_PYTHON"] = sys.executable
# Each row asks for 2 GB of the JVM's heap: in local mode a task without memory ends the driver.
# Each row takes a fifth of a second.
SLOW = "reflect('java.lang.Thread', 'sleep', 200L) is null"
HUNGRY = "length(repeat('x', 2000000000 + cast(eruptions as int))) > 0"


@pytest.fixture
def config(tmp_path: Path, faithful_csv: str) -> str:
    return configured(tmp_path, faithful_csv, HUNGRY)


def configured(tmp_path: Path, faithful_csv: str, where: str) -> str:
    path = tmp_path / "config.yaml"
    job = {
        "input": {"path": faithful_csv, "options": {"header": True}, "where": where},
        "model": {"k": 2},
        "output": {"path": str(tmp_path / "runs"), "report": False},
    }
    path.write_text(json.dumps(job), encoding="utf-8")
    return str(path)


def run(*command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = ENVIRONMENT | variables
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


def test_a_signal_to_the_jvm_of_spark_submit_leaves_one_line(
    tmp_path: Path, faithful_csv: str
) -> None:
    config, log = configured(tmp_path, faithful_csv, SLOW), tmp_path / "log"
    with log.open("wb") as err:
        submit = [str(BIN / "spark-submit"), "--master", "local[1]", str(JOB), "--config", config]
        job = subprocess.Popen(submit, stderr=err, env=ENVIRONMENT)
        end = time.monotonic() + 120
        while "reading the rows" not in log.read_text() and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(3)  # into a job of Spark's
        job.terminate()
        assert job.wait(60) == 128 + signal.SIGTERM
    end = time.monotonic() + 60
    while "error: Spark" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.2)  # Python ends after its JVM
    time.sleep(3)  # and says nothing more
    said = log.read_text()
    assert sum(line.startswith("error: Spark") for line in said.splitlines()) == 1, said
    assert "Traceback" not in said


def test_the_estimator_says_that_the_jvm_was_killed() -> None:
    done = run(sys.executable, str(HERE / "lost_app.py"))
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.strip().splitlines()
    assert line.startswith("LostSparkError: Spark's JVM was killed (signal 9)")
