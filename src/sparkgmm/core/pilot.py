"""Where a fit begins: starts on a sample, screened, then moved out of poor optima."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparkgmm.core.atoms import find_atoms, onto_atoms
from sparkgmm.core.em import Settings, Trajectory
from sparkgmm.core.evidence import Evidence, OverBlocks, OverRows
from sparkgmm.core.initialisation import AUTO, INIT, SETTLING_ROUNDS, Seeds, model_around, settle
from sparkgmm.core.model import Model
from sparkgmm.core.moves import split_and_merge
from sparkgmm.core.profile import Frame, count_rows, take_rows
from sparkgmm.core.race import (
    CHEAP_PASS,
    HALVING_PASSES,
    WORTH_IT,
    Progress,
    Race,
    Winner,
    flops_a_row,
)
from sparkgmm.core.repair import Reseed, reseeder
from sparkgmm.core.rows import Rows, cut
from sparkgmm.core.scout import Scout
from sparkgmm.core.search import Search
from sparkgmm.mixture import n_parameters

_PILOT_PASSES = 100
# Optima of starts that differ by less, in nats a row, need not be distinguished.
PILOT_TOL = 1e-5
# Splitting and merging goes on so often, with so many proposals of so many passes, while it is
# worth it and has not cost more than so many floating-point operations.
IMPROVEMENTS = 10
_PROPOSALS = 20
TRIAL_PASSES = 30
_IMPROVEMENT_FLOPS = 2e11
# An earlier model is left for an optimum that is better by so much; the sample's noise is larger.
_BETTER = 1e-4
# Where they are dear, starts are first compared on a part of the sample, for two halvings.
_SCREENED = 4


def draw_starts(rows: Rows, search: Search, frame: Frame) -> list[Trajectory]:
    """Draw `n_init` starts for each k and covariance type from the sample.

    Those of `auto` begin with k-means++.
    """
    first = "k-means++" if search.init == AUTO else search.init
    seeds = Seeds.of(rows, frame)
    Z, w = seeds.points, seeds.w
    starts = []
    for i in range(search.n_init):
        rng = np.random.default_rng([search.seed, i])
        centres = INIT[first](Z, w, max(search.k), rng)
        rounds = SETTLING_ROUNDS if i % 2 == 0 else 0  # every other start: they should differ
        starts += [
            Trajectory(model_around(centres_of_k, seeds, family))
            for centres_of_k in (settle(centres[:k], Z, w, rounds) for k in search.k)
            for family in search.families
        ]
    return starts


def reseed_from(rows: Rows, search: Search, frame: Frame) -> Reseed | None:
    """Return how a race reseeds: from the rows of the sample, if at all."""
    if search.lenient:
        return None
    rng = np.random.default_rng([search.seed, 1])
    made: list[Reseed] = []

    def reseed(model: Model, j: int) -> Model:
        if not made:  # few fits ever ask
            made.append(reseeder(Seeds.of(rows, frame), rng))
        return made[0](model, j)

    return reseed


def pilot(
    rows: Rows,
    search: Search,
    frame: Frame,
    progress: Progress | None,
    earlier: Model | None = None,
) -> list[Winner]:
    """Run all starts on the sample, until they can be distinguished; return each candidate's best.

    They are in the order of the search. An earlier model is one more start. Where the sample is all
    the data its passes are passes over the data, and count as such.
    """
    evidence: Evidence = OverRows(rows, frame)
    settings = search.settings
    if not rows.complete:
        evidence = OverBlocks.of(rows.sample, frame, rows.profile)
        settings = replace(settings, max_iter=_PILOT_PASSES)
        progress = None
    settings = replace(settings, tol=max(settings.tol, PILOT_TOL))
    n_rows = count_rows(rows.sample)
    starts = draw_starts(rows, search, frame)
    if not rows.complete and n_rows * flops_a_row(starts) > CHEAP_PASS:
        starts = screen(starts, rows, frame, settings)
    scout = Scout.of(rows, search, frame) if search.init == AUTO else None
    reseed = reseed_from(rows, search, frame)
    plain: list[Trajectory] = []
    if scout is not None:
        found = scout.starts(Race(starts, evidence, settings))
        if not rows.complete:  # apart from the others, to whose chances they would give way
            apart = Race(starts, evidence, settings, progress, reseed)
            apart.run(n_rows)
            plain = [winner.state for winner in improve(apart, rows, search)]
            starts = list(plain)
        starts = [*found, *starts]
    if earlier is not None:
        starts.append(Trajectory(earlier))
    race = Race(starts, evidence, settings, progress, reseed)
    race.run(n_rows)
    winners = improve(race, rows, search) if scout is None else scout.explore(race, plain)
    asked = [(name, k) for k in search.k for name in search.covariance_type]
    winners.sort(key=lambda winner: asked.index(winner.state.candidate_key))
    if earlier is None:
        return winners
    return [_or_earlier(winner, earlier, race, rows) for winner in winners]


def _or_earlier(winner: Winner, earlier: Model, race: Race, rows: Rows) -> Winner:
    """Go on from the earlier model where the sample knows of no better optimum than its own.

    All the rows of its day made it, so it is nearer the limit than the sample's optimum is, unless
    the data have moved by more than chance: to fit p parameters to n rows anew gains p / n nats a
    row on those rows (half of that is Wilks' 1938 theorem, half that other rows made the model).
    """
    from_there = race.states[-1]  # of the starts it is the last
    here = winner.state
    if (
        from_there.candidate_key != here.candidate_key
        or here.log_likelihood > from_there.log_likelihood + _BETTER
    ):
        return winner
    if rows.complete:
        return replace(winner, state=from_there)
    moved = from_there.log_likelihood - from_there.log_likelihoods[0]
    by_chance = n_parameters(earlier.k, earlier.d, earlier.covariance_type) / count_rows(
        rows.sample
    )
    if from_there.reseeded or moved > by_chance:
        return winner
    return replace(winner, state=Trajectory(earlier))


def screen(
    starts: Sequence[Trajectory], rows: Rows, frame: Frame, settings: Settings
) -> list[Trajectory]:
    """Run many starts a while on a part of the sample; return each candidate's best quarter."""
    race = _on_a_part(starts, rows, frame, replace(settings, max_iter=2 * HALVING_PASSES))
    race.run(count_rows(rows.sample))
    return [
        Trajectory(state.model, target_k=state.target_k)
        for states in race.by_candidate().values()
        for state in states[: -(-len(states) // 4)]
    ]


def _on_a_part(states: Sequence[Trajectory], rows: Rows, frame: Frame, settings: Settings) -> Race:
    """Return a race over every fourth row of the sample."""
    n_rows = count_rows(rows.sample)
    part = cut(take_rows(rows.sample, np.arange(0, n_rows, _SCREENED)))
    return Race(states, OverBlocks.of(part, frame, rows.profile), settings)


def improve(race: Race, rows: Rows, search: Search) -> list[Winner]:
    """Try to leave each candidate's best optimum by splitting and merging, while that helps."""
    n_rows = count_rows(rows.sample)
    seeds = Seeds.of(rows, race.evidence.frame)
    rng = np.random.default_rng([search.seed, search.n_init])
    prior = race.settings.prior
    atoms = find_atoms(seeds, prior)
    best = race.best()
    # passes over all the rows are the user's to limit: a run that used them up gets no more
    open_keys = {key for key, s in best.items() if s.converged or not rows.complete}
    spent = 0.0
    for _ in range(IMPROVEMENTS):
        proposals = []
        costs = {key: flops_a_row([best[key]]) * n_rows * TRIAL_PASSES for key in open_keys}
        if spent + sum(costs.values()) > _IMPROVEMENT_FLOPS * len(best):
            break
        for key, cost in sorted(costs.items()):
            most = max(2, min(_PROPOSALS, int(_IMPROVEMENT_FLOPS / cost)))
            moved = split_and_merge(best[key].model, seeds, rng, most)
            moved += onto_atoms(best[key].model, seeds, prior, atoms)
            proposals += [Trajectory(model, target_k=best[key].target_k) for model in moved]
            spent += cost * len(moved)
        if not proposals or spent > _IMPROVEMENT_FLOPS * len(best):
            break
        ahead = _ahead(proposals, [best[key] for key in sorted(open_keys)], race, rows)
        final = race.again(ahead)
        final.run(n_rows)
        better = {
            key: state
            for key, state in final.best().items()
            if race.rank(state)[:2] <= race.rank(best[key])[:2]
            and state.log_likelihood > best[key].log_likelihood + WORTH_IT
        }
        best |= better
        open_keys = set(better)
    return [race.winner(state) for state in best.values()]


def _ahead(
    proposals: Sequence[Trajectory],
    incumbents: Sequence[Trajectory],
    race: Race,
    rows: Rows,
) -> list[Trajectory]:
    """Run proposals against those they want to replace for a while; return the best if it is new.

    Where passes are dear that is done on a part of the sample, on which the incumbents get the same
    passes, for the sake of fairness: a model fits the rows best that it was fitted to.
    """
    settings = replace(race.settings, max_iter=TRIAL_PASSES)
    known = [Trajectory(state.model, target_k=state.target_k) for state in incumbents]
    entrants = [*known, *proposals]
    n_rows = count_rows(rows.sample)
    if n_rows * flops_a_row(entrants) > CHEAP_PASS:
        trial = _on_a_part(entrants, rows, race.evidence.frame, settings)
    else:
        trial = race.again(entrants, settings)
    trial.run(n_rows)
    return [
        Trajectory(state.model, target_k=state.target_k)
        for state in trial.best().values()
        if state not in known
    ]
