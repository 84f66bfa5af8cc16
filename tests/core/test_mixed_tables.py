"""Tables of numbers, levels and counts: closed forms, published figures, brute force, recovery."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, poisson

from helpers.searches import starts_for
from sparkgmm import Mixture, fit_array
from sparkgmm.core.rows import LocalRows
from sparkgmm.errors import InputError
from sparkgmm.parts import MOST_LEVELS, Column, of_all
from sparkgmm.products import Array

# Goodman (1974), table 1: 216 people on four dilemmas of role conflict (Stouffer and Toby 1951), by
# whether they answer universalistically (+) or particularistically (-).
STOUFFER_TOBY = [42, 23, 6, 25, 6, 24, 7, 38, 1, 4, 1, 6, 2, 9, 2, 20]


def stouffer_toby() -> tuple[pd.DataFrame, Array]:
    """Return the sixteen patterns of answers and how many people have each."""
    patterns = list(itertools.product("+-", repeat=4))
    return pd.DataFrame(patterns, columns=list("ABCD")), np.array(STOUFFER_TOBY, dtype=float)


def planted(n: int = 1500, seed: int = 0) -> tuple[pd.DataFrame, Array]:
    """Return three classes which two numeric columns alone do not tell apart."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 3, n)
    yes = np.array([0.1, 0.9, 0.5])[z]
    kinds = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    table = pd.DataFrame(
        {
            "a": rng.normal(0, 1, n) + (z == 2),
            "b": rng.normal(0, 1, n),
            "paid": rng.random(n) < yes,
            "kind": np.array(["x", "y", "z"])[[rng.choice(3, p=kinds[i]) for i in z]],
            "visits": rng.poisson(np.array([1.0, 4.0, 12.0])[z]),
        }
    )
    return table, z


def brute_force(mixture: Mixture, table: pd.DataFrame) -> Array:
    """Return log joint densities (n, k), a factor after the other."""
    numeric = table[list(mixture.features or ())].to_numpy(dtype=float)
    joint = np.tile(np.log(mixture.weights), (len(table), 1))
    for j in range(mixture.k):
        if mixture.d:
            joint[:, j] += multivariate_normal(mixture.means[j], mixture.covariances[j]).logpdf(
                numeric
            )
        for name, levels in mixture.categorical.items():
            texts = table[name].map(lambda v: str(v).lower() if isinstance(v, bool) else str(v))
            joint[:, j] += np.log([levels[text][j] for text in texts])
        for name, rates in mixture.counts.items():
            joint[:, j] += poisson(rates[j]).logpmf(table[name])
    return joint


def agreement(labels: Array, found: Array) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(labels, found))


def test_one_component_has_the_frequencies_and_the_mean_of_the_rows() -> None:
    table, _ = planted(500)
    mixture = fit_array(table, 1, counts=["visits"]).mixture
    shares = table["kind"].value_counts(normalize=True)
    for level, p in mixture.categorical["kind"].items():
        assert p[0] == pytest.approx(shares[level], abs=1e-12)
    assert mixture.counts["visits"][0] == pytest.approx(table["visits"].mean(), rel=1e-12)
    assert mixture.means[0] == pytest.approx(table[["a", "b"]].mean().to_numpy(), abs=1e-12)
    assert mixture.n_parameters == 2 + 3 + 1 + 2 + 1
    assert mixture.columns == ("a", "b", "paid", "kind", "visits")


def test_two_classes_of_goodmans_table_are_those_that_he_published() -> None:
    patterns, people = stouffer_toby()
    result = fit_array(patterns, 2, sample_weight=people)
    saturated = people @ np.log(people / people.sum())
    # the likelihood ratio against the saturated model: 2.72 with 6 degrees of freedom
    assert 2 * (saturated - result.log_likelihood) == pytest.approx(2.72, abs=0.005)
    mixture = result.mixture
    assert mixture.weights == pytest.approx([0.721, 0.279], abs=2e-3)
    of_plus = np.array([mixture.categorical[name]["+"] for name in "ABCD"])
    expected = [[0.714, 0.993], [0.330, 0.939], [0.354, 0.926], [0.132, 0.769]]
    np.testing.assert_allclose(of_plus, expected, atol=3e-3)
    assert mixture.n_parameters == 9
    assert result.converged


