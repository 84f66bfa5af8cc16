"""Small groups fitted many at once: prepared, started, climbed and judged as arrays.

Each group is filled up to a number of rows that its own number decides, and stands in arrays with
others of that size; `climbs.py` says why its fit has the same bits whichever those are. Where a
group is in any way out of the ordinary nothing is returned of it, and the ordinary engine decides:
values that are constant, wild or of an atom, few rows, components that starve or get narrow, runs
that do not converge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sparkgmm.core.climbs import Climbs, Models, Sets, estimated
from sparkgmm.core.em import SMALL_DATA_TOL
from sparkgmm.core.grid import COMPUTED, READ
from sparkgmm.core.initialisation import LEAST_START, SETTLING_ROUNDS
from sparkgmm.core.moves import HALVING_ROUNDS
from sparkgmm.core.pilot import IMPROVEMENTS, PILOT_TOL, TRIAL_PASSES
from sparkgmm.core.prior import Bounded
from sparkgmm.core.profile import LEAST_WEIGHT
from sparkgmm.core.race import WORTH_IT
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate, Criteria
from sparkgmm.core.widths import ATOM_ROWS, CHANCE, CHANCE_LEAST, HANDFUL, NO_WIDTH, ROUNDINGS
from sparkgmm.core.wild import FAR
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.moments import PRODUCTS, SQUARES, diagonal_order
from sparkgmm.mixture import as_dict, n_parameters
from sparkgmm.products import Array, fill_monomials

# Groups of more rows, or of more values with their products, gain nothing from company.
_MOST_ROWS, _MOST_VALUES = 4096, 2**17
# So many values of all groups and their starts are held at a time.
_AT_ONCE = 2**20
# A bound that is computed another way may be off by so much.
_MARGIN = 1.01


@dataclass(frozen=True)
class FittedGroup:
    """What was found of a group: of the candidate that was chosen. `model` is as in model.json."""

    k: int
    covariance_type: str
    log_likelihood: float
    bic: float
    converged: bool
    model: dict[str, Any]
    weight: float
    n_parameters: int
    n_iter: int
    rows_set_aside: int

    @classmethod
    def of(cls, chosen: Candidate) -> FittedGroup:
        """Take it from the candidate."""
        return cls(
            chosen.k,
            chosen.covariance_type,
            chosen.log_likelihood,
            chosen.bic,
            chosen.converged,
            chosen.mixture.to_dict(),
            chosen.weight,
            chosen.n_parameters,
            chosen.n_iter,
            chosen.n_set_aside,
        )


def possible(search: Search) -> bool:
    """Say whether groups can be fitted together by this search."""
    return (
        search.init == "k-means++"
        and not search.lenient
        and all(family.closed for family in search.families)
        and search.settings.accelerate
        and search.settings.information is None
        and isinstance(search.settings.prior, Bounded)
    )


def size_class(n: int, d: int) -> int | None:
    """Return up to how many rows a group of n is filled; None of one that is to be alone."""
    if n < 2 or n > _MOST_ROWS or n * (1 + d + d * (d + 1) // 2) > _MOST_VALUES:
        return None
    step = max(16, 2 ** (max(n - 1, 1).bit_length() - 4))
    return -(-n // step) * step


def n_together(n_rows: int, d: int, search: Search) -> int:
    """Return how many groups of a size class are fitted together."""
    k = max(search.k)
    values = n_rows * (1 + d + d * (d + 1) // 2 + 2 * k * max(search.n_init, k * (k > 2)))
    return max(1, _AT_ONCE // values)


def fit_together(
    groups: Sequence[tuple[Array, Array | None]],
    n_rows: int,
    search: Search,
    features: Sequence[str],
) -> list[FittedGroup | None]:
    """Fit groups of rows X (n, d) and weights (n,), which are filled up to `n_rows`.

    None stands for a group that the ordinary engine has to fit.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # such are not ordinary
        rows = _Rows.of(groups, n_rows)
        which = np.flatnonzero(rows.ordinary(search))
        if not len(which):
            return [None] * len(groups)
        sets, frame = rows.sets(which, search)
    found: list[list[_Candidate | None]] = []
    for k in search.k:
        for family in search.families:
            candidates = _candidates(sets, frame, k, family, search)
            found.append(candidates)
    chosen: list[FittedGroup | None] = [None] * len(groups)
    for g, mine in zip(which.tolist(), zip(*found, strict=True), strict=True):
        known = [c for c in mine if c is not None]
        if len(known) == len(mine):
            least = min(known, key=lambda c: (getattr(c, search.criterion), c.n_parameters))
            chosen[g] = least.fitted(features)
    return chosen


