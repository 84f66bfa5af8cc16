"""Too narrow: bounds that only bind where they must; chance, atoms and clusters told apart."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.builders import rows_of
from helpers.data_sets import TEXTBOOK, faithful, iris
from helpers.searches import starts_for
from sparkgmm import FitResult, fit_array
from sparkgmm.core.em import Settings
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.fit import fit
from sparkgmm.core.grid import counted
from sparkgmm.core.prior import Bounded
from sparkgmm.core.search import Search
from sparkgmm.core.update import update
from sparkgmm.core.widths import Widths
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.stacks import Dense, Diagonal, Round
from sparkgmm.errors import FitError
from sparkgmm.mixture import COVARIANCE_TYPES, Array

# --- the bound


def worth(matrix: Array, scatter: Array) -> float:
    """The log-likelihood of a row of this scatter, times two, without its constant."""
    return float(-np.linalg.slogdet(matrix)[1] - np.trace(np.linalg.solve(matrix, scatter)))


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), d=st.integers(1, 4))
def test_a_raised_matrix_is_the_most_likely_one_above_the_bound(seed: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((d, d)) * 10 ** rng.uniform(-3, 1, d)
    scatter, least = A @ A.T, 10 ** rng.uniform(-4, 0, d)
    found = Dense(scatter[None]).raised(least[None]).values[0]
    root = np.sqrt(least)
    assert np.linalg.eigvalsh(found / np.outer(root, root)).min() > 1 - 1e-6
    for _ in range(20):  # any other one above the bound is less likely
        B = rng.standard_normal((d, d)) * root * 10 ** rng.uniform(-3, 1)
        for other in (found + B @ B.T, np.diag(least) + B @ B.T):
            best = worth(found, scatter)
            assert worth(other, scatter) <= best + 1e-9 * abs(best)


@pytest.mark.parametrize(
    "stack",
    [
        Dense(np.array([[[2.0, 0.5], [0.5, 1.0]]])),
        Diagonal(np.array([[2.0, 1.0]])),
        Round(np.array([2.0]), np.array([1.0, 4.0])),
    ],
    ids=["dense", "diagonal", "round"],
)
def test_a_bound_that_does_not_bind_does_nothing(stack: Dense | Diagonal) -> None:
    assert stack.raised(np.array([[0.4, 0.4]])) is stack


def test_one_coarse_feature_does_not_widen_round_clusters_that_others_show() -> None:
    """A flag beside rates: clusters of sd 0.001 in the rates, which the flag has no part in."""
    rng = np.random.default_rng(0)
    flag = np.repeat([0.0, 1.0], 300)
    X = np.c_[flag, 0.5 * flag + 1e-3 * rng.standard_normal(600)]
    found = fit_array(X, 2, covariance_type="spherical").mixture
    expected = [np.mean([X[flag == j].var(axis=0)]) for j in (0, 1)]
    np.testing.assert_allclose(sorted(found.covariances[:, 0, 0]), sorted(expected), rtol=1e-9)


def test_the_bound_of_a_grid_is_the_variance_of_rounding() -> None:
    """Values known to a step lie anywhere within it: variance step^2 / 12."""
    rows = rows_of(faithful())
    evidence = OverRows.of(rows)
    widths = Widths.of(rows, evidence, 0.0)
    steps = np.sqrt(12 * widths.resolution) * evidence.frame.scale
    np.testing.assert_allclose(steps, [0.001, 1.0], rtol=1e-9)


# --- reg_covar


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_reg_covar_widens_no_component_that_has_rows_enough(kind: str) -> None:
    fits = [
        fit_array(faithful(), 2, covariance_type=kind, reg_covar=reg, init=starts_for(kind)).mixture
        for reg in (0.0, 1e-6, 0.1)
    ]
    for other in fits[1:]:
        np.testing.assert_allclose(other.covariances, fits[0].covariances, rtol=1e-5)


def test_reg_covar_holds_components_of_few_rows_open() -> None:
    widths = Widths(0.01, np.full(2, 1e-17), np.zeros(2), np.zeros(2))
    full = FAMILIES["full"]  # needs 3 rows: 15 are few, 30 are not
    least = widths.least(full, np.array([10.0, 15.0, 22.5, 30.0, 1e6]))
    np.testing.assert_allclose(least[:, 0], [0.01, 0.01, 0.005, 1e-17, 1e-17])


@pytest.mark.parametrize("seed", range(3))
def test_the_defaults_reach_the_published_optima_to_every_digit(seed: int) -> None:
    assert fit_array(iris(), 3, seed=seed).log_likelihood == pytest.approx(-180.18548, abs=1e-4)
    assert fit_array(faithful(), 2, seed=seed).log_likelihood == pytest.approx(
        -1130.26396, abs=1e-4
    )


# --- clusters, atoms, chance


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("sd", [1e-4, 1e-5, 3e-6])
def test_many_distinct_rows_in_a_narrow_place_are_a_cluster_of_their_own_width(
    sd: float, kind: str
) -> None:
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [400, 600])
    X = labels[:, None] + sd * rng.standard_normal((1000, 2))
    init = "auto" if sd == 3e-6 else "k-means++"
    found = fit_array(X, 2, covariance_type=kind, init=init).mixture
    np.testing.assert_array_equal(found.predict(X) == 0, labels == 1)
    expected = np.trace(np.cov(X[labels == 1].T, bias=True))
    if kind == "tied":
        expected = 0.6 * expected + 0.4 * np.trace(np.cov(X[labels == 0].T, bias=True))
    if kind != "VEV":
        assert np.trace(found.covariances[0]) == pytest.approx(expected, rel=1e-6)
    assert np.trace(found.covariances[0]) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("n_equal", [3, 6, 9])
@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_few_equal_rows_never_win(n_equal: int, kind: str) -> None:
    X = np.random.default_rng(1).standard_normal((400, 2))
    X[:n_equal] = X[0]
    found = fit(rows_of(X), Search(k=(1, 2), covariance_type=(kind,))).chosen
    assert found.mixture.covariances.min(where=np.eye(2) > 0, initial=9.0) > 1e-6


ATOMS = {
    "zeros": (lambda rng, n: rng.lognormal(3, 1, n), 0.0),
    "zeros of cents": (lambda rng, n: np.round(rng.lognormal(3, 1, n), 2), 0.0),
    "amid": (lambda rng, n: rng.normal(50, 10, n), 50.0),
    "outside": (lambda rng, n: rng.normal(50, 10, n), 150.0),
    "a sentinel": (lambda rng, n: rng.normal(50, 10, n), -9999.0),
    "a sentinel in tenths": (lambda rng, n: np.round(rng.normal(50, 10, n), 1), -9999.0),
}


def with_atom(kind: str, share: float, n: int = 2000, seed: int = 0) -> tuple[Array, Array]:
    """Values (n,) of which a share is one value, and which ones these are."""
    rng = np.random.default_rng(seed)
    draw, value = ATOMS[kind]
    values = draw(rng, n)
    atom = np.arange(n) < share * n
    return np.where(atom, value, values), atom


@pytest.mark.parametrize(
    ("place", "share", "kind"),
    list(itertools.product(ATOMS, [0.02, 0.3, 0.84], ["full", "diag", "spherical", "VEV"])),
)
def test_a_component_on_many_rows_of_one_value_is_sound_wherever_it_lies(
    place: str, share: float, kind: str
) -> None:
    x, atom = with_atom(place, share)
    rest = x[~atom]
    means = [[x[atom][0]], [rest.mean()]]
    worth = []
    for reg_covar in (1e-3, 1e-8):
        found = fit_array(
            x[:, None],
            2,
            covariance_type=kind,
            reg_covar=reg_covar,
            means_init=means,
            weights_init=[share, 1 - share],
            precisions_init=[[[1e6 / x.var()]], [[1 / rest.var()]]],
        )
        j = int(np.argmin(np.abs(found.mixture.means[:, 0] - x[atom][0])))
        assert found.mixture.weights[j] == pytest.approx(share, abs=0.02)
        worth.append(found.log_likelihood)
    assert worth[0] == pytest.approx(worth[1], rel=1e-12)  # whatever reg_covar is


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.long) for s in (1, 2))])
@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("place", ATOMS)
def test_a_default_fit_treats_an_atom_alike_wherever_it_lies(
    place: str, share: float, seed: int
) -> None:
    x, _ = with_atom(place, share, n=600, seed=seed)
    found = fit_array(x[:, None], 2).mixture
    narrow = int(np.argmin(found.covariances[:, 0, 0]))
    assert found.weights[narrow] == pytest.approx(share, abs=0.02)
    assert found.means[narrow, 0] == pytest.approx(x[0], abs=1e-3)


def test_an_atom_in_one_of_several_columns_gets_its_component() -> None:
    x, atom = with_atom("zeros", 0.3, n=600)
    X = np.c_[x, np.random.default_rng(1).standard_normal((len(x), 2))]
    for kind in ("full", "diag"):
        labels = fit_array(X, 2, covariance_type=kind).mixture.predict(X)
        np.testing.assert_array_equal(labels == labels[0], atom)


@pytest.mark.parametrize("kind", TEXTBOOK)
@pytest.mark.parametrize("k", [2, 3])
def test_columns_of_few_values_fit_with_more_than_one_component(kind: str, k: int) -> None:
    rng = np.random.default_rng(0)
    cylinders = rng.choice([4.0, 6.0, 8.0], 400, p=[0.5, 0.2, 0.3])
    consumption = 40 - 3 * cylinders + rng.normal(0, 2, 400)
    visibility = np.where(rng.random(400) < 0.84, 10.0, np.round(rng.uniform(0.1, 9.9, 400), 2))
    flags = np.eye(3)[rng.choice(3, 400)][:, :2]
    tables = [[cylinders, consumption], [visibility, consumption], [*flags.T, visibility]]
    for X in map(np.column_stack, tables):
        init = "auto" if k == 3 else "k-means++"
        found = fit(rows_of(X), Search(k=(1, k), covariance_type=(kind,), init=init))
        assert found.chosen.k > 1
        assert found.chosen.degenerate is None


def test_images_whose_edges_are_zero_in_a_class_fit_with_full_covariance() -> None:
    """Pixels of 17 levels: many are 0 in all rows of a class that has few for 30 columns."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 120)
    level = rng.uniform(0, 12, (4, 30)) * (rng.random((4, 30)) < 0.6)
    X = np.clip(np.round(level[labels] + rng.normal(0, 2, (480, 30)) * (level > 0)[labels]), 0, 16)
    X = X[:, X.std(axis=0) > 0]
    found = fit(rows_of(X), Search(k=(1, 4), n_init=2)).chosen
    assert found.k == 4
    assert len(np.unique(found.mixture.predict(X) * 4 + labels)) == 4


