"""From rows, wherever they are, to the chosen mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from sparkgmm.core.columns import hidden_features
from sparkgmm.core.em import Settings, Trajectory, share_of_tol
from sparkgmm.core.evidence import Evidence, OverRows
from sparkgmm.core.history import History
from sparkgmm.core.information import SampleInformation
from sparkgmm.core.judging import judge, names_of
from sparkgmm.core.model import from_mixture
from sparkgmm.core.pilot import pilot, reseed_from
from sparkgmm.core.profile import LEAST_WEIGHT, Block, Profile
from sparkgmm.core.race import MANY, Progress, Race, Winner
from sparkgmm.core.repair import beside_the_heaviest, by_chance, without
from sparkgmm.core.rows import Rows, one_blas_thread
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Aside, Candidate, choose
from sparkgmm.core.validation import held_out
from sparkgmm.core.wild import set_aside
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.errors import FitError, InputError, Remedy
from sparkgmm.mixture import Mixture
from sparkgmm.options import CONSTANT_FEATURES, COVARIANCE_TYPE, FEATURES, MISSING, WEIGHT, WHERE, K

# So many other optima of the sample go on over all the rows.
_RIVALS = 2

# A feature of fewer values has no variance to speak of.
_LEAST_VALUES = 3

# Spikes are left out so often at most: a fit without one may run into the next.
_MENDED = 10
# Of many components spikes are moved to where most rows are so often before they are left out.
_MOVED = 3


@dataclass(frozen=True)
class Fit:
    """All the candidates, the one that the criterion chose, and the passes over all the rows.

    `history` is what a later fit needs in place of the rows; None where the choice was lenient, and
    of mixtures with parts beside the Gaussian.
    """

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    n_passes: int
    history: History | None


def fit(
    rows: Rows,
    search: Search,
    features: tuple[str, ...] | None = None,
    starts: Sequence[Mixture] | None = None,
    progress: Progress | None = None,
    validate: bool = False,
    earlier: Mixture | None = None,
) -> Fit:
    """Fit every candidate of the search and choose one by its criterion.

    `starts`, if given, take the place of those drawn from the sample; an `earlier` mixture, of a k
    and covariance type of the search, is tried beside them. With `validate`, each candidate is also
    judged on rows held out. A handful of rows that lie far out of all proportion is set aside: it
    is no part of the mixture nor of what it is worth.

    Raises
    ------
    InputError
        If a feature is constant or there are fewer distinct rows than components.
    FitError
        If every candidate is degenerate, or has to be by the number of rows.

    """
    if not len(rows.profile.mean):  # without a numeric column all covariance types are one
        search = replace(search, covariance_type=("diag",))
    check_rows(rows, max(search.k), features, [] if search.lenient else search.families)
    rows, aside = set_aside(rows, features)
    if not search.lenient:
        check_possible(rows.profile, search)
    with one_blas_thread:
        return _fit(rows, search, features, starts, progress, validate, earlier, aside)


def _fit(
    rows: Rows,
    search: Search,
    features: tuple[str, ...] | None,
    starts: Sequence[Mixture] | None,
    progress: Progress | None,
    validate: bool,
    earlier: Mixture | None,
    aside: tuple[Aside, ...],
) -> Fit:
    evidence = OverRows.of(rows)
    frame = evidence.frame
    settings = search.settings.over(rows, evidence)
    search = replace(search, settings=settings)
    if starts is not None:
        winners = [Winner(Trajectory(from_mixture(start, frame))) for start in starts]
    else:
        before = None if earlier is None else from_mixture(earlier, frame)
        winners = pilot(rows, search, frame, progress, before)
    n_passes = 0
    if any(winner.rivals for winner in winners):
        winners, n_passes = _by_all_rows(winners, evidence, settings), 1
    settings = replace(settings, tol=settings.tol * share_of_tol(rows))
    if not rows.complete and frame.seen is None:
        settings = replace(settings, information=SampleInformation.of(rows.sample, frame))
    if rows.complete:
        states = [replace(winner.state, converged=False) for winner in winners]
    else:
        going = [state for winner in winners for state in winner.runs]
        states = [Trajectory(state.model, target_k=state.target_k) for state in going]
    reseed = reseed_from(rows, search, frame)
    race = Race(states, evidence, settings, progress, reseed)
    race.run(rows.profile.n_rows)
    race.states = [min(runs, key=race.rank) for runs in _of_each(race.states, winners)]
    n_passes += race.n_passes
    if starts is None and not search.lenient:
        n_passes += _without_spikes(race, rows, search.seed)
    winners = [replace(w, state=state) for w, state in zip(winners, race.states, strict=True)]
    held_out_means: list[float | None] = [None] * len(winners)
    if validate:
        held_out_means = held_out([winner.state for winner in winners], rows, search, frame)
    hidden = hidden_features(rows.sample, names_of(features, len(rows.profile.mean)))
    candidates = tuple(
        replace(
            judge(
                winner.state.model,
                winner.state.measured,
                evidence,
                settings.prior,
                winner.course(search.settings.tol),
                features,
                held_out_mean,
            ),
            set_aside=aside,
            hidden=hidden,
        )
        for winner, held_out_mean in zip(winners, held_out_means, strict=True)
    )
    if search.missing != MISSING.default:
        candidates = tuple(c.with_missing(search.missing) for c in candidates)
    chosen = choose(candidates, search.criterion, search.lenient)
    [state] = [w.state for w, c in zip(winners, candidates, strict=True) if c is chosen]
    history = None
    if not search.lenient and state.measured is not None and not rows.columns:
        history = History.of(state.model, state.measured, evidence)
    return Fit(chosen, candidates, n_passes, history)


def _by_all_rows(winners: Sequence[Winner], evidence: Evidence, settings: Settings) -> list[Winner]:
    """Order each candidate's optima of the sample by a pass over all the rows.

    Each is off its limit there by about as much as the sample could not tell it by; what is near
    the best stays its rival, the first of its rivals before others.
    """
    runs = [state for winner in winners for state in winner.runs]
    measured = evidence.measure([state.model for state in runs], "optima of the sample")
    seen = [
        Trajectory(state.model, m, target_k=state.target_k)
        for state, m in zip(runs, measured, strict=True)
    ]
    rank = Race((), evidence, settings).rank
    ordered = []
    for winner, mine in zip(winners, _of_each(seen, winners), strict=True):
        best, *rest = sorted(mine, key=rank)
        near = [r for r in rest if best.log_likelihood - r.log_likelihood < winner.margin]
        near.sort(key=lambda r: r is not mine[1])
        ordered.append(replace(winner, state=best, rivals=tuple(near[:_RIVALS])))
    return ordered


def _of_each(states: Sequence[Trajectory], winners: Sequence[Winner]) -> list[list[Trajectory]]:
    """Cut states into those of each winner's runs, which they took the place of."""
    left = iter(states)
    return [list(islice(left, len(winner.runs))) for winner in winners]


