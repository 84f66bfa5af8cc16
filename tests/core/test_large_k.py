"""Many components: what starts them grows with them, and nothing is made for all pairs of them."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.data_sets import clusters
from sparkgmm import fit_array
from sparkgmm.core import initialisation
from sparkgmm.core.initialisation import Seeds, model_around, settle
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.rows import PILOT_ROWS, LocalRows, pilot_rows
from sparkgmm.covariances import FAMILIES


def test_the_sample_has_some_rows_for_every_component() -> None:
    assert pilot_rows(300) == PILOT_ROWS
    assert pilot_rows(1000) == 100_000
    X = np.random.default_rng(0).standard_normal((2, 2 * PILOT_ROWS))
    block = Block(X, None)
    profile = Profile.of(block)
    few, many = (LocalRows([[block]], profile, 0, pilot_rows(k)) for k in (3, 500))
    assert sum(b.n_rows for b in few.sample) == PILOT_ROWS
    assert sum(b.n_rows for b in many.sample) == 50_000
    seeds = [Seeds.of(rows, Frame.of(profile)) for rows in (few, many)]
    assert [len(s.Z) for s in seeds] == [8192, 12_500]


@pytest.mark.parametrize("kind", ["full", "diag"])
def test_centres_settled_and_rows_assigned_some_at_a_time_are_those_of_all_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, _ = clusters(np.random.default_rng(1), 7, 3, 500, 6.0)
    seeds = Seeds(X, np.ones(500), np.ones(3), np.eye(3))
    first = X[:7]
    at_once = settle(first, X, seeds.w)
    model = model_around(at_once, seeds, FAMILIES[kind])
    monkeypatch.setattr(initialisation, "_AT_ONCE", 600)  # one or two components, 85 rows
    np.testing.assert_allclose(settle(first, X, seeds.w), at_once, rtol=1e-12)
    again = model_around(at_once, seeds, FAMILIES[kind])
    np.testing.assert_allclose(again.means, model.means, rtol=1e-12)
    np.testing.assert_allclose(again.stack.variances, model.stack.variances, rtol=1e-12)


def test_where_components_were_dropped_moves_of_one_k_are_tried() -> None:
    """Twenty components on 64 rows: some of them have to go, and others are split instead."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-60, 60, (20, 2))
    X = centres[rng.integers(0, 20, 64)] + rng.standard_normal((64, 2))
    with pytest.warns(UserWarning, match="of 20 components found no rows"):
        found = fit_array(X, 20, n_init=1, max_iter=50)
    assert 5 <= found.mixture.k < 20
