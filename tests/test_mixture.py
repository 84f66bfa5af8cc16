import copy
import json
import math
import pickle
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from helpers.data_sets import ROOT, TEXTBOOK, faithful, iris, random_mixture
from helpers.oracle import e_step
from sparkgmm import Mixture
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES, n_parameters

FORMAT_1 = ROOT / "tests" / "data" / "models" / "format-1"
WEIGHTS = [0.25, 0.75]
MEANS = [[0.0, 1.0], [2.0, 3.0]]
COVARIANCES = [[[1.0, 0.2], [0.2, 2.0]], [[3.0, 0.0], [0.0, 1.0]]]


@pytest.fixture
def mixture():
    return Mixture(WEIGHTS, MEANS, COVARIANCES, features=["a", "b"])


def as_sklearn(mixture):
    """Return scikit-learn's model with the very same parameters."""
    theirs = GaussianMixture(mixture.k, covariance_type=mixture.covariance_type)
    dense = mixture.covariances
    theirs.weights_, theirs.means_ = mixture.weights, mixture.means
    theirs.covariances_ = {
        "full": dense,
        "tied": dense[0],
        "diag": np.einsum("kii->ki", dense),
        "spherical": dense[:, 0, 0],
    }[mixture.covariance_type]
    if mixture.covariance_type in ("full", "tied"):
        L = np.linalg.cholesky(theirs.covariances_)
        theirs.precisions_cholesky_ = np.swapaxes(np.linalg.inv(L), -1, -2)
    else:
        theirs.precisions_cholesky_ = 1 / np.sqrt(theirs.covariances_)
    theirs.n_features_in_ = mixture.d
    return theirs


# --- what it computes


@pytest.mark.parametrize(
    ("covariance_type", "expected"), [("full", 41), ("tied", 26), ("diag", 21), ("spherical", 13)]
)
def test_free_parameters_of_two_components_in_five_dimensions(covariance_type, expected):
    assert n_parameters(2, 5, covariance_type) == expected
    rng = np.random.default_rng(0)
    assert random_mixture(rng, 2, 5, covariance_type).n_parameters == expected


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_densities_and_responsibilities_are_the_textbook_formula(covariance_type, d):
    rng = np.random.default_rng(d)
    mixture = random_mixture(rng, 3, d, covariance_type)
    X, _ = mixture.sample(200, seed=1)
    expected = e_step(mixture, X)
    np.testing.assert_allclose(mixture.log_density(X), expected.log_density, rtol=0, atol=1e-9)
    np.testing.assert_allclose(mixture.responsibilities(X), expected.responsibilities, atol=1e-9)


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
@pytest.mark.parametrize("data", [faithful, iris])
def test_scoring_agrees_with_scikit_learn_at_the_same_parameters(covariance_type, data):
    X = data()
    theirs = GaussianMixture(3, covariance_type=covariance_type, random_state=0).fit(X)
    d = X.shape[1]
    dense = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (3, d, d)),
        "diag": lambda c: c[:, :, None] * np.eye(d),
        "spherical": lambda c: c[:, None, None] * np.eye(d),
    }[covariance_type](theirs.covariances_)
    ours = Mixture(theirs.weights_, theirs.means_, dense, covariance_type)
    np.testing.assert_allclose(ours.log_density(X), theirs.score_samples(X), rtol=1e-10)
    np.testing.assert_allclose(ours.responsibilities(X), theirs.predict_proba(X), atol=1e-10)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.log_likelihood(X) == pytest.approx(theirs.score(X) * len(X), rel=1e-12)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-12)
    assert ours.aic(X) == pytest.approx(theirs.aic(X), rel=1e-12)


@pytest.mark.parametrize("covariance_type", TEXTBOOK)
def test_scoring_agrees_with_scikit_learn_in_many_dimensions(covariance_type):
    rng = np.random.default_rng(4)
    ours = random_mixture(rng, 4, 40, covariance_type, spread=0.2)
    X, _ = ours.sample(300, seed=2)
    theirs = as_sklearn(ours)
    np.testing.assert_allclose(ours.log_density(X), theirs.score_samples(X), rtol=1e-10)
    np.testing.assert_allclose(ours.responsibilities(X), theirs.predict_proba(X), atol=1e-9)
    assert ours.bic(X) == pytest.approx(theirs.bic(X), rel=1e-12)


