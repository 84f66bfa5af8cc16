"""Whether a mixture may win, and what it is worth: by the same measures whoever fitted it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sparkgmm.core.evidence import Evidence, Measured
from sparkgmm.core.model import Model, expected_log_likelihood, order_of, to_mixture
from sparkgmm.core.prior import Prior
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.selection import Candidate, Held
from sparkgmm.mixture import n_parameters
from sparkgmm.products import Array

# So many columns are named at most, and those that have at least this share in a fault.
_NAMED = 3
_PART = 0.1
# A feature of fewer effective rows is one that a component never has.
_NEVER = 0.5
# A component is of one value where its mean is that value, to this share of the least width.
_ONE_VALUE = 0.01
# Effective rows of components add up to all the rows but for this.
_ROUNDING = 1e-6


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
    found = why_degenerate(model, measured, profile, prior, course.collapsed)
    # where a component has few rows the least width moves with them: a pass before may have
    # measured a model narrower than is allowed now, whose likelihood counts for nothing
    most = math.inf if measured is None else log_likelihood
    return Candidate(
        k=model.k,
        covariance_type=model.family.name,
        n_parameters=n_parameters(model.k, model.d, model.family.name)
        + sum(part.n_parameters for part in model.others),
        mixture=to_mixture(model, frame, features),
        log_likelihood=weight * (log_likelihood - frame.log_volume),
        log_likelihoods=tuple(
            weight * (min(v, most) - frame.log_volume) for v in course.log_likelihoods
        ),
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
        degenerate=None if found is None else found.text(model, frame, features),
        held=held(model, measured, prior, evidence, features),
    )


def entropy(model: Model, measured: Measured, weight: float) -> float:
    """Return the entropy of the responsibilities of rows of so much weight, in nats.

    Where values are missing their entropy does not count.
    """
    of_all = entropy_of_unseen(model, measured, weight)
    return of_all - float(np.sum(measured.moments.hidden))


def entropy_of_unseen(model: Model, measured: Measured, weight: float) -> float:
    """Return the entropy of all that was not seen: of responsibilities and of missing values.

    It is the log-likelihood less the expected complete-data log-likelihood.
    """
    expected = expected_log_likelihood(model, measured.moments)
    return weight * (measured.log_likelihood - expected)


class Fault(NamedTuple):
    """Why a solution is degenerate: what happened to component `j`, of so many effective rows.

    `parts` (d,) is by how much each feature has part in it; all are 0 where none has.
    """

    what: str
    j: int
    rows: float
    parts: Array

    def text(self, model: Model, frame: Frame, features: Sequence[str] | None) -> str:
        """Name the component, its rows, the columns and their value."""
        order = np.argsort(-self.parts, kind="stable")
        most = self.parts.max(initial=0.0)
        involved = [int(i) for i in order[:_NAMED] if self.parts[i] > _PART * most]
        text = f"component {order_of(model).index(self.j)} {self.what.format(rows=self.rows)}"
        if not involved:
            return text
        names = names_of(features, model.d)
        mean = frame.shift + model.means[self.j] * frame.scale
        where = ", ".join(f"{names[i]} = {mean[i]:.9g}" for i in involved)
        more = int((self.parts > _PART * most).sum()) - len(involved)
        return f"{text} at {where}" + (f" and {more} more" if more else "")


def why_degenerate(
    model: Model,
    measured: Measured | None,
    profile: Profile,
    prior: Prior,
    collapsed: bool = False,
) -> Fault | None:
    """Say why a solution is degenerate, or return None.

    The likelihood of a mixture is unbounded: a component on equal rows, or on no more than d of
    them, can be made as narrow and as likely as one wants. Such a spike is no cluster.
    """
    nowhere = np.zeros(model.d)
    if measured is None:
        return Fault("lost its rows or its volume", 0, math.nan, nowhere) if collapsed else None
    needed = model.family.least_rows(model.d)
    counts = measured.effective_rows(profile)
    least = int(np.argmin(counts))
    if counts[least] < needed:
        what = f"has {{rows:.3g}} effective rows, {needed} are needed,"
        return Fault(what, least, float(counts[least]), np.ones(model.d))
    together = model.family.rows_needed(model.k, model.d)
    if model.d and counts.sum() < together - _ROUNDING:
        what = f"shares a matrix that {{rows:.6g}} rows do not fill, {together} are needed"
        return Fault(what, least, float(counts.sum()), nowhere)
    if collapsed and model.d:
        variances = np.broadcast_to(model.stack.variances, (model.k, model.d))
        thin, i = (int(at) for at in np.unravel_index(int(variances.argmin()), variances.shape))
        parts = (np.arange(model.d) == i).astype(float)
        return Fault("lost its volume: {rows:.3g} rows", thin, float(counts[thin]), parts)
    known = measured.moments.known * profile.rows_per_weight
    owners = known.sum(axis=0, keepdims=True) if model.family.shared else known
    owners = owners if owners.ndim == 1 else _least_known(owners)
    for j, count in enumerate(owners if model.d else []):
        if prior.widths is not None:
            parts = prior.widths.by_chance(model, j, count, measured.moments.total)
            if parts.any():
                what = "is a spike: {rows:.3g} rows without width where the data are wide,"
                return Fault(what, j, float(count), parts)
    return None


def _least_known(counts: Array) -> Array:
    """Return of counts (k, d) the least of each component, (k,), but for features it never has."""
    return np.min(counts, axis=1, where=counts > _NEVER, initial=np.inf)


def held(
    model: Model,
    measured: Measured | None,
    prior: Prior,
    evidence: Evidence,
    features: Sequence[str] | None,
) -> tuple[Held, ...]:
    """Return which components are held open by a bound, in which features, and on what rows."""
    if measured is None or prior.widths is None or not model.d:
        return ()
    frame, widths = evidence.frame, prior.widths
    known = measured.moments.known
    narrow, few = widths.held(model, known), widths.few(model, known)
    names = names_of(features, model.d)
    means = frame.shift + model.means * frame.scale
    values = widths.recorded(means, frame.scale)
    mixed = np.abs(means - values) > _ONE_VALUE * np.sqrt(widths.resolution) * frame.scale
    mixed &= widths.gridded  # without a grid the least width is that of one value
    rows = measured.effective_rows(evidence.profile)
    return tuple(
        Held(
            at,
            names[i],
            float(means[j, i] if mixed[j, i] else values[j, i]),
            float(rows[j]),
            bool(few[j]),
            bool(mixed[j, i]),
        )
        for at, j in enumerate(order_of(model))
        for i in map(int, np.flatnonzero(narrow[j]))
    )


def names_of(features: Sequence[str] | None, d: int) -> Sequence[str]:
    """Return what the features are called in messages."""
    return features or [f"column {i}" for i in range(d)]


def regularised(model: Model, measured: Measured | None, prior: Prior) -> float:
    """Return how much of the narrowest variance is the least there may be: 1 where it binds."""
    if measured is None or prior.widths is None or not model.d:
        return 0.0
    return prior.widths.share(model, measured.moments.known)
