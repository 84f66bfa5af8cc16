"""What a user is told of a fit that gave a mixture, in the words of each front end."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from helpers.builders import rows_of
from helpers.data_sets import faithful
from sparkgmm import fit_array
from sparkgmm.core.cautions import cautions, refused_above_one, widths_held
from sparkgmm.core.fit import fit
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Held
from sparkgmm.errors import ConvergenceWarning, FitError, FitWarning
from sparkgmm.mixture import Array
from sparkgmm.options import KEYS, PYTHON, SPARK


def with_zeros(n: int = 1000, zeros: int = 300) -> Array:
    """Amounts that are 0 in some rows, beside another column."""
    rng = np.random.default_rng(0)
    amounts = rng.lognormal(3, 1, n)
    amounts[:zeros] = 0
    return np.c_[amounts, rng.normal(0, 1, n)]


def test_a_fit_that_used_up_its_passes_warns() -> None:
    with pytest.warns(ConvergenceWarning, match=r"used up its 2 passes .* left .*: raise max_iter"):
        found = fit_array(faithful(), 3, max_iter=2)
    assert not found.converged
    with pytest.warns(ConvergenceWarning, match="used up its one pass and about"):
        fit_array(faithful(), 3, max_iter=1, n_init=2)


def test_a_fit_that_converged_says_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_array(faithful(), 2)


def test_python_is_told_of_an_atom_by_column_value_and_rows() -> None:
    with pytest.warns(FitWarning, match="component 1 is 300 rows of one value, column 0 = 0: as "):
        fit_array(with_zeros(), 2)


def test_equal_rows_of_values_of_many_digits_are_told_as_one_value() -> None:
    """Not as values that differ by less than a step: such values come from no grid."""
    X = np.random.default_rng(0).standard_normal((500, 2))
    X[:100, 0] = np.pi * 1e6
    X[100:, 0] += np.pi * 1e6
    with pytest.warns(FitWarning, match="is 100 rows of one value, column 0 = 3141592.65"):
        fit_array(X, 2, n_init=2)


@pytest.mark.parametrize("fill", [9.969209968386869e36, -3.4028235e38, -(2.0**63), 1e10])
def test_a_sentinel_that_hides_all_other_values_is_told_with_what_is_lost(fill: float) -> None:
    """In standard deviations of such a column all others are one value."""
    X = np.random.default_rng(0).normal(10, 3, (400, 2))
    X[:40, 1] = fill
    with pytest.warns(FitWarning) as caught:
        fit_array(X, 2, n_init=2)
    text = str(caught[0].message)
    assert "told apart beside them, and are fitted as one: column 1 (" in text
    assert f"beside {fill:.6g}): make such values NaN and set missing to model" in text


@pytest.mark.parametrize("rows", [2, 40])
def test_a_sentinel_that_hides_nothing_is_not_told_as_hiding(rows: int) -> None:
    X = np.random.default_rng(0).normal(10, 3, (400, 2))
    X[:rows, 1] = 1e20 if rows == 2 else -9999  # the two are set aside
    with pytest.warns(FitWarning) as caught:
        fit_array(X, 2, n_init=2)
    assert not [one for one in caught if "beside them" in str(one.message)]


def test_a_spike_is_refused_by_component_column_value_and_rows() -> None:
    rng = np.random.default_rng(0)
    X = np.r_[rng.standard_normal((200, 2)), np.tile([[7.25, 3.0]], (6, 1))]
    start = {
        "means_init": [[0, 0], [7.25, 3.0]],
        "precisions_init": [np.eye(2), 1e9 * np.eye(2)],
        "weights_init": [0.97, 0.03],
    }
    message = r"component 1 is a spike: 6 rows .* at column \d = [\d.]+"
    with pytest.raises(FitError, match=message) as caught:
        fit_array(X, 2, **start)
    assert "column 0 = 7.25" in str(caught.value) or "column 1 = 3" in str(caught.value)
    assert "reg_covar" not in str(caught.value)


def test_every_k_above_one_refused_is_said_where_it_is_so_and_only_there() -> None:
    X = np.repeat(faithful()[:4], 4, axis=0)
    with pytest.raises(FitError):
        fit(rows_of(X), Search(k=(4,), init="k-means++"))  # an error says it already
    found = fit(rows_of(X), Search(k=(1, 4)))
    assert refused_above_one(found.candidates)
    first = cautions(found.chosen, found.candidates, 200, KEYS)[0]
    assert first.grave
    assert first.text.startswith("EVERY k ABOVE 1 WAS REFUSED")
    assert "k = 4 full: component" in first.text
    sound = fit(rows_of(faithful()), Search(k=(1, 2), init="k-means++", n_init=2))
    assert not refused_above_one(sound.candidates)
    assert cautions(sound.chosen, sound.candidates, 200, KEYS) == []


@pytest.mark.parametrize(
    ("names", "word"), [(KEYS, "model.reg_covar"), (PYTHON, "reg_covar"), (SPARK, "regCovar")]
)
def test_each_front_end_gets_its_own_words(names: dict[str, str], word: str) -> None:
    [said] = widths_held([Held(0, "x", 1.5, 9.0, few=True)], names)
    assert f" {word} " in said


def test_many_held_columns_and_components_are_counted_not_listed() -> None:
    held = [Held(j, f"pixel{i}", 0.0, 100.0, few=False) for j in range(8) for i in range(30)]
    said = widths_held(held, KEYS)
    assert len(said) == 6
    assert "pixel0 = 0, pixel1 = 0, pixel2 = 0 and 27 more columns" in said[0]
    assert said[-1] == "so it is with 3 more components"
