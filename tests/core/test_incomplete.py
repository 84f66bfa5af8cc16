"""Values missing at random: against closed forms, marginal densities, and a generic optimiser."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from sklearn.metrics import adjusted_rand_score

from helpers.builders import block_of
from sparkgmm import Mixture, fit_array
from sparkgmm.core.evidence import OverRows, Scan
from sparkgmm.core.history import History
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.rows import LocalRows, scan_blocks
from sparkgmm.errors import FitWarning, InputError

TYPES = ("full", "tied", "diag", "spherical", "VEV")


def gappy(seed: int = 0, share: float = 0.25) -> np.ndarray:
    """Return two clusters of 100 rows in three columns, of whose values so many are missing."""
    rng = np.random.default_rng(seed)
    X = np.concatenate([rng.normal(0, 1, (60, 3)), rng.normal(3, 1.3, (40, 3))])
    X[rng.random(X.shape) < share] = np.nan
    return X


def by_marginals(mixture: Mixture, X: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the log-likelihood of rows, each by the marginal mixture of what it has."""
    plain, total = mixture.with_missing("invalid"), 0.0
    for i, row in enumerate(X):
        have = np.flatnonzero(~np.isnan(row))
        if len(have):
            density = float(plain.marginal(have.tolist()).log_density(row[None, have])[0])
            total += density * (1.0 if weights is None else weights[i])
    return total