def test_icl_is_bic_plus_twice_the_entropy(mixture):
    X, _ = mixture.sample(500, seed=0)
    R = e_step(mixture, X).responsibilities
    entropy = -(R * np.log(R)).sum()
    assert entropy > 10
    assert mixture.icl(X) == pytest.approx(mixture.bic(X) + 2 * entropy, rel=1e-12)


def test_icl_is_finite_where_a_responsibility_is_zero(mixture):
    X = np.array([[1e5, 1e5], [0.0, 1.0]])
    assert math.isfinite(mixture.icl(X))


@pytest.mark.parametrize("criterion", ["log_likelihood", "aic", "bic", "icl"])
def test_a_weight_of_three_counts_as_three_rows(mixture, criterion):
    X, _ = mixture.sample(50, seed=0)
    w = np.arange(50) % 4
    value = getattr(mixture, criterion)
    assert value(X, w) == pytest.approx(value(np.repeat(X, w, axis=0)), rel=1e-12)


def test_scoring_in_chunks_is_scoring_row_by_row():
    rng = np.random.default_rng(0)
    mixture = random_mixture(rng, 3, 2, "full")
    X, _ = mixture.sample(50_000, seed=0)
    picked = np.r_[0:50_000:997, 49_999]
    alone = np.array([mixture.log_density(X[i : i + 1])[0] for i in picked])
    np.testing.assert_allclose(mixture.log_density(X)[picked], alone, rtol=1e-12)


def test_float32_and_integer_rows_and_lists_are_scored_in_double_precision(mixture):
    X = np.array([[1, 2], [30, -4]])
    expected = mixture.log_density(X.astype(float))
    np.testing.assert_array_equal(mixture.log_density(X), expected)
    np.testing.assert_array_equal(mixture.log_density(X.astype(np.float32)), expected)
    np.testing.assert_array_equal(mixture.log_density(X.tolist()), expected)


def test_no_rows_give_no_scores(mixture):
    assert mixture.log_density(np.empty((0, 2))).shape == (0,)
    assert mixture.responsibilities(np.empty((0, 2))).shape == (0, 2)
    assert mixture.predict(np.empty((0, 2))).shape == (0,)


# --- log density and responsibilities at once, and the fast way to them


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize(("k", "d"), [(1, 1), (3, 2), (10, 10), (2, 40)])
def test_score_is_log_density_and_responsibilities(k, d, covariance_type):
    mixture = random_mixture(np.random.default_rng(k), k, d, covariance_type)
    X, _ = mixture.sample(5000, seed=0)
    scores = mixture.score(X)
    np.testing.assert_array_equal(scores.log_density, mixture.log_density(X))
    np.testing.assert_array_equal(scores.responsibilities, mixture.responsibilities(X))
    assert scores.responsibilities.shape == (5000, k)


def residuals_only(mixture):
    """Return the same mixture without its fast way."""
    twin = Mixture(mixture.weights, mixture.means, mixture.covariances, mixture.covariance_type)
    object.__setattr__(twin, "_density", replace(twin._density, polynomial=None))
    return twin


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("spread", [1e-3, 1.0, 4.0])
def test_the_polynomial_is_right_to_1e_10_wherever_it_is_used(covariance_type, spread):
    mixture = random_mixture(np.random.default_rng(5), 10, 10, covariance_type, spread)
    assert mixture._density.polynomial is not None
    near, _ = mixture.sample(2000, seed=0)
    reach, factor, shift = (
        getattr(mixture._density.polynomial, f) for f in ("reach", "factor", "shift")
    )
    u = np.random.default_rng(1).uniform(-1, 1, (2000, 10))
    corners = shift.T + reach * np.sign(u) / factor.T
    X = np.concatenate([near, shift.T + reach * u / factor.T, corners * (1 - 1e-12)])
    exact = residuals_only(mixture)
    expected = exact.log_density(X)
    np.testing.assert_allclose(mixture.log_density(X), expected, rtol=1e-15, atol=1e-10)
    assert np.abs(mixture.responsibilities(near) - exact.responsibilities(near)).max() < 1e-10


def test_rows_beyond_the_reach_of_the_polynomial_are_scored_by_their_residuals():
    mixture = random_mixture(np.random.default_rng(5), 10, 10, "full")
    X, _ = mixture.sample(3000, seed=0)
    X[::7] *= 1e4
    expected = residuals_only(mixture).score(X)
    found = mixture.score(X)
    np.testing.assert_array_equal(found.log_density[::7], expected.log_density[::7])
    np.testing.assert_allclose(found.log_density, expected.log_density, rtol=1e-12, atol=1e-10)


