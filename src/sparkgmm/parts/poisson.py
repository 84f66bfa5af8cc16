"""A column of counts: a Poisson in each component."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sparkgmm.parts.part import Column, Part
from sparkgmm.products import Array

# No component has a rate below this share of the mean of all the rows, as of `multinomial`.
LEAST_SHARE = 1e-6
# Where there is no event at all.
_NO_RATE = 1e-300
# A rate above it is an overflow: counts are exact up to 2^53 only.
_MOST = 1e17
_TABLE = np.array([math.lgamma(x + 1) for x in range(256)])


@dataclass(frozen=True, eq=False)
class Poisson:
    """Counts in one column: log f_j(x) = x log rate_j - rate_j - log x!.

    `rates` are (k,); `overall` is the mean of all the rows.
    """

    of: Column
    column: int
    rates: Array
    overall: float

    width = 3

    @classmethod
    def of_all(cls, of: Column, column: int, values: Array, w: Array) -> Poisson:
        """Return one component: the mean of the rows (D, n) of weights w (n,)."""
        x = values[column].astype(np.float64)
        known = np.isfinite(x)
        weight = float(w[known].sum())
        mean = 1.0
        if weight:
            mean = float(x[known] @ w[known]) / weight
            mean = max(mean, 0.5 * float(w.sum()) / len(w) / weight, _NO_RATE)
        return cls(of, column, np.array([mean]), mean)

    @property
    def n_parameters(self) -> int:
        """A rate for each component."""
        return len(self.rates)

    @property
    def natural(self) -> Array:
        """Log-rates, minus the rates, and ones."""
        return np.stack([np.log(self.rates), -self.rates, np.ones_like(self.rates)], axis=1)

    @property
    def sound(self) -> bool:
        """Whether all rates are numbers above 0."""
        return bool(((self.rates > 0) & (self.rates < _MOST)).all())

    def fill(self, values: Array, out: Array) -> None:
        """Set rows for the count, for that it is known, and for -log x!."""
        x = values[self.column].astype(np.float64)
        known = ~np.isnan(x)
        x = np.where(known, x, 0.0)
        out[0], out[1], out[2] = x, known, -log_factorial(x)

    def known(self, values: Array) -> Array:
        """Return which rows have a count."""
        return ~np.isnan(values[self.column])

    def log_density(self, values: Array) -> Array:
        """Return the log-probabilities of the counts; 0 where they are not known."""
        t = np.empty((self.width, values.shape[1]))
        self.fill(values, t)
        with np.errstate(divide="ignore", invalid="ignore"):
            by_rate = np.where(t[0] > 0, np.log(self.rates)[:, None] * t[0], 0.0)
        return np.asarray(by_rate - self.rates[:, None] * t[1] + t[2])

    def coordinates(self, values: Array) -> Array:
        """Return twice the roots of the counts (Anscombe 1948), whose noise has variance 1.

        They are scaled by their standard deviation where that is larger, as features are.
        """
        x = values[self.column].astype(np.float64)
        known = ~np.isnan(x)
        roots = 2 * np.sqrt(np.where(known, x, self.overall) + 0.375)
        roots -= roots[known].mean() if known.any() else roots.mean()
        return (roots / max(1.0, float(roots[known].std()) if known.any() else 1.0))[None]

    def estimate(self, counts: Array, sums: Array) -> Poisson:
        """Return the means of what is known, none below its bound."""
        known = sums[:, 1]
        some = known > 1e-12 * counts
        rates = np.where(some, sums[:, 0] / np.where(some, known, 1.0), self.overall)
        return replace(self, rates=np.maximum(rates, LEAST_SHARE * self.overall))

    def pack(self) -> Array:
        """Return log-rates."""
        return np.log(self.rates)

    def unpacked(self, vector: Array) -> Poisson:
        """Return rates within their bounds."""
        with np.errstate(over="ignore"):
            return replace(self, rates=np.maximum(np.exp(vector), LEAST_SHARE * self.overall))

    def metric(self, root: Array) -> Array:
        """Weigh a log-rate by the root of the events that there are."""
        return np.asarray(root[:, 0] * np.sqrt(self.rates))

    def slopes(self, sums: Array) -> Array:
        """Return by how many there are more events than the rates say."""
        return np.asarray(sums[:, 0] - sums[:, 1] * self.rates)[:, None]

    def scores(self, j: int, values: Array) -> Array:
        """Return the same of single rows."""
        x = values[self.column]
        return np.where(np.isnan(x), 0.0, x - self.rates[j])[None]

    @property
    def free(self) -> Array:
        """Nothing is free."""
        return np.zeros((len(self.rates), 1))

    def take(self, which: Array) -> Poisson:
        """Return the factors of some components."""
        return replace(self, rates=self.rates[which])

    def joined(self, others: Sequence[Poisson]) -> Poisson:
        """Return these components and the others'."""
        return replace(self, rates=np.concatenate([self.rates, *(o.rates for o in others)]))

    def with_mean_at(self, j: int, which: Array) -> Poisson:
        """Give component j the mean rate of some others."""
        rates = self.rates.copy()
        rates[j] = self.rates[which].mean()
        return replace(self, rates=rates)

    def alike(self, i: int, j: int, tolerance: float) -> bool:
        """Say whether the rates differ by no more than a share of their roots."""
        a, b = self.rates[[i, j]].tolist()
        return bool(abs(a - b) < tolerance * math.sqrt(max(a, b)))

    def affinity(self, other: Part) -> Array:
        """Return minus half the squared distances of the roots of the rates."""
        if not isinstance(other, Poisson):
            return np.zeros((len(self.rates), other.natural.shape[0]))
        return -0.5 * (np.sqrt(self.rates)[:, None] - np.sqrt(other.rates)) ** 2

    def aligned(self, of: Column, column: int, unseen: float = 1.0) -> Poisson:
        """Return the same for rows that have the column elsewhere."""
        return replace(self, of=of, column=column)

    def likely(self, shares: Array) -> Array:
        """Return the expected counts."""
        return np.asarray(shares @ self.rates)

    def deviations(self, shares: Array) -> Array:
        """Return the standard deviations of n counts, of components' shares (n, k), (n,)."""
        squares = (shares * (self.rates - self.likely(shares)[:, None]) ** 2).sum(axis=1)
        return np.sqrt(self.likely(shares) + squares)

    def sample(self, labels: Array, rng: np.random.Generator) -> Array:
        """Draw counts."""
        return rng.poisson(self.rates[labels]).astype(np.float64)

    def summary(self, j: int) -> str:
        """Give the rate."""
        return f"{self.rates[j]:.3g}"

    def written(self) -> list[float]:
        """Return the rates."""
        return list(self.rates.tolist())


def log_factorial(x: Array) -> Array:
    """Return log x! of whole numbers: from a table, and by Stirling's series beyond it."""
    out = _TABLE[np.minimum(x, len(_TABLE) - 1).astype(np.intp)]
    large = x >= len(_TABLE)
    if large.any():
        y = x[large]
        series = 1 / (12 * y) - 1 / (360 * y**3) + 1 / (1260 * y**5)
        out[large] = (y + 0.5) * np.log(y) - y + 0.5 * math.log(2 * math.pi) + series
    return np.asarray(out)
