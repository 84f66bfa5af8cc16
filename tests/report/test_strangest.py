"""The strangest rows of a report."""

from __future__ import annotations

import numpy as np

from sparkgmm.core.sample import Membership, Sample
from sparkgmm.mixture import Mixture
from sparkgmm.report.sections.strangest import strangest_table


def test_the_cell_that_was_broken_is_the_one_that_is_named() -> None:
    """Each of 8 rows gets one wrong cell: it is named first in its row, the value as it is."""
    A = np.random.default_rng(1).normal(size=(4, 4))
    names = ["a", "b", "c", "d"]
    mixture = Mixture([0.5, 0.5], [[0] * 4, [9] * 4], [A @ A.T + np.eye(4)] * 2, features=names)
    X, _ = mixture.sample(500, seed=0)
    at = np.arange(8) % 4
    X[np.arange(8), at] = 100.0 + np.arange(8)
    table = strangest_table(Membership(mixture, Sample(X, np.ones(500), True)))
    assert len(table.rows) == 8
    found = {row[2].split(",")[0] for row in table.rows}
    assert {text.split()[0] for text in found} == set(names)
    assert {float(text.split()[1]) for text in found} == {100.0 + i for i in range(8)}
    densities = [float(row[0]) for row in table.rows]
    assert densities == sorted(densities)


def test_a_row_that_is_far_out_as_a_whole_blames_no_value() -> None:
    """Of two columns that are nearly one, both are far out, and each is where the other says."""
    mixture = Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.9999], [0.9999, 1.0]]], features=["a", "b"])
    X = np.r_[mixture.sample(200, seed=0)[0], [[9.0, 9.0]]]
    table = strangest_table(Membership(mixture, Sample(X, np.ones(201), True)))
    assert table.rows[0][2].startswith("no value alone")
