"""index.html of an output root: one read and one write a run, newest first, bounded, escaped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from helpers.html_pages import Page, check_its_policy
from sparkgmm.errors import InputError
from sparkgmm.runs.runs_list import Published, list_run
from sparkgmm.spark.storage import Folder


class Store:
    """As much of a folder as the list asks for; it counts what is asked."""

    path = "s3a://bucket/runs"

    def __init__(self, page: bytes | None = None) -> None:
        self.page = page
        self.asked: list[str] = []

    def read_if_there(self, name: str) -> bytes | None:
        self.asked.append(f"read {name}")
        return self.page

    def replace(self, name: str, content: bytes) -> None:
        self.asked.append(f"write {name}")
        self.page = content


def published(run_id: str, has_report: bool = True, **changes: Any) -> Published:
    metrics = {
        "k": 3,
        "covariance_type": "full",
        "rows_used": 1234,
        "log_likelihood": -1130.26,
        "bic": 2322.19,
        "converged": True,
    }
    configuration = {"input": {"path": "a & <b>.csv"}, "model": {"criterion": "bic"}}
    manifest = {
        "run_id": run_id,
        "finished": "2026-11-23T01:02:03.456+00:00",
        "configuration": configuration,
    }
    return Published({**metrics, **changes}, manifest, has_report)


@pytest.fixture
def add() -> Callable[..., list[str]]:
    def run(store: Store, of: Published, **given: Any) -> list[str]:
        said: list[str] = []
        list_run(cast(Folder, store), of, said.append, **given)
        return said

    return run


def links(store: Store) -> list[str]:
    assert store.page is not None
    return [str(a["href"]) for a in Page(store.page.decode()).of("a")]


def test_each_run_is_read_and_written_once_and_the_newest_comes_first(add: Any) -> None:
    store = Store()
    for run_id in ("a", "b", "c"):
        add(store, published(run_id))
    add(store, published("b", converged=False), is_latest=False, deleted=["a"])
    assert links(store) == ["b/report.html", "c/report.html"]
    assert store.asked == ["read index.html", "write index.html"] * 4
    page = Page(cast(bytes, store.page).decode())
    check_its_policy(page)
    assert not page.scripts
    assert "a & <b>.csv" in page.cells
    assert "not converged, drifted too far" in page.text
    assert {"1,234", "-1,130.260", "bic 2,322.19", "2026-11-23 01:02:03"} <= set(page.cells)


def test_a_run_without_a_report_asks_nothing_of_the_store(add: Any) -> None:
    store = Store()
    add(store, published("a", has_report=False))
    assert store.asked == []


def test_the_list_is_bounded_and_a_run_with_groups_is_in_it(add: Any) -> None:
    store = Store()
    for i in range(205):
        add(store, published(f"r{i}"))
    groups = published("g", n_groups=2500)
    del cast(dict[str, Any], groups.metrics)["k"]
    add(store, groups)
    assert len(links(store)) == 200
    page = Page(cast(bytes, store.page).decode())
    assert "2,500 groups" in page.cells
    assert "older ones are in their folders" in page.text


def test_a_page_of_somebody_elses_and_a_fault_of_the_store_are_said_and_no_more(add: Any) -> None:
    store = Store(b"<html>mine</html>")
    assert add(store, published("a")) == [
        "s3a://bucket/runs/index.html is no list of runs and is left alone"
    ]
    assert store.page == b"<html>mine</html>"
    broken = Store()

    def fail(*_: object) -> None:
        raise InputError("the store is full")

    broken.replace = fail  # type: ignore[method-assign]
    assert "could not be brought up to date (the store is full)" in add(broken, published("a"))[0]
