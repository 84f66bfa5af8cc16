"""A refit of which only the new rows are read: the statistics of earlier ones stand for the rest.

The incremental EM of Neal and Hinton (1998), section 4, with two blocks of rows of which one, the
history, is visited no more; with a decay, the step-size of the online EM of Cappé and Moulines
(2009), eq. 13, for a block at a time. What climbs is

    log-likelihood of the new rows + decay * (<S, eta(theta)> + H)

S and H as in `core.history`. The E-step of EM measures the new rows, the M-step takes both: so the
objective never falls, and EM runs on it as it does on a log-likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparkgmm.core.covariance import Model, Moments, expected_log_likelihood
from sparkgmm.core.em import Settings, Trajectory, em
from sparkgmm.core.fit import Fit, check_features, share_of_tol
from sparkgmm.core.history import History
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.rows import Rows, one_blas_thread
from sparkgmm.core.search import Progress
from sparkgmm.core.selection import Candidate, Winner
from sparkgmm.core.statistics import Scan
from sparkgmm.errors import FitError
from sparkgmm.options import UPDATE, K


@dataclass(frozen=True)
class Update(Fit):
    """A fit to new rows and a history; the candidate's figures are those of the new rows.

    `objectives` are the values that never fall, one a pass, in nats over all the weight: the
    log-likelihood of the new rows and the lower bound of the history's. `before` is the history,
    decayed.
    """

    before: History
    objectives: tuple[float, ...]


def update(
    rows: Rows,
    before: History,
    settings: Settings,
    features: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Update:
    """Go on from the model of `before`, already decayed, with the new rows.

    Raises
    ------
    InputError
        If a feature is constant in old and new rows, or its variance is out of float64's range.
    FitError
        If a component comes out degenerate.

    """
    profile = before.profile + rows.profile
    check_features(profile, features)
    frame = Frame.of(profile)
    climb = _Climb(rows, before, frame)
    with one_blas_thread:
        start = _start(before, frame, settings)
        climb.run(start, replace(settings, tol=settings.tol * share_of_tol(rows)), progress)
    return _judged(climb, profile, settings, features)


def _start(before: History, frame: Frame, settings: Settings) -> Trajectory:
    try:
        return Trajectory(before.model(frame, settings.reg_covar))
    except np.linalg.LinAlgError as error:
        raise _degenerate(str(error)) from error


def _degenerate(reason: str) -> FitError:
    return FitError(
        f"the update came out degenerate ({reason})",
        ("fit all rows anew, with", UPDATE, "null"),
        ("do so with a lower", K),
    )


class _Climb:
    """EM over new rows and a history: what it measured of the new rows, beside its state."""

    def __init__(self, rows: Rows, before: History, frame: Frame) -> None:
        self.rows = rows
        self.before = before
        self.frame = frame
        self.of_new = _over(frame, rows.profile)
        # of the new rows at the model kept: moments and mean log-likelihood, one a pass
        self.moments: Moments | None = None
        self.log_likelihoods: list[float] = []

    def run(self, state: Trajectory, settings: Settings, progress: Progress | None) -> None:
        """Advance a pass over the new rows at a time until EM has ended."""
        self.state = state
        steps = em(state, self.frame, settings)
        model = next(steps, None)
        while model is not None:
            new, log_likelihood = self._measure(model)
            both = _joined(new, self.before.moments(self.frame, new.origin))
            height = self._objective(log_likelihood, model)
            try:
                model = steps.send((both, height))
            except StopIteration:
                model = None
            if state.moments is both:
                self.moments, kept = new, log_likelihood
            self.log_likelihoods.append(kept)
            if progress:
                height = state.log_likelihood - self.frame.log_volume
                progress(state.n_iter, int(model is not None), height, state.distance)

    def _measure(self, model: Model) -> tuple[Moments, float]:
        scan = Scan.of([model], self.of_new)
        label = f"EM pass {self.state.n_iter + 1} over the new rows"
        [measured] = scan.read(self.rows.scan(scan.kernels, label))
        return measured

    def _objective(self, log_likelihood: float, model: Model) -> float:
        """Return the objective as a mean over all the weight."""
        old = self.before.bound(model, self.frame)
        return (log_likelihood * self.of_new.weight + old) / self.frame.weight

    @property
    def entropy(self) -> float:
        """The entropy of the new rows' responsibilities, in nats."""
        assert self.moments is not None
        expected = expected_log_likelihood(self.state.model, self.moments, self.of_new)
        return self.of_new.weight * (self.log_likelihoods[-1] - expected)


def _judged(
    climb: _Climb, profile: Profile, settings: Settings, features: tuple[str, ...] | None
) -> Update:
    """Judge the model by all rows, and say what it is worth to the new ones."""
    state, frame, weight = climb.state, climb.frame, climb.of_new.weight
    whole = Candidate.of(Winner(state), frame, profile, settings, features)
    if whole.degenerate is not None:
        raise _degenerate(whole.degenerate)
    values = tuple(weight * (v - frame.log_volume) for v in climb.log_likelihoods)
    of_new = replace(
        whole,
        log_likelihood=values[-1],
        log_likelihoods=values,
        entropy=max(0.0, climb.entropy),
        weight=weight,
    )
    assert state.moments is not None
    history = History.measured(
        state.model.covariance_type,
        state.moments,
        climb.before.entropy + climb.entropy,
        frame,
        profile,
        climb.before.n_rows + climb.rows.profile.n_rows,
    )
    return Update(of_new, (of_new,), state.n_iter, history, climb.before, whole.log_likelihoods)


def _over(frame: Frame, profile: Profile) -> Frame:
    """Keep the coordinates, but take the constants of the data from a part of the rows."""
    offset = (profile.mean - frame.shift) / frame.scale
    correlation = profile.scatter / profile.weight / np.outer(frame.scale, frame.scale)
    correlation += np.outer(offset, offset)
    return replace(frame, correlation=correlation, weight=profile.weight)


def _joined(new: Moments, old: Moments) -> Moments:
    """Add moments about the same origins; the history's as far as the new rows' go."""
    second = None
    if new.second is not None and old.second is not None:
        same = new.second.ndim == 3
        second = new.second + (old.second if same else np.einsum("kii->ki", old.second))
    return Moments(new.counts + old.counts, new.first + old.first, second, new.origin)
