"""What is too narrow for a component: one notion for the M-step, the verdict and rows held out.

A variance says too much where it is less than the recorded values can show, and where few rows
speak for it. docs/theory.md, "Too narrow", derives the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from sparkgmm.core.evidence import Evidence
from sparkgmm.core.grid import steps
from sparkgmm.core.model import Model
from sparkgmm.core.rows import Rows
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Dense
from sparkgmm.products import Array

# A variance below this share of the feature's own is none: a width of 3e-9 of its own ...
NO_WIDTH = 1e-17
# ... nor is a width of fewer roundings of the largest value: means are no finer than values.
ROUNDINGS = 16
# Few rows are fewer than so many times those that a component needs at the least. From twice as
# many on `reg_covar` is nothing; between them it fades.
FEW = 5
# A component of few rows is chance where it is narrower than so many times the least width, which
# is taken for this share of the feature's at the least ...
CHANCE = 3.0
CHANCE_LEAST = 1e-10
# ... in a direction in which the data as a whole are so many times wider.
_WIDER = 100.0
# ... or so many where values come from a grid, which bounds what may be gained there: pixels of 17
# levels, of which many are 0 in a class, are 480 times as wide as their rounding.
_WIDER_ON_A_GRID = 1000.0
# So many rows of one value are no chance where values come from a grid.
ATOM_ROWS = 10
# Fewer rows than these, which are this share of all at most, are a handful.
HANDFUL = 0.01
# Directions in which all rows together have less variance than this are no directions of the data:
# shares that sum to 1, a length in two units. There every component has the same variance ...
_FLAT = 1e-11
# ... so much that the one that float64 leaves of a component's own is less, and does not differ.
_FILLED = 1e-7
# A row belongs to a spike within so many of its standard deviations, in every feature.
_WITHIN = 5.0
# A variance that exceeds the least one by less is held by it.
_HELD = 1e-3
# A feature has part in a direction from this share on.
_PART = 0.01
# Matrices that are alike by their eigenvalues have none below this share of their variances: the
# smallest come out of a product with the largest.
_LIKE = 1e-7


def is_handful(some: float, n: float) -> bool:
    """Whether these are some of n rows, but few: no value of its own, no cluster."""
    return 0 < some < ATOM_ROWS and some <= HANDFUL * n


@dataclass(frozen=True)
class Widths:
    """The least variance of a component in each feature, (d,), in standardised coordinates.

    `resolution` is what the recorded values can show; `steps` (d,) are those of the features'
    grids in the data's units, 0 where there is none, and `origin` (d,) is a point of each.
    `reg_covar` is what components of few rows may not be narrower than. Counts times
    `rows_per_weight` are rows. `heavy` (d, h) are rows that count for more than one each, and
    `excess` (h,) for how many more: a single row may be a value, but no spike is less of one for
    its weight. `flat` (d, r) are directions in which no row varies; None if there are none.
    """

    reg_covar: float
    resolution: Array
    steps: Array
    origin: Array
    rows_per_weight: float = 1.0
    heavy: Array | None = None
    excess: Array | None = None
    flat: Array | None = None

    @classmethod
    def of(cls, rows: Rows, evidence: Evidence, reg_covar: float) -> Widths:
        """Look at the sample of the rows for the grid of each feature: no pass is made."""
        frame = evidence.frame
        grid = steps(rows.sample, len(frame.scale))
        # the variance of a value that may lie anywhere within half a step of the recorded one
        rounding = (grid / frame.scale) ** 2 / 12
        most = np.maximum(np.abs(rows.profile.low), np.abs(rows.profile.high))
        unit = ROUNDINGS * np.finfo(np.float64).eps * most / frame.scale
        none = np.maximum(unit**2, NO_WIDTH)
        per_weight = evidence.profile.rows_per_weight
        heavy, excess = _heavy(rows, per_weight, evidence) if rows.complete else (None, None)
        return cls(
            reg_covar,
            np.maximum(rounding, none),
            np.where(rounding > none, grid, 0.0),
            rows.profile.low,
            per_weight,
            heavy,
            excess,
            _flat(frame.correlation, np.maximum(rounding, none)),
        )

    def at_least(self, variances: Array) -> Widths:
        """Return the widths of which none is less than variances (d,) either."""
        return replace(self, resolution=np.maximum(self.resolution, variances))

    @property
    def gridded(self) -> Array:
        """Which features have a grid, (d,)."""
        return np.asarray(self.steps > 0)

    def recorded(self, means: Array, scale: Array) -> Array:
        """Return the values that are meant by means (k, d) in the data's units.

        The nearest of the grid; without one, what is left without the digits that say nothing.
        `scale` (d,) are the features' standard deviations.
        """
        digits = np.ceil(np.log10(np.sqrt(self.resolution) * scale))
        unit = np.where(self.gridded, self.steps, 10.0**digits)
        origin = np.where(self.gridded, self.origin, 0.0)
        return np.asarray(origin + np.rint((means - origin) / unit) * unit)

    def least(self, family: Family, counts: Array) -> Array:
        """Return the least variances of components of these effective counts, (m, d).

        (k, d), or (1, d) for a family that shares one matrix. Counts are (k,), or (k, d) of rows
        that have each feature.
        """
        few = FEW * family.least_rows(len(self.resolution))
        owners = counts.sum(axis=0, keepdims=True) if family.shared else counts
        share = np.clip(2 - owners * self.rows_per_weight / few, 0.0, 1.0)
        if share.ndim == 1:
            share = share[:, None]
        return np.maximum(self.resolution, self.reg_covar * share)

    def raised(self, model: Model, counts: Array | None = None) -> Model:
        """Return a model that is nowhere too narrow: itself if it is not.

        Without effective counts (k,) no component has few rows.
        """
        counts = np.full(model.k, np.inf) if counts is None else counts
        if not model.d:
            return model
        if not model.family.closed:  # its moments are `opened`: matrices would lose their likeness
            return model
        stack = model.stack.raised(self.least(model.family, counts))
        if self.flat is not None:
            stack = stack.filled(self.flat, _FILLED)
        if stack is model.stack:
            return model
        return Model(model.family, model.weights, model.means, stack, model.others)

    def opened(self, moments: Moments, family: Family) -> Moments:
        """Return moments of components that are nowhere too narrow.

        A family that is not closed makes of them matrices that are about so wide.
        """
        spread = Dense(family.statistics.spread(moments))
        least = np.maximum(self.least(family, moments.known), _LIKE * spread.variances)
        raised = spread.raised(least)
        if raised is spread:
            return moments
        return moments._replace(  # about the means: beside their squares the widths would be lost
            first=np.zeros_like(moments.first),
            second=moments.counts[:, None, None] * raised.values,
            origin=moments.origin + moments.offset,
        )

    def by_chance(self, model: Model, j: int, count: float, total: Array) -> Array:
        """Return by how much each feature has part in what makes component j a chance, (d,).

        It has few rows, and is narrow in a direction in which the data are wide; all are 0 where
        that is not so. `total` is the second moment of all rows, `count` the effective rows; of
        rows that lie in it each counts once, whatever its weight.
        """
        if count - self._excess_at(model, j) >= FEW * model.family.least_rows(model.d):
            return np.zeros(model.d)
        free = np.ones(model.d, dtype=bool)
        if count >= ATOM_ROWS:  # equal rows in a feature with a grid are one value, not a plane
            free = ~(self.gridded & model.stack.held_in(j, CHANCE * self.resolution))
        least = np.maximum(self.resolution, max(self.reg_covar, CHANCE_LEAST))
        parts = model.stack.thin_in(j, CHANCE * least, total, _WIDER, free)
        if parts.any() and not parts[~self.gridded].max(initial=0.0) > _PART:
            parts = model.stack.thin_in(j, CHANCE * least, total, _WIDER_ON_A_GRID, free)
        return parts

    def _excess_at(self, model: Model, j: int) -> float:
        """Return for how many rows those of component j count beyond their number."""
        if self.heavy is None or self.excess is None:
            return 0.0
        sd = np.sqrt(np.broadcast_to(model.stack.variances, model.means.shape)[j])
        away = np.abs(self.heavy - model.means[j][:, None]) > _WITHIN * sd[:, None]
        return float(self.excess[~away.any(axis=0)].sum())  # what is missing is nowhere away

    def held(self, model: Model, counts: Array) -> Array:
        """Return in which features components have no more variance than is the least, (k, d)."""
        least = (1 + _HELD) * self.least(model.family, counts)
        held = [model.stack.held_in(j, bound) for j, bound in enumerate(least)]
        return np.broadcast_to(held, (model.k, model.d))

    def few(self, model: Model, counts: Array) -> Array:
        """Return which components (k,) `reg_covar` may hold open."""
        least = self.least(model.family, counts)
        return np.broadcast_to((least > self.resolution).any(axis=1), model.k)

    def share(self, model: Model, counts: Array) -> float:
        """Return the largest share that the least variance has in any component's, 0 to 1."""
        return model.stack.share_of(self.least(model.family, counts))


def _flat(correlation: Array, resolution: Array) -> Array | None:
    """Return the directions (d, r) in which no row varies, nor is known to so little, if any.

    Bounds on a share of a component's own variance would differ there from component to component,
    and narrow ones would win rows by what is no width of theirs.
    """
    if correlation.ndim == 1:
        return None
    of_all, V = np.linalg.eigh(correlation)
    flat = V[:, of_all < _FLAT]
    if not flat.size:
        return None
    known, W = np.linalg.eigh(flat.T * resolution @ flat)
    flat = flat @ W[:, known < _FILLED]
    return flat if flat.size else None


def _heavy(
    rows: Rows, rows_per_weight: float, evidence: Evidence
) -> tuple[Array | None, Array | None]:
    """Return the rows that count for two and more (d, h), standardised, and for how many more."""
    frame = evidence.frame
    values, excess = [], []
    for block in rows.sample:
        if block.weights is not None:
            more = block.weights * rows_per_weight - 1
            which = more >= 1
            values.append(block.values[: len(frame.scale), which])
            excess.append(more[which])
    if not values:
        return None, None
    X = np.concatenate(values, axis=1)
    return (X - frame.shift[:, None]) / frame.scale[:, None], np.concatenate(excess)
