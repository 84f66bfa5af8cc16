"""Programs in the environment that has Airflow and the vendors' clients, .venv-airflow."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv-airflow" / "bin"


class Airflow:
    """An Airflow with a database of its own and the DAGs of conf/schedule."""

    def __init__(self, home: Path) -> None:
        self.home = home
        if not (BIN / "airflow").exists():
            pytest.fail(f"{BIN} has no Airflow: make test-airflow makes it")

    def run(self, *command: str, env: Mapping[str, str] | None = None, timeout: int = 300) -> str:
        """Run a program of the environment and return what it says, on both streams."""
        settings = {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "conf" / "schedule"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        needed = ("HOME", "JAVA_HOME", "LANG", "PATH", "SPARK_SUBMIT_OPTS")
        kept = {k: v for k, v in os.environ.items() if k in needed}
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
            cwd=self.home,
            env={**kept, **settings, **(env or {})},
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def json(self, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> Any:
        """Run a Python file of this folder and return the JSON of its last line."""
        said = self.run("python", str(Path(__file__).with_name(program)), *arguments, env=env)
        return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    made = Airflow(tmp_path_factory.mktemp("airflow"))
    made.run("airflow", "db", "migrate")
    return made
