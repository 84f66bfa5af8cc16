"""Runs for the tests of the report, made from an array: no Spark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from helpers.builders import rows_of
from helpers.data_sets import faithful, random_mixture
from sparkgmm.core.drift import MEASURES, Crossing, Drift, Estimate, Labelled
from sparkgmm.core.drift import changes as changed
from sparkgmm.core.fit import fit
from sparkgmm.core.rows import LocalRows
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.mixture import Array, Mixture
from sparkgmm.parts import Column
from sparkgmm.report.page import report
from sparkgmm.report.past_runs import PastRun, PastRuns
from sparkgmm.report.run import Run
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.engines import as_search
from sparkgmm.runs.record import Stopwatch, metrics_of
from sparkgmm.spark.blocks import Counts
from sparkgmm.spark.cluster_rows import Read
from sparkgmm.spark.source import Features

HOSTILE = [
    "<script>alert(1)</script>",
    "等待时间",
    "$x$",
    "a & b",
    "\"double\" and 'single'",
    "long" * 75,
    "</script><img src=x onerror=alert(2)>",
    "{{ mixture.k }} {% raw %}",
    "&lt;b&gt; \\u003c",
]


def run_of(
    X: Array,
    *,
    weights: Array | None = None,
    features: Sequence[str] | None = None,
    start: Mixture | None = None,
    invalid: int = 0,
    invalid_rows: str = "fail",
    dropped: Sequence[str] = (),
    beside: tuple[Column, ...] = (),
    **model: Any,
) -> Run:
    """Fit an array as the job does and return what its report is made from.

    `model` is the section of that name, whose search is a short one; `start` takes the place of its
    starts. The last columns are those `beside` the numeric ones.
    """
    names = tuple(features or [f"x{i}" for i in range(X.shape[1] - len(beside))])
    kinds = {k: [c.name for c in beside if c.kind == k] for k in ("categorical", "counts")}
    config = FitConfig.model_validate(
        {
            "input": {
                "path": "data.csv",
                "features": list(names),
                **kinds,
                "invalid_rows": invalid_rows,
                "missing": "model" if np.isnan(X).any() else "invalid",
            },
            "model": {"init": "k-means++", "n_init": 2, **model},
            "output": {"path": "runs"},
        }
    )
    rows = rows_of(X, weights)
    if beside:
        rows = LocalRows.of_array(X, weights, 0, columns=beside)
    starts = None if start is None else [start]
    result = fit(rows, as_search(config.model, config.input.missing), names, starts)
    none = np.zeros(X.shape[1], dtype=np.int64)
    counts = Counts(len(X) + invalid, invalid, 0, 0, none, none, none)
    watch = Stopwatch({"read": 0.5, "fit": 1.5}, 0.0)
    read = Read(counts, len(X), X.nbytes, 1)
    columns = Features(names, names, None, None, single=False, beside=beside)
    max_iter = config.model.max_iter
    metrics = metrics_of(result, read, columns, list(dropped), (), watch, max_iter)
    manifest = {
        "format_version": 1,
        "run_id": "20261123T000000.000Z-0123abcd",
        "started": "2026-11-23T00:00:00+00:00",
        "finished": "2026-11-23T00:00:02+00:00",
        "configuration": config.resolved(),
        "versions": {"sparkgmm": "0.0", "spark": "4.3.0", "python": "3.11.7"},
        "spark": {"master": "local[2]", "application_id": "local-1"},
        "input": [{"path": "file:/data.csv", "bytes": X.nbytes, "modified_ms": 0}],
    }
    membership = Membership(result.chosen.mixture, Sample.of(rows))
    return Run(result.chosen, result.candidates, rows.profile, membership, metrics, manifest)


def run_from(
    mixture: Mixture, n: int = 3000, features: Sequence[str] | None = None, **options: Any
) -> Run:
    """Return a run of two passes over rows drawn from a mixture, begun at the mixture itself."""
    X, _ = mixture.sample(n, seed=1)
    model = {"k": mixture.k, "covariance_type": mixture.covariance_type, "max_iter": 2, **options}
    return run_of(X, features=features, start=mixture, **model)


@cache
def spread_out(d: int, k: int, covariance_type: str = "full") -> Mixture:
    """Return a mixture of components that stand well apart, in unlike units."""
    rng = np.random.default_rng([d, k])
    return random_mixture(rng, k, d, covariance_type, spread=6.0)


@cache
def ran(case: str) -> Run:
    """Return a run that several tests look at."""
    return CASES[case]()


@cache
def drawn(case: str) -> dict[str, bytes]:
    """Return the report of a run that several tests look at."""
    return report(ran(case))


def _warned() -> Run:
    """A run about which there is much to say."""
    rng = np.random.default_rng(5)
    X = rng.standard_t(2, (4000, 3))
    X[:, 1] = X[:, 0] + 1e-5 * rng.standard_normal(4000)
    return run_of(
        X,
        features=["speed", "the same speed", "height"],
        k=[2, 4],
        n_init=3,
        max_iter=5,
        reg_covar=1e-10,
        invalid=17,
        invalid_rows="quarantine",
        dropped=["version"],
    )


def _hostile() -> Run:
    return run_from(spread_out(len(HOSTILE), 3), 1500, HOSTILE)


def _timestamps() -> Run:
    """Features whose offsets leave few digits: nanoseconds, milliseconds, and a tiny rate."""
    plain = spread_out(3, 2)
    unit = np.array([3.6e12, 5e3, 1e-9]) / np.sqrt(np.diagonal(plain.covariances[0]))
    offset = np.array([1.7e18, 1.7e12, 0.0])
    moved = Mixture(
        plain.weights, offset + plain.means * unit, plain.covariances * np.outer(unit, unit)
    )
    return run_from(moved, 1200, ["nanoseconds", "milliseconds", "rate"])


def _gappy() -> Run:
    """A third of the values missing, more where the second component is; one row throughout."""
    X, labels = spread_out(3, 2).sample(900, seed=1)
    share = np.array([0.2, 0.5])[labels]
    X[np.random.default_rng(0).random(X.shape) < share[:, None] * [0, 1, 0.5]] = np.nan
    X[3] = np.nan
    return run_of(X, features=["never", "often", "seldom"], k=2)


def _mixed() -> Run:
    """Levels and counts beside two numeric columns, their names hostile, the counts dispersed."""
    rng = np.random.default_rng(3)
    z = np.repeat([0, 1], 600)
    levels = rng.choice(3, (2, 600), p=[0.7, 0.2, 0.1])
    X = np.stack(
        [
            rng.normal(3.0 * z, 1.0),
            rng.normal(size=1200),
            np.concatenate([levels[0], 2 - levels[1]]),
            rng.poisson(rng.gamma(0.5, 8.0, 1200)),
        ],
        axis=1,
    )
    beside = (
        Column(HOSTILE[3], "categorical", (HOSTILE[0], HOSTILE[5], HOSTILE[1])),
        Column("visits", "counts"),
    )
    return run_of(X, features=["a", HOSTILE[7]], beside=beside, k=2)


def _faithful() -> Run:
    return run_of(faithful(), features=["eruptions", "waiting"], k=[1, 2, 3])


def drifted(n_nights: int = 30, verdict: str = "failed", **changes: Any) -> Run:
    """A run in which a component moved, one appeared and one vanished, and the nights before it."""
    truth = spread_out(3, 4)
    run = run_from(truth, 1500, [HOSTILE[0], "a & b", "等待时间"], k=4)
    after = run.chosen.mixture
    sd = np.sqrt(np.einsum("kii->ki", after.covariances))
    means = after.means + 0.7 * sd * (np.arange(4) == 1)[:, None]
    means[3] += 50 * sd[3]
    old = Labelled.first(Mixture(after.weights, means, after.covariances), 1500)
    new = old.following(after, 1500)
    drift = Drift(old, new, tuple(changed(old, new)), Estimate(0.12, 1e-3), -7.5, 1.25, 0.04)
    nights = [
        PastRun(
            f"2026-11-{i + 1:02}", {0: 0.5, 1: 0.3, i % 3: 0.2}, -6.0, -6.1, 0.01, 0.001, "steady"
        )
        for i in range(n_nights - 1)
    ]
    last = PastRun("2026-11-30", {0: 0.5, 4: 0.5}, -6.2, -7.5, 0.12, 0.04, verdict)
    none = dict.fromkeys(MEASURES)
    limits = {"warn": none | {"divergence": 0.05}, "fail": none | {"divergence": 0.1}}
    crossed = [
        Crossing("fail", "divergence", 0.12, 0.1),
        Crossing("warn", "divergence", 0.12, 0.05),
    ]
    past = PastRuns("2026-11-29", new, drift, crossed, [*nights, last], limits)
    return replace(run, past=replace(past, **changes))


CASES = {
    "drifted": drifted,
    "faithful": _faithful,
    "gappy": _gappy,
    "hostile": _hostile,
    "mixed": _mixed,
    "warned": _warned,
    "timestamps": _timestamps,
    "d=1 k=1": lambda: run_from(spread_out(1, 1), 500),
    "d=1 k=3": lambda: run_from(spread_out(1, 3)),
    "d=2 k=30": lambda: run_from(spread_out(2, 30)),
    "d=3 k=1": lambda: run_from(spread_out(3, 1)),
    "d=6 k=3": lambda: run_from(spread_out(6, 3), 2000),
    "d=60 k=30": lambda: run_from(spread_out(60, 30, "diag"), 3000),
    "d=100 k=50": lambda: run_from(spread_out(100, 50, "diag"), 6000),
}
