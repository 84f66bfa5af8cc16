"""SQL and ONNX: what other engines compute from what is written is what `Mixture` says."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import sqlglot

from helpers.data_sets import random_mixture
from sparkgmm import Mixture
from sparkgmm.errors import InputError
from sparkgmm.exports.onnx import graph
from sparkgmm.exports.sql import DIALECTS, select
from sparkgmm.mixture import COVARIANCE_TYPES
from sparkgmm.runs.cli import export_main

# Names that have to be quoted.
NAMES = ["a b", 'c"q', "group"]


def mixture_of(covariance_type: str, k: int = 4) -> Mixture:
    m = random_mixture(np.random.default_rng(1), k, 3, covariance_type)
    return Mixture(m.weights, m.means, m.covariances, covariance_type, NAMES)


def rows_of(mixture: Mixture, n: int) -> np.ndarray:
    """Return rows of the mixture, a hundredth of them far out, some a million million times."""
    X = mixture.sample(n, seed=0)[0]
    X[: n // 100] *= 1e3
    X[:10] *= 1e9
    return X


def assert_scores(
    mixture: Mixture, X: np.ndarray, component: Any, R: Any, log_density: Any
) -> None:
    expected = mixture.score(X)
    np.testing.assert_array_equal(component, mixture.predict(X))
    np.testing.assert_allclose(R, expected.responsibilities, rtol=0, atol=1e-9)
    np.testing.assert_allclose(log_density, expected.log_density, rtol=1e-9, atol=1e-9)


def assert_table(mixture: Mixture, X: np.ndarray, scored: pd.DataFrame) -> None:
    names = [f"probability_{j}" for j in range(mixture.k)]
    added = ["component", *names, "log_density"]
    assert list(scored.columns) == [*NAMES, "id", *added]
    scored = scored.sort_values("id")
    assert_scores(
        mixture, X, scored["component"], scored[names].to_numpy(), scored["log_density"].to_numpy()
    )


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("k", [1, 4])
def test_duckdb_scores_a_hundred_thousand_rows_as_the_mixture_does(
    covariance_type: str, k: int
) -> None:
    mixture = mixture_of(covariance_type, k)
    X = rows_of(mixture, 100_000)
    table = pd.DataFrame(X, columns=NAMES).assign(id=range(len(X)))
    with duckdb.connect() as connection:
        connection.register("rows", table)
        assert_table(mixture, X, connection.sql(select(mixture, "duckdb")).df())


@pytest.mark.spark
@pytest.mark.long
def test_spark_sql_scores_a_hundred_thousand_rows_as_the_mixture_does(
    spark: Any, tmp_path: Path
) -> None:
    mixture = mixture_of("full")
    X = rows_of(mixture, 100_000)
    path = str(tmp_path / "rows.parquet")
    pd.DataFrame(X, columns=NAMES).assign(id=range(len(X))).to_parquet(path)
    spark.read.parquet(path).createOrReplaceTempView("rows")
    try:
        assert_table(mixture, X, spark.sql(select(mixture, "spark")).toPandas())
    finally:
        spark.catalog.dropTempView("rows")


def test_sqlite_computes_the_same_from_what_it_can_read() -> None:
    mixture = mixture_of("full")
    X = rows_of(mixture, 1000)
    # it neither leaves columns out nor has GREATEST; the arithmetic is the same
    text = re.sub(r"SELECT \* EXCLUDE \([^)]*\),", "SELECT", select(mixture, "snowflake"))
    with sqlite3.connect(":memory:") as connection:
        connection.create_function("GREATEST", -1, max)
        connection.execute('CREATE TABLE "rows" ("a b" REAL, "c""q" REAL, "group" REAL)')
        connection.executemany('INSERT INTO "rows" VALUES (?, ?, ?)', X.tolist())
        found = np.array(connection.execute(text).fetchall())
    assert_scores(mixture, X, found[:, 0], found[:, 1:-1], found[:, -1])


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_parses_as_one_select(dialect: str) -> None:
    statements = sqlglot.parse(select(mixture_of("full"), dialect), read=dialect)
    assert len(statements) == 1
    [statement] = statements
    assert isinstance(statement, sqlglot.exp.Select)
    assert "rows" in {table.name for table in statement.find_all(sqlglot.exp.Table)}
    functions = {f.sql_name() for f in statement.find_all(sqlglot.exp.Func)}
    assert functions <= {"CAST", "TRY_CAST", "CASE", "GREATEST", "POWER", "EXP", "LN", "IF", "AND"}


def test_a_null_scores_null_and_a_column_of_integers_is_taken() -> None:
    mixture = Mixture([0.5, 0.5], [[0.0], [3.0]], [[[1.0]], [[2.0]]])
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE rows AS SELECT * FROM (VALUES (1), (NULL)) t(x0)")
        rows = connection.sql(select(mixture, "duckdb")).fetchall()
    assert rows[0][-1] == pytest.approx(mixture.log_density([[1.0]])[0], rel=1e-12)
    assert rows[1] == (None,) * 5  # the feature, the component, two probabilities, the density


def test_sql_refuses_what_cannot_be_written() -> None:
    with pytest.raises(InputError, match="dialect is 'oracle': use one of spark, duckdb"):
        select(mixture_of("full"), "oracle")
    clash = Mixture([1.0], [[0.0]], [[[1.0]]], features=["Component"])
    with pytest.raises(InputError, match="'component' has the name of a column that is added"):
        select(clash, "spark")


def run_onnx(text: bytes, X: np.ndarray) -> list[Any]:
    session = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["X"]
    return list(session.run(["component", "probability", "log_density"], {"X": X}))


@pytest.mark.parametrize("covariance_type", COVARIANCE_TYPES)
@pytest.mark.parametrize("k", [1, 4])
def test_onnxruntime_scores_a_hundred_thousand_rows_as_the_mixture_does(
    covariance_type: str, k: int
) -> None:
    mixture = mixture_of(covariance_type, k)
    X = rows_of(mixture, 100_000)
    component, R, log_density = run_onnx(graph(mixture), X)
    assert component.dtype == np.int64
    assert R.dtype == log_density.dtype == np.float64
    assert_scores(mixture, X, component, R, log_density)


def test_a_graph_for_float32_computes_in_float64_and_names_the_features() -> None:
    mixture = mixture_of("full")
    X = rows_of(mixture, 1000).astype(np.float32)
    text = graph(mixture, "float32")
    assert_scores(mixture, X, *run_onnx(text, X))
    properties = {p.key: p.value for p in onnx.load_from_string(text).metadata_props}
    assert json.loads(properties["features"]) == NAMES
    with pytest.raises(InputError, match="input type is 'int8': use one of float64, float32"):
        graph(mixture, "int8")


def test_without_onnx_the_way_to_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"onnx is not installed: pip install 'sparkgmm\[onnx\]'"):
        graph(mixture_of("full"))


# --- the command


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A whole run of an output root, as far as an export looks at it."""
    folder = tmp_path / "runs" / "night"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(mixture_of("full").to_json())
    (folder / "manifest.json").write_text("{}")
    (tmp_path / "runs" / "LATEST").write_text("night\n")
    return folder


