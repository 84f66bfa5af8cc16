"""Is there a Java that Spark can run on."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sparkgmm.errors import ConfigurationError
from sparkgmm.spark import java
from sparkgmm.spark.java import java_problem
from sparkgmm.spark.session import start_session

pytestmark = pytest.mark.spark

FakeJava = Callable[[str], str]


@pytest.fixture
def fake_java(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeJava:
    """A function that makes a java which says so and points JAVA_HOME to it."""

    def make(answer: str) -> str:
        program = tmp_path / "jdk" / "bin" / "java"
        program.parent.mkdir(parents=True)
        program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{answer}\nEND\n")
        program.chmod(0o755)
        monkeypatch.setenv("JAVA_HOME", str(tmp_path / "jdk"))
        return str(program)

    return make


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_412", "16"])
def test_an_old_java_is_told_with_its_version_and_the_remedy(
    fake_java: FakeJava, version: str
) -> None:
    program = fake_java(f'openjdk version "{version}" 2019-01-15\nOpenJDK Runtime Environment')
    problem = java_problem()
    assert problem is not None
    assert f"Java {version} was found ({program})" in problem
    assert "Java 17 or newer is needed" in problem
    assert "apt-get install openjdk-17" in problem
    assert "\n" not in problem


@pytest.mark.parametrize("version", ["17.0.15", "17", "21.0.7", "25-ea"])
def test_a_java_that_is_new_enough_is_no_problem(fake_java: FakeJava, version: str) -> None:
    fake_java(f'openjdk version "{version}" 2025-04-15')
    assert java_problem() is None


def test_a_line_before_the_version_does_not_confuse(fake_java: FakeJava) -> None:
    fake_java('Picked up JAVA_TOOL_OPTIONS: -Dx=1\nopenjdk version "17.0.1" 2021-10-19')
    assert java_problem() is None


def test_a_java_home_without_java_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    problem = java_problem()
    assert problem is not None
    assert f"no Java was found (tried {tmp_path}/bin/java)" in problem


def test_no_java_on_the_path_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    problem = java_problem()
    assert problem is not None
    assert "no Java was found" in problem


def test_a_java_without_a_version_is_told(fake_java: FakeJava) -> None:
    fake_java("I am no Java")
    problem = java_problem()
    assert problem is not None
    assert "did not answer with a version" in problem


def test_the_java_of_this_machine_will_do() -> None:
    assert java_problem() is None


def test_a_session_does_not_start_on_an_old_java(
    fake_java: FakeJava, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java('openjdk version "11.0.2" 2019-01-15')
    monkeypatch.delenv("PYSPARK_GATEWAY_PORT", raising=False)
    with pytest.raises(ConfigurationError, match=r"Java 11\.0\.2 was found"):
        start_session("never")


def test_make_stops_at_an_old_java_with_one_line(fake_java: FakeJava) -> None:
    fake_java('java version "1.8.0_412"')
    done = subprocess.run(
        [sys.executable, str(java.__file__)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Java 1.8.0_412 was found")
    assert done.stderr.count("\n") == 1
