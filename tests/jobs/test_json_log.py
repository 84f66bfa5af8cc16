"""Standard error of a real job with --log-format json: what a log shipper would get."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from helpers.scenarios import FAITHFUL, Done, Scenarios, command_line, look_at

pytestmark = [pytest.mark.spark, pytest.mark.long]

if TYPE_CHECKING:
    from conftest import Workplace

scenario = SCENARIOS = Scenarios()
# What the JVM says before it starts the job; --log-format cannot reach it.
BEFORE = re.compile(r"WARNING: |Using Spark's default log4j profile|[\d/]{8} [\d:]{8} WARN Utils")


def submit(at: Workplace, path: str) -> Done:
    values = {
        "input": {"path": path, "options": {"header": True}},
        "model": {"k": 2, "n_init": 2},
        "output": {"path": str(at.folder / "runs"), "run_id": "a", "report": False},
    }
    config = at.write("config.yaml", json.dumps(values))
    # Spark warns of this setting once the job has begun
    confs = {"spark.local.dir": str(at.folder / "else")}
    return at.spark_submit(*command_line(config, ()), "--log-format", "json", confs=confs)


@scenario
def fitted(at: Workplace) -> Done:
    return submit(at, FAITHFUL)


@scenario
def refused(at: Workplace) -> Done:
    return submit(at, str(at.folder / "absent.csv"))


def objects(done: Done) -> list[dict[str, Any]]:
    """Every line from the job's first on, each an object with what shippers want."""
    lines = done.err.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("{"))
    assert [line for line in lines[:first] if not BEFORE.match(line)] == []
    found = [json.loads(line) for line in lines[first:]]
    for line in found:
        assert {"time", "level", "run_id", "step", "message"} <= line.keys()
        assert datetime.fromisoformat(line["time"]).utcoffset() is not None
        assert line["level"] in {"info", "warning", "error"}
    return found


@look_at("fitted")
def test_every_line_of_a_fit_is_json_and_sparks_own_as_well(outcome: Done) -> None:
    assert outcome.code == 0, outcome.err
    found = objects(outcome)
    sparks = [line for line in found if "logger" in line]
    assert any("spark.local.dir" in line["message"] for line in sparks)
    ours = [line for line in found if "logger" not in line]
    assert {line["run_id"] for line in ours} == {"a"}
    assert ours[-1]["message"] == "done"
    assert "log-likelihood -1130.26396" in outcome.out


@look_at("refused")
def test_the_line_of_an_error_is_json_too(outcome: Done) -> None:
    assert outcome.code == 3
    last = objects(outcome)[-1]
    assert (last["level"], last["exit_code"], last["step"]) == ("error", 3, "read")
    assert "absent.csv" in last["message"]
    assert outcome.errors == []
