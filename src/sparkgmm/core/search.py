"""Which starts are tried, on which rows, and which go on: the driver of the EM coroutines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sparkgmm import options
from sparkgmm.core.covariance import Model, Moments, n_features
from sparkgmm.core.em import Settings, Trajectory, em
from sparkgmm.core.initialisation import INIT, SEEDING_ROWS, SETTLING_ROUNDS, model_around, settle
from sparkgmm.core.moves import split_and_merge
from sparkgmm.core.profile import Frame, Profile, count_rows, take_rows
from sparkgmm.core.repair import Reseed, reseeder, weakest, without
from sparkgmm.core.rows import Rows, cut, scan_blocks
from sparkgmm.core.selection import Winner, flaw
from sparkgmm.core.statistics import Kernel, Scan, Sums
from sparkgmm.mixture import Array, n_parameters

_PILOT_PASSES = 100
# Optima of starts that differ by less, in nats a row, need not be told apart.
_PILOT_TOL = 1e-5
# Splitting and merging goes on so often, with so many proposals of so many passes, while it gains
# so much a row and has not cost more than so many floating-point operations.
_IMPROVEMENTS = 10
_PROPOSALS = 20
_TRIAL_PASSES = 30
_WORTH_IT = 1e-6
_IMPROVEMENT_FLOPS = 2e11
# Runs whose mean log-likelihoods differ by less ended in the same optimum.
_SAME = 1e-5
# An earlier model is left for an optimum that is better by so much; the sample's noise is larger.
_BETTER = 1e-4
# Below this many floating-point operations a pass every start runs to its end, and nothing has to
# be guessed. Above it the worse half of the starts leaves every few passes.
_CHEAP_PASS = 2e8
_HALVING_PASSES = 12
# Where they are dear, starts are first told apart on a part of the sample, for two halvings.
_SCREENED = 4


@dataclass(frozen=True)
class Search:
    """What to fit: every k with every covariance type, from `n_init` starts each.

    With `lenient`, components that starve are neither moved nor dropped, and a degenerate solution
    may win where there is no other.
    """

    k: tuple[int, ...] = (options.K.default,)
    covariance_type: tuple[str, ...] = (options.COVARIANCE_TYPE.default,)
    criterion: str = options.CRITERION.default
    init: str = options.INIT.default
    n_init: int = options.N_INIT.default
    seed: int = options.SEED.default
    settings: Settings = field(default_factory=Settings)
    lenient: bool = False


Progress = Callable[[int, int, float, float], None]
"""Called after a pass: its number, live candidates, best mean log-likelihood, its distance."""


def few_rows(rows: Rows, frame: Frame) -> tuple[Array, Array]:
    """Return evenly spaced rows of the sample, standardised (n, d), and their weights (n,)."""
    Z, w = frame.standardise(rows.sample)
    thin = slice(None, None, max(1, -(-len(Z) // SEEDING_ROWS)))
    return Z[thin], w[thin]


def draw_starts(rows: Rows, search: Search, frame: Frame) -> list[Trajectory]:
    """Draw `n_init` starts for each k and covariance type from the sample."""
    Z, w = few_rows(rows, frame)
    starts = []
    for i in range(search.n_init):
        rng = np.random.default_rng([search.seed, i])
        centres = INIT[search.init](Z, w, max(search.k), rng)
        rounds = SETTLING_ROUNDS if i % 2 == 0 else 0  # every other start: they should differ
        starts += [
            Trajectory(model_around(centres_of_k, Z, w, kind, frame))
            for centres_of_k in (settle(centres[:k], Z, w, rounds) for k in search.k)
            for kind in search.covariance_type
        ]
    return starts


def reseed_from(rows: Rows, search: Search, frame: Frame) -> Reseed | None:
    """Return how a race reseeds: from the rows of the sample, if at all."""
    if search.lenient:
        return None
    return reseeder(*few_rows(rows, frame), frame, np.random.default_rng([search.seed, 1]))


def pilot(
    rows: Rows,
    search: Search,
    frame: Frame,
    progress: Progress | None,
    earlier: Model | None = None,
) -> list[Winner]:
    """Run all starts on the sample, to where they can be told apart; return the best of each kind.

    An earlier model is one more start. Where the sample is all the data its passes are passes over
    the data, and count as such.
    """
    sampled, scan, settings = frame, rows.scan, search.settings
    if not rows.complete:
        sampled = frame.over(rows.sample)
        settings = replace(settings, max_iter=_PILOT_PASSES)
        progress = None

        def scan(kernels: Sequence[Kernel], label: str) -> list[Sums]:
            return scan_blocks([rows.sample], kernels)

    settings = replace(settings, tol=max(settings.tol, _PILOT_TOL))
    n_rows = count_rows(rows.sample)
    starts = draw_starts(rows, search, frame)
    if not rows.complete and n_rows * flops_a_row(starts) > _CHEAP_PASS:
        starts = screen(starts, rows, frame, settings)
    if earlier is not None:
        starts.append(Trajectory(earlier))
    reseed = reseed_from(rows, search, frame)
    race = Race(starts, sampled, rows.profile, settings, scan, progress, reseed)
    race.run(n_rows)
    winners = improve(race, rows, search, n_rows)
    if earlier is None:
        return winners
    return [_or_earlier(winner, earlier, race, rows) for winner in winners]


def _or_earlier(winner: Winner, earlier: Model, race: Race, rows: Rows) -> Winner:
    """Go on from the earlier model where the sample knows of no better optimum than its own.

    All the rows of its day made it, so it is nearer the limit than the sample's optimum is, unless
    the data have moved by more than chance: to fit p parameters to n rows anew gains p / n nats a
    row on those rows (half of that is Wilks' 1938 theorem, half that other rows made the model).
    """
    from_there = race.states[-1]
    here = winner.state
    if from_there.kind != here.kind or here.log_likelihood > from_there.log_likelihood + _BETTER:
        return winner
    if rows.complete:
        return replace(winner, state=from_there)
    k, d = earlier.parameters.means.shape
    moved = from_there.log_likelihood - from_there.log_likelihoods[0]
    by_chance = n_parameters(k, d, earlier.covariance_type) / count_rows(rows.sample)
    if from_there.reseeded or moved > by_chance:
        return winner
    return replace(winner, state=Trajectory(earlier))


def screen(
    starts: Sequence[Trajectory], rows: Rows, frame: Frame, settings: Settings
) -> list[Trajectory]:
    """Run many starts for a while on a part of the sample; return the best quarter of each kind."""
    race = _on_a_part(starts, rows, frame, replace(settings, max_iter=2 * _HALVING_PASSES))
    race.run(count_rows(rows.sample))
    return [
        Trajectory(state.model, wanted=state.wanted)
        for states in race.by_kind().values()
        for state in states[: -(-len(states) // 4)]
    ]


def _on_a_part(states: Sequence[Trajectory], rows: Rows, frame: Frame, settings: Settings) -> Race:
    """Return a race over every fourth row of the sample."""
    n_rows = count_rows(rows.sample)
    part = cut(take_rows(rows.sample, np.arange(0, n_rows, _SCREENED)))

    def scan(kernels: Sequence[Kernel], label: str) -> list[Sums]:
        return scan_blocks([part], kernels)

    return Race(states, frame.over(part), rows.profile, settings, scan)


def improve(race: Race, rows: Rows, search: Search, n_rows: int) -> list[Winner]:
    """Try to leave each kind's best optimum by splitting and merging, while that helps."""
    Z, w = few_rows(rows, race.frame)
    rng = np.random.default_rng([search.seed, search.n_init])
    best = race.best()
    # passes over all the rows are the user's to limit: a run that used them up gets no more
    open_kinds = {kind for kind, s in best.items() if s.converged or not rows.complete}
    spent = 0.0
    for _ in range(_IMPROVEMENTS):
        proposals = []
        for kind in sorted(open_kinds):
            cost = flops_a_row([best[kind]]) * n_rows * _TRIAL_PASSES
            most = max(2, min(_PROPOSALS, int(_IMPROVEMENT_FLOPS / cost)))
            moved = split_and_merge(best[kind].model, Z, w, race.frame, rng, most)
            proposals += [Trajectory(model, wanted=best[kind].wanted) for model in moved]
            spent += cost * len(moved)
        if not proposals or spent > _IMPROVEMENT_FLOPS * len(best):
            break
        ahead = _ahead(proposals, [best[kind] for kind in sorted(open_kinds)], race, rows, n_rows)
        final = race.again(ahead, race.settings)
        final.run(n_rows)
        better = {
            kind: state
            for kind, state in final.best().items()
            if race.rank(state)[:2] <= race.rank(best[kind])[:2]
            and state.log_likelihood > best[kind].log_likelihood + _WORTH_IT
        }
        best |= better
        open_kinds = set(better)
    return [race.winner(state) for state in best.values()]


def _ahead(
    proposals: Sequence[Trajectory],
    incumbents: Sequence[Trajectory],
    race: Race,
    rows: Rows,
    n_rows: int,
) -> list[Trajectory]:
    """Run proposals against those they want to replace for a while; return the best if it is new.

    Where passes are dear that is done on a part of the sample, on which the incumbents get the same
    passes, for the sake of fairness: a model fits the rows best that it was fitted to.
    """
    settings = replace(race.settings, max_iter=_TRIAL_PASSES)
    known = [Trajectory(state.model, wanted=state.wanted) for state in incumbents]
    entrants = [*known, *proposals]
    if n_rows * flops_a_row(entrants) > _CHEAP_PASS:
        trial = _on_a_part(entrants, rows, race.frame, settings)
    else:
        trial = race.again(entrants, settings)
    trial.run(n_rows)
    return [
        Trajectory(state.model, wanted=state.wanted)
        for state in trial.best().values()
        if state not in known
    ]


class Race:
    """Runs of EM that share every pass over the data."""

    def __init__(
        self,
        states: Sequence[Trajectory],
        frame: Frame,
        profile: Profile,
        settings: Settings,
        scan: Callable[[Sequence[Kernel], str], list[Sums]],
        progress: Progress | None = None,
        reseed: Reseed | None = None,
    ) -> None:
        self.states = list(states)
        self.frame = frame
        self.settings = settings
        self.n_passes = 0
        self._profile = profile
        self._scan = scan
        self._progress = progress
        self._reseed = reseed

    def again(self, states: Sequence[Trajectory], settings: Settings) -> Race:
        """Return a race of other states over the same rows."""
        return Race(states, self.frame, self._profile, settings, self._scan)

    def run(self, n_rows: int) -> None:
        """Advance all, a pass over the data at a time, until each has ended or left."""
        climbs = [em(state, self.frame, self.settings) for state in self.states]
        models = {i: model for i, climb in enumerate(climbs) if (model := next(climb, None))}
        halve = n_rows * flops_a_row(self.states) > _CHEAP_PASS
        while models:
            self.n_passes += 1
            for i, measured in zip(list(models), self._measure(models), strict=True):
                try:
                    models[i] = climbs[i].send(measured)
                except StopIteration:
                    del models[i]
                    repaired = self._repaired(self.states[i])
                    if repaired is not None:
                        self.states[i] = repaired
                        climbs[i] = em(repaired, self.frame, self.settings)
                        models[i] = next(climbs[i])
            if halve and self.n_passes % _HALVING_PASSES == 0:
                for i in self._worse_half(models):
                    del models[i]
            self._tell(len(models))

    def _measure(self, models: Mapping[int, Model]) -> list[tuple[Moments, float]]:
        scan = Scan.of(list(models.values()), self.frame)
        label = f"EM pass {self.n_passes}, {len(models)} candidate{'s' * (len(models) > 1)}"
        return scan.read(self._scan(scan.kernels, label))

    def _repaired(self, ended: Trajectory) -> Trajectory | None:
        """Return a new run without a component that starved or doubled another, if one did.

        The first time it is put elsewhere, after that it is left out.
        """
        j = weakest(ended, self.frame, self._profile)
        if j is None or self._reseed is None:
            return None
        repair = without if ended.reseeded else self._reseed
        return Trajectory(repair(ended.model, j), reseeded=True, wanted=ended.wanted)

    def _tell(self, live: int) -> None:
        if self._progress:
            leader = max(self.states, key=lambda state: state.log_likelihood)
            height = leader.log_likelihood - self.frame.log_volume
            self._progress(self.n_passes, live, height, leader.distance)

    def by_kind(self) -> dict[tuple[str, int], list[Trajectory]]:
        """Return the runs of each kind, the best first."""
        kinds: dict[tuple[str, int], list[Trajectory]] = {}
        for state in self.states:
            kinds.setdefault(state.kind, []).append(state)
        return {kind: sorted(states, key=self.rank) for kind, states in kinds.items()}

    def best(self) -> dict[tuple[str, int], Trajectory]:
        """Return the best sound run of each kind, or the best at all where none is sound."""
        return {kind: states[0] for kind, states in self.by_kind().items()}

    def winner(self, state: Trajectory) -> Winner:
        """Count the starts of the state's kind that ended where it is."""
        rivals = [s for s in self.states if s.kind == state.kind]
        agreeing = [s for s in rivals if abs(s.log_likelihood - state.log_likelihood) < _SAME]
        return Winner(state, len(rivals), len(agreeing))

    def rank(self, state: Trajectory) -> tuple[int, int, float]:
        """Order runs: sound ones first, then those with all components, then by likelihood."""
        reason = flaw(state, self.frame, self._profile, self.settings.reg_covar)
        fault = 2 if state.collapsed else 0 if reason is None else 1
        return fault, state.n_dropped, -state.log_likelihood

    def _worse_half(self, live: Iterable[int]) -> list[int]:
        kinds: dict[tuple[str, int], list[int]] = {}
        for i in live:
            kinds.setdefault(self.states[i].kind, []).append(i)
        leaving = []
        for runs in kinds.values():
            runs.sort(key=lambda i: self.rank(self.states[i]))
            leaving += runs[(len(runs) + 1) // 2 :]
        return leaving


def flops_a_row(states: Sequence[Trajectory]) -> int:
    """Return what a row costs in a pass for all of them: 4 k F."""
    kinds = ((s.model.covariance_type, *s.model.parameters.means.shape) for s in states)
    return sum(4 * k * n_features(covariance_type, d) for covariance_type, k, d in kinds)