class _Frame(NamedTuple):
    """Means and standard deviations of the groups' features, (G, d)."""

    shift: Array
    scale: Array


@dataclass(frozen=True)
class _Rows:
    """Groups filled up to n rows: X (G, d, n) in the order of their values, weights w (G, n).

    `there` (G, n) are the rows of the groups; what is beyond them is 0. `n` (G,) is their number.
    """

    X: Array
    w: Array
    there: Array
    n: Array
    weighted: Array

    @classmethod
    def of(cls, groups: Sequence[tuple[Array, Array | None]], n_rows: int) -> _Rows:
        """Put each group's rows into the order of their first values, then of the next, ..."""
        G, d = len(groups), groups[0][0].shape[1]
        X, w = np.zeros((G, d, n_rows)), np.zeros((G, n_rows))
        n = np.array([len(values) for values, _ in groups])
        for g, (values, weights) in enumerate(groups):
            X[g, :, : n[g]] = values.T
            w[g, : n[g]] = 1.0 if weights is None else weights
        X += 0.0  # minus zero is zero
        there = np.arange(n_rows) < n[:, None]
        first = np.where(there, X[:, 0], np.inf)
        order = np.argsort(first, axis=1)
        first = np.take_along_axis(first, order, axis=1)
        tied = ((first[:, 1:] == first[:, :-1]) & there[:, 1:]).any(axis=1)
        if tied.any():
            keys = (w[tied], *(X[tied, i] for i in range(d - 1, 0, -1)))
            order[tied] = np.lexsort((*keys, np.where(there, X[:, 0], np.inf)[tied]), axis=1)
        X = np.take_along_axis(X, order[:, None], axis=2)
        w = np.take_along_axis(w, order, axis=1)
        weighted = np.array([weights is not None for _, weights in groups])
        return cls(X, w, there, n, weighted)

    def ordinary(self, search: Search) -> Array:
        """Say in which groups nothing asks for the ordinary engine, (G,)."""
        d = self.X.shape[1]
        total = self.w.sum(axis=1)
        good = (total > LEAST_WEIGHT) & (total < np.inf) & (self.n > 1)
        # weights may be shares of a count
        whole = (np.rint(self.w) == self.w).all(axis=1)
        shares = (np.abs(total - 1) < 1e-6) | (np.abs(total / 100 - 1) < 1e-6)
        good &= whole | ~shares
        distinct = (self.X[:, :, 1:] > self.X[:, :, :-1]) & self.there[:, None, 1:]
        good &= 1 + distinct[:, 0].sum(axis=1) >= max(search.k)
        least = max(family.rows_needed(max(search.k), d) for family in search.families)
        good &= np.maximum(total, self.n) >= least
        low, high = self._range
        good &= (low < high).all(axis=1) & np.isfinite(high - low).all(axis=1)
        good &= ~self._wild()
        if max(search.k) > 1 and not all(family.shared for family in search.families):
            good &= ~self._atoms()
        return good

    @property
    def _range(self) -> tuple[Array, Array]:
        there = self.there[:, None]
        low = np.where(there, self.X, np.inf).min(axis=2)
        return low, np.where(there, self.X, -np.inf).max(axis=2)

    def _wild(self) -> Array:
        """Say in which groups a feature has values so far out that wild.py has to look, (G,)."""
        there = self.there[:, None]
        order = np.argsort(np.where(there, self.X, np.inf), axis=2)
        w = np.broadcast_to(self.w[:, None], self.X.shape)
        passed = np.cumsum(np.take_along_axis(w, order, axis=2), axis=2)
        at = (passed < passed[:, :, -1:] / 2).sum(axis=2, keepdims=True)
        middle = np.take_along_axis(np.take_along_axis(self.X, order, axis=2), at, axis=2)
        distances = np.sort(np.where(there, np.abs(self.X - middle), -1.0), axis=2)
        # without so many of the farthest none is wild
        handful = np.where(self.weighted, ATOM_ROWS - 1, (HANDFUL * self.n).astype(int))
        handful = np.minimum(np.minimum(handful, ATOM_ROWS - 1), self.n - 1)
        at = np.broadcast_to((distances.shape[2] - 1 - handful)[:, None, None], middle.shape)
        edge = np.take_along_axis(distances, at, axis=2)
        return np.asarray((distances[:, :, -1:] >= FAR * edge).any(axis=(1, 2)))

    def _atoms(self) -> Array:
        """Say in which groups a value of a feature may stand out as an atom, (G,)."""
        ascending = np.sort(np.where(self.there[:, None], self.X, np.inf), axis=2)
        # a row that weighs much may be as many
        least = np.where(self.weighted, 2, ATOM_ROWS) - 1
        found = np.zeros(len(self.n), dtype=bool)
        for further in (1, ATOM_ROWS - 1):
            same = ascending[:, :, further:] == ascending[:, :, :-further]
            same &= self.there[:, None, further:]
            found |= (least <= further) & same.any(axis=(1, 2))
        return found

    def sets(self, which: Array, search: Search) -> tuple[Sets, _Frame]:
        """Return some groups for `Climbs`, and what standardises them."""
        X, w, there = self.X[which], self.w[which], self.there[which, None]
        weight = w.sum(axis=1)
        G, d, n = X.shape
        origin = X[:, :, :1]
        Z = np.where(there, X - origin, 0.0)
        offset = (Z * w[:, None]).sum(axis=2) / weight[:, None]
        Z -= offset[:, :, None]
        variance = (Z * Z * w[:, None]).sum(axis=2) / weight[:, None]
        frame = _Frame(origin[:, :, 0] + offset, np.sqrt(variance))
        Z /= frame.scale[:, :, None]
        T = np.zeros((G, 1 + d + (d * (d + 1) // 2 if search.products else d), n))
        for g in range(G):
            m = self.n[which[g]]
            T[g, 1 : 1 + d, :m] = Z[g, :, :m]
            fill_monomials(T[g, 1 : 1 + d, :m], T[g, :, :m])
        resolution = self._resolution(which, frame).max(axis=1) * _MARGIN
        prior = search.settings.prior
        assert isinstance(prior, Bounded)
        few = CHANCE * np.maximum(resolution, max(prior.reg_covar, CHANCE_LEAST))
        per_weight = np.maximum(1.0, self.n[which] / weight)
        return Sets(T, w, weight, per_weight, frame.scale, resolution, few), frame

    def _resolution(self, which: Array, frame: _Frame) -> Array:
        """Return the least variances that the features' values can show, (G, d), or more.

        The step of a grid divides all distances, so it is no more than the least.
        """
        X, there = self.X[which], self.there[which, None]
        ascending = np.sort(np.where(there, X, np.inf), axis=2)
        most = np.abs(X).max(axis=2)
        single = (X.astype(np.float32) == X).all(axis=2)
        eps = np.finfo(np.float64).eps
        error = np.where(single, READ * np.finfo(np.float32).eps, COMPUTED * eps) * most
        gaps = np.diff(ascending, axis=2)
        gaps[~(gaps > 2 * error[:, :, None])] = np.inf
        step = gaps.min(axis=2)
        unit = ROUNDINGS * eps * most / frame.scale
        rounding = (_MARGIN * step / frame.scale) ** 2 / 12
        return np.maximum(rounding, np.maximum(unit**2, NO_WIDTH))


@dataclass(frozen=True)
class _Candidate(Criteria):
    """One k and covariance type of one group."""

    k: int
    family: Family
    n_parameters: int
    log_likelihood: float
    entropy: float
    weight: float
    n_iter: int
    weights: Array
    means: Array
    covariances: Array

    def fitted(self, features: Sequence[str]) -> FittedGroup:
        """Return it as plain numbers."""
        name = self.family.name
        return FittedGroup(
            self.k,
            name,
            self.log_likelihood,
            self.bic,
            True,
            as_dict(features, name, self.weights, self.means, self.covariances),
            self.weight,
            self.n_parameters,
            self.n_iter,
            0,
        )


def _candidates(
    sets: Sets, frame: _Frame, k: int, family: Family, search: Search
) -> list[_Candidate | None]:
    """Fit k components of a family to every group; None where the ordinary engine has to."""
    settings = search.settings
    G, d = frame.scale.shape
    starts = _starts(sets, k, family, search)
    climbs = Climbs.at(starts, np.repeat(np.arange(G), search.n_init), sets)
    tol = settings.tol * SMALL_DATA_TOL
    if search.n_init > 1:
        climbs.climb(sets, family, max(settings.tol, PILOT_TOL), settings.max_iter)
        value = np.where(_ended_well(climbs, sets, family), climbs.log_likelihood, -np.inf)
        value = value.reshape(G, -1)
        best = value.argmax(axis=1)
        climbs = climbs.take(np.arange(G) * search.n_init + best)
        climbs.out[:] |= value.max(axis=1) == -np.inf
    if k > 2:
        _improve(climbs, sets, family, search)
    climbs.climb(sets, family, tol, settings.max_iter)
    good = _ended_well(climbs, sets, family) & (climbs.distance <= tol)
    weight, model = sets.weight, climbs.model
    log_likelihood = weight * (climbs.log_likelihood - np.log(frame.scale).sum(axis=1))
    expected = (model.eta * climbs.S).reshape(G, -1).sum(axis=1)
    entropy = np.maximum(0.0, weight * climbs.log_likelihood - expected)
    weights = np.exp(model.log_weights)
    weights /= weights.sum(axis=1, keepdims=True)
    order = np.lexsort((*np.moveaxis(model.means, 2, 0)[::-1], -weights), axis=1)
    means = frame.shift[:, None] + model.means * frame.scale[:, None]
    covariances = _written(family, model, frame)
    found: list[_Candidate | None] = []
    for g in range(G):
        mine = order[g]
        found.append(
            _Candidate(
                k,
                family,
                n_parameters(k, d, family.name),
                float(log_likelihood[g]),
                float(entropy[g]),
                float(weight[g]),
                int(climbs.n_iter[g]),
                weights[g, mine],
                means[g, mine],
                covariances[g] if family.shared else covariances[g, mine],
            )
            if good[g]
            else None
        )
    return found


def _ended_well(climbs: Climbs, sets: Sets, family: Family) -> Array:
    """Say which runs have no component that starved or doubles another, (R,)."""
    with np.errstate(invalid="ignore", divide="ignore"):
        counts = climbs.S[:, :, 0] * sets.rows_per_weight[climbs.owner, None]
        good = ~climbs.out & (counts >= family.least_rows(sets.d)).all(axis=1)
        return np.asarray(good & (climbs.distance < np.inf) & ~climbs.model.doubled())


def _written(family: Family, model: Models, frame: _Frame) -> Array:
    """Return the covariances in the data's units and the shape of their type, (G, ...)."""
    scale = frame.scale[:, None]
    if family.diagonal:
        variances = model.variances * (scale * scale)
        return variances.mean(axis=2) if len(family.shape(1, 1)) == 1 else variances
    L = model.factors * scale[..., None]
    C = np.matmul(L, np.swapaxes(L, 2, 3))
    C = 0.5 * (C + np.swapaxes(C, 2, 3))
    return C[:, 0] if family.shared else C


def _n_features(family: Family, d: int) -> int:
    """Return how many monomials a family is measured by: one that shares a matrix by all."""
    return (SQUARES if family.diagonal else PRODUCTS).n_features(d)


def _improve(climbs: Climbs, sets: Sets, family: Family, search: Search) -> None:
    """Try to leave each group's optimum by splitting and merging, while that helps.

    As `pilot.improve` does; groups draw the same random numbers.
    """
    settings, k = search.settings, climbs.S.shape[1]
    tol = max(settings.tol, PILOT_TOL)
    climbs.climb(sets, family, tol, settings.max_iter)
    rng = np.random.default_rng([search.seed, search.n_init])
    open_ones = np.flatnonzero(_ended_well(climbs, sets, family))
    for _ in range(IMPROVEMENTS):
        draws = _draws(rng, k, 2)
        if not len(open_ones):
            break
        some, best = sets.take(open_ones), climbs.take(open_ones)
        models = _split_and_merged(some, best.model, family, draws)
        trials = Climbs.at(models, np.repeat(np.arange(len(open_ones)), k), some)
        trials.climb(some, family, tol, TRIAL_PASSES)
        value = np.where(trials.out, -np.inf, trials.log_likelihood).reshape(-1, k)
        ahead = trials.take(np.arange(len(open_ones)) * k + value.argmax(axis=1))
        ahead.climb(some, family, tol, settings.max_iter)
        better = _ended_well(ahead, some, family) & (ahead.distance <= tol)
        better &= ahead.log_likelihood > best.log_likelihood + WORTH_IT
        ahead.owner[:] = open_ones
        open_ones = open_ones[better]
        climbs.put(open_ones, ahead.take(better))


def _split_and_merged(
    sets: Sets, models: Models, family: Family, draws: tuple[Array, Array]
) -> Models:
    """Return models in which each component in turn is split and the two most alike are merged.

    As `moves.split_and_merge`, of one model (G, k, ...) a set: k models each.
    """
    G, k, d = models.means.shape
    groups, n_features = np.arange(G), _n_features(family, d)
    R = sets.responsibilities(models.eta)
    share = np.where(sets.w[:, None] < 2 * R, R, 0.0)
    centres = _settled(sets, _k_means_plus_plus(sets, share, draws), share, HALVING_ROUNDS)
    second = _nearest(sets, centres) == 1
    product = np.matmul(R / np.where(sets.w > 0, sets.w, 1.0)[:, None], np.swapaxes(R, 1, 2))
    norms = np.sqrt(np.einsum("gkk->gk", product))
    alike = product / np.maximum(norms[:, :, None] * norms[:, None, :], 1e-300)
    alike[:, *np.tril_indices(k)] = -np.inf
    moved = np.empty((G, k, k, R.shape[2]))
    for j in range(k):
        pairs = alike.copy()
        pairs[:, j] = pairs[:, :, j] = -np.inf
        kept, freed = np.divmod(pairs.reshape(G, -1).argmax(axis=1), k)
        mine = moved[:, j]
        mine[:] = R
        mine[groups, kept] += R[groups, freed]
        mine[groups, freed] = R[:, j] * second[:, j]
        mine[:, j] -= mine[groups, freed]
    sums = sets.moments(moved, n_features)
    centres = np.repeat(models.means[:, None], k, axis=1)
    return _around(sets, centres, sums, family)


def _draws(rng: np.random.Generator, n: int, k: int) -> tuple[Array, Array]:
    """Return the random numbers of n draws of k centres: for the first (n, 1), and the others."""
    trials = 2 + int(np.log(k))
    drawn = [(rng.random(1), [rng.random(trials) for _ in range(k - 1)]) for _ in range(n)]
    first, later = zip(*drawn, strict=True)
    return np.array(first), np.array(later).reshape(n, k - 1, trials)


def _starts(sets: Sets, k: int, family: Family, search: Search) -> Models:
    """Return `n_init` starts for each group, (G n_init, k, ...), as `pilot.draw_starts` does.

    Groups draw the same random numbers.
    """
    most, S = max(search.k), search.n_init
    drawn = [_draws(np.random.default_rng([search.seed, i]), 1, most) for i in range(S)]
    first, later = (np.concatenate(numbers) for numbers in zip(*drawn, strict=True))
    w = np.broadcast_to(sets.w[:, None], (len(sets.w), S, sets.w.shape[1]))
    centres = _k_means_plus_plus(sets, w, (first, later[:, : k - 1]))
    every_other = slice(0, S, 2)
    centres[:, every_other] = _settled(
        sets, centres[:, every_other], w[:, every_other], SETTLING_ROUNDS
    )
    R = (_nearest(sets, centres)[:, :, None] == np.arange(k)[:, None]) * sets.w[:, None, None]
    n_features = _n_features(family, sets.d)
    return _around(sets, centres, sets.moments(R, n_features), family)


def _around(sets: Sets, centres: Array, sums: Array, family: Family) -> Models:
    """Return models around centres (G, S, k, d), of the moments (G, S, k, F) of their rows.

    As `initialisation.model_of`: covariances are drawn towards the pooled one by d + 1 rows' worth,
    and a centre without rows stays.
    """
    G, S, k, d = centres.shape
    n_rows = (sets.w > 0).sum(axis=1)
    a_row = (sets.weight / n_rows)[:, None, None]
    counts = np.maximum(sums[..., 0], 1e-3 * a_row)
    some = (sums[..., 0] > 0)[..., None]
    means = np.where(some, sums[..., 1 : 1 + d] / counts[..., None], centres)
    # the second moments about the means, packed as T is
    if family.diagonal:
        squares = means * means
    else:
        rows, columns = diagonal_order(d)
        squares = means[..., rows] * means[..., columns]
    about = np.where(some, sums[..., 1 + d :] - counts[..., None] * squares, 0.0)
    pooled = about.sum(axis=2) / counts.sum(axis=2)[..., None]
    prior = (d + 1) * a_row
    about = (about + prior[..., None] * pooled[:, :, None]) * (counts / (counts + prior))[..., None]
    moments = np.concatenate(
        [
            counts[..., None],
            counts[..., None] * means,
            about + counts[..., None] * squares,
        ],
        axis=3,
    )
    scale = np.repeat(sets.scale, S, axis=0)
    return estimated(family, moments.reshape(G * S, k, -1), scale, LEAST_START)


def _distances(sets: Sets, centres: Array) -> Array:
    """Return the squared distances of the rows from centres (G, m, d), (G, m, n)."""
    Z = sets.rows
    D = (Z * Z).sum(axis=1)[:, None] - 2 * np.matmul(centres, Z)
    D += (centres * centres).sum(axis=2)[:, :, None]
    return np.maximum(D, 0.0)


def _picked(cumulative: Array, u: Array) -> Array:
    """Return the rows where shares u of cumulative weights (..., n) fall, (..., len(u))."""
    wanted = cumulative[..., -1:] * u
    rows = (cumulative[..., None, :] <= wanted[..., None]).sum(axis=-1)
    return np.minimum(rows, cumulative.shape[-1] - 1)


def _k_means_plus_plus(sets: Sets, w: Array, draws: tuple[Array, Array]) -> Array:
    """Draw k rows, (G, S, k, d), as `initialisation.k_means_plus_plus`, of weights w (G, S, n).

    By random numbers (S, 1) for the first and (S, k - 1, trials) for the others.
    """
    first, later = draws
    G, S, d, k = len(w), len(first), sets.d, 1 + later.shape[1]
    groups = np.arange(G)[:, None]
    Z = np.ascontiguousarray(np.swapaxes(sets.rows, 1, 2))
    at = _picked(np.cumsum(w, axis=2), first)[..., 0]
    centres = np.empty((G, S, k, d))
    centres[:, :, 0] = Z[groups, at]
    nearest = _distances(sets, centres[:, :, 0])
    for j in range(1, k):
        u = later[:, j - 1]
        drawn = _picked(np.cumsum(w * nearest, axis=2), u)
        points = Z[groups[..., None], drawn]
        D = _distances(sets, points.reshape(G, -1, d)).reshape(G, S, u.shape[1], -1)
        np.minimum(D, nearest[:, :, None], out=D)
        best = (D * w[:, :, None]).sum(axis=3).argmin(axis=2)
        centres[:, :, j] = np.take_along_axis(points, best[:, :, None, None], axis=2)[:, :, 0]
        nearest = np.take_along_axis(D, best[:, :, None, None], axis=2)[:, :, 0]
    return centres


def _nearest(sets: Sets, centres: Array) -> Array:
    """Return which of the centres (G, S, k, d) is nearest to each row, (G, S, n)."""
    G, S, k, d = centres.shape
    return _distances(sets, centres.reshape(G, S * k, d)).reshape(G, S, k, -1).argmin(axis=2)


def _settled(sets: Sets, centres: Array, w: Array, rounds: int) -> Array:
    """Move centres (G, S, k, d) to the means of their nearest rows, as `initialisation.settle`.

    The rows have weights w (G, S, n).
    """
    k, d = centres.shape[2:]
    before = None
    for _ in range(rounds):
        nearest = _nearest(sets, centres)
        if before is not None and np.array_equal(before, nearest):
            break
        before = nearest
        R = (nearest[:, :, None] == np.arange(k)[:, None]) * w[:, :, None]
        sums = sets.moments(R, 1 + d)
        counts = sums[..., :1]
        centres = np.where(counts > 0, sums[..., 1:] / np.maximum(counts, 1e-300), centres)
    return centres
