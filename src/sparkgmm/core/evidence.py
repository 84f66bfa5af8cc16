"""What EM climbs: all rows, or some of them, measured at several models at once.

Every scan of rows at some models goes through `Evidence.measure`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from sparkgmm.core.grid import counted
from sparkgmm.core.incomplete import IncompleteKernel, n_extra, without_constraint
from sparkgmm.core.model import Model
from sparkgmm.core.profile import Block, Frame, Profile, squared
from sparkgmm.core.rows import Rows, scan_blocks
from sparkgmm.core.statistics import Kernel, NaturalKernel, Sums, WhitenedKernel
from sparkgmm.covariances.moments import PRODUCTS, Moments
from sparkgmm.density import CANCELLATION_LIMIT, pass_by_residuals_pays
from sparkgmm.parts import split
from sparkgmm.products import Array, diagonal


class Measured(NamedTuple):
    """What a pass says of a model: its moments and the mean log-likelihood, nats a row.

    In standardised coordinates. Where a history stands for rows that are not read again both
    figures are of all rows, the log-likelihood a lower bound, and `of_rows` is what the rows that
    were read measured alone.
    """

    moments: Moments
    log_likelihood: float
    of_rows: Measured | None = None

    @property
    def read(self) -> Measured:
        """What the rows that were read measured alone."""
        return self if self.of_rows is None else self.of_rows

    def effective_rows(self, profile: Profile) -> Array:
        """Return how many rows each component has, (k,), whatever unit weights are in."""
        return self.moments.counts * profile.rows_per_weight


class Evidence(Protocol):
    """What speaks for one model or another; its rows' profile, and the coordinates of models."""

    @property
    def profile(self) -> Profile: ...  # noqa: D102
    @property
    def frame(self) -> Frame: ...  # noqa: D102

    def measure(self, models: Sequence[Model], label: str) -> list[Measured]:
        """Measure all models in one pass; the label says what for."""
        ...


@dataclass(frozen=True)
class OverRows:
    """All rows, wherever they are."""

    rows: Rows
    frame: Frame

    @classmethod
    def of(cls, rows: Rows) -> OverRows:
        """Measure in coordinates in which these very rows have mean 0 and standard deviation 1."""
        return cls(rows, Frame.of(rows.profile))

    @cached_property
    def profile(self) -> Profile:
        """The profile of the rows."""
        profile = self.rows.profile
        weights = [block.weights for block in self.rows.sample if block.weights is not None]
        if not self.rows.complete or not weights:
            return profile
        return replace(profile, observations=counted(np.concatenate(weights), profile.weight))

    def measure(self, models: Sequence[Model], label: str) -> list[Measured]:
        """Measure all models in one pass; the label says what for."""
        scan = Scan.of(models, self.frame)
        return scan.read(self.rows.scan(scan.kernels, label))


@dataclass(frozen=True)
class OverBlocks:
    """Blocks in this process's memory: a sample of rows whose profile is known."""

    blocks: Sequence[Block]
    frame: Frame
    profile: Profile

    @classmethod
    def of(cls, blocks: Sequence[Block], frame: Frame, profile: Profile) -> OverBlocks:
        """Keep the coordinates of a frame, but take the constants of the data from the blocks."""
        return cls(blocks, frame.over(blocks), profile)

    def measure(self, models: Sequence[Model], label: str) -> list[Measured]:
        """Measure all models in one pass."""
        scan = Scan.of(models, self.frame)
        return scan.read(scan_blocks([self.blocks], scan.kernels))


def of_part(frame: Frame, profile: Profile) -> Frame:
    """Keep the coordinates, but take the constants of the data from a part of the rows."""
    if frame.seen is not None:
        seen = np.ones(len(frame.scale))
        if profile.seen is not None:
            seen = profile.seen[1] / profile.weight
        return replace(frame, weight=profile.weight, seen=seen)
    offset = (profile.mean - frame.shift) / frame.scale
    scatter = profile.scatter if frame.correlation.ndim == 2 else diagonal(profile.scatter)
    correlation = scatter / profile.weight / squared(frame.scale, scatter)
    correlation += squared(offset, scatter)
    return replace(frame, correlation=correlation, weight=profile.weight)


