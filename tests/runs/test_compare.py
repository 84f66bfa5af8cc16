"""The compare job in this process: who agrees, who does not, and whether it says so rightly."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from scipy.stats import multivariate_normal
from sklearn.metrics import adjusted_rand_score

from helpers.data_sets import clusters
from helpers.html_pages import Page, check_it_loads_nothing, check_its_policy
from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError
from sparkgmm.mixture import Array, Mixture
from sparkgmm.runs import compare_job
from sparkgmm.runs.compare_job import plan_compare, run_compare
from sparkgmm.runs.config import CompareConfig
from sparkgmm.runs.terminal import Terminal
from sparkgmm.scikit import mixture_from_sklearn

pytestmark = pytest.mark.long


class Result:
    """What a comparison left, read as a user would."""

    def __init__(self, folder: Path, out: str) -> None:
        self.folder = folder
        self.out = out
        # strict: NaN and Infinity are no JSON
        self.json: dict[str, Any] = json.loads(
            (folder / "compare.json").read_text(encoding="utf-8"), parse_constant=pytest.fail
        )

    @property
    def page(self) -> Page:
        return Page((self.folder / "compare.html").read_text(encoding="utf-8"))

    @property
    def verdict(self) -> str:
        return str(self.json["verdict"])

    def solver(self, name: str) -> dict[str, Any]:
        [found] = [s for s in self.json["solvers"] if s["name"] == name]
        return found

    def mixture(self, name: str) -> Mixture:
        found = self.solver(name)
        return Mixture(found["weights"], found["means"], found["covariances"])


Compare = Callable[..., Result]


@pytest.fixture(scope="module")
def configured(faithful_csv: str) -> Callable[..., CompareConfig]:
    """A function that makes a configuration; keys are sections with a dictionary each."""

    def make(folder: Path, **sections: dict[str, Any]) -> CompareConfig:
        base: dict[str, dict[str, Any]] = {
            "input": {"path": faithful_csv, "options": {"header": True}},
            "model": {"init": "k-means++", "n_init": 3},
            "compare": {},
            "output": {"path": str(folder)},
        }
        return CompareConfig.model_validate(
            {k: {**v, **sections.get(k, {})} for k, v in base.items()}
        )

    return make


@pytest.fixture
def compare_it(
    spark: SparkSession,
    tmp_path: Path,
    configured: Callable[..., CompareConfig],
    capsys: pytest.CaptureFixture[str],
) -> Compare:
    def run(**sections: dict[str, Any]) -> Result:
        run_compare(spark, configured(tmp_path / "compare", **sections), Terminal())
        return Result(tmp_path / "compare", capsys.readouterr().out)

    return run


@pytest.fixture(scope="module")
def old_faithful(
    spark: SparkSession,
    tmp_path_factory: pytest.TempPathFactory,
    configured: Callable[..., CompareConfig],
) -> Result:
    """Old Faithful, each software run to convergence."""
    folder = tmp_path_factory.mktemp("faithful") / "compare"
    run_compare(
        spark, configured(folder, model={"tol": 1e-9, "max_iter": 1000, "init": "auto"}), Terminal()
    )
    return Result(folder, "")


@pytest.fixture(scope="module")
def separated() -> Array:
    """Five clusters in thirty dimensions, ten standard deviations apart."""
    return clusters(np.random.default_rng(0), 5, 30, 2500, 10.0)[0]


@pytest.fixture(scope="module")
def high_dimensions(
    spark: SparkSession,
    separated: Array,
    tmp_path_factory: pytest.TempPathFactory,
    configured: Callable[..., CompareConfig],
) -> Result:
    folder = tmp_path_factory.mktemp("high")
    columns = {f"x{i}": column for i, column in enumerate(separated.T)}
    pq.write_table(pa.table(columns), folder / "data.parquet")
    config = configured(
        folder / "compare",
        input={"path": str(folder / "data.parquet"), "options": {}},
        model={"k": 5, "n_init": 5},
        compare={"peers": ["mllib", "sklearn"]},
    )
    run_compare(spark, config, Terminal())
    return Result(folder / "compare", "")


def height(mixture: Mixture, X: Array) -> float:
    """Return the mean log-likelihood by scipy, in nats a row."""
    joint = [
        np.log(w) + multivariate_normal(m, c).logpdf(X)
        for w, m, c in zip(mixture.weights, mixture.means, mixture.covariances, strict=True)
    ]
    return float(np.logaddexp.reduce(joint, axis=0).mean())


def gaps(ours: Mixture, theirs: Mixture) -> tuple[float, float, float]:
    """Return the differences under the best of all orders of the components."""

    def under(order: tuple[int, ...]) -> tuple[float, float, float]:
        weights = means = covariances = 0.0
        for j, i in enumerate(order):
            sd = np.sqrt(np.diagonal(ours.covariances[j]))
            weights = max(weights, abs(ours.weights[j] - theirs.weights[i]))
            means = max(means, np.abs((ours.means[j] - theirs.means[i]) / sd).max())
            away = (ours.covariances[j] - theirs.covariances[i]) / np.outer(sd, sd)
            covariances = max(covariances, np.abs(away).max())
        return weights, means, covariances

    return min((under(order) for order in itertools.permutations(range(ours.k))), key=max)


# --- Old Faithful


@pytest.mark.parametrize("name", ["sklearn", "mllib"])
def test_on_old_faithful_the_others_agree_in_every_parameter(
    old_faithful: Result, name: str
) -> None:
    found = gaps(old_faithful.mixture("sparkgmm"), old_faithful.mixture(name))
    assert max(found) < 1e-3
    told = old_faithful.solver(name)["differences"]
    np.testing.assert_allclose(
        (told["weights"], told["means"], told["covariances"]), found, rtol=1e-6, atol=1e-12
    )


def test_the_verdict_on_old_faithful(old_faithful: Result) -> None:
    assert old_faithful.verdict.startswith(
        "scikit-learn and Spark MLlib agree with sparkgmm in every weight, mean and covariance"
    )
    assert re.search(
        r"k-means, which assigns .* 0\.[0-9]{4} nats a row worse\.$", old_faithful.verdict
    )
    assert old_faithful.verdict in old_faithful.page.text


@pytest.mark.parametrize("name", ["sparkgmm", "sklearn", "mllib", "kmeans"])
def test_likelihoods_are_those_of_the_parameters_that_are_told(
    old_faithful: Result, faithful: Array, name: str
) -> None:
    solver = old_faithful.solver(name)
    expected = height(old_faithful.mixture(name), faithful)
    assert solver["mean_log_likelihood"] == pytest.approx(expected, abs=1e-10)
    ours = height(old_faithful.mixture("sparkgmm"), faithful)
    assert solver["short_by"] == pytest.approx(ours - expected, abs=1e-9)
    assert solver["rows"] == 272
    assert solver["seconds"] > 0
    assert solver["passes"] >= 1
    assert solver["converged"] is True


def test_k_means_describes_its_own_clusters(old_faithful: Result, faithful: Array) -> None:
    kmeans = old_faithful.mixture("kmeans")
    assert max(gaps(old_faithful.mixture("sparkgmm"), kmeans)) > 0.01
    # its clusters: the nearest centre, in standard deviations of all the rows
    Z = (faithful - faithful.mean(axis=0)) / faithful.std(axis=0)
    centres = (kmeans.means - faithful.mean(axis=0)) / faithful.std(axis=0)
    labels = ((Z[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    for j in range(2):
        mine = faithful[labels == j]
        assert kmeans.weights[j] == pytest.approx(len(mine) / 272)
        np.testing.assert_allclose(kmeans.means[j], mine.mean(axis=0))
        np.testing.assert_allclose(kmeans.covariances[j], np.cov(mine.T, ddof=0))
    ours = old_faithful.mixture("sparkgmm").predict(faithful)
    index = old_faithful.solver("kmeans")["adjusted_rand_index"]
    assert index == pytest.approx(adjusted_rand_score(ours, labels))
    assert index < 1


def test_the_page_of_old_faithful_is_whole(old_faithful: Result) -> None:
    page = old_faithful.page
    check_it_loads_nothing(page)
    check_its_policy(page)
    assert "What happened in MLlib" not in page.text
    assert "What hard assignment loses" in page.text
    png = (old_faithful.folder / "plots" / "contours.png").read_bytes()
    assert png.startswith(b"\x89PNG")
    found = {
        str(p.relative_to(old_faithful.folder))
        for p in old_faithful.folder.rglob("*")
        if p.is_file() and not p.name.endswith(".crc")
    }
    assert found == {"compare.html", "compare.json", "plots/contours.png"}


def test_the_configuration_is_kept_with_the_result(old_faithful: Result) -> None:
    configuration = old_faithful.json["configuration"]
    assert configuration["model"]["tol"] == 1e-9
    assert configuration["compare"]["peers"] == ["sklearn", "mllib", "kmeans"]
    assert old_faithful.json["features"] == ["eruptions", "waiting"]


# --- thirty dimensions, well separated


def test_in_thirty_dimensions_ours_finds_the_clusters_and_mllib_does_not(
    high_dimensions: Result, separated: Array
) -> None:
    ours = high_dimensions.mixture("sparkgmm")
    truth = np.arange(len(separated)) % 5
    assert adjusted_rand_score(truth, ours.predict(separated)) == 1
    theirs = high_dimensions.mixture("mllib")
    assert adjusted_rand_score(truth, theirs.predict(separated)) < 0.99
    short = height(ours, separated) - height(theirs, separated)
    assert short > 0.1
    assert high_dimensions.solver("mllib")["short_by"] == pytest.approx(short, rel=1e-6)
    assert f"Spark MLlib ends {short:.2e} nats a row short of sparkgmm" in high_dimensions.verdict
    assert "scikit-learn agrees with sparkgmm" in high_dimensions.verdict


def test_what_the_page_says_of_mllib_holds_when_it_is_computed_again(
    high_dimensions: Result, separated: Array
) -> None:
    text = high_dimensions.page.text
    assert "What happened in MLlib" in text
    theirs = high_dimensions.mixture("mllib")
    densities = np.stack(
        [
            w * multivariate_normal(m, c).pdf(separated)
            for w, m, c in zip(theirs.weights, theirs.means, theirs.covariances, strict=True)
        ]
    )
    drowned = (densities < np.finfo(float).eps).all(axis=0).mean()
    told = re.search(r"For ([0-9.]+)% of the rows every weighted density", text)
    assert told
    assert float(told.group(1)) == pytest.approx(100 * drowned, abs=0.06)
    same = re.search(
        r"MLlib's 5 components are one and the same: the largest Bhattacharyya distance between "
        r"any two is ([0-9.e-]+)\.",
        text,
    )
    spread = np.ptp(theirs.means, axis=0).max()
    # one and the same they are called exactly where they are
    assert bool(same) == (spread < 0.1)


# --- other inputs


def test_scikit_learn_declines_weights_and_says_so(
    compare_it: Compare, faithful: Array, tmp_path: Path
) -> None:
    weights = 1 + np.arange(272) % 3
    table = pa.table({"x": faithful[:, 0], "y": faithful[:, 1], "w": weights})
    pq.write_table(table, tmp_path / "weighted.parquet")
    result = compare_it(
        input={"path": str(tmp_path / "weighted.parquet"), "options": {}, "weight": "w"},
        model={"tol": 1e-9, "max_iter": 1000},
    )
    assert result.solver("sklearn")["failed"] == "it takes no row weights"
    assert "scikit-learn gave no mixture (it takes no row weights)" in result.verdict
    assert "failed: it takes no row weights" in result.page.cells
    assert result.verdict.startswith("Spark MLlib agrees with sparkgmm")
    repeated = np.repeat(faithful, weights, axis=0)
    for name in ("sparkgmm", "mllib", "kmeans"):
        expected = height(result.mixture(name), repeated)
        assert result.solver(name)["mean_log_likelihood"] == pytest.approx(expected, abs=1e-9)
    # what k-means is described by is weighted too
    assert result.mixture("kmeans").weights @ result.mixture("kmeans").means == pytest.approx(
        repeated.mean(axis=0)
    )


def test_a_sample_for_scikit_learn_is_said(compare_it: Compare, faithful: Array) -> None:
    result = compare_it(compare={"peers": ["sklearn"], "sample_rows": 150})
    solver = result.solver("sklearn")
    assert solver["rows"] == 150
    assert solver["note"] == "fitted to a random sample of 150 of the 272 rows"
    assert solver["note"] in result.page.text
    # and it is judged by all rows
    expected = height(result.mixture("sklearn"), faithful)
    assert solver["mean_log_likelihood"] == pytest.approx(expected, abs=1e-10)


def test_only_the_peers_that_are_asked_for_are_compared(compare_it: Compare) -> None:
    result = compare_it(compare={"peers": ["kmeans"]})
    assert [s["name"] for s in result.json["solvers"]] == ["sparkgmm", "kmeans"]
    assert "scikit-learn" not in result.page.text
    assert result.verdict in result.out
    assert f"page {result.folder}/compare.html" in result.out


@pytest.mark.parametrize("kind", ["tied", "diag", "spherical"])
def test_scikit_learn_agrees_in_every_covariance_type(compare_it: Compare, kind: str) -> None:
    result = compare_it(
        model={"covariance_type": kind, "tol": 1e-9, "max_iter": 1000},
        compare={"peers": ["sklearn"]},
    )
    assert max(gaps(result.mixture("sparkgmm"), result.mixture("sklearn"))) < 1e-3
    assert result.json["covariance_type"] == kind
    assert result.verdict.startswith("scikit-learn agrees with sparkgmm")


def test_full_covariances_beside_simpler_ones_are_called_what_they_are(
    compare_it: Compare,
) -> None:
    result = compare_it(
        model={"covariance_type": "spherical"}, compare={"peers": ["mllib", "kmeans"]}
    )
    assert "with full covariances where sparkgmm has spherical ones" in result.verdict
    assert "nats a row better" in result.verdict
    assert not re.search(r" -[0-9]", result.verdict)
    assert "for it has no spherical ones" in str(result.solver("mllib")["note"])


def test_the_best_k_is_what_the_others_get(compare_it: Compare) -> None:
    result = compare_it(
        model={"k": [1, 2, 3], "covariance_type": ["full", "tied"], "n_init": 5},
        compare={"peers": ["sklearn"]},
    )
    assert result.json["covariance_type"] == "tied"
    assert len(result.solver("sparkgmm")["weights"]) == 3
    assert len(result.solver("sklearn")["weights"]) == 3


def test_invalid_rows_go_to_no_software(
    compare_it: Compare, faithful: Array, write_csv: Callable[..., str]
) -> None:
    good = [f"{x},{y}" for x, y in faithful]
    path = write_csv("x,y", *good, ",60", "NaN,60", "2,Infinity")
    with pytest.raises(InputError, match="3 of 275 rows are invalid"):
        compare_it(input={"path": path})
    result = compare_it(
        input={"path": path, "invalid_rows": "drop"}, model={"tol": 1e-8, "max_iter": 500}
    )
    assert {s["rows"] for s in result.json["solvers"]} == {272}
    assert result.verdict.startswith("scikit-learn and Spark MLlib agree")


def test_a_constant_feature_goes_to_no_software(
    compare_it: Compare, faithful: Array, tmp_path: Path
) -> None:
    columns = {"x": faithful[:, 0], "one": np.ones(272), "y": faithful[:, 1]}
    pq.write_table(pa.table(columns), tmp_path / "constant.parquet")
    result = compare_it(
        input={
            "path": str(tmp_path / "constant.parquet"),
            "options": {},
            "constant_features": "drop",
        },
    )
    assert result.json["features"] == ["x", "y"]
    assert all(np.shape(s["means"]) == (2, 2) for s in result.json["solvers"])


def test_one_feature_is_compared_like_many(compare_it: Compare, faithful: Array) -> None:
    result = compare_it(input={"features": ["waiting"]}, model={"tol": 1e-9, "max_iter": 1000})
    assert result.verdict.startswith("scikit-learn and Spark MLlib agree")
    expected = height(result.mixture("kmeans"), faithful[:, [1]])
    assert result.solver("kmeans")["mean_log_likelihood"] == pytest.approx(expected, abs=1e-9)


# --- peers that fail


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("An error occurred while calling o1.fit.\n: java.lang.Oops: lost\n\tat x.y"),
        MemoryError("no room"),
        ValueError("bad"),
        np.linalg.LinAlgError("singular"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_peer_that_fails_is_a_result(
    compare_it: Compare, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: Any) -> Any:
        raise error

    monkeypatch.setitem(compare_job.PEERS, "sklearn", fail)
    result = compare_it(compare={"peers": ["sklearn", "kmeans"]})
    reason = result.solver("sklearn")["failed"]
    assert reason
    assert "\n" not in reason
    assert "\tat " not in reason
    assert f"scikit-learn gave no mixture ({reason})" in result.verdict
    assert "weights" not in result.solver("sklearn")
    assert result.solver("kmeans")["failed"] is None


def test_an_interruption_is_not_taken_for_a_result(
    compare_it: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setitem(compare_job.PEERS, "sklearn", interrupt)
    with pytest.raises(KeyboardInterrupt):
        compare_it(compare={"peers": ["sklearn"]})


def test_clusters_without_rows_are_a_failure_of_k_means(
    compare_it: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def two_of_the_same(*_: Any) -> Any:
        return np.array([[0.0, 0.0], [1e9, 1e9]]), np.ones(2), 3

    monkeypatch.setattr(compare_job, "fit_kmeans", two_of_the_same)
    result = compare_it(compare={"peers": ["kmeans"]})
    assert result.solver("kmeans")["failed"] == "only 1 of 2 clusters have rows"


def test_our_own_failure_fails_the_job_and_writes_nothing(
    compare_it: Compare, tmp_path: Path
) -> None:
    with pytest.raises(SparkGmmError, match="distinct rows"):
        compare_it(model={"k": 500})
    assert not (tmp_path / "compare").exists()


def test_a_missing_scikit_learn_is_told_before_anything_is_read(
    compare_it: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ConfigurationError, match=r"sklearn .*pip install 'sparkgmm\[compare\]'"):
        compare_it(input={"path": str(tmp_path / "absent.csv")})


def test_nothing_stays_cached(spark: SparkSession, compare_it: Compare) -> None:
    before = spark.sparkContext._jsc.getPersistentRDDs().size()
    compare_it(compare={"peers": ["kmeans"]})
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == before


def test_the_plan_tells_whom_it_would_compare_and_writes_nothing(
    spark: SparkSession, tmp_path: Path, configured: Callable[..., CompareConfig]
) -> None:
    text = plan_compare(spark, configured(tmp_path / "compare", compare={"peers": ["mllib"]}))
    assert "compares sparkgmm with mllib" in text
    assert "eruptions, waiting" in text
    assert f"{tmp_path}/compare/compare.html" in text
    assert list(tmp_path.iterdir()) == []


def test_settings_that_a_comparison_ignores_are_told(
    spark: SparkSession, tmp_path: Path, configured: Callable[..., CompareConfig]
) -> None:
    config = configured(tmp_path / "compare", model={"engine": "mllib", "seed": 3})
    text = plan_compare(spark, config)
    assert "note     model.engine has no effect on a comparison" in text
    assert "seed" not in text
    assert "quarantine" not in text
    config = configured(tmp_path / "compare", input={"invalid_rows": "quarantine"})
    assert "a comparison keeps no quarantine" in plan_compare(spark, config)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("full", (3, 2, 2)), ("tied", (2, 2)), ("diag", (3, 2)), ("spherical", (3,))],
)
def test_covariances_of_scikit_learn_become_dense(kind: str, shape: tuple[int, ...]) -> None:
    from sklearn.mixture import GaussianMixture

    X = np.random.default_rng(0).normal(size=(300, 2)) * [1.0, 3.0]
    theirs = GaussianMixture(3, covariance_type=kind, random_state=0).fit(X)
    assert theirs.covariances_.shape == shape
    found = mixture_from_sklearn(theirs)
    assert found.covariances.shape == (3, 2, 2)
    np.testing.assert_allclose(found.log_density(X), theirs.score_samples(X))
