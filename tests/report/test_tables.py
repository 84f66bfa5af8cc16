"""The tables of a report: what they say, computed another way."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from helpers.builders import rows_of
from helpers.data_sets import faithful, random_mixture
from helpers.report_runs import run_from, run_of, spread_out
from sparkgmm.core.profile import Profile
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.run import Run
from sparkgmm.report.sections.choice import candidate_table
from sparkgmm.report.sections.components import component_table, correlation_tables, mean_table
from sparkgmm.report.sections.facts import fact_table, profile_table
from sparkgmm.report.tables import Table


def column(table: Table, head: str) -> list[str]:
    return [row[table.head.index(head)] for row in table.rows]


def numbers(cells: list[str]) -> list[float]:
    return [float(cell.replace(",", "").rstrip("%")) for cell in cells]


def profile_of(X: Array) -> Profile:
    return rows_of(X).profile


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of(faithful(), features=["eruptions", "waiting"], k=[1, 2, 3])


@pytest.fixture(scope="module")
def overlapping() -> Membership:
    mixture = Mixture([0.6, 0.4], [[0.0, 0.0], [2.0, 1.0]], [np.eye(2), [[1.0, 0.5], [0.5, 2.0]]])
    X, _ = mixture.sample(20_000, seed=0)
    return Membership(mixture, Sample(X, np.ones(len(X)), complete=True))


def test_a_table_has_as_many_cells_a_row_as_heads(run: Run) -> None:
    tables = [
        component_table(run.membership, 272.0),
        mean_table(run.chosen.mixture),
        profile_table(run.profile, ["a", "b"]),
        candidate_table(run.candidates, run.chosen, "bic"),
        fact_table(run.metrics, run.manifest),
        *(table for _, table in correlation_tables(run.chosen.mixture)),
    ]
    for table in tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.head)}
        assert all(isinstance(cell, str) for row in table.rows for cell in row)


# --- components


def test_effective_rows_sum_to_the_weights() -> None:
    weights = np.random.default_rng(0).uniform(0.5, 4, 272)
    run = run_of(faithful(), weights=weights, k=3)
    table = component_table(run.membership, run.metrics["sum_of_weights"])
    assert sum(numbers(column(table, "effective rows"))) == pytest.approx(weights.sum(), abs=0.2)
    assert sum(numbers(column(table, "weight"))) == pytest.approx(1, abs=2e-4)


def test_the_overlap_is_the_share_of_draws_that_go_elsewhere(overlapping: Membership) -> None:
    mixture = overlapping.mixture
    X, labels = mixture.sample(200_000, seed=9)
    predicted = mixture.predict(X)
    expected = [100 * (predicted[labels == j] != j).mean() for j in range(2)]
    found = numbers(column(component_table(overlapping, 1.0), "overlap"))
    np.testing.assert_allclose(found, expected, atol=1.0)
    assert column(component_table(overlapping, 1.0), "nearest") == ["1", "0"]


def test_certain_is_the_share_of_a_components_draws_that_surely_belong_to_it(
    overlapping: Membership,
) -> None:
    mixture = overlapping.mixture
    X, labels = mixture.sample(200_000, seed=9)
    R = mixture.responsibilities(X)
    expected = [100 * (R[labels == j, j] >= 0.95).mean() for j in range(2)]
    found = numbers(column(component_table(overlapping, 1.0), "certain"))
    np.testing.assert_allclose(found, expected, atol=1.0)


def test_a_small_component_within_a_large_one_is_certain_of_no_row() -> None:
    # every row is certain, but of the other component
    mixture = Mixture([0.97, 0.03], [[0.0], [0.01]], [[[1.0]], [[1.0]]])
    X, _ = mixture.sample(2000, seed=0)
    table = component_table(Membership(mixture, Sample(X, np.ones(2000), True)), 2000.0)
    assert numbers(column(table, "certain"))[1] == 0


def test_a_lone_component_has_neither_neighbour_nor_overlap() -> None:
    table = component_table(run_of(faithful(), k=1).membership, 272.0)
    assert column(table, "nearest") == ["–"]
    assert column(table, "overlap") == ["–"]
    assert column(table, "certain") == ["100.0%"]


def test_the_strongest_correlation_is_named_with_its_sign() -> None:
    covariance = np.eye(4)
    covariance[1, 3] = covariance[3, 1] = -0.7
    covariance[0, 2] = covariance[2, 0] = 0.4
    mixture = Mixture([1.0], np.zeros((1, 4)), covariance[None], features=list("abcd"))
    X, _ = mixture.sample(50, seed=0)
    table = component_table(Membership(mixture, Sample(X, np.ones(50), True)), 50.0)
    assert column(table, "strongest r") == ["b and d: -0.700"]


@pytest.mark.parametrize("covariance_type", ["diag", "spherical"])
@pytest.mark.parametrize("d", [1, 3, 12])
def test_where_nothing_correlates_no_correlation_is_named(covariance_type: str, d: int) -> None:
    run = run_from(spread_out(d, 2, covariance_type), 500)
    table = component_table(run.membership, 500.0)
    assert column(table, "strongest r") == ["–", "–"]
    assert correlation_tables(run.chosen.mixture) == []


def test_correlations_are_numpys_of_many_draws() -> None:
    mixture = random_mixture(np.random.default_rng(0), 2, 4, "full")
    tables = correlation_tables(mixture)
    assert len(tables) == 2
    for j, (_, table) in enumerate(tables):
        one = Mixture([1.0], mixture.means[[j]], mixture.covariances[[j]])
        expected = np.corrcoef(one.sample(200_000, seed=0)[0].T)
        found = [numbers(row[1:]) for row in table.rows]
        np.testing.assert_allclose(found, expected, atol=0.02)
        np.testing.assert_array_equal(np.diag(found), 1)


def test_of_many_features_the_strongest_correlations_are_listed_in_order() -> None:
    mixture = random_mixture(np.random.default_rng(0), 2, 12, "full")
    [(_, table)] = correlation_tables(mixture)
    for j, row in enumerate(table.rows):
        sd = np.sqrt(np.diagonal(mixture.covariances[j]))
        r = np.abs(mixture.covariances[j] / np.outer(sd, sd))[np.triu_indices(12, 1)]
        listed = [float(x) for x in re.findall(r": (-?[0-9.]+)", row[1])]
        np.testing.assert_allclose(np.abs(listed), np.sort(r)[::-1][: len(listed)], atol=5e-4)
        assert len(listed) == 6
        assert not re.search(r"(x\d+) and \1\b", row[1])


# --- means, features, candidates


def test_the_means_are_those_of_the_mixture_in_the_datas_units() -> None:
    mixture = Mixture(
        [0.5, 0.5],
        [[1.7e12, 1e-8], [1.7e12 + 900, 5e-8]],
        [np.diag([1e4, 1e-18]), np.diag([4e4, 4e-18])],
        features=["time", "rate"],
    )
    table = mean_table(mixture)
    assert column(table, "feature") == ["time", "rate"]
    for j in range(2):
        for i, cell in enumerate(column(table, str(j))):
            mean, sd = numbers(cell.split(" ± "))
            true = np.sqrt(mixture.covariances[j, i, i])
            assert mean == pytest.approx(mixture.means[j, i], abs=0.0101 * true)
            assert sd == pytest.approx(true, rel=0.01)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1.7e12, 40.0), (0.0, 1e-9)])
def test_the_profile_is_numpys(offset: float, scale: float) -> None:
    X = offset + scale * np.random.default_rng(0).normal([3, -1], [1, 2], (5000, 2))
    table = profile_table(profile_of(X), ["a", "b"])
    sd = X.std(axis=0)
    for head, expected in (
        ("mean", X.mean(axis=0)),
        ("sd", sd),
        ("least", X.min(axis=0)),
        ("most", X.max(axis=0)),
    ):
        np.testing.assert_allclose(
            (np.array(numbers(column(table, head))) - expected) / sd, 0, atol=0.011
        )


def test_candidates_are_listed_best_first_with_the_degenerate_last(run: Run) -> None:
    ghost = replace(run.chosen, k=9, log_likelihood=1e9, degenerate="component 1 is a spike")
    table = candidate_table([ghost, *run.candidates], run.chosen, "bic")
    assert column(table, "k")[-1] == "9"
    assert column(table, "note")[-1] == "refused: component 1 is a spike"
    assert table.head[1:4] == ["k", "covariance", "note"]  # where a narrow window shows them
    best_first = numbers(column(table, "bic"))[:-1]
    assert best_first == sorted(best_first)
    assert [k for k, mark in zip(column(table, "k"), column(table, ""), strict=True) if mark] == [
        str(run.chosen.k)
    ]


@pytest.mark.parametrize("criterion", ["bic", "aic", "icl"])
def test_criteria_are_those_of_the_mixture_over_the_rows(run: Run, criterion: str) -> None:
    table = candidate_table(run.candidates, run.chosen, criterion)
    found = dict(zip(column(table, "k"), numbers(column(table, criterion)), strict=True))
    for candidate in run.candidates:
        expected = getattr(candidate.mixture, criterion)(faithful())
        assert found[str(candidate.k)] == pytest.approx(expected, abs=0.01)


def test_a_candidate_that_did_not_converge_says_so(run: Run) -> None:
    table = candidate_table([replace(run.chosen, converged=False)], run.chosen, "bic")
    assert column(table, "note") == ["not converged"]


def test_the_facts_are_those_of_metrics_and_manifest() -> None:
    run = run_of(faithful(), invalid=1028, invalid_rows="drop")
    facts = dict(fact_table(run.metrics, run.manifest).rows)
    assert facts["rows"] == "1,300 read, 272 used, 1,028 invalid"
    log_likelihood = run.chosen.mixture.log_likelihood(faithful())
    assert numbers([facts["log-likelihood"]])[0] == pytest.approx(log_likelihood, abs=1e-4)
    assert facts["free parameters"] == "11"
    assert facts["seconds"] == "read 0.5 s, fit 1.5 s"
    assert "python 3.11.7" in facts["versions"]
    assert "converged after" in facts["end"]