def _without_spikes(race: Race, rows: Rows, seed: int) -> int:
    """Go on without the components that ended as spikes; return how many passes that took.

    A spike ends a component and not the fit: one of 1,000 components is refused, not all of them.
    Of many they are moved first, so that what is left has about as many as were asked for.
    """
    n_passes = 0
    rng = np.random.default_rng([seed, 2])
    for number in range(_MENDED):
        going = {}
        for i, state in enumerate(race.states):
            spikes = by_chance(state, race.evidence.profile, race.settings.prior)
            if 0 < len(spikes) < state.model.k:
                model = state.model
                if number < _MOVED and model.k >= MANY and 2 * len(spikes) <= model.k:
                    model = beside_the_heaviest(model, spikes, rng)
                else:
                    model = without(model, spikes)
                going[i] = Trajectory(model, reseeded=True, target_k=state.target_k)
        if not going:
            break
        again = race.again(list(going.values()))
        again.run(rows.profile.n_rows)
        n_passes += again.n_passes
        for i, state in zip(going, again.states, strict=True):
            race.states[i] = state
    return n_passes


def check_rows(
    rows: Rows,
    k: int,
    features: Sequence[str] | None = None,
    families: Sequence[Family] = (),
) -> None:
    """Raise InputError where no mixture of k components can be fitted.

    `families`, if given, are those whose components need rows of their own: no more are proposed.
    """
    profile = rows.profile
    if not LEAST_WEIGHT < profile.weight < np.inf:
        raise InputError(
            f"the weights sum to {profile.weight:.3g}, too far from 1 for float64",
            ("rescale", WEIGHT),
        )
    if profile.n_rows == 1:
        raise InputError("there is one row, to which no mixture can be fitted", "give more")
    check_features(profile, features)
    _check_counts(rows)
    distinct = n_distinct(rows.sample, k)
    if distinct < k:
        possible = (_most_components(family, distinct, profile) for family in families)
        fewer = max(possible, default=0) or distinct
        raise InputError(
            f"there are {distinct} distinct rows for k = {k} components",
            ("lower", K, f"to {fewer}" + " or less" * (fewer > 1)),
            "give more data",
        )