def test_narrow_components_far_apart_are_not_left_to_a_polynomial_that_cancels():
    means = 1e6 * np.arange(6.0)[:, None] * [1, -1]
    mixture = Mixture(np.full(6, 1 / 6), means, np.tile(1e-6 * np.eye(2), (6, 1, 1)))
    assert mixture._density.polynomial is None
    X, _ = mixture.sample(500, seed=0)
    np.testing.assert_allclose(
        mixture.log_density(X), e_step(mixture, X).log_density, rtol=0, atol=1e-7
    )


def test_features_of_timestamps_and_rates_keep_their_digits():
    rng = np.random.default_rng(0)
    small = random_mixture(rng, 4, 2, "full")
    unit, offset = np.array([1e3, 1e-8]), np.array([1.7e12, 0.0])
    moved = Mixture(
        small.weights, small.means * unit + offset, small.covariances * np.outer(unit, unit)
    )
    X, _ = small.sample(1000, seed=1)
    np.testing.assert_allclose(
        moved.responsibilities(X * unit + offset), small.responsibilities(X), atol=1e-5
    )


def test_rows_may_be_given_feature_major_without_a_copy_of_another_kind(mixture):
    X, _ = mixture.sample(1000, seed=0)
    turned = np.asfortranarray(X)
    np.testing.assert_array_equal(mixture.score(turned).log_density, mixture.log_density(X))


@pytest.mark.parametrize("X", [3.0, [1.0, 2.0], [[1.0, 2.0, 3.0]]])
def test_score_refuses_rows_of_another_shape(mixture, X):
    with pytest.raises(InputError, match=r"X has shape \(.*\): give \(n, 2\)"):
        mixture.score(X)


# --- rows far out


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("far", [1e3, 1e8, 1e16, 1e100, 1e154, 1e160, 1e300, 1.7e308])
def test_responsibilities_are_finite_and_sum_to_one_however_far_out(covariance_type, far):
    mixture = random_mixture(np.random.default_rng(7), 3, 3, covariance_type)
    X = far * np.array([[1, 0, 0], [0, -1, 0], [1, 1, 1], [-1, 1, 0.5], [1e-200, 0, 1]])
    R = mixture.responsibilities(X)
    assert np.isfinite(R).all()
    np.testing.assert_allclose(R.sum(axis=1), 1, rtol=1e-12)
    assert not np.isnan(mixture.log_density(X)).any()
    np.testing.assert_array_equal(mixture.predict(X), R.argmax(axis=1))


def test_a_row_far_out_goes_to_the_component_that_is_widest_in_its_direction():
    mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [1.0, 0.0]], [np.diag([1, 9]), np.diag([9, 1])])
    X = np.array([[1e300, 0], [0, 1e300], [-1e200, 1e190], [1e190, -1e200]])
    np.testing.assert_array_equal(mixture.predict(X), [1, 0, 1, 0])


def test_the_origin_is_no_special_row_for_components_far_away():
    mixture = Mixture([0.5, 0.5], [[1e200], [3e200]], [[[1.0]], [[1.0]]])
    np.testing.assert_array_equal(mixture.responsibilities([[0.0], [4e200]]), [[1, 0], [0, 1]])


def test_a_component_without_weight_never_takes_a_row():
    mixture = Mixture([1.0, 0.0], [[0.0], [0.0]], [[[1.0]], [[100.0]]])
    np.testing.assert_array_equal(mixture.responsibilities([[0.0], [5.0], [1e200]])[:, 1], 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["log_density", "responsibilities", "predict", "bic"])
def test_a_row_that_is_not_finite_is_refused_not_given_to_some_component(mixture, bad, method):
    with pytest.raises(InputError, match=r"X holds \[0.0, (nan|-?inf)\] in row 1: give finite"):
        getattr(mixture, method)([[0.0, 0.0], [0.0, bad]])


# --- a value