@pytest.mark.parametrize("rounded", [2, 3])
def test_few_rows_near_a_plane_are_chance_on_a_fine_grid_too(rounded: int) -> None:
    X = np.round(np.random.default_rng(1).standard_normal((500, 3)), rounded)
    plane = np.arange(12)
    X[plane, 2] = X[plane, 0] + X[plane, 1]
    start = {
        "means_init": [X[plane].mean(axis=0), np.zeros(3)],
        "precisions_init": [np.linalg.inv(np.cov(X[plane].T) + 1e-6 * np.eye(3)), np.eye(3)],
        "weights_init": [0.03, 0.97],
    }
    with pytest.raises(FitError, match=r"is a spike: 1\d.* rows .* column 0 = .*column 1 = "):
        fit_array(X, 2, **start)


def test_no_log_likelihood_falls_where_a_bound_binds() -> None:
    rng = np.random.default_rng(0)
    flags = np.eye(3)[rng.choice(3, 600)][:, :2]
    X = np.c_[flags, rng.normal(0, 1, 600) + 3 * flags[:, 0]]
    found = fit_array(X, 3)
    assert found.converged
    assert found.n_iter < 50
    assert (np.diff(found.log_likelihoods) > -1e-6).all()
    assert found.log_likelihood == pytest.approx(max(found.log_likelihoods), abs=1e-6)


