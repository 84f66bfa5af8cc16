"""What a run's report says of the runs before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparkgmm.core.drift import Crossing, Drift, Labelled


@dataclass(frozen=True)
class PastRun:
    """A run among the last ones: its weights by label, and what it said of the one before.

    `mean_log_likelihood` is that of its rows under its own mixture, `mean_log_density` under the
    one that it was compared with, both in nats a row. What was not measured is None.
    """

    run_id: str
    weights: Mapping[int, float]
    mean_log_likelihood: float | None
    mean_log_density: float | None
    divergence: float | None
    outlier_share: float | None
    verdict: str


@dataclass(frozen=True)
class PastRuns:
    """All that a report says of the runs before.

    `against` is the run compared with, and it and `drift` are None where there was none; `runs`
    are the last runs, the newest, which is the report's, last. `limits` holds the thresholds by
    level, warn and fail, and measure.
    """

    against: str | None
    labelled: Labelled
    drift: Drift | None
    crossed: Sequence[Crossing]
    runs: Sequence[PastRun]
    limits: Mapping[str, Mapping[str, float | None]]
