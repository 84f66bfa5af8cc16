"""Tables with hardly rows enough: more components asked for never end as fewer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from helpers.data_sets import ROOT
from sparkgmm import fit_array


def linnerud() -> Any:
    return np.load(ROOT / "data" / "optima.npz")["linnerud"]


def components(X: Any, ks: Any, **options: Any) -> list[int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [fit_array(X, k, **options).mixture.k for k in ks]


def test_twenty_rows_of_three_columns_have_four_components() -> None:
    """Each has four rows then; starts by distance found no more than three such."""
    assert components(linnerud(), [3, 4]) == [3, 4]


def test_more_components_asked_for_never_end_as_fewer() -> None:
    X = np.random.default_rng(0).normal(size=(20, 3))
    found = components(X, [2, 3, 4, 5])
    assert found == sorted(found)
    assert found[:3] == [2, 3, 4]


def test_components_that_the_rows_do_not_give_are_told() -> None:
    with pytest.warns(UserWarning, match="1 of 5 components found no rows"):
        result = fit_array(linnerud(), 5)
    assert result.mixture.k == 4
    assert result.candidates[0].asked_k == 5
