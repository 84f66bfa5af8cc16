"""The commands of conf/deploy/yarn-*.sh on a real resource manager, with the packed environment."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.cluster_jobs import ENVIRONMENT
from helpers.mini_cluster import (
    HOME,
    ROOT,
    MiniCluster,
    after_passes,
    application_of,
    kill_driver,
    kill_executor,
    started_application,
)
from helpers.run_folders import decided
from helpers.scenarios import Done
from helpers.spark_arguments import arguments_of

pytestmark = pytest.mark.storage

CLUSTER = ROOT / "conf" / "deploy" / "yarn-cluster.sh"
CLIENT = ROOT / "conf" / "deploy" / "yarn-client.sh"
TRIPS = ROOT / "conf" / "deploy" / "trips.yaml"
RUNS = f"{HOME}/runs"
FAITHFUL_INPUT = ("input.format=csv", "input.options={header: true}", "input.features=null")
# Spark's own words where a Unix socket has no place.
TOO_LONG = "AF_UNIX path too long"


@pytest.fixture(scope="session", autouse=True)
def packed_environment() -> None:
    if not ENVIRONMENT.exists():
        pytest.fail(f"{ENVIRONMENT} is missing: make dist builds it")


def of_faithful(hadoop: MiniCluster, run_id: str) -> list[str]:
    """What is set over trips.yaml to fit Old Faithful in HDFS."""
    return [
        f"input.path={hadoop.uri}{HOME}/faithful.csv",
        *FAITHFUL_INPUT,
        f"output.path={hadoop.uri}{RUNS}",
        f"output.run_id={run_id}",
    ]


def of_rows(hadoop: MiniCluster, rows: str, model: dict[str, Any], run_id: str) -> list[str]:
    """What is set over trips.yaml for the fit of many passes."""
    return [
        f"input.path={rows}",
        "input.features=null",
        *(f"model.{key}={value}" for key, value in model.items()),
        f"output.path={hadoop.uri}{RUNS}",
        f"output.run_id={run_id}",
    ]


def command(script: Path, overrides: Sequence[str]) -> list[str | Path]:
    return [script, *(part for text in overrides for part in ("--set", text))]


def changed(
    script: Path, folder: Path, confs: dict[str, str], overrides: Sequence[str]
) -> list[str]:
    """The script's own spark-submit, with some of its settings replaced."""
    given = arguments_of(script, folder, *command(script, overrides)[1:])
    settings = [part for key, value in confs.items() for part in ("--conf", f"{key}={value}")]
    job = given.index("jobs/fit_gmm.py")
    return ["spark-submit", *given[:job], *settings, *given[job:]]


def whole_run(hadoop: MiniCluster, run_id: str, tmp_path: Path) -> bytes:
    """Check a run's files by its manifest, and return model.json."""
    hadoop.copy(f"{RUNS}/{run_id}", tmp_path / run_id)
    model, _ = decided(tmp_path / run_id)
    assert hadoop.read(f"{RUNS}/LATEST") == f"{run_id}\n".encode()
    assert "state" not in hadoop.names(f"{RUNS}/{run_id}")
    assert not [name for name in hadoop.names(RUNS) if name.startswith(".")]
    return model


def check_succeeded(done: Done) -> None:
    assert done.code == 0, done.err
    assert TOO_LONG not in done.err


@pytest.fixture(scope="session")
def faithful_model(local_fit: Any) -> bytes:
    """What local[2] finds in the local file."""
    return bytes(local_fit(TRIPS, f"input.path={ROOT / 'data' / 'faithful.csv'}", *FAITHFUL_INPUT))


@pytest.fixture(scope="session")
def rows_model(local_fit: Any, local_rows: Path, many_passes: dict[str, Any]) -> bytes:
    """What local[2] finds in the local rows."""
    model = [f"model.{key}={value}" for key, value in many_passes.items()]
    return bytes(local_fit(TRIPS, f"input.path={local_rows}", "input.features=null", *model))


def test_client_mode_fits_to_the_bits_of_local_mode(
    hadoop: MiniCluster, faithful_model: bytes, tmp_path: Path
) -> None:
    done = hadoop.submit(command(CLIENT, of_faithful(hadoop, "client"))).finish()
    check_succeeded(done)
    assert whole_run(hadoop, "client", tmp_path) == faithful_model


