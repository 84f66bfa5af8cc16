"""Numbers as people write them: digits enough, and none that say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from sparkgmm.formatting import mean_and_sd, quoted_list, some_of
from sparkgmm.mixture import Mixture
from sparkgmm.report.sections.components import mean_table
from sparkgmm.runs.terminal import components_as_text


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "")) for cell in cells]


MEANS = (0.0, 1.0, -2.5, 1.7e12, -1e9, 3e-9, 1e20)
DEVIATIONS = (1e-9, 3e-4, 0.0999999, 0.37, 1.0, 99.99, 999.9, 12345.0, 1e12)


@pytest.mark.parametrize(
    ("mean", "sd"),
    # no float64 has more digits than that
    [(mean, sd) for mean in MEANS for sd in DEVIATIONS if abs(mean) < 1e15 * sd],
)
def test_a_mean_is_shown_to_a_hundredth_of_its_sd(mean: float, sd: float) -> None:
    found_mean, found_sd = numbers(mean_and_sd(mean, sd).split(" ± "))
    assert abs(found_mean - mean) <= 0.0101 * sd + 1e-15 * abs(mean)
    assert found_sd == pytest.approx(sd, rel=0.01)


@pytest.mark.parametrize(
    ("mean", "sd", "expected"),
    [
        (4.289662, 0.41227, "4.290 ± 0.412"),
        (79.968, 6.0038, "79.97 ± 6.00"),
        (1234.5, 100.0, "1,234 ± 100"),
    ],
)
def test_common_numbers_look_as_people_write_them(mean: float, sd: float, expected: str) -> None:
    assert mean_and_sd(mean, sd) == expected


def test_page_notebook_and_terminal_write_a_mean_alike() -> None:
    mixture = Mixture([1.0], [[1234.5678, 4e-9]], [np.diag([2.25, 1e-20])], features=["a", "b"])
    for text in (
        mixture._repr_html_(),
        components_as_text(mixture),
        str(mean_table(mixture).rows),
    ):
        assert "1,234.57 ± 1.50" in text
        assert mean_and_sd(4e-9, 1e-10) in text


def test_of_many_names_the_first_are_listed_and_the_others_counted() -> None:
    names = [f"c{i}" for i in range(2012)]
    assert some_of(names[:3]) == "c0, c1, c2"
    assert quoted_list(names[:3]) == "'c0', 'c1', 'c2'"
    assert some_of(names, 2) == "c0, c1 and 2,010 more"
    assert quoted_list(names).endswith("'c11' and 2,000 more")
