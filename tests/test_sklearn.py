"""The scikit-learn estimator: scikit-learn's names and behaviour, this package's engine."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from helpers.data_sets import TEXTBOOK, faithful, iris
from sparkgmm.sklearn import GaussianMixture

EXACT = {"tol": 1e-10, "max_iter": 1000, "random_state": 0}
ATTRIBUTES = ("weights_", "means_", "covariances_", "precisions_", "precisions_cholesky_")


@pytest.mark.parametrize("init_params", ["kmeans", pytest.param("auto", marks=pytest.mark.long)])
def test_scikit_learn_finds_nothing_wrong_with_the_estimator(init_params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(GaussianMixture(init_params=init_params), on_fail=None)
    status = {result["check_name"]: result["status"] for result in results}
    assert len(status) > 30
    # without SCIPY_ARRAY_API in the environment it is not run
    assert {name for name, s in status.items() if s != "passed"} <= {"check_array_api_input"}


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
@pytest.mark.parametrize("reg_covar", [1e-6, 0.3])
def test_a_fit_ends_where_scikit_learns_does(covariance_type, reg_covar):
    options = {"covariance_type": covariance_type, "reg_covar": reg_covar}
    ours = GaussianMixture(2, **options, **EXACT).fit(iris())
    theirs = Theirs(2, **options, **EXACT).fit(iris())
    for name in ATTRIBUTES:
        expected = getattr(theirs, name)
        assert getattr(ours, name) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    assert ours.score(iris()) == pytest.approx(theirs.score(iris()), abs=1e-7)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, abs=1e-7)
    assert ours.bic(iris()) == pytest.approx(theirs.bic(iris()), rel=1e-7)
    assert (ours.predict(iris()) == theirs.predict(iris())).all()
    assert ours.converged_
    assert len(ours.lower_bounds_) == ours.n_iter_


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
@pytest.mark.parametrize("n_steps", [1, 2])
def test_the_first_steps_are_those_of_scikit_learn(covariance_type, n_steps):
    options = {
        "covariance_type": covariance_type,
        "max_iter": n_steps,
        "random_state": 1,
        "tol": 0,
    }
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        ours = GaussianMixture(3, init_params="random", **options).fit(faithful())
    with pytest.warns(ConvergenceWarning):
        theirs = Theirs(3, init_params="random", **options).fit(faithful())
    for name in ATTRIBUTES:
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-6)
    assert ours.lower_bound_ == pytest.approx(theirs.lower_bound_, rel=1e-9)
    assert ours.n_iter_ == n_steps


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_components_keep_the_order_of_the_start(order):
    means = np.array([[2.0, 55.0], [4.3, 80.0]])[order]
    fitted = GaussianMixture(2, means_init=means).fit(faithful())
    assert fitted.means_ == pytest.approx(means, rel=0.05)
    assert (fitted.mixture_.means == fitted.means_).all()


def test_weights_alone_are_a_start():
    given = {"weights_init": [0.9, 0.1], "max_iter": 0, "random_state": 0}
    ours = GaussianMixture(2, **given).fit(faithful())
    theirs = Theirs(2, **given).fit(faithful())
    assert ours.weights_.tolist() == [0.9, 0.1]
    assert (ours.means_ == theirs.means_).all()


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
def test_precisions_are_compact(covariance_type):
    k, d = 2, 2
    shape = {"full": (k, d, d), "tied": (d, d), "diag": (k, d), "spherical": (k,)}[covariance_type]
    first = GaussianMixture(2, covariance_type=covariance_type, **EXACT).fit(faithful())
    assert first.covariances_.shape == first.precisions_.shape == shape
    again = GaussianMixture(
        2,
        covariance_type=covariance_type,
        weights_init=first.weights_,
        means_init=first.means_,
        precisions_init=first.precisions_,
        tol=1e-8,
    ).fit(faithful())
    assert again.n_iter_ <= 2
    assert again.covariances_ == pytest.approx(first.covariances_, rel=1e-4)


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
@pytest.mark.parametrize("init_params", ["kmeans", "auto"])
def test_float32_stays_float32(covariance_type, init_params):
    X = faithful().astype(np.float32)
    fitted = GaussianMixture(
        2, covariance_type=covariance_type, init_params=init_params, random_state=0
    ).fit(X)
    assert {getattr(fitted, name).dtype for name in ATTRIBUTES} == {np.dtype(np.float32)}
    assert fitted.score_samples(X).dtype == fitted.predict_proba(X).dtype == np.float32
    double = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(faithful())
    assert fitted.score(X) == pytest.approx(double.score(faithful()), abs=1e-3)


def test_a_warm_start_goes_on_from_the_last_fit():
    once = GaussianMixture(3, max_iter=4, tol=0, random_state=0)
    steps = GaussianMixture(3, max_iter=2, tol=0, random_state=0, warm_start=True)
    with pytest.warns(ConvergenceWarning):
        assert steps.fit(faithful()).score(faithful()) < steps.fit(faithful()).score(faithful())
    with pytest.warns(ConvergenceWarning):
        first = once.fit(faithful())
    assert steps.score(faithful()) > first.lower_bounds_[0]
    assert GaussianMixture(2, warm_start=True).fit(iris()).fit(iris()).converged_


def test_auto_finds_the_sound_optimum_of_iris_from_one_start():
    fitted = GaussianMixture(3, init_params="auto", random_state=0, tol=1e-8, max_iter=500)
    assert 150 * fitted.fit(iris()).score(iris()) == pytest.approx(-180.18548, abs=0.01)
    assert (np.diff(fitted.weights_) <= 0).all()


def test_timestamps_cost_no_digits():
    shifted = faithful() + 1.7e12
    near = GaussianMixture(2, **EXACT).fit(faithful())
    far = GaussianMixture(2, **EXACT).fit(shifted)
    assert far.covariances_ == pytest.approx(near.covariances_, rel=1e-2)
    assert far.score(shifted) == pytest.approx(near.score(faithful()), abs=1e-3)


def test_every_component_is_kept_even_where_it_is_not_sound():
    X = np.repeat([[0.0, 0.0], [1.0, 1.0]], 10, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = GaussianMixture(3, random_state=0).fit(X)
    assert fitted.means_.shape == (3, 2)
    assert np.isfinite(fitted.score(X))
    with pytest.raises(ValueError, match="2 distinct rows for k = 3"):
        GaussianMixture(3, init_params="auto").fit(X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_search_returns_as_many_components_as_are_asked_for():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (9, 2)), rng.normal(50, 1, (9, 2))])
    assert GaussianMixture(8, init_params="auto", random_state=0).fit(X).means_.shape == (8, 2)


def test_a_constant_feature_is_held_open_by_reg_covar():
    X = np.c_[faithful(), np.full(272, 3.0)]
    fitted = GaussianMixture(2, random_state=0).fit(X)
    assert fitted.covariances_[:, 2, 2] == pytest.approx(1e-6)


def test_it_works_where_scikit_learns_estimators_do():
    table = pd.DataFrame(iris(), columns=["a", "b", "c", "d"]).sample(frac=1, random_state=0)
    scaler = StandardScaler().set_output(transform="pandas")
    search = GridSearchCV(
        make_pipeline(scaler, GaussianMixture(random_state=0)),
        {
            "gaussianmixture__n_components": [1, 2],
            "gaussianmixture__covariance_type": ["full", "diag"],
        },
        cv=3,
    ).fit(table)
    assert search.best_params_["gaussianmixture__n_components"] == 2
    assert search.best_estimator_[-1].feature_names_in_.tolist() == list("abcd")
    assert search.best_estimator_[-1].mixture_.features == tuple("abcd")
    copy = clone(search.best_estimator_[-1])
    assert not hasattr(copy, "mixture_")
    assert copy.get_params() == search.best_estimator_[-1].get_params()
    with pytest.raises(ValueError, match="feature names should match"):
        search.best_estimator_[-1].predict(table[["b", "a", "c", "d"]])


def test_a_fit_is_the_same_bits_again():
    first, second = (GaussianMixture(3, n_init=2, random_state=5).fit(iris()) for _ in range(2))
    assert first.means_.tobytes() == second.means_.tobytes()


def test_without_scikit_learn_the_import_says_what_to_install():
    code = (
        "import sys; sys.modules['sklearn'] = None\n"
        "import sparkgmm\n"
        "try:\n    import sparkgmm.sklearn\n"
        "except ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'sparkgmm[sklearn]'" in done.stdout
