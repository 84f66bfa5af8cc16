"""The score job in this process: what it writes, keeps, refuses and says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import LongType, StructField, StructType

from sparkgmm.core.quantiles import density_quantiles
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.config import ScoreConfig
from sparkgmm.runs.folder import RunFolder, to_json
from sparkgmm.runs.score_job import plan_score, run_score
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.source import find_features
from sparkgmm.spark.storage import Folder

MIXTURE = Mixture(
    [0.6, 0.4],
    [[1.0, -1.0], [4.0, 3.0]],
    [[[1.0, 0.3], [0.3, 0.5]], [[0.7, 0.0], [0.0, 2.0]]],
    features=("x", "y"),
)
NAN = float("nan")
Sections = dict[str, Any]
Score = Callable[..., DataFrame]


@pytest.fixture
def model(spark: SparkSession, tmp_path: Path) -> Callable[..., str]:
    """A function that publishes a run of MIXTURE and returns the output root."""

    def publish(run_id: str = "a", **changes: Any) -> str:
        density = MIXTURE.log_density(MIXTURE.sample(20_000, seed=9)[0])
        stored = {
            **MIXTURE.to_dict(),
            "vector": None,
            "log_density_quantiles": density_quantiles(density),
            **changes,
        }
        root = Folder(spark, str(tmp_path / "runs"))
        RunFolder(root, run_id).publish({"model.json": to_json(stored).encode()}, None, {})
        return root.path

    return publish


@pytest.fixture
def configured(tmp_path: Path, model: Callable[..., str]) -> Callable[..., ScoreConfig]:
    """A function that makes a configuration; `input` and `output` are dictionaries."""

    def make(input: Sections | None = None, output: Sections | None = None, **rest: Any) -> Any:  # noqa: A002
        values = {
            "input": {"path": str(tmp_path / "rows.parquet"), **(input or {})},
            "model": str(tmp_path / "runs"),
            "output": {"path": str(tmp_path / "scored"), **(output or {})},
            **rest,
        }
        if not (tmp_path / "runs").exists():
            model()
        return ScoreConfig.model_validate(values)

    return make


@pytest.fixture
def score(
    spark: SparkSession, tmp_path: Path, configured: Callable[..., ScoreConfig]
) -> Callable[..., DataFrame]:
    """A function that runs the job and returns what a reader of the output sees."""

    def run(**sections: Any) -> DataFrame:
        config = configured(**sections)
        run_score(spark, config, Terminal())
        return spark.read.format(config.output.format).load(config.output.path)

    return run


def write(tmp_path: Path, X: np.ndarray, files: int = 3) -> np.ndarray:
    """Write rows with an id as Parquet files and return them."""
    folder = tmp_path / "rows.parquet"
    folder.mkdir(exist_ok=True)
    for i, rows in enumerate(np.array_split(np.arange(len(X)), files)):
        columns = {"id": rows, "x": X[rows, 0], "y": X[rows, 1]}
        pq.write_table(pa.table(columns), folder / f"{i}.parquet")
    return X


@pytest.fixture
def rows(tmp_path: Path) -> np.ndarray:
    """The input: 3000 rows in three files."""
    return write(tmp_path, MIXTURE.sample(3000, seed=1)[0])


@pytest.fixture
def invalid_rows(tmp_path: Path) -> np.ndarray:
    """An input with a NaN in row 5 and infinities in rows 1000 and 2999."""
    X = MIXTURE.sample(3000, seed=1)[0]
    X[5, 0], X[1000, 1], X[2999] = NAN, np.inf, -np.inf
    return write(tmp_path, X)


def ids(df: DataFrame) -> list[int]:
    return sorted(row.id for row in df.select("id").collect())


@pytest.fixture
def rows_with_gaps(tmp_path: Path) -> np.ndarray:
    """An input with values missing here and there, and one row of nothing."""
    X = MIXTURE.sample(3000, seed=1)[0]
    X[::7, 0], X[::11, 1] = NAN, NAN
    return write(tmp_path, X)


def by_id(df: DataFrame) -> Any:
    return df.toPandas().sort_values("id").reset_index(drop=True)


def test_nulls_are_imputed_and_rows_scored_by_what_they_have(
    score: Score, rows_with_gaps: np.ndarray
) -> None:
    X = rows_with_gaps
    scored = by_id(score(output={"impute": True, "outlier_quantile": 0.01}))
    assert list(scored.columns[:3]) == ["id", "x", "y"]
    assert np.array_equal(scored[["x", "y"]], MIXTURE.impute(X))
    seen_y = np.isnan(X[:, 0]) & ~np.isnan(X[:, 1])
    marginal = MIXTURE.marginal("y")
    expected = marginal.log_density(X[seen_y][:, 1:])
    assert np.allclose(scored["log_density"][seen_y], expected, atol=1e-12, rtol=0)
    R = np.stack(scored["probability"][seen_y].tolist())
    assert np.allclose(R, marginal.responsibilities(X[seen_y][:, 1:]), atol=1e-12, rtol=0)
    nothing = scored[np.isnan(X).all(axis=1)].iloc[0]
    assert (nothing["log_density"], list(nothing["probability"])) == (0.0, [0.6, 0.4])
    assert not scored["outlier"][np.isnan(X).any(axis=1)].any()
    assert scored["outlier"].any()


def test_imputed_features_are_written_though_they_are_not_kept(
    score: Score, rows_with_gaps: np.ndarray
) -> None:
    scored = score(output={"impute": True, "keep": ["y", "id"], "columns": ["component"]})
    assert scored.columns == ["y", "id", "x", "component"]
    assert by_id(scored)[["x", "y"]].notna().all().all()


def test_imputing_leaves_infinite_values_invalid(score: Score, invalid_rows: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"2 of 3,000 rows are invalid \(x infinite in 1, y inf"):
        score(output={"impute": True})
    scored = score(input={"invalid_rows": "quarantine"}, output={"impute": True})
    assert scored.count() == 2998


def test_a_feature_is_predicted_from_the_others_of_its_row(
    score: Score, rows_with_gaps: np.ndarray
) -> None:
    X = rows_with_gaps
    scored = by_id(score(output={"predict": ["x"]}, input={"where": "not isnan(y)"}))
    kept = ~np.isnan(rows_with_gaps[:, 1])
    mean, sd = MIXTURE.expect(X[kept], "x")
    assert np.allclose(scored[["x_mean", "x_sd"]], np.c_[mean, sd], atol=1e-12, rtol=0)
    assert scored["x"].isna().sum() == np.isnan(X[kept, 0]).sum()


def test_a_feature_may_be_predicted_that_the_input_does_not_have(
    spark: SparkSession, score: Score, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"id": [0, 1], "y": [-1.0, 3.0]}), tmp_path / "rows.parquet")
    scored = by_id(score(output={"predict": ["x"], "columns": ["component"]}))
    mean, sd = MIXTURE.expect([[NAN, -1.0], [NAN, 3.0]], "x")
    assert list(scored.columns) == ["id", "y", "component", "x_mean", "x_sd"]
    assert np.allclose(scored[["x_mean", "x_sd"]], np.c_[mean, sd], atol=1e-12, rtol=0)


def test_what_cannot_be_imputed_or_predicted_is_named(
    score: Score, rows: np.ndarray, model: Callable[..., str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"names 'z', which is no feature of the model"):
        score(output={"predict": ["z"]})
    model(run_id="b", vector="v", features=["v[0]", "v[1]"])
    with pytest.raises(ConfigurationError, match=r"features in one column, 'v': use imputedCol"):
        score(output={"impute": True})


def left(tmp_path: Path) -> list[str]:
    """Say what lies in the workplace, drafts too."""
    return sorted(p.name for p in tmp_path.iterdir())


def test_every_row_is_scored_and_keeps_its_columns(score: Score, rows: np.ndarray) -> None:
    df = score()
    assert df.dtypes == [
        ("id", "bigint"),
        ("x", "double"),
        ("y", "double"),
        ("component", "int"),
        ("probability", "array<double>"),
        ("log_density", "double"),
    ]
    found = sorted(df.collect(), key=lambda row: row.id)
    density, R = MIXTURE.score(rows)
    np.testing.assert_array_equal([(row.x, row.y) for row in found], rows)
    np.testing.assert_allclose([row.log_density for row in found], density, rtol=1e-12)
    np.testing.assert_allclose([row.probability for row in found], R, atol=1e-12)
    np.testing.assert_array_equal([row.component for row in found], R.argmax(axis=1))


def test_the_files_are_as_many_as_the_partitions_of_the_input(
    score: Score, rows: np.ndarray, spark: SparkSession, tmp_path: Path
) -> None:
    n = spark.read.parquet(str(tmp_path / "rows.parquet")).rdd.getNumPartitions()
    score()
    assert len(list((tmp_path / "scored").glob("part-*"))) == n


def test_the_summary_counts_the_rows_and_says_where_they_lie(
    score: Score, invalid_rows: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score(input={"invalid_rows": "drop"}, output={"outlier_quantile": 0.01})
    out = capsys.readouterr().out
    assert re.search(r"^rows +3,000 read, 2,997 scored, 3 invalid, in [0-9.]+ s \(.* rows/s\)", out)
    [n] = re.findall(r"^outliers (\d+) \(.*%\): log density below -", out, flags=re.MULTILINE)
    density = MIXTURE.log_density(np.delete(invalid_rows, [5, 1000, 2999], axis=0))
    assert 10 < int(n) < 60
    assert int(n) == (density < density_threshold(tmp_path, 0.01)).sum()
    assert out.endswith(f"scored   {tmp_path / 'scored'}\n")


def density_threshold(tmp_path: Path, q: float) -> float:
    from sparkgmm.core.quantiles import threshold

    stored = json.loads((tmp_path / "runs" / "a" / "model.json").read_text())
    return threshold(stored["log_density_quantiles"], q)


@pytest.mark.parametrize("q", [0.001, 0.02, 0.5])
def test_the_share_of_outliers_is_the_quantile_on_data_like_the_training_data(
    score: Score, tmp_path: Path, q: float
) -> None:
    write(tmp_path, MIXTURE.sample(20_000, seed=9)[0])
    df = score(output={"outlier_quantile": q, "columns": ["log_density"], "keep": ["id"]})
    assert df.columns == ["id", "log_density", "outlier"]
    assert df.where("outlier").count() / 20_000 == pytest.approx(q, rel=0.06)


def test_only_the_columns_asked_for_are_written(score: Score, rows: np.ndarray) -> None:
    df = score(output={"columns": ["log_density", "component"], "keep": ["y", "id"]})
    assert df.columns == ["y", "id", "log_density", "component"]
    df = score(output={"columns": ["probability"], "keep": [], "mode": "overwrite"})
    assert df.columns == ["probability"]


@pytest.mark.parametrize("kind", ["orc", "json", "csv"])
def test_other_formats_hold_the_same_rows(score: Score, rows: np.ndarray, kind: str) -> None:
    df = score(output={"format": kind, "columns": ["component"], "keep": ["id"]})
    if kind == "csv":
        assert df.first() is not None
        assert sorted(row._c0 for row in df.collect())[-1] == "id"
    else:
        assert ids(df) == list(range(3000))


def test_a_format_that_cannot_hold_a_column_is_told_and_leaves_nothing(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=r"csv cannot hold .*`probability`.*or choose"):
        score(output={"format": "csv"})
    assert left(tmp_path) == ["rows.parquet", "runs"]


# --- invalid rows


def test_under_fail_the_job_says_which_columns_hold_what_and_writes_nothing(
    score: Score, invalid_rows: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as caught:
        score()
    assert str(caught.value) == (
        "3 of 3,000 rows are invalid (x NaN in 1, x infinite in 1, y infinite in 2): fix them, "
        "or set input.invalid_rows to drop or quarantine"
    )
    assert left(tmp_path) == ["rows.parquet", "runs"]


def test_under_drop_the_invalid_rows_are_left_out(
    score: Score, invalid_rows: np.ndarray, tmp_path: Path
) -> None:
    df = score(input={"invalid_rows": "drop"})
    assert ids(df) == [i for i in range(3000) if i not in (5, 1000, 2999)]
    assert not (tmp_path / "scored" / "_rejected").exists()


def test_under_quarantine_they_lie_beside_with_the_reason_unseen_by_readers(
    score: Score, invalid_rows: np.ndarray, spark: SparkSession, tmp_path: Path
) -> None:
    df = score(input={"invalid_rows": "quarantine"})
    assert ids(df) == [i for i in range(3000) if i not in (5, 1000, 2999)]
    assert "reason" not in df.columns
    rejected = spark.read.parquet(str(tmp_path / "scored" / "_rejected"))
    assert rejected.columns == ["id", "x", "y", "reason"]
    reasons = {row.id: row.reason for row in rejected.collect()}
    assert reasons == {
        5: "x is NaN",
        1000: "y is infinite",
        2999: "x is infinite, y is infinite",
    }


def test_a_quarantine_without_invalid_rows_leaves_no_folder(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    score(input={"invalid_rows": "quarantine"})
    assert not (tmp_path / "scored" / "_rejected").exists()


def test_no_rows_are_an_error_and_so_are_invalid_ones_alone(score: Score, tmp_path: Path) -> None:
    write(tmp_path, MIXTURE.sample(10, seed=0)[0])
    with pytest.raises(InputError, match="the input has no rows"):
        score(input={"where": "x > 1000"})
    write(tmp_path, np.full((10, 2), NAN))
    with pytest.raises(InputError, match="all 10 rows are invalid"):
        score(input={"invalid_rows": "drop"})
    assert left(tmp_path) == ["rows.parquet", "runs"]


# --- the output


def test_an_output_that_exists_is_refused_before_anything_is_read(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"exists and is not empty: set output\.mode"):
        score(input={"path": str(tmp_path / "absent.parquet")})
    assert left(tmp_path / "scored") == ["mine.txt"]


def test_an_empty_folder_is_no_output_yet(score: Score, rows: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "scored").mkdir()
    assert score().count() == 3000


def test_an_overwrite_takes_the_place_of_all_that_was_there(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    score()
    (tmp_path / "scored" / "left over").write_text("")
    df = score(input={"where": "id < 7"}, output={"mode": "overwrite", "keep": ["id"]})
    assert df.columns == ["id", "component", "probability", "log_density"]
    assert ids(df) == list(range(7))
    assert not (tmp_path / "scored" / "left over").exists()
    assert left(tmp_path) == ["rows.parquet", "runs", "scored"]


def test_an_append_adds_the_rows_to_those_that_were_there(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    score(input={"where": "id < 10"}, output={"mode": "append"})
    df = score(input={"where": "id >= 2990"}, output={"mode": "append"})
    assert ids(df) == [*range(10), *range(2990, 3000)]
    assert left(tmp_path) == ["rows.parquet", "runs", "scored"]


def test_an_append_adds_the_rejected_rows_too(
    score: Score, invalid_rows: np.ndarray, spark: SparkSession, tmp_path: Path
) -> None:
    for _ in range(2):
        df = score(input={"invalid_rows": "quarantine"}, output={"mode": "append"})
    assert df.count() == 2 * 2997
    assert spark.read.parquet(str(tmp_path / "scored" / "_rejected")).count() == 2 * 3


@pytest.mark.parametrize(
    ("cause", "mode"),
    [
        pytest.param("an invalid row", "overwrite", marks=pytest.mark.long),
        ("an invalid row", "append"),
        ("a row that cannot be read", "overwrite"),
        pytest.param("a row that cannot be read", "append", marks=pytest.mark.long),
        ("a full disk", "overwrite"),
        ("a full disk", "append"),
    ],
)
def test_a_job_that_fails_late_leaves_the_old_output_as_it_was(
    score: Score,
    rows: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mode: str,
    cause: str,
) -> None:
    score()
    before = {p: p.read_bytes() for p in (tmp_path / "scored").rglob("*") if p.is_file()}
    where, error = "true", "3,000 rows are invalid"
    if cause == "an invalid row":
        rows[2999, 1] = NAN
        write(tmp_path, rows)
    elif cause == "a row that cannot be read":
        where, error = "if(id = 2999, raise_error('no such luck'), true)", "no such luck"
    else:
        error = "No space left"

        def full(*_: object) -> None:
            raise OSError("No space left on device")

        monkeypatch.setattr(Folder, "move_files" if mode == "append" else "move", full)
    with pytest.raises(Exception, match=error):
        score(input={"where": where}, output={"mode": mode})
    assert {p: p.read_bytes() for p in (tmp_path / "scored").rglob("*") if p.is_file()} == before
    assert left(tmp_path) == ["rows.parquet", "runs", "scored"]


@pytest.mark.parametrize(
    ("output", "part"),
    [
        ({"keep": ["id"]}, "column 'x' is double, here it is missing"),
        ({"columns": ["component"]}, "column 'probability' is array<double>, here it is missing"),
        ({"outlier_quantile": 0.1}, "column 'outlier' is missing, here it is boolean"),
        ({"format": "orc"}, "holds no orc to append to"),
    ],
)
def test_rows_of_other_columns_are_not_appended(
    score: Score, rows: np.ndarray, tmp_path: Path, output: Sections, part: str
) -> None:
    assert score().count() == 3000
    with pytest.raises(ConfigurationError) as caught:
        score(output={**output, "mode": "append"})
    assert part in str(caught.value)


def test_an_output_that_is_a_file_is_refused(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    (tmp_path / "scored").write_text("mine")
    for mode in ("error", "overwrite", "append"):
        with pytest.raises(ConfigurationError, match="is a file: name a folder"):
            score(output={"mode": mode})
    assert (tmp_path / "scored").read_text() == "mine"


def test_an_output_that_cannot_be_written_is_told_by_its_path(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet" / "0.parquet" / "scored"
    with pytest.raises(ConfigurationError, match=r"cannot be written|are one within the other"):
        score(output={"path": str(path)})
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="/file/scored' cannot be written"):
        score(output={"path": str(tmp_path / "file" / "scored")})


@pytest.mark.parametrize(
    ("path", "output"),
    [
        ("rows.parquet", "rows.parquet"),
        ("rows.parquet", "rows.parquet/scored"),
        ("./rows.parquet/", "rows.parquet"),
        ("rows.parquet/*.parquet", "rows.parquet"),
        ("rows.parquet/*", "rows.parquet/scored"),
        ("rows.*", "rows.parquet/scored"),
        (["rows.parquet/0.parquet", "rows.parquet/1.parquet"], "rows.parquet"),
        ("file:{here}/rows.parquet", "rows.parquet/deep/er"),
    ],
)
@pytest.mark.parametrize("mode", ["overwrite", "append"])
def test_an_output_in_the_input_or_around_it_is_refused(
    score: Score, rows: np.ndarray, tmp_path: Path, path: Any, output: str, mode: str
) -> None:
    def absolute(name: str) -> str:
        if name.startswith("file:"):
            return name.format(here=tmp_path)
        return str(tmp_path / name)

    paths = [absolute(p) for p in path] if isinstance(path, list) else absolute(path)
    with pytest.raises(ConfigurationError, match="are one within the other"):
        score(
            input={"path": paths, "format": "parquet"},
            output={"path": str(tmp_path / output), "mode": mode},
        )
    assert len(list((tmp_path / "rows.parquet").glob("*.parquet"))) == 3


def test_an_output_beside_what_a_glob_matches_is_fine(
    score: Score, rows: np.ndarray, tmp_path: Path
) -> None:
    df = score(
        input={"path": str(tmp_path / "rows.parquet" / "*.parquet")},
        output={"path": str(tmp_path / "rows.parquet" / "scored")},
    )
    assert df.count() == 3000


@pytest.mark.parametrize("output", ["runs", "runs/a", "runs/a/scored"])
def test_an_output_in_the_place_of_the_model_is_refused(
    score: Score, rows: np.ndarray, tmp_path: Path, output: str
) -> None:
    with pytest.raises(ConfigurationError, match="is where the model is"):
        score(output={"path": str(tmp_path / output), "mode": "overwrite"})
    assert (tmp_path / "runs" / "a" / "model.json").exists()


# --- the model and the columns


def test_the_model_is_that_of_a_run_or_of_the_latest(
    score: Score, rows: np.ndarray, tmp_path: Path, model: Callable[..., str]
) -> None:
    other = Mixture([1.0], [[0.0, 0.0]], [np.eye(2)], features=("x", "y"))
    model("old", **other.to_dict())
    model("new")
    by_run = score(model=str(tmp_path / "runs" / "old"))
    assert {row.component for row in by_run.collect()} == {0}
    latest = score(output={"mode": "overwrite"})
    assert {row.component for row in latest.collect()} == {0, 1}


def test_a_model_that_is_missing_is_told(score: Score, rows: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="neither a whole run"):
        score(model=str(tmp_path / "absent"))
    (tmp_path / "runs" / "a" / "model.json").unlink()
    with pytest.raises(InputError, match=r"model\.json' is missing"):
        score()


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b'{"weights": [1.0]}', "is not what the run wrote"),
        (b"\xff\xfe", "is not what the run wrote"),
        (b"", "is not what the run wrote"),
    ],
)
def test_a_model_that_was_changed_since_is_told(
    score: Score, rows: np.ndarray, tmp_path: Path, content: bytes, part: str
) -> None:
    assert score().count() == 3000
    (tmp_path / "runs" / "a" / "model.json").write_bytes(content)
    with pytest.raises(InputError) as caught:
        score(output={"mode": "overwrite"})
    assert part in str(caught.value)
    assert "model.json" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"weights": [0.5, 0.9]}, "shares that sum to 1"),
        ({"format_version": 99}, "format_version is 99"),
        ({"covariances": "x"}, "covariances is not an array"),
    ],
)
def test_a_model_that_is_none_is_told_with_its_path(
    score: Score,
    rows: np.ndarray,
    tmp_path: Path,
    model: Callable[..., str],
    changes: Any,
    part: str,
) -> None:
    model(**changes)
    with pytest.raises(InputError, match=r"/a/model\.json' cannot be used") as caught:
        score()
    assert part in str(caught.value)


def test_an_outlier_quantile_needs_a_model_that_has_quantiles(
    score: Score, rows: np.ndarray, model: Callable[..., str]
) -> None:
    model(log_density_quantiles=None)
    assert score().count() == 3000
    with pytest.raises(
        InputError, match=r"has no quantiles .* output\.outlier_quantile 0\.1 needs"
    ):
        score(output={"outlier_quantile": 0.1, "mode": "overwrite"})


def test_columns_that_the_model_needs_are_all_named_with_their_nearest(
    score: Score, tmp_path: Path, model: Callable[..., str]
) -> None:
    model(features=["waiting", "eruptions"])
    table = pa.table({"wating": [1.0], "x": [2.0]})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InputError) as caught:
        score()
    assert str(caught.value) == (
        "the model was fitted on 'waiting' (did you mean 'wating'?), 'eruptions', which the input "
        "does not have: its columns are 'wating', 'x'"
    )


def test_columns_of_another_type_are_all_named_with_an_example(
    score: Score, tmp_path: Path
) -> None:
    table = pa.table({"x": ["1.5", "n/a"], "y": [[1.0], [2.0]]})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InputError) as caught:
        score()
    assert str(caught.value) == (
        "the model was fitted on 'x', which is of type string (it holds 'n/a'), 'y', which is of "
        "type array<double>, not a number: turn it into one first"
    )


def test_a_csv_without_header_gets_the_hint(score: Score, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2\n3,4\n")
    with pytest.raises(InputError, match=r"set input\.options: \{header: true\}"):
        score(input={"path": str(tmp_path / "rows.csv")})


def test_a_model_without_names_takes_the_numeric_columns_if_they_are_as_many(
    score: Score, tmp_path: Path, model: Callable[..., str]
) -> None:
    model(features=None)
    X = MIXTURE.sample(50, seed=0)[0]
    table = pa.table({"name": ["n"] * 50, "p": X[:, 0], "q": X[:, 1]})
    pq.write_table(table, tmp_path / "rows.parquet")
    found = [row.log_density for row in score().collect()]
    np.testing.assert_allclose(sorted(found), sorted(MIXTURE.log_density(X)))
    pq.write_table(table.append_column("r", table["q"]), tmp_path / "rows.parquet")
    with pytest.raises(InputError, match="2 features without names, the input 3 numeric columns"):
        score(output={"mode": "overwrite"})


@pytest.mark.parametrize("told", [True, False], ids=["by its key", "by the names"])
def test_a_model_of_a_vector_column_finds_it(
    score: Score, tmp_path: Path, spark: SparkSession, model: Callable[..., str], told: bool
) -> None:
    model(features=["v[0]", "v[1]"], vector="v" if told else None)
    if not told:  # as runs were before
        stored = json.loads((tmp_path / "runs" / "a" / "model.json").read_text())
        del stored["vector"]
        root = Folder(spark, str(tmp_path / "runs"))
        RunFolder(root, "a").publish({"model.json": to_json(stored).encode()}, None, {})
    lists = [[1.0, 2.0], [3.0], None, [4.0, 5.0], [1.0, None], [NAN, 1.0]]
    table = pa.table({"id": range(6), "v": pa.array(lists)})
    pq.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(InputError) as caught:
        score()
    assert "4 of 6 rows are invalid" in str(caught.value)
    for part in ("v[0] null in 1", "v[1] null in 2", "v[0] NaN in 1", "v not of length 2 in 1"):
        assert part in str(caught.value)
    assert ids(score(input={"invalid_rows": "drop"})) == [0, 3]


def test_vectors_in_another_order_than_the_models_are_scored_by_their_names(
    score: Score, tmp_path: Path, spark: SparkSession, model: Callable[..., str]
) -> None:
    model(features=["size", "age"], vector="v")
    X = [[1.0, 2.0], [4.0, 5.0], [0.5, -1.0]]
    df = spark.createDataFrame(X, ["size", "age"]).coalesce(1)
    turned = VectorAssembler(inputCols=["age", "size"], outputCol="v").transform(df).select("v")
    turned.write.parquet(str(tmp_path / "rows.parquet"))
    assert find_features(turned, "v", None).names == ("age", "size")
    found = score(output={"columns": ["log_density", "surprise"]}).collect()
    np.testing.assert_allclose([r.log_density for r in found], MIXTURE.log_density(X), rtol=1e-10)
    by_name = [[row.surprise["size"], row.surprise["age"]] for row in found]
    np.testing.assert_allclose(by_name, MIXTURE.surprise(X), rtol=1e-10)
    other = VectorAssembler(inputCols=["age"], outputCol="a").transform(df)
    other = VectorAssembler(inputCols=["a", "size"], outputCol="v").transform(other).select("v")
    other.write.mode("overwrite").parquet(str(tmp_path / "rows.parquet"))
    with pytest.raises(InputError, match=r"column 'v' holds 'a_age', 'size', .* 'size', 'age'"):
        score(output={"mode": "overwrite"})


@pytest.mark.parametrize("keep", ["all", ["id"], ["v"], ["other", "id"]])
def test_vectors_in_parquet_are_scored_and_kept_sparse_or_dense(
    score: Score, tmp_path: Path, spark: SparkSession, model: Callable[..., str], keep: Any
) -> None:
    model(features=["v[0]", "v[1]"], vector="v")
    vectors = [Vectors.dense([1.0, 2.0]), Vectors.sparse(2, {1: 3.0}), Vectors.dense([0.5, -1.0])]
    kinds = [("id", LongType()), ("v", VectorUDT()), ("other", VectorUDT())]
    df = spark.createDataFrame(
        [(i, v, vectors[-1 - i]) for i, v in enumerate(vectors)],
        StructType([StructField(name, kind) for name, kind in kinds]),
    )
    df.coalesce(1).write.parquet(str(tmp_path / "rows.parquet"))
    found = score(output={"keep": keep})
    kept = df.columns if keep == "all" else keep
    assert found.columns[: len(kept)] == kept
    rows = found.collect()
    assert [tuple(row[: len(kept)]) for row in rows] == [
        tuple(row) for row in df.select(kept).collect()
    ]
    expected = MIXTURE.log_density([v.toArray() for v in vectors])
    np.testing.assert_allclose([row.log_density for row in rows], expected, rtol=1e-12)


def test_a_feature_of_single_precision_is_scored_as_it_is(score: Score, tmp_path: Path) -> None:
    X = MIXTURE.sample(100, seed=0)[0].astype(np.float32)
    pq.write_table(pa.table({"x": X[:, 0], "y": X[:, 1]}), tmp_path / "rows.parquet")
    df = score()
    assert df.dtypes[:2] == [("x", "float"), ("y", "float")]
    found = [row.log_density for row in df.collect()]
    np.testing.assert_allclose(sorted(found), sorted(MIXTURE.log_density(X)), rtol=1e-12)


# --- the plan


def test_the_plan_says_what_would_be_done_and_does_nothing(
    spark: SparkSession, configured: Callable[..., ScoreConfig], rows: np.ndarray, tmp_path: Path
) -> None:
    plan = plan_score(spark, configured(output={"outlier_quantile": 0.01, "keep": ["id"]}))
    for part in (
        r"^reads +3 file\(s\), ",
        rf"^model +{tmp_path}/runs/a: k = 2, full$",
        r"^features 2: x, y$",
        r"^keeps +id$",
        r"^adds +component, probability, log_density, outlier$",
        r"^outliers log density below -[0-9.]+, the 0\.01 quantile of the training data$",
        rf"^writes +{tmp_path}/scored \(parquet, error\)$",
    ):
        assert re.search(part, plan, flags=re.MULTILINE), part
    assert left(tmp_path) == ["rows.parquet", "runs"]


def test_the_plan_refuses_what_the_job_would(
    spark: SparkSession, configured: Callable[..., ScoreConfig], rows: np.ndarray
) -> None:
    for output in ({"keep": ["zzz"]}, {"path": str(Path(configured().input.path or "") / "x")}):  # type: ignore[arg-type]
        with pytest.raises((InputError, ConfigurationError)):
            plan_score(spark, configured(output=output))
