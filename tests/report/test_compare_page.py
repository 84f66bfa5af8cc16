"""The page of a comparison: the same contour by every software, the tables, the words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes

from helpers.comparisons import comparison_of
from helpers.html_pages import Page, check_it_loads_nothing, check_its_policy, svg_of
from helpers.report_runs import HOSTILE, spread_out
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.compare_page import compare_page, contour_figure, one_hot
from sparkgmm.report.comparison import Comparison, Solved


def page_of(comparison: Comparison, title: str = "sparkgmm beside others") -> Page:
    return Page(compare_page(comparison, title)["compare.html"].decode())


@pytest.fixture(scope="module", params=[1, 2, 30])
def comparison(request: pytest.FixtureRequest) -> Comparison:
    return comparison_of(spread_out(request.param, 3))


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> Page:
    return page_of(comparison)


def test_the_page_loads_nothing(page: Page) -> None:
    check_it_loads_nothing(page)
    check_its_policy(page)
    assert page.scripts == []


def test_the_page_starts_with_the_verdict(page: Page, comparison: Comparison) -> None:
    assert comparison.verdict() in page.text
    assert "None" not in page.text
    assert "nan" not in page.text


def test_every_software_has_its_picture_and_row(page: Page, comparison: Comparison) -> None:
    [image] = page.of("img")
    words = ["".join(t.itertext()) for t in svg_of(str(image["src"])).iter() if t.text]
    for solved in comparison.solved:
        assert any(word.startswith(f"{solved.title}: ") for word in words)
        assert solved.title in str(image["alt"])
        assert page.cells.count(solved.title) == 1 + comparison.ours.k


def test_the_numbers_are_those_of_the_comparison(page: Page, comparison: Comparison) -> None:
    for solved in comparison.solved:
        at = page.cells.index(solved.title)
        assert float(page.cells[at + 1]) == pytest.approx(solved.mean_log_likelihood, abs=1e-6)
        rand = float(page.cells[at + 6])
        assert rand == pytest.approx(comparison.adjusted_rand[solved.name], abs=1e-4)
    at = page.cells.index("scikit-learn")
    found = comparison.differences["sklearn"]
    shown = [float(cell) for cell in page.cells[at + 3 : at + 6]]
    np.testing.assert_allclose(shown, (found.weights, found.means, found.covariances), rtol=0.06)


def test_matched_components_stand_together(page: Page, comparison: Comparison) -> None:
    """Theirs come in another order; each line shows the component that stands for ours."""
    ours = comparison.ours
    theirs = comparison.solved[1].mixture
    assert theirs is not None
    for j in range(ours.k):
        i = comparison.matched["sklearn"][j]
        assert f"{theirs.weights[i]:.6f}" in page.cells
        starts = [n for n, cell in enumerate(page.cells) if cell == str(j)]
        rows = [page.cells[n : n + 3] for n in starts]
        assert [str(j), "scikit-learn", f"{theirs.weights[i]:.6f}"] in rows


def test_many_features_are_cut_and_counted(page: Page, comparison: Comparison) -> None:
    assert ("18 more features in compare.json" in page.text) == (comparison.ours.d == 30)
    assert ("more features" in page.text) == (comparison.ours.d == 30)


def test_what_k_means_loses_is_said(page: Page) -> None:
    assert "What hard assignment loses" in page.text
    assert "Even the best hard labels" in page.text


def test_notes_stand_below_the_table(page: Page) -> None:
    assert "Spark MLlib: one random start" in page.text


def test_a_peer_that_failed_has_a_row_that_says_why_and_no_picture() -> None:
    whole = comparison_of(spread_out(1, 3))
    failed = Solved("mllib", failed="no <b>memory</b> left")
    solved = [failed if s.name == "mllib" else s for s in whole.solved]
    page = page_of(Comparison(solved, whole.sample))
    assert "failed: no <b>memory</b> left" in page.cells
    assert page.of("b") == []
    assert "Spark MLlib" not in str(page.of("img")[0]["alt"])
    assert "What happened in MLlib" not in page.text
    assert "Spark MLlib gave no mixture" in page.text


def test_where_all_peers_failed_ours_is_still_shown() -> None:
    whole = comparison_of(spread_out(1, 3))
    solved = [whole.solved[0], *(Solved(s.name, failed="why") for s in whole.solved[1:])]
    page = page_of(Comparison(solved, whole.sample))
    assert page.cells.count("failed: why") == 3
    assert "What hard assignment loses" not in page.text


@pytest.mark.parametrize("n", [1, 3])
def test_the_lowest_picture_of_each_column_has_numbers_and_a_name_on_its_axis(n: int) -> None:
    whole = comparison_of(spread_out(2, 2))
    page = page_of(Comparison(whole.solved[:n], whole.sample))
    groups = [e for e in svg_of(str(page.of("img")[0]["src"])).iter() if e.tag.endswith("}g")]
    axes = [e for e in groups if str(e.get("id")).startswith("matplotlib.axis_")]
    words = [["".join(t.itertext()) for t in e.iter() if t.tag.endswith("}text")] for e in axes]
    below = [texts for texts in words if "x0" in texts]
    assert len(below) == min(n, 2)
    assert all(len(texts) > 3 for texts in below)
    assert sum("x1" in texts for texts in words) == -(-n // 2)


def test_a_component_has_one_colour_in_every_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours go by position: the mixtures are drawn in the order of ours."""
    seen: list[tuple[Mixture, Array | None]] = []

    def spy(axes: Axes, mixture: Mixture, X: Array, *_: Any, **more: Any) -> None:
        seen.append((mixture, more["responsibilities"]))

    monkeypatch.setattr("sparkgmm.report.compare_page.draw_pair", spy)
    whole = comparison_of(spread_out(2, 3))
    contour_figure(whole)
    assert len(seen) == 4
    for mixture, _ in (seen[1], seen[3]):  # ours again, in another order
        np.testing.assert_array_equal(mixture.means, whole.ours.means)
    assert [R is None for _, R in seen] == [True, True, True, False]
    hard = seen[3][1]
    assert hard is not None
    agreeing = hard.argmax(axis=1) == whole.ours.predict(whole.sample.X)
    assert agreeing.mean() > 0.9