def by_regressions(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maximum likelihood of one normal, of rows that miss what comes last.

    Anderson (1957): each column is regressed on those before it, on the rows that have it.
    """
    d = X.shape[1]
    mean, covariance = np.zeros(d), np.zeros((d, d))
    for i in range(d):
        rows = X[~np.isnan(X[:, i])]
        before = np.column_stack([np.ones(len(rows)), rows[:, :i]])
        slopes = np.linalg.lstsq(before, rows[:, i], rcond=None)[0]
        left = ((rows[:, i] - before @ slopes) ** 2).mean()
        mean[i] = slopes[0] + slopes[1:] @ mean[:i]
        covariance[i, :i] = covariance[:i, i] = covariance[:i, :i] @ slopes[1:]
        covariance[i, i] = left + slopes[1:] @ covariance[:i, :i] @ slopes[1:]
    return mean, covariance


def test_one_component_of_monotone_gaps_is_andersons_closed_form():
    rng = np.random.default_rng(0)
    X = rng.multivariate_normal(
        [1, -2, 300], [[1, 0.5, 0.2], [0.5, 2, -0.3], [0.2, -0.3, 1.5]], 500
    )
    X[400:, 2] = np.nan
    X[450:, 1] = np.nan
    mean, covariance = by_regressions(X)
    found = fit_array(X, 1, missing="model", tol=1e-14)
    assert found.converged
    np.testing.assert_allclose(found.mixture.means[0], mean, rtol=1e-10)
    np.testing.assert_allclose(found.mixture.covariances[0], covariance, atol=1e-10)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_log_likelihood_is_that_of_what_each_row_has(kind, weighted):
    X = gappy()
    weights = np.random.default_rng(1).integers(1, 4, len(X)).astype(float) if weighted else None
    found = fit_array(X, 2, covariance_type=kind, missing="model", sample_weight=weights, n_init=2)
    expected = by_marginals(found.mixture, X, weights)
    assert found.log_likelihood == pytest.approx(expected, rel=1e-9)
    assert found.mixture.log_likelihood(X, weights) == pytest.approx(expected, rel=1e-9)


def unconstrained(vector: np.ndarray, kind: str, d: int) -> Mixture:
    """Return the mixture of two components that so many numbers are."""
    p = np.exp(vector[:2] - vector[:2].max())
    means, rest = vector[2 : 2 + 2 * d].reshape(2, d), vector[2 + 2 * d :]
    lower = np.tril_indices(d)

    def matrix(numbers: np.ndarray) -> np.ndarray:
        L = np.zeros((d, d))
        L[lower] = numbers
        L[np.diag_indices(d)] = np.exp(np.diagonal(L))
        return L @ L.T

    if kind == "full":
        covariances = np.array([matrix(numbers) for numbers in rest.reshape(2, -1)])
    elif kind == "tied":
        covariances = matrix(rest)
    else:
        covariances = np.exp(rest.reshape(2, -1)) if kind == "diag" else np.exp(rest)
    return Mixture(p / p.sum(), means, covariances, kind, missing="model")


def coordinates(mixture: Mixture) -> np.ndarray:
    """Undo `unconstrained`."""
    d = mixture.d

    def of(C: np.ndarray) -> np.ndarray:
        L = np.linalg.cholesky(C)
        L[np.diag_indices(d)] = np.log(np.diagonal(L))
        return L[np.tril_indices(d)]

    C = mixture.compact_covariances
    rest = {
        "full": lambda: np.concatenate([of(c) for c in C]),
        "tied": lambda: of(C),
    }.get(mixture.covariance_type, lambda: np.log(C).ravel())()
    return np.concatenate([np.log(mixture.weights), mixture.means.ravel(), rest])


@pytest.mark.parametrize("kind", TYPES[:4])
def test_no_generic_optimiser_climbs_higher_from_where_em_ends(kind):
    X = gappy()[::2]
    found = fit_array(X, 2, covariance_type=kind, missing="model", n_init=2, tol=1e-10)

    def cost(vector: np.ndarray) -> float:
        return -unconstrained(vector, kind, 3).log_likelihood(X)

    start = coordinates(found.mixture)
    assert -cost(start) == pytest.approx(found.log_likelihood, rel=1e-12)
    climbed = minimize(cost, start, method="BFGS", options={"maxiter": 20})
    assert -climbed.fun <= found.log_likelihood + 1e-6


@pytest.mark.parametrize("kind", TYPES[:4])
def test_icl_has_no_entropy_of_missing_values(kind):
    X = gappy()
    found = fit_array(X, 2, covariance_type=kind, missing="model", n_init=2)
    [candidate] = found.candidates
    assert candidate.icl == pytest.approx(found.mixture.icl(X), rel=1e-9)
    assert candidate.bic == pytest.approx(found.mixture.bic(X), rel=1e-9)


def test_a_weight_of_two_is_two_rows():
    X = gappy()
    weights = np.where(np.arange(len(X)) % 3 == 0, 2.0, 1.0)
    start = {"means_init": [[0.0] * 3, [3.0] * 3]}
    one = fit_array(X, 2, missing="model", sample_weight=weights, **start)
    other = fit_array(np.repeat(X, weights.astype(int), axis=0), 2, missing="model", **start)
    np.testing.assert_allclose(one.mixture.means, other.mixture.means, atol=1e-9)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)


def test_complete_rows_give_the_same_bits_as_without_the_option():
    X = np.nan_to_num(gappy())
    with_it, without = fit_array(X, 2, missing="model"), fit_array(X, 2)
    assert with_it.mixture.with_missing("invalid").to_json() == without.mixture.to_json()
    assert with_it.log_likelihoods == without.log_likelihoods


def moments_of(mixture: Mixture, X: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the expected counts, first and second moments of a slow textbook E-step."""
    k, d = mixture.means.shape
    counts, first, second = np.zeros(k), np.zeros((k, d)), np.zeros((k, d, d))
    for x in X:
        o, m = np.flatnonzero(~np.isnan(x)), np.flatnonzero(np.isnan(x))
        R = mixture.responsibilities(x[None])[0]
        for j in range(k):
            mu, C = mixture.means[j], mixture.covariances[j]
            filled, left = x.copy(), np.zeros((d, d))
            slopes = np.linalg.solve(C[np.ix_(o, o)], C[np.ix_(o, m)]).T
            filled[m] = mu[m] + slopes @ (x[o] - mu[o])
            left[np.ix_(m, m)] = C[np.ix_(m, m)] - slopes @ C[np.ix_(o, m)]
            counts[j] += R[j]
            first[j] += R[j] * filled
            second[j] += R[j] * (np.outer(filled, filled) + left)
    return counts, first, second


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("n_patterns", ["few", "many"])
def test_a_pass_gives_the_moments_of_a_textbook_e_step(kind, narrow, n_patterns):
    rng = np.random.default_rng(3)
    d, k = 8, 3
    A = rng.normal(0, 0.4, (k, d, d)) + np.eye(d)
    C = A @ A.transpose(0, 2, 1) * (1e-8 if narrow else 1.0)
    C = {"full": C, "tied": C[0], "diag": np.einsum("kii->ki", C)}[kind]
    means = rng.normal(0, 3, (k, d))
    mixture = Mixture([0.5, 0.3, 0.2], means, C, kind, missing="model")
    X, _ = mixture.sample(300, seed=4)
    if n_patterns == "few":  # of many rows each
        X[:, 2:5][rng.random((len(X), 3)) < 0.5] = np.nan
    else:
        X[rng.random(X.shape) < 0.4] = np.nan  # up to d missing: small systems, and large ones
    X[0] = np.nan
    rows = LocalRows.of_array(X, None, 0)
    evidence = OverRows.of(rows)
    [measured] = evidence.measure([from_mixture(mixture, evidence.frame)], "")
    frame, m = evidence.frame, measured.moments
    counts, first, second = moments_of(mixture, X)
    np.testing.assert_allclose(m.counts, counts, rtol=1e-9)
    found = frame.shift + (m.origin + m.offset) * frame.scale
    np.testing.assert_allclose(found, first / counts[:, None], rtol=1e-9)
    scatter = m.scatter() * (
        frame.scale**2 if kind == "diag" else np.outer(frame.scale, frame.scale)
    )
    mean = first / counts[:, None]
    expected = second / counts[:, None, None] - mean[:, :, None] * mean[:, None, :]
    if kind == "diag":
        expected = np.einsum("kii->ki", expected)
    size = np.abs(expected).max()
    np.testing.assert_allclose(scatter / size, expected / size, atol=1e-6 if narrow else 1e-10)


def test_sums_have_the_same_bits_on_any_number_of_threads_and_in_any_order_of_patterns():
    X = gappy(share=0.4)
    mixture = fit_array(X, 2, missing="model", n_init=1).mixture
    parts = [[block_of(X[a : a + 20])] for a in range(0, 100, 20)]
    profile = sum((Profile.of(b) for [b] in parts[1:]), start=Profile.of(parts[0][0]))
    rows = LocalRows(parts, profile, 0)
    evidence = OverRows.of(rows)
    kernels = Scan.of([from_mixture(mixture, evidence.frame)], evidence.frame).kernels
    sums = [scan_blocks(parts, kernels, threads) for threads in (1, 2, 3)]
    for one, other in itertools.pairwise(sums):
        assert one[0].log_likelihood == other[0].log_likelihood
        assert (one[0].moments == other[0].moments).all()


def test_profiles_of_rows_with_gaps_add_up_to_that_of_what_is_there():
    X = gappy(share=0.6)
    X[:40, 1] = np.nan  # the first blocks have none of it
    weights = np.random.default_rng(2).random(len(X)) + 0.5
    cut = [Profile.of(block_of(X[a : a + 10], weights[a : a + 10])) for a in range(0, 100, 10)]
    profile = sum(cut[1:], start=cut[0])
    for i in range(3):
        have = ~np.isnan(X[:, i])
        mean = np.average(X[have, i], weights=weights[have])
        assert profile.mean[i] == pytest.approx(mean)
        variance = np.average((X[have, i] - mean) ** 2, weights=weights[have])
        assert profile.variance[i] == pytest.approx(variance)
        assert (profile.low[i], profile.high[i]) == (X[have, i].min(), X[have, i].max())
        assert profile.seen[0, i] == have.sum()
        assert profile.seen[1, i] == pytest.approx(weights[have].sum())
    again = Profile.unpack(profile.pack(), 3)
    assert (again.pack() == profile.pack()).all()


@pytest.mark.parametrize("kind", TYPES)
def test_statistics_stand_for_rows_with_gaps_in_any_coordinates(kind):
    X = gappy() * [1, 10, 100]
    evidence = OverRows.of(LocalRows.of_array(X, None, 0))
    mixture = fit_array(X, 2, covariance_type=kind, missing="model", n_init=1).mixture
    model = from_mixture(mixture, evidence.frame)
    [measured] = evidence.measure([model], "")
    history = History.of(model, measured, evidence)
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    frame = Frame(np.array([1.0, -2.0, 3.0]), np.array([2.0, 3.0, 50.0]), np.ones(3), 100.0)
    lost = ~np.isnan(X) @ np.log(frame.scale)
    bound = again.bound(from_mixture(mixture, frame), frame) - lost.sum()
    assert bound == pytest.approx(mixture.log_likelihood(X), rel=1e-9)
    elsewhere = mixture.means * 1.05
    other = Mixture(mixture.weights, elsewhere, mixture.compact_covariances, kind, missing="model")
    bound = again.bound(from_mixture(other, frame), frame) - lost.sum()
    assert bound < other.log_likelihood(X)


def test_a_row_of_nothing_says_nothing():
    X = gappy()
    empty = np.full((7, 3), np.nan)
    start = {"means_init": [[0.0] * 3, [3.0] * 3], "missing": "model", "tol": 1e-12}
    one, other = fit_array(X, 2, **start), fit_array(np.concatenate([X, empty]), 2, **start)
    np.testing.assert_allclose(one.mixture.means, other.mixture.means, atol=1e-6)
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-9)
    np.testing.assert_allclose(other.mixture.responsibilities(empty)[0], other.mixture.weights)
    np.testing.assert_allclose(other.mixture.log_density(empty), 0, atol=1e-15)