def test_cluster_mode_fits_to_the_bits_of_local_mode(
    hadoop: MiniCluster, faithful_model: bytes, tmp_path: Path
) -> None:
    done = hadoop.submit(command(CLUSTER, of_faithful(hadoop, "cluster"))).finish()
    check_succeeded(done)
    assert whole_run(hadoop, "cluster", tmp_path) == faithful_model
    assert set(hadoop.tell("owners", f"{RUNS}/cluster")) == {"hadoop"}
    # a socket's name has no place behind the folders that these containers had
    [folder] = hadoop.tell("logs")
    container = f"usercache/hadoop/appcache/{application_of(done.err)}/container_"
    assert len(f"{folder}/{container}") > 107 - 43


def test_containers_that_are_killed_change_no_bit(
    hadoop: MiniCluster, rows: str, many_passes: dict[str, Any], rows_model: bytes, tmp_path: Path
) -> None:
    """First an executor's, then the driver's: the second attempt goes on after the last pass."""
    before = hadoop.tell("applications")
    job = hadoop.submit(command(CLUSTER, of_rows(hadoop, rows, many_passes, "killed")))
    application = started_application(hadoop, before)
    run = f"{RUNS}/killed"
    after_passes(hadoop, run, 1, job)
    kill_executor(hadoop, application)
    after_passes(hadoop, run, 2, job)
    kill_driver(hadoop, application)
    done = job.finish()
    check_succeeded(done)
    state, final, attempts, _ = hadoop.tell("application", application)
    assert (final, attempts) == ("SUCCEEDED", "2")
    assert state in ("FINISHING", "FINISHED")
    said = "\n".join(hadoop.logs(application, "stderr"))
    assert re.search(r"run killed goes on after pass [1-9]", said), said[-3000:]
    assert whole_run(hadoop, "killed", tmp_path) == rows_model


def test_a_wrong_configuration_is_not_tried_again_in_cluster_mode(hadoop: MiniCluster) -> None:
    """And spark-submit prints the error where the job was started."""
    wrong = [*of_faithful(hadoop, "wrong"), "model.kk=3"]
    done = hadoop.submit(command(CLUSTER, wrong)).finish()
    assert done.code == 1  # spark-submit's, whatever the driver ended with
    application = application_of(done.err)
    said = "error: unknown key model.kk: did you mean model.k? (exit code 2)"
    assert said in done.err
    state, final, attempts, diagnostics = hadoop.tell("application", application)
    assert (final, attempts, diagnostics) == ("FAILED", "1", said)
    assert state in ("FINISHING", "FINISHED")
    assert hadoop.names(f"{HOME}/.sparkStaging") == []
    lines = [
        json.loads(line)
        for text in hadoop.logs(application, "stderr")
        for line in text.splitlines()
        if line.startswith('{"time"') and '"exit_code"' in line
    ]
    assert [line["exit_code"] for line in lines] == [2]


def test_a_wrong_input_is_not_tried_again_in_cluster_mode(hadoop: MiniCluster) -> None:
    wrong = [*of_faithful(hadoop, "no-input"), f"input.path={hadoop.uri}{HOME}/none.csv"]
    done = hadoop.submit(command(CLUSTER, wrong)).finish()
    assert done.code == 1
    assert "does not exist" in done.err
    assert "(exit code 3)" in done.err
    _, final, attempts, diagnostics = hadoop.tell("application", application_of(done.err))
    assert (final, attempts) == ("FAILED", "1")
    assert diagnostics.startswith("error: input.path ")
    assert "no-input" not in hadoop.names(RUNS)


def test_client_mode_ends_with_the_drivers_own_code_and_line(hadoop: MiniCluster) -> None:
    wrong = [*of_faithful(hadoop, "no-input"), f"input.path={hadoop.uri}{HOME}/none.csv"]
    done = hadoop.submit(command(CLIENT, wrong)).finish()
    assert done.code == 3, done.err
    [line] = done.errors
    assert "none.csv" in line