def test_weights_are_as_good_as_rows_that_repeat() -> None:
    patterns, people = stouffer_toby()
    repeated = patterns.loc[np.repeat(np.arange(16), people.astype(int))]
    by_weight = fit_array(patterns, 2, sample_weight=people)
    by_rows = fit_array(repeated, 2)
    assert by_weight.log_likelihood == pytest.approx(by_rows.log_likelihood, abs=1e-6)


def test_latent_classes_are_found_and_counted() -> None:
    rng = np.random.default_rng(1)
    z = (rng.random(2000) < 0.4).astype(int)
    p = np.array([[0.9, 0.8, 0.85, 0.7, 0.95], [0.2, 0.1, 0.3, 0.25, 0.05]])
    table = pd.DataFrame(
        {f"q{i}": np.where(rng.random(2000) < p[z, i], "yes", "no") for i in range(5)}
    )
    result = fit_array(table, [1, 2, 3], n_init=3)
    assert result.mixture.k == 2
    assert {c.covariance_type for c in result.candidates} == {"diag"}
    found = np.array([levels["yes"] for levels in result.mixture.categorical.values()]).T
    np.testing.assert_allclose(found, p, atol=0.04)
    assert agreement(z, result.mixture.predict(table)) > 0.75


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical", "VEV"])
def test_the_likelihood_is_that_of_the_product_of_the_densities(covariance_type: str) -> None:
    table, _ = planted(800)
    init = starts_for(covariance_type)
    result = fit_array(
        table, 2, covariance_type=covariance_type, counts=["visits"], init=init, n_init=2, tol=1e-4
    )
    joint = brute_force(result.mixture, table)
    density = np.logaddexp.reduce(joint, axis=1)
    assert result.log_likelihood == pytest.approx(density.sum(), rel=1e-12)
    scores = result.mixture.score(table)
    np.testing.assert_allclose(scores.log_density, density, rtol=1e-11)
    np.testing.assert_allclose(
        scores.responsibilities, np.exp(joint - density[:, None]), atol=1e-11
    )
    assert max(result.log_likelihoods) <= result.log_likelihood
    [candidate] = result.candidates
    assert candidate.n_parameters == result.mixture.n_parameters
    assert result.mixture.bic(table) == pytest.approx(candidate.bic, rel=1e-12)
    assert result.mixture.icl(table) == pytest.approx(candidate.icl, rel=1e-9)


def test_classes_are_found_that_the_numeric_columns_alone_do_not_show() -> None:
    table, z = planted()
    mixture = fit_array(table, [2, 3], counts=["visits"], n_init=3).mixture
    assert mixture.k == 3
    order = np.argsort(mixture.counts["visits"])
    np.testing.assert_allclose(mixture.counts["visits"][order], [1, 4, 12], rtol=0.1)
    np.testing.assert_allclose(
        mixture.categorical["paid"]["true"][order], [0.1, 0.9, 0.5], atol=0.06
    )
    assert agreement(z, mixture.predict(table)) > 0.8
    alone = fit_array(table[["a", "b"]], 3, init="k-means++", n_init=3).mixture
    assert agreement(z, alone.predict(table)) < 0.1


def test_a_component_of_one_level_only_is_no_fault() -> None:
    rng = np.random.default_rng(0)
    z = np.repeat([0, 1], 300)
    table = pd.DataFrame({"x": rng.normal(12 * z, 1), "side": np.array(["left", "right"])[z]})
    result = fit_array(table, 2)
    [candidate] = result.candidates
    assert candidate.degenerate is None
    p = np.array([result.mixture.categorical["side"][side] for side in ("left", "right")])
    assert sorted(p.min(axis=0)) == pytest.approx([0, 0], abs=1e-5)
    assert np.isfinite(result.mixture.log_density(table)).all()


def test_a_column_of_one_level_and_one_of_zeros_change_nothing() -> None:
    table, _ = planted(400)
    table = table[["a", "b", "kind"]]
    more = table.assign(same="always", none=0)
    plain, other = fit_array(table, 2, n_init=2), fit_array(more, 2, n_init=2, counts=["none"])
    assert other.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-4)


