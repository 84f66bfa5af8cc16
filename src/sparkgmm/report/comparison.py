"""Several mixtures of the same rows, matched component by component, and what to say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from sklearn.metrics import adjusted_rand_score

from sparkgmm.core.matching import assign, bhattacharyya_between
from sparkgmm.core.sample import Sample
from sparkgmm.covariances import FAMILIES
from sparkgmm.mixture import Array, Labels, Mixture
from sparkgmm.report.views import uncorrelated

# Parameters that differ by less, in the units of `Differences`, agree.
AGREE = 1e-3
# Mean log-likelihoods that differ by less, in nats a row, are those of one optimum.
_SAME_HEIGHT = 1e-5
# Components nearer than this to each other are one and the same.
_SAME_COMPONENT = 1e-3
# Distances that overflow are as far as this, so that sums of them stay finite.
_FARTHEST = 1e300
_EPSILON = float(np.finfo(np.float64).eps)
TITLES = {
    "sparkgmm": "sparkgmm",
    "sklearn": "scikit-learn",
    "mllib": "Spark MLlib",
    "kmeans": "k-means",
}


@dataclass(frozen=True)
class Solved:
    """What one software returned: a mixture and how it came about, or why there is none."""

    name: str
    mixture: Mixture | None = None
    seconds: float = 0.0
    passes: int = 0
    converged: bool = False
    rows: int = 0
    mean_log_likelihood: float = float("nan")
    labels: Labels | None = field(default=None, repr=False)
    note: str = ""
    failed: str = ""

    @property
    def title(self) -> str:
        """Its name as people write it."""
        return TITLES[self.name]


@dataclass(frozen=True)
class Differences:
    """The largest difference of any weight, mean and covariance between matched components.

    Weights as they are; means in standard deviations of our component; covariances relative to
    the product of the two standard deviations.
    """

    weights: float
    means: float
    covariances: float

    @property
    def largest(self) -> float:
        """The largest of the three."""
        return max(self.weights, self.means, self.covariances)


@dataclass(frozen=True)
class Comparison:
    """Ours, `solved[0]`, beside the others, over one sample of the rows."""

    solved: Sequence[Solved]
    sample: Sample

    @property
    def ours(self) -> Mixture:
        """Our mixture."""
        assert self.solved[0].mixture is not None
        return self.solved[0].mixture

    @cached_property
    def matched(self) -> dict[str, list[int]]:
        """For each software, which of its components is ours 0, 1 and so on."""
        return {
            s.name: counterparts(self.ours, s.mixture) for s in self.solved if s.mixture is not None
        }

    @cached_property
    def differences(self) -> dict[str, Differences]:
        """What remains between matched components, where the number of components is ours."""
        return {
            s.name: differences(self.ours, s.mixture, self.matched[s.name])
            for s in self.solved[1:]
            if s.mixture is not None and s.mixture.k == self.ours.k
        }

    @cached_property
    def adjusted_rand(self) -> dict[str, float]:
        """How far hard labels agree with ours: 1 if all do, about 0 if by chance (Hubert 1985)."""
        ours = self.labels_of(self.solved[0])
        return {
            s.name: float(adjusted_rand_score(ours, self.labels_of(s)))
            for s in self.solved
            if s.mixture is not None
        }

    def labels_of(self, solved: Solved) -> Labels:
        """Return the component or cluster of each row of the sample, (n,)."""
        if solved.labels is not None:
            return solved.labels
        assert solved.mixture is not None
        return solved.mixture.predict(self.sample.X)

    def short_by(self, solved: Solved) -> float:
        """Return by how many nats a row a mean log-likelihood is below ours."""
        return self.solved[0].mean_log_likelihood - solved.mean_log_likelihood

    def verdict(self) -> str:
        """Return the whole comparison in one sentence."""
        peers = self.solved[1:]
        agreeing = [s for s in peers if s.name != "kmeans" and self._agrees(s)]
        parts = []
        if agreeing:
            names = " and ".join(s.title for s in agreeing)
            verb = "agree" if len(agreeing) > 1 else "agrees"
            largest = max(self.differences[s.name].largest for s in agreeing)
            parts.append(
                f"{names} {verb} with sparkgmm in every weight, mean and covariance "
                f"(largest difference {largest:.1e})"
            )
        parts += [self._sentence(s) for s in peers if s not in agreeing]
        return "; ".join(parts) + "."

    def _agrees(self, solved: Solved) -> bool:
        found = self.differences.get(solved.name)
        return found is not None and found.largest <= AGREE

    def _sentence(self, solved: Solved) -> str:
        if solved.mixture is None:
            return f"{solved.title} gave no mixture ({solved.failed})"
        short = self.short_by(solved)
        side = "worse" if short >= 0 else "better"
        covariance_type = solved.mixture.covariance_type
        other = (
            ""
            if covariance_type == self.ours.covariance_type
            else f", with {covariance_type} covariances"
        )
        if solved.name == "kmeans":
            return (
                f"k-means, which assigns each row to one cluster, describes the rows "
                f"{abs(short):.4f} nats a row {side}{other if side == 'better' else ''}"
            )
        if other:
            return (
                f"{solved.title} describes the rows {abs(short):.2e} nats a row {side}{other} "
                f"where sparkgmm has {self.ours.covariance_type} ones"
            )
        if short > _SAME_HEIGHT:
            part = f", fitted to {solved.rows:,} of the rows," if self._on_a_part(solved) else ""
            why = ", its components one and the same" if all_alike(solved.mixture) else ""
            return f"{solved.title}{part} ends {short:.2e} nats a row short of sparkgmm{why}"
        if short < -_SAME_HEIGHT:
            return f"{solved.title} finds an optimum {-short:.2e} nats a row better than sparkgmm"
        return f"{solved.title} reaches the same likelihood by other parameters"

    def _on_a_part(self, solved: Solved) -> bool:
        return 0 < solved.rows < self.solved[0].rows


def all_alike(mixture: Mixture) -> bool:
    """Return whether there are several components and all are one and the same."""
    return mixture.k > 1 and _farthest(mixture) < _SAME_COMPONENT


def _farthest(mixture: Mixture) -> float:
    return float(bhattacharyya_between(mixture, mixture).max())


def counterparts(ours: Mixture, theirs: Mixture) -> list[int]:
    """Return for each of our components the nearest of theirs, -1 for none that is left.

    The assignment with the least sum of Bhattacharyya distances: unlike `core.matching.match`,
    which says what continues what, it leaves no two components alone, however far apart.
    """
    found = dict(assign(np.minimum(bhattacharyya_between(ours, theirs), _FARTHEST)))
    return [found.get(j, -1) for j in range(ours.k)]


def reordered(theirs: Mixture, order: Sequence[int]) -> Mixture:
    """Return their mixture with its components in the order of ours, the unmatched last."""
    index = [j for j in order if j >= 0]
    index += [j for j in range(theirs.k) if j not in index]
    covariances = theirs.stack.take(np.array(index)).values
    return Mixture(
        theirs.weights[index],
        theirs.means[index],
        FAMILIES[theirs.covariance_type].compact(covariances),
        theirs.covariance_type,
        theirs.features,
    )


def differences(ours: Mixture, theirs: Mixture, order: Sequence[int]) -> Differences:
    """Return what remains between matched components."""
    sd = np.sqrt(ours.variances)
    index = list(order)
    if all(uncorrelated(mixture) for mixture in (ours, theirs)):
        apart = np.abs(ours.variances - theirs.variances[index]) / sd**2
    else:
        apart = np.abs(ours.covariances - theirs.covariances[index])
        apart /= sd[:, :, None] * sd[:, None, :]
    return Differences(
        float(np.abs(ours.weights - theirs.weights[index]).max()),
        float((np.abs(ours.means - theirs.means[index]) / sd).max()),
        float(apart.max()),
    )


def hard_loss(mixture: Mixture, sample: Sample, labels: Labels, order: Sequence[int]) -> list[str]:
    """Say what hard assignment by k-means loses against the mixture's soft one."""
    R = mixture.responsibilities(sample.X)
    w = sample.weights / sample.weights.sum()
    ours = np.argmax(R, axis=1)
    theirs = np.full(len(labels), -1)
    for j, cluster in enumerate(order):
        theirs[labels == cluster] = j
    moved = float(w[ours != theirs].sum())
    doubtful = float(w[R.max(axis=1) < 0.95].sum())
    wrong = float(w @ (1 - R.max(axis=1)))
    return [
        f"{moved:.2%} of the rows are in another cluster than the component they most likely "
        "belong to.",
        f"{doubtful:.2%} of the rows belong to no component with a certainty of 0.95; a hard "
        "label does not say which they are.",
        f"Even the best hard labels are expected to be wrong for {wrong:.2%} of the rows, by the "
        "mixture's own responsibilities.",
    ]


def mllib_problems(mixture: Mixture, sample: Sample) -> list[str]:
    """Say how MLlib's E-step went wrong, where its result shows that it did.

    MLlib adds the machine epsilon to every weighted density; where all densities of a row are far
    below that, the row belongs to all components alike.
    """
    said = []
    if all_alike(mixture):
        said.append(
            f"MLlib's {mixture.k} components are one and the same: the largest Bhattacharyya "
            f"distance between any two is {_farthest(mixture):.1e}."
        )
    share = _share_below_rounding(mixture, sample.X)
    if share > 0.01:
        said.append(
            f"For {share:.1%} of the rows every weighted density, at MLlib's own result, is "
            f"below the machine epsilon ({_EPSILON:.1e}) that MLlib adds to it, so their "
            "responsibilities say more about that constant than about the row."
        )
    return said


def _share_below_rounding(mixture: Mixture, X: Array) -> float:
    log_density, R = mixture.score(X)
    joint = log_density[:, None] + np.log(np.maximum(R, 1e-300))
    return float((joint.max(axis=1) < np.log(_EPSILON)).mean())
