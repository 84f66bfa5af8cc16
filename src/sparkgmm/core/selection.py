"""What a fitted candidate is worth, whether it may win, and which one does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparkgmm.core.covariance import (
    Model,
    expand,
    expected_log_likelihood,
    to_mixture,
    variances,
)
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.repair import rows_needed
from sparkgmm.errors import FitError, Remedy
from sparkgmm.mixture import Array, Mixture, n_parameters
from sparkgmm.options import COVARIANCE_TYPE, COVARIANCE_TYPES, REG_COVAR, K

# A variance below this share of the feature's own is none, nor is one that regularisation exceeds
# a thousandfold.
_SPIKE = 1e-10
_NO_WIDTH = 1e-3
# A component of few rows (so many times the least) is suspect where regularisation makes up a third
# of its variance ...
_FEW = 5
_AT_FLOOR = 3.0
# ... in a direction in which the data as a whole are this many times wider.
_WIDER = 100.0


@dataclass(frozen=True)
class Winner:
    """The best run of its kind, and how many of the kind's starts ended in the same optimum."""

    state: Trajectory
    n_starts: int = 1
    n_agreeing: int = 1


@dataclass(frozen=True)
class Candidate:
    """One k and covariance type, fitted: the mixture in the data's units and what it is worth.

    `log_likelihood` is the sum over the rows, weighted, in nats, at the parameters of `mixture`;
    `log_likelihoods` has one value a pass, the best so far. `distance` is in nats a row.
    `n_dropped` components could not be kept, so that `k` is that many below what was asked for.
    `n_agreeing` of `n_starts` starts ended in this optimum. `held_out` is the mean log-likelihood
    of rows that a refit did not see, or None. `regularised` is the share of the narrowest variance
    that is reg_covar. `degenerate` says why the candidate must not win, or
    is None.
    """

    k: int
    covariance_type: str
    n_parameters: int
    mixture: Mixture
    log_likelihood: float
    log_likelihoods: tuple[float, ...]
    entropy: float
    weight: float
    converged: bool
    distance: float
    n_rejected: int
    n_dropped: int
    n_starts: int
    n_agreeing: int
    held_out: float | None
    regularised: float
    degenerate: str | None

    @property
    def n_iter(self) -> int:
        """The passes over the data."""
        return len(self.log_likelihoods)

    @property
    def mean_log_likelihood(self) -> float:
        """Nats a row, or a unit of weight."""
        return self.log_likelihood / self.weight

    @property
    def aic(self) -> float:
        """Akaike's criterion, lower is better."""
        return -2 * self.log_likelihood + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """Schwarz's criterion, lower is better; n is the sum of the weights."""
        return -2 * self.log_likelihood + self.n_parameters * math.log(self.weight)

    @property
    def icl(self) -> float:
        """Bic plus twice the entropy of the responsibilities, lower is better."""
        return self.bic + 2 * self.entropy

    @classmethod
    def of(
        cls,
        winner: Winner,
        frame: Frame,
        profile: Profile,
        settings: Settings,
        features: tuple[str, ...] | None,
        held_out: float | None = None,
    ) -> Candidate:
        """Bring the end of a run of EM into the data's units."""
        state = winner.state
        covariance_type = state.model.covariance_type
        k = len(state.model.parameters.weights)
        weight = profile.weight
        entropy = 0.0
        if state.moments is not None:
            expected = expected_log_likelihood(state.model, state.moments, frame)
            entropy = max(0.0, weight * (state.log_likelihood - expected))
        reason = flaw(state, frame, profile, settings.reg_covar)
        return cls(
            k=k,
            covariance_type=covariance_type,
            n_parameters=n_parameters(k, len(profile.mean), covariance_type),
            mixture=to_mixture(state.model, frame, features),
            log_likelihood=weight * (state.log_likelihood - frame.log_volume),
            log_likelihoods=tuple(
                weight * (value - frame.log_volume) for value in state.log_likelihoods
            ),
            entropy=entropy,
            weight=weight,
            converged=state.converged or state.distance <= settings.tol,
            distance=state.distance,
            n_rejected=state.n_rejected,
            n_dropped=state.n_dropped,
            n_starts=winner.n_starts,
            n_agreeing=winner.n_agreeing,
            held_out=held_out,
            regularised=regularised(state.model, frame, settings.reg_covar),
            degenerate=reason,
        )


