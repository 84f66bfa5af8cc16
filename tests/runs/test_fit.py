"""The fit job in this process: what it computes, publishes and says."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from pyspark.sql import SparkSession

from helpers.html_pages import Page, check_it_loads_nothing, check_its_policy
from sparkgmm.errors import ConfigurationError, FitError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import plan, run_fit
from sparkgmm.runs.terminal import Terminal

METRICS = {
    "log_likelihood",
    "mean_log_likelihood",
    "bic",
    "aic",
    "icl",
    "n_parameters",
    "converged",
    "n_iter",
    "log_likelihoods",
    "rows_read",
    "rows_used",
    "rows_invalid",
    "candidates",
    "seconds",
}


class Run:
    """A published run, read as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def json(self, name: str) -> Any:
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    @property
    def metrics(self) -> dict[str, Any]:
        return self.json("metrics.json")

    @property
    def model_bytes(self) -> bytes:
        return (self.folder / "model.json").read_bytes()

    @property
    def mixture(self) -> Mixture:
        return Mixture.from_json(self.model_bytes.decode())


Fit = Callable[..., Run]


@pytest.fixture
def configured(tmp_path: Path, faithful_csv: str) -> Callable[..., FitConfig]:
    """A function that makes a configuration; keys are sections with a dictionary each."""

    def make(**sections: dict[str, Any]) -> FitConfig:
        base: dict[str, dict[str, Any]] = {
            "input": {"path": faithful_csv, "options": {"header": True}},
            "model": {"init": "k-means++", "n_init": 3},
            "output": {"path": str(tmp_path / "runs"), "report": False},
        }
        return FitConfig.model_validate({k: {**v, **sections.get(k, {})} for k, v in base.items()})

    return make


@pytest.fixture
def fit(spark: SparkSession, tmp_path: Path, configured: Callable[..., FitConfig]) -> Fit:
    """A function that runs the job and returns the run that LATEST names."""

    def run(overwrite: bool = False, **sections: dict[str, Any]) -> Run:
        run_fit(spark, configured(**sections), Terminal(), overwrite)
        root = tmp_path / "runs"
        return Run(root / (root / "LATEST").read_text().strip())

    return run


def nothing_published(tmp_path: Path) -> bool:
    return not (tmp_path / "runs").exists()


def test_em_reaches_the_published_optimum_of_old_faithful(fit: Fit, faithful: np.ndarray) -> None:
    run = fit(model={"reg_covar": 0, "init": "auto"})
    mixture = run.mixture
    assert run.metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-4)
    assert run.metrics["bic"] == pytest.approx(2322.1917, abs=1e-3)
    assert run.metrics["n_parameters"] == 11
    assert run.metrics["converged"] is True
    np.testing.assert_allclose(mixture.weights, [0.644127, 0.355873], atol=1e-5)
    means = [[4.289662, 79.968115], [2.036388, 54.478516]]
    np.testing.assert_allclose(mixture.means, means, atol=1e-3)
    covariances = [
        [[0.169968, 0.940609], [0.940609, 36.046210]],
        [[0.069168, 0.435168], [0.435168, 33.697282]],
    ]
    np.testing.assert_allclose(mixture.covariances, covariances, atol=2e-3)
    assert mixture.features == ("eruptions", "waiting")
    assert mixture.log_likelihood(faithful) == pytest.approx(run.metrics["log_likelihood"])


def test_the_default_regularisation_costs_next_to_nothing(fit: Fit, faithful: np.ndarray) -> None:
    run = fit()
    assert run.metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-3)
    assert run.mixture.icl(faithful) == pytest.approx(run.metrics["icl"])
    assert run.mixture.aic(faithful) == pytest.approx(run.metrics["aic"])


def test_mllib_reaches_the_same_optimum_judged_by_our_likelihood(
    fit: Fit, faithful: np.ndarray
) -> None:
    run = fit(model={"engine": "mllib", "n_init": 1, "tol": 1e-8})
    assert run.metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-3)
    assert run.mixture.log_likelihood(faithful) == pytest.approx(
        run.metrics["log_likelihood"], rel=1e-12
    )
    assert run.mixture.bic(faithful) == pytest.approx(run.metrics["bic"], rel=1e-12)
    np.testing.assert_allclose(run.mixture.weights, [0.644127, 0.355873], atol=1e-3)


