"""The pages in a real browser: nothing is loaded, nothing fails, nothing runs off the screen."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image

from helpers.comparisons import comparison_of
from helpers.report_runs import HOSTILE, drawn, ran, spread_out
from sparkgmm.report.compare_page import compare_page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
REPORTS = [
    "drifted",
    "d=1 k=3",
    "faithful",
    "d=6 k=3",
    "d=60 k=30",
    "hostile",
    "warned",
    "timestamps",
]
WIDTHS = [390, 1440]
SCHEMES = ["light", "dark"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if BROWSER is None:
        missing = "Chromium is not installed (Debian: apt-get install chromium, or make browser)"
        if os.environ.get("SPARKGMM_BROWSER") == "required":
            pytest.fail(missing)
        pytest.skip(missing)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """A function that writes a page once, alone in its folder, and returns where it is."""
    folder = tmp_path_factory.mktemp("pages")

    def write(case: str) -> str:
        path: Path = folder / f"{case.replace('=', '')}.html"
        if not path.exists():
            if case == "compare":
                files = compare_page(comparison_of(spread_out(2, 3)), "sparkgmm beside others")
                path.write_bytes(files["compare.html"])
            else:
                path.write_bytes(drawn(case)["report.html"])
        return path.as_uri()

    return write


class Visit:
    """A page that was opened, and all that it said, asked for and tried on the way."""

    def __init__(self, browser: Any, url: str, width: int = 1440, scheme: str = "light") -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.trouble.append(f"error: {error}"))
        self.page.on("dialog", self._dismiss)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)
        self.page.wait_for_load_state("load")
        self.url = url

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(f"{message.type}: {message.text}")

    def _dismiss(self, dialog: Any) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def check(self) -> None:
        """Assert that the page was silent and asked for nothing but itself."""
        assert self.trouble == []
        asked = [url for url in self.requests if not url.startswith("data:")]
        assert asked == [self.url]


@pytest.mark.parametrize("case", [*REPORTS, "compare"])
def test_a_page_is_whole_silent_and_fits_the_screen(
    browser: Any, address: Callable[[str], str], case: str
) -> None:
    with Visit(browser, address(case), WIDTHS[0], SCHEMES[0]) as visit:
        for opened in (False, True):
            for width, scheme in itertools.product(WIDTHS, SCHEMES):
                visit.page.set_viewport_size({"width": width, "height": 900})
                visit.page.emulate_media(color_scheme=scheme)
                check_it_fits(visit.page, width)
            if not opened:
                for details in visit.page.query_selector_all("summary"):
                    details.click()
        visit.check()


def check_it_fits(page: Any, width: int) -> None:
    """Assert that nothing runs off a screen of this width, and that every picture is there."""
    needed, given = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert needed <= given == width
    pictures = page.evaluate(
        # on a narrow screen a picture keeps its size, and its figure scrolls
        "[...document.images].map(i => "
        "[i.complete, i.naturalWidth, i.closest('figure').clientWidth])"
    )
    assert pictures
    for complete, natural, shown in pictures:
        assert complete
        assert natural > 0
        assert 200 < shown <= width


def luminance(picture: bytes, tmp_path: Path) -> np.ndarray:
    path = tmp_path / "shot.png"
    path.write_bytes(picture)
    return image.imread(path)[..., :3] @ np.array([0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_figures_and_text_follow_the_readers_scheme(
    browser: Any, address: Callable[[str], str], scheme: str, tmp_path: Path
) -> None:
    with Visit(browser, address("faithful"), 1440, scheme) as visit:
        shot = luminance(visit.page.locator("img").first.screenshot(), tmp_path)
        text = luminance(visit.page.locator("h1").screenshot(), tmp_path)
    ground, ink = np.median(shot), np.median(text)
    if scheme == "light":
        assert ground > 0.9
        assert ink > 0.9
        assert shot.min() < 0.25
        assert text.min() < 0.3
    else:
        assert ground < 0.15
        assert ink < 0.15
        assert shot.max() > 0.75
        assert text.max() > 0.75


def test_a_drawn_contour_is_dark_on_light_and_light_on_dark(
    browser: Any, address: Callable[[str], str], tmp_path: Path
) -> None:
    shares = {}
    for scheme in SCHEMES:
        with Visit(browser, address("faithful"), 1440, scheme) as visit:
            shot = luminance(visit.page.locator("img").first.screenshot(), tmp_path)
        shares[scheme] = ((shot < 0.3).mean(), (shot > 0.7).mean())
    assert 0.001 < shares["light"][0] < 0.3
    assert 0.001 < shares["dark"][1] < 0.3


def state(page: Any) -> dict[str, Any]:
    """Return what the picture of a pair shows: circles, lines, and its words."""
    return page.evaluate(
        """() => {
            const svg = document.getElementById("pair");
            const texts = [...svg.querySelectorAll("text")];
            return {
                circles: [...svg.querySelectorAll("circle")].map(
                    c => [Number(c.getAttribute("cx")), Number(c.getAttribute("cy"))]),
                lines: [...svg.querySelectorAll("polyline")].map(l => l.getAttribute("points")),
                words: texts.map(t => t.textContent),
            };
        }"""
    )


@pytest.mark.parametrize("case", ["d=6 k=3", "d=60 k=30", "hostile", "warned", "timestamps"])
def test_choosing_another_pair_draws_it(
    browser: Any, address: Callable[[str], str], case: str
) -> None:
    with Visit(browser, address(case)) as visit:
        page = visit.page
        names = page.eval_on_selector_all("#pair-x option", "all => all.map(o => o.textContent)")
        before = state(page)
        shown = [page.eval_on_selector(s, "s => s.value") for s in ("#pair-x", "#pair-y")]
        assert shown[0] != shown[1]
        assert len(before["circles"]) > 100
        others = [i for i in range(len(names)) if str(i) not in shown][:2]
        if len(others) < 2:
            others = [int(shown[1]), int(shown[0])]
        page.select_option("#pair-x", str(others[0]))
        page.select_option("#pair-y", str(others[1]))
        after = state(page)
        assert len(after["circles"]) == len(before["circles"])
        assert after["circles"] != before["circles"]
        cut = [name if len(name) <= 60 else name[:59] + "…" for name in names]
        for old in shown:
            assert cut[int(old)] in before["words"]
        for new in others:
            assert cut[new] in after["words"]
        assert len(after["lines"]) == len(before["lines"])
        assert np.isfinite(np.array(after["circles"])).all()
        assert not [line for line in after["lines"] if "NaN" in line]
        visit.check()


def test_the_pair_is_drawn_where_the_numbers_on_its_axes_say(
    browser: Any, address: Callable[[str], str]
) -> None:
    """Read the rows back from the circles by the numbers below and beside the picture."""
    from helpers.html_pages import Page

    carried = Page(drawn("d=6 k=3")["report.html"].decode()).pairs
    with Visit(browser, address("d=6 k=3")) as visit:
        page = visit.page
        page.select_option("#pair-x", "4")
        page.select_option("#pair-y", "1")
        ticks = page.evaluate(
            """() => [...document.querySelectorAll("#pair text")]
                .filter(t => !t.hasAttribute("font-weight") && !isNaN(Number(t.textContent)))
                .map(t => [t.getAttribute("text-anchor"), Number(t.getAttribute("x")),
                           Number(t.getAttribute("y")), Number(t.textContent)])"""
        )
        circles = np.array(state(page)["circles"])
        lines = state(page)["lines"]
    x_ticks = np.array([(x, value) for anchor, x, _, value in ticks if anchor == "middle"])
    y_ticks = np.array([(y - 4, value) for anchor, _, y, value in ticks if anchor == "end"])
    assert len(x_ticks) >= 3
    assert len(y_ticks) >= 3
    x_line, y_line = np.polyfit(*x_ticks.T, 1), np.polyfit(*y_ticks.T, 1)
    rows = np.array(carried["rows"], dtype=float)
    assert y_line[0] < 0  # upwards is more
    for line, seen, i in ((x_line, circles[:, 0], 4), (y_line, circles[:, 1], 1)):
        pixels = (np.polyval(line, seen) - rows[i]) / abs(line[0])
        assert np.abs(pixels).max() < 2
    fitted = ran("d=6 k=3").chosen.mixture
    for n, line in enumerate(lines):
        j, sigmas = n // 2, 1 + n % 2
        seen = np.array([[float(v) for v in point.split(",")] for point in line.split()])
        at = np.stack([np.polyval(x_line, seen[:, 0]), np.polyval(y_line, seen[:, 1])], axis=1)
        residuals = at - fitted.means[j, [4, 1]]
        precision = np.linalg.inv(fitted.covariances[j][np.ix_([4, 1], [4, 1])])
        distance = np.sqrt(np.einsum("ni,ij,nj->n", residuals, precision, residuals))
        np.testing.assert_allclose(distance, sigmas, rtol=0.1)


@pytest.mark.parametrize(("x", "y"), [(0, 1), (2, 0), (1, 2)])
def test_the_numbers_on_the_axes_can_be_told_apart_at_any_offset(
    browser: Any, address: Callable[[str], str], x: int, y: int
) -> None:
    with Visit(browser, address("timestamps")) as visit:
        page = visit.page
        page.select_option("#pair-x", str(x))
        page.select_option("#pair-y", str(y))
        found = state(page)
        boxes = page.evaluate(
            """() => [...document.querySelectorAll("#pair text:not([font-weight])")]
                .filter(t => !isNaN(Number(t.textContent)))
                .map(t => [t.getAttribute("text-anchor"), t.textContent, t.getBBox().x,
                           t.getBBox().x + t.getBBox().width])"""
        )
        for anchor in ("middle", "end"):
            mine = [(text, left, right) for at, text, left, right in boxes if at == anchor]
            assert len({text for text, _, _ in mine}) == len(mine) >= (3 if anchor == "end" else 2)
            assert all(left >= 0 and right <= 640 for _, left, right in mine)
            if anchor == "middle":
                assert all(a[2] < b[1] for a, b in itertools.pairwise(mine))
        assert np.ptp(found["circles"], axis=0).min() > 200
        visit.check()


def test_hostile_names_are_options_to_choose(browser: Any, address: Callable[[str], str]) -> None:
    with Visit(browser, address("hostile")) as visit:
        options = visit.page.eval_on_selector_all(
            "#pair-y option", "all => all.map(o => o.textContent)"
        )
        assert options == HOSTILE
        assert visit.page.title() == "Gaussian mixture 20261123T000000.000Z-0123abcd"
        visit.check()


def test_on_paper_nothing_is_cut_and_nothing_is_dark(
    browser: Any, address: Callable[[str], str]
) -> None:
    with Visit(browser, address("faithful"), 1000, "light") as visit:
        page = visit.page
        page.emulate_media(media="print")
        overflow = page.eval_on_selector_all(
            ".scroll", "all => all.map(e => getComputedStyle(e).overflowX)"
        )
        assert set(overflow) == {"visible"}
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") in (
            "rgb(255, 255, 255)",
            "rgba(0, 0, 0, 0)",
        )
        visit.check()


def test_a_script_that_is_not_the_pages_own_does_not_run(
    browser: Any, address: Callable[[str], str], tmp_path: Path
) -> None:
    html = drawn("d=6 k=3")["report.html"].decode()
    foreign = html.replace("</body>", "<script>document.title = 'run'</script></body>")
    path = tmp_path / "foreign.html"
    path.write_text(foreign, encoding="utf-8")
    with Visit(browser, path.as_uri()) as visit:
        assert visit.page.title() != "run"
        assert any("Content Security Policy" in text for text in visit.trouble)
