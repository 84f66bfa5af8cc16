"""What a fit remembers of rows that will not be read again: their expected statistics.

At a model with parameters theta the log-likelihood of some rows is, by the identity of Neal and
Hinton (1998), eq. 7, with the responsibilities r_ij of theta itself,

    sum_i w_i log p(x_i | theta) = <S, eta(theta)> + H
    S = sum_i w_i r_ij T(x_i)                                the expected statistics
    H = -sum_i w_i sum_j r_ij log r_ij                       the entropy of the responsibilities

At any other parameters the right-hand side, with S and H as they are, is a lower bound of it. So S
and H, a few numbers a component, stand for the rows: EM over new rows and this bound climbs a lower
bound of the log-likelihood of all rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sparkgmm.core.evidence import Evidence, Measured, OverRows, expected_total, of_part
from sparkgmm.core.judging import entropy_of_unseen
from sparkgmm.core.model import Model, expected_log_likelihood
from sparkgmm.core.prior import Prior, m_step
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.rows import Rows
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.errors import InputError
from sparkgmm.products import Array

_OF_PROFILE = ("mean", "scatter", "low", "high")
_OF_COMPONENTS = ("counts", "offsets", "spreads")


@dataclass(frozen=True)
class History:
    """Expected statistics of rows, in the data's own units.

    `counts` (k,) are effective weights and `offsets` (k, d) the components' means less the
    profile's mean, so that timestamps of 1.7e9 keep the digits in which components differ.
    `spreads` are the rows' covariances about these means, without regularisation, as far as the
    family needs them (`Statistics.spread`): (k, d, d), or (d, d), pooled, or variances (k, d).
    `profile` is that of the rows, `entropy` that of their responsibilities and of their missing
    values, in nats, and `n_rows` how many rows there were. A decay lessens the weights (counts,
    profile, entropy) and not `n_rows`.
    """

    covariance_type: str
    profile: Profile
    counts: Array
    offsets: Array
    spreads: Array
    entropy: float
    n_rows: int

    @classmethod
    def of(cls, model: Model, measured: Measured, evidence: Evidence) -> History:
        """Take what was measured of these rows at a model."""
        profile = evidence.profile
        h = entropy_of_unseen(model, measured, profile.weight)
        h += lost_to_gaps(profile, evidence.frame)
        return cls.measured(model.family, measured.moments, h, evidence, profile.n_rows)

    @classmethod
    def measured(
        cls, family: Family, moments: Moments, entropy: float, evidence: Evidence, n_rows: int
    ) -> History:
        """Bring moments from the evidence's standardised coordinates to the data's units."""
        frame, profile, statistics = evidence.frame, evidence.profile, family.statistics
        spreads = statistics.spread(moments) * statistics.squared(frame.scale)
        shift = frame.shift - profile.mean
        offsets = shift + (moments.origin + moments.offset) * frame.scale
        return cls(family.name, profile, moments.counts, offsets, spreads, entropy, n_rows)

    @property
    def family(self) -> Family:
        """The family of the covariances."""
        return FAMILIES[self.covariance_type]

    @property
    def k(self) -> int:
        """The number of components."""
        return len(self.counts)

    def decayed(self, factor: float) -> History:
        """Make every row count as `factor` of a row; no mean and no variance changes."""
        p = self.profile
        profile = replace(
            p,
            n_rows=max(1, round(p.n_rows * factor)),
            weight=p.weight * factor,
            scatter=p.scatter * factor,
            seen=None if p.seen is None else p.seen * factor,
        )
        counts = self.counts * factor
        return replace(self, profile=profile, counts=counts, entropy=self.entropy * factor)

    def moments(self, frame: Frame, origin: Array) -> Moments:
        """Return the statistics in a frame's standardised coordinates, about `origin` (k, d)."""
        mean = (self.profile.mean - frame.shift + self.offsets) / frame.scale - origin
        statistics = self.family.statistics
        second = statistics.second(self.spreads / statistics.squared(frame.scale), mean)
        counts = self.counts.reshape(-1, *[1] * (second.ndim - 1))
        return Moments(
            self.counts,
            self.counts[:, None] * mean,
            counts * second,
            origin,
            frame.scale,
            frame.correlation,
        )

    def model(self, frame: Frame, prior: Prior) -> Model:
        """Return the model that these statistics alone lead to, by an M-step.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a component has no volume in this frame.

        """
        moments = self.moments(frame, np.zeros_like(self.offsets))
        return m_step(self.family, moments, prior)

    def bound(self, model: Model, frame: Frame) -> float:
        """Return the lower bound of the rows' log-likelihood at a model, in nats.

        In standardised coordinates, as the log-likelihoods of EM are. It is the log-likelihood
        itself at the model at which the statistics were measured.
        """
        moments = self.moments(frame, model.means)
        expected = expected_log_likelihood(model, moments)
        entropy = self.entropy - lost_to_gaps(self.profile, frame)
        return float(moments.counts.sum() * expected + entropy)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists, every one exact."""
        p = self.profile
        return {
            "covariance_type": self.covariance_type,
            "rows": self.n_rows,
            "entropy": self.entropy,
            "profile": {
                "rows": p.n_rows,
                "weight": p.weight,
                "mean": p.mean.tolist(),
                "scatter": p.scatter.tolist(),
                "low": p.low.tolist(),
                "high": p.high.tolist(),
                **({} if p.seen is None else {"seen": p.seen.tolist()}),
            },
            "counts": self.counts.tolist(),
            "offsets": self.offsets.tolist(),
            "spreads": self.spreads.tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> History:
        """Undo `to_dict`.

        Raises
        ------
        InputError
            If a value is missing, of the wrong shape, not finite, or no count.

        """
        try:
            p = values["profile"]
            mean, scatter, low, high = (np.array(p[key], dtype=float) for key in _OF_PROFILE)
            seen = np.array(p["seen"], dtype=float) if "seen" in p else None
            profile = Profile(
                int(p["rows"]), float(p["weight"]), mean, scatter, low, high, seen=seen
            )
            counts, offsets, spreads = (
                np.array(values[key], dtype=float) for key in _OF_COMPONENTS
            )
            history = cls(
                str(values["covariance_type"]),
                profile,
                counts,
                offsets,
                spreads,
                float(values["entropy"]),
                int(values["rows"]),
            )
            history._check()
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the statistics are damaged ({error})") from error
        return history

    def _check(self) -> None:
        if self.covariance_type not in FAMILIES:
            raise ValueError(f"covariance_type is {self.covariance_type!r}")
        k, d = self.offsets.shape
        spreads = self.family.statistics.shape(k, d)
        p = self.profile
        scatter = (d,) if p.scatter.ndim == 1 else (d, d)
        shapes = [(k,), spreads, (d,), scatter, (d,), (d,)]
        arrays = [self.counts, self.spreads, p.mean, p.scatter, p.low, p.high]
        if p.seen is not None:
            shapes.append((2, d))
            arrays.append(p.seen)
        for array, shape in zip(arrays, shapes, strict=True):
            if array.shape != shape:
                raise ValueError(f"an array has shape {array.shape}, not {shape}")
        numbers = np.concatenate([a.ravel() for a in (*arrays, self.offsets)])
        if not (np.isfinite([*numbers, self.entropy, p.weight])).all():
            raise ValueError("a number is not finite")
        if not ((self.counts > 0).all() and p.weight > 0 and p.n_rows > 0 and self.n_rows > 0):
            raise ValueError("a count is not above 0")


def lost_to_gaps(profile: Profile, frame: Frame) -> float:
    """Return what the entropy of missing values gains on the way back to the data's units."""
    if profile.seen is None:
        return 0.0
    return float((profile.weight - profile.seen[1]) @ np.log(frame.scale))


