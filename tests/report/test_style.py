"""One drawing for light, dark and paper: well-formed, themed, and the same bytes every time."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from helpers.data_sets import random_mixture
from helpers.report_runs import CASES, HOSTILE, drawn, spread_out
from sparkgmm.core.sample import Sample
from sparkgmm.mixture import Mixture
from sparkgmm.report.page import report
from sparkgmm.report.sections.rows import mixture_figure
from sparkgmm.report.style import COLOURS, FAINT, INK, Picture, colour, marker, picture, style

SVG = "{http://www.w3.org/2000/svg}"


def pair(mixture: Mixture, names: list[str], n: int = 300) -> Picture:
    named = Mixture(mixture.weights, mixture.means, mixture.covariances, features=names)
    X, _ = mixture.sample(n, seed=0)
    with style():
        return mixture_figure(named, Sample(X, np.ones(n), complete=True), range(mixture.d))


@pytest.fixture(scope="module")
def plain() -> Picture:
    return pair(spread_out(2, 3), ["a", "b"])


def parsed(found: Picture) -> ElementTree.Element:
    return ElementTree.fromstring(found.svg)


def words(found: Picture) -> list[str]:
    return ["".join(text.itertext()) for text in parsed(found).iter(f"{SVG}text")]


def rules(svg: str) -> str:
    """Return our own style sheet, the first of the drawing."""
    found = re.search(r"<style>(.*?)</style>", svg)
    assert found
    return found.group(1)


@pytest.mark.parametrize("n", [300, 3000])
def test_the_drawing_is_well_formed_and_follows_the_readers_scheme(n: int) -> None:
    found = pair(spread_out(2, 3), ["a", "b"], n)
    root = parsed(found)
    assert root.tag == f"{SVG}svg"
    text = found.svg.decode()
    assert "prefers-color-scheme:dark" in rules(text)
    assert "--c0:#23272f" in rules(text)
    rest = text.replace(f"<style>{rules(text)}</style>", "")
    assert INK not in rest
    assert FAINT not in rest
    assert "var(--c0)" in rest
    assert "var(--c1)" in rest


def test_every_neutral_colour_has_a_light_and_a_dark_value(plain: Picture) -> None:
    text = plain.svg.decode()
    light, dark = rules(text).split("@media")
    variables = set(re.findall(r"var\((--\w+)\)", text))
    assert variables
    for variable in variables:
        assert f"{variable}:#" in light
        assert f"{variable}:#" in dark


def test_colours_are_themed_in_styles_alone(plain: Picture) -> None:
    themed = {
        name
        for element in parsed(plain).iter()
        for name, value in element.attrib.items()
        if "var(" in value
    }
    assert themed == {"style"}


def test_a_column_named_like_a_colour_keeps_its_name() -> None:
    found = pair(spread_out(2, 1), [INK, f"size: {FAINT};"])
    assert {INK, f"size: {FAINT};"} <= set(words(found))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_come_out_as_the_text_that_they_are(name: str) -> None:
    found = pair(spread_out(1, 1), [name])
    assert name in words(found) or f"{name[:59]}…" in words(found)
    assert name in found.alt


@pytest.mark.parametrize("name", ["tab\tand\nline", "bell\x07", "null\x00", "שלום", "🎲", "", " "])
def test_a_name_of_odd_characters_breaks_no_drawing(name: str) -> None:
    found = pair(spread_out(1, 1), [name])
    assert "density" in words(found)
    assert found.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_long_name_is_cut_on_the_axes_and_whole_in_the_words(d: int) -> None:
    names = [f"{i}" + 300 * "数" for i in range(d)]
    found = pair(spread_out(d, 1), names)
    shown = [word for word in words(found) if "数" in word]
    assert len(shown) >= d
    assert max(map(len, shown)) <= (60 if d < 3 else 18)
    assert all(word.endswith("…") for word in shown)
    assert all(name in found.alt for name in names)


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (pair(spread_out(2, 3), ["a", "b"]) for _ in range(2))
    assert first.svg == second.svg
    assert first.png == second.png


def test_the_readers_matplotlibrc_changes_nothing_and_is_left_alone(plain: Picture) -> None:
    settings = {"axes.facecolor": "red", "font.size": 30, "axes.grid": True, "axes.linewidth": 9}
    with mpl.rc_context(settings):
        assert pair(spread_out(2, 3), ["a", "b"]).svg == plain.svg
        assert mpl.rcParams["font.size"] == 30
        assert mpl.rcParams["axes.facecolor"] == "red"


def test_text_is_text_in_a_font_that_every_system_can_replace(plain: Picture) -> None:
    assert {"a", "b"} <= set(words(plain))
    for family in re.findall(r"font(?:-family)?: [^;\"]*", plain.svg.decode()):
        if "DejaVu" in family:
            assert family.rstrip().endswith("sans-serif"), family


def test_the_png_is_the_picture_on_white(plain: Picture, tmp_path) -> None:
    path = tmp_path / "plain.png"
    path.write_bytes(plain.png)
    pixels = image.imread(path)
    assert pixels.shape[1] > 800
    np.testing.assert_array_equal(pixels[0, 0, :3], 1.0)
    assert pixels[..., :3].min() < 0.3


def test_the_drawing_says_nothing_of_date_or_machine(plain: Picture) -> None:
    assert b"<dc:date>" not in plain.svg
    assert b"/home/" not in plain.svg


def test_colours_repeat_after_the_palette() -> None:
    assert [colour(j) for j in range(12)] == list(COLOURS)
    assert colour(12) == colour(0)
    assert len({(colour(j), marker(j)) for j in range(36)}) == 36


def test_the_palette_can_be_told_apart_on_white_and_on_black() -> None:
    def luminance(hexadecimal: str) -> float:
        values = np.array([int(hexadecimal[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(values <= 0.03928, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for tint in COLOURS:
        own = luminance(tint)
        assert (1 + 0.05) / (own + 0.05) > 2
        assert (own + 0.05) / (luminance("#14161a") + 0.05) > 2


def test_a_figure_that_fails_is_not_hidden() -> None:
    figure = Figure()
    figure.subplots().set_title("x", parse_math=True).set_text("$\\undefined{x}$")
    with pytest.raises(ValueError, match="undefined"), style():
        picture(figure, "broken", "broken")


def test_a_whole_report_is_the_same_bytes_again() -> None:
    assert report(CASES["d=1 k=1"]()) == drawn("d=1 k=1")


def test_the_random_generator_of_the_user_is_left_alone() -> None:
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    pair(random_mixture(np.random.default_rng(0), 2, 2, "full"), ["a", "b"])
    np.testing.assert_array_equal(np.random.get_state()[1], before)
