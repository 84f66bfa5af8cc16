"""What the benchmark calls an arrival, and what it charges for it, on made-up runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "scripts" / "bench"


@pytest.fixture
def optimum(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(BENCH))
    import optimum

    yield optimum
    for name in ("optimum", "machine", "data"):
        sys.modules.pop(name, None)


def run(height: float, seconds: float = 1.0) -> dict[str, Any]:
    return {"log_likelihood": height, "seconds": seconds}


def test_all_seconds_count_and_only_runs_at_the_best_known_optimum_arrive(optimum: Any) -> None:
    runs = {"ours": [run(-5.0), run(-5.0)], "mllib": [run(-5.3, 30.0), run(-5.0005, 10.0)]}
    assert optimum.best_known(runs) == -5.0
    assert optimum.arrivals(runs, "mllib") == 1
    assert optimum.expected_seconds(runs, "mllib") == 40.0
    assert optimum.expected_seconds(runs, "ours") == 1.0


def test_ours_has_not_arrived_where_a_peer_found_better(optimum: Any) -> None:
    runs = {"ours": [run(-5.0)], "mllib": [run(-4.9)]}
    assert optimum.arrivals(runs, "ours") == 0
    assert optimum.expected_seconds(runs, "ours") == float("inf")


def test_a_run_that_failed_is_no_arrival_and_takes_no_part_in_the_best_known(optimum: Any) -> None:
    runs = {"ours": [run(-5.0)], "mllib": [{"failed": "out of memory"}, run(-5.0)]}
    assert optimum.best_known(runs) == -5.0
    assert optimum.arrivals(runs, "mllib") == 1
