"""Jobs submitted to a real cluster on loopback, with the packed environment and nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.scenarios import Done

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / "dist" / "environment.tar.gz"
QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
TIMEOUT = 240


def _cluster_module() -> Any:
    spec = importlib.util.spec_from_file_location("cluster", ROOT / "scripts" / "cluster.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cluster"] = module
    spec.loader.exec_module(module)
    return module


Cluster = _cluster_module().Cluster


@dataclass
class Submitted:
    """A job that runs; whatever it starts ends with it."""

    process: subprocess.Popen[str]
    folder: Path
    timeout: float = TIMEOUT
    watchdog: threading.Timer = field(init=False)

    def __post_init__(self) -> None:
        self.watchdog = threading.Timer(self.timeout, self.kill)
        self.watchdog.start()

    def kill(self, sign: int = signal.SIGKILL) -> None:
        """Send a signal to the JVM, the driver in it, and all that they started here."""
        os.killpg(self.process.pid, sign)

    def finish(self) -> Done:
        out, err = self.process.communicate()
        self.watchdog.cancel()
        return Done(self.process.returncode, out, err, self.folder)


class Lab:
    """Where jobs are submitted from: a folder with the packed environment, and no other Python.

    Unpacking it for each executor of each job is most of what a job costs here; so it lies there
    unpacked, where the workers see it too, and only jobs that are asked to ship it.
    """

    def __init__(self, folder: Path, master: str) -> None:
        import pyspark

        self.folder = folder
        self.master = master
        self._spark_home = Path(pyspark.__file__).parent
        with tarfile.open(ENVIRONMENT) as archive:
            archive.extractall(folder / "environment", filter="data")

    def submit(
        self,
        job: str,
        *arguments: str,
        master: str | None = None,
        confs: Mapping[str, object] | None = None,
        shipped: bool = False,
    ) -> Submitted:
        """Submit a job; `shipped` sends the environment along, else it lies on the workers."""
        python = str(self.folder / "environment" / "bin" / "python")
        settings = {
            # a JVM that compiles less starts sooner
            "spark.driver.extraJavaOptions": QUICK,
            "spark.executor.extraJavaOptions": QUICK,
            "spark.pyspark.python": "./environment/bin/python" if shipped else python,
            "spark.pyspark.driver.python": python,
            "spark.ui.enabled": "false",
            "spark.executor.memory": "600m",
            "spark.sparkgmm.driverBytes": 1,
            "spark.sql.files.maxPartitionBytes": "8m",
            "spark.sql.files.openCostInBytes": "8m",
            **(confs or {}),
        }
        archives = ("--archives", f"{ENVIRONMENT}#environment") if shipped else ()
        command = [
            str(self._spark_home / "bin" / "spark-submit"),
            *("--master", master or self.master, *archives),
            *(part for key, value in settings.items() for part in ("--conf", f"{key}={value}")),
            *(str(ROOT / "jobs" / f"{job}_gmm.py"), *arguments),
        ]
        needed = ("HOME", "JAVA_HOME", "LANG", "PATH", "SPARK_SUBMIT_OPTS")
        kept = {k: v for k, v in os.environ.items() if k in needed}
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={
                **kept,
                "SPARK_HOME": str(self._spark_home),
                "SPARK_LOCAL_IP": "127.0.0.1",
                "SPARK_LOCAL_DIRS": str(self.folder / "local"),
            },
            start_new_session=True,
        )
        return Submitted(process, self.folder)

    def fit(
        self,
        rows: Path,
        output: Path,
        run_id: str,
        *overrides: str,
        master: str | None = None,
        confs: Mapping[str, object] | None = None,
        shipped: bool = False,
    ) -> Submitted:
        """Submit a fit of some twenty passes."""
        config = self.folder / f"{output.name}-{run_id}.json"  # JSON is YAML
        values = {
            "input": {"path": str(rows)},
            "model": {"k": 3, "tol": 1e-13, "max_iter": 24, "n_init": 2},
            "output": {"path": str(output), "run_id": run_id, "report": False},
        }
        config.write_text(json.dumps(values))
        given = [part for text in overrides for part in ("--set", text)]
        arguments = ["--config", str(config), *given]
        return self.submit("fit", *arguments, master=master, confs=confs, shipped=shipped)
