"""Parts beside the Gaussian inside EM: a column of counts, fitted with two numeric ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import multivariate_normal, poisson

from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import OverBlocks, Scan
from sparkgmm.core.judging import Course, judge
from sparkgmm.core.model import Model, to_mixture
from sparkgmm.core.prior import Regularised, m_step
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.race import Race
from sparkgmm.core.repair import without
from sparkgmm.core.statistics import NaturalKernel, WhitenedKernel
from sparkgmm.covariances import FAMILIES
from sparkgmm.parts import Column, Poisson
from sparkgmm.products import Array

D = 2


def poisson_of(rates: list[float]) -> Poisson:
    """Return the part of the column after the numeric ones."""
    return Poisson(Column("n", "counts"), D, np.array(rates), float(np.mean(rates)))


def rates_of(model: Model) -> Array:
    [part] = model.others
    assert isinstance(part, Poisson)
    return part.rates


@dataclass(frozen=True)
class Table:
    """Two numeric columns and one of counts, and what a fit needs of them."""

    X: Array
    counts: Array
    weights: Array | None = None

    @property
    def block(self) -> Block:
        return Block(np.vstack([self.X.T, self.counts]), self.weights)

    @property
    def evidence(self) -> OverBlocks:
        numeric = Profile.of(Block(np.ascontiguousarray(self.X.T), self.weights))
        return OverBlocks([self.block], Frame.of(numeric), numeric)


def table(n: int = 600, weighted: bool = False) -> Table:
    """Two components that overlap in the numeric columns and differ in their counts."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, n)
    X = rng.standard_normal((n, D)) * [1.0, 30.0] + labels[:, None] * [1.0, 20.0]
    w = rng.uniform(0.5, 2.0, n) if weighted else None
    return Table(X, rng.poisson(np.array([2.0, 9.0])[labels]).astype(float), w)


def start(evidence: OverBlocks, name: str) -> Model:
    """Two components that are alike but for their rates and a little of their means."""
    scale = evidence.frame.scale
    stack = FAMILIES[name].nearest(np.tile(np.diag(scale**2), (2, 1, 1)), scale)
    means = np.array([[-0.1, 0.0], [0.1, 0.0]])
    return Model(FAMILIES[name], np.array([0.5, 0.5]), means, stack, (poisson_of([3.0, 6.0]),))


def brute_force(t: Table, model: Model, frame: Frame, steps: int) -> tuple[Any, ...]:
    """EM in the data's own units, by the textbook's densities."""
    mixture, rates = to_mixture(replace(model, others=()), frame), rates_of(model)
    order = np.argsort(-model.weights, kind="stable")
    pi, mu, sigma, rates = mixture.weights, mixture.means, mixture.covariances, rates[order]
    w = np.ones(len(t.X)) if t.weights is None else t.weights
    for _ in range(steps):
        joint = np.stack(
            [
                np.log(pi[j])
                + multivariate_normal(mu[j], sigma[j]).logpdf(t.X)
                + poisson(rates[j]).logpmf(t.counts)
                for j in range(2)
            ],
            axis=1,
        )
        density = np.logaddexp.reduce(joint, axis=1)
        R = np.exp(joint - density[:, None]) * w[:, None]
        N = R.sum(axis=0)
        pi, mu, rates = N / N.sum(), R.T @ t.X / N[:, None], R.T @ t.counts / N
        sigma = np.array(
            [(R[:, j, None] * (t.X - mu[j])).T @ (t.X - mu[j]) / N[j] for j in range(2)]
        )
    return float(w @ density / w.sum()), rates, pi, mu