@dataclass(frozen=True)
class WithHistory:
    """New rows, and a history that stands for others: what an update climbs.

    The objective is the log-likelihood of the new rows and the lower bound of the history's, as a
    mean over all the weight.
    """

    rows: Rows
    history: History
    profile: Profile
    frame: Frame

    @classmethod
    def of(cls, rows: Rows, history: History) -> WithHistory:
        """Measure in coordinates in which all the rows have mean 0 and standard deviation 1."""
        profile = history.profile + rows.profile
        return cls(rows, history, profile, Frame.of(profile))

    def measure(self, models: Sequence[Model], label: str) -> list[Measured]:
        """Measure the new rows in one pass, and join the history to each model's statistics."""
        new = OverRows(self.rows, of_part(self.frame, self.rows.profile))
        pairs = zip(models, new.measure(models, f"{label}, over the new rows"), strict=True)
        return [self._joined(model, of_new) for model, of_new in pairs]

    def _joined(self, model: Model, new: Measured) -> Measured:
        old = self.history.moments(self.frame, new.moments.origin)
        both = old.added_to(new.moments)._replace(total=self.frame.correlation)
        if self.frame.seen is not None:
            both = both._replace(total=expected_total(both, model.family.diagonal))
        bound = self.history.bound(model, self.frame)
        log_likelihood = new.log_likelihood * self.rows.profile.weight + bound
        return Measured(both, log_likelihood / self.frame.weight, new)
