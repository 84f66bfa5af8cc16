"""What drift measures, against integrals, plain sums, repeated draws and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad

from helpers.builders import rows_of
from helpers.data_sets import random_mixture
from sparkgmm.core.drift import (
    MEASURES,
    Change,
    Drift,
    Estimate,
    Labelled,
    Measure,
    changes,
    crossings,
    divergence_by_chance,
    jensen_shannon,
    mean_log_density,
    share_below,
)
from sparkgmm.core.local import fit_array
from sparkgmm.mixture import Array, Mixture


def normal(mean: float, sd: float = 1.0) -> Mixture:
    return Mixture([1.0], [[mean]], [[[sd**2]]])


def two(mean: float = 0.0, weight: float = 0.7) -> Mixture:
    """Return two components that stand far apart, the first of which can be moved."""
    return Mixture(
        [weight, 1 - weight],
        [[mean, 0.0], [20.0, 5.0]],
        [[[4.0, 1.0], [1.0, 1.0]], [[1.0, 0.0], [0.0, 9.0]]],
    )


# --- the divergence


def integral(one: Mixture, other: Mixture) -> float:
    """Return the Jensen-Shannon divergence of two mixtures of one feature by its definition."""

    def relative(m: Mixture) -> float:
        def term(x: float) -> float:
            p, q = (math.exp(d.log_density([[x]])[0]) for d in (one, other))
            mine = math.exp(m.log_density([[x]])[0])
            return mine * math.log(2 * mine / (p + q)) if mine > 0 else 0.0

        return quad(term, -25, 25, limit=400, points=[-3, 0, 3, 8])[0]

    return (relative(one) + relative(other)) / 2


PAIRS = {
    "moved a little": (normal(0), normal(0.05)),
    "moved": (normal(0), normal(1)),
    "narrower": (normal(0), normal(0, 0.4)),
    "a component more": (
        Mixture([0.6, 0.4], [[-3.0], [3.0]], [[[1.0]], [[2.0]]]),
        Mixture([0.5, 0.3, 0.2], [[-3.0], [3.0], [8.0]], [[[1.0]], [[2.0]], [[1.0]]]),
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_divergence_is_that_of_the_integral_within_its_error(pair: str) -> None:
    one, other = PAIRS[pair]
    found, truth = jensen_shannon(one, other), integral(one, other)
    assert abs(found.value - truth) < 4 * found.error
    assert found.error < 0.02 * truth


def test_the_error_of_the_divergence_is_what_repeated_draws_scatter() -> None:
    one, other = normal(0), normal(1)
    truth = integral(one, other)
    found = [jensen_shannon(one, other, 1000, seed) for seed in range(200)]
    z = np.array([(estimate.value - truth) / estimate.error for estimate in found])
    assert abs(z.mean()) < 0.25
    assert 0.85 < z.std() < 1.15


def test_equal_mixtures_diverge_by_nothing_and_foreign_ones_by_ln_two() -> None:
    mixture = random_mixture(np.random.default_rng(0), 3, 4, "full")
    assert jensen_shannon(mixture, mixture) == Estimate(0.0, 0.0)
    far = Mixture(mixture.weights, mixture.means + 1e9, mixture.covariances)
    assert jensen_shannon(mixture, far).value == pytest.approx(math.log(2), abs=1e-12)


def test_the_divergence_knows_neither_order_nor_units() -> None:
    rng = np.random.default_rng(1)
    one, other = (random_mixture(rng, 3, 2, "full", spread=0.5) for _ in range(2))
    found, back = jensen_shannon(one, other), jensen_shannon(other, one)
    assert abs(found.value - back.value) < 4 * math.hypot(found.error, back.error)
    unit = np.array([1e9, 1e-6])
    scaled = [
        Mixture(m.weights, m.means * unit, m.covariances * np.outer(unit, unit))
        for m in (one, other)
    ]
    assert jensen_shannon(*scaled).value == pytest.approx(found.value, rel=1e-6)


def test_the_same_mixtures_diverge_by_the_same_bits() -> None:
    rng = np.random.default_rng(2)
    one, other = (random_mixture(rng, 4, 3, "full") for _ in range(2))
    assert jensen_shannon(one, other) == jensen_shannon(one, other)


def test_chance_alone_makes_the_divergence_that_is_told() -> None:
    rng = np.random.default_rng(3)
    found, expected = [], []
    for _ in range(30):
        a, b = (rng.multivariate_normal([0, 0], [[2, 1], [1, 3]], 400) for _ in range(2))
        one, other = (
            Labelled.first(Mixture([1.0], [X.mean(axis=0)], [np.cov(X.T, bias=True)]), 400)
            for X in (a, b)
        )
        found.append(jensen_shannon(one.mixture, other.mixture).value)
        expected.append(divergence_by_chance(one, other))
    assert np.mean(found) == pytest.approx(np.mean(expected), rel=0.3)


# --- the new rows under the old mixture


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_mean_log_density_is_that_of_every_row(kind: str, weighted: bool) -> None:
    rng = np.random.default_rng(5)
    mixture = random_mixture(rng, 3, 3, kind)
    X = mixture.sample(5000, 0)[0] + 0.3
    w = rng.uniform(0.5, 3, len(X)) if weighted else None
    found = mean_log_density(rows_of(X, w), mixture)
    truth = np.average(mixture.log_density(X), weights=w)
    assert found == pytest.approx(truth, rel=1e-9)


@pytest.mark.parametrize("unit", [1e-9, 1e3, 1e9])
def test_rows_in_other_units_have_the_log_density_that_they_have(unit: float) -> None:
    mixture = two()
    X = mixture.sample(4000, 0)[0] * [1.0, unit]
    found = mean_log_density(rows_of(X), mixture)
    assert found == pytest.approx(mixture.log_density(X).mean(), rel=1e-6)


def test_the_share_below_counts_weights_as_rows() -> None:
    X = np.array([[0.0], [5.0], [9.0]])
    mixture = normal(0)
    edge = mixture.log_density([[4.0]])[0]
    assert share_below(mixture, X, np.array([2.0, 1.0, 1.0]), edge) == pytest.approx(0.5)


# --- labels


def test_labels_stay_when_weights_change_the_order() -> None:
    before = Labelled(two(), (4, 7), 9, 1000)
    m = two(0.1)
    after = before.following(
        Mixture([0.6, 0.4], m.means[::-1], m.covariances[::-1]), 1000
    )  # the second is the heavier now
    assert (after.labels, after.next_label) == ((7, 4), 9)


def test_a_label_that_vanished_is_never_given_away_again() -> None:
    three = Mixture([0.5, 0.3, 0.2], [[0.0], [10.0], [20.0]], np.ones((3, 1, 1)))
    first = Labelled.first(three, 1000)
    less = Mixture([0.6, 0.4], [[0.0], [10.0]], np.ones((2, 1, 1)))
    again = first.following(less, 1000).following(three, 1000)
    assert first.labels == (0, 1, 2)
    assert (again.labels, again.next_label) == ((0, 1, 3), 4)


# --- changes of components


def test_changes_name_what_appeared_and_what_vanished() -> None:
    before = Labelled(two(), (0, 1), 2, 1000)
    new = Mixture([0.8, 0.2], [[0.0, 0.0], [90.0, 90.0]], two().covariances)
    found = changes(before, before.following(new, 1000))
    assert [(c.label, c.status) for c in found] == [
        (0, "matched"),
        (1, "vanished"),
        (2, "appeared"),
    ]
    assert [c.weight_change for c in found] == pytest.approx([0.1, -0.3, 0.2])
    assert [c.mean_shift is None for c in found] == [False, True, True]


def test_the_mean_shift_is_the_mahalanobis_distance_by_the_old_covariance() -> None:
    before, after = Labelled.first(two(), 1000), Labelled.first(two(1.2), 500)
    [change, still] = changes(before, after)
    delta = np.array([1.2, 0.0])
    expected = math.sqrt(delta @ np.linalg.inv(two().covariances[0]) @ delta)
    assert change.mean_shift == pytest.approx(expected)
    assert still.mean_shift == 0.0
    # the variance of a mean over its effective rows, on either side
    assert change.mean_z == pytest.approx(1.2 / math.sqrt(4 / 700 + 4 / 350))
    assert change.mean_z_feature == 0


def test_changes_do_not_depend_on_the_units() -> None:
    unit = np.array([1e-7, 1e6])

    def scaled(m: Mixture) -> Labelled:
        return Labelled.first(
            Mixture(m.weights, m.means * unit, m.covariances * np.outer(unit, unit)), 1000
        )

    [plain, _] = changes(Labelled.first(two(), 1000), Labelled.first(two(1.2, 0.6), 1000))
    [same, _] = changes(scaled(two()), scaled(two(1.2, 0.6)))
    for key in ("mean_shift", "mean_z", "weight_z", "distance"):
        assert getattr(same, key) == pytest.approx(getattr(plain, key), rel=1e-6)


def test_z_scores_of_nights_without_change_scatter_by_about_one() -> None:
    truth = two()
    fits = [
        fit_array(truth.sample(600, seed)[0], 2, init="k-means++", n_init=3).mixture
        for seed in range(40)
    ]
    weight_z, mean_z = [], []
    for one, other in zip(fits[::2], fits[1::2], strict=True):
        before = Labelled.first(one, 600)
        for change in changes(before, before.following(other, 600)):
            weight_z.append(change.weight_z)
            mean_z.append(change.mean_z)
    assert 0.6 < np.std(weight_z) < 1.5
    # the larger of two features: by chance 1.2 in the mean, whatever its sign
    assert 0.8 < np.abs(np.array(mean_z, dtype=float)).mean() < 1.6


# --- measures and thresholds


def drift_of(before: Mixture, after: Mixture, X: Array | None = None) -> Drift:
    old = Labelled.first(before, 1000)
    new = old.following(after, 1000)
    return Drift(old, new, tuple(changes(old, new)), Estimate(0.1, 0.001), -5.0, 0.5, 0.02)


def test_measures_are_the_largest_of_any_component_without_its_sign() -> None:
    measures = drift_of(two(), two(-1.2, 0.6)).measures
    assert measures["weight_change"] == pytest.approx(0.1)
    assert measures["mean_z"] == pytest.approx(1.2 / math.sqrt(4 / 700 + 4 / 600))
    assert (measures["appeared"], measures["vanished"]) == (0, 0)
    assert measures.keys() == MEASURES.keys()


def test_where_no_component_is_found_again_its_mean_is_infinitely_far() -> None:
    m = two()
    measures = drift_of(m, Mixture(m.weights, m.means + 1e4, m.covariances)).measures
    assert measures["mean_shift"] == measures["mean_z"] == math.inf
    assert measures["weight_change"] == pytest.approx(0.7)
    assert (measures["appeared"], measures["vanished"]) == (2, 2)


def test_a_threshold_is_crossed_above_it_and_not_at_it() -> None:
    measures = drift_of(two(), two()).measures
    assert crossings(measures, "warn", {"divergence": 0.1, "appeared": 0, "mean_z": None}) == []
    [crossed] = crossings(measures, "fail", {"divergence": 0.0999, "log_density_fall": 0.6})
    assert str(crossed) == "divergence is 0.1 nats, above drift.fail.divergence 0.0999"


def test_a_new_measure_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Measure(lambda drift: float(drift.after.next_label), " labels")
    monkeypatch.setitem(MEASURES, "labels", labels)
    drift = drift_of(two(), two())
    assert drift.measures["labels"] == drift.after.next_label
    [crossed] = crossings(drift.measures, "warn", {"labels": 1})
    assert str(crossed) == "labels is 2 labels, above drift.warn.labels 1"


@pytest.mark.parametrize("name", MEASURES)
def test_each_measure_is_nothing_where_nothing_changed_and_can_be_crossed(name: str) -> None:
    old = Labelled.first(two(), 1000)
    new = old.following(two(), 1000)
    still = Drift(old, new, tuple(changes(old, new)), Estimate(0.0, 0.0), -5.0, 0.0, 0.0)
    assert still.measures[name] == 0
    assert crossings(still.measures, "warn", {name: 0}) == []
    other = drift_of(two(), Mixture(two().weights, two().means + 1e4, two().covariances))
    value = other.measures[name]
    assert value is not None
    [crossed] = crossings(other.measures, "fail", {name: 0})
    assert str(crossed).startswith(f"{name} is {value:.4g}{MEASURES[name].unit}, above drift.fail.")


def test_a_change_knows_what_became_of_it() -> None:
    figures = {"weight": 0.1, "weight_before": 0.2, "weight_z": 1.0}
    assert Change(0, 1, 1, **figures).status == "matched"
    assert Change(0, None, 1, **figures).status == "vanished"
    assert Change(0, 1, None, **figures).status == "appeared"
