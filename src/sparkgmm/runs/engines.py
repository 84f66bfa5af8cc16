"""What a run begins with, from earlier ones, and how it is fitted: by EM, an update, or MLlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession

from sparkgmm.core.columns import hidden_features
from sparkgmm.core.em import Settings
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.fit import Fit, check_possible, check_rows, fit
from sparkgmm.core.history import History
from sparkgmm.core.judging import Course, judge
from sparkgmm.core.model import from_mixture
from sparkgmm.core.prior import Bounded
from sparkgmm.core.rows import Rows
from sparkgmm.core.search import Search
from sparkgmm.core.selection import choose
from sparkgmm.core.update import update
from sparkgmm.errors import ConfigurationError
from sparkgmm.mixture import Mixture
from sparkgmm.options import MISSING
from sparkgmm.runs.config import FitConfig, ModelConfig
from sparkgmm.runs.drift_check import (
    ComparedRun,
    check_same_features,
    open_compared_run,
    previous_run,
)
from sparkgmm.runs.folder import RunFolder, load_mixture
from sparkgmm.runs.state import BegunRun
from sparkgmm.runs.statistics_file import BaseRun, find_base_run
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.file_systems import Use
from sparkgmm.spark.mllib import assemble, fit_mllib
from sparkgmm.spark.source import Features
from sparkgmm.spark.storage import Folder

Say = Callable[[str], None]


@dataclass(frozen=True)
class EarlierRuns:
    """What earlier runs give to this one.

    `start` is where a warm start begins, `compared` what the drift section compares with, `base`
    what an update goes on from.
    """

    start: Mixture | None
    compared: ComparedRun | None
    base: BaseRun | None

    @classmethod
    def open(
        cls,
        spark: SparkSession,
        config: FitConfig,
        run: RunFolder,
        begun: BegunRun | None,
        overwrite: bool,
        say: Say,
    ) -> EarlierRuns:
        """Read them; `begun` is what an unfinished attempt of this run was begun with."""
        start = _warm_start(spark, config, run, say)
        compared = open_compared_run(spark, config, run, say)
        base = find_base_run(spark, config, run, begun, overwrite)
        if base is None and config.model.update is not None:
            say(f"no run of {config.model.update} is before this one: its rows are fitted")
        return cls(start, compared, base)

    def check_features(self, names: Sequence[str], beside: Sequence[str] = ()) -> None:
        """Refuse to go on from, or to compare with, mixtures of other features.

        Those `beside` are categorical or counts.
        """
        if self.base is not None:
            self.base.check_features(names)
        check_same_features(self.compared, names, beside)

    @property
    def updated_from(self) -> dict[str, str] | None:
        """How manifest.json names the run that an update goes on from."""
        return None if self.base is None else self.base.named()


def as_search(model: ModelConfig, missing: str = MISSING.default) -> Search:
    """Return the search that a configuration asks for; `missing` is what NaN in features is."""
    return Search(
        k=tuple(model.k),
        covariance_type=tuple(model.covariance_type),
        criterion=model.criterion,
        init=model.init,
        n_init=model.n_init,
        seed=model.seed,
        settings=Settings(tol=model.tol, max_iter=model.max_iter, prior=Bounded(model.reg_covar)),
        missing=missing,
    )


def asks_for_products(model: ModelConfig) -> bool:
    """Return whether an engine or a covariance type asks for products of features."""
    return model.engine == "mllib" or as_search(model).products


def _warm_start(spark: SparkSession, config: FitConfig, run: RunFolder, say: Say) -> Mixture | None:
    """Return the model to start from; None where there is none, or it is no candidate's kind."""
    path, model = config.model.warm_start, config.model
    if path is None:
        return None
    folder: Folder | None = Folder(spark, path, Use("model.warm_start", ConfigurationError))
    if folder is not None and folder.uri == run.root.uri:
        folder = previous_run(run)
    if folder is None:
        say(f"no earlier run in {run.root_path}: model.warm_start begins cold")
        return None
    mixture = load_mixture(folder)
    if mixture.k in model.k and mixture.covariance_type in model.covariance_type:
        return mixture
    one = len(model.k) * len(model.covariance_type) == 1
    found = f"model.warm_start {path!r} has k = {mixture.k} and covariance_type "
    if one:
        raise ConfigurationError(
            f"{found}{mixture.covariance_type}, the configuration {model.k[0]} and "
            f"{model.covariance_type[0]}: make them equal"
        )
    say(f"{found}{mixture.covariance_type}, which is no candidate: all begin cold")
    return None


def solve(
    df: DataFrame,
    rows: Rows,
    features: Features,
    model: ModelConfig,
    earlier_runs: EarlierRuns,
    terminal: Terminal,
) -> Fit:
    """Fit the rows by the engine of the configuration, from what earlier runs have to give.

    Raises
    ------
    ConfigurationError
        If the earlier model has other features.
    InputError
        If no mixture of that many components can be fitted to the rows.
    FitError
        If every candidate is degenerate.
    """
    if earlier_runs.base is not None:
        return _update(rows, features, model, earlier_runs.base, terminal)
    if model.engine == "mllib":
        check_rows(rows, max(model.k), features.names)
        check_possible(rows.profile, as_search(model))
        return _fit_by_mllib(df, rows, features, model, terminal)
    start = earlier_runs.start
    if start is not None and start.features not in (None, features.names):
        raise ConfigurationError(
            f"model.warm_start has features {start.features}, the input {features.names}: name the "
            "same in the same order"
        )
    with terminal.fitting(rows.profile.n_rows, model.max_iter) as progress:
        search = as_search(model, "model" if features.missing else MISSING.default)
        return fit(rows, search, features.names, None, progress, validate=True, earlier=start)


def _update(
    rows: Rows, features: Features, model: ModelConfig, base: BaseRun, terminal: Terminal
) -> Fit:
    before = base.history.decayed(model.decay)
    terminal.say(
        f"goes on from run {base.run_id}: {before.n_rows:,} rows, which count as "
        f"{before.profile.weight:,.6g} beside the new ones"
    )
    with terminal.fitting(rows.profile.n_rows, model.max_iter) as progress:
        missing = "model" if features.missing else MISSING.default
        settings = as_search(model).settings
        return update(rows, before, settings, features.names, progress, missing)


def _fit_by_mllib(
    df: DataFrame, rows: Rows, features: Features, model: ModelConfig, terminal: Terminal
) -> Fit:
    """Let MLlib fit from each seed, and judge what it returns by one pass of ours."""
    evidence = OverRows.of(rows)
    prior = Bounded(0.0).over(rows, evidence)
    vectors = assemble(df, features).cache()
    found = []
    try:
        for seed in range(model.seed, model.seed + model.n_init):
            terminal.say(f"MLlib fits k = {model.k[0]} from seed {seed}")
            mixture, n_iter = fit_mllib(
                vectors, features.names, model.k[0], model.tol, model.max_iter, seed
            )
            fitted = from_mixture(mixture, evidence.frame)
            [measured] = evidence.measure([fitted], "log-likelihood of MLlib's mixture")
            course = Course((measured.log_likelihood,) * n_iter, n_iter < model.max_iter)
            candidate = judge(fitted, measured, evidence, prior, course, features.names)
            found.append((candidate, History.of(fitted, measured, evidence)))
    finally:
        vectors.unpersist()
    best = choose([candidate for candidate, _ in found], "bic")
    [history] = [history for candidate, history in found if candidate is best]
    best = replace(best, hidden=hidden_features(rows.sample, features.names))
    return Fit(best, (best,), best.n_iter, history)
