"""The steps of conf/deploy/Dockerfile, outside Docker as far as they go.

What the base images hold is taken from this machine: Python and Java, and Spark from the tests' own
environment. The packages are installed by the very commands, and the job is started with the
variables that the image would have.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyspark
import pytest

from helpers.cluster_jobs import ENVIRONMENT, QUICK, ROOT

pytestmark = pytest.mark.storage

DOCKERFILE = ROOT / "conf" / "deploy" / "Dockerfile"
# Commands that change a whole system: only Docker may run them.
_OF_THE_SYSTEM = ("apt-get ", "rm -rf /var/lib/apt", "useradd ")


@dataclass
class Image:
    """A folder in the place of the image's root, and its variables."""

    root: Path
    python: Path
    variables: dict[str, str]

    def at(self, text: str) -> str:
        """Return a command or a path with the image's absolute paths below the folder."""
        below = re.sub(r"(?<![\w.])(/(?:tmp|opt)/)", rf"{self.root}\1", text)
        return below.replace("/usr/local/bin/python3", str(self.python))


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions and what they are given, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """What the Dockerfile makes, in a folder."""
    if not ENVIRONMENT.exists():
        pytest.fail("the wheel is missing: make dist builds it")
    root = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", str(root / "usr" / "local")], check=True)
    made = Image(root, root / "usr" / "local" / "bin" / "python3", {})
    ran = 0
    for name, given in instructions():
        if name == "COPY":
            _copy(made, given)
        elif name == "RUN":
            ran += _run(made, given)
        elif name == "ENV":
            pairs = (pair.split("=", 1) for pair in given.split())
            made.variables |= {key: made.at(value) for key, value in pairs}
        else:
            assert name in ("FROM", "WORKDIR", "USER", "ENTRYPOINT"), name
    assert ran == 3  # the lock file's packages, the wheel, and what is removed after them
    return made


def _copy(image: Image, given: str) -> None:
    if given == "--from=spark /opt/spark /opt/spark":
        target = image.root / "opt" / "spark"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(pyspark.__file__).parent)
        return
    if given.startswith("--from="):
        return  # the entry point of Spark's own image
    *sources, place = given.split()
    target = Path(image.at(place))
    for source in sources:
        found = sorted(ROOT.glob(source))
        assert found, f"the Dockerfile copies {source}, which is not there"
        for path in found:
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True)
            else:
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)


def _run(image: Image, given: str) -> int:
    """Run the commands of an instruction that are not for the whole system; return how many."""
    commands = [command.strip() for command in given.split("&&")]
    ours = [command for command in commands if not command.startswith(_OF_THE_SYSTEM)]
    for command in ours:
        subprocess.run(
            ["sh", "-c", image.at(command)],
            check=True,
            cwd=image.root,
            env={**os.environ, "PATH": f"{image.python.parent}:{os.environ['PATH']}"},
        )
    return len(ours)


def test_the_image_has_the_package_and_no_spark_among_its_packages(image: Image) -> None:
    listed = subprocess.run(
        [str(image.python), "-m", "pip", "list", "--format=json"],
        check=True,
        capture_output=True,
        text=True,
    )
    names = {package["name"] for package in json.loads(listed.stdout)}
    assert {"sparkgmm", "numpy", "pyarrow"} <= names
    assert "pyspark" not in names
    assert not list((image.root / "tmp").iterdir())


def test_the_job_runs_by_the_images_spark_and_python(image: Image, tmp_path: Path) -> None:
    """As kubernetes.sh starts it: by the path in the image, with the log for shippers."""
    job = image.at("/opt/sparkgmm/jobs/fit_gmm.py")
    config = tmp_path / "trips.yaml"
    shutil.copy(ROOT / "conf" / "deploy" / "trips.yaml", config)
    overrides = {
        "input.path": str(ROOT / "data" / "faithful.csv"),
        "input.format": "csv",
        "input.options": "{header: true}",
        "input.features": "null",
        "output.path": str(tmp_path / "runs"),
        "output.run_id": "image",
    }
    needed = ("HOME", "JAVA_HOME", "LANG", "PATH", "SPARK_SUBMIT_OPTS")
    kept = {k: v for k, v in os.environ.items() if k in needed}
    done = subprocess.run(
        [
            str(Path(image.variables["SPARK_HOME"]) / "bin" / "spark-submit"),
            *("--master", "local[2]", "--conf", "spark.ui.enabled=false"),
            *("--conf", f"spark.driver.extraJavaOptions={QUICK}"),
            *(job, "--config", str(config), "--log-format", "json"),
            *(part for key, value in overrides.items() for part in ("--set", f"{key}={value}")),
        ],
        cwd=tmp_path,
        env={**kept, **image.variables, "SPARK_LOCAL_IP": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "runs" / "image" / "manifest.json").read_text())
    assert manifest["run_id"] == "image"
