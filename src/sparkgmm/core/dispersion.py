"""Whether counts vary within components as a Poisson says that they do."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from sparkgmm.core.sample import Membership
from sparkgmm.parts import Poisson
from sparkgmm.products import Array

# Counts vary too much where their variance is so many times their mean, and not by chance.
_OVER = 1.5
_STANDARD_ERRORS = 5.0


def dispersion(membership: Membership) -> Array:
    """Return the variance of each column of counts over its mean, in each component, (m, k).

    Over the rows of the sample, weighted by their responsibilities; 1 of a Poisson, up to rounding.
    """
    return np.array([_of(membership, part) for part in _counts(membership)])


def overdispersed(membership: Membership) -> list[tuple[str, int, float]]:
    """Return columns of counts that vary too much, with their worst component and by how much.

    The index of dispersion of n Poisson counts has a standard error of the root of 2 / n (Fisher
    1950).
    """
    found = []
    mass = membership.mass
    rows = mass.sum(axis=0) ** 2 / np.maximum((mass**2).sum(axis=0), 1e-300)
    for part in _counts(membership):
        index = _of(membership, part)
        sure = index - _STANDARD_ERRORS * np.sqrt(2 / np.maximum(rows, 1.0))
        j = int(np.argmax(np.where(sure > 1, index, 0.0)))
        if sure[j] > 1 and index[j] > _OVER:
            found.append((part.of.name, j, float(index[j])))
    return found


def _counts(membership: Membership) -> Iterator[Poisson]:
    return (part for part in membership.mixture.parts if isinstance(part, Poisson))


def _of(membership: Membership, part: Poisson) -> Array:
    x = membership.sample.X[:, part.column]
    known = ~np.isnan(x)
    mass = membership.mass[known]
    weight = np.maximum(mass.sum(axis=0), 1e-300)
    mean = mass.T @ x[known] / weight
    variance = (mass * (x[known][:, None] - mean) ** 2).sum(axis=0) / weight
    return np.asarray(variance / np.maximum(mean, 1e-300))
