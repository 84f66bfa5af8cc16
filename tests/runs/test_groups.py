"""A mixture for each group: what one job finds, against a loop over the groups."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from helpers.data_sets import faithful
from sparkgmm import fit_array
from sparkgmm.core.groups import in_order
from sparkgmm.errors import ConfigurationError, FitError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.runs import groups_job
from sparkgmm.runs.config import FitConfig, ScoreConfig
from sparkgmm.runs.fit_job import plan, run_fit
from sparkgmm.runs.folder import load_mixture
from sparkgmm.runs.score_job import plan_score, run_score
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.storage import Folder

SIZES = {"north": 80, "south": 120, "west": 60}


def rows_of_groups(seed: int = 0) -> pd.DataFrame:
    """Return three groups of rows, each of two clusters, in no order."""
    rng = np.random.default_rng(seed)
    parts = []
    for i, (name, n) in enumerate(SIZES.items()):
        far = rng.random(n) < 0.4
        x = rng.normal(0, 1, n) + np.where(far, 6 + i, 0)
        y = rng.normal(0, 1, n) + np.where(far, 5, 0)
        parts.append(pd.DataFrame({"site": name, "year": 2000 + i, "x": x, "y": y}))
    return pd.concat(parts).sample(frac=1, random_state=seed).reset_index(drop=True)


@pytest.fixture(autouse=True, scope="module")
def few_tasks() -> Iterator[None]:
    """Have groups go to two tasks: there are few of them here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sparkgmm.spark.groups._LEAST_TASKS", 2)
        patch.setattr("sparkgmm.spark.groups._TASKS_A_CORE", 1)
        yield


def job_in(spark: SparkSession, folder: Path) -> Callable[..., Path]:
    """Return a function that fits rows by groups and returns the run's folder."""

    def run(rows: pd.DataFrame, *, files: int = 1, run_id: str = "a", **sections: Any) -> Path:
        table = pa.Table.from_pandas(rows, preserve_index=False)
        at = folder / f"rows-{run_id}"
        at.mkdir(exist_ok=True)
        for i in range(files):
            first, last = len(rows) * i // files, len(rows) * (i + 1) // files
            if not (at / f"{i}.parquet").exists():  # a run goes on with the very same files
                pq.write_table(table.slice(first, last - first), at / f"{i}.parquet")
        values = {
            "input": {
                "path": str(at),
                "format": "parquet",
                "group_by": ["site"],
                "features": ["x", "y"],
            }
            | sections.get("input", {}),
            "model": {"k": 2, "n_init": 3} | sections.get("model", {}),
            "output": {"path": str(folder / "runs"), "run_id": run_id, "report": False}
            | sections.get("output", {}),
        }
        config = FitConfig.model_validate(values)
        run_fit(spark, config, Terminal(), overwrite=sections.get("overwrite", False))
        return folder / "runs" / run_id

    return run


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path) -> Callable[..., Path]:
    """A function that fits rows by groups and returns the run's folder."""
    return job_in(spark, tmp_path)


@pytest.fixture(scope="module")
def plain(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory, few_tasks: None) -> Path:
    """The run of the three groups that tests read or compare with."""
    return job_in(spark, tmp_path_factory.mktemp("plain"))(rows_of_groups())


def groups_in(run: Path) -> pd.DataFrame:
    """Return groups/ of a run."""
    return pq.read_table(run / "groups").to_pandas()


def test_each_group_has_the_mixture_of_its_rows_alone(job: Callable[..., Path]) -> None:
    rows = rows_of_groups()
    run = job(rows, model={"k": [1, 2, 3]})
    found = groups_in(run)
    assert found["site"].tolist() == sorted(SIZES)
    for _, group in found.iterrows():
        X = rows.loc[rows["site"] == group["site"], ["x", "y"]].to_numpy()
        X = X[in_order(X, None)]
        alone = fit_array(X, [1, 2, 3], init="k-means++", n_init=3)
        mixture = Mixture.from_json(group["model"])
        assert mixture.features == ("x", "y")
        np.testing.assert_allclose(mixture.means, alone.mixture.means, atol=1e-4)
        np.testing.assert_allclose(mixture.covariances, alone.mixture.covariances, atol=1e-4)
        assert (group["k"], group["covariance_type"]) == (alone.mixture.k, "full")
        assert group["log_likelihood"] == pytest.approx(alone.log_likelihood, abs=1e-6)
        assert group["log_likelihood"] == pytest.approx(mixture.log_likelihood(X))
        assert group["bic"] == pytest.approx(mixture.bic(X))
        assert group["rows_used"] == len(X)
        assert group["converged"]
        assert group["error"] is None
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["n_groups"] == metrics["groups_fitted"] == 3
    assert metrics["log_likelihood"] == pytest.approx(found["log_likelihood"].sum())
    assert metrics["rows_used"] == len(rows)
    exposed = (run / "metrics.prom").read_text()
    assert re.search(r"^sparkgmm_groups_fitted\{root=.*\} 3.0$", exposed, re.MULTILINE)