def test_the_bounds_reach_the_fits_of_the_rows_held_out() -> None:
    x, _ = with_atom("amid", 0.3)
    values = [
        fit(
            rows_of(x[:, None]),
            Search(k=(2,), n_init=2, settings=Settings(prior=Bounded(reg))),
            validate=True,
        ).chosen.held_out
        for reg in (1e-3, 1e-8)
    ]
    assert values[0] is not None
    assert values[0] == pytest.approx(values[1], rel=1e-9)


def test_an_update_and_a_warm_start_know_the_bounds_as_a_fit_does() -> None:
    def draw(seed: int) -> Array:
        x, _ = with_atom("zeros of cents", 0.3, n=600, seed=seed)
        return np.c_[x, np.random.default_rng(seed).standard_normal(len(x))]

    worth = []
    for reg_covar in (1e-3, 1e-8):
        options = Settings(prior=Bounded(reg_covar))
        search = Search(k=(2,), settings=options, n_init=2)
        first = fit(rows_of(draw(0)), search)
        assert first.history is not None
        updated = update(rows_of(draw(1)), first.history, options).chosen
        warm = fit(rows_of(draw(1)), search, earlier=first.chosen.mixture).chosen
        for found in (updated, warm):
            assert [(h.feature, h.value) for h in found.held] == [("column 0", 0.0)]
        worth.append((updated.log_likelihood, warm.log_likelihood))
    assert worth[0] == pytest.approx(worth[1], rel=1e-12)


