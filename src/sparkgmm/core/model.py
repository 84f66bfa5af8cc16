"""A mixture inside a fit: in standardised coordinates, and what EM compares by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sparkgmm.core.profile import Frame
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Stack
from sparkgmm.density import LOG_2PI
from sparkgmm.mixture import Mixture, named
from sparkgmm.parts import Column, Parts, aligned
from sparkgmm.products import Array

# A variance below this share of the feature's own is no volume: `core.widths` bounds them above it.
VOLUME_FLOOR = 1e-20
# Nor is one so many times the feature's own.
_TOO_WIDE = 1e14


@dataclass(frozen=True, eq=False)
class Model:
    """Weights (k,), and the parts of the components' densities.

    The Gaussian over the numeric columns has means (k, d) and a stack of covariances of a family;
    `others` are the parts beside it.
    """

    family: Family
    weights: Array
    means: Array
    stack: Stack
    others: Parts = ()

    @property
    def k(self) -> int:
        """The number of components."""
        return len(self.weights)

    @property
    def d(self) -> int:
        """The number of features."""
        return int(self.means.shape[1])

    @property
    def covariance_type(self) -> str:
        """The name of the family."""
        return self.family.name

    @property
    def n_features(self) -> int:
        """How many leading entries of T(x) = (1, x, x^2, x_i x_j) a pass has to add up for it."""
        return self.family.statistics.n_features(self.d)

    @property
    def width(self) -> int:
        """How many entries the statistics of all parts have, a row and component."""
        return self.n_features + sum(part.width for part in self.others)

    @cached_property
    def log_masses(self) -> Array:
        """The log-weights, (k,)."""
        return np.asarray(np.log(self.weights))


def to_mixture(model: Model, frame: Frame, features: tuple[str, ...] | None = None) -> Mixture:
    """Go back to the data's units, heaviest component first, ties by mean."""
    w, order = model.weights, order_of(model)
    means = frame.shift + model.means * frame.scale
    covariances = model.family.written(model.stack.take(np.array(order)), frame.scale)
    parts = tuple(part.take(np.array(order)) for part in model.others)
    beside: dict[str, Any] = dict(named(parts))
    return Mixture(w[order], means[order], covariances, model.family.name, features, **beside)


def order_of(model: Model) -> list[int]:
    """Return the components as they are numbered for people: the heaviest first, ties by mean."""
    return [int(j) for j in np.lexsort((*model.means.T[::-1], -model.weights))]


def from_mixture(mixture: Mixture, frame: Frame, columns: Sequence[Column] = ()) -> Model:
    """Bring a mixture in the data's units into standardised coordinates.

    `columns` are those of the rows after the numeric ones: its parts are found by their names.
    """
    family = FAMILIES[mixture.covariance_type]
    means = (mixture.means - frame.shift) / frame.scale
    stack = family.kept(mixture.compact_covariances, frame.scale)
    parts = aligned(mixture.parts, columns, mixture.d)
    return Model(family, mixture.weights, means, stack, parts)


def check_volume(model: Model) -> None:
    """Raise LinAlgError where a component has no volume, or far more than all the data.

    Rows have variance 1 in standardised coordinates: no step of EM leads above one over the
    smallest weight, but an extrapolation may, to where matrices cannot be inverted any more.
    """
    pivots = model.stack.pivots
    if pivots.size and not (pivots.min() > VOLUME_FLOOR and pivots.max() < _TOO_WIDE):
        met = f"{pivots.min():.3g} to {pivots.max():.3g}"
        raise np.linalg.LinAlgError(f"the components' variances are {met} of the data's")
    if model.others and not all(part.sound for part in model.others):
        raise np.linalg.LinAlgError("a part beside the Gaussian is no number any more")


def expected_log_likelihood(model: Model, moments: Moments) -> float:
    """Return the mean over the rows of the expected complete-data log-likelihood, Q of EM."""
    total = moments.counts.sum()
    quadratic = model.stack.quadratic(moments, model.means, total) / total
    log_joint = model.log_masses - 0.5 * model.stack.log_dets
    gaussian = float(moments.counts @ log_joint) / total - 0.5 * (quadratic + model.d * LOG_2PI)
    if not model.others:
        return gaussian
    pairs = zip(model.others, moments.others, strict=True)
    return gaussian + sum(float((part.natural * sums).sum()) for part, sums in pairs) / total
