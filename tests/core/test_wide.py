"""What a covariance type does not need is not made: many features, few of their products."""

from __future__ import annotations

import tracemalloc
from functools import reduce
from operator import add

import numpy as np
import pytest

from helpers.builders import block_of, rows_of
from helpers.data_sets import clusters, faithful, random_mixture
from sparkgmm import fit_array
from sparkgmm.core.drift import Labelled, changes, jensen_shannon, mean_log_density
from sparkgmm.core.em import Settings
from sparkgmm.core.evidence import Scan
from sparkgmm.core.fit import fit
from sparkgmm.core.history import History
from sparkgmm.core.matching import hellinger_between
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.rows import LocalRows
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.core.search import Search
from sparkgmm.core.statistics import run_kernels
from sparkgmm.core.update import update
from sparkgmm.errors import FitError
from sparkgmm.mixture import Array, Mixture

DIAGONAL = pytest.mark.parametrize("kind", ["diag", "spherical"])


def without_products(X: Array, w: Array | None = None, blocks: int = 1) -> LocalRows:
    """Return rows whose profile has no products of features."""
    parts = np.array_split(np.arange(len(X)), blocks)
    cut = [block_of(X[i], None if w is None else w[i]) for i in parts]
    return LocalRows([cut], reduce(add, (Profile.of(block, False) for block in cut)), 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_profile_without_products_is_the_diagonal_of_one_with_them(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    X = 1e9 + rng.standard_normal((3001, 5)) * [1e-3, 1, 1e3, 1e6, 1]
    w = rng.uniform(0.1, 3, 3001) if weighted else None
    squares, products = without_products(X, w, 4).profile, rows_of(X, w, blocks=4).profile
    assert squares.scatter.shape == (5,)
    np.testing.assert_allclose(squares.scatter, np.diagonal(products.scatter), rtol=1e-12)
    np.testing.assert_array_equal(squares.mean, products.mean)
    again = Profile.unpack(squares.pack(), 5)
    np.testing.assert_array_equal(again.scatter, squares.scatter)
    np.testing.assert_array_equal(again.high, squares.high)
    for both in (squares + products, products + squares):
        np.testing.assert_allclose(both.scatter, 2 * squares.scatter, rtol=1e-12)
    frames = [Frame.of(squares), Frame.of(products)]
    np.testing.assert_allclose(frames[0].scale, frames[1].scale, rtol=1e-13)
    np.testing.assert_allclose(frames[0].correlation, 1.0, rtol=1e-12)
    sample = [frame.over([block_of(X[:100])]).correlation for frame in frames]
    np.testing.assert_allclose(sample[0], np.diagonal(sample[1]), rtol=1e-9)


def test_of_one_feature_a_profile_is_the_same_with_and_without_products() -> None:
    X = faithful()[:, :1]
    found, expected = without_products(X).profile.pack(), rows_of(X).profile.pack()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.long
@DIAGONAL
def test_a_fit_scores_samples_and_drift_of_many_features_make_no_matrix(kind: str) -> None:
    d = 3000  # a matrix of so many features takes 72 MB
    labels = np.arange(60) % 2
    X = np.random.default_rng(0).standard_normal((60, d)) + labels[:, None]
    tracemalloc.start()
    try:
        mixture = fit_array(X, 2, covariance_type=kind, n_init=2).mixture
        rows = without_products(X)
        found = fit(rows, Search((2,), (kind,), n_init=2), validate=True)
        assert found.history is not None
        history = History.from_dict(found.history.to_dict())
        after = update(without_products(X[::-1]), history, Settings()).chosen.mixture
        before, later = Labelled.first(mixture, 60), Labelled.first(after, 120)
        assert [change.status for change in changes(before, later)] == ["matched"] * 2
        jensen_shannon(mixture, after, n=20)
        mean_log_density(rows, mixture)
        nearest = Membership(mixture, Sample.of(rows)).nearest
        assert tracemalloc.get_traced_memory()[1] < 6e7
    finally:
        tracemalloc.stop()
    assert nearest == [1, 0]
    assert (mixture.predict(X) == labels).all() or (mixture.predict(X) != labels).all()


@DIAGONAL
def test_diagonal_mixtures_are_as_far_apart_as_their_matrices_say(kind: str) -> None:
    rng = np.random.default_rng(1)
    one, other = (random_mixture(rng, 3, 4, kind) for _ in range(2))
    dense = [Mixture(m.weights, m.means, m.covariances, "full") for m in (one, other)]
    found = hellinger_between(one, other)
    np.testing.assert_allclose(found, hellinger_between(*dense), rtol=1e-12)
    np.testing.assert_allclose(found, hellinger_between(one, dense[1]), rtol=1e-12)


def test_tied_mixtures_are_as_far_apart_as_their_matrices_say() -> None:
    rng = np.random.default_rng(2)
    one, other = (random_mixture(rng, 3, 4, "tied") for _ in range(2))
    dense = [Mixture(m.weights, m.means, m.covariances, "full") for m in (one, other)]
    np.testing.assert_allclose(hellinger_between(one, other), hellinger_between(*dense), rtol=1e-10)


def test_a_tied_mixture_is_measured_where_the_products_of_the_rows_are_not_known() -> None:
    """As where a diag fit is compared with an earlier run that was tied."""
    mixture = random_mixture(np.random.default_rng(3), 3, 4, "tied")
    X, _ = mixture.sample(500, seed=0)
    expected = mixture.log_likelihood(X) / len(X)
    assert mean_log_density(without_products(X), mixture) == pytest.approx(expected, rel=1e-10)
    assert mean_log_density(rows_of(X), mixture) == pytest.approx(expected, rel=1e-10)


@DIAGONAL
def test_an_update_goes_on_from_statistics_that_have_products(kind: str) -> None:
    """As those of version 1 do: what the new rows have is what is kept."""
    X, _ = random_mixture(np.random.default_rng(4), 2, 3, kind).sample(600, seed=0)
    search = Search((2,), (kind,), n_init=2)
    old = fit(rows_of(X[:300]), search).history
    assert old is not None
    history = History.from_dict(old.to_dict())
    assert history.profile.scatter.shape == (3, 3)
    found = update(without_products(X[300:]), history, Settings())
    assert found.history is not None
    assert found.history.profile.scatter.shape == (3,)
    expected = update(rows_of(X[300:]), history, Settings())
    assert found.chosen.log_likelihood == pytest.approx(expected.chosen.log_likelihood, rel=1e-9)


@DIAGONAL
def test_narrow_components_of_diagonal_covariance_are_measured_about_their_means(
    kind: str,
) -> None:
    rng = np.random.default_rng(5)
    means = rng.uniform(-1, 1, (4, 6))
    variances = np.full((4, 6), 1e-10) if kind == "diag" else np.full(4, 1e-10)
    mixture = Mixture(np.full(4, 0.25), means, variances, kind)
    X, labels = mixture.sample(2000, seed=0)
    frame = Frame.of(without_products(X).profile)
    scan = Scan.of([from_mixture(mixture, frame)], frame)
    [(moments, mean, _)] = scan.read(run_kernels(scan.kernels, block_of(X)))
    expected = mixture.log_likelihood(X) / len(X) + frame.log_volume
    assert mean == pytest.approx(expected, rel=1e-12)
    residuals = (X - means[labels]) / frame.scale
    second = np.array([(residuals[labels == j] ** 2).sum(axis=0) for j in range(4)])
    np.testing.assert_allclose(moments.squares(), second, rtol=1e-9)


# --- too few rows


@pytest.mark.parametrize(
    ("n", "d", "options", "message"),
    [
        (200, 400, {"k": 3}, "full in 400 columns need 1,203 rows, 401 each, and there are 200"),
        (200, 200, {"k": 1}, "1 component of covariance type full in 200 columns need 201 rows"),
        (500, 400, {"k": 3}, "there are 500: give more rows, lower k to 1, or try covariance_type"),
        (50, 400, {"k": 60, "covariance_type": "spherical"}, "spherical in 400 columns need 120"),
        (
            100,
            400,
            {"k": 3, "covariance_type": "tied"},
            "type tied in 400 columns need 403 rows, and there are 100: give more rows or try cov",
        ),
        (
            410,
            400,
            {"k": 20, "covariance_type": "tied"},
            "need 420 rows, and there are 410: give more rows, lower k to 10, or try covariance_ty",
        ),
        (
            200,
            200,
            {"k": 1},
            "there are 200: give more rows or try covariance_type diag or spherical$",
        ),
    ],
)
def test_too_few_rows_by_number_are_refused_before_any_pass(
    n: int,
    d: int,
    options: dict[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scan(*_: object) -> None:
        raise AssertionError("a pass was made")

    monkeypatch.setattr("sparkgmm.core.evidence.scan_blocks", scan)
    monkeypatch.setattr(LocalRows, "scan", scan)
    X = np.random.default_rng(0).standard_normal((n, d))
    X = X if n >= 60 else np.concatenate([X, X[:20] + 1])
    with pytest.raises(FitError, match=message):
        fit_array(X, **options)  # type: ignore[arg-type]


def test_a_tied_matrix_that_the_rows_do_not_fill_does_not_win_by_its_missing_volume() -> None:
    """Its likelihood would hang on the least width alone, and be above every honest one."""
    X = np.random.default_rng(0).standard_normal((9, 20))
    found = fit_array(X, [1, 2], covariance_type=["tied", "diag"])
    assert found.mixture.covariance_type == "diag"
    tied = [c for c in found.candidates if c.covariance_type == "tied"]
    assert ["9 rows do not fill, 21 are needed" in str(c.degenerate) for c in tied] == [True, False]
    assert ["9 rows do not fill, 22 are needed" in str(c.degenerate) for c in tied] == [False, True]
    enough = np.random.default_rng(0).standard_normal((22, 20))
    assert fit_array(enough, 2, covariance_type="tied").mixture.k == 2


def test_enough_rows_by_weight_and_one_possible_candidate_are_not_refused() -> None:
    X, _ = clusters(np.random.default_rng(0), 2, 2, 6, 20.0)
    found = fit_array(X, 2, sample_weight=np.full(6, 3.0), covariance_type="diag")
    assert found.mixture.k == 2
    search = Search((1, 4), ("full", "diag"), n_init=2)
    assert fit(rows_of(X), search).chosen.degenerate is None
