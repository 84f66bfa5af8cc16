"""Several mixtures of the same rows: matched, measured, and put into words that hold."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal, norm

from helpers.data_sets import random_mixture
from sparkgmm.core.matching import bhattacharyya_between
from sparkgmm.core.sample import Sample
from sparkgmm.mixture import Array, Mixture
from sparkgmm.report.comparison import (
    Comparison,
    Differences,
    Solved,
    counterparts,
    differences,
    hard_loss,
    mllib_problems,
    reordered,
)


def permuted(mixture: Mixture, order: list[int]) -> Mixture:
    return Mixture(
        mixture.weights[order],
        mixture.means[order],
        mixture.covariances[order],
        mixture.covariance_type,
    )


def sample_of(mixture: Mixture, n: int = 500) -> Sample:
    return Sample(mixture.sample(n, seed=0)[0], np.ones(n), complete=True)


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return random_mixture(np.random.default_rng(3), 4, 3, "full")


# --- matching


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]])
def test_components_in_another_order_are_found_again(mixture: Mixture, order: list[int]) -> None:
    found = counterparts(mixture, permuted(mixture, order))
    assert [order[i] for i in found] == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(5))
def test_the_match_is_the_permutation_with_the_least_sum_of_distances(seed: int) -> None:
    ours, theirs = (
        random_mixture(np.random.default_rng([seed, i]), 5, 2, "spherical") for i in range(2)
    )
    found = counterparts(ours, theirs)
    assert sorted(found) == list(range(5))
    distances = bhattacharyya_between(ours, theirs)

    def cost(order: tuple[int, ...]) -> float:
        return sum(distances[j, i] for j, i in enumerate(order))

    assert cost(tuple(found)) == pytest.approx(min(map(cost, itertools.permutations(range(5)))))


def test_components_too_far_apart_for_a_float_have_counterparts() -> None:
    sd = np.full((2, 1, 1), 1e-300)
    ours = Mixture([0.5, 0.5], [[0.0], [1e10]], sd)
    theirs = Mixture([0.5, 0.5], [[1e10], [-1e10]], sd)
    with np.errstate(all="ignore"):
        assert counterparts(ours, theirs) == [1, 0]


def test_where_they_have_fewer_components_some_of_ours_have_no_counterpart(
    mixture: Mixture,
) -> None:
    kept = [0, 2, 3]
    fewer = Mixture([0.3, 0.3, 0.4], mixture.means[kept], mixture.covariances[kept])
    found = counterparts(mixture, fewer)
    assert [found[j] for j in kept] == [0, 1, 2]
    assert found[1] == -1


def test_reordered_components_stand_in_the_order_of_ours(mixture: Mixture) -> None:
    theirs = permuted(mixture, [2, 0, 3, 1])
    again = reordered(theirs, counterparts(mixture, theirs))
    np.testing.assert_array_equal(again.weights, mixture.weights)
    np.testing.assert_array_equal(again.means, mixture.means)
    np.testing.assert_array_equal(again.covariances, mixture.covariances)


def test_reordering_loses_no_component(mixture: Mixture) -> None:
    one = Mixture([1.0], mixture.means[[2]], mixture.covariances[[2]])
    again = reordered(mixture, counterparts(one, mixture))
    assert again.k == 4
    np.testing.assert_array_equal(again.means[0], mixture.means[2])
    np.testing.assert_allclose(np.sort(again.weights), np.sort(mixture.weights))


# --- differences


def test_a_mixture_does_not_differ_from_itself(mixture: Mixture) -> None:
    theirs = permuted(mixture, [1, 3, 0, 2])
    assert differences(mixture, theirs, counterparts(mixture, theirs)) == Differences(0, 0, 0)


def test_a_known_shift_is_told_in_its_unit() -> None:
    ours = Mixture([0.5, 0.5], [[0.0, 0.0], [9.0, 9.0]], [np.diag([4.0, 100.0]), np.eye(2)])
    theirs = Mixture(
        [0.53, 0.47],
        [[0.0, 5.0], [9.0, 9.0]],  # 5 is half of a standard deviation
        [[[4.0, 3.0], [3.0, 100.0]], 1.1 * np.eye(2)],  # 3 is 0.15 of 2 times 10
    )
    found = differences(ours, theirs, [0, 1])
    assert found.weights == pytest.approx(0.03)
    assert found.means == pytest.approx(0.5)
    assert found.covariances == pytest.approx(0.15)
    assert found.largest == pytest.approx(0.5)


def test_differences_do_not_depend_on_units(mixture: Mixture) -> None:
    rng = np.random.default_rng(0)
    theirs = Mixture(
        mixture.weights, mixture.means + rng.normal(size=(4, 3)), 1.3 * mixture.covariances
    )
    unit = np.array([1e-6, 1.0, 1e9])

    def scaled(m: Mixture) -> Mixture:
        return Mixture(m.weights, m.means * unit, m.covariances * np.outer(unit, unit))

    plain = differences(mixture, theirs, range(4))
    moved = differences(scaled(mixture), scaled(theirs), range(4))
    np.testing.assert_allclose(
        (moved.weights, moved.means, moved.covariances),
        (plain.weights, plain.means, plain.covariances),
    )


# --- the verdict


OURS = Mixture([0.6, 0.4], [[0.0, 0.0], [5.0, 5.0]], np.tile(np.eye(2), (2, 1, 1)))
OTHER = Mixture([0.6, 0.4], [[0.0, 0.0], [5.0, 4.9]], np.tile(np.eye(2), (2, 1, 1)))


def verdict(*peers: Solved, ours: Mixture = OURS) -> str:
    solved = [Solved("sparkgmm", ours, mean_log_likelihood=-4.0), *peers]
    return Comparison(solved, sample_of(ours, 50)).verdict()


def same(name: str, short: float = 0.0) -> Solved:
    return Solved(name, permuted(OURS, [1, 0]), mean_log_likelihood=-4.0 - short)


def other(name: str, short: float) -> Solved:
    return Solved(name, OTHER, mean_log_likelihood=-4.0 - short)


def test_the_verdict_where_all_agree() -> None:
    assert verdict(same("sklearn"), same("mllib")) == (
        "scikit-learn and Spark MLlib agree with sparkgmm in every weight, mean and covariance "
        "(largest difference 0.0e+00)."
    )
    near = Mixture([0.6005, 0.3995], OURS.means, OURS.covariances)
    said = verdict(Solved("mllib", near, mean_log_likelihood=-4.0))
    assert said.startswith("Spark MLlib agrees with sparkgmm")
    assert "5.0e-04" in said


def test_a_difference_above_a_thousandth_is_no_agreement() -> None:
    far = Mixture([0.6015, 0.3985], OURS.means, OURS.covariances)
    assert "agree" not in verdict(Solved("mllib", far, mean_log_likelihood=-4.0))


def test_the_verdict_where_one_falls_short() -> None:
    said = verdict(same("sklearn"), other("mllib", 0.25))
    assert said.startswith("scikit-learn agrees with sparkgmm")
    assert said.endswith("; Spark MLlib ends 2.50e-01 nats a row short of sparkgmm.")


def test_the_verdict_tells_a_fit_to_a_part_of_the_rows() -> None:
    solved = [
        Solved("sparkgmm", OURS, rows=5000, mean_log_likelihood=-4.0),
        replace(other("sklearn", 0.25), rows=1000),
        replace(other("mllib", 0.25), rows=5000),
    ]
    said = Comparison(solved, sample_of(OURS, 50)).verdict()
    assert "scikit-learn, fitted to 1,000 of the rows, ends 2.50e-01 nats" in said
    assert "Spark MLlib ends 2.50e-01 nats" in said


def test_the_verdict_tells_components_that_are_one_and_the_same() -> None:
    alike = Mixture([0.6, 0.4], [[2.0, 2.0]] * 2, np.tile(7 * np.eye(2), (2, 1, 1)))
    said = verdict(Solved("mllib", alike, mean_log_likelihood=-5.0))
    assert said.endswith("short of sparkgmm, its components one and the same.")
    assert "one and the same" not in verdict(other("mllib", 1.0))


def test_the_verdict_where_one_is_better() -> None:
    said = verdict(other("sklearn", -0.03))
    assert said == "scikit-learn finds an optimum 3.00e-02 nats a row better than sparkgmm."


def test_the_verdict_where_other_parameters_are_as_likely() -> None:
    said = verdict(other("sklearn", 1e-7))
    assert said == "scikit-learn reaches the same likelihood by other parameters."


def test_the_verdict_where_one_failed() -> None:
    said = verdict(Solved("sklearn", failed="it takes no row weights"), same("mllib"))
    assert said.startswith("Spark MLlib agrees")
    assert said.endswith("; scikit-learn gave no mixture (it takes no row weights).")


def test_the_verdict_where_all_failed() -> None:
    said = verdict(Solved("sklearn", failed="a"), Solved("kmeans", failed="b"))
    assert said == "scikit-learn gave no mixture (a); k-means gave no mixture (b)."


def test_k_means_is_worse_by_so_many_nats() -> None:
    said = verdict(other("kmeans", 0.1234))
    assert said.startswith("k-means, which assigns each row to one cluster,")
    assert said.endswith("0.1234 nats a row worse.")


def test_k_means_never_agrees_however_near_it_is() -> None:
    assert "agree" not in verdict(same("kmeans"))
    assert "0.0000 nats a row worse" in verdict(same("kmeans"))


def test_the_gaussians_of_k_means_may_be_better_where_ours_are_of_a_simpler_type() -> None:
    ours = Mixture(OURS.weights, OURS.means, OURS.covariances, "spherical")
    said = verdict(other("kmeans", -0.2), ours=ours)
    assert said.endswith("0.2000 nats a row better, with full covariances.")
    assert "-0.2" not in said


@pytest.mark.parametrize(("short", "side"), [(0.3, "worse"), (-0.3, "better")])
def test_another_type_of_covariance_is_no_shortfall(short: float, side: str) -> None:
    ours = Mixture(OURS.weights, OURS.means, OURS.covariances, "diag")
    said = verdict(other("mllib", short), ours=ours)
    assert said == (
        f"Spark MLlib describes the rows 3.00e-01 nats a row {side}, with full covariances where "
        "sparkgmm has diag ones."
    )


def test_another_number_of_components_is_compared_by_likelihood() -> None:
    one = Mixture([1.0], [[2.0, 2.0]], [7 * np.eye(2)])
    solved = [
        Solved("sparkgmm", OURS, mean_log_likelihood=-4.0),
        Solved("mllib", one, mean_log_likelihood=-4.5),
    ]
    comparison = Comparison(solved, sample_of(OURS))
    assert comparison.differences == {}
    assert sorted(comparison.matched["mllib"]) == [-1, 0]
    assert "short of sparkgmm" in comparison.verdict()


def test_hard_labels_are_compared_by_the_rand_index() -> None:
    apart = Mixture(OURS.weights, 4 * OURS.means, OURS.covariances)
    sample = sample_of(apart)
    labels = apart.predict(sample.X)
    chance = np.random.default_rng(0).integers(0, 2, len(labels))
    solved = [
        Solved("sparkgmm", apart),
        Solved("mllib", permuted(apart, [1, 0])),
        Solved("kmeans", apart, labels=1 - labels),
        Solved("sklearn", apart, labels=chance),
    ]
    found = Comparison(solved, sample).adjusted_rand
    assert found["sparkgmm"] == found["mllib"] == found["kmeans"] == 1
    assert abs(found["sklearn"]) < 0.05


# --- what hard assignment loses


def shares_of(lines: list[str]) -> list[float]:
    return [float(re.findall(r"([0-9.]+)%", line)[0]) / 100 for line in lines]


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_what_hard_assignment_loses_is_as_in_closed_form(order: list[int]) -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [2.0]], [[[1.0]], [[1.0]]])
    X, truth = mixture.sample(200_000, seed=4)
    # clusters that part at 1.5, components that part at 1; numbered in any order
    labels = np.array(order)[(X[:, 0] > 1.5).astype(int)]
    lines = hard_loss(mixture, Sample(X, np.ones(len(X)), True), labels, order)
    moved, doubtful, wrong = shares_of(lines)

    def chance(low: float, high: float) -> float:
        return 0.5 * sum(norm.cdf(high, m, 1) - norm.cdf(low, m, 1) for m in (0.0, 2.0))

    # the log odds are 2 x - 2
    reach = np.log(0.95 / 0.05) / 2
    assert moved == pytest.approx(chance(1, 1.5), abs=0.004)
    assert doubtful == pytest.approx(chance(1 - reach, 1 + reach), abs=0.004)
    assert wrong == pytest.approx(norm.cdf(-1), abs=0.004)
    assert wrong == pytest.approx((mixture.predict(X) != truth).mean(), abs=0.004)


def test_what_hard_assignment_loses_weighs_the_rows() -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [2.0]], [[[1.0]], [[1.0]]])
    X = np.array([[-9.0], [11.0], [1.2]])
    sample = Sample(X, np.array([1.0, 1.0, 8.0]), complete=True)
    lines = hard_loss(mixture, sample, np.array([0, 1, 0]), [0, 1])
    moved, doubtful, wrong = shares_of(lines)
    assert moved == pytest.approx(0.8)
    assert doubtful == pytest.approx(0.8)
    assert wrong == pytest.approx(0.8 / (1 + np.exp(2 * 1.2 - 2)), abs=1e-4)


# --- what happens in MLlib


def by_the_book(mixture: Mixture, X: Array) -> Array:
    """Return the weighted densities (n, k) by scipy."""
    return np.stack(
        [
            w * multivariate_normal(m, c).pdf(X)
            for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
        ],
        axis=1,
    )


def test_equal_components_are_called_one_and_the_same() -> None:
    mixture = Mixture(np.full(3, 1 / 3), np.zeros((3, 2)), np.tile(np.eye(2), (3, 1, 1)))
    [said] = mllib_problems(mixture, sample_of(mixture))
    assert said.startswith("MLlib's 3 components are one and the same")


def test_components_of_which_only_some_are_equal_are_not_all_the_same() -> None:
    means = [[0.0, 0.0], [0.0, 0.0], [3.0, 3.0]]
    mixture = Mixture(np.full(3, 1 / 3), means, np.tile(np.eye(2), (3, 1, 1)))
    assert mllib_problems(mixture, sample_of(mixture)) == []


@pytest.mark.parametrize(("d", "sd"), [(30, 1.0), (20, 1.0), (3, 1e5)])
def test_the_share_of_drowned_rows_is_that_of_the_densities(d: int, sd: float) -> None:
    means = sd * np.stack([np.zeros(d), np.full(d, 6.0)])
    mixture = Mixture([0.5, 0.5], means, np.tile(sd**2 * np.eye(d), (2, 1, 1)))
    sample = sample_of(mixture, 2000)
    drowned = (by_the_book(mixture, sample.X) < np.finfo(float).eps).all(axis=1).mean()
    assert drowned > 0.01
    [said] = mllib_problems(mixture, sample)
    assert said.startswith(f"For {drowned:.1%} of the rows every weighted density")
    assert "2.2e-16" in said


def test_nothing_is_said_of_a_sound_result() -> None:
    assert mllib_problems(OURS, sample_of(OURS)) == []
    one = Mixture([1.0], [[0.0]], [[[1.0]]])
    assert mllib_problems(one, sample_of(one)) == []


def test_a_component_without_weight_breaks_nothing() -> None:
    empty = Mixture([1.0, 0.0], OURS.means, OURS.covariances)
    assert mllib_problems(empty, sample_of(empty)) == []
    assert counterparts(OURS, empty) == [0, 1]


def test_a_title_is_how_people_write_it() -> None:
    assert Solved("mllib").title == "Spark MLlib"
    assert replace(Solved("mllib"), name="kmeans").title == "k-means"