@pytest.mark.parametrize("name", ["weights", "means", "covariances"])
def test_arrays_cannot_be_written(mixture, name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(mixture, name)[0] = 1


@pytest.mark.parametrize("name", ["weights", "covariance_type", "k", "anything"])
def test_attributes_cannot_be_set_or_deleted(mixture, name):
    with pytest.raises(AttributeError, match=f"a Mixture is immutable: {name} cannot be set"):
        setattr(mixture, name, 1)
    with pytest.raises(AttributeError, match=f"a Mixture is immutable: {name} cannot be deleted"):
        delattr(mixture, name)


def test_the_callers_arrays_are_copied_and_stay_writable():
    weights, means, covariances = map(np.array, (WEIGHTS, MEANS, COVARIANCES))
    mixture = Mixture(weights, means, covariances)
    weights[0], means[0], covariances[0] = 9, 9, 9
    np.testing.assert_array_equal(mixture.weights, WEIGHTS)
    np.testing.assert_array_equal(mixture.means, MEANS)
    np.testing.assert_array_equal(mixture.covariances, COVARIANCES)


def test_equal_parameters_make_equal_mixtures(mixture):
    twin = Mixture(WEIGHTS, MEANS, COVARIANCES, features=("a", "b"))
    assert mixture == twin
    assert hash(mixture) == hash(twin)
    assert mixture != Mixture(WEIGHTS, MEANS, COVARIANCES)
    assert mixture != Mixture(WEIGHTS, np.nextafter(MEANS, 9), COVARIANCES, features=("a", "b"))
    assert mixture != "something else"


@pytest.mark.parametrize(
    "through", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_copies_and_pickles_are_equal_and_still_score(mixture, through):
    twin = through(mixture)
    assert twin == mixture
    np.testing.assert_array_equal(twin.log_density(MEANS), mixture.log_density(MEANS))


def test_repr_shows_size_type_and_weights(mixture):
    assert repr(mixture) == "Mixture(k=2, d=2, covariance_type='full', weights=[0.25, 0.75])"


# --- checks on construction


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": [0.3, 0.3]}, r"weights are \[0.3, 0.3\], sum 0.6: give shares that sum to 1"),
        ({"weights": [-0.5, 1.5]}, r"weights are \[-0.5, 1.5\].*: give shares that sum to 1"),
        ({"weights": [np.nan, 1]}, "weights holds nan: give finite numbers"),
        ({"weights": [[0.25, 0.75]]}, r"weights has shape \(1, 2\): 1 dimension\(s\) are needed"),
        ({"weights": []}, r"weights has shape \(0,\): 1 dimension"),
        ({"weights": ["a", "b"]}, "weights is not an array of numbers: could not convert"),
        (
            {"weights": [1.0]},
            r"weights \(1,\), means \(2, 2\) .* do not fit.*give \(k,\), \(k, d\)",
        ),
        ({"means": [0.0, 1.0]}, r"means has shape \(2,\): 2 dimension\(s\) are needed"),
        ({"means": [[0.0, np.inf], [0, 0]]}, "means holds inf: give finite numbers"),
        ({"means": [[0.0, 1.0], [2.0]]}, "means is not an array of numbers"),
        ({"means": [[0.0], [1.0]]}, r"means \(2, 1\) and covariances \(2, 2, 2\) do not fit"),
        ({"covariances": np.eye(2)}, r"covariances has shape \(2, 2\): 3 dimension\(s\)"),
        ({"covariances": np.full((2, 2, 2), np.nan)}, "covariances holds nan: give finite"),
        ({"covariances": [np.eye(2), [[1, 0.5], [0.4, 1]]]}, "covariance 1 is not symmetric"),
        (
            {"covariances": [np.eye(2), [[1, 2], [2, 1]]]},
            r"covariance 1 is not positive definite \(smallest eigenvalue -1\): raise reg_covar",
        ),
        ({"covariances": np.zeros((2, 2, 2))}, "covariance 0 is not positive definite"),
        (
            {"covariance_type": "round"},
            "covariance_type is 'round': use one of full, tied, diag, spherical",
        ),
        ({"features": ["a"]}, "features holds 1 names for 2 columns of means"),
    ],
)
def test_a_bad_construction_names_the_argument_the_value_and_the_remedy(change, message):
    good = {"weights": WEIGHTS, "means": MEANS, "covariances": COVARIANCES}
    Mixture(**good)
    with pytest.raises(InputError, match=message):
        Mixture(**(good | change))


def test_asymmetry_of_rounding_size_is_mended():
    skew = np.array([[[1.0, 0.3], [0.3 + 1e-12, 1.0]]])
    mixture = Mixture([1.0], [[0.0, 0.0]], skew)
    np.testing.assert_array_equal(mixture.covariances, mixture.covariances.transpose(0, 2, 1))


