"""Jobs as real processes, two at a time: each scenario runs once, whatever tests look at it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.scenarios import Done

ROOT = Path(__file__).resolve().parents[2]
SPARK_SUBMIT = Path(sys.executable).with_name("spark-submit")
# A JVM that compiles less starts sooner; nothing else is changed.
QUICK = [
    *("--conf", "spark.ui.enabled=false"),
    *("--driver-java-options", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"),
]
TIMEOUT = 400


class Workplace:
    """A folder of its own for a scenario, and the ways to start a job in it; `job` is its file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.job = "fit_gmm.py"
        self._watchdogs: dict[int, threading.Timer] = {}

    def write(self, name: str, *lines: str) -> str:
        """Write lines to a file and return its path."""
        (self.folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return str(self.folder / name)

    def spark_submit(
        self,
        *arguments: str,
        master: str = "local[1]",
        confs: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Done:
        """Submit the job and wait."""
        process = self.start(*arguments, master=master, confs=confs, env=env)
        return self.finish(process)

    def python(self, *arguments: str, env: Mapping[str, str] | None = None) -> Done:
        """Run the job as a plain Python script and wait."""
        return self.finish(self._popen([sys.executable, *self._job(arguments)], env))

    def start(
        self,
        *arguments: str,
        master: str = "local[1]",
        confs: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[str]:
        """Submit the job, without waiting."""
        given = [
            part for key, value in (confs or {}).items() for part in ("--conf", f"{key}={value}")
        ]
        command = [str(SPARK_SUBMIT), "--master", master, *QUICK, *given]
        return self._popen([*command, *self._job(arguments)], env, stderr)

    def finish(self, process: subprocess.Popen[str]) -> Done:
        """Wait for a process."""
        out, err = process.communicate()
        self._watchdogs.pop(process.pid).cancel()
        return Done(process.returncode, out, err or "", self.folder)

    def _job(self, arguments: tuple[str, ...]) -> list[str]:
        return [str(ROOT / "jobs" / self.job), *arguments]

    def _popen(
        self, command: list[str], env: Mapping[str, str] | None, stderr: int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        hidden = ("SPARK_HOME", "PYSPARK_", "PYTHONPATH", "SPARK_CONF_DIR")
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=self.folder,
            env={**inherited, "SPARK_LOCAL_DIRS": str(self.folder / "local"), **(env or {})},
            start_new_session=True,  # so that its whole family can be ended, and nothing else
        )
        watchdog = threading.Timer(TIMEOUT, os.killpg, (process.pid, signal.SIGKILL))
        watchdog.start()
        self._watchdogs[process.pid] = watchdog
        return process


Scenario = Callable[[Workplace], Any]


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Any]]]:
    """Start the scenarios that the selected tests of a module need; two run at a time."""
    known: Mapping[str, Scenario] = request.module.SCENARIOS
    wanted = [
        item.callspec.params["outcome"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    ]
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(known[name], Workplace(tmp_path_factory.mktemp("job")))
            for name in dict.fromkeys(wanted)
        }


@pytest.fixture
def outcome(request: pytest.FixtureRequest, outcomes: dict[str, Future[Any]]) -> Any:
    """What the scenario named by the parameter returned."""
    return outcomes[request.param].result()
