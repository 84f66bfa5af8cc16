"""CONTRIBUTING's examples run as they are written, and its table names what there is."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.html_pages import Page
from helpers.report_runs import run_from, spread_out
from sparkgmm.report.page import report
from sparkgmm.report.sections import SECTIONS
from sparkgmm.spark import score_columns
from sparkgmm.spark.scoring import Scorer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
COLUMN, SECTION = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def last_value(code: str, names: dict[str, Any]) -> Any:
    """Run code and return the value of the expression that it ends with."""
    *before, last = ast.parse(code).body
    assert isinstance(last, ast.Expr)
    exec(compile(ast.Module(before, []), "CONTRIBUTING.md", "exec"), names)
    return eval(compile(ast.Expression(last.value), "CONTRIBUTING.md", "eval"), names)


def test_the_score_column_of_the_example_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    column = last_value(COLUMN, dict(vars(score_columns)))
    known = score_columns.SCORE_COLUMNS
    monkeypatch.setattr(score_columns, "SCORE_COLUMNS", (*known, column))
    assert "certainty" in score_columns.selectable_columns()
    assert (column, "certaintyCol") in score_columns.transform_columns()
    mixture = spread_out(2, 3)
    X = mixture.sample(50, seed=0)[0]
    scorer = Scorer(mixture, score_columns.columns_of(["component", "certainty"]))
    _, found = scorer.arrays(scorer.score(X))
    np.testing.assert_array_equal(found, mixture.responsibilities(X).max(axis=1))


def test_the_section_of_the_example_is_on_the_page_and_left_out_where_it_has_nothing() -> None:
    names: dict[str, Any] = {"__name__": "doubtful"}
    exec(compile(SECTION, "CONTRIBUTING.md", "exec"), names)
    sections = [*SECTIONS[-1:], names["SECTION"]]
    run = run_from(spread_out(2, 3), 400)
    files = report(run, sections)
    page = Page(files["report.html"].decode())
    certainty = run.mixture.responsibilities(run.sample.X).max(axis=1)
    assert f"{(certainty < 0.95).mean():.1%} of the rows belong to no component" in page.text
    assert files["plots/doubtful.png"].startswith(b"\x89PNG")
    alone = report(run_from(spread_out(1, 1), 200), sections)
    assert "Doubtful" not in alone["report.html"].decode()


def test_each_registry_of_the_table_is_where_it_says() -> None:
    rows = re.findall(r"^\| .*? \| `(\w+)`, `([\w/]+)\.py` \|", PAGE, re.MULTILINE)
    assert len(rows) == 4
    for name, path in rows:
        module = importlib.import_module(
            f"sparkgmm.{path.replace('/', '.')}".removesuffix(".__init__")
        )
        assert len(getattr(module, name)) > 4
