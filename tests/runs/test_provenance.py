"""The commit in the manifest: noted by the build, or asked of git, and never somebody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sparkgmm.runs import provenance

ROOT = Path(__file__).resolve().parents[2]
NOBODY = {"commit": None, "dirty": None}


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", *settings, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A package in the src/ of a repository with one commit."""
    package = tmp_path / "src" / "sparkgmm"
    package.mkdir(parents=True)
    (package / "a.py").write_text("a = 1\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-q", "-m", "a")
    return package


def source_of(package: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(provenance, "PACKAGE", package)
    provenance.source.cache_clear()
    try:
        return provenance.source()
    finally:
        provenance.source.cache_clear()


def test_a_checkout_is_asked_for_its_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(checkout, "rev-parse", "HEAD")
    assert source_of(checkout, monkeypatch) == {"commit": head, "dirty": False}


def test_a_change_of_the_package_is_told_and_one_beside_it_is_not(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout.parents[1] / "notes.txt").write_text("mine\n")
    assert source_of(checkout, monkeypatch)["dirty"] is False
    (checkout / "a.py").write_text("a = 2\n")
    assert source_of(checkout, monkeypatch)["dirty"] is True


def test_an_environment_in_somebodys_checkout_is_not_of_their_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = checkout.parents[1] / ".venv" / "site-packages" / "sparkgmm"
    below = checkout.parents[1] / "vendored" / "src" / "sparkgmm"
    for package in (installed, below):
        package.mkdir(parents=True)
        assert source_of(package, monkeypatch) == NOBODY


def test_what_the_build_noted_wins(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = {"commit": "ab" * 20, "dirty": False}
    (checkout / "commit.json").write_text(json.dumps(noted))
    assert source_of(checkout, monkeypatch) == noted


@pytest.mark.parametrize("content", ["", "[]", '{"commit": "a"}'])
def test_a_note_that_is_none_is_passed_by(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "commit.json").write_text(content)
    assert source_of(tmp_path, monkeypatch) == NOBODY


def test_without_git_nobody_knows_and_nothing_fails(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert source_of(checkout, monkeypatch) == NOBODY


def test_a_wheel_holds_the_commit_and_all_that_is_no_python(tmp_path: Path) -> None:
    """Built as `make dist` builds it, from a clone of what is committed here."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
    wheels = []
    for name in ("once", "twice"):
        options = ["-q", "--no-deps", "--no-build-isolation", "--no-index"]
        command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", tmp_path / name]
        env = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000"}
        subprocess.run([*command, "."], check=True, cwd=clone, env=env)
        [wheel] = (tmp_path / name).glob("*.whl")
        wheels.append(wheel)
    with zipfile.ZipFile(wheels[0]) as archive:
        noted = json.loads(archive.read("sparkgmm/commit.json"))
        inside = set(archive.namelist())
    assert noted == {"commit": git(ROOT, "rev-parse", "HEAD"), "dirty": False}
    source = clone / "src"
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / "sparkgmm").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "sparkgmm/report/templates/report.html" in wanted
    assert wanted <= inside
    assert wheels[0].read_bytes() == wheels[1].read_bytes()
