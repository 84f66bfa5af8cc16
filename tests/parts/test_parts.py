"""Each part by itself: against scipy, closed forms, and what the protocol promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import poisson

from sparkgmm.parts import Column, Multinomial, Part, Poisson, fill, natural, of_all
from sparkgmm.parts.multinomial import LEAST_SHARE
from sparkgmm.parts.poisson import log_factorial

LEVELS = Column("colour", "categorical", ("blue", "green", "red"))
COUNTS = Column("visits", "counts")


def values_of(n: int = 200, seed: int = 0) -> Any:
    """Return a numeric column, one of levels and one of counts, some of them not known."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.normal(size=n), rng.integers(0, 3, n), rng.poisson(4.0, n)]).astype(
        float
    )
    values[1:, ::7] = np.nan
    return values


def parts_of() -> tuple[Multinomial, Poisson]:
    p = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]])
    rates = np.array([2.5, 7.0])
    return (
        Multinomial(LEVELS, 1, p, p.mean(axis=0)),
        Poisson(COUNTS, 2, rates, float(rates.mean())),
    )


def test_natural_parameters_times_statistics_are_the_log_density() -> None:
    values, parts = values_of(), parts_of()
    by_product = natural(parts) @ fill(parts, values)
    np.testing.assert_allclose(by_product, sum(p.log_density(values) for p in parts), atol=1e-12)
    known = np.isfinite(values[1])
    expected = np.log(parts[0].probabilities[:, values[1][known].astype(int)])
    expected += poisson(parts[1].rates[:, None]).logpmf(values[2][known])
    np.testing.assert_allclose(by_product[:, known], expected, rtol=1e-12)


def test_what_is_not_known_says_nothing() -> None:
    values, parts = values_of(), parts_of()
    T = fill(parts, values)
    assert (T[:, ::7] == 0).all()
    for part in parts:
        assert (part.log_density(values)[:, ::7] == 0).all()
    unseen = values.copy()
    unseen[1] = 3.0  # no level has the number
    assert (parts[0].log_density(unseen) == 0).all()


def test_log_factorials_of_small_and_large_counts() -> None:
    x = np.array([0, 1, 2, 10, 255, 256, 257, 1000, 123456, 2**40], dtype=float)
    from scipy.special import gammaln

    np.testing.assert_allclose(log_factorial(x), gammaln(x + 1), rtol=2e-15, atol=1e-15)


def test_the_m_step_maximises_the_likelihood_within_its_bounds() -> None:
    # level 2 has no row in component 0: its bound is what it gets
    part = Multinomial(LEVELS, 0, np.full((1, 3), 1 / 3), np.array([0.5, 0.4, 0.1]))
    sums = np.array([[30.0, 10.0, 0.0]])
    found = part.estimate(np.array([40.0]), sums).probabilities[0]
    assert found[2] == pytest.approx(LEAST_SHARE * 0.1, rel=1e-12)
    assert found.sum() == pytest.approx(1, abs=1e-15)
    best = minimize(
        lambda p: -(sums[0, :2] @ np.log(p)),
        [0.5, 0.5],
        bounds=[(1e-9, 1)] * 2,
        constraints={"type": "eq", "fun": lambda p: p.sum() + found[2] - 1},
        tol=1e-14,
    )
    np.testing.assert_allclose(found[:2], best.x, rtol=1e-6)


def test_a_component_that_knows_no_value_has_those_of_all_rows() -> None:
    multinomial, counts = parts_of()
    nothing = np.array([50.0, 50.0])
    p = multinomial.estimate(nothing, np.zeros((2, 3))).probabilities
    np.testing.assert_array_equal(p[0], multinomial.overall)
    assert (counts.estimate(nothing, np.zeros((2, 3))).rates == counts.overall).all()


@pytest.mark.parametrize("at", [0, 1])
def test_coordinates_come_back_and_any_are_a_part(at: int) -> None:
    part: Part = parts_of()[at]
    same = part.unpacked(part.pack())
    np.testing.assert_allclose(same.natural, part.natural, rtol=1e-13, atol=1e-15)
    wild = part.unpacked(np.random.default_rng(0).normal(0, 40, len(part.pack())))
    assert wild.sound
    assert len(part.metric(np.ones((2, 1))).ravel()) == len(part.pack())


def test_components_are_taken_joined_and_compared() -> None:
    for part in parts_of():
        both = part.take(np.array([1])).joined([part.take(np.array([0]))])
        np.testing.assert_array_equal(both.natural, part.natural[::-1])
        assert not part.alike(0, 1, 1e-3)
        assert part.with_mean_at(0, np.array([1])).alike(0, 1, 1e-12)


def test_affinities_are_bhattacharyyas() -> None:
    multinomial, counts = parts_of()
    found = multinomial.affinity(multinomial)
    p, q = multinomial.probabilities
    assert found[0, 1] == pytest.approx(np.log(np.sqrt(p * q).sum()))
    np.testing.assert_allclose(np.diagonal(found), 0, atol=1e-15)
    x = np.arange(100)
    a, b = (poisson(rate).pmf(x) for rate in counts.rates)
    assert counts.affinity(counts)[0, 1] == pytest.approx(np.log(np.sqrt(a * b).sum()))


def test_samples_have_the_parameters_that_they_were_drawn_from() -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 50_000)
    multinomial, counts = parts_of()
    levels = multinomial.sample(labels, rng)
    shares = [np.bincount(levels[labels == j].astype(int)) / 50_000 for j in (0, 1)]
    np.testing.assert_allclose(shares, multinomial.probabilities, atol=0.01)
    drawn = counts.sample(labels, rng)
    means = [drawn[labels == j].mean() for j in (0, 1)]
    np.testing.assert_allclose(means, counts.rates, rtol=0.02)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 1e6), min_size=3, max_size=3).filter(lambda x: sum(x) > 1e-3))
def test_estimates_are_probabilities_whatever_the_sums(sums: list[float]) -> None:
    part = Multinomial(LEVELS, 0, np.full((1, 3), 1 / 3), np.array([0.6, 0.3, 0.1]))
    p = part.estimate(np.array([sum(sums)]), np.array([sums])).probabilities
    assert p.sum() == pytest.approx(1, abs=1e-12)
    assert (p >= part.least * (1 - 1e-12)).all()


def test_one_component_for_all_rows_has_their_frequencies() -> None:
    values, w = values_of(1000), np.random.default_rng(2).uniform(0.5, 2, 1000)
    multinomial, counts = of_all((LEVELS, COUNTS), values, w)
    assert (multinomial.column, counts.column) == (1, 2)
    known = np.isfinite(values[1])
    shares = np.bincount(values[1][known].astype(int), w[known]) / w[known].sum()
    assert isinstance(multinomial, Multinomial)
    assert isinstance(counts, Poisson)
    # each level has half a row more, which a sample may not have shown
    np.testing.assert_allclose(multinomial.overall, shares, rtol=0.01)
    assert counts.overall == pytest.approx(np.average(values[2][known], weights=w[known]))
