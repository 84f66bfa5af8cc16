"""Jobs in a Spark session that is a process of its own, and what they leave on the terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
_HIDDEN = ("SPARK_HOME", "PYSPARK_", "PYTHONPATH", "SPARK_CONF_DIR", "AWS_")


@dataclass(frozen=True)
class Ended:
    """What became of a job: exit code, both streams, and how long it took, in seconds."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def errors(self) -> list[str]:
        """The lines that start with `error:`."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


def environment(**more: str) -> dict[str, str]:
    """Return this process's variables but for those of another Spark or of somebody's account."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(_HIDDEN)}
    return {**inherited, "PYSPARK_PYTHON": sys.executable, **more}


class Jobs:
    """A process with a session, see storage/jobs_app.py; jobs are run in it one after the other."""

    def __init__(self, folder: Path, confs: Mapping[str, str], cores: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        given = {
            "spark.ui.enabled": "false",
            "spark.local.dir": str(folder / "local"),
            "spark.sql.warehouse.dir": str(folder / "warehouse"),
            "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
            "spark.sql.shuffle.partitions": "2",
            **confs,
        }
        options = " ".join(f"--conf '{key}={value}'" for key, value in given.items())
        self._err = folder / "stderr"
        self._n = 0
        with self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "tests" / "storage" / "jobs_app.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                text=True,
                cwd=folder,
                env=environment(
                    PYSPARK_SUBMIT_ARGS=f"--master local[{cores}] {options} pyspark-shell"
                ),
                start_new_session=True,  # so that it can be killed with its JVM, and nothing else
            )
        self._lock = threading.Lock()
        self._hadoop: str | None = None

    def hadoop(self) -> str:
        """Wait for the session, and return the version of its Hadoop."""
        if self._hadoop is None:
            self._hadoop = self._answer()["hadoop"]
        return self._hadoop

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise EOFError(self._err.read_text(encoding="utf-8")[-3000:])
        return json.loads(line)

    def run(
        self,
        job: str,
        config: Mapping[str, Any],
        *arguments: str,
        hadoop: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a job with a configuration, and wait. `hadoop` are settings from now on."""
        self._n += 1
        path = self.folder / f"{job}{self._n}.yaml"
        path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        return self.main(job, "--config", str(path), *arguments, hadoop=hadoop)

    def main(self, job: str, *arguments: str, hadoop: Mapping[str, str] | None = None) -> Ended:
        """Run a job by its arguments, and wait."""
        with self._lock:
            self.hadoop()
            before, begun = self._err.stat().st_size, time.monotonic()
            asked = {"job": job, "arguments": arguments, "hadoop": dict(hadoop or {})}
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
            answer = self._answer()
            seconds = time.monotonic() - begun
            err = self._err.read_bytes()[before:].decode("utf-8", errors="replace")
            return Ended(answer["code"], answer["out"], err, seconds)

    def kill(self) -> None:
        """Kill it, with its JVM, by SIGKILL."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        if self.process.poll() is not None:
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()


def until(happened: Callable[[], bool], job: Future[Any], seconds: float = 120) -> None:
    """Wait until something happened while a job runs, which must not end before."""
    end = time.monotonic() + seconds
    while not happened():
        assert not job.done(), job.result()
        assert time.monotonic() < end
        time.sleep(0.05)