def test_what_mllib_did_wrong_is_said() -> None:
    whole = comparison_of(spread_out(1, 3))
    one = Mixture(np.full(3, 1 / 3), np.zeros((3, 1)), np.ones((3, 1, 1)))
    broken = Solved("mllib", one, mean_log_likelihood=-99.0)
    solved = [broken if s.name == "mllib" else s for s in whole.solved]
    page = page_of(Comparison(solved, whole.sample))
    assert "What happened in MLlib" in page.text
    assert "one and the same" in page.text


def test_names_and_title_are_text() -> None:
    plain = spread_out(len(HOSTILE), 2)
    named = Mixture(plain.weights, plain.means, plain.covariances, features=HOSTILE)
    comparison = comparison_of(named)
    page = page_of(comparison, "<script>alert(3)</script>")
    assert page.scripts == []
    assert "<script>alert(3)</script>" in page.text
    for name in HOSTILE:
        assert name in page.cells


def test_a_sample_is_called_one(page: Page) -> None:
    assert "(a sample)" not in page.text
    whole = comparison_of(spread_out(1, 2))
    partial = Comparison(whole.solved, replace(whole.sample, complete=False))
    assert "(a sample)" in page_of(partial).text


def test_the_same_comparison_gives_the_same_bytes() -> None:
    first, second = (compare_page(comparison_of(spread_out(1, 2)), "a") for _ in range(2))
    assert first == second
    assert sorted(first) == ["compare.html", "plots/contours.png"]


def test_hard_labels_become_the_colours_of_our_components() -> None:
    # our components 0, 1, 2 are their clusters 2, 0, 1
    found = one_hot(np.array([2, 2, 0, 1]), [2, 0, 1])
    assert found.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
