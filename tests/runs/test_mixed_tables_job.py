"""Fit and score jobs over tables with categorical columns and counts, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from helpers.html_pages import Page
from sparkgmm.core.local import FitResult, fit_array
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.config import FitConfig, ScoreConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.score_job import run_score
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.cluster_rows import Blocks

BESIDE = {"features": ["x"], "categorical": ["kind", "paid", "code"], "counts": ["visits"]}
Fit = Callable[..., Path]


def table_of(n: int = 900, seed: int = 0) -> pd.DataFrame:
    """Return three classes; the numeric column tells them apart a little."""
    rng = np.random.default_rng(seed)
    z = rng.integers(0, 3, n)
    kinds = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.1, 0.8]])
    return pd.DataFrame(
        {
            "x": rng.normal(0, 1, n) + 2 * (z == 2),
            "kind": np.array(["x", "y", "it's"])[[rng.choice(3, p=kinds[i]) for i in z]],
            "paid": rng.random(n) < np.array([0.1, 0.9, 0.5])[z],
            "code": rng.choice([1, 2, 10], n),
            "visits": rng.poisson(np.array([1.0, 4.0, 12.0])[z]),
        }
    )


@pytest.fixture(scope="module")
def parquet(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("mixed")
    table_of().to_parquet(folder / "rows.parquet")
    return str(folder / "rows.parquet")


def fit_into(spark: SparkSession, folder: Path, parquet: str) -> Fit:
    """Return a function that runs the job and returns the folder of the run."""

    def run(overwrite: bool = False, **sections: dict[str, Any]) -> Path:
        base: dict[str, dict[str, Any]] = {
            "input": {"path": parquet, **BESIDE},
            "model": {"k": 3, "n_init": 2, "init": "k-means++"},
            "output": {"path": str(folder / "runs"), "run_id": "one", "report": False},
        }
        drift = sections.pop("drift", None)
        values = {key: {**value, **sections.get(key, {})} for key, value in base.items()}
        config = FitConfig.model_validate(values if drift is None else {**values, "drift": drift})
        run_fit(spark, config, Terminal(), overwrite)
        return Path(config.output.path) / str(config.output.run_id)

    return run


@pytest.fixture
def fit(spark: SparkSession, tmp_path: Path, parquet: str) -> Fit:
    """A function that runs the job and returns the folder of the run."""
    return fit_into(spark, tmp_path, parquet)


@pytest.fixture(scope="module")
def fitted(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, parquet: str) -> Path:
    """The run of all columns, whose model is read and scored by."""
    return fit_into(spark, tmp_path_factory.mktemp("fitted"), parquet)()


def fitted_here(table: pd.DataFrame, **options: Any) -> FitResult:
    """Fit in memory what the job fits."""
    columns = ["x", "kind", "paid", "code", "visits"]
    kinds: Any = {"categorical": ["code"], "counts": ["visits"]}
    return fit_array(table[columns], 3, n_init=2, init="k-means++", **kinds, **options)


def mixture_of(run: Path) -> Mixture:
    return Mixture.from_json((run / "model.json").read_text())


def test_the_job_finds_what_fit_array_finds_and_the_run_has_it_all(
    fit: Fit, parquet: str, tmp_path: Path
) -> None:
    run = fit(output={"report": True})
    mixture = mixture_of(run)
    table = pd.read_parquet(parquet)
    here = fitted_here(table)
    assert here.mixture.to_json() == mixture.to_json()
    assert list(mixture.categorical["code"]) == ["1", "10", "2"]
    assert list(mixture.categorical["paid"]) == ["false", "true"]
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n_parameters"] == mixture.n_parameters == 2 + 6 + 3 * (2 + 1 + 2) + 3
    assert metrics["log_likelihood"] == pytest.approx(mixture.log_likelihood(table), rel=1e-12)
    assert metrics["rows_used"] == 900
    # components/, as a user reads it
    rows = pq.read_table(run / "components").to_pylist()
    for j, row in enumerate(rows):
        levels = {name: dict(by_level) for name, by_level in row["categorical"]}
        assert levels["kind"]["it's"] == mixture.categorical["kind"]["it's"][j]
        assert dict(row["counts"]) == {"visits": mixture.counts["visits"][j]}
    page = Page((run / "report.html").read_text())
    assert "Categories and counts" in page.text
    assert "lift" in page.text
    assert (run / "plots" / "levels.png").exists()
    assert not (run / "statistics.json").exists()


def test_a_table_of_categories_alone_is_fitted_reported_and_scored(
    spark: SparkSession, fit: Fit, parquet: str, tmp_path: Path
) -> None:
    run = fit(
        input={"features": [], "categorical": ["kind", "paid"], "counts": []},
        model={"k": 2},
        output={"report": True},
    )
    mixture = mixture_of(run)
    assert mixture.d == 0
    assert "Categories and counts" in Page((run / "report.html").read_text()).text
    scored = _score(spark, run, parquet, tmp_path)
    np.testing.assert_allclose(scored.log_density, mixture.log_density(scored), rtol=1e-13)


def _score(spark: SparkSession, run: Path, path: str, tmp_path: Path, **more: Any) -> pd.DataFrame:
    config = {
        "input": {"path": path, **more},
        "model": str(run),
        "output": {"path": str(tmp_path / "scored"), "mode": "overwrite"},
    }
    run_score(spark, ScoreConfig.model_validate(config), Terminal())
    return pd.read_parquet(tmp_path / "scored")


def test_scoring_integrates_over_nulls_and_levels_that_were_not_seen(
    spark: SparkSession, fitted: Path, tmp_path: Path
) -> None:
    run = fitted
    mixture = mixture_of(run)
    table = table_of(300, seed=1)
    table["kind"] = table["kind"].where(table.index % 3 > 0, None)
    table.loc[1::3, "kind"] = "new"
    table["visits"] = table["visits"].astype("float").where(table.index % 2 > 0, None)
    path = str(tmp_path / "night.parquet")
    table.to_parquet(path)
    scored = _score(spark, run, path, tmp_path)
    assert len(scored) == 300
    np.testing.assert_allclose(scored.log_density, mixture.log_density(table), rtol=1e-12)
    # a null in a numeric feature is as invalid as ever
    table.loc[0, "x"] = np.nan
    table.to_parquet(path)
    with pytest.raises(InputError, match=r"1 of 300 rows are invalid \(x null in 1\)"):
        _score(spark, run, path, tmp_path)
    assert len(_score(spark, run, path, tmp_path, invalid_rows="quarantine")) == 299
    table = table_of(300, seed=1).astype({"visits": float})
    table.loc[[3, 4], "visits"] = [-1.0, 2.5]
    table.to_parquet(path)
    with pytest.raises(InputError, match=r"2 of 300 .*visits no whole number of 0 or more in 2\)"):
        _score(spark, run, path, tmp_path)
    assert len(_score(spark, run, path, tmp_path, invalid_rows="drop")) == 298


def test_levels_that_the_model_does_not_have_are_counted_and_told(
    spark: SparkSession, fitted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fitted
    table = table_of(300, seed=1)
    table["code"] = table["code"].astype(float).where(table.index > 0, None)  # 1.0, beside a null
    table.loc[:4, "kind"] = ["new", None, "X", "x", "other"]
    path = str(tmp_path / "night.parquet")
    table.to_parquet(path)
    scored = _score(spark, run, path, tmp_path)
    np.testing.assert_allclose(scored.log_density, mixture_of(run).log_density(table), rtol=1e-12)
    said = capsys.readouterr().err
    assert "column 'kind' holds levels that the model does not have in 3 of 300 rows" in said
    assert "'code'" not in said
    table.assign(paid="perhaps").to_parquet(path)
    _score(spark, run, path, tmp_path)
    said = capsys.readouterr().err
    assert "'paid' holds levels that the model does not have in 300 of 300 rows" in said
    assert "write the levels as the model was fitted on" in said


def test_bad_counts_are_invalid_rows_that_name_their_column(fit: Fit, tmp_path: Path) -> None:
    table = table_of().astype({"visits": float})
    table.loc[:3, "visits"] = [-1.0, 0.5, np.inf, np.nan]
    path = str(tmp_path / "rows.parquet")
    table.to_parquet(path)
    said = r"4 of 900 .*visits null in 1, visits no whole .* in 3\): .*move 'visits' from input.c"
    with pytest.raises(InputError, match=said):
        fit(input={"path": path})
    run = fit(input={"path": path, "invalid_rows": "quarantine"})
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["invalid_by_column"]["visits"] == 4
    assert metrics["rows_used"] == 896
    reasons = pq.read_table(run / "rejected").to_pandas()["reason"].value_counts().to_dict()
    assert reasons == {"visits is no whole number of 0 or more": 3, "visits is null": 1}
    dropped = fit(
        input={"path": path, "invalid_rows": "drop", "missing": "model"}, output={"run_id": "two"}
    )
    assert json.loads((dropped / "metrics.json").read_text())["rows_used"] == 897


def test_a_mixed_table_is_imputed_predicted_and_told_by_its_cells(
    spark: SparkSession, fitted: Path, tmp_path: Path
) -> None:
    run = fitted
    mixture = mixture_of(run)
    table = table_of(300, seed=1).assign(id=range(300))
    gone = np.random.default_rng(0).random((300, 5)) < 0.3
    for i, name in enumerate(("x", "kind", "paid", "code", "visits")):
        kind = "Int64" if name in ("code", "visits") else object if i else float
        table[name] = table[name].astype(kind).mask(gone[:, i])
    table.loc[0, "kind"] = "new"
    path = str(tmp_path / "night.parquet")
    table.to_parquet(path)
    config = {
        "input": {"path": path},
        "model": str(run),
        "output": {
            "path": str(tmp_path / "scored"),
            "columns": ["surprise", "log_density"],
            "keep": ["id", "kind"],
            "impute": True,
            "predict": ["x", "visits"],
        },
    }
    run_score(spark, ScoreConfig.model_validate(config), Terminal())
    scored = spark.read.parquet(str(tmp_path / "scored")).orderBy("id")
    types = dict(scored.dtypes)
    assert scored.columns[:6] == ["id", "kind", "x", "paid", "code", "visits"]
    assert [types[n] for n in ("x", "kind", "paid", "code", "visits")] == [
        "double", "string", "boolean", "bigint", "double",
    ]  # fmt: skip
    found, filled = scored.toPandas(), mixture.impute(table)
    for name in ("kind", "paid", "code"):
        assert found[name].tolist() == filled[name].tolist()
    np.testing.assert_allclose(found[["x", "visits"]], filled[["x", "visits"]].astype(float))
    for name in ("x", "visits"):
        mean, sd = mixture.expect(table, name)
        np.testing.assert_allclose(found[[f"{name}_mean"]], mean, rtol=1e-12)
        np.testing.assert_allclose(found[[f"{name}_sd"]], sd, rtol=1e-12)
    surprise = np.array([[dict(row)[n] for n in mixture.columns or ()] for row in found.surprise])
    np.testing.assert_allclose(surprise, mixture.surprise(table), rtol=1e-10, atol=1e-12)
    assert np.isnan(surprise[0, 1])
    config["output"] = {"path": str(tmp_path / "other"), "predict": ["kind"]}
    with pytest.raises(ConfigurationError, match=r"predict names 'kind', which is categorical"):
        run_score(spark, ScoreConfig.model_validate(config), Terminal())


def test_nulls_of_categories_and_counts_are_invalid_rows(fit: Fit, tmp_path: Path) -> None:
    table = table_of()
    table["kind"] = table["kind"].where(table.index >= 5, None)
    table["visits"] = table["visits"].astype("float").where(table.index < 890, None)
    path = str(tmp_path / "rows.parquet")
    table.to_parquet(path)
    with pytest.raises(InputError, match=r"15 of 900 .*kind null in 5, visits null in 10"):
        fit(input={"path": path})
    run = fit(input={"path": path, "invalid_rows": "quarantine"})
    reasons = pq.read_table(run / "rejected").to_pandas()["reason"]
    assert reasons.value_counts().to_dict() == {"visits is null": 10, "kind is null": 5}


def test_missing_values_of_all_kinds_are_integrated_over(
    spark: SparkSession, fit: Fit, tmp_path: Path
) -> None:
    table = table_of(600, seed=4)
    gone = np.random.default_rng(0).random((600, 3)) < 0.2
    table["x"] = table["x"].mask(gone[:, 0])
    table["kind"] = table["kind"].mask(gone[:, 1])
    table["visits"] = table["visits"].astype(float).mask(gone[:, 2])
    path = str(tmp_path / "rows.parquet")
    table.to_parquet(path)
    run = fit(input={"path": path, "missing": "model"})
    mixture = mixture_of(run)
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["rows_used"] == 600
    assert metrics["missing_by_column"]["kind"] == gone[:, 1].sum()
    assert metrics["log_likelihood"] == pytest.approx(mixture.log_likelihood(table), rel=1e-11)
    here = fitted_here(table, missing="model")
    assert here.mixture.to_json() == mixture.to_json()
    scored = _score(spark, run, path, tmp_path)
    np.testing.assert_allclose(scored.log_density, mixture.log_density(table), rtol=1e-12)


class Stopped(BaseException):
    """What ends a driver in the middle of a fit."""


def test_on_the_driver_on_executors_and_after_a_stop_it_ends_in_the_same_bits(
    spark: SparkSession, fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(3):
        table_of(300, seed=i).to_parquet(folder / f"{i}.parquet")
    source, quick = {"path": str(folder)}, {"k": 2, "n_init": 1, "tol": 1e-4}
    here = (fit(input=source, model=quick) / "model.json").read_bytes()
    monkeypatch.setattr("sparkgmm.runs.state._EVERY_SECONDS", 0.0)
    monkeypatch.setattr("sparkgmm.runs.state._SHARE", 1e9)
    scan, left = Blocks.scan, [2]

    def counted(blocks: Blocks, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        if not left[0]:
            raise Stopped
        left[0] -= 1
        return scan(blocks, kernels, label)

    monkeypatch.setattr(Blocks, "scan", counted)
    spark.conf.set("spark.sparkgmm.driverBytes", "1")
    try:
        with pytest.raises(Stopped):
            fit(input=source, model=quick, output={"run_id": "far"})
        left[0] = -1
        far = (fit(input=source, model=quick, output={"run_id": "far"}) / "model.json").read_bytes()
    finally:
        spark.conf.unset("spark.sparkgmm.driverBytes")
    assert here == far


def test_drift_compares_levels_by_name(fit: Fit, tmp_path: Path, parquet: str) -> None:
    fit(drift={})
    table = table_of(seed=3)
    table["kind"] = table["kind"].replace({"x": "new"})
    path = str(tmp_path / "next.parquet")
    table.to_parquet(path)
    run = fit(input={"path": path}, output={"run_id": "two"}, drift={})
    drift = json.loads((run / "drift.json").read_text())
    measures = drift["measures"]
    assert measures["divergence"] > 0.2
    assert np.isfinite(measures["mean_shift"])
    same = fit(output={"run_id": "three"}, drift={"against": str(tmp_path / "runs" / "one")})
    assert json.loads((same / "drift.json").read_text())["measures"]["divergence"] < 1e-9
    with pytest.raises(ConfigurationError, match=r"has features .*'kind'.*, the input"):
        fit(input={"categorical": ["paid"]}, output={"run_id": "four"}, drift={})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"categorical": ["x"]}, "input.categorical names column 'x', which is of type double"),
        ({"features": ["visits"], "counts": ["x"]}, "x no whole number of 0 or more in 900"),
        ({"categorical": ["knid"]}, "'knid', which the input does not have: did you mean 'kind'"),
        ({"categorical": ["id"]}, "column 'id' has 900 levels, such as 'n000' and 'n001'"),
    ],
)
def test_what_cannot_be_a_category_or_a_count_is_said(
    fit: Fit, tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    path = str(tmp_path / "rows.parquet")
    table_of().assign(id=[f"n{i:03}" for i in range(900)]).to_parquet(path)
    with pytest.raises(InputError, match=message):
        fit(input={"path": path, "features": [], "counts": [], **changed})


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"update": "runs"}}, "model.update goes with numeric features alone so far"),
        ({"model": {"warm_start": "runs"}}, "model.warm_start goes with numeric features alone"),
        ({"model": {"engine": "mllib"}}, "engine mllib fits numeric features alone: use engine em"),
        ({"input": {"weight": "visits"}}, "counts and weight both name 'visits': name it in one"),
        (
            {"input": {"features": [], "categorical": [], "counts": []}},
            "name one or more columns, or leave it out",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_spark_starts(
    sections: dict[str, dict[str, Any]], message: str
) -> None:
    values: dict[str, dict[str, Any]] = {
        "input": {"path": "rows.parquet", **BESIDE},
        "model": {},
        "output": {"path": "runs"},
    }
    values = {key: {**value, **sections.get(key, {})} for key, value in values.items()}
    with pytest.raises(ValueError, match=message):
        FitConfig.model_validate(values)
