"""Every column of the input is taken or left out for a reason, in few lines however many."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from helpers.html_pages import Page
from sparkgmm.runs.column_account import left_out_lines
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import plan, run_fit
from sparkgmm.runs.terminal import Terminal

pytestmark = pytest.mark.spark


def config_of(folder: Path, **source: object) -> FitConfig:
    return FitConfig.model_validate(
        {
            "input": {"path": str(folder / "t.parquet"), **source},
            "model": {"k": 1, "n_init": 1, "init": "k-means++"},
            "output": {"path": str(folder / "runs"), "run_id": "a"},
        }
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    n = 60
    columns = {
        "x": rng.normal(size=n),
        "y": rng.normal(size=n),
        "one": np.ones(n),
        "w": np.ones(n),
        "city": rng.choice(["Rome", "Oslo"], n),
        "note": [f"words {i}" for i in range(n)],
        "fare": ["NA" if i % 9 == 0 else str(i / 4) for i in range(n)],
        "day": pa.array([i * 86_400_000_000 for i in range(n)], pa.timestamp("us")),
        "paid": rng.random(n) < 0.5,
        "route": [[1.0, 2.0]] * n,
    }
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    return tmp_path


def test_each_column_left_out_has_its_reason_in_terminal_metrics_and_report(
    spark: SparkSession, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(table, weight="w", constant_features="drop")
    run_fit(spark, config, Terminal(), overwrite=False)
    said = capsys.readouterr().err
    assert "features 3 (float64): x, y, one\n" in said
    reasons = json.loads((table / "runs/a/metrics.json").read_text())["columns_left_out"]
    for name, reason in {
        "one": "constant",
        "city": "text of 2 values: ",
        "note": "no two rows have the same: an id",
        "fare": "'NA' among its numbers",
        "day": "a date or a time",
        "paid": "true or false: name it in input.categorical",
        "route": "the one entry of input.features",
    }.items():
        assert reason in reasons.pop(name)
    assert not reasons
    assert "left out city: text of 2 values" in said
    page = Page((table / "runs/a/report.html").read_text(encoding="utf-8"))
    assert "true or false: name it in input.categorical" in page.cells
    assert "left out note: text" in plan(spark, config)
    runs = Page((table / "runs/index.html").read_text(encoding="utf-8"))
    assert [a["href"] for a in runs.of("a")] == ["a/report.html"]


def test_columns_that_are_not_named_are_one_line_and_no_rows_are_read_for_them(
    spark: SparkSession, table: Path
) -> None:
    said = plan(spark, config_of(table, features=["x"], group_by=["city"]))
    assert "groups   by city: a mixture for each\n" in said
    assert "left out y, one, w, note, fare, day, paid, route: not named in input.features\n" in said


def test_a_thousand_columns_are_a_few_lines() -> None:
    alike = left_out_lines({f"c{i}": "text" for i in range(1000)})
    assert alike == [f"left out {', '.join(f'c{i}' for i in range(12))} and 988 more: text"]
    unlike = left_out_lines({f"c{i}": f"text: {i} values" for i in range(1000)})
    assert len(unlike) == 13
    assert unlike[-1] == "left out 988 more: metrics.json has the reasons"
