from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture

from helpers.data_sets import TEXTBOOK, clusters, faithful, random_mixture
from helpers.searches import starts_for
from sparkgmm import fit_array
from sparkgmm.errors import InputError, SparkGmmError
from sparkgmm.mixture import COVARIANCE_TYPES

X = faithful()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k is 0: give an integer of 1 or more"),
        ({"k": 2.0}, "k is 2.0: give an integer of 1 or more"),
        ({"covariance_type": "round"}, "covariance_type is 'round': use one of full, tied, diag"),
        ({"init": "kmeans"}, r"init is 'kmeans': use one of auto, k-means\+\+, random_from_data"),
        ({"n_init": 0}, "n_init is 0: give an integer of 1 or more"),
        ({"max_iter": 0}, "max_iter is 0: give an integer of 1 or more"),
        ({"tol": -1e-6}, "tol is -1e-06: give a number of 0 or more"),
        ({"tol": np.nan}, "tol is nan: give a number of 0 or more"),
        ({"reg_covar": -1.0}, "reg_covar is -1.0: give a number of 0 or more"),
        ({"reg_covar": np.inf}, "reg_covar is inf: give a number of 0 or more"),
        ({"seed": -1}, "seed is -1: give an integer of 0 or more"),
        ({"seed": None}, r"seed is None: give an integer from 0 to 2\*\*63 - 1"),
        ({"X": [1.0, 2.0]}, r"X has shape \(2,\): give \(n, d\)"),
        ({"X": np.empty((0, 2))}, r"X has shape \(0, 2\): give \(n, d\) with n and d of 1 or more"),
        ({"X": [[1.0, 2.0], [np.nan, 0.0]]}, r"X holds \[nan, 0.0\] in row 1: give finite numbers"),
        ({"X": [[np.inf, 2.0]]}, r"X holds \[inf, 2.0\] in row 0"),
        ({"sample_weight": np.ones(3)}, r"sample_weight has shape \(3,\): give \(272,\), one"),
        ({"sample_weight": np.full(272, -1.0)}, "sample_weight holds -1: give finite weights"),
        ({"sample_weight": np.zeros(272)}, "every sample_weight is 0: give a row some weight"),
        ({"weights_init": [0.5, 0.5]}, "weights_init and precisions_init need means_init"),
        ({"means_init": [[0.0, 1.0]]}, "means"),
        ({"means_init": [[0.0], [1.0]]}, "means"),
        (
            {"means_init": X[:2], "precisions_init": np.eye(2)},
            r"precisions_init has shape \(2, 2\): give \(2, 2, 2\)",
        ),
        (
            {
                "means_init": X[:2],
                "precisions_init": [1.0, 0.0],
                "covariance_type": "spherical",
            },
            "precisions_init holds 0: give numbers above 0",
        ),
        (
            {"means_init": X[:2], "precisions_init": np.ones((2, 3)), "covariance_type": "diag"},
            r"precisions_init has shape \(2, 3\): give \(2, 2\) or \(2, 2, 2\)",
        ),
        (
            {"means_init": X[:2], "precisions_init": np.zeros((2, 2, 2))},
            "precisions_init is not positive definite",
        ),
        (
            {"means_init": X[:2], "weights_init": [0.5, 0.9]},
            r"weights_init is \[0.5, 0.9\], sum 1.4",
        ),
    ],
)
def test_a_bad_argument_is_refused_with_its_value_and_the_remedy(options, message):
    with pytest.raises(InputError, match=message):
        fit_array(**({"X": X, "k": 2} | options))


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
def test_one_feature_is_enough(covariance_type):
    waiting = X[:, 1:]
    found = fit_array(waiting, 2, covariance_type=covariance_type, reg_covar=0)
    theirs = GaussianMixture(
        2, covariance_type=covariance_type, reg_covar=0, tol=1e-10, max_iter=5000, random_state=0
    ).fit(waiting)
    assert found.mixture.covariances.shape == (2, 1, 1)
    assert found.log_likelihood == pytest.approx(theirs.score(waiting) * 272, abs=1e-4)
    assert found.log_likelihood == pytest.approx(found.mixture.log_likelihood(waiting), rel=1e-12)


def test_the_unequal_variance_types_are_one_model_for_one_feature():
    heights = [
        fit_array(X[:, :1], 2, covariance_type=kind, reg_covar=0).log_likelihood
        for kind in ("full", "diag", "spherical")
    ]
    np.testing.assert_allclose(heights, heights[0], atol=1e-5)


