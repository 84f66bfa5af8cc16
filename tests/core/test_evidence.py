"""What EM climbs and what it starts from are seams: evidence and priors of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from helpers.builders import block_of, rows_of
from helpers.data_sets import faithful
from helpers.oracle import e_step, weighted_sums
from sparkgmm import fit_array
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import Evidence, Measured, OverBlocks, OverRows
from sparkgmm.core.history import History, WithHistory
from sparkgmm.core.judging import Course, judge
from sparkgmm.core.model import Model, expected_log_likelihood, from_mixture, to_mixture
from sparkgmm.core.prior import Bounded, Regularised
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.race import Race
from sparkgmm.core.rows import Rows
from sparkgmm.core.widths import Widths
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.mixture import COVARIANCE_TYPES, Array, Mixture

EVERY = pytest.mark.parametrize("kind", COVARIANCE_TYPES)


def some_start(kind: str) -> Mixture:
    """A mixture on Old Faithful's two clusters."""
    fitted = fit_array(faithful(), 2, covariance_type=kind, max_iter=3, n_init=1)
    return fitted.mixture


@dataclass(frozen=True)
class Textbook:
    """Evidence without kernels, scans or blocks: rows by explicit inverses."""

    X: Array
    profile: Profile
    frame: Frame

    def measure(self, models: Sequence[Model], label: str) -> list[Measured]:
        return [self._measured(model) for model in models]

    def _measured(self, model: Model) -> Measured:
        density, R = e_step(to_mixture(model, self.frame), self.X)
        # the oracle's components come by falling weight
        order = np.argsort(np.argsort(-model.weights))
        origin, Z = np.zeros_like(model.means), (self.X - self.frame.shift) / self.frame.scale
        sums = weighted_sums(R[:, order], np.ones(len(Z)), Z, origin)
        moments = Moments(*sums, origin, self.frame.scale, self.frame.correlation)
        return Measured(moments, float(density.mean()) + self.frame.log_volume)


@EVERY
def test_a_race_over_evidence_of_ones_own_ends_where_a_fit_does(kind: str) -> None:
    rows, start = rows_of(faithful()), some_start(kind)
    evidence = Textbook(faithful(), rows.profile, Frame.of(rows.profile))
    settings = Settings(tol=1e-10, prior=Regularised(0.0))
    race = Race([Trajectory(from_mixture(start, evidence.frame))], evidence, settings)
    race.run(272)
    [state] = race.states
    assert state.converged
    found = to_mixture(state.model, evidence.frame)
    ours = fit_array(
        faithful(), 2, covariance_type=kind, means_init=start.means, weights_init=start.weights,
        precisions_init=np.linalg.inv(start.covariances), tol=1e-7, reg_covar=0,
    )  # fmt: skip
    np.testing.assert_allclose(found.means, ours.mixture.means, rtol=1e-4)
    assert found.log_likelihood(faithful()) == pytest.approx(ours.log_likelihood, abs=1e-5)


@EVERY
def test_a_history_joined_to_its_own_model_is_evidence_as_the_rows_themselves(kind: str) -> None:
    X = faithful()
    mixture = some_start(kind)
    first = OverRows.of(rows_of(X[:150]))
    [before] = first.measure([at := from_mixture(mixture, first.frame)], "")
    history = History.of(at, before, first)
    evidence = WithHistory.of(rows_of(X[150:]), history)
    model = from_mixture(mixture, evidence.frame)
    [joined] = evidence.measure([model], "")
    [whole] = OverRows(rows_of(X), evidence.frame).measure([model], "")
    assert joined.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-9)
    np.testing.assert_allclose(joined.moments.counts, whole.moments.counts, rtol=1e-9)
    np.testing.assert_allclose(joined.moments.first, whole.moments.first, rtol=1e-7, atol=1e-7)
    assert joined.read.moments.counts.sum() == pytest.approx(122)
    assert whole.read is whole


@EVERY
def test_blocks_in_memory_are_evidence_as_the_rows_they_are_of(kind: str) -> None:
    rows = rows_of(faithful())
    frame = Frame.of(rows.profile)
    model = from_mixture(some_start(kind), frame)
    [one] = OverRows(rows, frame).measure([model], "")
    [other] = OverBlocks.of(rows.sample, frame, rows.profile).measure([model], "")
    assert one.log_likelihood == pytest.approx(other.log_likelihood, rel=1e-12)
    np.testing.assert_allclose(one.moments.counts, other.moments.counts, rtol=1e-12)


