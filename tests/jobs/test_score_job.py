"""The score job from outside: from a fit to scored rows, exit codes, and tasks that die."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from sklearn.mixture import GaussianMixture

from helpers.scenarios import FAITHFUL, Done, Scenarios, command_line, look_at

pytestmark = [pytest.mark.spark, pytest.mark.long]

if TYPE_CHECKING:
    from conftest import Workplace

scenario = SCENARIOS = Scenarios()


def configuration(at: Workplace, path: str, *overrides: str) -> list[str]:
    """Write a configuration that scores `path` and return the arguments."""
    at.job = "score_gmm.py"
    values = {
        "input": {"path": path, "options": {"header": True}},
        "model": str(at.folder / "runs"),
        "output": {"path": str(at.folder / "scored")},
    }
    config = at.write("score.yaml", json.dumps(values))
    return command_line(config, overrides)


def a_run(at: Workplace) -> None:
    """Leave a run of two features without fitting one."""
    run = at.folder / "runs" / "a"
    run.mkdir(parents=True)
    model = {
        "format_version": 1,
        "features": ["eruptions", "waiting"],
        "weights": [1.0],
        "means": [[3.5, 71.0]],
        "covariances": [[[1.3, 14.0], [14.0, 185.0]]],
    }
    (run / "model.json").write_text(json.dumps(model))
    (run / "manifest.json").write_text("{}")
    (at.folder / "runs" / "LATEST").write_text("a\n")


def error_line(done: Done, code: int) -> str:
    """Assert what holds of every error that a user can cause, and return its line."""
    assert done.code == code, done.err
    assert len(done.errors) == 1, done.err
    signs = ("Traceback", "\tat ", "java.lang.", "Caused by", "sparkgmm met an invalid row")
    assert [sign for sign in signs if sign in done.err] == []
    assert done.out == ""
    assert not (done.folder / "scored").exists()
    assert not [p for p in done.folder.iterdir() if p.name.startswith(".scored")]
    return done.errors[0]


@scenario
def fitted_and_scored(at: Workplace) -> Done:
    fit = at.write(
        "fit.yaml",
        f"input: {{path: {FAITHFUL}, options: {{header: true}}}}",
        "model: {k: 2, n_init: 2, tol: 1e-9, reg_covar: 0}",
        f"output: {{path: {at.folder / 'runs'}, report: false}}",
    )
    assert at.spark_submit("--config", fit).code == 0
    return at.spark_submit(*configuration(at, FAITHFUL, "output.outlier_quantile=0.02"))


@look_at("fitted_and_scored")
def test_a_fitted_model_scores_the_rows_as_scikit_learn_would(
    outcome: Done, spark: SparkSession, faithful: np.ndarray
) -> None:
    assert outcome.code == 0, outcome.err
    assert re.search(r"^rows +272 read, 272 scored, 0 invalid", outcome.out)
    df = spark.read.parquet(str(outcome.folder / "scored"))
    assert df.dtypes == [
        ("eruptions", "double"),
        ("waiting", "int"),
        ("component", "int"),
        ("probability", "array<double>"),
        ("log_density", "double"),
        ("outlier", "boolean"),
    ]
    rows = df.collect()
    np.testing.assert_array_equal([(r.eruptions, r.waiting) for r in rows], faithful)
    [model] = (outcome.folder / "runs").glob("*/model.json")
    fitted = json.loads(model.read_text())
    theirs = GaussianMixture(2)
    theirs.weights_, theirs.means_ = np.array(fitted["weights"]), np.array(fitted["means"])
    theirs.covariances_ = np.array(fitted["covariances"])
    lower = np.linalg.cholesky(theirs.covariances_)
    theirs.precisions_cholesky_ = np.linalg.inv(lower).transpose(0, 2, 1)
    R = np.array([row.probability for row in rows])
    assert np.abs(R - theirs.predict_proba(faithful)).max() < 1e-9
    density = np.array([row.log_density for row in rows])
    assert np.abs(density - theirs.score_samples(faithful)).max() < 1e-9
    assert [row.component for row in rows] == theirs.predict(faithful).tolist()


@look_at("fitted_and_scored")
def test_the_outliers_are_the_share_of_the_training_rows_that_was_asked_for(
    outcome: Done, spark: SparkSession
) -> None:
    flagged = spark.read.parquet(str(outcome.folder / "scored")).where("outlier")
    assert flagged.count() == 5  # of 272: at most 2 %
    assert re.search(r"^outliers 5 \(1\.838%\)", outcome.out, flags=re.MULTILINE)


@look_at("fitted_and_scored")
def test_nothing_lies_beside_the_output_and_spark_says_nothing(outcome: Done) -> None:
    names = sorted(p.name for p in outcome.folder.iterdir())
    assert names == ["fit.yaml", "local", "runs", "score.yaml", "scored"]
    told = outcome.err[outcome.err.index("scoring the rows") :].splitlines()
    assert told == ["scoring the rows"]


@scenario
def invalid(at: Workplace) -> Done:
    a_run(at)
    path = at.write("rows.csv", "eruptions,waiting", "3.6,79", "1.8,", "NaN,54", "2.2,55")
    return at.spark_submit(*configuration(at, path), master="local[2,3]")


@look_at("invalid")
def test_invalid_rows_are_told_by_column_in_one_line_and_nothing_is_written(outcome: Done) -> None:
    line = error_line(outcome, 3)
    assert "2 of 4 rows are invalid (waiting null in 1, eruptions NaN in 1): fix them" in line


@scenario
def no_model(at: Workplace) -> Done:
    return at.spark_submit(*configuration(at, FAITHFUL))


@look_at("no_model")
def test_a_missing_model_is_told(outcome: Done) -> None:
    assert "neither a whole run" in error_line(outcome, 2)


@scenario
def other_columns(at: Workplace) -> Done:
    a_run(at)
    path = at.write("rows.csv", "eruption,waiting", "3.6,79")
    return at.spark_submit(*configuration(at, path))


@look_at("other_columns")
def test_a_missing_column_is_told_with_the_nearest(outcome: Done) -> None:
    line = error_line(outcome, 3)
    assert "the model was fitted on 'eruptions' (did you mean 'eruption'?)" in line


@scenario
def unknown_key(at: Workplace) -> Done:
    return at.python(*configuration(at, FAITHFUL, "output.colums=[component]"))


@scenario
def overwrite_flag(at: Workplace) -> Done:
    return at.python(*configuration(at, FAITHFUL), "--overwrite")


@look_at("unknown_key")
def test_an_unknown_key_is_told_before_spark_starts(outcome: Done) -> None:
    assert "did you mean output.columns?" in error_line(outcome, 2)


@look_at("overwrite_flag")
def test_a_flag_of_the_fit_job_is_none_of_this_one(outcome: Done) -> None:
    assert "usage: score_gmm" in error_line(outcome, 2)


@scenario
def dry_run(at: Workplace) -> Done:
    a_run(at)
    return at.spark_submit(*configuration(at, FAITHFUL, "output.keep=[waiting]"), "--dry-run")


@look_at("dry_run")
def test_a_dry_run_prints_configuration_and_plan_and_writes_nothing(outcome: Done) -> None:
    assert outcome.code == 0, outcome.err
    assert "  mode: error\n" in outcome.out
    assert re.search(r"^features 2: eruptions, waiting$", outcome.out, flags=re.MULTILINE)
    assert re.search(r"^keeps +waiting$", outcome.out, flags=re.MULTILINE)
    assert re.search(r"^writes .*/scored \(parquet, error\)$", outcome.out, flags=re.MULTILINE)
    assert not (outcome.folder / "scored").exists()


@scenario
def dying_tasks(at: Workplace) -> tuple[Done, np.ndarray]:
    """Score five files, each by a task that dies once after some of its rows."""
    X = np.random.default_rng(0).normal(size=(30_000, 3))
    X[::100, 1] = np.nan
    folder = at.folder / "rows.parquet"
    folder.mkdir()
    for i, part in enumerate(np.array_split(X, 5)):
        pq.write_table(pa.table(dict(zip("abc", part.T, strict=True))), folder / f"{i}.parquet")
    at.job = "../tests/jobs/retries_app.py"
    confs = {"spark.sql.files.maxPartitionBytes": "200k", "spark.sql.files.openCostInBytes": "200k"}
    output = str(at.folder / "scored")
    return at.spark_submit(str(folder), output, master="local[2,3]", confs=confs), X


@look_at("dying_tasks")
def test_tasks_that_are_retried_count_and_write_each_row_once(
    outcome: tuple[Done, np.ndarray],
) -> None:
    done, X = outcome
    assert done.code == 0, done.err
    valid = X[np.isfinite(X).all(axis=1)]
    density = -0.5 * (valid**2).sum(axis=1) - 1.5 * np.log(2 * np.pi)
    outliers = int((density < -5).sum())
    assert f"counted 30000 {len(X) - len(valid)} {outliers}" in done.out
    assert f"written {len(valid)} {outliers}" in done.out