@pytest.mark.parametrize("X", [[1.0, 2.0], [[1.0, 2.0, 3.0]], [[[1.0, 2.0]]]])
def test_rows_of_another_width_are_refused(mixture, X):
    with pytest.raises(InputError, match=r"X has shape \(.*\): give \(n, 2\)"):
        mixture.log_density(X)


# --- JSON


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_json_keeps_every_bit(covariance_type):
    original = random_mixture(np.random.default_rng(3), 3, 4, covariance_type)
    read = Mixture.from_json(original.to_json())
    for name in ("weights", "means", "covariances"):
        assert getattr(read, name).tobytes() == getattr(original, name).tobytes()
    assert read.covariance_type == covariance_type
    assert read.features is None
    assert read == original


WRITTEN = {"tied": (4, 4), "diag": (3, 4), "spherical": (3,)}


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_covariances_are_taken_kept_and_written_in_the_shape_of_their_type(covariance_type):
    dense = random_mixture(np.random.default_rng(3), 3, 4, covariance_type)
    shape = WRITTEN.get(covariance_type, (3, 4, 4))
    assert dense.compact_covariances.shape == shape
    assert np.shape(dense.to_dict()["covariances"]) == shape
    compact = Mixture(dense.weights, dense.means, dense.compact_covariances, covariance_type)
    assert compact == dense
    assert compact.covariances.shape == (3, 4, 4)
    np.testing.assert_array_equal(compact.covariances, dense.covariances)
    np.testing.assert_array_equal(compact.variances, np.einsum("kii->ki", dense.covariances))
    for array in (compact.covariances, compact.compact_covariances, compact.variances):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0.0


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_model_of_format_1_is_read_as_it_was(covariance_type):
    values = json.loads((FORMAT_1 / f"{covariance_type}.json").read_text())
    assert values["format_version"] == 1
    mixture = Mixture.from_json(json.dumps(values))
    for name in ("weights", "means"):
        assert getattr(mixture, name).tolist() == values[name]
    close = {"rtol": 1e-15} if covariance_type == "spherical" else {"rtol": 0}
    np.testing.assert_allclose(mixture.covariances, values["covariances"], **close)
    expected = values["log_density_of_the_first_rows"]
    np.testing.assert_allclose(mixture.log_density(iris()[:5]), expected, rtol=1e-13, atol=1e-13)
    again = Mixture.from_json(mixture.to_json())
    assert json.loads(mixture.to_json())["format_version"] == 2
    assert again == mixture


@pytest.mark.parametrize(
    ("covariance_type", "covariances", "message"),
    [
        ("diag", [[1.0, 1.0], [0.0, 1.0]], "covariance 1 is not positive definite"),
        ("diag", [[1.0, -2.0], [1.0, 1.0]], r"covariance 0 is .*smallest eigenvalue -2\)"),
        ("spherical", [1.0, -0.5], r"covariance 1 is not positive .*smallest eigenvalue -0.5\)"),
        ("tied", [[1.0, 2.0], [2.0, 1.0]], "covariance 0 is not positive definite"),
        ("tied", [[1.0, 0.5], [0.2, 1.0]], "covariance 0 is not symmetric"),
        ("diag", [[1.0, 1.0, 1.0]] * 2, r"give \(k,\), \(k, d\) and \(k, d\) or \(k, d, d\)$"),
        ("spherical", [1.0] * 3, r"give \(k,\), \(k, d\) and \(k,\) or \(k, d, d\)$"),
        ("tied", np.eye(3), r"give \(k,\), \(k, d\) and \(d, d\) or \(k, d, d\)$"),
        ("full", np.ones((2, 2)), r"covariances has shape \(2, 2\): 3 dimension"),
        ("diag", np.ones(2), r"covariances has shape \(2,\): 3 or 2 dimension"),
    ],
)
def test_compact_covariances_are_checked_as_dense_ones_are(covariance_type, covariances, message):
    with pytest.raises(InputError, match=message):
        Mixture(WEIGHTS, MEANS, covariances, covariance_type)


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
def test_a_diagonal_mixture_of_many_features_never_makes_a_matrix(covariance_type):
    d = 20_000  # a matrix of so many features would take 3.2 GB
    shape = (2, d) if covariance_type == "diag" else (2,)
    means = np.arange(2.0 * d).reshape(2, d) / d
    tracemalloc.start()
    try:
        mixture = Mixture([0.25, 0.75], means, np.full(shape, 4.0), covariance_type)
        X, labels = mixture.sample(5, seed=0)
        expected = -0.5 * (((X - means[labels]) ** 2 / 4).sum(axis=1) + d * math.log(8 * math.pi))
        expected += np.log(mixture.weights[labels])
        np.testing.assert_allclose(mixture.log_density(X), expected, rtol=1e-12)
        assert Mixture.from_json(mixture.to_json()) == pickle.loads(pickle.dumps(mixture))
        assert "19992 more" in mixture._repr_html_()
        assert tracemalloc.get_traced_memory()[1] < 1e8
    finally:
        tracemalloc.stop()


