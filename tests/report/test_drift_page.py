"""What a report says of the run before, and its picture of the last nights."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.html_pages import Page
from helpers.report_runs import HOSTILE, drawn, drifted, ran
from sparkgmm.core.drift import Drift
from sparkgmm.report.page import report
from sparkgmm.report.past_runs import PastRun
from sparkgmm.report.run import Run
from sparkgmm.report.sections.changes import (
    _within_sight,
    change_sentences,
    change_table,
    past_runs_figure,
)
from sparkgmm.report.style import style


@pytest.fixture(scope="module")
def run() -> Run:
    return drifted()


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(drawn("drifted")["report.html"].decode())


def drift_of(run: Run) -> Drift:
    assert run.past is not None
    assert run.past.drift is not None
    return run.past.drift


def test_every_label_of_either_run_has_a_row_with_what_became_of_it(run: Run) -> None:
    drift = drift_of(run)
    table = change_table(drift)
    assert [row[0] for row in table.rows] == ["0", "1", "2", "3", "4"]
    assert [row[2] for row in table.rows] == ["", "", "", "vanished", "appeared"]
    assert [row[1] for row in table.rows] == ["0", "1", "2", "", "3"]
    assert table.rows[1][6] == f"{drift.changes[1].mean_shift:.3g}"
    assert all(len(row) == len(table.head) for row in table.rows)
    assert table.rows[3][-1].endswith("→ –")
    assert table.rows[4][-1].startswith("– →")


def test_the_words_name_what_is_new_gone_and_moved_most(run: Run) -> None:
    assert run.past is not None
    text = " ".join(change_sentences(run.past))
    drift = drift_of(run)
    assert f"New: label 4 ({drift.changes[4].weight:.2%} of the rows)" in text
    assert f"Gone: label 3 ({drift.changes[3].weight_before:.2%})" in text
    assert "The mean that moved most is label 1's" in text
    assert "0.12 nats (Jensen-Shannon divergence, ± 0.001" in text
    assert "1.25 nats a row less than it gave its own: -7.5" in text
    assert "4.00% of the new rows" in text


def test_the_page_warns_of_thresholds_that_were_crossed_first_of_all(page: Page) -> None:
    told = page.text.index("The run drifted too far since 2026-11-29: divergence is 0.12 nats")
    assert page.text.index("Before you trust it") < told
    assert told < page.text.index("The run drifted since 2026-11-29")
    assert "The last 30 runs" in page.text
    assert "Since 2026-11-29" in page.text


def test_the_table_of_changes_is_on_the_page_and_names_of_features_are_text(
    run: Run, page: Page
) -> None:
    table = change_table(drift_of(run))
    cells = [cell for row in [table.head, *table.rows] for cell in row]
    assert HOSTILE[0] in cells
    first = page.cells.index("weight before") - cells.index("weight before")
    assert page.cells[first : first + len(cells)] == cells
    assert not any("alert" in script for script in page.scripts)


def test_a_run_without_a_drift_section_has_no_such_part() -> None:
    assert ran("faithful").past is None
    text = Page(drawn("faithful")["report.html"].decode()).text
    assert "Since" not in text
    assert "standard errors" not in text


def test_the_first_night_says_that_there_is_nothing_to_compare_with() -> None:
    first = drifted(1, "first", against=None, drift=None, crossed=())
    files = report(first)
    text = Page(files["report.html"].decode()).text
    assert "There is no earlier run to compare with" in text
    assert "plots/nights.png" not in files
    assert not re.search(r"\b(None|nan)\b", text)


def test_the_picture_says_in_words_which_nights_it_shows(run: Run) -> None:
    assert run.past is not None
    with style():
        found = past_runs_figure(run.past)
    assert found is not None
    assert "The last 30 runs, 2026-11-01 to 2026-11-30" in found.alt
    svg = found.svg.decode()
    assert ">fail</text>" in svg.replace("\n", "")
    assert ">2026-11-01<" in svg


def test_nights_that_measured_nothing_leave_a_gap_and_no_warning(run: Run) -> None:
    assert run.past is not None
    blank = PastRun("2026-12-01", {}, None, None, None, None, "first")
    past = replace(run.past, runs=[blank, *run.past.runs])
    with style():
        assert past_runs_figure(past) is not None
        assert past_runs_figure(replace(past, runs=[blank, blank])) is not None


def test_a_failed_night_does_not_flatten_the_others() -> None:
    def night(verdict: str) -> PastRun:
        return PastRun("a", {}, 0, 0, 0, 0, verdict)

    nights = [night("steady"), night("steady"), night("steady"), night("failed")]
    heights = _within_sight(np.array([np.nan, -6.0, -5.0, -1e7]), nights)
    np.testing.assert_array_equal(heights, [np.nan, -6.0, -5.0, -6.5])
    nothing_else = np.array([np.nan, np.nan, -5.0, -1e7])
    np.testing.assert_array_equal(_within_sight(nothing_else, nights), nothing_else)
