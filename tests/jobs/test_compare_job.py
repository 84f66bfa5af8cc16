"""The compare job from outside: one line of verdict, a page, and exit code 0 whoever is right."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from helpers.scenarios import FAITHFUL, Done, Scenarios, command_line, look_at

pytestmark = [pytest.mark.spark, pytest.mark.nights]

if TYPE_CHECKING:
    from conftest import Workplace


scenario = SCENARIOS = Scenarios()


def configuration(at: Workplace, *overrides: str) -> list[str]:
    """Write a configuration of the compare job and return its arguments."""
    at.job = "compare_gmm.py"
    text = json.dumps(
        {
            "input": {"path": FAITHFUL, "options": {"header": True}},
            "model": {"k": 2, "n_init": 2, "tol": 1e-8, "max_iter": 500},
            "output": {"path": str(at.folder / "compare")},
        }
    )
    config = at.write("config.yaml", text)
    return command_line(config, overrides)


@scenario
def old_faithful(at: Workplace) -> Done:
    return at.spark_submit(*configuration(at))


@look_at("old_faithful")
def test_the_job_ends_with_the_verdict_and_where_the_page_is(outcome: Done) -> None:
    assert outcome.code == 0, outcome.err
    assert outcome.errors == []
    folder = outcome.folder / "compare"
    verdict, page = outcome.out.strip().splitlines()
    assert verdict.startswith("scikit-learn and Spark MLlib agree with sparkgmm in every weight")
    assert verdict.endswith("nats a row worse.")
    assert page == f"page {folder}/compare.html"
    assert json.loads((folder / "compare.json").read_text(encoding="utf-8"))["verdict"] == verdict
    assert verdict in (folder / "compare.html").read_text(encoding="utf-8")
    assert (folder / "plots" / "contours.png").stat().st_size > 10_000
    assert sorted(p.name for p in outcome.folder.iterdir()) == ["compare", "config.yaml", "local"]


@look_at("old_faithful")
def test_who_fits_is_told_on_standard_error_and_nothing_else(outcome: Done) -> None:
    told = outcome.err[outcome.err.index("sparkgmm fits") :]
    for line in ("scikit-learn fits", "Spark MLlib fits", "k-means fits"):
        assert line in told
    assert "Warning" not in outcome.err
    assert "Traceback" not in outcome.err
    assert "\tat " not in outcome.err


@scenario
def dry_run(at: Workplace) -> Done:
    return at.spark_submit(*configuration(at, "compare.peers=[kmeans]"), "--dry-run")


@look_at("dry_run")
def test_a_dry_run_says_what_it_would_do_and_writes_nothing(outcome: Done) -> None:
    assert outcome.code == 0, outcome.err
    assert "compares sparkgmm with kmeans" in outcome.out
    assert "sample_rows: 200000" in outcome.out
    assert not (outcome.folder / "compare").exists()


@scenario
def unknown_peer(at: Workplace) -> Done:
    return at.python(*configuration(at, "compare.peers=[sklern]"))


@look_at("unknown_peer")
def test_an_unknown_peer_is_an_error_of_the_configuration(outcome: Done) -> None:
    assert outcome.code == 2
    [line] = outcome.errors
    assert "compare.peers" in line
    assert "'sklern'" in line
    assert "'sklearn'" in line