def test_bic_chooses_three_tied_components_for_old_faithful(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = {"k": [1, 2, 3, 4, 5], "covariance_type": ["full", "tied"]}
    run = fit(model={**choice, "init": "auto", "n_init": 3})
    assert (run.metrics["k"], run.metrics["covariance_type"]) == (3, "tied")
    assert run.metrics["bic"] == pytest.approx(2314.2957, abs=1e-2)
    kinds = [(c["k"], c["covariance_type"]) for c in run.metrics["candidates"]]
    assert sorted(kinds) == sorted((k, t) for k in range(1, 6) for t in ("full", "tied"))
    sound = [c for c in run.metrics["candidates"] if c["degenerate"] is None]
    assert min(c["bic"] for c in sound) == run.metrics["bic"]
    [chosen] = re.findall(r"^ *\*.*$", capsys.readouterr().out, flags=re.MULTILINE)
    assert re.search(r"\b3\b.*\btied\b", chosen)


def test_a_weight_counts_as_so_many_rows(fit: Fit, faithful: np.ndarray, tmp_path: Path) -> None:
    w = np.arange(len(faithful)) % 4
    single = {"x": faithful[:, 0], "y": faithful[:, 1], "w": w}
    pq.write_table(pa.table(single), tmp_path / "single.parquet")
    repeated = np.repeat(faithful, w, axis=0)
    pq.write_table(
        pa.table({"x": repeated[:, 0], "y": repeated[:, 1]}), tmp_path / "repeated.parquet"
    )
    a = fit(input={"path": str(tmp_path / "single.parquet"), "weight": "w"})
    b = fit(input={"path": str(tmp_path / "repeated.parquet")})
    for name in ("log_likelihood", "bic", "aic", "icl"):
        assert a.metrics[name] == pytest.approx(b.metrics[name], abs=1e-3)
    np.testing.assert_allclose(a.mixture.weights, b.mixture.weights, atol=1e-5)
    np.testing.assert_allclose(a.mixture.means, b.mixture.means, rtol=1e-4)
    np.testing.assert_allclose(a.mixture.covariances, b.mixture.covariances, rtol=1e-3)
    assert a.metrics["sum_of_weights"] == w.sum()
    assert (a.metrics["rows_read"], a.metrics["rows_used"]) == (272, 272)


@pytest.mark.parametrize("where", ["driver", "executors"])
def test_the_same_run_twice_gives_the_same_bytes(
    fit: Fit, driver_bytes: Callable[[int], None], where: str
) -> None:
    before = fit(model={"max_iter": 8}, output={"run_id": "before"})
    if where == "executors":
        driver_bytes(0)
    after = fit(model={"max_iter": 8}, output={"run_id": "after"})
    assert after.folder != before.folder
    assert after.model_bytes == before.model_bytes


def test_warm_start_goes_on_from_an_earlier_run_or_the_latest(fit: Fit, tmp_path: Path) -> None:
    cold = fit(output={"run_id": "cold"})
    for i, start in enumerate((tmp_path / "runs", tmp_path / "runs" / "cold")):
        warm = fit(model={"warm_start": str(start)}, output={"run_id": f"warm-{i}"})
        assert warm.metrics["n_iter"] <= cold.metrics["n_iter"]
        assert warm.metrics["log_likelihood"] == pytest.approx(
            cold.metrics["log_likelihood"], abs=1e-6
        )


@pytest.mark.parametrize(
    ("sections", "part"),
    [
        ({"model": {"k": 3}}, "k = 2"),
        ({"model": {"covariance_type": "tied"}}, "covariance_type full"),
        ({"input": {"features": ["waiting", "eruptions"]}}, "name the same in the same order"),
    ],
    ids=["k", "covariance type", "features"],
)
def test_warm_start_from_another_kind_of_model_is_refused(
    fit: Fit, tmp_path: Path, sections: dict[str, Any], part: str
) -> None:
    fit(model={"max_iter": 3}, output={"run_id": "cold"})
    model = {"warm_start": str(tmp_path / "runs"), **sections.get("model", {})}
    with pytest.raises(ConfigurationError, match="warm_start") as caught:
        fit(model=model, input=sections.get("input", {}))
    assert part in str(caught.value)


def test_warm_start_from_nowhere_is_refused(fit: Fit, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="neither a whole run"):
        fit(model={"warm_start": str(tmp_path / "absent")})
    assert nothing_published(tmp_path)


@pytest.fixture
def with_a_constant(faithful: np.ndarray, tmp_path: Path) -> str:
    columns = {"x": faithful[:, 0], "one": np.ones(272), "y": faithful[:, 1]}
    pq.write_table(pa.table(columns), tmp_path / "constant.parquet")
    return str(tmp_path / "constant.parquet")


def test_a_constant_feature_is_dropped_and_told(
    fit: Fit, with_a_constant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(input={"path": with_a_constant, "constant_features": "drop"})
    assert run.mixture.features == ("x", "y")
    assert run.metrics["constant_features_dropped"] == ["one"]
    assert run.metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-3)
    assert "dropped as constant: one" in capsys.readouterr().err


def test_dropping_a_constant_leaves_no_file_of_blocks(
    spark: SparkSession, fit: Fit, tmp_path: Path
) -> None:
    cached = spark.sparkContext._jsc.getPersistentRDDs().size()
    X = np.random.default_rng(0).normal(size=(9000, 2))
    columns = {"x": X[:, 0], "one": np.ones(len(X)), "y": X[:, 1]}
    pq.write_table(pa.table(columns), tmp_path / "large.parquet")
    fit(
        input={"path": str(tmp_path / "large.parquet"), "constant_features": "drop"},
        model={"max_iter": 2, "n_init": 1},
    )
    local = Path(spark.sparkContext.getConf().get("spark.local.dir"))
    assert list(local.rglob("*.blocks")) == []
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == cached


def test_a_constant_feature_is_refused_by_default(
    fit: Fit, with_a_constant: str, tmp_path: Path
) -> None:
    with pytest.raises(
        InputError, match=r"feature 'one' is constant .*set input\.constant_features to drop"
    ):
        fit(input={"path": with_a_constant})
    assert nothing_published(tmp_path)


def test_nothing_but_constants_is_refused(fit: Fit, with_a_constant: str) -> None:
    with pytest.raises(InputError, match="every feature is constant"):
        fit(input={"path": with_a_constant, "features": ["one"], "constant_features": "drop"})


def test_a_constant_in_a_vector_cannot_be_dropped_and_says_so(fit: Fit, tmp_path: Path) -> None:
    table = pa.table({"v": [[float(i), 1.0] for i in range(9)]})
    pq.write_table(table, tmp_path / "v.parquet")
    with pytest.raises(InputError, match=r"v\[1\] of vector column 'v'"):
        fit(
            input={
                "path": str(tmp_path / "v.parquet"),
                "features": "v",
                "constant_features": "drop",
            }
        )


@pytest.fixture
def dirty(faithful: np.ndarray, write_csv: Callable[..., str]) -> str:
    """Old Faithful with four rows that cannot count."""
    good = [f"{i},{x},{y},1" for i, (x, y) in enumerate(faithful)]
    return write_csv(
        "id,x,y,w", *good, "900,,60,1", "901,NaN,,1", "902,2,Infinity,1", "903,2,60,-1"
    )


def test_invalid_rows_fail_by_default_with_columns_and_counts(
    fit: Fit, dirty: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        fit(input={"path": dirty, "features": ["x", "y"], "weight": "w"})
    message = str(caught.value)
    assert message.startswith("4 of 276 rows are invalid")
    for part in ("x null in 1", "x NaN in 1", "y null in 1", "y infinite in 1", "w negative in 1"):
        assert part in message
    assert "drop or quarantine" in message
    assert nothing_published(tmp_path)


@pytest.mark.parametrize("rule", ["drop", "quarantine"])
def test_every_row_is_accounted_for_and_the_rest_is_fitted(
    spark: SparkSession, fit: Fit, dirty: str, capsys: pytest.CaptureFixture[str], rule: str
) -> None:
    columns = {"features": ["x", "y"], "weight": "w"}
    run = fit(input={"path": dirty, "invalid_rows": rule, **columns})
    metrics = run.metrics
    assert metrics["rows_read"] == metrics["rows_used"] + metrics["rows_invalid"] == 276
    assert metrics["rows_invalid"] == 4
    assert metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-3)
    assert metrics["missing_by_column"] == {"x": 2, "y": 1, "w": 0}
    assert metrics["invalid_by_column"] == {"x": 2, "y": 2, "w": 1}
    said = capsys.readouterr()
    fate = {"drop": "dropped", "quarantine": "put into rejected/"}[rule]
    account = f"4 of 276 rows (1.45%) are invalid and were {fate}: x null in 1, y null in 1, "
    assert account in said.err
    assert account in said.out
    assert "272 used" in said.err
    assert (run.folder / "rejected").exists() == (rule == "quarantine")
    if rule == "quarantine":
        nan, inf = float("nan"), float("inf")
        expected = spark.createDataFrame(
            [
                (900, None, 60.0, 1, "x is null"),
                (901, nan, None, 1, "x is NaN, y is null"),
                (902, 2.0, inf, 1, "y is infinite"),
                (903, 2.0, 60.0, -1, "w is negative"),
            ],
            "id int, x double, y double, w int, reason string",
        )
        found = spark.read.parquet(str(run.folder / "rejected"))
        assert_df_equality(
            found, expected, ignore_nullable=True, ignore_row_order=True, allow_nan_equality=True
        )


def test_the_report_says_which_columns_cost_how_many_rows(fit: Fit, dirty: str) -> None:
    source = {"path": dirty, "invalid_rows": "drop", "features": ["x", "y"], "weight": "w"}
    run = fit(input=source, output={"report": True})
    page = (run.folder / "report.html").read_text()
    assert "At fault: x in 2 rows, y in 2 rows, w in 1 rows" in page
    assert '<th scope="col">missing</th>' in page
    assert '<th scope="col">invalid</th>' in page


def test_where_all_rows_are_invalid_the_columns_at_fault_are_named(
    fit: Fit, faithful: np.ndarray, write_csv: Callable[..., str]
) -> None:
    path = write_csv("x,y,empty", *(f"{x},{y}," for x, y in faithful))
    source = {
        "path": path,
        "invalid_rows": "drop",
        "options": {"header": True, "schema": "x double, y double, empty double"},
    }
    with pytest.raises(InputError, match=r"all 272 rows are invalid \(empty null in 272\)"):
        fit(input=source)


def test_columns_that_may_be_no_quantities_are_named_before_the_fit_and_in_what_it_leaves(
    fit: Fit,
    faithful: np.ndarray,
    write_csv: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [f"{i},{x},{y},{int(y > 70)},{i % 5}" for i, (x, y) in enumerate(faithful)]
    run = fit(input={"path": write_csv("key,x,y,long,day", *lines)}, output={"report": True})
    said = capsys.readouterr()
    expected = [
        "integers that differ in every row, as an id or a row number does: key: leave it out of "
        "input.features",
        "two values only, as a label or a flag has: long (0, 1)",
        "few values, fitted as a quantity: day (5 values)",
    ]
    page = (run.folder / "report.html").read_text()
    for text in expected:
        assert f"warning: {text}" in said.err
        assert f"warning: {text}" in said.out
        assert any(text in warning for warning in run.metrics["warnings"])
        assert text[1:] in page


@pytest.mark.parametrize("rule", ["fail", "drop", "quarantine"])
def test_ragged_vectors_are_invalid_rows_like_others(
    spark: SparkSession, fit: Fit, faithful: np.ndarray, tmp_path: Path, rule: str
) -> None:
    table = pa.table({"v": [*faithful.tolist(), [1.0], None, [1.0, 2.0, 3.0]]})
    pq.write_table(table, tmp_path / "v.parquet")
    source = {"path": str(tmp_path / "v.parquet"), "features": "v", "invalid_rows": rule}
    if rule == "fail":
        with pytest.raises(InputError, match="v not of length 2 in 2"):
            fit(input=source)
        return
    run = fit(input=source)
    assert (run.metrics["rows_read"], run.metrics["rows_invalid"]) == (275, 3)
    assert run.mixture.features == ("v[0]", "v[1]")
    if rule == "quarantine":
        found = spark.read.parquet(str(run.folder / "rejected")).select("reason").collect()
        assert sorted(row.reason for row in found) == [
            "v has 1 values, not 2",
            "v has 3 values, not 2",
            "v is null",
        ]


def test_decimals_integers_and_odd_names_fit_like_doubles(
    spark: SparkSession, fit: Fit, faithful: np.ndarray, tmp_path: Path
) -> None:
    df = spark.createDataFrame(faithful.tolist(), "x double, y double")
    odd = df.selectExpr("cast(x as decimal(10,3)) as `a.b 'c'`", "cast(y as int) as `温``度`")
    odd.coalesce(1).write.parquet(str(tmp_path / "odd.parquet"))
    run = fit(input={"path": str(tmp_path / "odd.parquet")})
    assert run.mixture.features == ("a.b 'c'", "温`度")
    assert run.metrics["log_likelihood"] == pytest.approx(-1130.26396, abs=1e-3)


def test_a_run_holds_what_the_documentation_says(fit: Fit) -> None:
    run = fit(output={"run_id": "a"})
    found = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    required = {"model.json", "metrics.json", "metrics.prom", "statistics.json", "manifest.json"}
    assert required < found
    rest = found - required
    assert sum(path.startswith("components/") for path in rest) == 1
    assert all(re.match(r"components/|report\.html$|plots/.*\.png$", path) for path in rest)
    assert set(run.metrics) >= METRICS
    assert len(run.metrics["log_likelihoods"]) == run.metrics["n_iter"]
    assert len(run.metrics["candidates"]) == 1
    model = run.json("model.json")
    assert model["format_version"] == 2
    assert np.shape(model["covariances"]) == (2, 2, 2)


def test_the_manifest_records_configuration_versions_inputs_and_checksums(
    fit: Fit, faithful_csv: str
) -> None:
    run = fit(output={"run_id": "a"})
    manifest = run.json("manifest.json")
    assert manifest["run_id"] == "a"
    assert manifest["configuration"]["model"]["tol"] == 1e-6
    assert manifest["configuration"]["input"]["path"] == faithful_csv
    assert {"sparkgmm", "spark", "python", "numpy", "java"} <= set(manifest["versions"])
    [source] = manifest["input"]
    assert source["path"].endswith("faithful.csv")
    assert source["bytes"] == Path(faithful_csv).stat().st_size
    listed = {entry["path"] for entry in manifest["files"]}
    found = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    assert listed == found - {"manifest.json"}
    for entry in manifest["files"]:
        content = (run.folder / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_default_run_id_sorts_by_time_and_names_the_configuration(
    fit: Fit, configured: Callable[..., FitConfig]
) -> None:
    first, second = (fit(model={"max_iter": 2}) for _ in range(2))
    digest = configured(model={"max_iter": 2}).digest()
    assert re.fullmatch(rf"\d{{8}}T\d{{6}}\.\d{{3}}Z-{digest}", first.folder.name)
    assert first.folder.name < second.folder.name


def test_an_existing_run_is_left_alone_unless_it_is_to_be_overwritten(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(output={"run_id": "a"})
    before = run.model_bytes
    capsys.readouterr()
    fit(output={"run_id": "a"}, model={"k": 3})
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "run a exists" in said.err
    assert "--overwrite" in said.err
    assert run.model_bytes == before
    fit(output={"run_id": "a"}, model={"k": 3}, overwrite=True)
    assert run.mixture.k == 3


def test_an_unfinished_run_is_done_again(fit: Fit) -> None:
    run = fit(output={"run_id": "a"})
    (run.folder / "manifest.json").unlink()
    fit(output={"run_id": "a"}, model={"k": 3})
    assert run.mixture.k == 3


def test_a_file_that_breaks_off_is_refused(fit: Fit, tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    lines = "a,b\n" + "".join(f"{i},{i * i % 97}\n" for i in range(50_000))
    path.write_bytes(gzip.compress(lines.encode())[:-5000])
    with pytest.raises(InputError, match=r"data\.csv\.gz.* cannot be read"):
        fit(input={"path": str(path)})
    assert nothing_published(tmp_path)


def test_a_run_that_fails_leaves_the_earlier_ones_as_they_were(fit: Fit, tmp_path: Path) -> None:
    before = fit(output={"run_id": "before"})
    with pytest.raises(InputError, match="distinct rows"):
        fit(output={"run_id": "after"}, model={"k": 999})
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["LATEST", "before"]
    assert (tmp_path / "runs" / "LATEST").read_text() == "before\n"
    assert before.mixture.k == 2


def test_repeated_points_as_many_as_components_are_degenerate(
    fit: Fit, write_csv: Callable[..., str], tmp_path: Path
) -> None:
    path = write_csv("x,y", *["3.6,79", "1.8,54", "3.333,74"] * 4)
    with pytest.raises(FitError, match=r"every candidate is degenerate .*: lower model\.k, "):
        fit(input={"path": path}, model={"k": 3})
    assert nothing_published(tmp_path)


def test_on_a_pipe_the_terminal_gets_plain_lines_and_the_result_on_stdout(
    fit: Fit, capfd: pytest.CaptureFixture[str]
) -> None:
    run = fit()
    said = capfd.readouterr()
    lines = said.err.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d ", line) for line in lines)
    assert any("read 272 rows of 2 features" in line for line in lines)
    assert any(" EM pass 1: " in line and "nats a row" in line for line in lines)
    assert "\x1b" not in said.err + said.out
    assert "\r" not in said.err + said.out
    assert "log-likelihood -1130.26" in said.out
    assert str(run.folder) in said.out
    assert "4.290 ± 0.412" in said.out


def test_nobody_overlooks_that_every_k_above_one_was_refused(
    fit: Fit, write_csv: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_csv("x,y", *["3.6,79", "1.8,54", "3.333,74", "2.283,62"] * 4)
    run = fit(input={"path": path}, model={"k": [1, 4]}, output={"report": True})
    out = capfd.readouterr().out
    assert out.startswith("!" * 78 + "\nEVERY k ABOVE 1 WAS REFUSED")
    assert re.search(r"k = 4 full: component \d is a spike: 4 rows .* at [xy] = ", out)
    assert run.metrics["k"] == 1
    assert run.metrics["every_k_above_1_refused"] is True
    assert run.metrics["warnings"][0] in out
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "EVERY k ABOVE 1 WAS REFUSED" in page


def test_an_atom_is_named_in_terminal_metrics_and_report(
    fit: Fit, write_csv: Callable[..., str], capfd: pytest.CaptureFixture[str]
) -> None:
    amounts = np.random.default_rng(0).lognormal(3, 1, 200)
    path = write_csv("amount", *["0"] * 80, *map(repr, amounts.tolist()))
    run = fit(input={"path": path}, model={"k": [1, 2]}, output={"report": True})
    said = "component 1 is 80 rows of one value, amount = 0: as wide there as"
    assert f"warning: {said}" in capfd.readouterr().out
    assert run.metrics["k"] == 2
    assert run.metrics["every_k_above_1_refused"] is False
    assert run.metrics["warnings"][0].startswith(said)
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert said.replace("component 1", "Component 1") in page


def test_a_limit_that_ran_out_is_not_called_convergence(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(model={"max_iter": 2, "n_init": 1, "k": 3})
    assert run.metrics["converged"] is False
    assert run.metrics["n_iter"] == 2
    assert "NOT converged (raise model.max_iter)" in capsys.readouterr().out


def test_the_plan_tells_what_would_be_read_fitted_and_written(
    spark: SparkSession, tmp_path: Path, configured: Callable[..., FitConfig]
) -> None:
    text = plan(spark, configured(model={"k": [2, 3], "n_init": 4}, output={"run_id": "a"}))
    for part in ("1 file(s)", "eruptions, waiting", "2 candidate(s)", "4 start(s)", "/runs/a"):
        assert part in text
    assert nothing_published(tmp_path)


# --- The report of a run


def test_a_run_holds_its_report_and_plots_with_checksums(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(output={"report": True, "run_id": "a"}, model={"k": [1, 2]})
    listed = {entry["path"]: entry["sha256"] for entry in run.json("manifest.json")["files"]}
    names = {"report.html", *(f"plots/{name}.png" for name in ("mixture", "criterion"))}
    assert names < listed.keys()
    for name in [name for name in listed if name.startswith(("report", "plots"))]:
        content = (run.folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == listed[name]
    assert f"report {run.folder}/report.html" in capsys.readouterr().out
    assert run.metrics["seconds_by_step"]["report"] >= 0


def test_the_report_shows_what_the_run_found(fit: Fit) -> None:
    run = fit(output={"report": True, "run_id": "a"})
    page = Page((run.folder / "report.html").read_text(encoding="utf-8"))
    check_it_loads_nothing(page)
    check_its_policy(page)
    assert "run a" in page.text
    assert f"{run.metrics['log_likelihood']:,.5f}" in page.cells
    assert {"4.290 ± 0.412", "2.036 ± 0.263"} < set(page.cells)
    assert "Before you trust it" not in page.text
    assert "272 read, 272 used, 0 invalid" in page.cells


def test_a_report_that_is_not_wanted_is_left_out(
    fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run = fit(output={"report": False})
    assert not (run.folder / "report.html").exists()
    assert not (run.folder / "plots").exists()
    assert not [
        entry["path"]
        for entry in run.json("manifest.json")["files"]
        if entry["path"].startswith(("report", "plots"))
    ]
    assert "report.html" not in capsys.readouterr().out


def test_a_report_that_cannot_be_drawn_does_not_lose_the_run(
    fit: Fit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("no pencil")

    monkeypatch.setattr("sparkgmm.report.page.report", fail)
    run = fit(output={"report": True})
    said = capsys.readouterr()
    assert "the report could not be drawn (RuntimeError: no pencil)" in said.err
    assert "report.html" not in said.out
    assert run.mixture.k == 2
    assert (run.folder / "manifest.json").exists()
    assert not (run.folder / "report.html").exists()


def test_mllibs_run_has_a_report_too(fit: Fit) -> None:
    run = fit(model={"engine": "mllib", "n_init": 1}, output={"report": True})
    assert (run.folder / "report.html").stat().st_size > 10_000


def test_a_quarantined_run_says_so_in_its_report(fit: Fit, dirty: str) -> None:
    source = {"path": dirty, "features": ["x", "y"], "weight": "w", "invalid_rows": "quarantine"}
    run = fit(input=source, output={"report": True})
    page = Page((run.folder / "report.html").read_text(encoding="utf-8"))
    assert re.search(r"4 .*\(1\.45%\).*rejected/", page.text)


def test_the_model_keeps_the_quantiles_of_the_training_density(
    fit: Fit, faithful: np.ndarray
) -> None:
    run = fit()
    stored = run.json("model.json")["log_density_quantiles"]
    density = np.sort(run.mixture.log_density(faithful))
    assert stored["n_rows"] == 272
    table = dict(zip(stored["probabilities"], stored["log_density"], strict=True))
    assert table[0.0] == pytest.approx(density[0])
    assert table[1.0] == pytest.approx(density[-1])
    for p in (0.01, 0.1, 0.5, 0.95):
        assert table[p] == pytest.approx(density[int(np.ceil(p * 272)) - 1])


def test_the_model_keeps_the_vector_column_that_its_features_came_in(
    fit: Fit, faithful: np.ndarray, tmp_path: Path
) -> None:
    assert fit().json("model.json")["vector"] is None
    pq.write_table(pa.table({"v": faithful.tolist()}), tmp_path / "v.parquet")
    run = fit(input={"path": str(tmp_path / "v.parquet"), "features": "v"})
    assert run.json("model.json")["vector"] == "v"


def test_json_lines_tell_each_pass_with_its_figures(
    spark: SparkSession, configured: Callable[..., FitConfig], capfd: pytest.CaptureFixture[str]
) -> None:
    run_fit(spark, configured(), Terminal(as_json=True), overwrite=False)
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert all({"time", "message"} <= line.keys() for line in lines)
    passes = [line for line in lines if "pass" in line]
    assert [line["pass"] for line in passes][:2] == [1, 2]
    heights = [line["mean_log_likelihood"] for line in passes]
    assert heights[-1] == pytest.approx(-1130.26396 / 272, abs=1e-6)
