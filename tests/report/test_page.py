"""The page of a report: whole, self-contained, and every name in it is text."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from helpers.data_sets import faithful, random_mixture
from helpers.html_pages import Page, check_it_loads_nothing, check_its_policy
from helpers.report_runs import CASES, HOSTILE, drawn, ran, run_from, run_of, spread_out
from sparkgmm.mixture import Mixture
from sparkgmm.report.page import report
from sparkgmm.report.run import Run
from sparkgmm.report.sections.rows import pairs_json


def page_of(files: dict[str, bytes]) -> Page:
    return Page(files["report.html"].decode())


@cache
def opened(case: str) -> Page:
    """Return the page of a run that several tests look at."""
    return page_of(drawn(case))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_report_is_a_page_and_the_same_figures_as_files(case: str) -> None:
    files, page = drawn(case), opened(case)
    plots = [name for name in files if name != "report.html"]
    assert len(plots) == len(page.of("img")) >= 2
    for name in plots:
        assert re.fullmatch(r"plots/\w+\.png", name)
        assert files[name].startswith(b"\x89PNG")


def test_a_page_loads_nothing_and_runs_its_own_script_alone(case: str) -> None:
    page = opened(case)
    check_it_loads_nothing(page)
    check_its_policy(page)
    assert len(page.scripts) == len(page.data) <= 1


def test_every_picture_is_told_in_words(case: str) -> None:
    images = opened(case).of("img")
    assert images
    for attributes in images:
        assert len(str(attributes["alt"])) > 20


def test_nothing_on_a_page_is_undefined(case: str) -> None:
    page = opened(case)
    assert not re.search(r"\b(Undefined|None|nan|NaN|inf)\b", page.text)


def test_a_page_is_marked_up_for_readers_and_screens(case: str) -> None:
    page = opened(case)
    assert page.of("html")[0]["lang"] == "en"
    assert {"charset": "utf-8"} in page.of("meta")
    assert any(meta.get("name") == "viewport" for meta in page.of("meta"))
    assert len(page.of("h1")) == 1
    identifiers = [str(a["id"]) for _, a in page.elements if "id" in a]
    assert len(identifiers) == len(set(identifiers))
    for select in page.of("select"):
        assert select["aria-label"]


def test_the_largest_report_stays_below_three_megabytes() -> None:
    files = drawn("d=100 k=50")
    assert len(files["report.html"]) < 3_000_000
    assert sum(map(len, files.values())) < 5_000_000


def test_rows_that_are_drawn_one_by_one_do_not_fill_the_page() -> None:
    assert len(ran("d=6 k=3").membership.sample.X) == 2000
    assert len(drawn("d=6 k=3")["report.html"]) < 1_000_000


# --- names


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_wherever_it_stands(name: str) -> None:
    files, page = drawn("hostile"), opened("hostile")
    assert page.cells.count(name) >= 2  # means and profile
    assert name in page.pairs["names"]
    assert len(page.of("script")) == 2
    assert len(page.of("img")) == len(files) - 1
    assert "alert" not in "".join(page.scripts)


def test_data_cannot_end_their_element() -> None:
    html = drawn("hostile")["report.html"].decode()
    [block] = re.findall(r'<script type="application/json" id="pairs">(.*?)</script>', html, re.S)
    assert "<" not in block
    assert "&" not in block
    assert json.loads(block)["names"] == HOSTILE


def test_the_configuration_is_shown_as_it_is() -> None:
    page = opened("hostile")
    assert "- <script>alert(1)</script>" in page.text
    assert "等待时间" in page.text


def test_remarks_and_reasons_are_text_too() -> None:
    run = run_of(faithful(), features=["<i>a</i>", "b"], k=[1, 2], dropped=["<b>bold</b>"])
    ghost = replace(run.chosen, k=7, degenerate="component <u>3</u> & more")
    page = page_of(report(replace(run, candidates=[*run.candidates, ghost])))
    assert not {"i", "b", "u"} & {tag for tag, _ in page.elements}
    assert "Dropped as constant: <b>bold</b>." in page.text
    assert "component <u>3</u> & more" in page.text


# --- what it says


def test_warnings_stand_on_the_page() -> None:
    text = opened("warned").text
    assert "Before you trust it" in text
    for part in (
        "did not converge",
        "nearly singular",
        "largest k",
        "17 ",
        "rejected/",
        "Dropped as constant: version",
    ):
        assert part in text, part


def test_a_sound_run_has_no_box_of_warnings() -> None:
    assert "Before you trust it" not in opened("d=1 k=3").text


def test_the_choice_is_shown_with_every_candidate_and_its_flaw() -> None:
    run = run_of(faithful(), k=[1, 2], covariance_type=["full", "tied"])
    bad = {"log_likelihood": float("nan"), "degenerate": "a component lost its rows"}
    ghosts = [replace(run.chosen, k=5, degenerate="component 1 is a spike")]
    ghosts.append(replace(run.chosen, k=6, covariance_type="diag", **bad))
    files = report(replace(run, candidates=[*run.candidates, *ghosts]))
    page = page_of(files)
    assert "Choosing among 6 candidates" in page.text
    assert "refused: component 1 is a spike" in page.cells
    assert "plots/criterion.png" in files
    assert page.cells.count("chosen") == 1


def test_one_candidate_is_no_choice() -> None:
    assert "plots/criterion.png" not in drawn("d=1 k=1")
    assert "Choosing among" not in opened("d=1 k=1").text


def test_a_weight_counts_as_so_many_rows_on_the_page() -> None:
    w = 1 + np.arange(272) % 3
    waiting = faithful()[:, [1]]
    once = page_of(report(run_of(waiting, weights=w.astype(float))))
    often = page_of(report(run_of(np.repeat(waiting, w, axis=0))))
    assert [c for c in once.cells if "±" in c] == [c for c in often.cells if "±" in c]
    assert str(w.sum()) in once.cells


@pytest.mark.parametrize("covariance_type", ["tied", "diag"])
def test_every_covariance_type_has_a_report(covariance_type: str) -> None:
    run = run_from(spread_out(2, 2, covariance_type), 600)
    page = page_of(report(run))
    assert covariance_type in page.text
    assert ("Correlations within" in page.text) == (covariance_type in ("full", "tied"))


def test_rows_of_which_a_sample_is_drawn_are_called_a_sample() -> None:
    X, _ = spread_out(1, 2).sample(40_000, seed=0)
    page = page_of(report(run_of(X, n_init=1)))
    assert "a random sample of 32,768 rows" in page.text
    assert "all rows" in opened("d=1 k=3").text


def test_the_outliers_threshold_leaves_its_share_below() -> None:
    run = run_from(spread_out(1, 1), 3000)
    text = page_of(report(run)).text
    found = re.findall(r"([0-9.]+)% of the rows have a log density below (-?[0-9.]+\d)", text)
    density = run.membership.log_density
    assert [share for share, _ in found] == ["0.1", "1.0"]
    for share, at in found:
        assert (density < float(at)).mean() == pytest.approx(float(share) / 100, abs=5e-4)


# --- what it carries


def carried(run: Run) -> tuple[dict[str, Any], Mixture]:
    mixture = run.chosen.mixture
    return json.loads(pairs_json(mixture, run.membership, [0, 1])), mixture


def covariances_of(pairs: dict[str, Any], d: int) -> np.ndarray:
    """Put together what the page takes apart."""
    found = []
    for sd, correlations in zip(pairs["sd"], pairs["correlations"], strict=True):
        r = np.eye(d)
        r[np.tril_indices(d, -1)] = np.array(correlations) / 1e3
        found.append((r + np.tril(r, -1).T) * np.outer(sd, sd))
    return np.array(found)


@pytest.mark.parametrize("d", [3, 9])
def test_what_the_page_carries_gives_back_the_ellipses(d: int) -> None:
    mixture = random_mixture(np.random.default_rng(d), 3, d, "full")
    pairs, fitted = carried(run_from(mixture, 1500))
    found = covariances_of(pairs, d)
    sd = np.sqrt(np.einsum("kii->ki", fitted.covariances))
    scale = sd[:, :, None] * sd[:, None, :]
    np.testing.assert_allclose(found / scale, fitted.covariances / scale, atol=2e-3)
    np.testing.assert_allclose(
        (np.array(pairs["means"]) - fitted.means) / np.ptp(fitted.means, axis=0), 0, atol=2e-3
    )


@pytest.mark.parametrize(("offset", "unit"), [(1.7e12, 1.0), (1.7e18, 1e9), (0.0, 1e-9), (0, 1e12)])
def test_what_the_page_carries_can_be_told_apart_at_any_offset(offset: float, unit: float) -> None:
    base = spread_out(3, 2)
    scale = unit / np.sqrt(np.einsum("kii->ki", base.covariances).mean(axis=0))
    moved = Mixture(
        base.weights,
        offset + base.means * scale,
        np.asarray(base.covariances) * np.outer(scale, scale),
    )
    run = run_from(moved, 900)
    pairs, fitted = carried(run)
    X = run.membership.sample.thinned(1500)
    rows = np.array(pairs["rows"], dtype=np.float64).T
    assert rows.shape == X.shape
    np.testing.assert_allclose((rows - X) / np.ptp(X, axis=0), 0, atol=2e-3)
    np.testing.assert_allclose(
        (np.array(pairs["means"]) - fitted.means) / np.ptp(X, axis=0), 0, atol=2e-3
    )
    np.testing.assert_array_equal(pairs["labels"], fitted.predict(X))


def test_heavy_tails_do_not_coarsen_what_the_page_carries() -> None:
    X = np.random.default_rng(0).standard_cauchy((1200, 3))
    X[0] = 1e9
    run = run_of(X, k=1)
    rows = np.array(carried(run)[0]["rows"], dtype=np.float64).T
    np.testing.assert_allclose(np.clip(rows, -50, 50), np.clip(X, -50, 50), atol=0.1)


def test_what_the_page_carries_is_bounded() -> None:
    pairs = opened("d=60 k=30").pairs
    assert len(pairs["rows"]) == 60
    assert 500 <= len(pairs["rows"][0]) <= 1500
    assert len(pairs["labels"]) == len(pairs["rows"][0])


def test_two_features_need_no_other_pairs() -> None:
    page = opened("d=2 k=30")
    assert page.of("select") == page.of("script") == []
