"""Held-out likelihood: measured on rows that the refit did not see."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.builders import rows_of
from helpers.data_sets import clusters, iris
from sparkgmm.core.fit import fit
from sparkgmm.core.search import Search


def test_too_many_components_lose_on_rows_held_out_though_they_win_on_those_seen() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 300, 10.0)
    found = fit(rows_of(X), Search(k=(1, 2, 12), n_init=3), validate=True)
    held = {c.k + c.n_dropped: c.held_out for c in found.candidates}
    seen = {c.k + c.n_dropped: c.mean_log_likelihood for c in found.candidates}
    assert held[1] < held[2]
    assert held[12] < held[2]
    assert seen[1] < seen[2] < seen[12]


def test_held_out_likelihood_is_in_the_units_of_the_data() -> None:
    X = iris()
    height = {
        scale: fit(rows_of(X * scale), Search(k=(2,)), validate=True).chosen.held_out
        for scale in (1.0, 1000.0)
    }
    assert height[1000.0] == pytest.approx(height[1.0] - 4 * np.log(1000), abs=1e-6)


def test_it_is_left_out_where_it_is_not_asked_for() -> None:
    assert fit(rows_of(iris()), Search(k=(2,))).chosen.held_out is None