def test_a_feature_that_one_component_never_has_costs_the_other_nothing():
    rng = np.random.default_rng(5)
    X = np.concatenate([rng.normal(0, 1, (200, 3)), rng.normal(8, 1, (200, 3))])
    X[200:, 2] = np.nan
    found = fit_array(X, 2, missing="model", n_init=2)
    j = int(np.argmin(found.mixture.means[:, 0]))
    np.testing.assert_allclose(found.mixture.means[j], X[:200].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found.mixture.means[1 - j][:2], X[200:, :2].mean(axis=0), atol=1e-6)


def test_a_column_of_two_values_is_named():
    X = gappy()
    X[2:, 1] = np.nan
    with pytest.raises(InputError, match=r"'column 1' has 2 values in 100 rows.*3 are needed"):
        fit_array(X, 2, missing="model")


def test_two_columns_that_are_never_seen_together_are_named():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    X[:100, 0] = X[100:, 2] = np.nan
    table = pd.DataFrame(X, columns=["a", "b", "c"])
    with pytest.warns(FitWarning, match="no row has both a and c: .*take covariance_type diag"):
        found = fit_array(table, 1, missing="model").mixture
    assert np.isfinite(found.log_likelihood(X))
    fit_array(table, 1, missing="model", covariance_type="diag")  # warnings are errors here
    X[0] = 0.0
    fit_array(X, 1, missing="model")


