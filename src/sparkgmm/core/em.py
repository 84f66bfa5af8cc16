"""Expectation-maximisation as a coroutine: it yields a model and is sent what a pass measured.

Whoever drives it decides where the rows are and how many candidates share a pass.
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from sparkgmm.core.acceleration import DEPTH, Anderson, pack, unpack
from sparkgmm.core.covariance import (
    Model,
    Moments,
    check_volume,
    expected_log_likelihood,
    m_step,
    penalty,
)
from sparkgmm.core.profile import Frame
from sparkgmm.options import MAX_ITER, REG_COVAR, TOL

# A fall of the objective below this is rounding, in nats a row.
_ROUNDING = 1e-11
# An effective count below this is no component any more.
_STARVED = 1e-8


@dataclass(frozen=True)
class Settings:
    """What a run of EM needs to know.

    `tol` is in nats per row, `max_iter` in passes, `reg_covar` relative to each feature's variance.
    """

    tol: float = TOL.default
    max_iter: int = MAX_ITER.default
    reg_covar: float = REG_COVAR.default
    accelerate: bool = True


@dataclass(eq=False)
class Trajectory:
    """Where a run of EM is, what that is worth, and how it got there.

    `log_likelihoods` are means a row in standardised coordinates, one a pass, each the best so
    far. `distance` estimates how far the limit lies above the last. `collapsed` says that a
    component lost its rows or its volume, so that there is no next step; `reseeded`, that one was
    put elsewhere before this run. `wanted` components it should have: it has fewer where one that
    could not be kept was dropped.
    """

    model: Model
    moments: Moments | None = None
    log_likelihood: float = -math.inf
    log_likelihoods: list[float] = field(default_factory=list)
    distance: float = math.inf
    converged: bool = False
    collapsed: bool = False
    n_rejected: int = 0
    reseeded: bool = False
    wanted: int = 0

    def __post_init__(self) -> None:
        self.wanted = self.wanted or len(self.model.parameters.weights)

    @property
    def n_iter(self) -> int:
        """The passes over the data so far."""
        return len(self.log_likelihoods)

    @property
    def kind(self) -> tuple[str, int]:
        """Covariance type and number of components wanted: starts of one kind compete."""
        return self.model.covariance_type, self.wanted

    @property
    def n_dropped(self) -> int:
        """How many components less than wanted there are."""
        return self.wanted - len(self.model.parameters.weights)


Em = Generator[Model, tuple[Moments, float], None]


def em(state: Trajectory, frame: Frame, settings: Settings) -> Em:
    """Climb from `state.model` to a maximum of the likelihood, keeping `state` up to date.

    Every pass measures the very model that was yielded, so the log-likelihood returned is that of
    the model returned. A step that falls is taken back, and the plain EM step, which cannot fall
    (Dempster, Laird and Rubin 1977, theorem 1), is taken in its place.
    """
    anderson = Anderson(DEPTH if settings.accelerate else 0)
    model, plain, height = state.model, state.model, -math.inf
    while state.n_iter < settings.max_iter and not (state.converged or state.collapsed):
        moments, log_likelihood = yield model  # E-step: one pass over the data
        objective = log_likelihood - penalty(model, moments, frame, settings.reg_covar)
        fell = objective < height - _ROUNDING
        last = state.n_iter + 1 == settings.max_iter
        if fell and model is not plain:
            state.n_rejected += 1
            anderson.take_back()
            model = plain
        elif fell and settings.reg_covar == 0:  # rounding, not the likelihood, stops the climb
            state.distance = height - objective
            state.converged = True
        else:  # reg_covar may lead the plain step a little downhill: its fixed point is what counts
            height = objective
            state.model, state.moments, state.log_likelihood = model, moments, log_likelihood
            if _starved(moments):
                state.collapsed = True
            else:
                try:
                    plain = m_step(model.covariance_type, moments, frame, settings.reg_covar)
                    proposal = _with_volume(anderson.extrapolate(model, plain), plain, frame)
                    state.distance = distance(
                        model, plain, proposal, moments, frame, math.inf if last else settings.tol
                    )
                    model = proposal
                except np.linalg.LinAlgError:
                    state.collapsed = True
        state.log_likelihoods.append(state.log_likelihood)
        state.converged |= state.distance <= settings.tol


def distance(
    model: Model, plain: Model, proposal: Model, moments: Moments, frame: Frame, enough: float
) -> float:
    """Estimate by how much the mean log-likelihood at the limit exceeds that at `model`.

    Fisher's identity gives its slope at the model as that of the expected complete-data
    log-likelihood. If the proposal is the limit and the way there is a parabola, the height left
    is half the slope along it (the Newton decrement). It is never below what the EM step gains, and
    where that exceeds `enough` it is all that is computed: the run goes on in any case.
    """

    def height(m: Model) -> float:
        return expected_log_likelihood(m, moments, frame)

    gain = height(plain) - height(model)
    if gain > enough:
        return float(gain)
    here, there = pack(model), pack(proposal)
    h = 0.1
    ahead, behind = (unpack(here + sign * h * (there - here), model) for sign in (1, -1))
    slope = (height(ahead) - height(behind)) / (2 * h)
    return float(max(0.5 * abs(slope), gain, 0.0))


def _with_volume(proposal: Model, plain: Model, frame: Frame) -> Model:
    """Return the proposal, or the plain EM step where the proposal leaves what can be computed."""
    try:
        check_volume(proposal, frame)
    except np.linalg.LinAlgError:
        return plain
    return proposal


def _starved(moments: Moments) -> bool:
    return bool((moments.counts < _STARVED).any())
