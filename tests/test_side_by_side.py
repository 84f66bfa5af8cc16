"""The program by which make runs two suites at once: no failure and no line of either is lost."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "scripts" / "side_by_side.py"


def python(code: str) -> str:
    """Return a command that runs code."""
    return shlex.join([sys.executable, "-c", code])


def together(*commands: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *commands]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def exits(code: int) -> str:
    return python(f"import sys; sys.exit({code})")


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 0), 0), ((3, 0), 3), ((0, 3), 3), ((2, 3), 2), ((0, 0, 5), 5)],
)
def test_a_failure_of_any_command_is_a_failure_of_all(codes: tuple[int, ...], expected: int):
    done = together(*(exits(code) for code in codes))
    assert done.returncode == expected
    told = [line for line in done.stderr.splitlines() if line.startswith("error: exit code")]
    assert len(told) == sum(code != 0 for code in codes)


def test_a_command_that_a_signal_ended_is_a_failure():
    killed = python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert together(exits(0), killed).returncode == 128 + signal.SIGKILL


def test_a_command_that_is_not_there_is_a_failure_and_the_other_is_ended(tmp_path: Path):
    late = tmp_path / "late"
    slow = python(f"import pathlib, time; time.sleep(60); pathlib.Path({str(late)!r}).touch()")
    begun = time.monotonic()
    assert together(slow, str(tmp_path / "no-such-program")).returncode != 0
    assert time.monotonic() - begun < 50
    assert not late.exists()


def test_what_each_command_says_stands_together_in_their_order():
    first = python("import time; print('a'); time.sleep(1); print('b')")
    second = python("import sys; print('c'); print('d', file=sys.stderr)")
    done = together(first, second)
    assert done.stdout.split()[:3] == ["a", "b", "c"]
    assert "d" in done.stdout.split()


def test_the_commands_run_at_the_same_time(tmp_path: Path):
    """Each waits for a file that the other makes."""
    code = (
        "import pathlib, sys, time\n"
        "mine, other = map(pathlib.Path, sys.argv[1:])\n"
        "mine.touch()\n"
        "end = time.monotonic() + 60\n"
        "while not other.exists():\n"
        "    assert time.monotonic() < end\n"
        "    time.sleep(0.05)\n"
    )
    files = [str(tmp_path / name) for name in "ab"]
    commands = [shlex.join([sys.executable, "-c", code, *order]) for order in (files, files[::-1])]
    assert together(*commands).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_where_it_is_stopped_the_commands_are_stopped(number: signal.Signals, tmp_path: Path):
    begun = tmp_path / "begun"
    slow = python(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'draft')!r}).write_text(str(os.getpid()))\n"
        f"os.rename({str(tmp_path / 'draft')!r}, {str(begun)!r})\n"
        "time.sleep(120)"
    )
    process = subprocess.Popen([sys.executable, str(PROGRAM), exits(0), slow])
    end = time.monotonic() + 60
    while not begun.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)


def test_without_a_command_it_tells_its_usage():
    done = together()
    assert done.returncode == 2
    assert "side_by_side.py COMMAND" in done.stderr