def test_json_keeps_names_of_any_alphabet():
    mixture = Mixture([1.0], [[0.0, 0.0]], [np.eye(2)], features=["größe", '日本"\n'])
    assert Mixture.from_json(mixture.to_json()).features == ("größe", '日本"\n')


def test_json_keeps_the_smallest_and_largest_numbers():
    mixture = Mixture([1.0], [[5e-324, -1.7976931348623157e308]], [np.diag([1e-300, 1e300])])
    assert Mixture.from_json(mixture.to_json()) == mixture


def test_json_of_a_run_with_more_keys_is_read(mixture):
    text = json.dumps(mixture.to_dict() | {"run_id": "x", "log_likelihood": -1.0})
    assert Mixture.from_json(text) == mixture


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 4}, "format_version is 4, this sparkgmm reads 1 to 3: update sparkgmm"),
        ({"format_version": True}, "format_version is True, this sparkgmm reads 1 to 3"),
        ({"format_version": None}, "format_version is None, this sparkgmm reads 1 to 3"),
        ({"means": [[float("nan"), 1.0], [2.0, 3.0]]}, "means holds nan: give finite numbers"),
        ({"means": "x"}, "means is not an array of numbers"),
        ({"means": None}, "means"),
        ({"covariances": [[[1, 2], [2, 1]]] * 2}, "covariance 0 is not positive definite"),
        ({"weights": [1.0, 1.0]}, r"weights are \[1.0, 1.0\], sum 2: give"),
        ({"covariance_type": ["full"]}, r"covariance_type is \['full'\]: use one of"),
        ({"features": 3}, "features is 3: give a list of 2 names"),
    ],
)
def test_a_model_that_fails_the_checks_is_refused(mixture, change, message):
    with pytest.raises(InputError, match=message):
        Mixture.from_json(json.dumps(mixture.to_dict() | change))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the model is not valid JSON .*: write it again"),
        ('{"weights": [1.0', "the model is not valid JSON"),
        ("[1, 2]", "the model has no weights, means and covariances: is it a model.json"),
        ("null", "the model has no weights, means and covariances"),
        ('{"weights": [1.0]}', "the model has no weights, means and covariances"),
    ],
)
def test_text_that_is_no_model_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        Mixture.from_json(text)


# --- samples


def test_a_sample_has_the_moments_of_the_mixture():
    mixture = random_mixture(np.random.default_rng(5), 3, 2, "full")
    n = 200_000
    X, labels = mixture.sample(n, seed=1)
    assert (X.shape, labels.shape, labels.dtype) == ((n, 2), (n,), np.int64)
    for j in range(3):
        share = mixture.weights[j]
        assert (labels == j).mean() == pytest.approx(share, abs=5 * math.sqrt(share / n))
        mine = X[labels == j]
        sd = np.sqrt(np.diagonal(mixture.covariances[j]))
        five_errors = 5 / math.sqrt(len(mine))
        np.testing.assert_allclose((mine.mean(axis=0) - mixture.means[j]) / sd, 0, atol=five_errors)
        excess = (np.cov(mine.T) - mixture.covariances[j]) / np.outer(sd, sd)
        np.testing.assert_allclose(excess, 0, atol=math.sqrt(2) * five_errors)


def test_a_seed_gives_the_same_sample_and_none_another(mixture):
    X, labels = mixture.sample(100, seed=3)
    X_again, labels_again = mixture.sample(100, seed=3)
    np.testing.assert_array_equal(X, X_again)
    np.testing.assert_array_equal(labels, labels_again)
    assert not np.array_equal(mixture.sample(100)[0], mixture.sample(100)[0])