def flaw(state: Trajectory, frame: Frame, profile: Profile, reg_covar: float) -> str | None:
    """Say why a solution is degenerate, or return None.

    The likelihood of a mixture is unbounded: a component on equal rows, or on no more than d of
    them, can be made as narrow and as likely as one wants. Such a spike is no cluster.
    """
    if state.collapsed:
        return "a component lost its rows or its volume"
    needed = rows_needed(state.model.covariance_type, len(profile.mean))
    counts = np.full(len(state.model.parameters.weights), np.inf)
    if state.moments is not None:
        counts = state.moments.counts * profile.rows_per_weight
    if (counts < needed).any():
        return f"a component has {counts.min():.3g} effective rows, {needed} are needed"
    covariances = _distinct_covariances(state.model, frame)
    owners = counts if len(covariances) == len(counts) else [counts.sum()]
    for j, (covariance, count) in enumerate(zip(covariances, owners, strict=True)):
        if _is_spike(covariance, frame, reg_covar, few_rows=count < _FEW * needed):
            return (
                f"component {j} is a spike: {count:.3g} rows without width in some direction in "
                "which the data are wide"
            )
    return None


def _is_spike(covariance: Array, frame: Frame, reg_covar: float, few_rows: bool) -> bool:
    """Tell rows that are equal in some direction, or few and nearly so."""
    values, vectors = np.linalg.eigh(covariance)
    if few_rows:
        narrow = values <= _AT_FLOOR * max(reg_covar, _SPIKE)
    else:
        narrow = values - reg_covar <= max(_NO_WIDTH * reg_covar, _SPIKE)
    if not narrow.any():
        return False
    V = vectors[:, narrow]
    return bool(np.linalg.eigvalsh(V.T @ frame.correlation @ V)[-1] > _WIDER * values[narrow].max())


def regularised(model: Model, frame: Frame, reg_covar: float) -> float:
    """Return how much of the narrowest variance of any component is regularisation, 0 to 1."""
    widths = np.linalg.eigvalsh(_distinct_covariances(model, frame))
    return float(min(1.0, reg_covar / max(widths.min(), 1e-300)))


def _distinct_covariances(model: Model, frame: Frame) -> Array:
    """Return what must not be a spike, in standardised coordinates."""
    if model.covariance_type == "tied":
        return model.parameters.covariances[None]
    if model.covariance_type == "spherical":
        # round in the data's units: its width counts against the data's mean variance
        round_ = model.parameters.covariances / (frame.scale**2).mean()
        return round_[:, None, None] * np.eye(len(frame.scale))
    if model.covariance_type == "diag":
        return variances(model, frame)[:, :, None] * np.eye(len(frame.scale))
    return expand(model, frame)


def choose(candidates: Sequence[Candidate], criterion: str, lenient: bool = False) -> Candidate:
    """Return the sound candidate with the lowest criterion, the smaller model on a tie.

    Raises
    ------
    FitError
        If every candidate is degenerate, unless `lenient`.

    """
    sound = [c for c in candidates if c.degenerate is None] or (list(candidates) if lenient else [])
    if not sound:
        raise none_sound(candidates)
    return min(sound, key=lambda c: (getattr(c, criterion), c.n_parameters))


def none_sound(candidates: Sequence[Candidate]) -> FitError:
    """Return the error that every candidate is degenerate, with remedies that were not tried."""
    asked = [c.k + c.n_dropped for c in candidates]
    reasons = "; ".join(
        f"k={k} {c.covariance_type}: {c.degenerate}" for k, c in zip(asked, candidates, strict=True)
    )
    remedies: list[Remedy] = []
    if min(asked) > 1:
        remedies.append(("lower", K))
    sizes = {
        name: n_parameters(min(asked), candidates[0].mixture.d, name) for name in COVARIANCE_TYPES
    }
    tried = min(sizes[c.covariance_type] for c in candidates)
    simpler = [name for name, size in sizes.items() if size < tried]
    if simpler:
        remedies.append(("try", COVARIANCE_TYPE, " or ".join(simpler[:2])))
    remedies.append("look for outliers and repeated rows")
    if all(c.regularised == 0 for c in candidates):
        remedies.append(("raise", REG_COVAR, "above 0"))
    return FitError(f"every candidate is degenerate ({reasons})", *remedies)
