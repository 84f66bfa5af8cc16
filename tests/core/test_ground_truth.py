"""Optima that other software found: mclust 6.0, and scikit-learn 1.9 at tight tolerance."""

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from helpers.data_sets import TEXTBOOK, faithful, iris
from sparkgmm import fit_array

OPTIMA = [
    (faithful, 2, "full", -1130.26396, 11, 2322.1917),
    (faithful, 3, "tied", -1126.31593, 11, 2314.2957),
    (faithful, 2, "tied", -1140.18676, 8, 2325.2199),
    (faithful, 2, "diag", -1147.80635, 9, 2346.0649),
    (faithful, 2, "spherical", -1709.52928, 7, 3458.2992),
    (iris, 2, "full", -214.35470, 29, 574.0178),
    (iris, 3, "full", -180.18548, 44, 580.8389),
]


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(s, marks=pytest.mark.long) for s in range(4, 10))]
)
@pytest.mark.parametrize(
    ("data", "k", "covariance_type", "log_likelihood", "n_parameters", "bic"),
    OPTIMA,
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_seed_reaches_the_published_optimum(
    data, k, covariance_type, log_likelihood, n_parameters, bic, seed
):
    X = data()
    found = fit_array(X, k, covariance_type=covariance_type, reg_covar=0, seed=seed)
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=1e-4)
    assert found.converged is True
    assert found.mixture.n_parameters == n_parameters
    assert found.mixture.bic(X) == pytest.approx(bic, abs=2e-4)
    assert found.mixture.covariance_type == covariance_type


def test_the_two_components_of_old_faithful_are_the_published_ones():
    mixture = fit_array(faithful(), 2, reg_covar=0).mixture
    np.testing.assert_allclose(mixture.weights, [0.644127, 0.355873], atol=2e-6)
    means = [[4.289662, 79.968115], [2.036388, 54.478516]]
    np.testing.assert_allclose(mixture.means, means, rtol=2e-6)
    covariances = [
        [[0.169968, 0.940609], [0.940609, 36.046210]],
        [[0.069168, 0.435168], [0.435168, 33.697282]],
    ]
    np.testing.assert_allclose(mixture.covariances, covariances, rtol=2e-5)


def test_the_default_regularisation_costs_old_faithful_no_thousandth_of_a_nat():
    assert fit_array(faithful(), 2).log_likelihood == pytest.approx(-1130.26396, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_the_default_settings_reach_the_sound_optimum_of_iris(seed):
    found = fit_array(iris(), 3, seed=seed)
    assert found.log_likelihood == pytest.approx(-180.18548, abs=1e-2)


@pytest.mark.parametrize("init", ["k-means++", "random_from_data"])
def test_both_ways_to_start_reach_the_optimum(init):
    found = fit_array(faithful(), 3, covariance_type="tied", init=init, reg_covar=0)
    assert found.log_likelihood == pytest.approx(-1126.31593, abs=1e-4)


@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("covariance_type", TEXTBOOK)
@pytest.mark.parametrize("data", [faithful, iris])
def test_no_sound_fit_of_scikit_learn_is_better(data, covariance_type, k):
    X = data()
    ours = fit_array(X, k, covariance_type=covariance_type, reg_covar=0)
    for seed in range(3):
        theirs = GaussianMixture(
            k, covariance_type=covariance_type, tol=1e-7, max_iter=1000, reg_covar=0,
            random_state=seed,
        ).fit(X)  # fmt: skip
        dense = theirs.covariances_ if covariance_type == "full" else None
        if dense is not None and np.linalg.eigvalsh(dense).min() < 1e-5:
            continue  # a spike on equal rows
        assert ours.log_likelihood >= theirs.score(X) * len(X) - 1e-6 * len(X)
