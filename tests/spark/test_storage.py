"""Files through Hadoop's FileSystem."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError
from sparkgmm.spark.storage import Folder, input_files

pytestmark = pytest.mark.spark


@pytest.fixture
def folder(spark: SparkSession, tmp_path: Path) -> Folder:
    return Folder(spark, str(tmp_path / "out put"))


def test_what_is_written_is_read_back_byte_by_byte(folder: Folder, tmp_path: Path) -> None:
    content = bytes(range(256)) * 300
    folder.child("a").write("deep/file.bin", content)
    assert folder.read_bytes("a/deep/file.bin") == content
    assert (tmp_path / "out put/a/deep/file.bin").read_bytes() == content
    folder.write("名.txt", "é 温度".encode())
    assert folder.read_text("名.txt") == "é 温度"


def test_no_checksum_or_draft_file_lies_beside_what_is_written(
    folder: Folder, tmp_path: Path
) -> None:
    folder.write("a", b"1")
    folder.replace("b", b"2")
    folder.replace("b", b"3")
    assert sorted(p.name for p in (tmp_path / "out put").iterdir()) == ["a", "b"]
    assert folder.read_text("b") == "3"


def test_a_replace_that_fails_leaves_the_old_content(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.replace("LATEST", b"old")
    write = Folder.write

    def half(self: Folder, name: str, content: bytes) -> None:
        write(self, name, content[:1])
        raise OSError("the disk is full")

    monkeypatch.setattr(Folder, "write", half)
    with pytest.raises(OSError, match="full"):
        folder.replace("LATEST", b"new")
    assert folder.read_text("LATEST") == "old"


def test_files_are_listed_below_in_order_with_their_sizes(folder: Folder) -> None:
    for name, size in (("b/2", 2), ("a", 1), ("b/10", 10)):
        folder.write(name, b"x" * size)
    assert [(f.path, f.n_bytes) for f in folder.files()] == [("a", 1), ("b/10", 10), ("b/2", 2)]
    assert folder.files("absent") == []


def test_delete_takes_a_folder_with_all_below_and_forgives_its_absence(folder: Folder) -> None:
    folder.write("a/b/c", b"")
    folder.delete("a")
    folder.delete("a")
    assert not folder.exists("a")
    assert folder.exists()


def test_the_check_for_writing_leaves_nothing_behind(folder: Folder, tmp_path: Path) -> None:
    folder.child("not/yet/there").check_writable()
    assert list(tmp_path.iterdir()) == []


def test_the_check_for_writing_leaves_what_was_there(folder: Folder, tmp_path: Path) -> None:
    folder.write("kept", b"")
    (tmp_path / "out put" / "empty").mkdir()
    folder.child("empty/new").check_writable()
    assert sorted(p.name for p in (tmp_path / "out put").iterdir()) == ["empty", "kept"]


def test_a_place_that_cannot_be_written_is_named(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match=r"output\.path .* cannot be written") as caught:
        Folder(spark, str(tmp_path / "file" / "runs")).check_writable()
    assert "java" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.mark.parametrize("path", ["nosuch://bucket/runs", "a:b"])
def test_an_address_that_spark_cannot_reach_is_refused(spark: SparkSession, path: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{path!r} cannot be reached") as caught:
        Folder(spark, path)
    assert "\n" not in str(caught.value)


def test_input_files_tell_path_size_and_time(spark: SparkSession, tmp_path: Path) -> None:
    path = tmp_path / "a b.csv"
    path.write_text("x\n1\n")
    [info] = input_files(spark, spark.read.csv(str(path)).inputFiles())
    assert info.n_bytes == 4
    assert info.modified == int(path.stat().st_mtime * 1000)
    assert info.path.endswith("a%20b.csv")


def test_a_sibling_lies_beside_and_a_folder_knows_its_name(folder: Folder, tmp_path: Path) -> None:
    assert folder.name == "out put"
    folder.sibling("next").write("a", b"1")
    assert (tmp_path / "next" / "a").read_bytes() == b"1"


def test_a_file_is_no_folder(folder: Folder) -> None:
    assert not folder.is_file()
    folder.write("a", b"1")
    assert not folder.is_file()
    assert folder.child("a").is_file()


def test_files_move_to_the_same_places_beside_those_that_are_there(folder: Folder) -> None:
    draft = folder.sibling("draft")
    folder.write("deep/a", b"old")
    for name in ("b", "deep/c", "deep/er/d"):
        draft.write(name, name.encode())
    draft.move_files(folder)
    assert [f.path for f in folder.files()] == ["b", "deep/a", "deep/c", "deep/er/d"]
    assert folder.read_bytes("deep/c") == b"deep/c"
    assert not draft.exists()


def test_files_that_cannot_all_move_all_stay(folder: Folder) -> None:
    draft = folder.sibling("draft")
    folder.write("b", b"old")
    for name in ("a", "b", "c"):
        draft.write(name, b"new")
    with pytest.raises(OSError, match="b could not be moved"):
        draft.move_files(folder)
    assert {f.path: folder.read_bytes(f.path) for f in folder.files()} == {"b": b"old"}


def test_a_file_is_created_once_and_its_content_is_the_first_ones(folder: Folder) -> None:
    assert folder.create("deep/claim", b"one")
    assert not folder.create("deep/claim", b"two")
    assert folder.read_bytes("deep/claim") == b"one"
    assert folder.read_if_there("deep/other") is None


def test_the_root_of_a_file_system_is_an_address(spark: SparkSession) -> None:
    root = Folder(spark, "file:///")
    assert root.uri == "file:/"
    assert root.child("tmp").parent.uri == root.uri
    assert root.exists("tmp")


def test_entries_tell_folders_from_files_and_a_missing_folder_has_none(folder: Folder) -> None:
    assert folder.entries() == {}
    folder.write("a/b", b"")
    folder.write("c", b"")
    assert folder.entries() == {"a": True, "c": False}
    assert folder.folders() == ["a"]