def test_components_have_their_group_first_and_are_those_of_its_mixture(
    plain: Path,
) -> None:
    components = pq.read_table(plain / "components").to_pandas()
    expected = ["site", "component", "weight", "mean", "covariance"]
    assert list(components.columns) == expected
    for _, group in groups_in(plain).iterrows():
        mixture = Mixture.from_json(group["model"])
        mine = components[components["site"] == group["site"]]
        assert mine["component"].tolist() == list(range(mixture.k))
        np.testing.assert_array_equal(mine["weight"], mixture.weights)
        np.testing.assert_array_equal(np.stack(mine["mean"]), mixture.means)


def test_the_bits_hang_on_neither_files_nor_order_nor_tasks(
    job: Callable[..., Path], plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = rows_of_groups()
    monkeypatch.setattr("sparkgmm.spark.groups._LEAST_TASKS", 7)
    other = groups_in(job(rows.sample(frac=1, random_state=9), files=3))
    pd.testing.assert_frame_equal(groups_in(plain), other)


def test_one_group_that_cannot_be_fitted_does_not_end_the_others(
    job: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_groups()
    rows.loc[rows["site"] == "south", "x"] = 1.5
    few = pd.DataFrame({"site": "tiny", "year": 1, "x": [1.0], "y": [2.0]})
    run = job(pd.concat([rows, few]), output={"report": True})
    found = groups_in(run).set_index("site")
    assert found["error"].notna().to_dict() == {
        "north": False,
        "south": True,
        "tiny": True,
        "west": False,
    }
    assert "feature 'x' is constant" in found["error"]["south"]
    assert "there is one row" in found["error"]["tiny"]
    said = capsys.readouterr().out
    assert "4 groups by site: 2 fitted, 2 without a mixture" in said
    assert "warning: site = 'south': feature 'x' is constant (1.5 in all 120 rows)" in said
    page = (run / "report.html").read_text()
    assert "feature &#39;x&#39; is constant" in page
    assert {p.name for p in (run / "plots").iterdir()} == {
        "groups-largest.png",
        "groups-worst.png",
        "sizes.png",
    }


@pytest.mark.long
def test_a_constant_feature_can_be_left_out_of_its_group_alone(
    job: Callable[..., Path], spark: SparkSession, tmp_path: Path
) -> None:
    rows = rows_of_groups()
    rows.loc[rows["site"] == "south", "x"] = 1.5
    run = job(rows, input={"constant_features": "drop"}, model={"k": 1})
    features = {
        g["site"]: Mixture.from_json(g["model"]).features for _, g in groups_in(run).iterrows()
    }
    assert features == {"north": ("x", "y"), "south": ("y",), "west": ("x", "y")}
    scored = scored_rows(spark, tmp_path, run)
    assert scored["log_density"].notna().all()


@pytest.mark.parametrize(
    ("sizes", "error", "text"),
    [
        ([1, 1], InputError, "none of the 2 groups could be fitted; site = 'a': there is one row"),
        ([4, 4], FitError, "none of the 2 groups could be fitted; site = 'a': "),
    ],
)
def test_where_no_group_can_be_fitted_the_job_ends_as_a_fit_does(
    job: Callable[..., Path], tmp_path: Path, sizes: list[int], error: type[Exception], text: str
) -> None:
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"site": name, "x": rng.normal(size=n), "y": rng.normal(size=n)})
        for name, n in zip("ab", sizes, strict=False)
    ]
    with pytest.raises(error, match=text):
        job(pd.concat(parts), model={"k": 3 if error is FitError else 2})
    assert not (tmp_path / "runs" / "LATEST").exists()


