"""How well a candidate describes rows that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sparkgmm.core.em import Trajectory
from sparkgmm.core.profile import Block, Frame, count_rows, take_rows
from sparkgmm.core.rows import Rows, cut, scan_blocks
from sparkgmm.core.search import Race, Search, flops_a_row
from sparkgmm.core.statistics import Kernel, Scan, Sums

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
    heights = np.zeros(len(states))
    weight = 0.0
    for fold in range(_FOLDS):
        hidden = np.arange(len(numbers)) % _FOLDS == fold
        seen = cut(take_rows(rows.sample, numbers[~hidden]))
        unseen = cut(take_rows(rows.sample, numbers[hidden]))
        refitted = _refit(states, seen, rows, search, frame)
        measured_in = frame.over(unseen)
        scan = Scan.of([state.model for state in refitted], measured_in)
        results = scan.read(scan_blocks([unseen], scan.kernels))
        heights += measured_in.weight * np.array([height for _, height in results])
        weight += measured_in.weight
    return [float(height / weight - frame.log_volume) for height in heights]


def _affordable(states: Sequence[Trajectory], n: int) -> int:
    cost = _FOLDS * _REFIT_PASSES * flops_a_row(states)
    return min(n, max(_LEAST_ROWS, int(_FLOPS / cost)))


def _refit(
    states: Sequence[Trajectory], seen: Sequence[Block], rows: Rows, search: Search, frame: Frame
) -> list[Trajectory]:
    def scan(kernels: Sequence[Kernel], label: str) -> list[Sums]:
        return scan_blocks([seen], kernels)

    settings = replace(search.settings, max_iter=_REFIT_PASSES)
    starts = [Trajectory(state.model) for state in states]
    race = Race(starts, frame.over(seen), rows.profile, settings, scan)
    race.run(n_rows=0)  # none leaves early
    return race.states
