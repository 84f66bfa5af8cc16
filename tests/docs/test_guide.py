"""docs/guide.md, typed as it stands by somebody who has only a clone."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.nights

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 300


class Step(NamedTuple):
    """A block of commands, the exit code that the guide promises, and what came of it."""

    commands: str
    promised: int
    code: int
    text: str


def clone(target: Path) -> None:
    """Copy what is under version control, and lend the environment."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[Step]:
    """All blocks of the guide, run in their order in one folder."""
    folder = tmp_path_factory.mktemp("guide")
    clone(folder)
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    done = []
    for exit_code, commands in re.findall(
        r"^```sh(?: exit=(\d+))?\n(.*?)^```", guide, re.DOTALL | re.MULTILINE
    ):
        ended = subprocess.run(
            ["bash", "-c", commands],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        done.append(Step(commands, int(exit_code or 0), ended.returncode, ended.stdout))
    return done


def of(steps: list[Step], words: str) -> list[Step]:
    found = [step for step in steps if words in step.commands]
    assert found, f"no command of the guide has {words!r}"
    return found


def test_every_block_ends_with_the_code_that_the_guide_promises(steps: list[Step]) -> None:
    assert len(steps) > 10
    for step in steps:
        assert step.code == step.promised, f"{step.commands}\n{step.text}"


def test_the_error_that_the_guide_shows_is_the_one_that_is_told(steps: list[Step]) -> None:
    [shown] = re.findall(r"^    (error: .*)$", (ROOT / "docs" / "guide.md").read_text(), re.M)
    [step] = of(steps, "model.kk=3")
    assert shown in step.text.splitlines()


def test_the_second_time_the_run_is_left_alone(steps: list[Step]) -> None:
    command = "jobs/fit_gmm.py --config trips/fit.yaml\n"
    first, second = (step for step in steps if command in step.commands)
    assert "log-likelihood" in first.text
    assert "is left alone" in second.text


def test_the_nights_go_as_the_guide_says(steps: list[Step]) -> None:
    [nights] = of(steps, "for day in 2026")
    assert "appeared" in nights.text
    [latest] = of(steps, "cat runs/nights/LATEST")
    assert latest.text.strip() == "2026-11-22"
    [mended] = of(steps, "if day ==")[1:]
    assert "run runs/nights/2026-11-23" in mended.text


def test_the_update_stands_for_both_days(steps: list[Step]) -> None:
    [update] = of(steps, "model.update=runs/growing")
    assert "4,500 rows" in update.text


def test_lines_of_the_last_fit_are_json(steps: list[Step]) -> None:
    lines = of(steps, "--log-format json")[-1].text.splitlines()
    assert any(json.loads(line).get("step") for line in lines if line.startswith("{"))
    assert any(line.startswith("sparkgmm_rows_read") for line in lines)
