"""Newton's steps: damping, what is taken back, and how sure the distance is."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.builders import rows_of
from sparkgmm.core.acceleration import pack, unpack
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.information import SampleInformation
from sparkgmm.core.model import Model, from_mixture
from sparkgmm.core.newton import Newton
from sparkgmm.core.prior import Regularised, m_step
from sparkgmm.core.race import Race
from sparkgmm.mixture import Array, Mixture

EXACT = Regularised(0.0)


class Climb:
    """Two overlapping clusters of a feature, and a model near the top of their likelihood."""

    def __init__(self, kind: str = "full", d: int = 1) -> None:
        rng = np.random.default_rng(0)
        far = rng.integers(0, 2, 4000) * 3.0
        self.rows = rows_of(rng.standard_normal((4000, d)) + far[:, None])
        self.evidence = OverRows.of(self.rows)
        self.information = SampleInformation.of(self.rows.sample, self.evidence.frame)
        covariances = np.array([np.eye(d), 1.2 * np.eye(d)])
        means = np.array([np.zeros(d), np.full(d, 3.2)])
        if kind == "tied":
            covariances[1] = covariances[0]
        start = Mixture([0.5, 0.5], means, covariances, kind)
        self.start = from_mixture(start, self.evidence.frame)

    def step(self, newton: Newton, model: Model) -> tuple[Model, float, float]:
        """Measure a model; return where Newton goes on, the distance, and the log-likelihood."""
        [(moments, height, _)] = self.evidence.measure([model], "")
        plain = m_step(model.family, moments, EXACT, model.stack)
        proposal, left = newton.step(model, plain, moments, height)
        return proposal or plain, left, height

    def limit(self) -> float:
        """Return the log-likelihood where EM ends without Newton."""
        settings = Settings(1e-14, 1000, EXACT)
        race = Race([Trajectory(self.start)], self.evidence, settings)
        race.run(self.rows.profile.n_rows)
        return race.states[0].log_likelihood


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_newton_ends_where_em_does(kind):
    climb = Climb(kind, d=2)
    settings = Settings(1e-12, 60, EXACT, information=climb.information)
    race = Race([Trajectory(climb.start)], climb.evidence, settings)
    race.run(climb.rows.profile.n_rows)
    state = race.states[0]
    assert state.converged
    assert state.n_iter < 30
    assert state.log_likelihood == pytest.approx(climb.limit(), abs=1e-9)


def test_the_distance_is_the_true_one_to_a_factor_of_two_or_not_yet_sure():
    climb = Climb()
    limit, newton, model = climb.limit(), Newton(climb.information), climb.start
    checked = 0
    for _ in range(8):
        model, left, height = climb.step(newton, model)
        true = limit - height
        if true < 1e-10:
            break
        assert true / 2 < left < 12 * true
        checked += 1
    assert checked > 2


def test_a_step_taken_back_is_followed_by_shorter_ones_and_then_by_none():
    climb = Climb()
    newton = Newton(climb.information)
    far, _, _ = climb.step(newton, climb.start)
    here = pack(climb.start)
    lengths = [np.abs(pack(far) - here).max()]
    while (shorter := newton.again()) is not None:
        lengths.append(np.abs(pack(shorter) - here).max())
    assert 3 < len(lengths) < 10
    assert (np.diff(lengths) < 0).all()


def test_an_information_that_curves_too_much_is_lowered_until_the_steps_are_full():
    climb = Climb()

    def tenfold(model: Model) -> Array:
        return 10 * climb.information(model)

    settings = Settings(1e-9, 100, EXACT, information=tenfold)
    race = Race([Trajectory(climb.start)], climb.evidence, settings)
    race.run(climb.rows.profile.n_rows)
    state = race.states[0]
    assert state.converged
    assert climb.limit() - state.log_likelihood < 1e-8  # by a tenth of the slope it would be 1e-8


def test_an_information_that_curves_too_little_costs_passes_but_no_height():
    climb = Climb()

    def a_fifth(model: Model) -> Array:
        return climb.information(model) / 5

    settings = Settings(1e-9, 100, EXACT, information=a_fifth)
    race = Race([Trajectory(climb.start)], climb.evidence, settings)
    race.run(climb.rows.profile.n_rows)
    state = race.states[0]
    assert state.converged
    assert (np.diff(state.log_likelihoods) >= -1e-11).all()
    assert climb.limit() - state.log_likelihood < 1e-9


def test_a_model_at_max_iter_is_no_limit():
    climb = Climb()
    settings = Settings(1e-9, 2, EXACT, information=climb.information)
    race = Race([Trajectory(climb.start)], climb.evidence, settings)
    race.run(climb.rows.profile.n_rows)
    state = race.states[0]
    assert not state.converged
    assert state.distance > climb.limit() - state.log_likelihood > 1e-9


def test_a_saddle_is_not_claimed_as_a_limit():
    climb = Climb()
    # two components alike: the slope is nearly nothing, and the likelihood rises on either side
    both = climb.start.means.mean(axis=0)
    one = unpack(pack(climb.start), climb.start)
    alike = Model(one.family, np.array([0.5, 0.5]), one.means * 0 + both, one.stack)
    [(moments, _, _)] = climb.evidence.measure([alike], "")
    for _ in range(30):
        alike = m_step(alike.family, moments, EXACT, alike.stack)
        alike = Model(alike.family, alike.weights, alike.means * 0 + both, alike.stack)
        [(moments, _, _)] = climb.evidence.measure([alike], "")
    apart = alike.means + np.array([[-0.02], [0.02]])
    near = Model(alike.family, alike.weights, apart, alike.stack)
    settings = Settings(1e-7, 200, EXACT, information=climb.information)
    race = Race([Trajectory(near)], climb.evidence, settings)
    race.run(climb.rows.profile.n_rows)
    assert climb.limit() - race.states[0].log_likelihood < 1e-6
