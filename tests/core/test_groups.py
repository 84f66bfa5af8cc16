"""Groups fitted in memory: many at once, or one by one by the ordinary engine."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sparkgmm.core.groups import fit_group, fit_groups, search_for_groups
from sparkgmm.core.search import Search
from sparkgmm.core.together import FittedGroup, fit_together, size_class
from sparkgmm.mixture import Mixture
from sparkgmm.products import Array

Group = tuple[Array, Array | None]


def groups_of(n: int, d: int, number: int, seed: int = 0) -> list[Group]:
    """Return groups of two clusters, of n rows or a few less; some on a grid, some weighted."""
    rng = np.random.default_rng(seed)
    found: list[Group] = []
    for g in range(number):
        m = n - g % 3
        far = (rng.random(m) < 0.4)[:, None] * rng.uniform(2, 6, d)
        X = rng.normal(0, 1, (m, d)) + far
        if g % 4 == 0:
            X = np.round(X, 1)
        found.append((X, rng.integers(1, 4, m).astype(float) if g % 3 == 0 else None))
    return found


@pytest.mark.parametrize(
    ("n", "d", "starts", "types"),
    [(32, 1, 2, ("full", "spherical")), (100, 3, 1, ("full", "tied", "diag"))],
)
def test_the_bits_of_a_group_hang_on_neither_the_others_nor_an_order(
    n: int, d: int, starts: int, types: tuple[str, ...]
) -> None:
    search = Search(k=(1, 3), covariance_type=types, init="k-means++", n_init=starts)
    size = size_class(n, d)
    assert size is not None
    groups, names = groups_of(n, d, 8), [f"x{i}" for i in range(d)]
    rng = np.random.default_rng(1)

    def shuffled(group: Group) -> Group:
        X, w = group
        order = rng.permutation(len(X))
        return X[order], None if w is None else w[order]

    together = fit_together(groups, size, search, names)
    backwards = fit_together([shuffled(group) for group in groups[::-1]], size, search, names)
    alone = [fit_together([group], size, search, names)[0] for group in groups]
    assert sum(found is not None for found in together) > 2
    assert together == backwards[::-1] == alone


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_groups_together_end_where_the_ordinary_engine_does(covariance_type: str) -> None:
    search = Search(k=(2,), covariance_type=(covariance_type,), init="k-means++", n_init=2)
    groups = groups_of(112, 3, 20)
    for group, found in zip(groups, fit_together(groups, 112, search, "abc"), strict=True):
        if found is None:
            continue
        ordinary = fit_group(*group, search, "abc")
        assert found.log_likelihood == pytest.approx(ordinary.log_likelihood, abs=1e-6)
        assert found.n_parameters == ordinary.n_parameters
        assert found.bic == pytest.approx(ordinary.bic)
        mine, other = (Mixture.from_json(json.dumps(fitted.model)) for fitted in (found, ordinary))
        np.testing.assert_allclose(mine.means, other.means, atol=1e-4)
        np.testing.assert_allclose(mine.covariances, other.covariances, atol=1e-4)
        X, w = group
        assert mine.log_likelihood(X, w) == pytest.approx(found.log_likelihood, abs=1e-8)


def test_groups_together_leave_poor_optima_as_the_ordinary_engine_does() -> None:
    rng = np.random.default_rng(3)
    search = Search(k=(3,), init="k-means++", n_init=1)
    centres = rng.normal(0, 4, (8, 3, 2))
    groups = [(c[rng.integers(0, 3, 96)] + rng.normal(0, 1, (96, 2)), None) for c in centres]
    found = fit_together(groups, 96, search, "xy")
    assert sum(fitted is not None for fitted in found) > 4
    gained = 0.0
    for group, fitted in zip(groups, found, strict=True):
        if fitted is not None:
            ordinary = fit_group(*group, search, "xy")
            gained += fitted.log_likelihood - ordinary.log_likelihood
    assert gained > -0.1


def test_of_300_groups_one_that_is_constant_gets_an_error_and_299_a_mixture() -> None:
    groups = [(g, *group) for g, group in enumerate(groups_of(60, 2, 300))]
    groups[123][1][:, 1] = 7.0
    search = search_for_groups(Search(k=(2,), n_init=1))
    found = dict(fit_groups(groups, search, ("x", "y")))
    assert sorted(found) == list(range(300))
    errors = {g: str(fitted) for g, fitted in found.items() if isinstance(fitted, Exception)}
    assert list(errors) == [123]
    assert "feature 'y' is constant (7 in all 60 rows)" in errors[123]


def test_what_is_out_of_the_ordinary_is_left_to_the_ordinary_engine() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(0, 1, (200, 2)) + 4 * (rng.random(200) < 0.5)[:, None]
    wild, atom, few = X.copy(), X.copy(), X[:5]
    wild[3, 0] = 1e6
    atom[:40, 1] = 0.0
    search = search_for_groups(Search(k=(2,), n_init=2))
    sizes = size_class(200, 2), size_class(5, 2)
    assert None not in sizes
    for odd in (wild, atom):
        both = fit_together([(odd, None), (X, None)], sizes[0] or 0, search, "xy")
        assert both[0] is None
        assert both[1] is not None
    assert fit_together([(few, None)], sizes[1] or 0, search, "xy") == [None]
    [(_, fitted)] = fit_groups([(0, wild, None)], search, "xy")
    assert isinstance(fitted, FittedGroup)
    assert fitted.rows_set_aside == 1