def test_the_same_bits_whatever_the_partitions_and_threads() -> None:
    from sparkgmm.core.fit import fit
    from sparkgmm.core.search import Search
    from sparkgmm.levels import read_mixed

    table, _ = planted(600)
    values, features, columns = read_mixed(table, [], ["visits"])
    whole = LocalRows.of_array(values, None, 0, columns=columns)
    [block] = whole.sample
    results = []
    for threads in ("1", "3"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("os.cpu_count", lambda n=int(threads): n)
            rows = LocalRows(
                [[block], [], [block]], whole.profile + whole.profile, 0, columns=columns
            )
            results.append(fit(rows, Search(k=(2,), n_init=2), features).chosen.mixture.to_json())
    assert results[0] == results[1]


def test_a_table_is_scored_by_names_and_what_it_does_not_know_is_integrated_out() -> None:
    table, _ = planted(600)
    mixture = fit_array(table, 2, counts=["visits"], n_init=2).mixture
    shuffled = table[["visits", "kind", "b", "paid", "a"]].assign(more="text")
    np.testing.assert_array_equal(mixture.log_density(shuffled), mixture.log_density(table))
    gaps = table.assign(kind="never seen", paid=None, visits=np.nan)
    numeric = mixture.marginal(["a", "b"])
    assert not numeric.parts
    with pytest.warns(UserWarning, match="'kind' holds no level that .* such as 'never seen'"):
        found = mixture.log_density(gaps)
    np.testing.assert_allclose(found, numeric.log_density(table), rtol=1e-12)
    with pytest.raises(InputError, match="X has no column 'kind': its columns are"):
        mixture.predict(table.drop(columns="kind"))
    with pytest.raises(InputError, match="column 'visits' holds -1 in row 0: counts are whole"):
        mixture.predict(table.assign(visits=-1))


def test_an_array_has_the_numbers_of_levels_and_samples_can_be_scored() -> None:
    table, _ = planted(600)
    mixture = fit_array(table, 3, counts=["visits"], n_init=2).mixture
    X, labels = mixture.sample(2000, seed=0)
    assert X.shape == (2000, 5)
    again = (
        table.iloc[:0]
        .reindex(range(2000))
        .assign(
            a=X[:, 0],
            b=X[:, 1],
            paid=X[:, 2] == 1,
            kind=np.array(["x", "y", "z"])[X[:, 3].astype(int)],
            visits=X[:, 4],
        )
    )
    np.testing.assert_allclose(mixture.log_density(again), mixture.log_density(X), rtol=1e-13)
    assert agreement(labels, mixture.predict(X)) > 0.7
    # fitted to its own rows it is found again
    found = fit_array(again, 3, counts=["visits"], init="k-means++", n_init=2).mixture
    np.testing.assert_allclose(
        np.sort(found.counts["visits"]), np.sort(mixture.counts["visits"]), rtol=0.1
    )


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_tables_of_other_libraries_give_the_same_bits(library: str) -> None:
    table, _ = planted(300)
    other: Any
    if library == "polars":
        other = pytest.importorskip("polars").DataFrame(table.to_dict("list"))
    else:
        other = pytest.importorskip("pyarrow").Table.from_pandas(table)
    init = "auto" if library == "polars" else "k-means++"
    options: Mapping[str, Any] = {"counts": ["visits"], "init": init, "n_init": 1}
    ours, theirs = fit_array(table, 2, **options).mixture, fit_array(other, 2, **options).mixture
    assert ours.to_json() == theirs.to_json()
    np.testing.assert_array_equal(ours.log_density(table), ours.log_density(other))


def test_integers_are_levels_where_they_are_named_and_in_the_order_of_their_text() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.normal(size=300), "code": rng.choice([1, 2, 10], 300)})
    mixture = fit_array(table, 1, categorical=["code"]).mixture
    assert list(mixture.categorical["code"]) == ["1", "10", "2"]
    assert list(fit_array(table, 1).mixture.features or ()) == ["x", "code"]


def test_what_cannot_be_a_category_or_a_count_is_named() -> None:
    n = MOST_LEVELS + 1
    table = pd.DataFrame({"x": np.arange(n) ** 0.5, "name": [f"n{i:03}" for i in range(n)]})
    with pytest.raises(InputError, match=r"column 'name' has 257 levels, such as 'n000'.*leave it"):
        fit_array(table, 1)
    table["name"] = "a"
    with pytest.raises(InputError, match=r"column 'x' holds 1.41421356 in row 2: counts are whole"):
        fit_array(table, 1, counts=["x"])
    with pytest.raises(InputError, match="column 'name' holds NA in row 3: leave such rows out"):
        fit_array(table.assign(name=[*"abc", None, *"d" * (n - 4)]), 1)
    with pytest.raises(InputError, match="X has no column 'nmae': rename 'name' to it"):
        fit_array(table, 1, categorical=["nmae"])
    with pytest.raises(InputError, match="column 'x' is in categorical and in counts"):
        fit_array(table, 1, categorical=["x"], counts=["x"])
    with pytest.raises(InputError, match="give X as a table of pandas, polars or pyarrow"):
        fit_array(np.eye(3), 1, counts=["x"])
    with pytest.raises(InputError, match="means_init is for numeric columns alone, and X has name"):
        fit_array(table, 1, means_init=[[1.0]])


