"""The registry of a candidate's figures: each entry is wherever its entry says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from helpers.data_sets import faithful
from helpers.report_runs import run_of
from sparkgmm.core import figures
from sparkgmm.core.figures import FIGURES, Column, Exposed, Figure, column_of, figures_of
from sparkgmm.options import CRITERION
from sparkgmm.report.run import Run
from sparkgmm.report.sections.choice import candidate_table
from sparkgmm.runs.folder import to_json
from sparkgmm.runs.prometheus import exposition
from sparkgmm.runs.terminal import candidates_as_text


def fitted() -> Run:
    return run_of(faithful(), features=["eruptions", "waiting"], k=[1, 2])


@pytest.fixture(scope="module")
def run() -> Run:
    return fitted()


def prometheus_of(run: Run) -> dict[str, float]:
    manifest = {**run.manifest, "source": {"commit": None}}
    text = exposition(run.metrics, manifest, run.mixture.weights, "runs")
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#"]
    return {name.partition("{")[0]: float(value) for name, value in lines}


def names_of(run: Run) -> tuple[set[str], set[str], set[str]]:
    """Return what is in metrics.json, in metrics.prom, and above the report's table."""
    table = candidate_table(run.candidates, run.chosen, "bic")
    return set(run.metrics["candidates"][0]), set(prometheus_of(run)), set(table.head)


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f.key or f.column.heading)
def test_each_figure_is_wherever_its_entry_says(figure: Figure, run: Run) -> None:
    value = figure.value(run.chosen)
    if figure.key is not None:
        at = run.candidates.index(run.chosen)
        written = json.loads(to_json(run.metrics))["candidates"][at][figure.key]
        assert written == (None if written is None else value)
    if figure.exposed is not None:
        assert prometheus_of(run)[f"sparkgmm_{figure.exposed.name}"] == float(value)
    if figure.column is not None:
        table = candidate_table(run.candidates, run.chosen, "bic")
        [row] = [row for row in table.rows if row[0] == "chosen"]
        cell = row[table.head.index(figure.column.heading)]
        if value is None or isinstance(value, str):
            assert cell == (value or "–")
        else:
            assert float(cell.replace(",", "")) == pytest.approx(value, abs=1e-3)


def test_names_are_given_once() -> None:
    for names in (
        [f.key for f in FIGURES if f.key],
        [f.exposed.name for f in FIGURES if f.exposed],
        [f.column.heading for f in FIGURES if f.column],
    ):
        assert len(names) == len(set(names))


@pytest.mark.parametrize("criterion", CRITERION.kind.choices)
def test_each_criterion_has_a_column_for_the_terminal(criterion: str, run: Run) -> None:
    column, value = column_of(criterion)
    assert column.heading == criterion
    expected = getattr(run.mixture, criterion)(faithful())
    assert float(value(run.chosen)) == pytest.approx(expected, abs=0.01)
    first, *lines = candidates_as_text(tuple(run.candidates), run.chosen, criterion).splitlines()
    assert first.split() == ["k", "covariance", "log-likelihood", criterion]
    assert sum(line.split()[0] == "*" for line in lines) == 1


def test_a_new_figure_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    def entropy(candidate: Any) -> float:
        return float(candidate.entropy)

    exposed = Exposed("entropy_nats", "Entropy of the responsibilities.")
    mine = Figure("entropy", entropy, exposed, Column("entropy", ".2f"))
    before = names_of(fitted())
    monkeypatch.setattr(figures, "FIGURES", (*FIGURES, mine))
    run = fitted()
    after = names_of(run)
    new = ({"entropy"}, {"sparkgmm_entropy_nats"}, {"entropy"})
    assert tuple(a - b for a, b in zip(after, before, strict=True)) == new
    R = run.mixture.responsibilities(faithful())
    expected = float(-(R * np.log(np.maximum(R, 1e-300))).sum())
    assert prometheus_of(run)["sparkgmm_entropy_nats"] == pytest.approx(expected, rel=1e-3)
    assert figures_of(run.chosen)["entropy"] == run.metrics["entropy"]


def test_a_figure_that_is_not_known_is_a_dash_and_a_number_has_its_thousands() -> None:
    column = Column("x", ".2f")
    assert [column.text(v) for v in (None, 1234.5, "words")] == ["–", "1,234.50", "words"]
    assert column.text(1234.5, thousands="") == "1234.50"