@pytest.mark.parametrize("to", ["sql", "onnx", "json", "sklearn"])
@pytest.mark.parametrize("given", ["runs", "runs/night", "file://{}/runs"])
def test_a_local_run_is_exported_without_a_session(
    run: Path,
    to: str,
    given: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a session was started")

    monkeypatch.setattr("sparkgmm.spark.session.start_session", refuse)
    monkeypatch.chdir(run.parent.parent)
    assert export_main([given.format(run.parent.parent), "out", "--to", to]) == 0
    assert Path("out").stat().st_size > 100
    assert export_main([given.format(run.parent.parent), "out", "--to", to]) == 3
    told = capsys.readouterr().err
    assert "'out' already exists: give another path or replace it by --overwrite\n" in told
    if to == "sql":
        assert Path("out").read_text() == select(mixture_of("full"), "spark")


def test_a_local_folder_that_is_no_run_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_main([str(tmp_path), str(tmp_path / "out"), "--to", "sql"]) == 2
    assert "is neither a whole run (no manifest.json) nor an output root" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_flag_of_another_form_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert export_main([str(run), "out", "--to", "json", "--dialect", "duckdb"]) == 2
    assert "--dialect is duckdb, and --to json" in capsys.readouterr().err


def test_an_export_as_a_process_says_nothing_but_what_it_wrote(run: Path) -> None:
    command = [sys.executable, "-c", "from sparkgmm.runs.entry import export; export()"]
    arguments = [str(run), str(run.parent / "out.sql"), "--to", "sql", "--dialect", "duckdb"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=True)
    assert "wrote" in done.stdout
    assert done.stderr == ""
