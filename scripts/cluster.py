"""A standalone Spark cluster on this machine, for tests and trials: a master and some workers.

    python scripts/cluster.py [--workers 3] [--cores 1] [--memory 1g]

starts one on free ports of the loopback address, prints its master's URL, and stops it at the end
of standard input or at Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PATIENCE = 60.0


class Cluster:
    """One master and some workers, each a process group of its own; a context that stops them.

    `python` is the folder of the only Python that the workers find, or None for this machine's.
    `memory` is in Spark's notation, for each worker.
    """

    def __init__(
        self,
        folder: Path,
        workers: int = 3,
        cores: int = 1,
        memory: str = "1g",
        python: Path | None = None,
    ) -> None:
        import pyspark

        self.home = Path(pyspark.__file__).parent
        self.folder = folder
        self._python = python
        self._worker_options = ["--cores", str(cores), "--memory", memory]
        self.url = ""
        self.master = self._start("master", "org.apache.spark.deploy.master.Master")
        self.workers: list[subprocess.Popen[bytes]] = []
        try:
            self.url = self._told("master", r"Starting Spark master at (spark://\S+)")
            for _ in range(workers):
                self.add_worker()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def add_worker(self) -> None:
        """Start one more worker and wait until the master knows it."""
        name = f"worker-{len(self.workers)}"
        options = [*self._worker_options, "--work-dir", str(self.folder / name), self.url]
        self.workers.append(self._start(name, "org.apache.spark.deploy.worker.Worker", *options))
        self._told(name, "Successfully registered with master")

    def kill_worker(self, number: int) -> None:
        """Kill a worker and its executors at once, for good."""
        with suppress(ProcessLookupError):
            os.killpg(self.workers[number].pid, signal.SIGKILL)
        self.workers[number].wait()

    def executors(self) -> list[int]:
        """Return the process ids of the executors' JVMs."""
        groups = {worker.pid for worker in self.workers}
        return [
            pid
            for pid, command in _processes()
            if "CoarseGrainedExecutorBackend" in command and _group(pid) in groups
        ]

    def stop(self) -> None:
        """End all processes that were started here."""
        for process in [*getattr(self, "workers", []), self.master]:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _start(self, name: str, main: str, *options: str) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        known = {k: v for k, v in os.environ.items() if k in ("HOME", "JAVA_HOME", "LANG", "PATH")}
        if self._python is not None:
            known["PATH"] = f"{self._python}:{known['PATH']}"
        environment = {
            **known,
            "SPARK_HOME": str(self.home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(self.folder / f"{name}-local"),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
        }
        address = ["--host", "127.0.0.1", "--port", "0", "--webui-port", "0"]
        with (self.folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [str(self.home / "bin" / "spark-class"), main, *address, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )

    def _told(self, name: str, pattern: str) -> str:
        """Wait for a line in a process's log and return its last group."""
        log = self.folder / f"{name}.log"
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            found = re.search(pattern, log.read_text(errors="replace"))
            if found:
                return found.group(found.lastindex or 0)
            time.sleep(0.1)
        raise TimeoutError(f"{name} did not start in {_PATIENCE:.0f} s:\n{log.read_text()[-2000:]}")


def _processes() -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")


def _group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


@contextmanager
def _in_a_folder_of_its_own() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sparkgmm-cluster-") as folder:
        yield Path(folder)


def main() -> None:
    """Run a cluster until standard input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--memory", default="1g")
    options = parser.parse_args()
    with (
        _in_a_folder_of_its_own() as folder,
        Cluster(folder, options.workers, options.cores, options.memory) as cluster,
        suppress(KeyboardInterrupt),
    ):
        print(cluster.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
