"""A run's folder: when it exists, what it holds, and how it is read by others."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.claim import LostError, mark
from sparkgmm.runs.folder import (
    RowsFolder,
    RunFolder,
    components_parquet,
    latest_of,
    load_mixture,
    load_model,
    remove_leftovers,
    retain,
    to_json,
)
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


def of_a_dead_process() -> bytes:
    program = "from sparkgmm.runs.claim import LostError, mark; print(mark().decode())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.strip()


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


def test_a_run_that_another_job_published_meanwhile_is_left_alone(published: Folder) -> None:
    before = published.read_bytes("before/manifest.json")
    run = RunFolder(published, "before")
    run.state.write("begun.json", b"{}")
    assert not run.publish({"model.json": b"2"}, None, {}, overwrite=False)
    assert published.read_bytes("before/manifest.json") == before
    assert not run.state.exists()
    assert [info.path for info in published.files()] == [
        "LATEST",
        *(f"before/{name}" for name in sorted([*FILES, "manifest.json"])),
    ]


@pytest.mark.parametrize("failing", ["metrics.json", "manifest.json", "LATEST"])
def test_an_old_run_comes_back_when_the_new_one_cannot_take_its_place(
    published: Folder, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """The failure comes in the middle of the moves, when the old run is out of the way."""
    before = {info.path: published.read_bytes(info.path) for info in published.files()}
    replace, move = Folder.replace, Folder.move_files

    def broken_replace(folder: Folder, name: str, content: bytes) -> None:
        if name == failing:
            raise OSError("the disk is full")
        replace(folder, name, content)

    def broken_move(folder: Folder, target: Folder, last: str = "") -> None:
        if failing != "LATEST":
            target.write("model.json", b"half of it")
            raise OSError("the disk is full")
        move(folder, target, last)

    monkeypatch.setattr(Folder, "replace", broken_replace)
    monkeypatch.setattr(Folder, "move_files", broken_move)
    with pytest.raises(OSError, match="full"):
        RunFolder(published, "before").publish({"model.json": b"2"}, None, {}, overwrite=True)
    assert {info.path: published.read_bytes(info.path) for info in published.files()} == before


@pytest.fixture(params=["renaming", "object store"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Publish as on file systems that rename, and as on object stores."""
    if request.param == "object store":
        monkeypatch.setattr(Folder, "renames", property(lambda self: False))
    return str(request.param)


