"""A bounded sample of a fit's rows, and how its rows belong to the components."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sparkgmm.core.matching import bhattacharyya_between
from sparkgmm.core.profile import count_rows, take_rows
from sparkgmm.core.quantiles import density_quantiles
from sparkgmm.core.rows import Rows
from sparkgmm.mixture import Array, Labels, Mixture, Scores


@dataclass(frozen=True)
class Sample:
    """Rows: X (n, d), their weights (n,), and whether they are all the rows there are."""

    X: Array
    weights: Array
    complete: bool

    @classmethod
    def of(cls, rows: Rows) -> Sample:
        """Take the pilot sample of a fit: at most some ten thousands of rows."""
        block = take_rows(rows.sample, np.arange(count_rows(rows.sample)))
        return cls(block.values.T.astype(np.float64), block.row_weights, rows.complete)

    def thinned(self, most: int) -> Array:
        """Return at most so many rows, evenly spaced."""
        return self.X[:: max(1, -(-len(self.X) // most))]

    def like_it(self, drawn: Array) -> Array:
        """Return rows (m, d) without the values that the rows of the sample miss, one by one."""
        missing = np.isnan(self.X)
        if not missing.any():
            return drawn
        rows = np.linspace(0, len(self.X), len(drawn), endpoint=False).astype(int)
        return np.where(missing[rows], np.nan, drawn)


@dataclass(frozen=True)
class Membership:
    """How the rows of a sample belong to the components."""

    mixture: Mixture
    sample: Sample

    @cached_property
    def _scores(self) -> Scores:
        return self.mixture.score(self.sample.X)

    @property
    def responsibilities(self) -> Array:
        """P(component | row), (n, k)."""
        return self._scores.responsibilities

    @property
    def log_density(self) -> Array:
        """Nats, (n,)."""
        return self._scores.log_density

    @cached_property
    def mass(self) -> Array:
        """The weight of each row that is of each component, (n, k)."""
        return self.responsibilities * self.sample.weights[:, None]

    @cached_property
    def density_quantiles(self) -> dict[str, Any]:
        """The quantiles of the log density that the model keeps for scoring."""
        return density_quantiles(self.log_density, self.sample.weights)

    @cached_property
    def labels(self) -> Labels:
        """The most responsible component, (n,)."""
        return np.argmax(self.responsibilities, axis=1)

    @cached_property
    def certainty(self) -> Array:
        """The largest responsibility of each row, (n,)."""
        return self.responsibilities.max(axis=1)

    @cached_property
    def confusion(self) -> Array:
        """Return which share of component i's rows would be assigned to j, (k, k).

        The rows of the sample stand for the component by their weighted responsibilities.
        """
        mass = self.mass
        assigned = np.eye(self.mixture.k)[self.labels]
        return np.asarray((mass.T @ assigned) / np.maximum(mass.sum(axis=0), 1e-300)[:, None])

    @cached_property
    def nearest(self) -> list[int | None]:
        """The nearest other component by Bhattacharyya distance, or None if there is none."""
        if self.mixture.k == 1:
            return [None]
        distances = bhattacharyya_between(self.mixture, self.mixture)
        np.fill_diagonal(distances, np.inf)
        return [int(j) for j in np.argmin(distances, axis=1)]
