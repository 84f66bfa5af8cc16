"""HDFS and YARN on loopback for tests, and the commands of conf/deploy run against them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from helpers.cluster_jobs import QUICK, Submitted

ROOT = Path(__file__).resolve().parents[2]
JARS = ROOT / "build" / "jars" / "hadoop"
SOURCE = ROOT / "tests" / "storage" / "hadoop" / "MiniCluster.java"
USER = "hadoop"
HOME = f"/user/{USER}"
# What the node manager promises: a driver of 4 GiB and two of the executors of conf/deploy.
# They are numbers: nobody needs what is promised.
MEGABYTES = 14_336
PATIENCE = 120.0
# What docs/deploy.md says for machines of several kinds: drivers and executors round alike.
KERNELS = {"OPENBLAS_CORETYPE": "Haswell"}


class MiniCluster:
    """The servers, all in one JVM, and what they are told; a context that ends them.

    Everything lies below `folder`. Containers find a Python in which nothing is installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._jvm = self._start(_compiled(folder / "classes"), _empty_python(folder / "python"))
        try:
            self.uri = self._answer("ready")[0]
            self.tell("mkdir", HOME, USER, "755")
            self._spark_settings()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> MiniCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def tell(self, *words: object) -> list[str]:
        """Have a command of MiniCluster.java obeyed and return the words of its answer."""
        with self._lock:
            assert self._jvm.stdin is not None
            self._jvm.stdin.write("\t".join(str(word) for word in words) + "\n")
            self._jvm.stdin.flush()
            return self._answer("ok")

    def read(self, path: str) -> bytes:
        """Return a file of HDFS."""
        place = self.folder / "got"
        self.tell("get", path, place)
        return place.read_bytes()

    def copy(self, path: str, target: Path) -> Path:
        """Copy a folder of HDFS to a local place and return it."""
        self.tell("get", path, target)
        return target

    def names(self, path: str) -> list[str]:
        """Return the names in a folder of HDFS, none where it does not exist."""
        there = self.tell("exists", path) == ["true"]
        return [name for name in self.tell("names", path) if name] if there else []

    def environment(self) -> dict[str, str]:
        """Return what a client of the cluster has in its environment."""
        kept = {k: v for k, v in os.environ.items() if k in ("HOME", "LANG")}
        return {
            **kept,
            "JAVA_HOME": str(_java_home()),
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "HADOOP_CONF_DIR": str(self.folder / "conf"),
            "SPARK_CONF_DIR": str(self.folder / "spark-conf"),
            "HADOOP_USER_NAME": USER,
            "SPARK_LOCAL_IP": "127.0.0.1",
            **KERNELS,
        }

    def submit(self, command: Sequence[str | Path], timeout: float = 600) -> Submitted:
        """Start a command in the checkout, as a user of this cluster would."""
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=self.environment(),
            start_new_session=True,
        )
        return Submitted(process, self.folder, timeout)

    def processes(self, main: str, application: str = "") -> list[int]:
        """Return the JVMs of this cluster's containers that run a class of Spark's."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                ours = any(str(self.folder) in w and application in w for w in words)
                if entry.name.isdigit() and words[0].endswith("java") and ours and main in words:
                    found.append(int(entry.name))
        return found

    def logs(self, application: str, name: str) -> list[str]:
        """Return the files `name` (stdout or stderr) of an application's containers."""
        [folder] = self.tell("logs")
        found = sorted(Path(folder).glob(f"*logDir*/{application}/*/{name}"))
        return [path.read_text(errors="replace") for path in found]

    def stop(self) -> None:
        """End the servers and what they started."""
        with suppress(ProcessLookupError):
            os.killpg(self._jvm.pid, signal.SIGKILL)
        self._jvm.wait()
        for main in (_EXECUTOR, _DRIVER, _LAUNCHER):
            for pid in self.processes(main):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.folder / "target", ignore_errors=True)  # unpacked environments
        shutil.rmtree(self.folder / "dfs", ignore_errors=True)

    def _start(self, classes: Path, python: Path) -> subprocess.Popen[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["-Xmx512m", *QUICK.split(), "-Dorg.slf4j.simpleLogger.showDateTime=true"]
        with (self.folder / "servers.log").open("wb") as log:
            return subprocess.Popen(
                [
                    str(_java_home() / "bin" / "java"),
                    *options,
                    *("-cp", f"{classes}:{JARS}/*", "MiniCluster"),
                    *(str(self.folder), str(MEGABYTES)),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env={
                    "HOME": os.environ.get("HOME", "/"),
                    "JAVA_HOME": str(_java_home()),
                    "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin",
                },
                start_new_session=True,
            )

    def _answer(self, good: str) -> list[str]:
        assert self._jvm.stdout is not None
        words = self._jvm.stdout.readline().rstrip("\n").split("\t")
        if words[0] != good:
            log = (self.folder / "servers.log").read_text(errors="replace")[-3000:]
            raise RuntimeError(f"{words}\n{log}")
        return [word.replace("\\n", "\n").replace("\\\\", "\\") for word in words[1:]]

    def _spark_settings(self) -> None:
        import pyspark

        settings = {
            # every machine of the cluster has Spark in the same place
            "spark.yarn.jars": f"local:{Path(pyspark.__file__).parent}/jars/*",
            "spark.ui.enabled": "false",
            "spark.driver.extraJavaOptions": QUICK,
            "spark.executor.extraJavaOptions": QUICK,
            "spark.yarn.am.extraJavaOptions": QUICK,
            # fewer executors are granted than are asked for: do not wait long for the others
            "spark.scheduler.maxRegisteredResourcesWaitingTime": "2s",
            "spark.yarn.submit.file.replication": "1",
            # containers listen on loopback only
            "spark.yarn.appMasterEnv.SPARK_LOCAL_IP": "127.0.0.1",
            "spark.executorEnv.SPARK_LOCAL_IP": "127.0.0.1",
            **{f"spark.yarn.appMasterEnv.{name}": value for name, value in KERNELS.items()},
            **{f"spark.executorEnv.{name}": value for name, value in KERNELS.items()},
        }
        folder = self.folder / "spark-conf"
        folder.mkdir()
        lines = [f"{key} {value}\n" for key, value in settings.items()]
        (folder / "spark-defaults.conf").write_text("".join(lines))


_EXECUTOR = "org.apache.spark.executor.YarnCoarseGrainedExecutorBackend"
_DRIVER = "org.apache.spark.deploy.yarn.ApplicationMaster"
_LAUNCHER = "org.apache.spark.deploy.yarn.ExecutorLauncher"


def application_of(err: str) -> str:
    """Return the id of the application that spark-submit speaks of."""
    found = re.search(r"application_\d+_\d+", err)
    assert found, err
    return found.group(0)


def kill_executor(cluster: MiniCluster, application: str) -> None:
    """Kill one of the containers that run an application's executors."""
    os.kill(_wait_for(lambda: cluster.processes(_EXECUTOR, application)), signal.SIGKILL)


def kill_driver(cluster: MiniCluster, application: str) -> None:
    """Kill the container of an application's driver, in cluster mode."""
    os.kill(_wait_for(lambda: cluster.processes(_DRIVER, application)), signal.SIGKILL)


def _wait_for(look: Any) -> int:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := look():
            return int(found[0])
        time.sleep(0.1)
    raise TimeoutError


def after_passes(cluster: MiniCluster, run: str, n_passes: int, job: Submitted) -> None:
    """Wait until a fit has kept so many files of passes in HDFS, while it still runs."""
    end = time.monotonic() + PATIENCE
    while sum(name.endswith(".passes") for name in cluster.names(f"{run}/state")) < n_passes:
        if job.process.poll() is not None:
            err = job.finish().err
            raise AssertionError("\n".join([err, *cluster.logs(application_of(err), "stderr")]))
        assert time.monotonic() < end, f"no {n_passes} passes in {run}"
        time.sleep(0.05)


def started_application(cluster: MiniCluster, before: Sequence[str]) -> str:
    """Wait for an application that is not among those before, and return its id."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        for application in cluster.tell("applications"):
            if application and application not in before:
                return application
        time.sleep(0.2)
    raise TimeoutError


class Session:
    """One Spark in local mode that runs job after job: a JVM for all tests of HDFS."""

    def __init__(self, cluster: MiniCluster, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        options = (
            "--master local[2] --conf spark.sql.shuffle.partitions=2 "
            f"--conf spark.local.dir={folder / 'local'} pyspark-shell"
        )
        with (folder / "session.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(SOURCE.parent / "session.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**cluster.environment(), "PYSPARK_SUBMIT_ARGS": options},
                start_new_session=True,
            )
        assert json.loads(self._line()) == "ready"

    def start(self, job: str, config: dict[str, Any]) -> None:
        """Have a job begin; `finish` waits for it."""
        path = self._folder / "config.json"  # JSON is YAML
        path.write_text(json.dumps(config))
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"job": job, "argv": ["--config", str(path)]}) + "\n")
        self._process.stdin.flush()

    def finish(self) -> Outcome:
        """Return what the job that was started came to."""
        return Outcome(**json.loads(self._line()))

    def run(self, job: str, config: dict[str, Any]) -> Outcome:
        """Run a job, fit or score."""
        self.start(job, config)
        return self.finish()

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError((self._folder / "session.log").read_text(errors="replace")[-3000:])
        return line

    def stop(self) -> None:
        """End the session."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Outcome:
    """A job's exit code, what it printed, and how long it took."""

    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds

    def error(self) -> str:
        """Return the one `error:` line; nothing else of an error is there."""
        errors = [line for line in self.err.splitlines() if line.startswith("error:")]
        assert len(errors) == 1, self.err
        assert "Traceback" not in self.err, self.err
        assert "\tat " not in self.err, self.err
        return errors[0]


@contextmanager
def session_on(cluster: MiniCluster, folder: Path) -> Iterator[Session]:
    """Run jobs in one Spark session that knows the cluster's addresses."""
    session = Session(cluster, folder)
    try:
        yield session
    finally:
        session.stop()


def _java_home() -> Path:
    java = shutil.which("java")
    assert java
    return Path(java).resolve().parents[1]


def _compiled(target: Path) -> Path:
    if not (JARS / "ready").exists():
        raise FileNotFoundError(f"{JARS} has no jars: make build/jars/hadoop/ready fetches them")
    compiler = _java_home() / "bin" / "javac"
    if not compiler.exists():
        raise FileNotFoundError(f"{compiler} is missing: the servers of the tests need a JDK")
    target.mkdir(parents=True)
    command = [compiler, "-nowarn", "-Xlint:-deprecation", "-d", target, "-cp", f"{JARS}/*", SOURCE]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return target


def _empty_python(target: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(target)], check=True)
    return target / "bin"
