"""What is known of a mixture before any row is read, and the M-step, which joins it to the rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

from sparkgmm.core.evidence import Evidence
from sparkgmm.core.model import Model, check_volume
from sparkgmm.core.rows import Rows
from sparkgmm.core.widths import Widths
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Stack
from sparkgmm.options import REG_COVAR
from sparkgmm.parts import Parts, estimated
from sparkgmm.products import Array


class Prior(Protocol):
    """A density of the parameters, as far as EM asks for it.

    `exact` says that a plain step of EM cannot fall but by rounding. `widths` are how narrow a
    component may be, None where nothing is known of the rows.
    """

    @property
    def exact(self) -> bool: ...  # noqa: D102
    @property
    def widths(self) -> Widths | None: ...  # noqa: D102

    def over(self, rows: Rows, evidence: Evidence) -> Prior:
        """Return the prior once it has seen how the values of these rows were recorded."""
        ...

    def join(self, moments: Moments, family: Family) -> Moments:
        """Return the moments whose M-step maximises the likelihood times this density."""
        ...

    def within(self, model: Model, counts: Array | None = None) -> Model:
        """Return the most likely model that is nowhere too narrow, the model itself if it is not.

        `counts` (k,) are the effective counts of the components, where they are known, or (k, d) of
        the rows that have each feature.
        """
        ...

    def at_least(self, variances: Array) -> Prior:
        """Return the prior under which no component is narrower than variances (d,) either."""
        ...

    def log_density(self, model: Model, moments: Moments) -> float:
        """Return the log density at a model that measured these moments, in nats a row."""
        ...


@dataclass(frozen=True)
class Bounded:
    """Every density is as good as another, but that no component is too narrow.

    Covariances are bounded from below by `widths`: a constraint, which does nothing where it does
    not bind. `reg_covar` bounds components of few rows.
    """

    reg_covar: float = REG_COVAR.default
    widths: Widths | None = None

    @property
    def exact(self) -> bool:
        """Whether bounds do not move with the counts."""
        return self.reg_covar == 0

    def over(self, rows: Rows, evidence: Evidence) -> Bounded:
        """Return the prior with the bounds of these rows."""
        return replace(self, widths=Widths.of(rows, evidence, self.reg_covar))

    def join(self, moments: Moments, family: Family) -> Moments:
        """Return the moments, wide enough for a family that has to have them so."""
        if family.closed or self.widths is None:
            return moments
        return self.widths.opened(moments, family)

    def within(self, model: Model, counts: Array | None = None) -> Model:
        """Return the most likely model that is nowhere too narrow, the model itself if it is not.

        `counts` (k,) are the effective counts of the components, where they are known, or (k, d) of
        the rows that have each feature.
        """
        return model if self.widths is None else self.widths.raised(model, counts)

    def at_least(self, variances: Array) -> Bounded:
        """Return the prior under which no component is narrower than variances (d,) either."""
        if self.widths is None:
            return self
        return replace(self, widths=self.widths.at_least(variances))

    def log_density(self, model: Model, moments: Moments) -> float:
        """Return 0."""
        return 0.0


@dataclass(frozen=True)
class Regularised:
    """`reg_covar` times each feature's variance is added to the covariance diagonal.

    That is the M-step of the log-likelihood less half reg_covar tr(precision) a row. It is for
    starts, which must have volume where their rows have none.
    """

    reg_covar: float = REG_COVAR.default
    widths: Widths | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing is added."""
        return self.reg_covar == 0

    def over(self, rows: Rows, evidence: Evidence) -> Regularised:
        """Return itself."""
        return self

    def at_least(self, variances: Array) -> Regularised:
        """Return itself."""
        return self

    def within(self, model: Model, counts: Array | None = None) -> Model:
        """Return the model."""
        return model

    def join(self, moments: Moments, family: Family) -> Moments:
        """Return the moments with `reg_covar` as their ridge, which the M-step adds."""
        m = moments  # by hand: twice as fast as _replace, and every step of EM comes here
        return Moments(
            m.counts,
            m.first,
            m.second,
            m.origin,
            m.scale,
            m.total,
            self.reg_covar,
            m.others,
            m.seen,
            m.hidden,
        )

    def log_density(self, model: Model, moments: Moments) -> float:
        """Return minus half reg_covar tr(precision), the mean over the rows."""
        if self.reg_covar == 0:
            return 0.0
        traces = float((moments.shares * model.stack.precision_traces).sum())
        return -(0.5 * self.reg_covar * traces)


def m_step(
    family: Family,
    moments: Moments,
    prior: Prior,
    before: Stack | None = None,
    others: Parts = (),
) -> Model:
    """Return the model that maximises the expected log-likelihood of the moments and the prior.

    Dempster, Laird and Rubin (1977), section 4.3. `before` are the covariances of the step before,
    if there was one, `others` the parts beside the Gaussian, which are estimated as well.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a covariance comes out without volume.

    """
    moments = prior.join(moments, family)
    stack = family.estimate(moments, before)
    means = moments.origin + moments.offset
    others = estimated(others, moments.counts, moments.others)
    model = prior.within(Model(family, moments.shares, means, stack, others), moments.known)
    check_volume(model)
    return model