def test_nan_is_an_error_that_names_the_option():
    with pytest.raises(InputError, match="set missing to model"):
        fit_array(gappy(), 2)
    mixture = Mixture([1.0], [[0.0, 0.0]], [np.eye(2)])
    with pytest.raises(InputError, match="give finite numbers"):
        mixture.predict([[np.nan, 0.0]])


def test_infinite_values_are_no_missing_ones():
    X = gappy()
    X[3, 1] = np.inf
    with pytest.raises(InputError, match="in row 3"):
        fit_array(X, 2, missing="model")


def test_what_nan_is_travels_with_the_mixture():
    mixture = fit_array(gappy(), 2, missing="model", n_init=1).mixture
    assert mixture.missing == "model"
    again = Mixture.from_json(mixture.to_json())
    assert again == mixture
    assert again.missing == "model"
    assert mixture.marginal([0, 1]).missing == "model"


@pytest.mark.parametrize("kind", TYPES)
def test_rows_with_gaps_are_scored_by_their_marginal_densities(kind):
    rng = np.random.default_rng(6)
    d, k = 7, 3
    A = rng.normal(0, 0.4, (d, d)) + np.eye(d)
    C = {
        "full": lambda: np.array([A @ A.T * s for s in (1, 2, 3)]),
        "VEV": lambda: np.array([A @ A.T * s for s in (1, 2, 3)]),
        "tied": lambda: A @ A.T,
        "diag": lambda: rng.random((k, d)) + 0.5,
        "spherical": lambda: rng.random(k) + 0.5,
    }[kind]()
    mixture = Mixture([0.5, 0.3, 0.2], rng.normal(0, 2, (k, d)), C, kind, missing="model")
    X, _ = mixture.sample(200, seed=7)
    X[rng.random(X.shape) < 0.3] = np.nan
    X[5] = np.nan
    expected = [by_marginals(mixture, row[None]) for row in X]
    np.testing.assert_allclose(mixture.log_density(X), expected, atol=1e-9)
    whole = ~np.isnan(X).any(axis=1)
    plain = mixture.with_missing("invalid")
    np.testing.assert_allclose(
        mixture.responsibilities(X)[whole], plain.responsibilities(X[whole]), atol=1e-12
    )


@pytest.mark.long
def test_clusters_are_recovered_without_imputation_where_hardly_a_row_is_whole():
    rng = np.random.default_rng(0)
    n, d = 100_000, 10
    A = 0.3 * rng.standard_normal((3, d, d)) + np.eye(d)
    means = rng.standard_normal((3, d))
    apart = min(np.linalg.norm(means[i] - means[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    truth = Mixture([0.3, 0.3, 0.4], 9 / apart * means, A @ A.transpose(0, 2, 1))
    X, labels = truth.sample(n, seed=1)
    gone = rng.random(X.shape) < 0.3
    assert (~gone.any(axis=1)).mean() < 0.03  # what dropping rows would leave
    X[gone] = np.nan
    found = fit_array(X, 3, missing="model")
    assert found.converged
    assert adjusted_rand_score(labels, found.mixture.predict(X)) > 0.95
    assert found.log_likelihood >= truth.with_missing("model").log_likelihood(X)
