"""Jobs over tables with nulls, which the mixture integrates over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from helpers.data_sets import clusters
from sparkgmm import Mixture, fit_array
from sparkgmm.errors import InputError
from sparkgmm.mixture import Array
from sparkgmm.runs.config import FitConfig, ScoreConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.score_job import run_score
from sparkgmm.runs.terminal import Terminal

NAMES = ["a", "b", "c"]
N = 900


def table(seed: int) -> Array:
    """Return three clusters in three columns, a fifth of the values missing, one row throughout."""
    rng = np.random.default_rng(seed)
    X, _ = clusters(rng, 3, 3, N, 6.0)
    X[rng.random(X.shape) < 0.2] = np.nan
    X[7] = np.nan
    return X


def write(folder: Path, X: Array) -> Path:
    """Write rows in two files: null in the one, NaN in the other."""
    folder.mkdir(exist_ok=True)
    for i, rows in enumerate(np.array_split(X, 2)):
        columns = [pa.array(column, from_pandas=i == 0) for column in rows.T]
        pq.write_table(pa.table(columns, names=NAMES), folder / f"{i}.parquet")
    return folder


class Jobs:
    """Fits and scores below a folder."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self.spark, self.folder = spark, folder

    def fit(self, X: Array, run_id: str = "first", **sections: Any) -> Path:
        """Run a fit job and return the run."""
        values: dict[str, Any] = {
            "input": {"path": str(write(self.folder / run_id, X)), "missing": "model"},
            "model": {"k": 3, "init": "k-means++", "n_init": 3},
            "output": {"path": str(self.folder / "runs"), "run_id": run_id, "report": False},
        }
        for name, section in sections.items():
            values[name] = {**values.get(name, {}), **section}
        run_fit(self.spark, FitConfig.model_validate(values), Terminal(), overwrite=False)
        return self.folder / "runs" / run_id


@pytest.fixture
def jobs(spark: SparkSession, tmp_path: Path) -> Jobs:
    return Jobs(spark, tmp_path)


def read(run: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((run / name).read_text()))


def mixture_of(run: Path) -> Mixture:
    return Mixture.from_json((run / "model.json").read_text())


def test_every_row_counts_and_the_model_is_that_of_the_rows_in_memory(jobs: Jobs) -> None:
    X = table(0)
    run = jobs.fit(X, model={"init": "auto", "n_init": 2}, output={"report": True})
    metrics = read(run, "metrics.json")
    assert (metrics["rows_read"], metrics["rows_used"], metrics["rows_invalid"]) == (N, N, 0)
    assert metrics["missing_by_column"] == dict(
        zip(NAMES, np.isnan(X).sum(axis=0).tolist(), strict=True)
    )
    mixture = mixture_of(run)
    assert mixture.missing == "model"
    assert metrics["log_likelihood"] == pytest.approx(mixture.log_likelihood(X), rel=1e-12)
    expected = fit_array(X, 3, missing="model", n_init=2)
    np.testing.assert_allclose(mixture.means, expected.mixture.means, atol=1e-4)
    page = (run / "report.html").read_text()
    assert "What is missing" in page
    assert f"{np.isnan(X[:, 0]).mean():.2%}" in page


def test_passes_on_the_executors_have_the_bits_of_those_on_the_driver(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, quick = table(0), {"model": {"n_init": 1, "init": "k-means++"}}
    here = (jobs.fit(X, "here", **quick) / "model.json").read_bytes()
    jobs.spark.conf.set("spark.sparkgmm.driverBytes", "0")
    try:
        there = (jobs.fit(X, "there", **quick) / "model.json").read_bytes()
    finally:
        jobs.spark.conf.unset("spark.sparkgmm.driverBytes")
    assert here == there


def test_rows_with_nulls_are_scored_by_a_model_that_was_fitted_to_such(jobs: Jobs) -> None:
    run = jobs.fit(table(0))
    X = table(1)
    X[3, 1] = np.inf
    config = {
        "input": {"path": str(write(jobs.folder / "new", X)), "invalid_rows": "quarantine"},
        "model": str(run),
        "output": {
            "path": str(jobs.folder / "scored"),
            "columns": ["component", "probability", "log_density"],
            "outlier_quantile": 0.01,
        },
    }
    run_score(jobs.spark, ScoreConfig.model_validate(config), Terminal())
    rows = jobs.spark.read.parquet(str(jobs.folder / "scored")).toPandas()
    assert len(rows) == N - 1
    mixture = mixture_of(run)
    values = rows[NAMES].to_numpy(float)
    np.testing.assert_allclose(rows["log_density"], mixture.log_density(values), atol=1e-12)
    np.testing.assert_array_equal(rows["component"], mixture.predict(values))
    assert np.isnan(values).any()


def test_an_update_and_its_drift_go_on_over_nulls(jobs: Jobs) -> None:
    drift = {"drift": {"warn": {"divergence": 0.1}}}
    jobs.fit(table(0), **drift)
    second = jobs.fit(table(1), "second", model={"update": str(jobs.folder / "runs")}, **drift)
    both = np.concatenate([table(0), table(1)])
    whole = fit_array(both, 3, missing="model", init="k-means++", n_init=3).mixture
    np.testing.assert_allclose(mixture_of(second).means, whole.means, atol=0.05)
    metrics = read(second, "metrics.json")
    assert metrics["log_likelihood"] == pytest.approx(
        mixture_of(second).log_likelihood(table(1)), rel=1e-12
    )
    objective = metrics["objectives"]
    assert (np.diff(objective) >= -1e-6).all()
    # a lower bound of the log-likelihood of all rows, and not far below it
    assert 0 <= mixture_of(second).log_likelihood(both) - objective[-1] < 5.0
    assert mixture_of(second).missing == "model"
    assert read(second, "drift.json")["measures"]["divergence"] < 0.1


def test_infinite_values_and_columns_without_values_are_errors(jobs: Jobs) -> None:
    X = table(0)
    X[5, 2] = -np.inf
    with pytest.raises(InputError, match=r"1 of 900 rows are invalid \(c infinite in 1\)"):
        jobs.fit(X, "infinite")
    X = table(0)
    X[2:, 1] = np.nan
    with pytest.raises(InputError, match=r"feature 'b' has [012] values in 900 rows"):
        jobs.fit(X, "empty")
