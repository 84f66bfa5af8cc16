"""What `init: auto` adds: starts and moves tried by short runs, of which the best get a run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from sparkgmm.core.atoms import Atom, find_atoms, onto_atoms, onto_some_atoms
from sparkgmm.core.em import Trajectory, share_of_tol
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.matching import farthest
from sparkgmm.core.merits import by_merit
from sparkgmm.core.model import Model, to_mixture
from sparkgmm.core.moves import remove_and_split, shaken, split_one
from sparkgmm.core.prior import Prior
from sparkgmm.core.profile import Frame, count_rows
from sparkgmm.core.race import CHEAP_PASS, SAME, WORTH_IT, Race, Winner, flops_a_row
from sparkgmm.core.repair import without
from sparkgmm.core.rows import Rows
from sparkgmm.core.search import Search
from sparkgmm.core.short_runs import Sample, climb, least_variances
from sparkgmm.core.starts import KINDS
from sparkgmm.core.starts.ground import Ground
from sparkgmm.core.starts.kinds import balanced, flattest
from sparkgmm.core.widths import FEW
from sparkgmm.core.windows import onto_windows
from sparkgmm.covariances.family import Family
from sparkgmm.mixture import n_parameters
from sparkgmm.products import Array

# Short runs look at this many rows at most.
_ROWS = 4096
# Short runs get so many passes; then this share of them goes on, the best.
_STAGES = ((20, 0.3), (30, 0.1), (40, 0.0))
_PASSES = 20 + 0.3 * 30 + 0.1 * 40
# Of each kind so many times `n_init` starts are drawn, as long as they are cheap.
_DRAWS = 3
# So many of them again are put on values that many rows have.
_ON_ATOMS = 1 / 3
# So many starts along the flattest direction are added where fewer are drawn than `n_init` of each.
_FLATTEST = 2
# So many starts, or moves, get a run to their end: one where a pass is dear.
_STARTS, _MOVES = 4, 3
# Short runs whose mean log-likelihoods differ by less lead to one optimum.
_SAME_SO_FAR = 1e-4
# Moves are proposed so many at a time, so often, while they are worth it.
_PROPOSALS = 60
_ROUNDS = 10
# Beside each of them so many perturbations of the optimum itself.
_SHAKEN = 1 / 3
# From so many components on pairs are too many to be tried blindly: as many are chosen by merit.
_GUIDED = 5
# Where fewer moves than these may be tried, or the sample has more values, nothing is scouted.
_LEAST_MOVES, _MOST_VALUES = 8, 2**24
# Nor where there are fewer rows a feature: any cut of them is a cluster then, and 2,000 rows by
# 1,000 columns took five times as long as all else to end in optima that are chance.
_ROWS_A_FEATURE = 5
# Starts, and a round of moves, cost so many floating-point operations for each candidate at most.
_STARTS_FLOPS, _MOVES_FLOPS = 3e9, 1.4e10
# Where k components have fewer than so many times the rows that they need, starts of components of
# as many rows each are added, so many; and where components were dropped, of more than are left:
# that is tried so often again.
_CROWDED, _BALANCED = 2, 100
_PATIENCE = 2
# On small tables moves are drawn anew so often after a round in vain.
_FRUITLESS = 2
# So many moves are chosen by their merit on all the rows of the sample.
_PROMISING = 8
# So many other optima of a sample are looked at on all the rows. Runs whose components are all
# nearer in pairs than this Hellinger distance, half a standard deviation, ended in one.
_RIVALS = 8
_ONE_OPTIMUM = 0.2
# An exponential costs as much as so many products and sums.
_EXPONENTIAL = 40


@dataclass(frozen=True)
class Scout:
    """A part of the sample, and what is to be looked for on it.

    `prior` bounds widths so that short runs can measure all components.
    """

    search: Search
    ground: Ground
    sample: Sample
    rows: Rows
    frame: Frame
    prior: Prior

    @classmethod
    def of(cls, rows: Rows, search: Search, frame: Frame) -> Scout | None:
        """Take as many rows of the sample as short runs need; None where those would be dear."""
        d = len(frame.scale)
        if min(count_rows(rows.sample), _ROWS) < _ROWS_A_FEATURE * d:
            return None
        families = search.families
        width = max(family.statistics.n_features(d) for family in families)
        ground = Ground(Seeds.of(rows, frame)).thinned(_ROWS)
        few = min(_affordable(max(search.k), f, ground, _MOVES_FLOPS) for f in families)
        if few < _LEAST_MOVES or width * ground.n > _MOST_VALUES or ground.n < _ROWS_A_FEATURE * d:
            return None
        prior = search.settings.prior.at_least(least_variances(ground.seeds))
        return cls(search, ground, Sample.of(ground.seeds, width), rows, frame, prior)

    def starts(self, race: Race) -> list[Trajectory]:
        """Return the best starts of all kinds, for each k and covariance type."""
        found = []
        families = self.search.families
        for k in sorted(set(self.search.k) - {1}):
            numbers = {family.name: self._n_drawn(k, family) for family in families}
            drawn = self._draw(k, max(numbers.values()))
            enough = self.search.n_init * len(KINDS)
            flat = self._flattest(k) if min(numbers.values()) < enough else []
            for family in families:
                number = numbers[family.name]
                some = drawn[:number]
                if family.round:
                    half = number // 2
                    some = drawn[:half] + self._draw(k, half, self._in_own_units)
                if number < enough:
                    some = some + flat
                models = self.ground.models(some, family)
                models += self._on_atoms(models, k, int(_ON_ATOMS * number))
                found += self._best(models, race, k, _STARTS)
                if self._is_crowded(k, family):
                    models = self._balanced(k, family, min(number, _BALANCED))
                    found += self._best(models, race, k, _STARTS)
        return found

    @cached_property
    def _in_own_units(self) -> Ground:
        return replace(self.ground, own_units=True)

    def _n_drawn(self, k: int, family: Family) -> int:
        """Return how many starts are drawn: some times `n_init` of each kind, while they are cheap.

        Once where each step of a short run takes iterations of its own.
        """
        affordable = _affordable(k, family, self.ground, _STARTS_FLOPS)
        times = _DRAWS if family.closed else 1
        return min(affordable, times * self.search.n_init * len(KINDS))

    def _draw(self, k: int, number: int, ground: Ground | None = None) -> list[Array]:
        """Return responsibilities (k, n) of so many starts, of the kinds in turn."""
        ground = ground or self.ground
        kinds = list(KINDS.values())
        drawn = []
        for turn, which in (divmod(i, len(kinds)) for i in range(number)):
            rng = np.random.default_rng([self.search.seed, turn, which, k])
            R = kinds[which](ground, k, rng)
            drawn.append(R if R.ndim == 2 else _of_labels(R, k))
        return drawn

    def _flattest(self, k: int) -> list[Array]:
        """Return starts for where `n_init` of each kind are not affordable, as of many columns."""
        rng = np.random.default_rng([self.search.seed, k, _FLATTEST])
        return [_of_labels(flattest(self.ground, k, rng), k) for _ in range(_FLATTEST)]

    def _on_atoms(self, models: Sequence[Model], k: int, most: int) -> list[Model]:
        rng = np.random.default_rng([self.search.seed, k])
        return onto_some_atoms(models, self.ground.seeds, self.prior, self._atoms, rng, most)

    def _is_crowded(self, k: int, family: Family) -> bool:
        rows = self.sample.rows_per_weight * float(self.sample.w.sum())
        return rows < _CROWDED * k * family.least_rows(self.ground.d)

    def _balanced(self, k: int, family: Family, number: int, attempt: int = 0) -> list[Model]:
        """Return starts of components of as many rows each, the same whatever k was asked for."""
        rng = np.random.default_rng([self.search.seed, k, attempt])
        drawn = (_of_labels(balanced(self.ground, k, rng), k) for _ in range(number))
        return self.ground.models(drawn, family)

    def _best(
        self, models: Sequence[Model], race: Race, target_k: int, most: int
    ) -> list[Trajectory]:
        """Return the best of some models of one k, after short runs of which most end early."""
        settings = self.search.settings
        states: list[Trajectory] = []
        for passes, share in _STAGES:
            runs = climb(models, self.sample, self.prior, min(passes, settings.max_iter))
            states = [Trajectory(model, seen, target_k=target_k) for model, seen in runs]
            states.sort(key=race.rank)
            models = [s.model for s in states[: max(most, int(share * len(states)))]]
        sound = (state for state in states if race.rank(state)[0] == 0)
        best = _distinct(sound, _SAME_SO_FAR)[:most]
        return [Trajectory(state.model, target_k=target_k) for state in best]

    def explore(self, race: Race, plain: Sequence[Trajectory]) -> list[Winner]:
        """Try to leave each candidate's best optimum by moves, while that helps.

        Where components were dropped it is tried to split one instead. Passes over all the rows
        are the user's to limit: where the sample is all there are, a run that used them up gets no
        more. `plain` are the runs that nothing here has started.

        `pilot.improve` is a loop of its own: its moves are tried against the incumbents out of a
        budget, and what it shares with this one are four lines.
        """
        best = race.best()
        tried = list(race.states)
        open_keys = {
            key for key, s in best.items() if s.converged or s.collapsed or not self.rows.complete
        }
        rng = np.random.default_rng([self.search.seed, self.search.n_init])
        fruitless: dict[tuple[str, int], int] = {}
        for _ in range(_ROUNDS):
            entrants = []
            for key in sorted(open_keys):
                entrants += self._entrants(best[key], race, rng, fruitless.get(key, 0))
            if not entrants:
                break
            final = race.again(entrants)
            final.run(self._n_rows)
            better = {
                key: state
                for key, state in final.best().items()
                if _is_better(state, best[key], race)
            }
            best |= better
            tried += final.states
            # other ways are tried before that is the end of it
            fruitless = {
                key: 0 if key in better else fruitless.get(key, 0) + 1
                for key in open_keys
                if key in better or fruitless.get(key, 0) < self._patience(best[key])
            }
            open_keys = set(fruitless)
        if self.rows.complete:
            best = self._settled(best, race, rng)
            return [race.winner(state) for state in best.values()]
        return [self._with_rivals(state, tried, plain, race) for state in best.values()]

    def _entrants(
        self, state: Trajectory, race: Race, rng: np.random.Generator, attempt: int
    ) -> list[Trajectory]:
        """Return the ways on from a state that get a run, after so many rounds in vain."""
        if attempt and not state.n_dropped and self._sees_a_part:
            return self._promising(state, rng)
        dear = self._n_rows * flops_a_row([state]) > CHEAP_PASS / 10
        moved = self._moved(state, race, rng, 1 if dear else _MOVES, attempt)
        return moved + self._onto_atoms(state)[: 2 if dear else None]

    def _patience(self, state: Trajectory) -> int:
        """Return how often other ways are tried from a state that nothing led out of."""
        if state.n_dropped:
            return _PATIENCE
        if self._sees_a_part:
            return 1 if state.model.k >= _GUIDED else 0
        family = state.model.family
        if not family.closed:  # each step of a short run takes iterations of its own
            return 0
        number = _affordable(state.model.k, family, self.ground, _MOVES_FLOPS)
        return _FRUITLESS if number >= (1 + _FRUITLESS) * _PROPOSALS else 0

    @cached_property
    def _n_rows(self) -> int:
        return count_rows(self.rows.sample)

    @cached_property
    def _sees_a_part(self) -> bool:
        """Whether short runs look at a part of the sample's rows, and more are no burden.

        A small cluster among many has too few rows in the part.
        """
        return self._n_rows > self.ground.n and len(self.sample.T) * self._n_rows <= _MOST_VALUES

    @cached_property
    def _whole(self) -> tuple[Ground, Sample]:
        """All rows of the sample."""
        ground = Ground(Seeds.of(self.rows, self.frame, self._n_rows))
        return ground, Sample.of(ground.seeds, len(self.sample.T))

    def _promising(self, state: Trajectory, rng: np.random.Generator) -> list[Trajectory]:
        """Return the moves that may gain by all the rows of the sample: without short runs.

        Their merits are out by about as much as a component's parameters fit chance.
        """
        prior, model = self.search.settings.prior, state.model
        chance = n_parameters(1, model.d, model.covariance_type) / self._n_rows
        models = by_merit(model, *self._whole, prior, rng, _PROMISING, least=-chance)
        return [Trajectory(moved, target_k=state.target_k) for moved in models]

    def _with_rivals(
        self,
        best: Trajectory,
        tried: Sequence[Trajectory],
        plain: Sequence[Trajectory],
        race: Race,
    ) -> Winner:
        """Return the best, and other optima that may be higher than it on all the rows.

        A sample's likelihood at an optimum is out by some nats, for chance alone (Akaike 1974: p on
        average, beside another sample's), and the best of many is the one that has most of them:
        so the best of the plain starts, which are few, is one of its rivals.
        """
        model, n_rows = best.model, self._n_rows
        n_of_model = n_parameters(model.k, model.d, model.covariance_type)
        margin = n_of_model / n_rows
        frame = race.evidence.frame
        known = [to_mixture(model, frame)]
        rivals = []
        # each by itself: together the worse half would leave
        for state in _distinct_below(best, tried, plain, race, margin)[:_RIVALS]:
            alone = race.again([replace(state, converged=False)])
            alone.run(n_rows)
            [rival] = alone.states
            mixture = to_mixture(rival.model, frame)
            if not any(farthest(mixture, other) < _ONE_OPTIMUM for other in known):
                known.append(mixture)
                rivals.append(rival)
        # what an optimum of the sample is short of its limit on all rows is half a chi-square of p
        # nats: two differ by this at most, by three standard deviations
        margin = min(margin, 3 * math.sqrt(n_of_model) / n_rows)
        return replace(race.winner(best), rivals=tuple(rivals), margin=margin)

    def _settled(
        self,
        best: dict[tuple[str, int], Trajectory],
        race: Race,
        rng: np.random.Generator,
    ) -> dict[tuple[str, int], Trajectory]:
        """Go on to where the fit will end: what was sound so far may become a spike on the way.

        Then its component is put elsewhere, or left out.
        """
        settings = replace(race.settings, tol=share_of_tol(self.rows) * self.search.settings.tol)
        going = [replace(state, converged=False) for state in best.values()]
        for _ in range(_ROUNDS):
            final = race.again(going, settings)
            final.run(self._n_rows)
            ended = final.best()
            best = best | ended
            going = []
            for _, state in sorted(ended.items()):
                if race.rank(state)[0] > 0:
                    going += self._moved(state, race, rng, _MOVES)
            if not going:
                break
        return best

    def _moved(
        self, state: Trajectory, race: Race, rng: np.random.Generator, most: int, attempt: int = 0
    ) -> list[Trajectory]:
        """Return the best ways on from a state, after short runs."""
        model = state.model
        found = self._best(self._changed(state, rng), race, state.target_k, most)
        if state.n_dropped and not model.others:
            found += self._with_more(state, race, attempt)
        if race.rank(state)[0] > 0 and not self.search.lenient:
            models = [without(model, j) for j in self._of_few_rows(state, race)]
            found += self._best(models, race, state.target_k, most)
        return found

    def _changed(self, state: Trajectory, rng: np.random.Generator) -> list[Model]:
        """Return what moves of all kinds make of a model; one more, where one was dropped."""
        prior, ground, sample = self.prior, self.ground, self.sample
        model = prior.within(state.model)
        number = min(_PROPOSALS, _affordable(model.k, model.family, ground, _MOVES_FLOPS))
        if self._sees_a_part:  # those that promise to gain by all its rows are tried as well
            number = max(_LEAST_MOVES, number // 2)
        if state.n_dropped:  # short runs are of one k
            return split_one(model, ground, sample, rng, number)
        some = int(_SHAKEN * number)
        models = remove_and_split(model, ground, sample, rng, number)
        models += shaken(model, ground, sample, rng, some)
        models += onto_some_atoms([model], ground.seeds, prior, self._atoms, rng, some)
        models += onto_windows(model, ground, sample, rng, some)
        if model.k >= _GUIDED:
            models += by_merit(model, ground, sample, prior, rng, some)
        return models

    def _with_more(self, state: Trajectory, race: Race, attempt: int) -> list[Trajectory]:
        """Return starts of more components than are left: those that a smaller k would begin with.

        So a larger one hardly ever ends with fewer.
        """
        found, more, family = [], 1, state.model.family
        while state.model.k + more <= state.target_k:
            k = state.model.k + more
            if not attempt:
                drawn = self._draw(k, self._n_drawn(k, family))
                models = self.ground.models(drawn, family)
                found += self._best(models, race, state.target_k, _MOVES)
            affordable = _affordable(k, family, self.ground, _STARTS_FLOPS)
            models = self._balanced(k, family, min(affordable, _BALANCED), attempt)
            found += self._best(models, race, state.target_k, _MOVES)
            more *= 2
        return found

    def _onto_atoms(self, state: Trajectory) -> list[Trajectory]:
        """Return moves onto values of many rows, which are too narrow for short runs."""
        prior = self.search.settings.prior
        models = onto_atoms(state.model, self.ground.seeds, prior, self._atoms)
        return [Trajectory(model, target_k=state.target_k) for model in models]

    @cached_property
    def _atoms(self) -> list[Atom]:
        return find_atoms(self.ground.seeds, self.search.settings.prior)

    def _of_few_rows(self, state: Trajectory, race: Race) -> list[int]:
        """Return the components with too few rows for a spike to be anything but chance."""
        if state.measured is None or state.model.k == 1:
            return []
        counts = state.measured.effective_rows(race.evidence.profile)
        few = counts < FEW * state.model.family.least_rows(state.model.d)
        return np.flatnonzero(few).tolist()


def _of_labels(labels: Array, k: int) -> Array:
    """Return the responsibilities (k, n) of rows that belong to one component each."""
    return (np.arange(k)[:, None] == labels).astype(float)


def _is_better(state: Trajectory, other: Trajectory, race: Race) -> bool:
    ours, theirs = race.rank(state), race.rank(other)
    return ours[:2] < theirs[:2] or (ours[:2] == theirs[:2] and ours[2] < theirs[2] - WORTH_IT)


def _distinct_below(
    best: Trajectory,
    tried: Sequence[Trajectory],
    plain: Sequence[Trajectory],
    race: Race,
    margin: float,
) -> list[Trajectory]:
    """Return the best plain run, then others near the best, which are as sound as it and below."""
    mine = sorted((s for s in tried if s.candidate_key == best.candidate_key), key=race.rank)
    sound = race.rank(best)[:2]
    below = [
        state
        for state in mine
        if best.log_likelihood - state.log_likelihood > SAME and race.rank(state)[:2] == sound
    ]
    near = [s for s in below if best.log_likelihood - s.log_likelihood < margin]
    first = [s for s in below if any(s is p for p in plain)][:1]
    return _distinct((*first, *near), SAME)


def _distinct(states: Iterable[Trajectory], apart: float) -> list[Trajectory]:
    """Return the states whose likelihood is so far apart from that of all before them."""
    distinct: list[Trajectory] = []
    for state in states:
        if all(abs(state.log_likelihood - s.log_likelihood) > apart for s in distinct):
            distinct.append(state)
    return distinct


def _affordable(k: int, family: Family, ground: Ground, flops: float) -> int:
    """Return how many short runs may be made for so many operations."""
    a_row = k * (4 * family.statistics.n_features(ground.d) + _EXPONENTIAL)
    return int(flops / (a_row * ground.n * _PASSES))
