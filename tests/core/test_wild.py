"""A handful of rows far out of all proportion changes neither k nor the rest of the fit."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from sparkgmm import FitResult, fit_array
from sparkgmm.core import wild
from sparkgmm.core.rows import LocalRows
from sparkgmm.core.wild import _bounds, _may_be_wild, set_aside
from sparkgmm.parts import Column


def two_clusters(n: int) -> Any:
    rng = np.random.default_rng(2)
    return np.concatenate([rng.normal(0, 1, (n, 2)), rng.normal(6, 1, (n, 2))])


def fitted(X: Any, k: Any, **options: Any) -> tuple[FitResult, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = fit_array(X, k, **options)
    return result, [str(warning.message) for warning in caught]


def rows_of(X: Any, weights: Any = None, n_pilot: int = 2**15) -> LocalRows:
    return LocalRows.of_array(X, weights, seed=0, n_pilot=n_pilot)


def same_mixture(ours: FitResult, theirs: FitResult) -> None:
    assert ours.mixture.k == theirs.mixture.k
    np.testing.assert_allclose(ours.mixture.weights, theirs.mixture.weights, atol=1e-6)
    np.testing.assert_allclose(ours.mixture.means, theirs.mixture.means, atol=1e-5)
    np.testing.assert_allclose(ours.mixture.covariances, theirs.mixture.covariances, atol=1e-5)
    assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=1e-4)


@pytest.mark.parametrize(
    ("covariance_type", "factor"),
    [("full", 1e4), ("tied", 1e6), ("diag", 1e8), ("spherical", 1e10)],
)
def test_one_wild_row_hides_no_cluster(covariance_type: str, factor: float) -> None:
    X = two_clusters(200)
    options = {"covariance_type": covariance_type, "n_init": 2}
    without, said = fitted(X, [1, 2], **options)
    found, warned = fitted(np.r_[X, [[factor, 5.0]]], [1, 2], **options)
    assert without.mixture.k == 2
    same_mixture(found, without)
    assert not said
    [text] = warned
    assert f"1 row lies far out of all proportion to the others, at column 0 = {factor:.9g}" in text


def test_a_handful_of_wild_rows_is_no_component_of_its_own() -> None:
    X = two_clusters(500)
    wild = np.random.default_rng(1).normal(0, 1e6, (7, 2))
    options = {"init": "k-means++", "n_init": 2}
    without, _ = fitted(X, [1, 2, 3], **options)
    found, [text] = fitted(np.r_[wild, X], [1, 2, 3], **options)
    same_mixture(found, without)
    assert "7 rows lie" in text
    assert "for example at column 0 =" in text  # one row's values are not those of all seven


def test_wild_rows_that_the_sample_does_not_hold_are_found() -> None:
    X = two_clusters(20_000)
    rng = np.random.default_rng(0)
    at = rng.choice(len(X), 3, replace=False)
    W = X.copy()
    W[at, 1] = [1e6, -3e8, 2e5]
    rows = rows_of(W, n_pilot=4096)
    assert np.concatenate([b.values[1] for b in rows.sample]).max() < 100
    tamed, [aside] = set_aside(rows, None)
    assert aside == ("column 1", -3e8, 3)
    rest = rows_of(np.delete(X, at, axis=0)).profile
    assert tamed.profile.n_rows == len(X) - 3
    np.testing.assert_allclose(tamed.profile.mean, rest.mean, rtol=1e-12)
    np.testing.assert_allclose(tamed.profile.scatter, rest.scatter, rtol=1e-10)
    without, _ = fitted(np.delete(X, at, axis=0), 2, n_init=1)
    found, _ = fitted(W, 2, n_init=1)
    np.testing.assert_allclose(found.mixture.means, without.mixture.means, atol=1e-3)


def gappy(X: Any, seed: int = 0) -> Any:
    X = X.copy()
    X[np.random.default_rng(seed).random(X.shape) < 0.1] = np.nan
    return X


@pytest.mark.parametrize("weighted", [False, True])
def test_gaps_do_not_keep_wild_rows_in_the_fit(weighted: bool) -> None:
    X = gappy(two_clusters(500))
    wild = [[1e6, 1e6], [np.nan, 1e6], [-1e6, np.nan], [1e6, 0.0]]  # seen in one column alone
    weights = 1.0 + np.arange(len(X)) % 2 if weighted else np.ones(len(X))
    options = {"missing": "model", "n_init": 2}
    without, said = fitted(X, [1, 2], sample_weight=weights, **options)
    W, weights = np.r_[X, wild], np.append(weights, np.ones(4))
    found, [text] = fitted(W, [1, 2], sample_weight=weights, **options)
    assert without.mixture.k == 2
    same_mixture(found, without)
    assert not said
    assert "4 rows lie" in text
    assert found.mixture.missing == "model"


def test_wild_rows_with_the_only_gaps_leave_a_fit_behind() -> None:
    X = two_clusters(200)
    without, _ = fitted(X, [1, 2], n_init=2)
    found, [text] = fitted(np.r_[X, [[1e6, np.nan]]], [1, 2], n_init=2, missing="model")
    same_mixture(found, without)
    assert "1 row lies" in text


def test_wild_rows_that_the_sample_does_not_hold_are_found_among_gaps() -> None:
    X = gappy(two_clusters(5000))
    at = [11, 3003, 9009]
    W = X.copy()
    W[at] = [[1e6, np.nan], [np.nan, -3e8], [0.0, 2e5]]
    rows = rows_of(W, n_pilot=1024)
    assert np.nanmax(np.concatenate([b.values[1] for b in rows.sample])) < 100
    tamed, [first, second] = set_aside(rows, None)
    assert (first, second) == (("column 0", 1e6, 3), ("column 1", -3e8, 3))
    rest = rows_of(np.delete(X, at, axis=0)).profile
    assert tamed.profile.n_rows == len(X) - 3
    assert rest.seen is not None
    np.testing.assert_array_equal(tamed.profile.seen, rest.seen)
    np.testing.assert_allclose(tamed.profile.mean, rest.mean, rtol=1e-12)
    np.testing.assert_allclose(tamed.profile.scatter, rest.scatter, rtol=1e-10)


def test_one_wild_count_does_not_decide_the_fit() -> None:
    rng = np.random.default_rng(0)
    of_two = rng.random(500) < 0.4
    table = pd.DataFrame({"n": rng.poisson(np.where(of_two, 2, 30)).astype(float)})
    table["x"] = rng.normal(size=500)
    options = {"counts": ["n"], "n_init": 2}
    without, said = fitted(table, [1, 2], **options)
    wild = pd.DataFrame({"n": [1e6], "x": [0.0]})
    found, [text] = fitted(pd.concat([table, wild]), [1, 2], **options)
    assert without.mixture.k == 2
    same_mixture(found, without)
    np.testing.assert_allclose(found.mixture.counts["n"], without.mixture.counts["n"], atol=1e-4)
    assert not said
    assert "1 row lies" in text
    assert "n = 1000000" in text


def test_a_wild_count_that_the_sample_does_not_hold_is_found() -> None:
    rng = np.random.default_rng(0)
    X = np.c_[rng.normal(size=5000), rng.poisson(4, 5000)]
    X[[3, 77], 1] = 1e6, np.nan
    X[9, 1] = 2e5
    columns = (Column("n", "counts"),)
    rows = LocalRows.of_array(X, None, seed=0, n_pilot=500, columns=columns)
    assert np.nanmax(np.concatenate([b.values[1] for b in rows.sample])) < 100
    tamed, aside = set_aside(rows, ["x"])
    assert aside == (("n", 1e6, 2),)
    assert tamed.profile.n_rows == 4998
    np.testing.assert_allclose(tamed.profile.mean, np.delete(X, [3, 9], axis=0)[:, 0].mean())


def test_counts_of_rare_events_are_not_wild() -> None:
    n = np.zeros(1000)
    n[:300:100], n[3] = 1, 60  # a gap, but beside it all are 0
    table = pd.DataFrame({"n": n, "x": np.random.default_rng(0).normal(size=1000)})
    assert not fitted(table, 1, counts=["n"])[1]


def test_weights_count_as_rows() -> None:
    X = two_clusters(500)
    W, weights = np.r_[X, [[1e6, 0.0]]], np.ones(1001)
    assert set_aside(rows_of(W, weights), None)[1][0].rows == 1
    weights[-1] = 30.0  # thirty rows of one value are an atom
    assert not set_aside(rows_of(W, weights), None)[1]


def test_a_histogram_of_shares_sets_aside_what_that_of_counts_does() -> None:
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 30, 60).astype(float)
    X = np.r_[np.arange(59.0), 1e7][:, None]
    counts[-1] = 2
    by_counts, said = fitted(X, 2, sample_weight=counts, n_init=2)
    by_shares, also = fitted(X, 2, sample_weight=counts / counts.sum(), n_init=2)
    assert "2 rows lie" in said[0]
    assert said[0] == also[0]
    np.testing.assert_array_equal(by_counts.mixture.means, by_shares.mixture.means)


@pytest.mark.parametrize(
    "column",
    [
        np.r_[np.zeros(990), np.full(10, -9999.0)],  # ten of one value are an atom
        np.r_[np.zeros(997), np.ones(3)],  # a rare flag
        np.random.default_rng(0).lognormal(0, 3, 1000),  # a heavy tail has no gap
        np.r_[np.random.default_rng(0).normal(size=995), np.full(5, 60.0)],  # far, but not so far
    ],
    ids=["sentinel", "flag", "lognormal", "far"],
)
def test_what_is_no_accident_stays(column: Any) -> None:
    X = np.c_[column, np.random.default_rng(1).normal(size=len(column))]
    rows = rows_of(X)
    assert set_aside(rows, None) == (rows, ())


def test_a_mistyped_year_is_set_aside() -> None:
    years = np.random.default_rng(0).integers(1955, 2014, (1000, 1)).astype(float)
    years[7] = 1071
    [aside] = set_aside(rows_of(years), ["year"])[1]
    assert aside == ("year", 1071, 1)


@pytest.mark.parametrize("draw", [9, 12, 15])
def test_rows_less_far_out_hide_no_optimum(draw: int) -> None:
    """They widen a component, and which one it is makes a difference of 0.2 nats a row and more."""
    rng = np.random.default_rng(draw)
    centres = rng.normal(0, 6, (4, 2))
    X = np.concatenate([c + rng.normal(0, 1, (2000, 2)) for c in centres])
    X[rng.choice(len(X), 3, replace=False), rng.integers(0, 2, 3)] *= 60
    found, _ = fitted(X, 4)
    other, _ = fitted(X, 4, init="random_from_data")
    assert found.mixture.k == 4
    assert found.log_likelihood > other.log_likelihood - 1


def test_a_row_less_far_out_hides_no_other() -> None:
    X = two_clusters(5000)
    X[0, 0], X[1, 1] = 1e6, 220
    _, aside = set_aside(rows_of(X), None)
    assert aside == (("column 0", 1e6, 2), ("column 1", 220, 2))


@pytest.mark.parametrize("times", [22, 60])
def test_one_row_of_many_that_makes_little_of_the_variance_changes_no_cluster(times: float) -> None:
    """It makes less than half of it, and most of that of the component that would take it."""
    X = two_clusters(10_000)
    middle = np.median(X[:, 1])
    W = X.copy()
    W[1, 1] = middle + times * np.abs(X[:, 1] - middle).max()
    options = {"init": "k-means++", "n_init": 2}
    without, _ = fitted(np.delete(X, 1, axis=0), 2, **options)
    found, [text] = fitted(W, 2, **options)
    assert "1 row lies" in text
    np.testing.assert_allclose(found.mixture.means, without.mixture.means, atol=1e-3)


def test_rows_of_small_weight_are_a_row_at_least() -> None:
    X = np.random.default_rng(0).normal(size=(2000, 1))
    X[0] = -9999
    weights = np.random.default_rng(1).random(2000)
    weights[0] = 0.2
    _, [text] = fitted(X, 1, sample_weight=weights)
    assert text.startswith("1 row lies far out of all proportion to the others, at column 0 =")


def test_few_rows_are_all_kept() -> None:
    X = np.r_[np.random.default_rng(0).normal(size=(50, 2)), [[1e6, 0.0]]]
    rows = rows_of(X)
    assert set_aside(rows, None) == (rows, ())


@pytest.mark.parametrize("tail", [0.9, 2.0, 3.0, np.inf])
def test_no_feature_is_passed_over_by_its_range_that_has_wild_rows(
    tail: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The range of a feature tells most that have none, without a look at the rows."""
    rng = np.random.default_rng(3)
    found, passed_over = 0, 0
    for n in (15, 60, 300, 2000, 20_000):
        X = rng.standard_normal((n, 30)) if np.isinf(tail) else rng.standard_t(tail, (n, 30))
        far = 10.0 ** rng.uniform(0.5, 3.5, 30) * np.abs(X).max(axis=0)
        X[0] = np.where(rng.random(30) < 0.5, far, X[0])
        for weights in (None, rng.integers(1, 4, n).astype(float)):
            rows = rows_of(X, weights)
            quick = _bounds(rows)
            passed_over += int((~_may_be_wild(rows.profile)).sum())
            with monkeypatch.context() as slow:
                slow.setattr(wild, "_may_be_wild", lambda profile: np.ones(30, dtype=bool))
                whole = _bounds(rows)
            assert (None if quick is None else quick[1]) == (None if whole is None else whole[1])
            found += 0 if whole is None else len(whole[1])
    assert found > 0
    assert passed_over > 0 or tail < 1
