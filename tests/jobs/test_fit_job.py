"""The fit job from outside: exit codes, the one line of an error, and the same bits anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.scenarios import FAITHFUL, Done, Scenarios, command_line, look_at

pytestmark = pytest.mark.spark

if TYPE_CHECKING:
    from conftest import Workplace

ROOT = Path(__file__).resolve().parents[2]
# More rows than the pilot sample holds, over several files.
ROWS, FILES = 48_000, 4
MASTERS = ["local[1]", "local[2]"]
CLUSTERS = ["local[1]", "local-cluster[2,1,1024]"]

scenario = SCENARIOS = Scenarios()


def configuration(at: Workplace, path: str, *overrides: str) -> list[str]:
    """Write a configuration and return the arguments that fit it to `path`."""
    text = json.dumps(
        {
            "input": {"path": path, "options": {"header": True}},
            "model": {"k": 2, "n_init": 2},
            "output": {"path": str(at.folder / "runs"), "report": False},
        }
    )
    config = at.write("config.yaml", text)
    return command_line(config, overrides)


# --- The exit-code table -------------------------------------------------------------------------


class Failure:
    """A way to go wrong: what is there and asked for, the exit code, what the line must say."""

    def __init__(
        self,
        code: int,
        parts: list[str],
        *overrides: str,
        data: tuple[str, ...] | Callable[[Workplace], str] = ("a,b", "1,2", "3,5", "7,8", "9,1"),
        by: str = "spark_submit",
    ) -> None:
        self.code = code
        self.parts = parts
        self.overrides = overrides
        self.data = data
        self.by = by

    def __call__(self, at: Workplace) -> Done:
        path = self.data(at) if callable(self.data) else at.write("data.csv", *self.data)
        overrides = [text.replace("{folder}", str(at.folder)) for text in self.overrides]
        return getattr(at, self.by)(*configuration(at, path, *overrides))


def corrupt_parquet(at: Workplace) -> str:
    """Write a Parquet file with pages overwritten, footer and magic bytes as they were."""
    path = at.folder / "data.parquet"
    values = np.random.default_rng(0).normal(size=5000)
    pq.write_table(pa.table({"a": values, "b": values[::-1]}), path)
    content = bytearray(path.read_bytes())
    content[4 : len(content) // 2] = b"\xff" * (len(content) // 2 - 4)
    path.write_bytes(content)
    return str(path)


def empty_file(at: Workplace) -> str:
    return at.write("data.csv")


def absent(at: Workplace) -> str:
    return str(at.folder / "absent.csv")


SHORT = ("a,b", "1,2", "3,4", "1,2", "3,4")
FAILURES = {
    # the command line and the configuration
    "an unknown key": Failure(
        2, ["unknown key model.kk", "did you mean model.k?"], "model.kk=3", by="python"
    ),
    "a wrong type": Failure(2, ["model.k is 'two'"], "model.k=two", by="python"),
    "a bad value": Failure(
        2,
        ["model.covariance_type is 'ful'", "use one of full"],
        "model.covariance_type=ful",
        by="python",
    ),
    "an unknown key by spark-submit": Failure(2, ["did you mean model?"], "modl.k=3"),
    "an unknown format": Failure(2, ["input.format 'delta-lake'"], "input.format=delta-lake"),
    "a bad predicate": Failure(2, ["input.where 'a >'", "'a', 'b'"], "input.where=a >"),
    "an output that cannot be written": Failure(
        2,
        ["output.path", "data.csv/runs", "cannot be written"],
        "output.path={folder}/data.csv/runs",
    ),
    # the input
    "a missing path": Failure(3, ["absent.csv", "does not exist"], data=absent),
    "an empty file": Failure(3, ["no columns and no rows"], data=empty_file),
    "a header alone": Failure(3, ["no rows"], "input.features=[a, b]", data=("a,b",)),
    "a missing column": Failure(
        3,
        ["'wieght'", "did you mean 'weight'?"],
        "input.features=[wieght]",
        data=("weight,b", "1,2"),
    ),
    "text as a feature": Failure(
        3, ["'b'", "'n/a'"], "input.features=[a, b]", data=("a,b", "1,2", "2,n/a")
    ),
    "every row invalid": Failure(
        3, ["all 2 rows are invalid"], "input.invalid_rows=drop", data=("a,b", "NaN,1", "2,NaN")
    ),
    "fewer distinct rows than k": Failure(
        3, ["2 distinct rows for k = 3"], "model.k=3", data=SHORT
    ),
    "a constant feature": Failure(
        3, ["'b' is constant (7 in all 3 rows)", "drop"], data=("a,b", "1,7", "2,7", "3,7")
    ),
    "a negative weight": Failure(
        3, ["w negative in 1"], "input.weight=w", data=("a,b,w", "1,2,1", "2,4,-1", "5,3,1")
    ),
    "a corrupt Parquet file": Failure(3, ["data.parquet", "cannot be read"], data=corrupt_parquet),
    # the fit
    "as many components as points": Failure(
        4,
        ["every candidate is degenerate", "component 0 is a spike: 4 rows", "a = "],
        "model.k=3",
        data=("a,b", *["3.6,79", "1.8,54", "3.333,74"] * 4),
    ),
}
SCENARIOS.update(FAILURES)
STACKS = ("Traceback", "\tat ", "java.lang.", "Caused by")


def check_one_line(done: Done, code: int, signs: Sequence[str] = STACKS) -> str:
    """Assert what holds of every error that a user can cause, and return its line."""
    assert done.code == code, done.err
    assert len(done.errors) == 1, done.err
    assert [sign for sign in signs if sign in done.err] == []
    assert done.out == ""
    assert not (done.folder / "runs").exists()
    return done.errors[0]


@pytest.mark.long
@pytest.mark.parametrize("outcome", FAILURES, indirect=True)
def test_an_error_of_the_user_is_one_line_with_its_code_and_publishes_nothing(
    outcome: Done, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["outcome"]
    failure = FAILURES[name]
    # A worker of PySpark's own looks for data sources written in Python; ending, it may speak up.
    signs = STACKS[1:] if name == "an unknown format" else STACKS
    line = check_one_line(outcome, failure.code, signs)
    assert [part for part in failure.parts if part not in line] == []


@scenario
def broken_yaml(at: Workplace) -> Done:
    return at.python("--config", at.write("config.yaml", "input: {path: a.csv", "output: ]"))


@scenario
def unknown_argument(at: Workplace) -> Done:
    return at.python(*configuration(at, FAITHFUL), "--overwrit")


@scenario
def no_argument(at: Workplace) -> Done:
    return at.python()


@scenario
def old_java(at: Workplace) -> Done:
    java = at.folder / "jdk" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    return at.python(*configuration(at, FAITHFUL), env={"JAVA_HOME": str(java.parent.parent)})


@look_at("broken_yaml")
def test_a_broken_configuration_is_told_with_its_place(outcome: Done) -> None:
    assert re.search(r"config\.yaml.* no valid YAML: line 2", check_one_line(outcome, 2))


@look_at("unknown_argument")
def test_an_unknown_argument_is_told_with_the_usage(outcome: Done) -> None:
    line = check_one_line(outcome, 2)
    assert "--overwrit" in line
    assert "usage:" in line


@look_at("no_argument")
def test_a_missing_argument_is_told(outcome: Done) -> None:
    assert "--config" in check_one_line(outcome, 2)


@look_at("old_java")
def test_an_old_java_is_told_before_anything_else_starts(outcome: Done) -> None:
    assert "Java 11.0.2 was found" in check_one_line(outcome, 2)
    assert outcome.err.count("\n") == 1


@scenario
def executors_without_numpy(at: Workplace) -> Done:
    bare = at.folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    return at.spark_submit(
        *configuration(at, FAITHFUL),
        env={
            "PYSPARK_PYTHON": str(bare / "bin/python"),
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "PYTHONPATH": str(ROOT / "src"),
        },
    )


@pytest.mark.long
@look_at("executors_without_numpy")
def test_executors_without_numpy_are_told_with_the_remedy(outcome: Done) -> None:
    line = check_one_line(outcome, 2)
    assert "numpy is missing in the workers' Python" in line
    assert f"the driver {sys.executable}): set PYSPARK_PYTHON" in line


@scenario
def verbose(at: Workplace) -> Done:
    return at.spark_submit(*configuration(at, absent(at)), "--verbose")


@scenario
def verbose_without_spark(at: Workplace) -> Done:
    return at.python(*configuration(at, FAITHFUL, "model.kk=3"), "--verbose")


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("verbose_without_spark", 2), pytest.param("verbose", 3, marks=pytest.mark.long)],
    indirect=["outcome"],
)
def test_verbose_shows_the_traceback_and_still_the_one_line(outcome: Done, code: int) -> None:
    assert outcome.code == code
    assert "Traceback (most recent call last)" in outcome.err
    assert len(outcome.errors) == 1


# --- A run from end to end -----------------------------------------------------------------------


@scenario
def faithful_twice(at: Workplace) -> tuple[Done, Done]:
    arguments = configuration(at, FAITHFUL, "output.run_id=first", "model.tol=1e-8")
    return at.spark_submit(*arguments), at.spark_submit(*arguments)


@look_at("faithful_twice")
def test_a_run_converges_publishes_and_shows_its_components(outcome: tuple[Done, Done]) -> None:
    done = outcome[0]
    assert done.code == 0, done.err
    assert "log-likelihood -1130.26396" in done.out
    assert re.search(r"^ *0 +0\.6441 +4\.290 ± 0\.412 ", done.out, flags=re.MULTILINE)
    runs = done.folder / "runs"
    assert (runs / "LATEST").read_text() == "first\n"
    manifest = json.loads((runs / "first" / "manifest.json").read_text())
    assert manifest["configuration"]["model"]["tol"] == 1e-8
    assert manifest["spark"]["master"] == "local[1]"
    assert sorted(p.name for p in done.folder.iterdir()) == ["config.yaml", "local", "runs"]


@look_at("faithful_twice")
def test_on_a_pipe_spark_says_nothing_once_the_session_is_there(
    outcome: tuple[Done, Done],
) -> None:
    err = outcome[0].err
    assert " INFO " not in err
    told = err[err.index("reading the rows") :].splitlines()[1:]
    assert told
    assert [line for line in told if not re.match(r"\d\d:\d\d:\d\d (read|EM pass) ", line)] == []
    assert "\x1b" not in err
    assert "\r" not in err


@look_at("faithful_twice")
def test_an_existing_run_is_left_alone_with_exit_code_zero(outcome: tuple[Done, Done]) -> None:
    again = outcome[1]
    assert again.code == 0
    assert again.out == ""
    assert len(re.findall("first exists .* left alone", again.err)) == 1
    assert "reading the rows" not in again.err


@scenario
def on_a_terminal(at: Workplace) -> tuple[int, str, str]:
    """Give the job a terminal for its standard error; return what came on it and on stdout."""
    ours, theirs = pty.openpty()
    process = at.start(*configuration(at, FAITHFUL), stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError), open(ours, "rb", buffering=0) as terminal:  # noqa: PTH123
        while chunk := terminal.read(4096):  # an OSError where the last writer has gone
            shown += chunk
    done = at.finish(process)
    return done.code, done.out, shown.decode()


@look_at("on_a_terminal")
def test_on_a_terminal_a_bar_moves_and_the_result_alone_is_on_stdout(
    outcome: tuple[int, str, str],
) -> None:
    code, out, shown = outcome
    assert code == 0, shown
    assert "\x1b[2K" in shown
    assert "nats a row" in shown
    assert "\x1b" not in out
    assert out.lstrip().startswith("component")


@scenario
def dry_run(at: Workplace) -> Done:
    overrides = ["model.k=[2, 3]", "model.tol=1e-7", "output.run_id=2024-06-01"]
    return at.spark_submit(*configuration(at, FAITHFUL, *overrides), "--dry-run")


@look_at("dry_run")
def test_a_dry_run_prints_configuration_and_plan_and_writes_nothing(outcome: Done) -> None:
    assert outcome.code == 0, outcome.err
    assert "  tol: 1.0e-07\n" in outcome.out
    assert "  invalid_rows: fail\n" in outcome.out
    assert re.search(r"^  k:\n  - 2\n  - 3\n", outcome.out, flags=re.MULTILINE)
    assert re.search(r"^features +2 .*eruptions, waiting$", outcome.out, flags=re.MULTILINE)
    assert re.search(r"^writes .*/runs/2024-06-01$", outcome.out, flags=re.MULTILINE)
    assert not (outcome.folder / "runs").exists()


# --- The same bits, and a driver that dies -------------------------------------------------------


def large_input(at: Workplace) -> str:
    """Write several files of rows around three centres."""
    rng = np.random.default_rng(5)
    centres = np.array([[0.0, 0.0, 0.0], [6.0, 1.0, -4.0], [-3.0, 5.0, 2.0]])
    X = centres[rng.integers(3, size=ROWS)] + rng.normal(size=(ROWS, 3))
    folder = at.folder / "data.parquet"
    folder.mkdir()
    for i, part in enumerate(np.array_split(X, FILES)):
        pq.write_table(pa.table(dict(zip("abc", part.T, strict=True))), folder / f"{i}.parquet")
    return str(folder)


# A partition for each file, and every pass a job on the executors.
ON_EXECUTORS = {"spark.sparkgmm.driverBytes": "0", "spark.sql.files.maxPartitionBytes": "400k"}


def on_master(master: str) -> Callable[[Workplace], Done]:
    def run(at: Workplace) -> Done:
        overrides = ["model.k=3", "model.init=k-means++", "output.run_id=a"]
        arguments = configuration(at, large_input(at), *overrides)
        return at.spark_submit(*arguments, master=master, confs=ON_EXECUTORS)

    return run


SCENARIOS.update({master: on_master(master) for master in MASTERS + CLUSTERS})


@pytest.mark.parametrize("outcome", MASTERS, indirect=True)
def test_one_core_and_two_give_the_same_bytes(
    outcome: Done, outcomes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    check_the_bytes_of_the_first(outcome, outcomes, request)


@pytest.mark.long
@pytest.mark.parametrize("outcome", CLUSTERS, indirect=True)
def test_executors_in_jvms_of_their_own_give_the_same_bytes(
    outcome: Done, outcomes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    check_the_bytes_of_the_first(outcome, outcomes, request)


def check_the_bytes_of_the_first(
    outcome: Done, outcomes: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    assert outcome.code == 0, outcome.err
    run = outcome.folder / "runs" / "a"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["spark"]["master"] == request.node.callspec.params["outcome"]
    assert f"in {FILES} partitions" in outcome.err
    assert json.loads((run / "metrics.json").read_text())["converged"] is True
    first = outcomes[MASTERS[0]].result().folder / "runs" / "a"
    assert (run / "model.json").read_bytes() == (first / "model.json").read_bytes()


@scenario
def killed(at: Workplace) -> Done:
    """Kill driver and JVM in the middle of the passes of a second run."""
    earlier = at.folder / "runs" / "before"
    earlier.mkdir(parents=True)
    (earlier / "manifest.json").write_text("{}")
    (at.folder / "runs" / "LATEST").write_text("before\n")
    endless = ["model.k=6", "model.tol=1e-15", "model.max_iter=100000", "output.run_id=after"]
    endless += ["model.init=k-means++"]
    process = at.start(*configuration(at, large_input(at), *endless), confs=ON_EXECUTORS)
    assert process.stderr is not None
    told = ""
    for line in process.stderr:
        told += line
        if "EM pass" in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    done = at.finish(process)
    return type(done)(done.code, done.out, told + done.err, done.folder)


@look_at("killed")
def test_a_driver_that_dies_leaves_the_earlier_run_the_latest(outcome: Done) -> None:
    assert outcome.code == -signal.SIGKILL
    assert "EM pass 1" in outcome.err
    runs = outcome.folder / "runs"
    assert (runs / "LATEST").read_text() == "before\n"
    assert not (runs / "after" / "manifest.json").exists()
