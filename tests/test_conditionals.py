"""Marginals, conditionals, expectations, imputation, surprise and quantiles of a mixture."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

from helpers.data_sets import TEXTBOOK, faithful, iris, random_mixture
from sparkgmm import Mixture, fit_array
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES

NAMES = ["a", "b", "c", "d"]


def mixture_of(covariance_type, k=3, d=4, seed=0, features=None):
    mixture = random_mixture(np.random.default_rng(seed), k, d, covariance_type)
    return Mixture(mixture.weights, mixture.means, mixture.covariances, covariance_type, features)


def log_pdf(mixture, rows):
    """Return the log density, a component at a time, by scipy."""
    parts = zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    joint = [np.log(w) + multivariate_normal(m, c).logpdf(rows) for w, m, c in parts]
    return np.logaddexp.reduce(joint, axis=0)


# --- marginal and condition


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_conditional_times_its_marginal_is_the_joint_density(covariance_type):
    mixture = mixture_of(covariance_type, features=NAMES)
    for row in mixture.sample(50, seed=1)[0]:
        given = {"d": row[3], "b": row[1]}
        joint = mixture.log_density([row])[0]
        product = (
            mixture.marginal(["d", "b"]).log_density([[row[3], row[1]]])[0]
            + mixture.condition(given).log_density([[row[0], row[2]]])[0]
        )
        assert product == pytest.approx(joint, abs=1e-12, rel=1e-12)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_a_marginal_is_the_density_of_a_samples_columns(covariance_type):
    mixture = mixture_of(covariance_type, features=NAMES)
    marginal = mixture.marginal(["c", "a"])
    assert marginal.features == ("c", "a")
    expected = Mixture(
        mixture.weights,
        mixture.means[:, [2, 0]],
        mixture.covariances[:, [2, 0]][:, :, [2, 0]],
    )
    rows = mixture.sample(100, seed=2)[0][:, [2, 0]]
    assert marginal.log_density(rows) == pytest.approx(expected.log_density(rows), abs=1e-11)


def test_a_density_integrates_to_its_marginal():
    mixture = mixture_of("full", d=2)
    at = float(mixture.means[0, 0])

    def density(y):
        return float(np.exp(mixture.log_density([[at, y]])[0]))

    low, high = (mixture.quantile(q, 1) for q in (1e-12, 1 - 1e-12))
    area = quad(density, low, high, epsrel=1e-10, limit=500, points=sorted(mixture.means[:, 1]))[0]
    assert mixture.marginal(0).log_density([[at]])[0] == pytest.approx(np.log(area), abs=1e-8)


@pytest.mark.parametrize(
    ("covariance_type", "kept"), [*((name, name) for name in TEXTBOOK), ("VEV", "full")]
)
def test_a_part_keeps_its_covariance_type_where_it_can(covariance_type, kept):
    mixture = mixture_of(covariance_type)
    assert mixture.marginal([0, 2]).covariance_type == kept
    assert mixture.condition({1: 0.0}).covariance_type == kept


def test_components_keep_their_order_when_one_becomes_impossible():
    mixture = Mixture([0.5, 0.5], [[0, 0], [1e3, 5]], [np.eye(2)] * 2)
    conditional = mixture.condition({0: 1e3})
    assert conditional.weights.tolist() == [0, 1]
    assert conditional.means.tolist() == [[0], [5]]


def test_a_value_far_out_has_the_nearest_component_alone():
    mixture = Mixture([0.5, 0.5], [[0, 0], [1, 5]], [np.eye(2), 4 * np.eye(2)])
    assert mixture.condition({0: 1e250}).weights.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.marginal(["a", "e"]), "no feature 'e': give some of a, b, c, d"),
        (lambda m: m.marginal(["a", "a"]), "a feature appears twice, give each once"),
        (lambda m: m.marginal([0, "a"]), "a feature appears twice, give each once"),
        (lambda m: m.marginal([4]), "no feature 4: give a position from 0 to 3"),
        (lambda m: m.marginal([-1]), "no feature -1: give a position from 0 to 3"),
        (lambda m: m.marginal([]), "features is empty: name one or more"),
        (lambda m: m.marginal(None), "features is None: give a list of names or positions"),
        (lambda m: m.condition({"a": np.nan}), "value of 'a' is nan: give a finite number"),
        (lambda m: m.condition({"a": "1"}), "value of 'a' is '1': give a finite number"),
        (lambda m: m.condition({"A": 1}), "no feature 'A'"),
        (lambda m: m.condition(dict.fromkeys(NAMES, 1)), "leave one or more without"),
        (lambda m: m.condition([1, 2]), r"the values are \[1, 2\]: give a mapping"),
        (lambda m: m.expect([[1, 2, 3]], "a"), r"X has shape \(1, 3\): give \(n, 4\)"),
        (lambda m: m.impute([[1, 2, 3, np.inf]]), "inf.* in row 0: give finite numbers, or NaN"),
        (lambda m: m.quantile(1.1, "a"), "q is 1.1: give shares from 0 to 1"),
        (lambda m: m.quantile(np.nan, "a"), "q is nan: give shares from 0 to 1"),
        (lambda m: m.quantile(0.5, ["a", "b"]), r"feature is \['a', 'b'\]: give one"),
    ],
)
def test_a_wrong_argument_is_named(call, message):
    with pytest.raises(InputError, match=message):
        call(mixture_of("full", features=NAMES))


def test_a_mixture_without_names_asks_for_positions():
    with pytest.raises(InputError, match="have no names: give positions from 0 to 3"):
        mixture_of("full").marginal("a")


def test_a_misspelt_feature_is_put_right():
    mixture = mixture_of("full", d=2, features=["eruptions", "waiting"])
    with pytest.raises(InputError, match="did you mean 'eruptions'"):
        mixture.marginal("eruption")


# --- expect


def test_one_component_expects_what_least_squares_predicts():
    X = iris()
    mixture = fit_array(X, 1, reg_covar=0).mixture
    mean, sd = mixture.expect(X, [2, 0])
    for column, feature in enumerate([2, 0]):
        others = [1, 3]
        design = np.column_stack([np.ones(len(X)), X[:, others]])
        coefficients, squares, *_ = np.linalg.lstsq(design, X[:, feature], rcond=None)
        assert mean[:, column] == pytest.approx(design @ coefficients, abs=1e-10)
        assert sd[:, column] == pytest.approx(np.sqrt(squares[0] / len(X)), abs=1e-10)


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
def test_an_expectation_is_the_mean_of_the_conditional_mixture(covariance_type):
    mixture = mixture_of(covariance_type, features=NAMES)
    rows = mixture.sample(20, seed=3)[0]
    mean, sd = mixture.expect(rows, ["d", "a"])
    for row, m, s in zip(rows, mean, sd, strict=True):
        conditional = mixture.condition({"b": row[1], "c": row[2]}).marginal(["d", "a"])
        w = conditional.weights
        expected = w @ conditional.means
        second = np.einsum("kii->ki", conditional.covariances) + conditional.means**2
        assert m == pytest.approx(expected, rel=1e-10, abs=1e-10)
        assert s == pytest.approx(np.sqrt(w @ second - expected**2), rel=1e-6)


def test_what_is_to_be_expected_is_not_looked_at():
    mixture = mixture_of("full")
    rows = mixture.sample(10, seed=4)[0]
    blind = rows.copy()
    blind[:, 2] = np.nan
    for one, other in zip(mixture.expect(rows, 2), mixture.expect(blind, 2), strict=True):
        assert one.tobytes() == other.tobytes()


def test_all_features_are_expected_as_the_mixture_has_them():
    mixture = mixture_of("full")
    mean, sd = mixture.expect(np.zeros((2, 4)), range(4))
    drawn = mixture.sample(400_000, seed=5)[0]
    assert mean[0] == pytest.approx(mixture.weights @ mixture.means, rel=1e-12)
    assert sd[1] == pytest.approx(drawn.std(axis=0), rel=0.01)


# --- impute


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_imputing_a_held_out_mask_beats_the_mean(covariance_type):
    X, rng = iris(), np.random.default_rng(6)
    train, test = X[::2], X[1::2]
    mask = rng.random(test.shape) < 0.25
    gaps = np.where(mask, np.nan, test)
    filled = fit_array(train, 3, covariance_type=covariance_type).mixture.impute(gaps)
    error = ((filled - test)[mask] ** 2).mean()
    of_the_mean = ((train.mean(axis=0) - test)[mask] ** 2).mean()
    assert error < 0.3 * of_the_mean
    assert (filled[~mask] == test[~mask]).all()


def test_a_gap_gets_its_expectation_whatever_else_the_row_lacks():
    mixture = mixture_of("full", features=NAMES)
    row = mixture.sample(1, seed=7)[0]
    gaps = np.repeat(row, 3, axis=0)
    gaps[0, [0, 3]] = gaps[1] = np.nan
    filled = mixture.impute(gaps)
    conditional = mixture.condition({"b": row[0, 1], "c": row[0, 2]})
    assert filled[0, [0, 3]] == pytest.approx(conditional.weights @ conditional.means, rel=1e-10)
    assert filled[1] == pytest.approx(mixture.weights @ mixture.means, rel=1e-12)
    assert filled[2].tobytes() == row[0].tobytes()


def test_nothing_to_impute_is_a_copy():
    X = faithful()
    filled = mixture_of("full", d=2).impute(X)
    assert filled.tobytes() == X.tobytes()
    assert filled is not X
    assert mixture_of("full").impute(np.empty((0, 4))).shape == (0, 4)


# --- surprise


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_surprise_is_the_density_less_that_of_the_others(covariance_type, d):
    mixture = mixture_of(covariance_type, d=d)
    rows = mixture.sample(100, seed=8)[0]
    rows[::3] = 3 * rows[::3]
    for i in range(d):
        others = [j for j in range(d) if j != i]
        known = log_pdf(mixture.marginal(others), rows[:, others]) if others else 0
        expected = known - log_pdf(mixture, rows)
        assert mixture.surprise(rows)[:, i] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_broken_cell_is_the_most_surprising():
    mixture = fit_array(iris(), 3).mixture
    rng = np.random.default_rng(9)
    sds = iris().std(axis=0)
    found = 0
    for _ in range(100):
        row = mixture.sample(1, seed=int(rng.integers(2**31)))[0]
        cell = int(rng.integers(4))
        row[0, cell] += rng.choice([-5, 5]) * sds[cell]
        found += int(np.argmax(mixture.surprise(row)[0]) == cell)
    assert found >= 95


@pytest.mark.parametrize("wild", [1e7, 1e30, 1e200, 1e308])
def test_a_wild_cell_leaves_the_surprise_of_the_other_finite_and_small(wild):
    mixture = Mixture([0.5, 0.5], [[0, 0], [1, 1]], [np.eye(2), np.diag([4.0, 1.0])])
    surprise = mixture.surprise([[wild, 1.0]])[0]
    # by the first feature the second component is certain; there the second has its mean
    assert surprise[1] == pytest.approx(0.5 * np.log(2 * np.pi), rel=1e-9)
    assert surprise[0] > 1e12


def test_a_gap_has_no_surprise_and_the_others_are_given_without_it():
    mixture = mixture_of("full")
    row = mixture.sample(1, seed=10)[0]
    gaps = row.copy()
    gaps[0, 1] = np.nan
    surprise = mixture.surprise(gaps)[0]
    assert np.isnan(surprise[1])
    expected = mixture.marginal([0, 2, 3]).surprise(row[:, [0, 2, 3]])[0]
    assert surprise[[0, 2, 3]] == pytest.approx(expected, rel=1e-12)


def test_many_rows_are_surprised_as_each_alone():
    mixture = mixture_of("full", k=4, d=30)
    rows = mixture.sample(20_000, seed=11)[0]
    alone = np.concatenate([mixture.surprise(rows[[i]]) for i in (0, 9_999, 19_999)])
    assert mixture.surprise(rows)[[0, 9_999, 19_999]] == pytest.approx(alone, rel=1e-10)


# --- quantile


@pytest.mark.parametrize("q", [1e-300, 1e-9, 0.01, 0.5, 0.9, 1 - 1e-12])
def test_the_share_q_lies_below_the_quantile(q):
    mixture = Mixture([0.3, 0.7], [[-2.0], [5.0]], [[[1.0]], [[9.0]]])
    x = mixture.quantile(q, 0)
    share = 0.3 * norm(-2, 1).cdf(x) + 0.7 * norm(5, 3).cdf(x)
    assert share == pytest.approx(q, rel=1e-9)


def test_quantiles_keep_the_shape_and_the_ends():
    mixture = mixture_of("full", features=NAMES)
    quantiles = mixture.quantile([[0, 0.25], [0.75, 1]], "b")
    assert quantiles.shape == (2, 2)
    assert quantiles[0, 0] == -np.inf
    assert quantiles[1, 1] == np.inf
    assert quantiles[0, 1] == mixture.quantile(0.25, "b")
    drawn = mixture.sample(400_000, seed=12)[0][:, 1]
    assert quantiles[0, 1] < quantiles[1, 0]
    assert np.mean(drawn < quantiles[0, 1]) == pytest.approx(0.25, abs=0.005)


def test_a_wide_diagonal_mixture_makes_no_square_array():
    rng = np.random.default_rng(13)
    mixture = mixture_of("diag", k=2, d=30)
    rows = mixture.sample(5, seed=14)[0]
    rows[rng.random(rows.shape) < 0.3] = np.nan
    assert mixture._components.matrices.shape == (2, 30)
    dense = Mixture(mixture.weights, mixture.means, mixture.covariances)
    assert mixture.impute(rows) == pytest.approx(dense.impute(rows), rel=1e-9)
    assert mixture.surprise(rows) == pytest.approx(dense.surprise(rows), rel=1e-9, nan_ok=True)
