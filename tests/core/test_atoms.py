"""Columns of few values: which of them stand out, and that components on them are no dead end."""

from __future__ import annotations

import numpy as np

from sparkgmm import fit_array
from sparkgmm.core.atoms import find_atoms
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.prior import Bounded
from sparkgmm.core.rows import LocalRows
from sparkgmm.products import Array

YEARS = np.array([0.125, 0.417, 0.75, 1.5, 4.0, 7.0, 10.0, 15.0])


def values_found(column: Array) -> list[float]:
    rows = LocalRows.of_array(column[:, None], None, 0)
    evidence = OverRows.of(rows)
    seeds = Seeds.of(rows, evidence.frame)
    found = find_atoms(seeds, Bounded().over(rows, evidence))
    return sorted(float(column[atom.mine][0]) for atom in found)


def test_values_far_apart_all_stand_out_and_years_of_age_do_not() -> None:
    rng = np.random.default_rng(0)
    assert values_found(rng.choice(YEARS, 600)) == YEARS.tolist()
    assert values_found(rng.integers(18, 60, 2000).astype(float)) == []


def test_fits_of_columns_of_few_values_agree_from_seed_to_seed() -> None:
    """One component on an atom used to be the end: no move was tried from there."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.choice(YEARS, 600), rng.normal(30, 8, 600).round()])
    heights = [fit_array(X, 4, covariance_type="diag", seed=s).log_likelihood for s in range(3)]
    np.testing.assert_allclose(heights, max(heights), atol=0.01)