@pytest.mark.parametrize("weighted", [False, True])
def test_a_column_of_counts_is_fitted_with_the_numeric_ones(weighted: bool) -> None:
    t = table(weighted=weighted)
    evidence = t.evidence
    race = Race(
        [Trajectory(start(evidence, "full"))], evidence, Settings(tol=1e-11, prior=Regularised(0.0))
    )
    race.run(600)
    [state] = race.states
    assert state.converged
    height, rates, pi, mu = brute_force(t, start(evidence, "full"), evidence.frame, 500)
    assert state.log_likelihood - evidence.frame.log_volume == pytest.approx(height, abs=1e-8)
    found = np.argsort(rates_of(state.model))
    expected = np.argsort(rates)
    np.testing.assert_allclose(rates_of(state.model)[found], rates[expected], rtol=1e-3)
    np.testing.assert_allclose(state.model.weights[found], pi[expected], rtol=1e-3)
    means = evidence.frame.shift + state.model.means * evidence.frame.scale
    np.testing.assert_allclose(means[found], mu[expected], rtol=1e-2, atol=1e-2)
    # it is the counts that tell these components apart
    np.testing.assert_allclose(rates_of(state.model)[found], [2, 9], rtol=0.1)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_plain_em_step_never_falls_whatever_the_covariances_beside_the_counts(
    name: str,
) -> None:
    evidence = table().evidence
    model, heights = start(evidence, name), []
    for _ in range(15):
        [measured] = evidence.measure([model], "")
        heights.append(measured.log_likelihood)
        model = m_step(model.family, measured.moments, Regularised(0.0), model.stack, model.others)
    assert (np.diff(heights) > -1e-12).all()
    assert heights[-1] > heights[0] + 0.1


def test_acceleration_reaches_the_same_limit_in_fewer_passes() -> None:
    evidence = table().evidence

    def run(accelerate: bool) -> Trajectory:
        settings = Settings(1e-10, 2000, Regularised(0.0), accelerate)
        race = Race([Trajectory(start(evidence, "full"))], evidence, settings)
        race.run(600)
        return race.states[0]

    fast, plain = run(True), run(False)
    assert fast.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-8)
    assert fast.n_iter < plain.n_iter


def test_both_kernels_and_narrow_components_know_of_the_counts() -> None:
    t = table()
    evidence = t.evidence
    model = start(evidence, "full")
    frame, block = evidence.frame, t.block
    narrow = np.array([True, False])
    kernels = [
        NaturalKernel.of([model], frame),
        NaturalKernel.of([model], frame, [narrow]),
        WhitenedKernel.of(model, frame, centred=False),
        WhitenedKernel.of(model, frame, centred=True),
    ]
    results = [kernel(block)[0] for kernel in kernels]
    for result in results:
        assert result.log_likelihood == pytest.approx(results[0].log_likelihood, rel=1e-12)
        np.testing.assert_allclose(result.moments[:, 0], results[0].moments[:, 0], rtol=1e-11)
        # the sums of the counts come last
        np.testing.assert_allclose(result.moments[:, -3:], results[0].moments[:, -3:], rtol=1e-11)
    assert results[0].moments[:, -3].sum() == pytest.approx(t.counts.sum(), rel=1e-12)


def test_a_pass_over_other_rates_is_another_pass_when_a_fit_is_resumed() -> None:
    evidence = table().evidence
    model = start(evidence, "full")
    other = replace(model, others=(poisson_of([3.0, 6.5]),))
    digests = {
        b"".join(np.asarray(a).tobytes() for kernel in scan.kernels for a in kernel.arrays())
        for scan in (Scan.of([m], evidence.frame) for m in (model, other))
    }
    assert len(digests) == 2


def test_a_component_left_out_takes_its_counts_with_it_and_they_are_parameters() -> None:
    evidence = table().evidence
    model = start(evidence, "full")
    assert rates_of(without(model, 0)).tolist() == [6.0]
    [measured] = evidence.measure([model], "")
    course = Course((measured.log_likelihood,), converged=False)
    candidate = judge(model, measured, evidence, Regularised(), course, ("a", "b"))
    assert candidate.n_parameters == 1 + 2 * D + 2 * 3 + 2
    # the entropy of the responsibilities, by the same identity as without counts
    assert 0 < candidate.entropy < 600 * math.log(2)