# What is wrong with the executors' Python, and what the line must name.
PYTHONS = {
    "missing": ("/no/such/python", "cannot run /no/such/python"),
    "empty": ("EMPTY", "is missing on the executors"),
    "ended": ("ENDED", "does not start"),
}


@pytest.mark.parametrize(
    "kind", ["missing", *(pytest.param(k, marks=pytest.mark.long) for k in ("empty", "ended"))]
)
def test_executors_whose_python_does_not_start_are_not_a_fault_of_the_input(
    hadoop: MiniCluster, tmp_path: Path, kind: str
) -> None:
    python, said = PYTHONS[kind]
    if python == "EMPTY":
        python = str(hadoop.folder / "python" / "bin" / "python3")
    if python == "ENDED":
        ending = tmp_path / "python"
        ending.write_text("#!/bin/sh\necho 'no room for a Python here' >&2\nexit 137\n")
        ending.chmod(0o755)
        python = str(ending)
    confs = {"spark.pyspark.python": python}
    run = changed(CLIENT, tmp_path, confs, of_faithful(hadoop, f"python-{kind}"))
    done = hadoop.submit(run).finish()
    assert done.code == 2, done.err
    [line] = done.errors
    assert said in line
    assert "input.path" not in line
    assert f"python-{kind}" not in hadoop.names(RUNS)


@pytest.mark.long
def test_executors_that_yarn_kills_for_their_memory_are_named_as_such(
    hadoop: MiniCluster, rows: str, many_passes: dict[str, Any], tmp_path: Path
) -> None:
    confs = {
        "spark.executor.memory": "512m",
        "spark.executor.memoryOverhead": "1m",
        "spark.task.maxFailures": "1",
    }
    run = changed(CLIENT, tmp_path, confs, of_rows(hadoop, rows, many_passes, "memory"))
    done = hadoop.submit(run).finish()
    assert done.code == 2, done.err
    [line] = done.errors
    assert "memory" in line
    assert "spark.executor.memoryOverhead" in line


@pytest.mark.long
def test_a_socket_that_the_user_wants_and_that_has_no_place_is_named(
    hadoop: MiniCluster, tmp_path: Path
) -> None:
    """What the user sets stays, so it is the user's to take back."""
    confs = {"spark.python.unix.domain.socket.enabled": "true"}
    run = changed(CLIENT, tmp_path, confs, of_faithful(hadoop, "socket"))
    done = hadoop.submit(run).finish()
    assert done.code == 2, done.err
    [line] = done.errors
    assert "spark.python.unix.domain.socket" in line


@pytest.fixture(scope="session")
def two_million(hadoop: MiniCluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """2,000,000 rows in eight files: here, and in HDFS."""
    folder = tmp_path_factory.mktemp("two-million.parquet")
    rng = np.random.default_rng(1)
    means = rng.normal(0, 4, (3, 5))
    for i in range(8):
        n = 250_000 + 1_000 * (2 * i - 7)  # no two files of one size, as above
        X = means[rng.integers(0, 3, n)] + rng.standard_normal((n, 5))
        pq.write_table(pa.table({f"x{j}": X[:, j] for j in range(5)}), folder / f"{i}.parquet")
    hadoop.tell("put", folder, f"{HOME}/two-million.parquet")
    return folder, f"{hadoop.uri}{HOME}/two-million.parquet"


@pytest.fixture(scope="session")
def two_million_model(local_fit: Any, two_million: tuple[Path, str]) -> bytes:
    overrides = [f"input.path={two_million[0]}", "input.features=null", "model.k=3"]
    return bytes(local_fit(TRIPS, *overrides))


@pytest.mark.long
@pytest.mark.parametrize("mode", ["client", "cluster"])
def test_two_million_rows_give_the_bits_of_local_mode(
    hadoop: MiniCluster,
    two_million: tuple[Path, str],
    two_million_model: bytes,
    tmp_path: Path,
    mode: str,
) -> None:
    script = {"client": CLIENT, "cluster": CLUSTER}[mode]
    run_id = f"two-million-{mode}"
    overrides = of_rows(hadoop, two_million[1], {"k": 3}, run_id)
    check_succeeded(hadoop.submit(command(script, overrides)).finish())
    assert whole_run(hadoop, run_id, tmp_path) == two_million_model
