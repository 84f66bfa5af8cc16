"""The files of slow folders say by `pytestmark` which suite they belong to."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
# Folders and the marks that every file in them has: without them its tests are part of `make test`
# or of `make test-fast`, where what they need is missing.
SUITES = {
    "airflow": {"airflow"},
    "cluster": {"cluster", "spark"},
    "hostile": {"long"},
    "jobs": {"spark"},
    "spark": {"spark"},
    "storage": {"storage"},
}
# What a file imports of the helpers only if it starts processes or servers, which takes long.
SLOW_HELPERS = {"cluster_jobs", "mini_cluster", "s3_store", "session_jobs", "table_jobs"}
SLOW = {"airflow", "cluster", "long", "nights", "storage"}


def marks_of(source: str) -> set[str]:
    """Return the marks that a file gives to all its tests."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            values = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            return {ast.unparse(value).removeprefix("pytest.mark.") for value in values}
    return set()


def helpers_of(source: str) -> set[str]:
    """Return the modules of tests/helpers that a file imports."""
    return {
        node.module.removeprefix("helpers.")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("helpers.")
    }


def unmarked(tests: Path) -> list[str]:
    """Return the files of slow folders, or that import a slow helper, without the mark for it."""
    missing = []
    for path in sorted(tests.rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        marks, place = marks_of(source), path.relative_to(tests)
        lacks = SUITES.get(place.parts[0], set()) - marks
        if helpers_of(source) & SLOW_HELPERS and not marks & SLOW:
            lacks |= {"slow"}
        missing += [f"{place}: {name}" for name in sorted(lacks)]
    return missing


def test_every_file_of_a_slow_folder_has_its_marks() -> None:
    assert unmarked(TESTS) == []


def test_every_slow_folder_holds_tests() -> None:
    assert [name for name in SUITES if not list((TESTS / name).rglob("test_*.py"))] == []


@pytest.mark.parametrize(
    ("place", "source", "missing"),
    [
        ("cluster/test_a.py", "", ["cluster", "spark"]),
        ("cluster/test_a.py", "pytestmark = pytest.mark.spark", ["cluster"]),
        ("storage/hadoop/test_a.py", "x = 1", ["storage"]),
        ("runs/test_a.py", "from helpers.session_jobs import Jobs", ["slow"]),
        ("runs/test_a.py", "from helpers.data_sets import iris", []),
        ("hostile/test_a.py", "pytestmark = [pytest.mark.long, pytest.mark.spark]", []),
    ],
)
def test_a_slow_file_without_its_mark_is_found(
    place: str, source: str, missing: list[str], tmp_path: Path
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(source, encoding="utf-8")
    assert unmarked(tmp_path) == [f"{place}: {name}" for name in missing]


def test_both_halves_of_make_test_select_what_pytest_selects_alone() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [alone] = re.findall("-m '(.*?)'", pyproject["tool"]["pytest"]["ini_options"]["addopts"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.findall("^SHORT := (.*)$", makefile, re.MULTILINE) == [alone]
    [recipe] = re.findall(r"^test: .*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert re.findall('-m "(.*?)"', recipe) == ["spark and $(SHORT)", "not spark and $(SHORT)"]