def test_the_result_tells_convergence_and_passes():
    found = fit_array(X, 2)
    assert found.converged is True
    assert found.n_iter == len(found.log_likelihoods)
    assert isinstance(found.log_likelihood, float)
    cut_short = fit_array(X, 3, covariance_type="tied", max_iter=2, n_init=1)
    assert cut_short.converged is False
    assert cut_short.n_iter == 2


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_fit_goes_on_from_the_parameters_given(covariance_type):
    init = starts_for(covariance_type)
    best = fit_array(X, 2, covariance_type=covariance_type, init=init)
    precisions = np.linalg.inv(best.mixture.covariances)
    again = fit_array(
        X,
        2,
        covariance_type=covariance_type,
        weights_init=best.mixture.weights,
        means_init=best.mixture.means,
        precisions_init=precisions,
    )
    assert again.n_iter <= 2
    assert again.log_likelihood == pytest.approx(best.log_likelihood, abs=1e-6)


def test_means_alone_decide_which_optimum_is_reached():
    X, labels = clusters(np.random.default_rng(0), 4, 2, 400, 20.0)
    means = np.array([X[labels == j].mean(axis=0) for j in range(4)])
    found = fit_array(X, 4, means_init=means)
    for mean in means:
        assert np.abs(found.mixture.means - mean).max(axis=1).min() < 1e-6


