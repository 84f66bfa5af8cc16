"""Data that tempt a likelihood without bound, or arithmetic without digits."""

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from helpers.data_sets import TEXTBOOK, clusters, faithful, iris
from helpers.searches import starts_for
from sparkgmm import fit_array
from sparkgmm.errors import FitError, InputError, SparkGmmError
from sparkgmm.mixture import COVARIANCE_TYPES


def assert_sound(found):
    mixture = found.mixture
    assert np.isfinite(found.log_likelihood)
    assert np.isfinite(mixture.means).all()
    assert np.linalg.eigvalsh(mixture.covariances).min() > 0


# --- spikes


@pytest.mark.parametrize("init", ["k-means++", "random_from_data"])
@pytest.mark.parametrize("reg_covar", [0.0, 1e-6])
def test_no_spike_on_equal_petal_widths_wins_among_many_starts(init, reg_covar):
    found = fit_array(iris(), 3, init=init, n_init=60, seed=11, reg_covar=reg_covar)
    # the spikes reach -162 (2 rows) and +8.9 (21 rows of one petal width)
    assert found.log_likelihood == pytest.approx(-180.18548, abs=1e-2)
    assert found.mixture.weights.min() * 150 > 40


def test_a_start_on_a_spike_is_refused_and_not_returned():
    X = np.random.default_rng(0).standard_normal((200, 4))
    X[:12] = X[0]  # fewer than five times the d + 1 rows that a component needs
    wide = np.eye(4)
    start = {"means_init": [X[0], np.zeros(4)], "precisions_init": [1e8 * wide, wide]}
    with pytest.raises(FitError, match=r"every candidate is degenerate .*(volume|spike|rows)"):
        fit_array(X, 2, reg_covar=0.0, **start)


def test_as_many_components_as_distinct_rows_are_all_spikes():
    X = np.repeat(faithful()[:4], 4, axis=0)
    with pytest.raises(FitError, match=r"degenerate .* lower k, try covariance_type tied or"):
        fit_array(X, 4)


@pytest.mark.parametrize(("n_rows", "remedy"), [(3, "1"), (6, "2 or less"), (60, "3 or less")])
def test_more_components_than_distinct_rows_are_refused_with_a_k_that_has_rows(n_rows, remedy):
    """Distinct ones, and as many in all as components of the covariance type need."""
    X = np.resize([[0.0, 1.0], [2.0, 5.0], [4.0, 3.0]], (n_rows, 2))
    message = f"there are 3 distinct rows for k = 5 components: lower k to {remedy} or give more"
    with pytest.raises(InputError, match=message):
        fit_array(X, 5)
    fit_array(X, 1, covariance_type="diag", init="k-means++")


def test_minus_zero_is_no_distinct_row():
    with pytest.raises(InputError, match="there are 2 distinct rows for k = 3"):
        fit_array([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0], [2.0, 3.0]], 3)


# --- features


@pytest.mark.parametrize("value", [0.0, 7.5, 1e300])
def test_a_constant_feature_is_refused_by_name_and_value(value):
    X = np.c_[faithful(), np.full(272, value)]
    message = rf"feature 'column 2' is constant \({value:.6g} in all 272 rows".replace("+", r"\+")
    with pytest.raises(InputError, match=message):
        fit_array(X, 2)
    fit_array(X[:, :2], 2, init="k-means++")


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_feature_that_is_the_sum_of_others_still_fits(kind):
    X = np.c_[faithful(), faithful().sum(axis=1)]
    found = fit_array(X, 2, covariance_type=kind, init=starts_for(kind))
    assert_sound(found)
    assert found.converged
    if kind in ("full", "tied"):
        alone = fit_array(faithful(), 2, covariance_type=kind, init=starts_for(kind))
        agreement = adjusted_rand_score(found.mixture.predict(X), alone.mixture.predict(faithful()))
        assert agreement > 0.95


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("recorded", ["on a grid", "as finely as floats are"])
def test_a_singular_direction_needs_no_regularisation(kind, recorded):
    X = faithful()
    if recorded != "on a grid":
        X = X + 1e-3 * np.random.default_rng(0).standard_normal(X.shape)
    X = np.c_[X, X.sum(axis=1)]
    found = fit_array(X, 2, covariance_type=kind, reg_covar=0, init=starts_for(kind))
    assert_sound(found)
    assert found.converged


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_a_feature_of_small_noise_on_a_large_constant_fits(kind):
    noise = np.random.default_rng(0).uniform(-1e-3, 1e-3, 272)
    X = np.c_[faithful(), 1e8 + noise]
    found = fit_array(X, 2, covariance_type=kind, init=starts_for(kind))
    assert_sound(found)
    alone = fit_array(faithful(), 2, covariance_type=kind, init=starts_for(kind))
    assert adjusted_rand_score(found.mixture.predict(X), alone.mixture.predict(faithful())) > 0.95
    sd = np.sqrt(found.mixture.covariances[:, 2, 2])
    np.testing.assert_allclose(sd, noise.std(), rtol=0.2)


