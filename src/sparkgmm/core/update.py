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

from sparkgmm.core.columns import hidden_features
from sparkgmm.core.em import Settings, Trajectory, share_of_tol
from sparkgmm.core.evidence import of_part
from sparkgmm.core.fit import Fit, check_features
from sparkgmm.core.history import History, WithHistory, lost_to_gaps
from sparkgmm.core.judging import entropy, entropy_of_unseen, judge, names_of
from sparkgmm.core.race import Progress, Race, Winner
from sparkgmm.core.rows import Rows, one_blas_thread
from sparkgmm.errors import FitError
from sparkgmm.options import MISSING, UPDATE, K


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
    missing: str = MISSING.default,
) -> Update:
    """Go on from the model of `before`, already decayed, with the new rows.

    Raises
    ------
    InputError
        If a feature is constant in old and new rows, or its variance is out of float64's range.
    FitError
        If a component comes out degenerate.

    """
    evidence = WithHistory.of(rows, before)
    check_features(evidence.profile, features)
    settings = settings.over(rows, evidence)
    settled = replace(settings, tol=settings.tol * share_of_tol(rows))
    with one_blas_thread:
        race = Race([_start(evidence, settings)], evidence, settled, progress)
        race.run(rows.profile.n_rows)
    return _judged(race.states[0], evidence, settings, features, missing)


def _start(evidence: WithHistory, settings: Settings) -> Trajectory:
    try:
        return Trajectory(evidence.history.model(evidence.frame, settings.prior))
    except np.linalg.LinAlgError as error:
        raise _degenerate(str(error)) from error


def _degenerate(reason: str) -> FitError:
    return FitError(
        f"the update came out degenerate ({reason})",
        ("fit all rows again, with", UPDATE, "null"),
        ("do so with a lower", K),
    )


def _judged(
    state: Trajectory,
    evidence: WithHistory,
    settings: Settings,
    features: tuple[str, ...] | None,
    missing: str,
) -> Update:
    """Judge the model by all rows, and say what it is worth to the new ones."""
    model, measured = state.model, state.measured
    course = Winner(state).course(settings.tol)
    whole = judge(model, measured, evidence, settings.prior, course, features)
    if whole.degenerate is not None:
        raise _degenerate(whole.degenerate)
    if missing != MISSING.default:
        whole = whole.with_missing(missing)
    assert measured is not None
    before, new = evidence.history, evidence.rows.profile
    of_new = entropy(model, measured.read, new.weight)
    unseen = entropy_of_unseen(model, measured.read, new.weight)
    unseen += lost_to_gaps(new, evidence.frame)
    lost = of_part(evidence.frame, new).log_volume
    values = tuple(new.weight * (v - lost) for v in state.of_rows)
    candidate = replace(
        whole,
        log_likelihood=values[-1],
        log_likelihoods=values,
        entropy=max(0.0, of_new),
        weight=new.weight,
        hidden=hidden_features(evidence.rows.sample, names_of(features, len(new.mean))),
    )
    history = History.measured(
        model.family,
        measured.moments,
        before.entropy + unseen,
        evidence,
        before.n_rows + new.n_rows,
    )
    return Update(candidate, (candidate,), state.n_iter, history, before, whole.log_likelihoods)