@dataclass(frozen=True)
class Scan:
    """One pass over the data for several candidates: what to run, and how to read the sums."""

    models: tuple[Model, ...]
    frame: Frame
    kernels: tuple[Kernel, ...]
    # The candidate that each of the kernels' results belongs to, and which of its components (k,)
    # were measured about their means.
    order: tuple[tuple[int, Array], ...]

    @classmethod
    def of(cls, models: Sequence[Model], frame: Frame) -> Scan:
        """Choose each candidate's kernel, by what would cancel and by what is faster."""
        if frame.seen is not None:
            return cls._of_gaps(models, frame)
        d = len(frame.shift)
        narrow = [m.stack.cancellation(m.means) > CANCELLATION_LIMIT for m in models]
        unknown = frame.correlation.ndim == 1
        # where more than half of the components are, the products are not worth their while; and
        # what the natural kernel leaves out of a shared covariance is common to all, and has to be
        # known; diagonal ones cost next to nothing either way
        mostly_narrow = {
            i
            for i, m in enumerate(models)
            if (m.family.shared and (unknown or narrow[i].any()))
            or (narrow[i].mean() > 0.5 and not m.family.diagonal)
        }
        full = {i for i, m in enumerate(models) if m.family.statistics is PRODUCTS} - mostly_narrow
        n_components = sum(models[i].k for i in full)
        whitened = full if pass_by_residuals_pays(n_components, d) else set()
        by_residuals = sorted(mostly_narrow | whitened)
        natural = sorted(
            set(range(len(models))) - mostly_narrow - whitened,
            key=lambda i: (models[i].n_features, i),
        )
        for i in by_residuals:
            narrow[i][:] = narrow[i].any()
        kernels: list[Kernel] = [
            WhitenedKernel.of(models[i], frame, centred=bool(narrow[i].any())) for i in by_residuals
        ]
        if natural:
            kernels.insert(
                0,
                NaturalKernel.of([models[i] for i in natural], frame, [narrow[i] for i in natural]),
            )
        order = tuple((i, narrow[i]) for i in [*natural, *by_residuals])
        return cls(tuple(models), frame, tuple(kernels), order)

    @classmethod
    def _of_gaps(cls, models: Sequence[Model], frame: Frame) -> Scan:
        """Do it where values are missing: one kernel, which has those of complete rows in it."""
        free = [without_constraint(model) for model in models]
        ordinary = cls.of(free, replace(frame, seen=None))
        kernel = IncompleteKernel.of(
            [free[i] for i, _ in ordinary.order],
            [narrow for _, narrow in ordinary.order],
            ordinary.kernels,
            frame,
        )
        return cls(tuple(models), frame, (kernel,), ordinary.order)

    def read(self, sums: Sequence[Sums]) -> list[Measured]:
        """Return each candidate's moments and mean log-likelihood, in standardised coordinates."""
        frame = self.frame
        results: dict[int, Measured] = {}
        for (i, narrow), (packed, log_likelihood) in zip(self.order, sums, strict=True):
            model = self.models[i]
            others: tuple[Array, ...] = ()
            if model.others:
                width = model.width - model.n_features
                packed, others = packed[:, :-width], split(model.others, packed[:, -width:])
            beside = None
            if frame.seen is not None:
                extra = n_extra(model.d)
                packed, beside = packed[:, :-extra], packed[:, -extra:]
            mean = log_likelihood / frame.weight
            if (
                beside is None
                and model.family.shared
                and packed.shape[1] < PRODUCTS.n_features(model.d)
            ):
                # the quadratic term that was left out of eta: the same for all components
                mean -= 0.5 * model.stack.quadratic_of(frame.correlation)
            origin = np.where(narrow[:, None], model.means, 0.0)
            moments = Moments.unpack(packed, origin, frame.scale, frame.correlation, others)
            if beside is not None:
                total = expected_total(moments, model.family.diagonal)
                moments = moments._replace(total=total, seen=beside[:, :-1], hidden=beside[:, -1])
            results[i] = Measured(moments, mean)
        return [results[i] for i in range(len(self.models))]


def expected_total(moments: Moments, diagonal_only: bool) -> Array:
    """Return the second moment of all rows, a row, that is expected of rows with gaps."""
    assert moments.second is not None
    origin, first = moments.origin, moments.first
    cross = origin * (2 * first + moments.counts[:, None] * origin)
    weight = moments.counts.sum()
    if diagonal_only:
        return np.asarray((moments.squares() + cross).sum(axis=0) / weight)
    mixed = origin.T @ first
    about = moments.second.sum(axis=0) + mixed + mixed.T
    return np.asarray((about + (origin.T * moments.counts) @ origin) / weight)
