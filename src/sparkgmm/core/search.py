"""Which starts are tried, on which rows, and which go on: the driver of the EM coroutines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from sparkgmm.core.covariance import n_features
from sparkgmm.core.em import Settings, Trajectory, em
from sparkgmm.core.initialisation import INIT, SEEDING_ROWS, model_around
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.rows import Rows, scan_blocks
from sparkgmm.core.selection import flaw
from sparkgmm.core.statistics import Kernel, Scan, Sums

_PILOT_PASSES = 100
# Below this many floating-point operations a pass every start runs to its end, and nothing has to
# be guessed. Above it the worse half of the starts leaves every few passes.
_CHEAP_PASS = 2e8
_HALVING_PASSES = 12


@dataclass(frozen=True)
class Search:
    """What to fit: every k with every covariance type, from `n_init` starts each."""

    k: tuple[int, ...] = (2,)
    covariance_type: tuple[str, ...] = ("full",)
    criterion: str = "bic"
    init: str = "k-means++"
    n_init: int = 10
    seed: int = 0
    settings: Settings = field(default_factory=Settings)


Progress = Callable[[int, int, float, float], None]
"""Called after a pass: its number, live candidates, best mean log-likelihood, its distance."""


def draw_starts(rows: Rows, search: Search, frame: Frame) -> list[Trajectory]:
    """Draw `n_init` starts for each k and covariance type from the sample."""
    Z, w = frame.standardise(rows.sample)
    thin = slice(None, None, max(1, -(-len(Z) // SEEDING_ROWS)))
    Z, w = Z[thin], w[thin]
    starts = []
    for i in range(search.n_init):
        rng = np.random.default_rng([search.seed, i])
        centres = INIT[search.init](Z, w, max(search.k), rng)
        starts += [
            Trajectory(model_around(centres[:k], Z, w, kind, frame))
            for k in search.k
            for kind in search.covariance_type
        ]
    return starts


def pilot(rows: Rows, search: Search, frame: Frame) -> list[Trajectory]:
    """Run all starts on the sample and return the best of each kind, to begin anew on all rows."""

    def scan(kernels: Sequence[Kernel], label: str) -> list[Sums]:
        return scan_blocks([rows.sample], kernels)

    starts = draw_starts(rows, search, frame)
    sampled = frame.over(rows.sample)
    race = Race(
        starts, sampled, rows.profile, replace(search.settings, max_iter=_PILOT_PASSES), scan
    )
    race.run(n_rows=sum(block.n_rows for block in rows.sample))
    return [Trajectory(best.model) for best in race.best().values()]


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
    ) -> None:
        self.states = list(states)
        self._frame = frame
        self._profile = profile
        self._settings = settings
        self._scan = scan
        self._progress = progress

    def run(self, n_rows: int) -> None:
        """Advance all, a pass over the data at a time, until each has ended or left."""
        climbs = [em(state, self._frame, self._settings) for state in self.states]
        models = {i: next(climb) for i, climb in enumerate(climbs)}
        halve = n_rows * self._flops_a_row() > _CHEAP_PASS
        n_pass = 0
        while models:
            n_pass += 1
            scan = Scan.of(list(models.values()), self._frame)
            label = f"EM pass {n_pass}, {len(models)} candidate{'s' * (len(models) > 1)}"
            measured = scan.read(self._scan(scan.kernels, label))
            for i, result in zip(list(models), measured, strict=True):
                try:
                    models[i] = climbs[i].send(result)
                except StopIteration:
                    del models[i]
            if halve and n_pass % _HALVING_PASSES == 0:
                for i in self._worse_half(models):
                    del models[i]
            if self._progress:
                leader = max(self.states, key=lambda state: state.log_likelihood)
                height = leader.log_likelihood - self._frame.log_volume
                self._progress(n_pass, len(models), height, leader.distance)

    def best(self) -> dict[tuple[str, int], Trajectory]:
        """Return the best sound run of each kind, or the best at all where none is sound."""
        kinds: dict[tuple[str, int], list[Trajectory]] = {}
        for state in self.states:
            kinds.setdefault(state.kind, []).append(state)
        return {kind: min(states, key=self._rank) for kind, states in kinds.items()}

    def _rank(self, state: Trajectory) -> tuple[bool, float]:
        reason = flaw(state, self._frame, self._profile, self._settings.reg_covar)
        return reason is not None, -state.log_likelihood

    def _worse_half(self, live: Iterable[int]) -> list[int]:
        kinds: dict[tuple[str, int], list[int]] = {}
        for i in live:
            kinds.setdefault(self.states[i].kind, []).append(i)
        leaving = []
        for runs in kinds.values():
            runs.sort(key=lambda i: self._rank(self.states[i]))
            leaving += runs[(len(runs) + 1) // 2 :]
        return leaving

    def _flops_a_row(self) -> int:
        d = len(self._profile.mean)
        return sum(4 * k * n_features(kind, d) for kind, k in (s.kind for s in self.states))
