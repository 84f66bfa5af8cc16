"""The compare job: the same rows through ours, scikit-learn, MLlib and k-means."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from sparkgmm.core.evidence import OverRows
from sparkgmm.core.fit import check_rows, fit
from sparkgmm.core.model import from_mixture
from sparkgmm.core.rows import Rows, draw_rows, pilot_rows
from sparkgmm.core.sample import Sample
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import ConfigurationError, FitError, option_names
from sparkgmm.mixture import Array, Mixture
from sparkgmm.options import KEYS
from sparkgmm.runs.config import CompareConfig, ModelConfig
from sparkgmm.runs.engines import as_search, asks_for_products
from sparkgmm.runs.folder import to_json
from sparkgmm.runs.reading import check_valid, open_input, plan_input, without_constants
from sparkgmm.runs.terminal import Terminal
from sparkgmm.scikit import mixture_from_sklearn
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.components import component_rows
from sparkgmm.spark.file_systems import first_line
from sparkgmm.spark.mllib import assemble, fit_kmeans, fit_mllib
from sparkgmm.spark.source import Features
from sparkgmm.spark.storage import Folder

if TYPE_CHECKING:
    from sparkgmm.report.comparison import Comparison, Solved


@dataclass(frozen=True)
class Problem:
    """What every peer gets: rows near Spark, rows to draw, and the k and type to fit."""

    vectors: DataFrame
    blocks: Blocks
    sample_rows: int
    sample: Sample
    rows: Rows
    features: Features
    model: ModelConfig
    ours: Mixture

    @property
    def n_rows(self) -> int:
        """All rows that are used."""
        return self.rows.profile.n_rows

    def draw(self) -> Array:
        """Bring the rows for a peer that runs on one machine into memory, (n, d)."""
        numbers = draw_rows(self.n_rows, self.model.seed, self.sample_rows)
        return self.blocks.take(numbers).values.T.astype(np.float64)


@option_names(KEYS)
def plan_compare(spark: SparkSession, config: CompareConfig) -> str:
    """Say in words what the job would do."""
    return "\n".join(
        [
            *plan_input(spark, config),
            *(f"note     {note}" for note in _without_effect(config)),
            f"compares sparkgmm with {', '.join(config.compare.peers)}",
            f"writes   {config.output.path}/compare.html, compare.json, plots/",
        ]
    )


def _without_effect(config: CompareConfig) -> list[str]:
    """Say which settings of a fit, whose configuration may serve here too, a comparison ignores."""
    model, default = config.model, ModelConfig()
    notes = [
        f"model.{key} has no effect on a comparison"
        for key in ("engine", "warm_start", "decay")
        if getattr(model, key) != getattr(default, key)
    ]
    if config.input.invalid_rows == "quarantine":
        notes.append("invalid rows are dropped: a comparison keeps no quarantine")
    return notes


@option_names(KEYS)
def run_compare(spark: SparkSession, config: CompareConfig, terminal: Terminal) -> None:
    """Do the job.

    Raises
    ------
    SparkGmmError
        If the configuration, the input or our own fit is at fault. A peer that fails is a result.
    """
    _check_installed()
    root = Folder(spark, config.output.path)
    root.check_writable()
    for note in _without_effect(config):
        terminal.say(note)
    opened, features = open_input(spark, config)
    df = opened.df
    with ExitStack() as held:
        products = asks_for_products(config.model)
        blocks = held.enter_context(Blocks(df, features, config.input.place, products))
        check_valid(blocks.read, features, config.input.invalid_rows)
        blocks, features, _ = without_constants(df, blocks, features, config.input, held)
        comparison = _solve_all(df, blocks, features, config, terminal)
    from sparkgmm.report.compare_page import compare_page

    names = [s.title for s in comparison.solved[1:]]
    for name, content in compare_page(comparison, f"sparkgmm beside {', '.join(names)}").items():
        root.write(name, content)
    root.write("compare.json", to_json(_as_json(comparison, config)).encode())
    terminal.result(f"{comparison.verdict()}\npage {root.path}/compare.html")


def _check_installed() -> None:
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"{error.name} is not installed: pip install 'sparkgmm[compare]'"
        ) from None


def _solve_all(
    df: DataFrame, blocks: Blocks, features: Features, config: CompareConfig, terminal: Terminal
) -> Comparison:
    from sparkgmm.report.comparison import TITLES, Comparison

    rows = blocks.rows(config.model.seed, pilot_rows(max(config.model.k)))
    check_rows(rows, max(config.model.k), features.names)
    terminal.say("sparkgmm fits")
    ours = _ours(rows, features, config.model)
    assert ours.mixture is not None
    vectors = assemble(df, features).cache()
    sample = Sample.of(rows)
    n_drawn = config.compare.sample_rows
    problem = Problem(vectors, blocks, n_drawn, sample, rows, features, config.model, ours.mixture)
    solved = [ours]
    try:
        if not {"mllib", "kmeans"}.isdisjoint(config.compare.peers):
            vectors.count()  # in memory before the clock runs, as ours are
        for name in config.compare.peers:
            terminal.say(f"{TITLES[name]} fits")
            solved.append(_timed(name, problem))
    finally:
        vectors.unpersist()
    return Comparison(_measured(solved, rows), sample)


def _ours(rows: Rows, features: Features, model: ModelConfig) -> Solved:
    from sparkgmm.report.comparison import Solved

    begun = time.perf_counter()
    found = fit(rows, as_search(model), features.names)
    return Solved(
        "sparkgmm",
        found.chosen.mixture,
        time.perf_counter() - begun,
        found.chosen.n_iter,
        found.chosen.converged,
        rows.profile.n_rows,
    )


def _timed(name: str, problem: Problem) -> Solved:
    from sparkgmm.report.comparison import Solved

    begun = time.perf_counter()
    try:
        solved = PEERS[name](problem)
    except Exception as error:  # whatever it is: the others are still worth a page
        return Solved(name, failed=first_line(error))
    if solved.seconds:
        return solved
    return replace(solved, seconds=time.perf_counter() - begun)


def _sklearn(problem: Problem) -> Solved:
    from sklearn.mixture import GaussianMixture

    from sparkgmm.report.comparison import Solved

    if problem.features.weight is not None:
        raise FitError("it takes no row weights")
    X = problem.draw()
    begun = time.perf_counter()
    model = problem.model
    estimator = GaussianMixture(
        problem.ours.k,
        covariance_type=FAMILIES[problem.ours.covariance_type].known_as,
        tol=model.tol,
        max_iter=model.max_iter,
        n_init=model.n_init,
        random_state=model.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge is in the table
        estimator.fit(X)
    seconds = time.perf_counter() - begun
    note = ""
    if len(X) < problem.n_rows:
        note = f"fitted to a random sample of {len(X):,} of the {problem.n_rows:,} rows"
    mixture = mixture_from_sklearn(estimator, problem.features.names)
    passes, converged = estimator.n_iter_, bool(estimator.converged_)
    return Solved("sklearn", mixture, seconds, passes, converged, len(X), note=note)


def _mllib(problem: Problem) -> Solved:
    from sparkgmm.report.comparison import Solved

    model, ours = problem.model, problem.ours
    mixture, n_iter = fit_mllib(
        problem.vectors,
        problem.features.names,
        ours.k,
        model.tol * problem.n_rows,  # MLlib's is about the sum over the rows
        model.max_iter,
        model.seed,
    )
    note = "one random start; it has no choice of starts"
    if ours.covariance_type != mixture.covariance_type:
        note += (
            f"; {mixture.covariance_type} covariances, for it has no {ours.covariance_type} ones"
        )
    converged = n_iter < model.max_iter
    return Solved("mllib", mixture, 0.0, n_iter, converged, problem.n_rows, note=note)


def _kmeans(problem: Problem) -> Solved:
    """Cluster, and describe the clusters by their own weights, means and covariances."""
    from sparkgmm.report.comparison import Solved

    begun = time.perf_counter()
    model, ours, sample = problem.model, problem.ours, problem.sample
    centres, scale, n_iter = fit_kmeans(problem.vectors, ours.k, model.max_iter, model.seed)
    seconds = time.perf_counter() - begun
    # distances about the centres themselves: an offset of 1e9 must cost no digits
    squares = [(((sample.X - c * scale) / scale) ** 2).sum(axis=1) for c in centres]
    labels = np.argmin(np.array(squares), axis=0)
    mass = np.array([sample.weights[labels == j].sum() for j in range(len(centres))])
    if (mass == 0).any() or len(centres) < ours.k:
        raise FitError(f"only {int((mass > 0).sum())} of {ours.k} clusters have rows")
    means, covariances = [], []
    for j in range(ours.k):
        mine, w = sample.X[labels == j], sample.weights[labels == j]
        means.append(mine[0] + np.average(mine - mine[0], axis=0, weights=w))
        covariances.append(np.cov(mine.T, aweights=w, ddof=0).reshape(ours.d, ours.d))
    mixture = Mixture(mass / mass.sum(), means, covariances, features=problem.features.names)
    return Solved(
        "kmeans",
        mixture,
        seconds,
        n_iter,
        n_iter < model.max_iter,
        problem.n_rows,
        labels=labels,
        note="Spark's, over features divided by their standard deviations; its clusters' Gaussians "
        + ("" if sample.complete else "from the sample, ")
        + "by hard assignment",
    )


PEERS: dict[str, Callable[[Problem], Solved]] = {
    "sklearn": _sklearn,
    "mllib": _mllib,
    "kmeans": _kmeans,
}


def _measured(solved: list[Solved], rows: Rows) -> list[Solved]:
    """Give each mixture its mean log-likelihood over all the rows, by one scan for all."""
    evidence = OverRows.of(rows)
    frame = evidence.frame
    found = {s.name: from_mixture(s.mixture, frame) for s in solved if s.mixture is not None}
    results = evidence.measure(list(found.values()), "log-likelihoods of the mixtures compared")
    means = {
        name: measured.log_likelihood - frame.log_volume
        for name, measured in zip(found, results, strict=True)
    }
    return [replace(s, mean_log_likelihood=means[s.name]) if s.name in means else s for s in solved]


def _as_json(comparison: Comparison, config: CompareConfig) -> dict[str, Any]:
    entries = []
    for s in comparison.solved:
        entry: dict[str, Any] = {"name": s.name, "failed": s.failed or None, "note": s.note or None}
        if s.mixture is not None:
            entry |= {
                "seconds": s.seconds,
                "passes": s.passes,
                "rows": s.rows,
                "converged": s.converged,
                "mean_log_likelihood": s.mean_log_likelihood,
                "short_by": comparison.short_by(s),
                "adjusted_rand_index": comparison.adjusted_rand[s.name],
                "matched": comparison.matched[s.name],
                "weights": s.mixture.weights.tolist(),
                "means": s.mixture.means.tolist(),
                "covariances": [row.covariance for row in component_rows(s.mixture)],
            }
            if s.name in comparison.differences:
                d = comparison.differences[s.name]
                entry["differences"] = {
                    "weights": d.weights,
                    "means": d.means,
                    "covariances": d.covariances,
                }
        entries.append(entry)
    return {
        "verdict": comparison.verdict(),
        "features": list(comparison.ours.features or []),
        "covariance_type": comparison.ours.covariance_type,
        "solvers": entries,
        "configuration": config.resolved(),
    }
