"""A run's folder: when it exists, what it holds, and how it is read by others."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.folder import RunFolder, components_parquet, load_mixture, to_json
from sparkgmm.spark.storage import Folder

FILES = {"model.json": b"{}", "components/part-0.parquet": b"parquet", "metrics.json": b"[]"}
MIXTURE = Mixture(
    [0.7, 0.3],
    [[1.0, 2.0], [3.0, 4.0]],
    [[[1.0, 0.5], [0.5, 2.0]], [[3.0, 0.0], [0.0, 4.0]]],
    features=("x", "温度"),
)


@pytest.fixture
def root(spark: SparkSession, tmp_path: Path) -> Folder:
    return Folder(spark, str(tmp_path / "runs"))


@pytest.fixture
def published(root: Folder) -> Folder:
    """An output root with one whole run, `before`."""
    RunFolder(root, "before").publish({**FILES, "model.json": MIXTURE.to_json().encode()}, None, {})
    return root


def test_the_manifest_is_written_last_and_latest_after_it(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    write = Folder.write

    def spy(self: Folder, name: str, content: bytes) -> None:
        written.append(name)
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", spy)
    RunFolder(root, "a").publish(FILES, None, {})
    assert written[: len(FILES)] == list(FILES)
    assert written[len(FILES)] == "manifest.json"
    assert written[len(FILES) + 1].startswith(".LATEST.")
    assert root.read_text("LATEST") == "a\n"


def test_the_checksums_are_those_of_the_files(
    spark: SparkSession, root: Folder, tmp_path: Path
) -> None:
    rows = spark.createDataFrame([(1.0, "x is null")], "x double, reason string")
    RunFolder(root, "a").publish(FILES, rows, {"run_id": "a"})
    run = tmp_path / "runs" / "a"
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["run_id"] == "a"
    listed = {entry["path"]: entry for entry in manifest["files"]}
    assert set(FILES) < set(listed)
    assert any(path.startswith("rejected/part-") for path in listed)
    for path, entry in listed.items():
        content = (run / path).read_bytes()
        assert entry["bytes"] == len(content)
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("failing", [*FILES, "manifest.json"])
def test_a_run_that_cannot_be_written_leaves_no_trace(
    published: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write = Folder.write

    def broken(self: Folder, name: str, content: bytes) -> None:
        write(self, name, content[:1])
        if name == failing:
            raise OSError("the disk is full")

    monkeypatch.setattr(Folder, "write", broken)
    with pytest.raises(OSError, match="full"):
        RunFolder(published, "after").publish(FILES, None, {})
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["LATEST", "before"]
    assert published.read_text("LATEST") == "before\n"


def test_rejected_rows_that_cannot_be_written_leave_no_trace(
    spark: SparkSession, published: Folder, tmp_path: Path
) -> None:
    rows = spark.range(1).selectExpr("raise_error('no such luck') as x")
    with pytest.raises(Exception, match="no such luck"):
        RunFolder(published, "after").publish(FILES, rows, {})
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["LATEST", "before"]


def test_a_run_without_its_manifest_does_not_exist(published: Folder) -> None:
    assert RunFolder(published, "before").is_whole()
    published.delete("before/manifest.json")
    assert not RunFolder(published, "before").is_whole()
    with pytest.raises(ConfigurationError, match="neither a whole run"):
        load_mixture(published)


def test_publishing_again_replaces_all_of_the_old_run(published: Folder) -> None:
    published.write("before/left over", b"")
    RunFolder(published, "before").publish({"model.json": b"2"}, None, {})
    found = [info.path for info in published.child("before").files()]
    assert found == ["manifest.json", "model.json"]


def test_a_model_is_read_from_a_run_and_from_the_root(published: Folder) -> None:
    assert load_mixture(published) == MIXTURE
    assert load_mixture(published.child("before")) == MIXTURE


def test_a_folder_that_is_no_run_is_refused_by_name(root: Folder) -> None:
    with pytest.raises(ConfigurationError, match="neither a whole run") as caught:
        load_mixture(root)
    assert root.path in str(caught.value)


def test_components_read_alike_in_spark_pandas_and_pyarrow(
    spark: SparkSession, tmp_path: Path
) -> None:
    path = tmp_path / "components" / "part-0.parquet"
    path.parent.mkdir()
    path.write_bytes(components_parquet(MIXTURE))
    df = spark.read.parquet(str(path.parent))
    assert [(name, kind) for name, kind in df.dtypes] == [
        ("component", "int"),
        ("weight", "double"),
        ("mean", "array<double>"),
        ("covariance", "array<array<double>>"),
    ]
    by_spark = [row.asDict() for row in df.orderBy("component").collect()]
    by_pandas = pd.read_parquet(path.parent).to_dict("records")
    table = pq.read_table(path.parent)
    assert table.schema.field("component").type == pa.int32()
    assert table.schema.field("weight").type == pa.float64()
    for rows in (by_spark, by_pandas, table.to_pylist()):
        assert [row["component"] for row in rows] == [0, 1]
        assert [row["weight"] for row in rows] == [0.7, 0.3]
        for j, row in enumerate(rows):
            np.testing.assert_array_equal(row["mean"], MIXTURE.means[j])
            covariance = np.stack([np.asarray(line) for line in row["covariance"]])
            np.testing.assert_array_equal(covariance, MIXTURE.covariances[j])


def test_components_are_one_small_file_of_their_own() -> None:
    assert pq.ParquetFile(io.BytesIO(components_parquet(MIXTURE))).metadata.num_row_groups == 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        (np.float64(0.1), 0.1),
        (np.int64(3), 3),
        (np.bool_(True), True),
        ((1, (2.5, float("inf"))), [1, [2.5, None]]),
        ({1: "温度"}, {"1": "温度"}),
    ],
)
def test_json_is_strict_whatever_numbers_it_is_given(value: Any, expected: Any) -> None:
    text = to_json({"value": value})
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text) == {"value": expected}


def test_an_overwrite_that_fails_leaves_the_old_run_as_it_was(
    published: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {info.path: published.read_bytes(info.path) for info in published.files()}
    write = Folder.write

    def full(self: Folder, name: str, content: bytes) -> None:
        if name == "manifest.json":
            raise OSError("No space left on device")
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", full)
    with pytest.raises(OSError, match="No space"):
        RunFolder(published, "before").publish({"model.json": b"{}"}, None, {})
    assert {info.path: published.read_bytes(info.path) for info in published.files()} == before