def test_a_sample_may_be_empty_but_not_less(mixture):
    assert mixture.sample(0)[0].shape == (0, 2)
    with pytest.raises(InputError, match="n is -1: give an integer of 0 or more"):
        mixture.sample(-1)


def test_scoring_and_fitting_arrays_load_no_spark():
    code = (
        "import sys; from sparkgmm import Mixture, fit_array; "
        "print(*sorted({m.split('.')[0] for m in sys.modules} "
        "& {'pyspark', 'py4j', 'pandas', 'pyarrow', 'sklearn', 'pydantic'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("covariance_type", "covariances"),
    [
        ("diag", [[[1, 0.2], [0.2, 1]]] * 2),
        ("tied", [np.eye(2), 2 * np.eye(2)]),
        ("spherical", [np.diag([1.0, 2.0])] * 2),
    ],
)
def test_covariances_that_contradict_their_type_are_refused(covariance_type, covariances):
    with pytest.raises(InputError, match=f"which is not {covariance_type}: give"):
        Mixture([0.5, 0.5], [[0, 0], [1, 1]], covariances, covariance_type)


# --- in a notebook


def cells_of(html):
    """Return the text of each row's cells, as a browser reads them."""
    root = ElementTree.fromstring(html)  # it is well-formed, and holds no entity but XML's own
    return [[cell.text or "" for cell in row] for row in root.iter("tr")]


def test_a_notebook_shows_weights_means_and_standard_deviations(mixture):
    head, first, second = cells_of(mixture._repr_html_())
    assert head == ["component", "weight", "a", "b"]
    assert first == ["0", "0.2500", "0.00 ± 1.00", "1.00 ± 1.41"]
    assert second == ["1", "0.7500", "2.00 ± 1.73", "3.00 ± 1.00"]
    assert "full covariance" in mixture._repr_html_()


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "等待时间",
        "$x$",
        "a & b",
        "\"double\" 'single'",
        "&lt;",
        "y" * 300,
    ],
)
def test_a_notebook_shows_a_name_as_the_text_that_it_is(name):
    html = Mixture(WEIGHTS, MEANS, COVARIANCES, features=[name, "b"])._repr_html_()
    assert cells_of(html)[0][2] == name
    assert "<script" not in html


def test_a_notebook_shows_the_first_of_many_features_and_counts_the_rest():
    wide = random_mixture(np.random.default_rng(0), 2, 30, "diag")
    rows = cells_of(wide._repr_html_())
    assert rows[0][-2:] == ["x7", "… 22 more"]
    assert {len(row) for row in rows} == {11}
    narrow = random_mixture(np.random.default_rng(0), 2, 8, "diag")
    assert cells_of(narrow._repr_html_())[0][-1] == "x7"


@pytest.mark.parametrize(
    ("offset", "unit"), [(1.7e12, 1.0), (0.0, 1e-9), (-3.0, 1e12), (1e9, 1e-3)]
)
def test_a_notebook_tells_apart_what_a_standard_deviation_parts(offset, unit):
    means = offset + unit * np.array([[0.0], [0.5], [1.0]])
    mixture = Mixture([0.4, 0.3, 0.3], means, np.full((3, 1, 1), unit**2))
    for row, mean in zip(cells_of(mixture._repr_html_())[1:], means[:, 0], strict=True):
        shown, sd = map(float, row[2].replace(",", "").split(" ± "))
        assert shown == pytest.approx(mean, abs=0.01 * unit)
        assert sd == pytest.approx(unit)


@pytest.mark.parametrize("n", [1.5, "3", True, None, -1])
def test_only_whole_numbers_of_rows_are_drawn(n: Any) -> None:
    mixture = Mixture([1.0], [[0.0]], [[[1.0]]])
    with pytest.raises(InputError, match=r"^n is .*: give an integer of 0 or more"):
        mixture.sample(n)
    with pytest.raises(InputError, match=r"^seed is .x. "):
        mixture.sample(2, seed="x")  # type: ignore[arg-type]


@pytest.mark.parametrize("text", [None, 3, {"weights": [1]}])
def test_a_model_that_is_no_text_is_named(text: Any) -> None:
    with pytest.raises(InputError, match=r"^the model is .*, not text: give what to_json returned"):
        Mixture.from_json(text)