def test_a_run_appears_with_its_manifest_last_on_every_kind_of_store(
    kind: str, spark: SparkSession, root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    write = Folder.write

    def spy(self: Folder, name: str, content: bytes) -> None:
        seen.append(root.exists("a/manifest.json"))
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", spy)
    rows = spark.createDataFrame([(1.0, "x is null")], "x double, reason string")
    assert RunFolder(root, "a").publish(FILES, rows, {})
    before_it = seen[: len(FILES) + 1]  # the last of them as it begins to be written itself
    assert len(before_it) == len(FILES) + 1
    assert not any(before_it)
    found = [i.path for i in root.child("a").files() if not i.path.endswith(".crc")]
    listed = [entry["path"] for entry in json.loads(root.read_text("a/manifest.json"))["files"]]
    assert sorted([*listed, "manifest.json"]) == found
    assert set(FILES) < set(listed)
    assert any(path.startswith("rejected/part-") for path in listed)
    assert sorted(root.entries()) == ["LATEST", "a"]


@pytest.mark.parametrize("failing", [*FILES, "manifest.json", "LATEST"])
def test_a_run_that_cannot_be_finished_on_an_object_store_leaves_no_trace(
    published: Folder, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    monkeypatch.setattr(Folder, "renames", property(lambda self: False))
    write = Folder.write

    def broken(self: Folder, name: str, content: bytes) -> None:
        if name == failing:
            raise OSError("the disk is full")
        write(self, name, content)

    monkeypatch.setattr(Folder, "write", broken)
    with pytest.raises(OSError, match="full"):
        RunFolder(published, "after").publish(FILES, None, {})
    assert [i.path for i in published.files() if not i.path.startswith("before/")] == ["LATEST"]
    assert published.read_text("LATEST") == "before\n"


def test_the_next_attempt_removes_what_a_killed_one_left(kind: str, published: Folder) -> None:
    draft = ".after.0123456789abcdef0123456789abcdef"
    published.write(f"{draft}/model.json", b"half")
    published.write("after/model.json", b"half")
    published.write("after/plots/left.png", b"over")
    published.write("before/kept.json", b"{}")
    assert RunFolder(published, "after").publish(FILES, None, {})
    assert sorted(published.entries()) == ["LATEST", "after", "before"]
    found = [info.path for info in published.child("after").files()]
    assert found == sorted([*FILES, "manifest.json"])
    assert published.exists("before/kept.json")


def test_another_run_removes_what_a_dead_process_left_but_not_what_a_living_one_has(
    kind: str, published: Folder
) -> None:
    draft = "0123456789abcdef0123456789abcdef"
    for name, owner in (("dead", of_a_dead_process()), ("living", mark())):
        published.write(f".{name}.publishing", owner)
        published.write(f".{name}.{draft}/model.json", b"half")
        published.write(f"{name}/model.json", b"half")
        published.write(f"{name}/state/begun.json", b"{}")
    assert RunFolder(published, "after").publish(FILES, None, {})
    left = sorted(published.entries())
    assert left == sorted(
        [".living.publishing", f".living.{draft}", "LATEST", "after", "before", "dead", "living"]
    )
    assert [info.path for info in published.child("dead").files()] == ["state/begun.json"]


def test_a_claim_from_another_machine_counts_as_left_only_after_an_hour(
    published: Folder, tmp_path: Path
) -> None:
    elsewhere = json.dumps({**json.loads(mark()), "machine": "another"}).encode()
    for name, age in (("old", 3700), ("new", 600)):
        published.write(f".{name}.publishing", elsewhere)
        then = time.time() - age
        os.utime(tmp_path / "runs" / f".{name}.publishing", (then, then))
    begun = time.monotonic()
    assert RunFolder(published, "after").publish(FILES, None, {})
    assert time.monotonic() - begun < 30
    assert sorted(published.entries()) == [".new.publishing", "LATEST", "after", "before"]


def test_a_run_whose_job_was_killed_before_latest_is_named_by_the_next_attempt(
    published: Folder, tmp_path: Path
) -> None:
    assert RunFolder(published, "after").publish(FILES, None, {})
    published.replace("LATEST", b"before\n")
    RunFolder(published, "after").complete()
    assert published.read_text("LATEST") == "before\n"  # somebody went back to it
    published.write(".after.publishing", of_a_dead_process())
    os.utime(tmp_path / "runs" / "before" / "manifest.json", (1, 1))
    RunFolder(published, "after").complete()
    assert published.read_text("LATEST") == "after\n"
    assert not published.exists(".after.publishing")


def test_a_run_that_came_later_keeps_latest(published: Folder, tmp_path: Path) -> None:
    published.write(".before.publishing", of_a_dead_process())
    RunFolder(published, "after").publish(FILES, None, {})
    published.write(".before.publishing", of_a_dead_process())
    os.utime(tmp_path / "runs" / "before" / "manifest.json", (1, 1))
    RunFolder(published, "before").complete()
    assert published.read_text("LATEST") == "after\n"


def test_a_folder_of_somebody_elses_is_no_run_and_stays(kind: str, root: Folder) -> None:
    root.write("trips/trips.csv", b"x")
    with pytest.raises(ConfigurationError, match=r"is no run \(it holds 'trips\.csv'\)"):
        RunFolder(root, "trips").check_own()
    assert RunFolder(root, "trips").publish(FILES, None, {})
    assert root.read_bytes("trips/trips.csv") == b"x"
    RunFolder(root, "other").check_own()


def test_an_old_run_that_was_brought_back_in_part_is_brought_back_whole(
    published: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = rows_in(published.child("before"))
    aside = published.child(".before.0123456789abcdef0123456789abcdef.before")
    published.child("before").move(aside)
    published.write("before/model.json", b"half of the new one")
    published.write(".before.publishing", of_a_dead_process())
    move, moved = Folder._move_file, []

    def killed(self: Folder, name: str, target: Folder) -> None:
        if len(moved) == 1:
            raise OSError("the job was killed")
        moved.append(name)
        move(self, name, target)

    with monkeypatch.context() as patch:
        patch.setattr(Folder, "_move_file", killed)
        with pytest.raises(OSError, match="killed"):
            remove_leftovers(published, "another")
    assert moved
    remove_leftovers(published, "before")
    assert rows_in(published.child("before")) == before


def test_who_lost_the_claim_leaves_the_run_of_the_other(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Folder, "renames", property(lambda self: False))
    write = Folder.write

    def slow(self: Folder, name: str, content: bytes) -> None:
        write(self, name, content)
        if name == "metrics.json" and not taken:
            taken.append(True)
            root.delete(".a.publishing")
            RunFolder(root, "a").publish(FILES, None, {"run_id": "a"})

    taken: list[bool] = []
    monkeypatch.setattr(Folder, "write", slow)
    with pytest.raises(LostError):
        RunFolder(root, "a").publish(FILES, None, {"run_id": "a"})
    assert RunFolder(root, "a").is_whole()


def test_an_old_run_comes_back_that_was_out_of_the_way_when_its_successor_was_killed(
    kind: str, published: Folder
) -> None:
    before = rows_in(published.child("before"))
    aside = published.child(".before.0123456789abcdef0123456789abcdef.before")
    published.child("before").move(aside)
    published.write("before/model.json", b"half of the new one")
    published.write(".before.publishing", of_a_dead_process())
    assert RunFolder(published, "after").publish(FILES, None, {})
    assert sorted(published.entries()) == ["LATEST", "after", "before"]
    assert rows_in(published.child("before")) == before


def test_the_oldest_whole_runs_go_and_nothing_else(root: Folder, tmp_path: Path) -> None:
    for age, name in enumerate("dcba"):
        RunFolder(root, name).publish(FILES, None, {"run_id": name})
        os.utime(tmp_path / "runs" / name / "manifest.json", (age, age))
    root.write(".c.0123456789abcdef0123456789abcdef/manifest.json", b"{}")  # a draft
    root.write("mine/manifest.json", b"{}")
    (tmp_path / "runs" / "LATEST").write_text("d\n")  # someone went back to it
    root.write("unfinished/state/begun.json", b"{}")
    root.write("notes.txt", b"mine")
    assert retain(root, 2) == ["c"]
    left = sorted(path.name for path in (tmp_path / "runs").iterdir())
    draft = ".c.0123456789abcdef0123456789abcdef"
    assert left == [draft, "LATEST", "a", "b", "d", "mine", "notes.txt", "unfinished"]
    assert retain(root, 5) == []


def test_of_runs_published_in_one_second_the_earlier_goes(root: Folder, tmp_path: Path) -> None:
    """Object stores keep times in whole seconds."""
    for name, finished in [("a", "20:00:00.900"), ("b", "20:00:00.100"), ("c", "20:00:00.500")]:
        manifest = {"run_id": name, "finished": f"2026-11-26T{finished}+00:00"}
        RunFolder(root, name).publish(FILES, None, manifest)
        os.utime(tmp_path / "runs" / name / "manifest.json", (1, 1))
    assert retain(root, 1) == ["b"]  # the newest, and c, which LATEST names
    assert latest_of(root) == "c"
    root.write(".a.publishing", of_a_dead_process())
    RunFolder(root, "a").complete()
    assert latest_of(root) == "a"


def test_a_model_is_read_from_a_run_and_from_the_root(published: Folder) -> None:
    assert load_mixture(published) == MIXTURE
    assert load_mixture(published.child("before")) == MIXTURE


def test_a_stored_model_says_its_vector_column_and_its_quantiles(published: Folder) -> None:
    model = load_model(published)
    assert (model.mixture, model.vector, model.quantiles) == (MIXTURE, None, None)
    assert model.run.path == published.child("before").path
    stored = {**MIXTURE.to_dict(), "vector": "v", "log_density_quantiles": {"n_rows": 3}}
    RunFolder(published, "after").publish({"model.json": to_json(stored).encode()}, None, {})
    model = load_model(published)
    assert (model.vector, model.quantiles) == ("v", {"n_rows": 3})


@pytest.mark.parametrize(
    ("names", "vector"),
    [
        (["v[0]", "v[1]"], "v"),
        (["a.b\n[0]", "a.b\n[1]"], "a.b\n"),
        (["v[0][0]", "v[0][1]"], "v[0]"),
        (["v[0]", "w[1]"], None),
        (["v[1]", "v[0]"], None),
        (["[0]", "[1]"], None),
        (["x", "y"], None),
        (None, None),
    ],
)
def test_names_given_to_the_values_of_a_vector_tell_its_column(
    root: Folder, names: list[str] | None, vector: str | None
) -> None:
    stored = to_json({**MIXTURE.to_dict(), "features": names})
    RunFolder(root, "a").publish({"model.json": stored.encode()}, None, {})
    assert load_model(root).vector == vector


def test_a_model_that_was_changed_is_refused_unless_no_checksum_was_kept(
    published: Folder,
) -> None:
    other = to_json({**MIXTURE.to_dict(), "weights": [0.6, 0.4]}).encode()
    published.write("before/model.json", other)
    with pytest.raises(InputError, match="is not what the run wrote"):
        load_mixture(published)
    published.write("before/manifest.json", b"{}")
    assert load_mixture(published).weights[0] == 0.6


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 3}', b'{"files": [{}]}'])
def test_a_manifest_that_is_none_is_told(published: Folder, content: bytes) -> None:
    published.write("before/manifest.json", content)
    with pytest.raises(InputError, match=r"before/manifest\.json' is no manifest"):
        load_mixture(published)


# --- a folder of rows


def rows_in(folder: Folder) -> dict[str, bytes]:
    return {info.path: folder.read_bytes(info.path) for info in folder.files()}


@pytest.fixture
def output(spark: SparkSession, tmp_path: Path) -> Folder:
    return Folder(spark, str(tmp_path / "below" / "rows"))


def write_draft(rows: RowsFolder, *names: str) -> None:
    for name in (*names, "_SUCCESS"):
        rows.draft.write(name, name.encode())


@pytest.mark.parametrize("mode", ["error", "overwrite", "append"])
def test_rows_appear_where_there_were_none(output: Folder, tmp_path: Path, mode: Any) -> None:
    rows = RowsFolder(output, mode)
    rows.check()
    write_draft(rows, "a", "deep/b")
    assert not output.exists()
    rows.publish()
    assert sorted(rows_in(output)) == ["_SUCCESS", "a", "deep/b"]
    assert [p.name for p in (tmp_path / "below").iterdir()] == ["rows"]


def test_an_overwrite_leaves_nothing_of_the_old_rows(output: Folder, tmp_path: Path) -> None:
    output.write("old", b"")
    rows = RowsFolder(output, "overwrite")
    write_draft(rows, "new")
    rows.publish()
    assert sorted(rows_in(output)) == ["_SUCCESS", "new"]
    assert [p.name for p in (tmp_path / "below").iterdir()] == ["rows"]


def test_an_overwrite_that_cannot_be_finished_brings_the_old_rows_back(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write("old", b"1")
    rows = RowsFolder(output, "overwrite")
    write_draft(rows, "new")
    move = Folder.move

    def broken(self: Folder, target: Folder) -> None:
        if self is rows.draft:
            raise OSError("no such luck")
        move(self, target)

    monkeypatch.setattr(Folder, "move", broken)
    with pytest.raises(OSError, match="luck"):
        rows.publish()
    assert rows_in(output) == {"old": b"1"}


def test_an_append_that_cannot_be_finished_takes_its_files_back(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    output.write("b", b"old")
    rows = RowsFolder(output, "append")
    write_draft(rows, "a", "b", "c")
    with pytest.raises(OSError, match="b could not be moved"):
        rows.publish()
    assert rows_in(output) == {"b": b"old"}


def test_rows_that_came_meanwhile_are_not_replaced(output: Folder) -> None:
    rows = RowsFolder(output, "error")
    rows.check()
    write_draft(rows, "a")
    output.write("theirs", b"")
    with pytest.raises(ConfigurationError, match="exists and is not empty"):
        rows.publish()
    rows.discard()
    assert list(rows_in(output)) == ["theirs"]
    assert not rows.draft.exists()


def test_a_whole_file_system_is_no_place_for_rows(spark: SparkSession) -> None:
    with pytest.raises(ConfigurationError, match="is a whole file system"):
        RowsFolder(Folder(spark, "/"), "overwrite").check()


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


def test_the_next_score_removes_the_draft_of_a_killed_one_but_not_that_of_a_living_one(
    output: Folder,
) -> None:
    dead, living = (RowsFolder(output, "append") for _ in range(2))
    for rows, owner in ((dead, of_a_dead_process()), (living, mark())):
        write_draft(rows, "a")
        output.parent.write(f"{rows.draft.name}.owner", owner)
    rows = RowsFolder(output, "append")
    rows.begin()
    write_draft(rows, "b")
    rows.publish()
    left = sorted(output.parent.entries())
    assert left == sorted([living.draft.name, f"{living.draft.name}.owner", "rows"])
    assert sorted(rows_in(output)) == ["_SUCCESS", "b"]


def test_old_rows_come_back_that_were_aside_when_an_overwrite_was_killed(output: Folder) -> None:
    output.write("old", b"1")
    dead = RowsFolder(output, "overwrite")
    write_draft(dead, "new")
    output.parent.write(f"{dead.draft.name}.owner", of_a_dead_process())
    output.move(output.sibling(f"{dead.draft.name}.before"))
    rows = RowsFolder(output, "append")
    rows.begin()
    rows.discard()
    assert rows_in(output) == {"old": b"1"}
    assert sorted(output.parent.entries()) == ["rows"]


def test_rows_that_another_job_wrote_meanwhile_are_appended_to(
    output: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = RowsFolder(output, "append")
    write_draft(rows, "mine")
    holds = RowsFolder.holds_rows.fget

    def then_written(self: RowsFolder) -> bool:
        found = holds(self)
        output.write("theirs", b"")
        return found

    monkeypatch.setattr(RowsFolder, "holds_rows", property(then_written))
    rows.publish()
    assert sorted(rows_in(output)) == ["mine", "theirs"]
