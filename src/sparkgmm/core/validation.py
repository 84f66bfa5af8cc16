"""How well a candidate describes rows that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparkgmm.core.em import Trajectory
from sparkgmm.core.evidence import Evidence, OverBlocks
from sparkgmm.core.profile import Frame, count_rows, take_rows
from sparkgmm.core.race import Race, flops_a_row
from sparkgmm.core.rows import Rows, cut
from sparkgmm.core.search import Search

_FOLDS = 5
_REFIT_PASSES = 10
# What all refits may cost together: a fraction of a second, on fewer rows if need be.
_FLOPS = 5e9
_LEAST_ROWS = 1000


def held_out(
    states: Sequence[Trajectory], rows: Rows, search: Search, frame: Frame
) -> list[float | None]:
    """Return the mean log-likelihood a row, in nats in the data's units, of rows held out.

    Five folds of the sample: each candidate is refitted to four, from where it is, and measured on
    the fifth. None where the sample is too small to be cut.
    """
    n_rows = count_rows(rows.sample)
    numbers = np.arange(0, n_rows, max(1, n_rows // _affordable(states, n_rows)))
    if len(numbers) < 2 * _FOLDS:
        return [None] * len(states)
    log_likelihoods = np.zeros(len(states))
    weight = volume = 0.0
    for fold in range(_FOLDS):
        hidden = np.arange(len(numbers)) % _FOLDS == fold
        seen = cut(take_rows(rows.sample, numbers[~hidden]))
        unseen = cut(take_rows(rows.sample, numbers[hidden]))
        refitted = _refit(states, OverBlocks.of(seen, frame, rows.profile), search)
        hidden_rows = OverBlocks.of(unseen, frame, rows.profile)
        results = hidden_rows.measure([state.model for state in refitted], "rows held out")
        log_likelihoods += hidden_rows.frame.weight * np.array([m.log_likelihood for m in results])
        weight += hidden_rows.frame.weight
        volume += hidden_rows.frame.weight * hidden_rows.frame.log_volume
    # where values are missing each fold has its own volume; else all have that of the frame
    lost = frame.log_volume if frame.seen is None else volume / weight
    return [float(value / weight - lost) for value in log_likelihoods]


def _affordable(states: Sequence[Trajectory], n: int) -> int:
    cost = _FOLDS * _REFIT_PASSES * flops_a_row(states)
    return min(n, max(_LEAST_ROWS, int(_FLOPS / cost)))


def _refit(states: Sequence[Trajectory], evidence: Evidence, search: Search) -> list[Trajectory]:
    settings = replace(search.settings, max_iter=_REFIT_PASSES)
    race = Race([Trajectory(state.model) for state in states], evidence, settings)
    race.run(n_rows=0)  # none leaves early
    return race.states
