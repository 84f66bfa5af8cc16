"""The registry of a report's sections: each is on some page, and a new one is one entry."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from helpers.html_pages import Page
from helpers.report_runs import HOSTILE, drawn, ran, run_from, spread_out
from sparkgmm.report import sections
from sparkgmm.report.page import report
from sparkgmm.report.run import Run
from sparkgmm.report.sections import SECTIONS, missing
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import picture, style
from sparkgmm.report.tables import Table

PAGES = ("drifted", "faithful", "d=1 k=1", "gappy", "mixed")


def titles_of(page: str) -> list[str]:
    return [part.split("</h2>")[0] for part in page.split("<h2>")[1:]]


def modules() -> list[str]:
    return [info.name for info in pkgutil.iter_modules(sections.__path__) if info.name != "section"]


@pytest.mark.parametrize("module", modules())
def test_no_section_is_left_out_of_the_registry(module: str) -> None:
    held = vars(importlib.import_module(f"sparkgmm.report.sections.{module}")).values()
    found = [value for value in held if isinstance(value, Section)]
    assert found
    assert all(any(section is entry for entry in SECTIONS) for section in found)


@pytest.fixture(scope="module")
def applying() -> dict[str, set[str]]:
    """For each of some runs, the titles of the sections that have something to show of it."""
    found = {}
    with style():
        for case in PAGES:
            run = ran(case)
            found[case] = {s.title for s in SECTIONS if s.fill(run) is not None}
    return found


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title.partition(" {")[0])
def test_each_section_is_on_the_pages_of_the_runs_that_it_applies_to(
    section: Section, applying: dict[str, set[str]]
) -> None:
    beginning = section.title.partition(" {{")[0]
    shown = {
        case
        for case in PAGES
        if any(t.startswith(beginning) for t in titles_of(drawn(case)["report.html"].decode()))
    }
    assert shown == {case for case in PAGES if section.title in applying[case]}
    assert shown


def test_sections_come_in_the_order_of_the_registry() -> None:
    order = [section.title.split()[0] for section in SECTIONS]
    shown = set()
    for case in PAGES:
        page = drawn(case)["report.html"].decode()
        found = [title.split()[0] for title in titles_of(page)]
        found = [word for word in found if word != "Before"]  # the remarks are above all sections
        left = iter(order)
        assert all(word in left for word in found)  # in this order; not every page has all
        assert {"The", "Components", "Membership", "Convergence"} <= set(found)
        shown |= set(found)
    assert shown >= set(order)


def test_what_is_missing_is_told_by_feature_and_component() -> None:
    run = ran("gappy")
    table = missing.missing_table(run.membership)
    assert [row[0] for row in table.rows] == ["often", "seldom", "never"]
    share = np.isnan(run.sample.X[:, 1]).mean()
    assert table.rows[0][1] == f"{share:.2%}"
    each = [float(cell.rstrip("%")) for cell in table.rows[0][2:]]
    assert abs(max(each) - 50) < 8
    assert abs(min(each) - 20) < 8


def test_a_new_section_is_one_entry() -> None:
    def fill(run: Run) -> dict[str, object]:
        figure = Figure(figsize=(2, 2))
        figure.subplots().plot([0, run.mixture.k])
        names = list(run.mixture.features or ())
        return {
            "k": run.mixture.k,
            "names": Table(["feature"], [[name] for name in names]),
            "line": picture(figure, "line", "A line that ends at the number of components"),
        }

    mine = Section(
        "Of {{ k }} components", "{{ show.figure(line) }}\n{{ show.grid(names) }}\n", fill
    )
    run = run_from(spread_out(len(HOSTILE), 3), 300, HOSTILE)
    files = report(run, [*SECTIONS[-2:], mine])
    assert files["plots/line.png"].startswith(b"\x89PNG")
    html = files["report.html"].decode()
    assert titles_of(html)[-1] == "Of 3 components"
    page = Page(html)
    assert page.cells[-len(HOSTILE) :] == HOSTILE  # as text, whatever they hold
    assert page.of("img")[-1]["alt"] == "A line that ends at the number of components"


def test_a_section_with_nothing_to_show_leaves_no_trace() -> None:
    mine = Section("Nothing", "{{ not_defined }}", lambda run: None)
    run = run_from(spread_out(1, 1), 200)
    last = SECTIONS[-1:]
    assert report(run, [*last, mine]) == report(run, last)


def test_a_section_that_names_what_its_fill_does_not_give_is_an_error_not_a_blank() -> None:
    mine = replace(SECTIONS[-1], template="{{ fact }}")
    with pytest.raises(Exception, match="'fact' is undefined"):
        report(run_from(spread_out(1, 1), 200), [mine])


def test_levels_are_shown_with_their_lift_and_counts_with_their_dispersion() -> None:
    run = ran("mixed")
    mixture = run.mixture
    page = Page(drawn("mixed")["report.html"].decode())
    [part, counts] = mixture.parts
    p = np.array([mixture.categorical[part.of.name][HOSTILE[0]]])[0]
    share = float(mixture.weights @ p)
    assert f"{p[0]:.2%} (×{p[0] / share:.2f})" in page.text
    assert counts.of.name in page.text
    assert "Counts of visits vary more than a Poisson does: in component" in page.text
    assert "plots/levels.png" in drawn("mixed")