def check_possible(profile: Profile, search: Search) -> None:
    """Raise FitError where there are too few rows for any candidate: that needs no pass.

    The components' effective rows add up to all the rows, and each needs so many; or all need some
    together, where they share a matrix.
    """
    d, n = len(profile.mean), profile.weight * profile.rows_per_weight
    needs = {
        (FAMILIES[name].rows_needed(k, d), k, name)
        for k in search.k
        for name in search.covariance_type
    }
    least, k, name = min(needs)
    if least <= n:
        return
    family = FAMILIES[name]
    each = family.least_rows(d)
    remedies: list[Remedy] = ["give more rows"]
    if fewer := _most_components(family, k - 1, profile):
        remedies.append(("lower", K, f"to {fewer}"))
    simpler = [name for name, f in FAMILIES.items() if f.rows_needed(k, d) <= n and f.closed]
    if simpler:
        remedies.append(("try", COVARIANCE_TYPE, " or ".join(simpler)))
    share = f", {each:,} each" * (k > 1 and not family.shared)
    raise FitError(
        f"{k} component{'s' * (k > 1)} of covariance type {name} in {d} columns need {least:,} rows"
        f"{share}, and there are {n:,.6g}",
        *remedies,
    )


def _most_components(family: Family, most: int, profile: Profile) -> int:
    """Return for how many components, `most` at most, there are rows enough; 0 if for none."""
    d, n = len(profile.mean), profile.weight * profile.rows_per_weight
    return next((k for k in range(most, 0, -1) if family.rows_needed(k, d) <= n), 0)


def check_features(profile: Profile, features: Sequence[str] | None = None) -> None:
    """Raise InputError where a feature is constant, or its variance cannot be computed."""
    names = names_of(features, len(profile.mean))
    seen = np.full(len(names), np.inf) if profile.seen is None else profile.seen[0]
    for name, n_values in zip(names, seen, strict=True):
        if not n_values:
            raise InputError(
                f"feature {name!r} holds no value at all in {profile.n_rows:,} rows",
                ("leave it out of", FEATURES),
            )
        if n_values < _LEAST_VALUES:
            raise InputError(
                f"feature {name!r} has {n_values:.0f} values in {profile.n_rows:,} rows, too few "
                f"for a mean and a variance: {_LEAST_VALUES} are needed",
                ("leave it out of", FEATURES),
                "give more rows",
            )
    for name, value, low, high in zip(
        names, profile.variance, profile.low, profile.high, strict=True
    ):
        if low == high:
            raise InputError(
                f"feature {name!r} is constant ({low:.6g} in all {profile.n_rows} rows)",
                ("leave it out of", FEATURES),
                ("set", CONSTANT_FEATURES, "to drop"),
            )
        if not np.finfo(np.float64).tiny < value < np.inf:
            raise InputError(
                f"feature {name!r} ranges from {low:.6g} to {high:.6g}, so that its variance is "
                f"{value:.3g} in float64",
                "rescale it",
                ("leave out such rows with", WHERE),
            )


def _check_counts(rows: Rows) -> None:
    """Raise InputError where a column of counts has no value in the sample: there is no rate."""
    for i, column in enumerate(rows.columns, len(rows.profile.mean)):
        if column.kind != "counts":
            continue
        if all(np.isnan(block.values[i]).all() for block in rows.sample):
            n = sum(block.n_rows for block in rows.sample)
            raise InputError(
                f"column {column.name!r} of counts holds no value in any of {n:,} rows"
                + " drawn from all" * (not rows.complete),
                "leave it out",
            )


def n_distinct(blocks: Sequence[Block], enough: int) -> int:
    """Count distinct rows, up to `enough`."""
    seen: set[bytes] = set()
    for block in blocks:
        for row in block.values.T:
            seen.add((row + 0.0).tobytes())  # + 0.0: minus zero is zero
            if len(seen) >= enough:
                return enough
    return len(seen)