# --- weights


@cache
def histogram(bins: int) -> tuple[Array, Array]:
    """The middles of the bins (bins, 1) of draws from two clusters, and the counts in them."""
    rng = np.random.default_rng(8)
    draws = np.r_[rng.normal(-3, 1, 40_000), rng.normal(2, 0.7, 60_000)]
    counts, edges = np.histogram(draws, bins)
    return ((edges[1:] + edges[:-1]) / 2)[:, None], counts


@cache
def fitted_to_counts(bins: int, k: int, init: str) -> FitResult:
    X, counts = histogram(bins)
    return fit_array(X, k, sample_weight=counts, init=init)


@pytest.mark.parametrize("bins", [12, 20, 50])
@pytest.mark.parametrize("k", [3, 4])
@pytest.mark.parametrize("whole", [1.0, 100.0], ids=["shares", "percentages"])
def test_a_histogram_of_shares_has_the_components_of_its_counts(
    bins: int, k: int, whole: float
) -> None:
    X, counts = histogram(bins)
    init = "auto" if (bins, k) == (20, 3) else "k-means++"
    of_counts = fitted_to_counts(bins, k, init)
    of_shares = fit_array(X, k, sample_weight=whole * counts / counts.sum(), init=init)
    assert of_shares.mixture.to_dict() == of_counts.mixture.to_dict()
    expected = of_counts.log_likelihood * whole / counts.sum()
    assert of_shares.log_likelihood == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1000, 40_000])
def test_weights_that_are_shares_of_no_count_are_rows_and_not_more(n: int) -> None:
    w = np.random.default_rng(0).uniform(0.5, 2, n)
    w /= w.sum()
    assert counted(w, float(w.sum())) == 0


def test_shares_of_a_count_are_so_many_observations_wherever_the_rows_are() -> None:
    counts = np.array([30.0, 45.0, 7.0, 18.0])
    X = np.arange(4.0)[:, None]
    for weights in (counts / 100, counts):
        profile = OverRows.of(rows_of(X, weights)).profile
        assert profile.weight * profile.rows_per_weight == pytest.approx(100)


@pytest.mark.parametrize("kind", ["spherical", "full"])
@pytest.mark.parametrize("gaps", [False, True])
def test_a_single_row_of_much_weight_is_as_much_of_a_spike_as_any(kind, gaps):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (150, 3)), rng.normal(4, 1, (150, 3))])
    weights = np.ones(300)
    weights[[7, 200]] = 20
    if gaps:
        X[rng.random(X.shape) < 0.15] = np.nan
    found = fit_array(
        X, [2, 4], covariance_type=kind, sample_weight=weights, n_init=2,
        missing="model" if gaps else "invalid",
    )  # fmt: skip
    assert found.mixture.k == 2
    np.testing.assert_allclose(found.mixture.weights, 0.5, atol=0.02)


