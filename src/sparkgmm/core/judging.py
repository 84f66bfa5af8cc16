"""Whether a mixture may win, and what it is worth: by the same measures whoever fitted it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sparkgmm.core.evidence import Evidence, Measured
from sparkgmm.core.model import Model, expected_log_likelihood, to_mixture
from sparkgmm.core.prior import Prior
from sparkgmm.core.profile import Profile
from sparkgmm.core.selection import Candidate
from sparkgmm.mixture import n_parameters


@dataclass(frozen=True)
class Course:
    """How a solver came to its model.

    `log_likelihoods` are means in standardised coordinates, one a pass. `distance` is what it
    believes to be short of the limit, in nats a row. `collapsed` says that it could not go on.
    """

    log_likelihoods: tuple[float, ...]
    converged: bool
    distance: float = math.inf
    n_rejected: int = 0
    n_dropped: int = 0
    n_starts: int = 1
    n_agreeing: int = 1
    collapsed: bool = False


def judge(
    model: Model,
    measured: Measured | None,
    evidence: Evidence,
    prior: Prior,
    course: Course,
    features: tuple[str, ...] | None = None,
    held_out: float | None = None,
) -> Candidate:
    """Return the candidate that a model is, in the data's units, by what was measured at it."""
    frame, profile = evidence.frame, evidence.profile
    weight = profile.weight
    log_likelihood = -math.inf if measured is None else measured.log_likelihood
    return Candidate(
        k=model.k,
        covariance_type=model.family.name,
        n_parameters=n_parameters(model.k, model.d, model.family.name)
        + sum(part.n_parameters for part in model.others),
        mixture=to_mixture(model, frame, features),
        log_likelihood=weight * (log_likelihood - frame.log_volume),
        log_likelihoods=tuple(weight * (v - frame.log_volume) for v in course.log_likelihoods),
        entropy=0.0 if measured is None else max(0.0, entropy(model, measured, weight)),
        weight=weight,
        converged=course.converged,
        distance=course.distance,
        n_rejected=course.n_rejected,
        n_dropped=course.n_dropped,
        n_starts=course.n_starts,
        n_agreeing=course.n_agreeing,
        held_out=held_out,
        regularised=regularised(model, measured, prior),
        degenerate=why_degenerate(model, measured, profile, prior, course.collapsed),
    )


def entropy(model: Model, measured: Measured, weight: float) -> float:
    """Return the entropy of the responsibilities of rows of so much weight, in nats.

    It is the log-likelihood less the expected complete-data log-likelihood.
    """
    expected = expected_log_likelihood(model, measured.moments)
    return weight * (measured.log_likelihood - expected)


def why_degenerate(
    model: Model,
    measured: Measured | None,
    profile: Profile,
    prior: Prior,
    collapsed: bool = False,
) -> str | None:
    """Say why a solution is degenerate, or return None.

    The likelihood of a mixture is unbounded: a component on equal rows, or on no more than d of
    them, can be made as narrow and as likely as one wants. Such a spike is no cluster.
    """
    if collapsed:
        return "a component lost its rows or its volume"
    if measured is None:
        return None
    needed = model.family.least_rows(model.d)
    counts = measured.moments.counts * profile.rows_per_weight
    if (counts < needed).any():
        return f"a component has {counts.min():.3g} effective rows, {needed} are needed"
    owners = [counts.sum()] if model.family.shared else counts
    for j, count in enumerate(owners):
        if prior.widths and prior.widths.by_chance(model, j, count, measured.moments.total):
            return (
                f"component {j} is a spike: {count:.3g} rows without width in some direction in "
                "which the data are wide"
            )
    return None


def regularised(model: Model, measured: Measured | None, prior: Prior) -> float:
    """Return how much of the narrowest variance is the least there may be: 1 where it binds."""
    if measured is None or prior.widths is None:
        return 0.0
    return prior.widths.share(model, measured.moments.counts)
