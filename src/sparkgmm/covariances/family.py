"""What a covariance type has to know: the protocol of a family."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sparkgmm.covariances.moments import Moments, Statistics
from sparkgmm.covariances.stacks import Dense, Stack
from sparkgmm.products import Array


class Family(Protocol):
    """A set of covariances: how they are estimated, counted, and brought into it.

    `name` is the covariance type that users write. `shared` says that one matrix serves all
    components, `diagonal` that features do not correlate within a component, `round` that they all
    have one variance in the data's own units. `statistics` is what it needs of a pass.

    `closed` says that whatever numbers a stack's coordinates take, and any mean of its matrices,
    are of the family: then EM may be accelerated. `known_as` is the type under which scikit-learn
    and others know matrices of this kind.
    """

    name: str
    shared: bool = False
    diagonal: bool = False
    round: bool = False
    closed: bool = True
    statistics: Statistics
    known_as: str

    def n_parameters(self, k: int, d: int) -> int:
        """Count the free parameters of the covariances of k components."""
        ...

    def least_rows(self, d: int) -> int:
        """Return the effective rows below which a component is no more than a spike on them."""
        ...

    def rows_needed(self, k: int, d: int) -> int:
        """Return how many rows k components need in all for their covariances to have volume."""
        return k * self.least_rows(d)

    def estimate(self, moments: Moments, before: Stack | None = None) -> Stack:
        """Return the covariances that maximise the expected log-likelihood: the M-step.

        `before` are the covariances of the step before, which a family may iterate from.
        """
        ...

    def estimate_each(self, moments: Moments, k: int) -> Stack | None:
        """Return the matrices of several models of k components each, (models, ...), if at once.

        For families that share a matrix; None where it has to be one model after the other.
        """
        return None

    def read(self, covariances: Array, scale: Array) -> Stack:
        """Bring covariances (k, d, d) of the family from the data's units to standardised ones.

        `scale` (d,) are the features' standard deviations. Where they are not of the family what
        is returned is one that is, and is near. Of a diagonal family variances (k, d) will do.
        """
        ...

    def nearest(self, covariances: Array, scale: Array) -> Stack:
        """Bring any covariances (k, d, d) to those of the family that are most like them."""
        return self.read(covariances, scale)

    def shape(self, k: int, d: int) -> tuple[int, ...]:
        """Return the shape in which the covariances of k components are written."""
        return (d, d) if self.shared else (k, d, d)

    def kept(self, written: Array, scale: Array) -> Stack:
        """Bring covariances, as they are written, from the data's units to standardised ones."""
        values = written[None] if self.shared else written
        return Dense(values / np.outer(scale, scale))

    def written(self, stack: Stack, scale: Array) -> Array:
        """Undo `kept`."""
        return self.compact(stack.values) * np.outer(scale, scale)

    def compact(self, values: Array) -> Array:
        """Return the numbers of a stack as the family is written: without the axis of one."""
        return values[0] if self.shared else values
