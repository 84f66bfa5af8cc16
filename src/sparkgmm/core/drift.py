"""What changed between two mixtures of the same features, and how the new rows fit the old one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sparkgmm.core.evidence import OverRows
from sparkgmm.core.matching import hellinger_between, match
from sparkgmm.core.model import from_mixture
from sparkgmm.core.rows import Rows
from sparkgmm.covariances import FAMILIES
from sparkgmm.density import Density
from sparkgmm.mixture import Array, Mixture, named
from sparkgmm.parts import Column, aligned

# The divergence is estimated from so many rows drawn from each mixture.
_DRAWN = 20_000
# Beyond this the log of a ratio of densities changes no digit.
_CERTAIN = 700.0
# The share of the earlier rows that are outliers.
OUTLIERS = 0.001


class Labelled(NamedTuple):
    """A mixture whose components carry labels that outlive it.

    `labels` has one for each component; `next_label` and all above it were never given away.
    `n_rows` is the number of rows that it was fitted to, a weight of 3 counting as 3.
    """

    mixture: Mixture
    labels: tuple[int, ...]
    next_label: int
    n_rows: float

    @classmethod
    def first(cls, mixture: Mixture, n_rows: float) -> Labelled:
        """Label the components 0, 1 and so on, in their order."""
        return cls(mixture, tuple(range(mixture.k)), mixture.k, n_rows)

    def following(self, mixture: Mixture, n_rows: float) -> Labelled:
        """Carry the labels over to a later mixture; components that are new get new labels."""
        labels, next_label = [], self.next_label
        for before in match(self.mixture, mixture):
            if before is None:
                labels.append(next_label)
                next_label += 1
            else:
                labels.append(self.labels[before])
        return Labelled(mixture, tuple(labels), next_label, n_rows)


class Estimate(NamedTuple):
    """A value that was estimated from draws, and its standard error."""

    value: float
    error: float


def jensen_shannon(one: Mixture, other: Mixture, n: int = _DRAWN, seed: int = 0) -> Estimate:
    """Return the Jensen-Shannon divergence of two mixtures in nats: 0 if equal, at most ln 2.

    Lin (1991), eq. 4.1 with equal weights. It is the information that a row, drawn from either by
    the toss of a coin, holds on which it was: the mean of ln 2 - H(t) over such rows, where t is
    the probability of the one given the row and H the entropy of t and 1 - t. No term is negative
    or exceeds ln 2, and where the mixtures are alike the terms themselves are small, so `n` rows
    drawn from each give two digits.
    """
    terms = []
    for i, mixture in enumerate((one, other)):
        X, _ = mixture.sample(n, 2 * seed + i)
        of_rows = [part.of for part in mixture.parts]
        densities = [log_density_of(m, X, of_rows, unseen=0.0) for m in (one, other)]
        ratio = densities[0] - densities[1]
        terms.append(_information(np.clip(ratio, -_CERTAIN, _CERTAIN)))
    error = math.sqrt(sum(float(t.var()) / n for t in terms)) / 2
    return Estimate(float(np.mean(terms)), error)


def _information(log_ratio: Array) -> Array:
    """Return ln 2 - H(t) where log_ratio is the log of t / (1 - t)."""
    log_t, log_rest = -np.logaddexp(0, -log_ratio), -np.logaddexp(0, log_ratio)
    left = np.exp(log_t) * log_t + np.exp(log_rest) * log_rest
    return np.maximum(math.log(2) + left, 0.0)


def divergence_by_chance(before: Labelled, after: Labelled) -> float:
    """Return the divergence in nats to expect where nothing changed but the rows drawn.

    Near the truth it is an eighth of the squared difference of the estimates in the metric of the
    information of one row; that difference has variance 1/n + 1/n' in each of its p directions
    (van der Vaart 1998, theorem 5.39). So p/8 (1/n + 1/n').
    """
    p = max(before.mixture.n_parameters, after.mixture.n_parameters)
    return p / 8 * (1 / before.n_rows + 1 / after.n_rows)


def mean_log_density(rows: Rows, mixture: Mixture) -> float:
    """Return the mean log density of all rows under a mixture, in nats a row: one pass."""
    evidence = OverRows.of(rows)
    model = from_mixture(mixture, evidence.frame, rows.columns)
    try:
        [measured] = evidence.measure([model], "log density under the earlier mixture")
    except np.linalg.LinAlgError:  # its components have no width at the scale of these rows
        return -math.inf
    log_likelihood = measured.log_likelihood
    return -math.inf if math.isnan(log_likelihood) else log_likelihood - evidence.frame.log_volume


def log_density_of(
    mixture: Mixture, X: Array, columns: Sequence[Column], unseen: float = 1.0
) -> Array:
    """Return log densities of rows X (n, D) that were read for another mixture's columns.

    Levels are numbered as in `columns`, which come after the numeric ones. `unseen` is what a level
    that the mixture does not have multiplies the density by. NaN is a missing value.
    """
    missing = bool(np.isnan(X[:, : mixture.d]).any())
    if not mixture.parts:
        mixture = mixture.with_missing("model") if missing else mixture
        return mixture.log_density(X[:, : mixture.d])
    parts = aligned(mixture.parts, columns, mixture.d, unseen)
    density = Density.of(mixture.weights, mixture.means, mixture.stack, parts)
    return density.score(X, missing=missing)


def share_below(
    mixture: Mixture,
    X: Array,
    weights: Array,
    threshold: float,
    columns: Sequence[Column] = (),
) -> float:
    """Return the weighted share of the rows X (n, D) whose log density is below a threshold."""
    below = log_density_of(mixture, X, columns) < threshold
    return float(weights[below].sum() / weights.sum())


@dataclass(frozen=True)
class Change:
    """What became of a component.

    `component` and `component_before` are its numbers in the new and in the old mixture, or None
    where it vanished or is new; its weight there is 0, and its mean None. `weight_change` is the
    difference of the weights, `weight_z` the same in standard errors. `mean_shift` is the distance
    of the means in the component's own standard deviations (Mahalanobis, by the old covariance),
    `mean_z` the largest change of a feature's mean in standard errors, `mean_z_feature` which one.
    `distance` is Hellinger's, 0 to 1.
    """

    label: int
    component: int | None
    component_before: int | None
    weight: float
    weight_before: float
    weight_z: float
    mean: tuple[float, ...] | None = None
    mean_before: tuple[float, ...] | None = None
    mean_shift: float | None = None
    mean_z: float | None = None
    mean_z_feature: int | None = None
    distance: float | None = None

    @property
    def weight_change(self) -> float:
        """The weight less the weight before."""
        return self.weight - self.weight_before

    @property
    def status(self) -> str:
        """Tell matched, appeared or vanished."""
        if self.component_before is None:
            return "appeared"
        return "vanished" if self.component is None else "matched"


def changes(before: Labelled, after: Labelled) -> list[Change]:
    """Return what became of every component, by rising label."""
    old, new = (dict(zip(m.labels, range(m.mixture.k), strict=True)) for m in (before, after))
    return [_change(label, before, after, old, new) for label in sorted({*old, *new})]


def _change(
    label: int, before: Labelled, after: Labelled, old: dict[int, int], new: dict[int, int]
) -> Change:
    """Compare a component of one mixture with that of the same label in a later one.

    The standard errors are those of the complete data: a weight's variance is w (1 - w) / n, a
    mean's the component's variance by its effective count n w (McLachlan and Peel 2000, chapter
    2). They take the rows' components for known: where components overlap the true errors are
    larger, and so many standard errors are fewer than they seem.
    """
    i, j = old.get(label), new.get(label)
    w_old = 0.0 if i is None else float(before.mixture.weights[i])
    w_new = 0.0 if j is None else float(after.mixture.weights[j])
    variance = w_old * (1 - w_old) / before.n_rows + w_new * (1 - w_new) / after.n_rows
    z = (w_new - w_old) / math.sqrt(variance) if variance > 0 else 0.0
    means = {} if i is None or j is None else _shift(before, i, after, j)
    return Change(
        label,
        j,
        i,
        w_new,
        w_old,
        z,
        mean=None if j is None else tuple(after.mixture.means[j].tolist()),
        mean_before=None if i is None else tuple(before.mixture.means[i].tolist()),
        **means,
    )


def _shift(before: Labelled, i: int, after: Labelled, j: int) -> dict[str, Any]:
    """Return how far the mean of component i is from that of a later component j."""
    distance = float(hellinger_between(_only(before, i), _only(after, j))[0, 0])
    delta = after.mixture.means[j] - before.mixture.means[i]
    if not len(delta):
        return {"mean_shift": 0.0, "mean_z": 0.0, "distance": distance}
    variance = sum(
        m.mixture.variances[at] / (m.mixture.weights[at] * m.n_rows)
        for m, at in ((before, i), (after, j))
    )
    z = delta / np.sqrt(variance)
    feature = int(np.argmax(np.abs(z)))
    whitened = before.mixture.stack.whitened(i, delta[:, None])
    return {
        "mean_shift": float(np.linalg.norm(whitened)),
        "mean_z": float(z[feature]),
        "mean_z_feature": feature,
        "distance": distance,
    }


def _only(labelled: Labelled, j: int) -> Mixture:
    m = labelled.mixture
    alone = FAMILIES[m.covariance_type].compact(m.stack.take(np.array([j])).values)
    parts: dict[str, Any] = dict(named([part.take(np.array([j])) for part in m.parts]))
    return Mixture([1.0], m.means[j : j + 1], alone, m.covariance_type, m.features, **parts)


def largest(found: Sequence[Change], key: str) -> Change | None:
    """Return the component whose figure of that name is largest, whatever its sign."""
    known = [change for change in found if getattr(change, key) is not None]
    return max(known, key=lambda change: abs(getattr(change, key)), default=None)


@dataclass(frozen=True)
class Drift:
    """What changed from one mixture to a later one, and how the later one's rows fit the first.

    `divergence` is Jensen and Shannon's, in nats; `mean_log_density` that of the new rows under the
    old mixture, in nats a row, and `log_density_fall` by how much it is below that of the old rows;
    `outlier_share` the share of new rows below the old density's 0.001 quantile, None where that is
    not known.
    """

    before: Labelled
    after: Labelled
    changes: tuple[Change, ...]
    divergence: Estimate
    mean_log_density: float
    log_density_fall: float
    outlier_share: float | None

    @property
    def measures(self) -> dict[str, float | None]:
        """The figures that thresholds hold for, by name."""
        return {name: measure.value(self) for name, measure in MEASURES.items()}


class Measure(NamedTuple):
    """A figure that thresholds hold for.

    `value` takes it from a `Drift`, None where it is not known; `unit` is text that follows the
    number. What a threshold may be is in `sparkgmm.options.MEASURES`.
    """

    value: Callable[[Drift], float | None]
    unit: str


def _largest(key: str) -> Callable[[Drift], float]:
    """Return the largest of any component; infinite where no component is found again."""

    def value(drift: Drift) -> float:
        change = largest(drift.changes, key)
        return math.inf if change is None else abs(getattr(change, key))

    return value


def _count(status: str) -> Callable[[Drift], int]:
    return lambda drift: sum(change.status == status for change in drift.changes)


MEASURES: dict[str, Measure] = {
    "divergence": Measure(lambda drift: drift.divergence.value, " nats"),
    "log_density_fall": Measure(lambda drift: drift.log_density_fall, " nats a row"),
    "outlier_share": Measure(lambda drift: drift.outlier_share, " of the rows"),
    "weight_change": Measure(_largest("weight_change"), ""),
    "weight_z": Measure(_largest("weight_z"), " standard errors"),
    "mean_shift": Measure(_largest("mean_shift"), " standard deviations"),
    "mean_z": Measure(_largest("mean_z"), " standard errors"),
    "appeared": Measure(_count("appeared"), " component(s)"),
    "vanished": Measure(_count("vanished"), " component(s)"),
}


class Crossing(NamedTuple):
    """A measure above a threshold of a level, warn or fail."""

    level: str
    measure: str
    value: float
    threshold: float

    def __str__(self) -> str:
        return (
            f"{self.measure} is {self.value:.4g}{MEASURES[self.measure].unit}, above "
            f"drift.{self.level}.{self.measure} {self.threshold:g}"
        )


def crossings(
    measures: Mapping[str, float | None], level: str, thresholds: Mapping[str, float | None]
) -> list[Crossing]:
    """Return the measures that are above their thresholds, those of a level."""
    pairs = ((name, measures[name], most) for name, most in thresholds.items())
    return [
        Crossing(level, name, value, most)
        for name, value, most in pairs
        if value is not None and most is not None and value > most
    ]
