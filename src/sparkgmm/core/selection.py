"""What a fitted candidate is worth, and which one is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from sparkgmm.errors import FitError, Remedy
from sparkgmm.mixture import Mixture, n_parameters
from sparkgmm.options import COVARIANCE_TYPE, COVARIANCE_TYPES, K

# Two fits of one kind differ by so much, in nats a row, where they are alike.
_ALIKE = 1e-5


class Held(NamedTuple):
    """A component that has no more width in a feature than there may be, on so many rows.

    `value` is what the rows have there, in the data's units. It is `few` rows, which `reg_covar`
    holds open, or many, which is as wide as values are told apart: an atom, of one value, or rows
    that are nearly all of one, as of a rare flag; then `value` is their mean, and they are `mixed`.
    """

    component: int
    feature: str
    value: float
    rows: float
    few: bool
    mixed: bool = False


class Aside(NamedTuple):
    """A feature in which rows are so far out that they were set aside, and how many in all.

    `value` is the farthest, in the data's units.
    """

    feature: str
    value: float
    rows: float


class Hidden(NamedTuple):
    """A feature of which most values cannot be told apart beside the `farthest` one.

    `low` and `high` are the quarters of those values, in the data's units.
    """

    feature: str
    low: float
    high: float
    farthest: float


class Criteria:
    """The criteria of a candidate, by what it is worth: lower is better."""

    log_likelihood: float
    n_parameters: int
    weight: float
    entropy: float

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return -2 * self.log_likelihood + 2 * self.n_parameters

    @property
    def bic(self) -> float:
        """Schwarz's criterion; n is the sum of the weights."""
        return -2 * self.log_likelihood + self.n_parameters * math.log(self.weight)

    @property
    def icl(self) -> float:
        """Bic plus twice the entropy of the responsibilities."""
        return self.bic + 2 * self.entropy


@dataclass(frozen=True)
class Candidate(Criteria):
    """One k and covariance type, fitted: the mixture in the data's units and what it is worth.

    `log_likelihood` is the sum over the rows, weighted, in nats, at the parameters of `mixture`;
    `log_likelihoods` has one value a pass, the best so far. `distance` is in nats a row.
    `n_dropped` components could not be kept, so that `k` is that many below what was asked for.
    `n_agreeing` of `n_starts` starts ended in this optimum. `held_out` is the mean log-likelihood
    of rows that a refit did not see, or None. `regularised` is the largest share that the least
    variance there may be has in any, 1 where it binds; `held` says where. `degenerate` says why the
    candidate must not win, or is None. `set_aside` says where rows were so far out that they are no
    part of all this, `hidden` where those that are a part leave others no width.
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
    held: tuple[Held, ...] = ()
    set_aside: tuple[Aside, ...] = ()
    hidden: tuple[Hidden, ...] = ()

    def with_missing(self, missing: str) -> Candidate:
        """Return the candidate with a mixture that takes NaN for this."""
        return replace(self, mixture=self.mixture.with_missing(missing))

    @property
    def asked_k(self) -> int:
        """The k that was asked for."""
        return self.k + self.n_dropped

    @property
    def n_set_aside(self) -> int:
        """The rows that were set aside: one at least where some were, however little they weigh."""
        return max(1, round(self.set_aside[0].rows)) if self.set_aside else 0

    @property
    def n_iter(self) -> int:
        """The passes over the data."""
        return len(self.log_likelihoods)

    @property
    def mean_log_likelihood(self) -> float:
        """Nats a row, or a unit of weight."""
        return self.log_likelihood / self.weight


def choose(candidates: Sequence[Candidate], criterion: str, lenient: bool = False) -> Candidate:
    """Return the sound candidate with the lowest criterion, the smaller model on a tie.

    A candidate that lost components is taken for one that was asked for so many, where that one is
    as good but for what is left to the limit.

    Raises
    ------
    FitError
        If every candidate is degenerate, unless `lenient`.

    """
    sound = [c for c in candidates if c.degenerate is None] or (list(candidates) if lenient else [])
    if not sound:
        raise none_sound(candidates)
    best = min(sound, key=lambda c: (getattr(c, criterion), c.n_parameters))
    same = [
        c
        for c in sound
        if (c.k, c.covariance_type) == (best.k, best.covariance_type)
        and getattr(c, criterion) - getattr(best, criterion) <= _ALIKE * c.weight
    ]
    return min(same, key=lambda c: (c.n_dropped, getattr(c, criterion)))


def none_sound(candidates: Sequence[Candidate]) -> FitError:
    """Return the error that every candidate is degenerate, with remedies that were not tried."""
    asked = [c.asked_k for c in candidates]
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
    remedies.append("look for outliers and repeats among these rows")
    return FitError(f"every candidate is degenerate ({reasons})", *remedies)