def test_no_pass_is_above_the_log_likelihood_where_bounds_move_with_few_rows():
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(0, 1, (60, 3)), rng.normal(3, 1, (60, 3))])
    X[rng.random(X.shape) < 0.3] = np.nan
    X[:3] = [[1e6, 2e6, -1e6], [1e6, np.nan, 1], [np.nan, 1e7, np.nan]]
    found = fit_array(X, 2, covariance_type="tied", missing="model", n_init=2)
    assert max(found.log_likelihoods) <= found.log_likelihood


# --- directions in which no row varies


def two_of_unlike_width() -> Array:
    """Return 600 rows in two columns: a narrow cluster within the reach of a wide one."""
    rng = np.random.default_rng(3)
    return np.r_[rng.normal(0, 1, (400, 2)), rng.normal(2, 0.2, (200, 2))]


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
@pytest.mark.parametrize("of_both", [[1.0, 2.0], [-1.0, -1.0], [1.8, 0.0]])
def test_a_column_that_others_give_exactly_changes_nothing_but_the_density(
    covariance_type: str, of_both: list[float]
) -> None:
    """Shares that sum to 1, a length in two units.

    Were a component as wide there as a share of its own variance, narrow ones would win rows.
    """
    X = two_of_unlike_width()
    # k-means++ finds the tied ones, but in more passes than are asked for below
    init = "k-means++" if covariance_type == "full" and of_both != [1.0, 2.0] else "auto"
    options = {"covariance_type": covariance_type, "init": init, "n_init": 3}
    without = fit_array(X, 2, **options)
    found = fit_array(np.c_[X, X @ of_both], 2, **options)
    np.testing.assert_allclose(found.mixture.weights, without.mixture.weights, atol=1e-4)
    np.testing.assert_allclose(found.mixture.means[:, :2], without.mixture.means, atol=1e-3)
    most = np.abs(
        found.mixture.responsibilities(np.c_[X, X @ of_both]) - without.mixture.responsibilities(X)
    ).max()
    assert most < 0.01
    assert found.converged
    assert found.n_iter < 20  # no slow way through a likelihood that hangs on rounding


def test_a_filled_matrix_is_the_most_likely_one_of_so_much_variance_where_no_row_varies() -> None:
    rng = np.random.default_rng(5)
    for _ in range(20):
        A = rng.standard_normal((4, 4)) * [1.0, 1.0, 0.1, 0.01]
        scatter = A @ A.T
        flat = np.linalg.qr(rng.standard_normal((4, 2)))[0]

        def left(matrix: Array, flat: Array = flat) -> Array:
            return np.linalg.inv(flat.T @ np.linalg.inv(matrix) @ flat)

        found = Dense(scatter[None]).filled(flat, 0.05).values[0]
        assert np.linalg.eigvalsh(left(found)).min() > 0.05 - 1e-9
        for _ in range(20):
            B = rng.standard_normal((4, 4)) * 10 ** rng.uniform(-3, 0)
            other = Dense((found + B @ B.T)[None]).filled(flat, 0.05).values[0]
            assert worth(other, scatter) <= worth(found, scatter) + 1e-9
        assert worth(found, scatter) <= worth(scatter, scatter)


def test_columns_of_a_grid_and_columns_that_are_nearly_others_are_as_they_were() -> None:
    rng = np.random.default_rng(4)
    X = rng.normal(0, 1, (500, 2))
    for Y in (np.c_[X, X[:, 0] + rng.normal(0, 1e-4, 500)], np.c_[X, X[:, 0]].round(2), X):
        rows = rows_of(Y)
        assert Widths.of(rows, OverRows.of(rows), 1e-6).flat is None
    rows = rows_of(np.c_[X, X[:, 0], X @ [1, 1]])
    flat = Widths.of(rows, OverRows.of(rows), 1e-6).flat
    assert flat is not None
    assert flat.shape == (4, 2)
