"""Columns of few values: which of them stand out, and that components on them are no dead end."""

from __future__ import annotations

import numpy as np

from sparkgmm import Mixture, fit_array
from sparkgmm.core.atoms import find_atoms, onto_atoms
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.model import from_mixture
from sparkgmm.core.prior import Bounded
from sparkgmm.core.rows import LocalRows
from sparkgmm.products import Array

YEARS = np.array([0.125, 0.417, 0.75, 1.5, 4.0, 7.0, 10.0, 15.0])


def values_held(column: Array) -> set[float]:
    """Return the values on which moves put a component, from two wide ones."""
    rows = LocalRows.of_array(column[:, None], None, 0)
    evidence = OverRows.of(rows)
    frame, seeds = evidence.frame, Seeds.of(rows, evidence.frame)
    prior = Bounded().over(rows, evidence)
    middle, sd = column.mean(), column.std()
    wide = Mixture([0.5, 0.5], [[middle - sd / 4], [middle + sd / 4]], [[sd**2]] * 2, "diag")
    moved = onto_atoms(from_mixture(wide, frame), seeds, prior, find_atoms(seeds, prior))
    held = [model.means[np.argmin(model.stack.variances[:, 0]), 0] for model in moved]
    return {round(float(mean * frame.scale[0] + frame.shift[0]), 6) for mean in held}


def test_values_of_more_rows_than_the_model_expects_are_tried_and_years_of_age_are_not() -> None:
    rng = np.random.default_rng(0)
    ages = rng.normal(40, 12, 2000).round()
    assert values_held(ages) == set()
    assert values_held(np.minimum(ages, 60.0)) == {60.0}
    assert len(values_held(rng.choice(YEARS, 600))) == 3


def test_fits_of_columns_of_few_values_agree_from_seed_to_seed() -> None:
    """One component on an atom used to be the end: no move was tried from there."""
    rng = np.random.default_rng(1)
    X = np.column_stack([rng.choice(YEARS, 600), rng.normal(30, 8, 600).round()])
    heights = [fit_array(X, 4, covariance_type="diag", seed=s).log_likelihood for s in range(3)]
    np.testing.assert_allclose(heights, max(heights), atol=0.01)


def test_components_on_several_values_of_a_column_of_tens_are_found_from_every_seed() -> None:
    """None stands out from a normal curve by itself; a mixture of four was 20 nats short."""
    rng = np.random.default_rng(4)
    scores = np.clip(np.round(rng.normal(6, 2, 140)), 1, 9) * 10
    days = rng.exponential(np.where(scores > 50, 150, 25)).round() + 1
    X = np.column_stack([days, rng.normal(58, 10, 140).round(), scores])
    fits = [fit_array(X, 4, covariance_type="diag", seed=s).log_likelihood for s in range(3)]
    np.testing.assert_allclose(fits, max(fits), atol=0.01)
