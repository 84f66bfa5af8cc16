"""Runs of EM that share every pass over the evidence: the only driver of the coroutine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparkgmm.core.em import Settings, Trajectory, em
from sparkgmm.core.evidence import Evidence, Measured
from sparkgmm.core.judging import Course, why_degenerate
from sparkgmm.core.model import Model
from sparkgmm.core.repair import Reseed, starved, weakest, without

# Runs whose mean log-likelihoods differ by less ended in the same optimum.
SAME = 1e-5
# A run takes the place of a sound one where it is higher by so much a row.
WORTH_IT = 1e-6
# Below this many floating-point operations a pass every start runs to its end, and nothing has to
# be guessed. Above it the worse half of the starts leaves every few passes.
CHEAP_PASS = 2e8
HALVING_PASSES = 12
# A run leaves that would stay below the best although each of its passes to come gained so many
# times what the last few did, and these do not grow: 2,000 rows by 1,000 columns, a cluster in
# halves and two in one climb by 0.01 nats a row and pass, 40 below.
_AT_BEST, _LAST = 30.0, 3
# In the place of a run's number, for the best of those that ended.
_ENDED = -1
# Of so many components, those that starve are left out together.
MANY = 32

Progress = Callable[[int, int, float, float], None]
"""Called after a pass: its number, live candidates, best mean log-likelihood, its distance."""


@dataclass(frozen=True)
class Winner:
    """The best run for a candidate, and how many of its starts ended in the same optimum.

    `rivals` are runs to other optima that a sample cannot tell from the best one: they are less
    than `margin` nats a row below.
    """

    state: Trajectory
    n_starts: int = 1
    n_agreeing: int = 1
    rivals: tuple[Trajectory, ...] = ()
    margin: float = 0.0

    @property
    def runs(self) -> tuple[Trajectory, ...]:
        """The best run and its rivals."""
        return self.state, *self.rivals

    def course(self, tol: float) -> Course:
        """Return how it came to where it is; a distance within `tol` has converged."""
        state = self.state
        return Course(
            tuple(state.log_likelihoods),
            state.converged or state.distance <= tol,
            state.distance,
            state.n_rejected,
            state.n_dropped,
            self.n_starts,
            self.n_agreeing,
            state.collapsed,
        )


class Race:
    """Runs of EM that share every pass over the evidence."""

    def __init__(
        self,
        states: Sequence[Trajectory],
        evidence: Evidence,
        settings: Settings,
        progress: Progress | None = None,
        reseed: Reseed | None = None,
    ) -> None:
        self.states = list(states)
        self.evidence = evidence
        self.settings = settings
        self.n_passes = 0
        self._progress = progress
        self._reseed = reseed

    def again(self, states: Sequence[Trajectory], settings: Settings | None = None) -> Race:
        """Return a race of other states over the same evidence, without repairs."""
        return Race(states, self.evidence, settings or self.settings)

    def run(self, n_rows: int) -> None:
        """Advance all, a pass at a time, until each has ended or left.

        `n_rows` are those that a pass reads, by which it is cheap or dear.
        """
        climbs = [em(state, self.settings) for state in self.states]
        models = {i: model for i, climb in enumerate(climbs) if (model := next(climb, None))}
        halve = n_rows * flops_a_row(self.states) > CHEAP_PASS
        ended: list[Trajectory] = []
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
                        climbs[i] = em(repaired, self.settings)
                        models[i] = next(climbs[i])
                    elif self.states[i].converged:
                        ended.append(self.states[i])
            for i in self._hopeless(models, ended):
                del models[i]
            if halve and self.n_passes % HALVING_PASSES == 0:
                for i in self._worse_half(models, ended):
                    del models[i]
            self._report(len(models))

    def _measure(self, models: Mapping[int, Model]) -> list[Measured]:
        label = f"EM pass {self.n_passes}, {len(models)} candidate{'s' * (len(models) > 1)}"
        return self.evidence.measure(list(models.values()), label)

    def _repaired(self, ended: Trajectory) -> Trajectory | None:
        """Return a new run without a component that starved or doubled another, if one did.

        The first time it is put elsewhere, after that it is left out; of many components all that
        starve together, since each time EM has to come to an end again.
        """
        j = weakest(ended, self.evidence.profile)
        if j is None or self._reseed is None:
            return None
        if not ended.reseeded:
            model = self._reseed(ended.model, j)
        elif ended.model.k < MANY:
            model = without(ended.model, j)
        else:
            model = without(ended.model, starved(ended, self.evidence.profile) or j)
        return Trajectory(model, reseeded=True, target_k=ended.target_k)

    def _report(self, live: int) -> None:
        if self._progress:
            leader = max(self.states, key=lambda state: state.log_likelihood)
            mean = leader.log_likelihood - self.evidence.frame.log_volume
            self._progress(self.n_passes, live, mean, leader.distance)

    def by_candidate(self) -> dict[tuple[str, int], list[Trajectory]]:
        """Return the runs for each candidate, the best first."""
        by_key: dict[tuple[str, int], list[Trajectory]] = {}
        for state in self.states:
            by_key.setdefault(state.candidate_key, []).append(state)
        return {key: sorted(states, key=self.rank) for key, states in by_key.items()}

    def best(self) -> dict[tuple[str, int], Trajectory]:
        """Return the best sound run for each candidate, or the best at all where none is sound."""
        return {key: states[0] for key, states in self.by_candidate().items()}

    def winner(self, state: Trajectory) -> Winner:
        """Count the starts for the state's candidate that ended where it is."""
        starts = [s for s in self.states if s.candidate_key == state.candidate_key]
        agreeing = [s for s in starts if abs(s.log_likelihood - state.log_likelihood) < SAME]
        return Winner(state, len(starts), len(agreeing))

    def rank(self, state: Trajectory) -> tuple[int, int, float]:
        """Order runs: sound ones first, then those with all components, then by likelihood."""
        fault = 2
        if not state.collapsed:
            found = why_degenerate(
                state.model, state.measured, self.evidence.profile, self.settings.prior
            )
            fault = 0 if found is None else 1
        return fault, state.n_dropped, -state.log_likelihood

    def _hopeless(self, live: Iterable[int], ended: Sequence[Trajectory]) -> list[int]:
        """Return the live runs that will not come near the best of those that ended."""
        leaving = []
        for i in live if ended else ():
            state = self.states[i]
            recent = np.diff(state.log_likelihoods[-1 - _LAST :])
            if len(recent) < _LAST or recent[-1] > recent[0]:
                continue
            n_left = self.settings.max_iter - state.n_iter
            within_reach = state.log_likelihood + _AT_BEST * n_left * float(recent.max())
            if any(
                other.candidate_key == state.candidate_key
                and other.n_dropped <= state.n_dropped
                and other.log_likelihood > within_reach
                and self.rank(other)[0] == 0
                for other in ended
            ):
                leaving.append(i)
        return leaving

    def _worse_half(self, live: Iterable[int], ended: Sequence[Trajectory]) -> list[int]:
        """Return the live runs of the worse half, among which is the best of those that ended.

        So a slow run does not go on for long below one that ended.
        """
        pools: dict[tuple[str, int], list[tuple[tuple[int, int, float], int]]] = {}
        for i in live:
            state = self.states[i]
            pools.setdefault(state.candidate_key, []).append((self.rank(state), i))
        leaving = []
        for key, pool in pools.items():
            done = [self.rank(state) for state in ended if state.candidate_key == key]
            pool += [(rank, _ENDED) for rank in sorted(done)[:1]]
            pool.sort()
            leaving += [i for _, i in pool[(len(pool) + 1) // 2 :] if i != _ENDED]
        return leaving


def flops_a_row(states: Sequence[Trajectory]) -> int:
    """Return what a row costs in a pass for all of them: 4 k F."""
    return sum(4 * state.model.k * state.model.width for state in states)