# --- rows far out


# a far row may take a component with it, which is told
@pytest.mark.filterwarnings("ignore:.*components found no rows:UserWarning")
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("far", [1e3, 1e8, 1e30, 1e150, 1e160, -1e300])
def test_one_row_far_out_among_a_thousand_is_survived_or_refused_in_words(far, kind, k):
    X = np.random.default_rng(0).standard_normal((1000, 2))
    X[7, 0] = far
    found, complaint = None, ""
    # all starts at one distance, and for one k and type
    init = "auto" if far == 1e30 or (k, kind) == (3, "full") else "k-means++"
    try:
        found = fit_array(X, k, covariance_type=kind, init=init, n_init=2)
    except SparkGmmError as error:
        complaint = str(error)
    if found is None:
        assert "feature 'column 0'" in complaint or "every candidate is degenerate" in complaint
    else:
        assert_sound(found)
        R = found.mixture.responsibilities(X)
        np.testing.assert_allclose(R.sum(axis=1), 1, rtol=1e-12)


def test_a_feature_beyond_the_range_of_squares_is_refused_with_its_range():
    X = np.random.default_rng(0).standard_normal((1000, 2))
    X[7, 1] = 1e160
    message = "feature 'column 1' ranges from .* to 1e.160, so that its variance is inf"
    with pytest.raises(InputError, match=message):
        fit_array(X, 2)


# --- tight and far apart


@pytest.mark.parametrize("kind", TEXTBOOK)
@pytest.mark.parametrize("sd", [1e-2, 1e-3, 1e-4])
def test_tight_clusters_far_apart_have_the_right_covariances(sd, kind):
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [400, 600])
    X = labels[:, None] + sd * rng.standard_normal((1000, 2))
    found = fit_array(X, 2, covariance_type=kind, reg_covar=0, init=starts_for(kind))
    np.testing.assert_array_equal(found.mixture.predict(X) == 0, labels == 1)
    residuals = [X[labels == j] - X[labels == j].mean(axis=0) for j in (1, 0)]
    scatter = [r.T @ r / len(r) for r in residuals]
    pooled = 0.6 * scatter[0] + 0.4 * scatter[1]
    expected = {
        "full": scatter,
        "tied": [pooled, pooled],
        "diag": [np.diag(np.diag(s)) for s in scatter],
        "spherical": [np.trace(s) / 2 * np.eye(2) for s in scatter],
    }[kind]
    np.testing.assert_allclose(
        found.mixture.covariances / sd**2, np.array(expected) / sd**2, rtol=1e-6, atol=1e-6
    )
    assert found.log_likelihood == pytest.approx(found.mixture.log_likelihood(X), rel=1e-9)


# --- many dimensions


@pytest.mark.parametrize(
    ("d", "k", "n"), [(25, 3, 600), (60, 4, 1200), (120, 3, 1200)], ids=["25", "60", "120"]
)
@pytest.mark.parametrize("apart", ["in few directions", "in all directions"])
def test_well_separated_clusters_in_many_dimensions_are_recovered(d, k, n, apart):
    rng = np.random.default_rng(d)
    X, labels = clusters(rng, k, d, n, 20.0 if apart == "in few directions" else 0.0)
    if apart == "in all directions":
        X += 3 * rng.standard_normal((k, d))[labels]
    found = fit_array(X, k, init="k-means++" if d == 60 else "auto", n_init=4)
    assert adjusted_rand_score(labels, found.mixture.predict(X)) == 1.0
    assert found.converged
    np.testing.assert_allclose(found.mixture.weights, 1 / k, rtol=1e-6)
    R = found.mixture.responsibilities(X)
    assert R.max(axis=1).min() > 1 - 1e-9


@pytest.mark.parametrize("offset", [0.0, 1e8, 1.7e12])
def test_three_hundred_dimensions_at_any_offset_are_told_apart(offset: float) -> None:
    X, labels = clusters(np.random.default_rng(5), 3, 300, 1500, 40.0)
    found = fit_array(X + offset, 3, n_init=2, covariance_type="diag")
    assert adjusted_rand_score(labels, found.mixture.predict(X + offset)) == 1.0


def test_spikes_on_whole_numbers_are_components_as_wide_as_the_grid():
    """Acceleration would take a round component's variance to zero."""
    rng = np.random.default_rng(1)
    rng.standard_cauchy((300, 2)), rng.standard_normal((300, 2)), rng.integers(0, 2, (300, 2))
    X = rng.integers(0, 3, (300, 2)).astype(float)
    for k in (2, 3, 5):
        found = fit_array(X, k, covariance_type="spherical", n_init=2)
        assert found.mixture.covariances.min(where=np.eye(2) > 0, initial=9.0) >= (1 - 1e-9) / 12