def test_rows_that_are_set_aside_are_said_of_their_group(
    job: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_groups()
    rows.loc[np.flatnonzero(rows["site"] == "south")[:1], "x"] = 1e7
    run = job(rows, output={"report": True})
    found = groups_in(run).set_index("site")
    assert found["rows_set_aside"].to_dict() == {"north": 0, "south": 1, "west": 0}
    assert json.loads((run / "metrics.json").read_text())["rows_set_aside"] == 1
    assert "all proportion to their group's others: 1 in 1 group (" in capsys.readouterr().out
    assert "rows set aside" in (run / "report.html").read_text()


def test_invalid_rows_are_accounted_for_over_all_groups(
    job: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of_groups()
    rows["w"] = 1.0
    rows.loc[[3, 50], "x"] = np.nan
    rows.loc[[7], "y"] = np.inf
    rows.loc[[8], "w"] = -1.0
    source = {"weight": "w"}
    with pytest.raises(
        InputError, match=r"4 of 260 rows are invalid \(x null in 2, y infinite in 1"
    ):
        job(rows, input=source)
    metrics = json.loads(
        (
            job(rows, run_id="b", input={**source, "invalid_rows": "quarantine"}) / "metrics.json"
        ).read_text()
    )
    assert (metrics["rows_read"], metrics["rows_invalid"], metrics["rows_used"]) == (260, 4, 256)
    assert metrics["missing_by_column"] == {"x": 2, "y": 0, "w": 0}
    assert metrics["invalid_by_column"] == {"x": 2, "y": 1, "w": 1}
    assert (
        "4 of 260 rows (1.54%) are invalid and were put into rejected/" in capsys.readouterr().out
    )


def test_null_and_nan_are_a_group_and_group_columns_are_no_features(
    job: Callable[..., Path],
) -> None:
    rows = rows_of_groups()
    rows["code"] = rows["year"].astype(float)
    rows.loc[rows["site"] == "west", "code"] = np.nan
    run = job(rows, input={"group_by": ["code", "year"], "features": None}, model={"k": 1})
    found = groups_in(run)
    assert found["code"].tolist()[1:] == [2000.0, 2001.0]
    assert np.isnan(found["code"][0])
    assert found["year"].tolist() == [2002, 2000, 2001]
    assert {Mixture.from_json(text).features for text in found["model"]} == {("x", "y")}


def test_a_group_too_large_for_a_worker_is_fitted_by_the_ordinary_engine(
    job: Callable[..., Path],
    plain: Path,
    spark: SparkSession,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = rows_of_groups()
    small = groups_in(plain).set_index("site")
    spark.conf.set("spark.sparkgmm.groupBytes", 16 * 100)
    try:
        run = job(rows, run_id="b")
    finally:
        spark.conf.unset("spark.sparkgmm.groupBytes")
    found = groups_in(run).set_index("site")
    assert (
        "site = 'south' is too large for a worker: it is fitted by itself"
        in capsys.readouterr().err
    )
    assert found["rows_used"].to_dict() == SIZES
    np.testing.assert_allclose(found["log_likelihood"], small["log_likelihood"], rtol=1e-6)
    pd.testing.assert_frame_equal(found.drop("south"), small.drop("south"))


def test_a_run_that_was_stopped_goes_on_with_the_groups_that_are_missing(
    job: Callable[..., Path],
    plain: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = rows_of_groups()

    def write_some(self: Any, found: Any) -> None:
        write(self, found.where("site = 'north'"))
        raise KeyboardInterrupt

    write = groups_job._Kept.write
    with monkeypatch.context() as patch:
        patch.setattr(groups_job._Kept, "write", write_some)
        with pytest.raises(KeyboardInterrupt):
            job(rows, run_id="b")
    run = job(rows, run_id="b")
    assert "1 groups of an earlier attempt are done" in capsys.readouterr().err
    pd.testing.assert_frame_equal(groups_in(plain), groups_in(run))
    assert not (run / "state").exists()


def scored_rows(
    spark: SparkSession, folder: Path, run: Path, rows: pd.DataFrame | None = None, **output: Any
) -> pd.DataFrame:
    """Return rows scored by a run, those of rows-a if none are given."""
    at = folder / f"rows-{run.name}"
    if rows is not None:
        at = folder / "more.parquet"
        pq.write_table(pa.Table.from_pandas(rows, preserve_index=False), at)
    config = ScoreConfig.model_validate(
        {
            "input": {"path": str(at), "format": "parquet"},
            "model": str(run),
            "output": {"path": str(folder / "scored"), **output},
        }
    )
    assert "a mixture for each group by site" in plan_score(spark, config)
    run_score(spark, config, Terminal())
    return pq.read_table(folder / "scored").to_pandas()


def test_each_row_is_scored_by_the_mixture_of_its_group(
    job: Callable[..., Path],
    spark: SparkSession,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = rows_of_groups()
    rows.loc[rows["site"] == "west", "x"] = 0.0  # a group without a mixture
    run = job(rows, model={"k": [1, 2]})
    more = pd.concat([rows, pd.DataFrame({"site": ["moon", None], "x": 1.0, "y": 2.0})])
    columns = ["component", "probability", "log_density", "surprise"]
    scored = scored_rows(spark, tmp_path, run, more, columns=columns)
    assert scored["site"].tolist() == more["site"].tolist()  # in the order they came
    said = capsys.readouterr().out
    assert "2 rows belong to groups that the run does not know: nulls are added to them" in said
    assert f"{SIZES['west']} rows belong to groups without a mixture" in said
    without = ~scored["site"].isin(["north", "south"])
    assert scored.loc[without, columns].isna().all(axis=None)
    for _, group in groups_in(run).dropna(subset="model").iterrows():
        mixture = Mixture.from_json(group["model"])
        mine = scored[scored["site"] == group["site"]]
        X = mine[["x", "y"]].to_numpy()
        np.testing.assert_allclose(mine["log_density"], mixture.log_density(X), rtol=1e-12)
        np.testing.assert_array_equal(mine["component"].astype(int), mixture.predict(X))
        np.testing.assert_allclose(
            np.stack(mine["probability"]), mixture.responsibilities(X), atol=1e-12
        )


def test_a_group_column_of_another_type_is_named_with_both_types(
    plain: Path, spark: SparkSession, tmp_path: Path
) -> None:
    other = pd.DataFrame({"site": [1, 2], "x": 1.0, "y": 2.0})
    with pytest.raises(InputError, match="'site' of type string, which is of type bigint"):
        scored_rows(spark, tmp_path, plain, other)


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        ("model", "engine", "mllib", "model.engine"),
        ("model", "warm_start", "runs/a", "model.warm_start"),
        ("model", "update", "runs/a", "model.update"),
        ("drift", "against", "runs/a", "drift"),
        ("input", "missing", "model", "input.missing"),
        ("input", "categorical", ["z"], "input.categorical"),
        ("input", "counts", ["z"], "input.counts"),
        ("input", "weight", "site", "group_by and weight both name 'site'"),
        ("input", "features", ["site"], "group_by and features both name 'site'"),
    ],
)
def test_what_does_not_go_with_groups_is_refused_by_its_key(
    section: str, key: str, value: Any, named: str
) -> None:
    values: dict[str, Any] = {
        "input": {"path": "a.csv", "group_by": "site"},
        "output": {"path": "runs"},
    }
    values.setdefault(section, {})[key] = value
    with pytest.raises(ValueError, match=named):
        FitConfig.model_validate(values)


@pytest.mark.long
def test_what_needs_one_mixture_says_that_a_run_has_groups(
    job: Callable[..., Path], spark: SparkSession, tmp_path: Path
) -> None:
    run = job(rows_of_groups(), model={"k": 1})
    with pytest.raises(ConfigurationError, match="has a mixture for each group"):
        load_mixture(Folder(spark, str(run)))
    for output, key in (
        ({"outlier_quantile": 0.01}, "output.outlier_quantile"),
        ({"columns": ["label"]}, "output.columns label"),
    ):
        with pytest.raises(ConfigurationError, match=key):
            scored_rows(spark, tmp_path, run, **output)


def test_the_plan_says_what_there_are_groups_by(spark: SparkSession, faithful_csv: str) -> None:
    source = {"path": faithful_csv, "options": {"header": True}, "group_by": "waiting"}
    config = FitConfig.model_validate({"input": source, "output": {"path": "runs"}})
    said = plan(spark, config)
    assert "groups   by waiting: a mixture for each" in said
    assert "features 1 (float64): eruptions" in said


@pytest.mark.parametrize(
    ("column", "error", "text"),
    [
        (
            "sit",
            InputError,
            "names column 'sit', which the input does not have: did you mean 'site'",
        ),
        ("all", ConfigurationError, "of type array<double>: name columns of text"),
        ("model", ConfigurationError, "a name that groups/ or components/ has"),
    ],
)
def test_a_column_that_cannot_tell_groups_apart_is_named(
    job: Callable[..., Path], column: str, error: type[Exception], text: str
) -> None:
    rows = pd.DataFrame(faithful(), columns=["x", "y"])
    rows["site"], rows["model"], rows["all"] = "a", "b", rows.to_numpy().tolist()
    with pytest.raises(error, match=text):
        job(rows, input={"group_by": column})
