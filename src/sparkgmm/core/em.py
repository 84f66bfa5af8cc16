"""Expectation-maximisation as a coroutine: it yields a model and is sent what a pass measured.

Whoever drives it decides where the rows are and how many candidates share a pass.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field, replace

import numpy as np

from sparkgmm.core.acceleration import DEPTH, Anderson, pack, unpack
from sparkgmm.core.evidence import Evidence, Measured
from sparkgmm.core.information import Information, informed
from sparkgmm.core.model import Model, check_volume, expected_log_likelihood
from sparkgmm.core.newton import Newton
from sparkgmm.core.prior import Bounded, Prior, m_step
from sparkgmm.core.rows import Rows
from sparkgmm.covariances.moments import Moments
from sparkgmm.options import MAX_ITER, TOL
from sparkgmm.products import Array

# A fall of the objective below this is rounding, in nats a row.
ROUNDING = 1e-11
# An effective count below this is no component any more.
STARVED = 1e-8
# Where all rows fit the pilot sample a pass costs next to nothing: go on to this share of tol.
SMALL_DATA_TOL = 1e-3
# Elsewhere to this one: on slow problems the estimated distance was up to 3.5 times too short.
_LARGE_DATA_TOL = 0.25
# Where a step of EM gains less, in nats a row, a parabola describes the likelihood.
_NEAR = 1e-3
# Where the limit seems to be farther than this, the model is near a saddle instead.
_FAR = 1e-2


@dataclass(frozen=True)
class Settings:
    """What a run of EM needs to know.

    `tol` is in nats per row, `max_iter` in passes. With `information` the last of the way is gone
    by Newton's steps, and the distance is known by it; without, by what EM's own steps show.
    """

    tol: float = TOL.default
    max_iter: int = MAX_ITER.default
    prior: Prior = field(default_factory=Bounded)
    accelerate: bool = True
    information: Information | None = None

    def over(self, rows: Rows, evidence: Evidence) -> Settings:
        """Return the settings for these rows, whose values the prior looks at."""
        return replace(self, prior=self.prior.over(rows, evidence))


@dataclass(eq=False)
class Trajectory:
    """Where a run of EM is, what was measured there, and how it got there.

    `log_likelihoods` are means a row in standardised coordinates, one a pass, each the best so
    far; `of_rows` are those of the rows that were read alone, where a history stands for others.
    `distance` estimates how far the limit is above the last. `collapsed` says that a component
    lost its rows or its volume, so that there is no next step; `reseeded`, that one was put
    elsewhere before this run. It should have `target_k` components; it has fewer where one that
    could not be kept was dropped.
    """

    model: Model
    measured: Measured | None = None
    log_likelihoods: list[float] = field(default_factory=list)
    of_rows: list[float] = field(default_factory=list)
    distance: float = math.inf
    converged: bool = False
    collapsed: bool = False
    n_rejected: int = 0
    reseeded: bool = False
    target_k: int = 0

    def __post_init__(self) -> None:
        self.target_k = self.target_k or self.model.k

    @property
    def log_likelihood(self) -> float:
        """The mean log-likelihood at the model, minus infinity before the first pass."""
        return -math.inf if self.measured is None else self.measured.log_likelihood

    @property
    def n_iter(self) -> int:
        """The passes over the data so far."""
        return len(self.log_likelihoods)

    @property
    def candidate_key(self) -> tuple[str, int]:
        """Covariance type and `target_k`: starts that have them in common compete."""
        return self.model.family.name, self.target_k

    @property
    def n_dropped(self) -> int:
        """How many components fewer than `target_k` there are."""
        return self.target_k - self.model.k


Em = Generator[Model, Measured, None]


def em(state: Trajectory, settings: Settings) -> Em:
    """Climb from `state.model` to a maximum of the likelihood, keeping `state` up to date.

    Every pass measures the very model that was yielded, so the log-likelihood returned is that of
    the model returned. A step that falls is taken back, and in its place a shorter one or the plain
    EM step is taken, which cannot fall (Dempster, Laird and Rubin 1977, theorem 1).
    """
    prior = settings.prior
    state.model = prior.within(state.model)
    guide = Guide(state.model, settings)
    model, plain, best = state.model, state.model, -math.inf
    while state.n_iter < settings.max_iter and not (state.converged or state.collapsed):
        measured = yield model  # E-step: one pass over the data
        objective = measured.log_likelihood + prior.log_density(model, measured.moments)
        fell = objective < best - ROUNDING
        if fell and model is not plain:
            state.n_rejected += 1
            model = guide.take_back() or plain
        elif fell and prior.exact:  # rounding, not the likelihood, stops the climb
            state.distance = best - objective
            state.converged = True
        else:  # a prior may lead the plain step a little downhill: its fixed point is what counts
            best = objective
            state.model, state.measured = model, measured
            steps = _steps(state, measured.moments, best, guide, settings)
            if steps is None:
                state.collapsed = True
            else:
                plain, model = steps
        state.log_likelihoods.append(state.log_likelihood)
        if state.measured is not None:
            state.of_rows.append(state.measured.read.log_likelihood)
        state.converged |= state.distance <= settings.tol


class Guide:
    """Says where to go on from a model: by Anderson's method, and by Newton's where it is near."""

    def __init__(self, model: Model, settings: Settings) -> None:
        closed = model.family.closed
        self._prior = settings.prior
        self._counts: Array | None = None
        self._anderson = Anderson(DEPTH if settings.accelerate and closed else 0)
        self._newton = None
        if settings.information is not None and informed(model):
            self._newton = Newton(settings.information)
        self._by_newton = False

    def take_back(self) -> Model | None:
        """Return where to go instead after a step that fell; None if that is the plain EM step."""
        if self._newton is not None and self._by_newton:
            return self._within(self._newton.again())
        self._anderson.take_back()
        return None

    def proposal(
        self, here: Model, plain: Model, moments: Moments, objective: float, enough: float
    ) -> tuple[Model, float]:
        """Return where to go on, and what the limit is above; `enough` is as in `distance`."""
        self._counts = moments.known
        left, self._by_newton = 0.0, False
        if self._newton is not None:
            gain = expected_log_likelihood(plain, moments) - expected_log_likelihood(here, moments)
            if gain < _NEAR:
                shot, left = self._newton.step(here, plain, moments, objective)
                self._counts = moments.known
                self._by_newton = left < _FAR
                if self._by_newton:
                    return self._within(shot) or plain, left
                self._newton.leave()
        proposal = _with_volume(self._anderson.extrapolate(here, plain), plain)
        if proposal is not plain:
            proposal = self._prior.within(proposal, moments.known)
        seen = distance(here, plain, proposal, moments, enough, self._anderson.ahead)
        return proposal, max(seen, left)

    def _within(self, proposal: Model | None) -> Model | None:
        return None if proposal is None else self._prior.within(proposal, self._counts)


def _steps(
    state: Trajectory, moments: Moments, objective: float, guide: Guide, settings: Settings
) -> tuple[Model, Model] | None:
    """Return the plain EM step from the state's model and the one to try; None where none is.

    The state's distance to the limit is set.
    """
    if (moments.counts < STARVED).any():
        return None
    last = state.n_iter + 1 == settings.max_iter
    enough = math.inf if last else settings.tol
    here = state.model
    try:
        plain = m_step(here.family, moments, settings.prior, here.stack, here.others)
        proposal, state.distance = guide.proposal(here, plain, moments, objective, enough)
    except np.linalg.LinAlgError:
        return None
    return plain, proposal


def distance(
    model: Model,
    plain: Model,
    proposal: Model,
    moments: Moments,
    enough: float,
    times: float = 1.0,
) -> float:
    """Estimate by how much the mean log-likelihood at the limit exceeds that at `model`.

    Fisher's identity gives its slope at the model as that of the expected complete-data
    log-likelihood. If the limit is `times` as far as the proposal and the way there is a parabola,
    what is left to gain is half the slope along it (the Newton decrement). It is never below what
    the EM step gains, and where that exceeds `enough` it is all that is computed: the run goes on
    in any case.
    """

    def expected(m: Model) -> float:
        return expected_log_likelihood(m, moments)

    gain = expected(plain) - expected(model)
    if gain > enough:
        return float(gain)
    here, there = pack(model), pack(proposal)
    h = 0.1
    ahead, behind = (unpack(here + sign * h * (there - here), model) for sign in (1, -1))
    slope = (expected(ahead) - expected(behind)) / (2 * h)
    return float(max(0.5 * abs(slope) * times, gain, 0.0))


def _with_volume(proposal: Model, plain: Model) -> Model:
    """Return the proposal, or the plain EM step where the proposal leaves what can be computed."""
    try:
        check_volume(proposal)
    except np.linalg.LinAlgError:
        return plain
    return proposal


def share_of_tol(rows: Rows) -> float:
    """Return at which share of tol a climb over all rows stops."""
    return SMALL_DATA_TOL if rows.complete else _LARGE_DATA_TOL