@EVERY
def test_a_mixture_from_elsewhere_is_judged_as_our_own_of_the_same_parameters(kind: str) -> None:
    rows = rows_of(faithful())
    ours = fit_array(faithful(), 2, covariance_type=kind)
    evidence = OverRows.of(rows)
    model = from_mixture(ours.mixture, evidence.frame)
    [measured] = evidence.measure([model], "")
    course = Course((measured.log_likelihood,), converged=True)
    candidate = judge(model, measured, evidence, Regularised(0.0), course)
    assert candidate.log_likelihood == pytest.approx(ours.log_likelihood, rel=1e-10)
    assert candidate.icl == pytest.approx(ours.mixture.icl(faithful()), rel=1e-8)
    assert candidate.degenerate is None


def test_what_is_judged_degenerate_says_why_whoever_fitted_it() -> None:
    rows = rows_of(np.concatenate([faithful(), np.tile(faithful()[:1], (8, 1))]))
    evidence = OverRows.of(rows)
    spike = Mixture(
        [0.9, 0.1], [[3.5, 70.0], faithful()[0]], [np.cov(faithful().T), 1e-12 * np.eye(2)]
    )
    model = from_mixture(spike, evidence.frame)
    [measured] = evidence.measure([model], "")
    prior = Bounded(0.0).over(rows, evidence)
    candidate = judge(model, measured, evidence, prior, Course((), converged=True))
    assert candidate.degenerate is not None
    assert candidate.degenerate.startswith("component 1 is a spike")


@dataclass(frozen=True)
class PseudoRows:
    """A prior that is some rows more, of known moments in standardised coordinates."""

    extra: Moments
    exact: bool = True
    widths: Widths | None = None

    def over(self, rows: Rows, evidence: Evidence) -> PseudoRows:
        return self

    def join(self, moments: Moments, family: Family) -> Moments:
        return self.extra.added_to(moments)

    def within(self, model: Model, counts: Array | None = None) -> Model:
        return model

    def at_least(self, variances: Array) -> PseudoRows:
        return self

    def log_density(self, model: Model, moments: Moments) -> float:
        n = float(self.extra.counts.sum())
        return expected_log_likelihood(model, self.extra) * n / float(moments.counts.sum())


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_prior_that_is_rows_gives_the_fit_of_all_the_rows(kind: str) -> None:
    X, more = faithful(), faithful()[:40] + np.array([3.0, -20.0])
    rows = rows_of(X)
    evidence = OverRows.of(rows)
    frame = evidence.frame
    Z = (more - frame.shift) / frame.scale
    extra = Moments(
        np.array([40.0]), Z.sum(axis=0)[None], (Z.T @ Z)[None], np.zeros((1, 2)), frame.scale,
        frame.correlation,
    )  # fmt: skip
    fitted = fit_array(np.concatenate([X, more]), 1, covariance_type=kind, reg_covar=0).mixture
    model = from_mixture(Mixture([1.0], [[3.0, 60.0]], [50 * np.eye(2)], kind), frame)
    race = Race([Trajectory(model)], evidence, Settings(prior=PseudoRows(extra)))
    race.run(272)
    assert race.states[0].converged
    found = to_mixture(race.states[0].model, frame)
    np.testing.assert_allclose(found.means, fitted.means, rtol=1e-9)
    np.testing.assert_allclose(found.covariances, fitted.covariances, rtol=1e-8, atol=1e-8)


def test_blocks_that_are_a_sample_keep_the_coordinates_and_take_their_own_constants() -> None:
    block = block_of(faithful()[:50])
    frame = Frame.of(Profile.of(block_of(faithful())))
    evidence = OverBlocks.of([block], frame, Profile.of(block))
    np.testing.assert_array_equal(evidence.frame.shift, frame.shift)
    Z = (faithful()[:50] - frame.shift) / frame.scale
    np.testing.assert_allclose(evidence.frame.correlation, Z.T @ Z / 50, rtol=1e-12)
    assert evidence.frame.weight == 50