@pytest.mark.parametrize("dtype", [np.float32, np.int64, object])
def test_rows_of_any_number_type_are_fitted_in_double_precision(dtype):
    whole = np.round(X * [1000, 1])
    init = "auto" if dtype is np.float32 else "k-means++"
    expected = fit_array(whole, 2, init=init)
    found = fit_array(whole.astype(dtype), 2, init=init)
    assert found.log_likelihood == pytest.approx(expected.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(found.mixture.means, expected.mixture.means, rtol=1e-9)


def test_the_callers_arrays_are_left_alone():
    rows, weights = X.copy(), np.ones(len(X))
    rows.setflags(write=False)
    weights.setflags(write=False)
    fit_array(rows, 2, sample_weight=weights)
    np.testing.assert_array_equal(rows, X)


def test_rows_beyond_the_pilot_sample_all_count():
    rng = np.random.default_rng(0)
    truth = random_mixture(rng, 3, 2, "full", spread=6.0)
    rows, _ = truth.sample(60_000, seed=1)
    found = fit_array(rows, 3, reg_covar=0)
    assert found.converged
    assert found.log_likelihood >= truth.log_likelihood(rows)
    assert found.log_likelihood == pytest.approx(found.mixture.log_likelihood(rows), rel=1e-10)
    onwards = fit_array(
        rows,
        3,
        reg_covar=0,
        tol=1e-11,
        weights_init=found.mixture.weights,
        means_init=found.mixture.means,
        precisions_init=np.linalg.inv(found.mixture.covariances),
    )
    assert onwards.log_likelihood - found.log_likelihood < 2e-6 * len(rows)


def test_weights_count_in_the_pilot_sample_too():
    rng = np.random.default_rng(1)
    rows = np.r_[rng.standard_normal((20_000, 1)), 8 + rng.standard_normal((20_000, 1))]
    w = np.repeat([3.0, 1.0], 20_000)
    mixture = fit_array(rows, 2, sample_weight=w).mixture
    np.testing.assert_allclose(mixture.weights, [0.75, 0.25], atol=2e-3)


@pytest.mark.parametrize("n", [1, 2])
def test_too_few_rows_for_any_mixture_are_refused_in_words(n):
    with pytest.raises(SparkGmmError):
        fit_array(X[:n], 1)


def test_lists_of_k_and_types_are_candidates_of_which_the_criterion_chooses():
    found = fit_array(X, [1, 2, 3], covariance_type=["full", "tied"])
    asked = {(c.k, c.covariance_type): c for c in found.candidates}
    assert set(asked) == {(k, name) for k in (1, 2, 3) for name in ("full", "tied")}
    best = min(asked.values(), key=lambda c: c.bic)
    assert (best.k, best.covariance_type) == (3, "tied")  # as mclust has it
    assert found.mixture == best.mixture
    assert found.log_likelihood == best.log_likelihood
    by_icl = fit_array(X, range(1, 4), criterion="icl", init="k-means++")
    assert by_icl.mixture.k == min(by_icl.candidates, key=lambda c: c.icl).k


def test_one_k_is_a_single_candidate():
    found = fit_array(X, 2)
    assert [c.mixture for c in found.candidates] == [found.mixture]


def test_a_start_may_serve_several_types_but_not_several_k():
    found = fit_array(X, 2, covariance_type=["full", "diag"], means_init=[[2, 55], [4.3, 80]])
    assert len(found.candidates) == 2
    with pytest.raises(InputError, match=r"means_init is for one k, and k is \[2, 3\]: give one"):
        fit_array(X, [2, 3], means_init=[[2, 55], [4.3, 80]])
    with pytest.raises(InputError, match=r"k is \[\]: give one or more"):
        fit_array(X, [])
    with pytest.raises(InputError, match="k is 0"):
        fit_array(X, [0, 1])


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_precisions_in_the_shape_of_their_type_start_where_dense_ones_do(kind):
    start = fit_array(X, 2, covariance_type=kind, max_iter=3).mixture
    dense = np.linalg.inv(start.covariances)
    compact = {
        "tied": lambda: np.linalg.inv(start.compact_covariances),
        "diag": lambda: 1 / start.compact_covariances,
        "spherical": lambda: 1 / start.compact_covariances,
    }.get(kind, lambda: dense)()
    first = [
        fit_array(
            X, 2, covariance_type=kind, means_init=start.means, precisions_init=p, max_iter=1
        ).log_likelihoods[0]
        for p in (dense, compact)
    ]
    assert first[0] == pytest.approx(first[1], rel=1e-10)


TWO = np.r_[np.random.default_rng(0).normal(0, 1, (60, 2)), np.full((60, 2), 6.0)]
TWO[60:] += np.random.default_rng(1).normal(0, 1, (60, 2))
AT = [[0, 0], [6, 6]]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"means_init": [[0, 0]]}, r"means_init has shape \(1, 2\): give \(2, 2\)"),
        ({"means_init": [[0], [6]]}, r"means_init has shape \(2, 1\): give \(2, 2\)"),
        ({"means_init": [["a", "b"], ["c", "d"]]}, "means_init is no array of numbers"),
        ({"means_init": [[1e200, 0], [0, 0]]}, r"means_init holds 1e\+200 .* far from the rows"),
        ({"means_init": AT, "weights_init": [0.3, 0.3, 0.4]}, r"weights_init has shape \(3,\)"),
        ({"means_init": AT, "weights_init": [0.3, 0.3]}, r"weights_init is \[0.3, 0.3\], sum 0.6"),
        ({"means_init": AT, "precisions_init": "ab"}, "precisions_init is no array of numbers"),
        ({"means_init": AT, "precisions_init": [-np.eye(2)] * 2}, "precisions_init is not posit"),
        ({"means_init": AT, "precisions_init": np.eye(3)}, r"precisions_init has shape \(3, 3\)"),
        ({"sample_weight": ["a"] * 120}, "sample_weight is no array of numbers"),
        ({"sample_weight": np.ones(120) + 1j}, "sample_weight is no array of numbers"),
        ({"sample_weight": np.ones((120, 2))}, r"sample_weight has shape \(120, 2\)"),
        ({"sample_weight": -np.ones(120)}, "sample_weight holds -1: give finite weights"),
    ],
)
def test_what_cannot_be_started_from_or_weighed_by_is_named(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        fit_array(TWO, 2, **given)


def test_a_weight_of_nought_to_start_from_is_quiet() -> None:
    found = fit_array(TWO, 2, means_init=AT, weights_init=[1, 0])  # a warning would be an error
    assert np.allclose(found.mixture.weights, 0.5, atol=0.02)


def test_means_of_a_table_are_taken_by_name() -> None:
    table = pd.DataFrame(TWO * [1, 10], columns=["a", "b"])
    means = pd.DataFrame([[0, 0], [60, 6]], columns=["b", "a"])
    found = fit_array(table, 2, means_init=means)
    assert np.array_equal(
        found.mixture.means, fit_array(table, 2, means_init=means[["a", "b"]]).mixture.means
    )
    with pytest.raises(InputError, match="means_init has no column 'a': its columns are b, z"):
        fit_array(table, 2, means_init=means.rename(columns={"a": "z"}))


def test_fewer_rows_than_a_value_needs_to_be_an_atom_are_fitted() -> None:
    X = np.array([[0.0], [0.3], [0.7], [9.0], [9.4], [9.6], [9.9]])
    np.testing.assert_allclose(fit_array(X, 2).mixture.weights, [4 / 7, 3 / 7])


def test_a_name_that_two_columns_of_numbers_have_is_refused_before_the_fit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr("sparkgmm.core.local.fit", lambda *_, **__: pytest.fail("it was fitted"))
    X = pandas.DataFrame(faithful(), columns=["tip", "tip"])
    with pytest.raises(InputError, match="X has column 'tip' more than once: give each a name"):
        fit_array(X, 2)
