"""What starts are drawn on: rows in coordinates that a handful of wild rows cannot stretch."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.model import Model
from sparkgmm.core.prior import Regularised, m_step
from sparkgmm.core.widths import is_handful
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.products import Array, second_moment

# A feature's spread is the range between these quantiles; rows farther than so many of it from
# the nearer of them are wild.
_QUANTILES = (0.05, 0.95)
_WILD = 3.0
# The same of a feature most of whose rows are equal.
_OUTER = (0.005, 0.995)
# A start's variances are at least this share of the spread's square.
_LEAST = 1e-4
# With more features correlations are not taken out.
_MOST_WHITENED = 64


@dataclass(frozen=True)
class Ground:
    """Seeds, and what is made of them once for all starts.

    `core` (n,) tells the rows that are not wild. `bounded` are rows (n, d) scaled by their spread,
    the wild ones at its bounds; `whitened` the same without correlation, of features that are not
    too many. To both the points of parts beside the Gaussian are appended as they are.

    In `own_units` both are in the data's units, but for a factor that all features share: there
    round components are round.
    """

    seeds: Seeds
    own_units: bool = False

    @property
    def w(self) -> Array:
        """The weights, (n,)."""
        return self.seeds.w

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.seeds.w)

    @property
    def d(self) -> int:
        """The number of features."""
        return int(self.seeds.Z.shape[1])

    @cached_property
    def _range(self) -> tuple[Array, Array, Array]:
        """The quantiles of each feature, and its spread: a wider range where most are equal."""
        Z, columns = self.seeds.Z, np.arange(self.d)
        order = np.argsort(Z, axis=0, kind="stable")
        passed = np.cumsum(self.w[order], axis=0)
        low, high, lower, higher = (
            Z[order[(passed < share * passed[-1]).sum(axis=0), columns], columns]
            for share in (*_QUANTILES, *_OUTER)
        )
        spread = high - low
        for wider in (higher - lower, np.maximum(np.ptp(Z, axis=0), 1e-300)):
            spread = np.where(spread > 0, spread, wider)
        return low, high, spread

    @cached_property
    def core(self) -> Array:
        """Whether each row is not wild, (n,)."""
        low, high, spread = self._range
        Z = self.seeds.Z
        excess = np.maximum(low - Z, Z - high) / spread
        return np.asarray((excess <= _WILD).all(axis=1))

    @cached_property
    def unit(self) -> Array:
        """The variance of each feature over the rows that are not wild, (d,)."""
        Z, w = self.seeds.Z[self.core], self.w[self.core]
        mean = w @ Z / w.sum()
        variance = w @ (Z - mean) ** 2 / w.sum()
        return np.where(variance > 0, variance, 1.0)

    @cached_property
    def bounded(self) -> Array:
        """Rows scaled by the sd of those that are not wild, and those at their bounds, (n, d)."""
        low, high, spread = self._range
        bound = np.clip(self.seeds.Z, low - _WILD * spread, high + _WILD * spread)
        if not self.own_units:
            return self._with_parts(bound / np.sqrt(self.unit))
        scale = self.seeds.scale
        return self._with_parts(bound * (scale / np.sqrt(np.mean(self.unit * scale**2))))

    def _with_parts(self, Y: Array) -> Array:
        if self.seeds.parts:
            Y = np.concatenate([Y, self.seeds.part_points], axis=1)
        return np.ascontiguousarray(Y)

    @cached_property
    def whitened(self) -> Array:
        """The bounded rows, without correlation, (n, d)."""
        Y, w = self.bounded[:, : self.d], self.w
        if self.d > _MOST_WHITENED or not self.d or self.own_units:
            return self.bounded
        mean = w @ Y / w.sum()
        covariance = second_moment((Y - mean).T, w) / w.sum()
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 1e-8 * values[-1])
        return self._with_parts((Y - mean) @ (vectors / np.sqrt(values)))

    def model(self, R: Array, family: Family) -> Model:
        """Turn labels (n,) or responsibilities (k, n) into a model, by an M-step that is no spike.

        Wild rows do not count. Each covariance is drawn towards the pooled one by d + 1 rows'
        worth, so that a component with few rows starts wide.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a covariance comes out without volume.

        """
        w = self.w * self.core
        # about their own centre: beside one wild row all others may be alike to twelve digits
        centre = w @ self.seeds.Z / w.sum()
        Z = self.seeds.Z - centre
        d = self.d
        k = len(R)
        W = R * w
        counts = np.maximum(W.sum(axis=1), 1e-3 * w.sum() / len(w))
        means = W @ Z / counts[:, None]
        # variances are a view of scatter: what is added to them is added to it
        if family.diagonal:
            scatter = W @ Z**2 - counts[:, None] * means**2
            variances = scatter
        else:
            scatter = np.stack([(row[:, None] * Z).T @ Z for row in W])
            scatter -= counts[:, None, None] * means[:, :, None] * means[:, None, :]
            variances = np.einsum("kii->ki", scatter)
        pooled = scatter.sum(axis=0) / counts.sum()
        prior = (d + 1) * w.sum() / len(w)
        scatter += prior * pooled
        scatter *= (counts / (counts + prior)).reshape(k, *[1] * (scatter.ndim - 1))
        variances += _LEAST * counts[:, None] * self.unit
        moments = Moments(
            counts, np.zeros((k, d)), scatter, centre + means, self.seeds.scale, self.seeds.total
        )
        if not self.seeds.parts:
            return m_step(family, moments, Regularised(0.0))
        moments = moments._replace(others=self.seeds.part_sums(W, d + 1))
        return m_step(family, moments, Regularised(0.0), others=self.seeds.parts)

    def models(self, many: Iterable[Array], family: Family) -> list[Model]:
        """Return the models of those responsibilities that give every component volume."""
        models = []
        for R in many:
            with suppress(np.linalg.LinAlgError):
                models.append(self.model(R, family))
        return models

    def thinned(self, most: int) -> Ground:
        """Return the ground of at most so many rows, evenly spaced, and of a handful of wild ones.

        One row is enough to widen a component: on rows without it other optima are the best.
        """
        if self.n <= most:
            return self
        some = np.arange(self.n) % -(-self.n // most) == 0
        if is_handful(int((~self.core).sum()), self.n):
            some |= ~self.core
        return Ground(self.seeds.take(some))