def test_a_column_that_holds_nothing_is_left_out_by_name_and_ends_in_no_traceback() -> None:
    x = np.random.default_rng(0).normal(size=50)
    table = pd.DataFrame({"x": x, "n": np.full(50, np.nan)})
    said = "column 'n' of counts holds no value in any of 50 rows: leave it out"
    for missing in ("invalid", "model"):
        with pytest.raises(InputError, match=said):
            fit_array(table, 2, counts=["n"], missing=missing)
    table["n"] = pd.Series([None] * 50, dtype=object)
    with pytest.raises(InputError, match="column 'n' holds no value at all in 50 rows: leave it"):
        fit_array(table, 2)
    with pytest.raises(InputError, match="feature 'n' holds no value at all in 50 rows: leave it"):
        fit_array(table, 2, missing="model")


def test_counts_that_a_sample_has_none_of_start_at_a_rate_that_is_a_number() -> None:
    [part] = of_all((Column("n", "counts"),), np.full((1, 9), np.nan), np.ones(9))
    assert part.sound


def test_a_count_that_is_not_known_is_not_told_to_become_a_level() -> None:
    table = pd.DataFrame({"x": np.arange(9.0) ** 2, "n": [1.0, np.nan, *np.arange(7.0)]})
    with pytest.raises(InputError) as error:
        fit_array(table, 1, counts=["n"])
    assert str(error.value).endswith(
        "'n' holds NA in row 1: leave such rows out or set missing='model'"
    )
    with pytest.raises(InputError, match="give what is not known a level of its own"):
        fit_array(table.assign(c=["a", None, *"ababbab"]), 1)


def test_numbers_that_were_read_as_text_are_known_for_what_they_are() -> None:
    texts = [str(i / 10) for i in range(MOST_LEVELS + 3)]
    with pytest.raises(InputError, match=r"column 'x' has 259 levels.*: make numbers of its text"):
        fit_array(pd.DataFrame({"x": texts}), 1)
    with pytest.raises(InputError, match="make numbers of its text, which 'n/a' is not"):
        fit_array(pd.DataFrame({"x": [*texts, "n/a"]}), 1)


@pytest.mark.parametrize("covariance_type", ["full", "tied"])
def test_missing_numbers_levels_and_counts_are_integrated_over_together(
    covariance_type: str,
) -> None:
    table, z = planted(500)
    rng = np.random.default_rng(7)
    gone = rng.random(table.shape) < 0.15
    gone[:3] = True  # some rows say nothing at all
    holes = table.astype(object).mask(gone)
    holes = holes.astype({"a": float, "b": float, "visits": float})
    result = fit_array(
        holes,
        3,
        covariance_type=covariance_type,
        counts=["visits"],
        missing="model",
        init="k-means++",
        n_init=4,
        tol=1e-4,
    )
    mixture = result.mixture
    density = np.array(
        [
            np.logaddexp.reduce(
                np.log(mixture.weights) + [_log_of_known(mixture, row, j) for j in range(mixture.k)]
            )
            for row in holes.to_dict("records")
        ]
    )
    assert result.log_likelihood == pytest.approx(density.sum(), rel=1e-10)
    np.testing.assert_allclose(mixture.log_density(holes), density, rtol=1e-9, atol=1e-12)
    assert agreement(z, mixture.predict(holes)) > 0.6


def _log_of_known(mixture: Mixture, row: Mapping[str, Any], j: int) -> float:
    known = [i for i, name in enumerate(mixture.features or ()) if not np.isnan(row[name])]
    total = 0.0
    if known:
        x = [row[str((mixture.features or ())[i])] for i in known]
        covariance = mixture.covariances[j][np.ix_(known, known)]
        total += float(multivariate_normal(mixture.means[j][known], covariance).logpdf(x))
    for name, levels in mixture.categorical.items():
        if not pd.isna(row[name]):
            text = str(row[name]).lower() if isinstance(row[name], bool) else str(row[name])
            total += float(np.log(levels[text][j]))
    if not np.isnan(row["visits"]):
        total += float(poisson(mixture.counts["visits"][j]).logpmf(row["visits"]))
    return total
