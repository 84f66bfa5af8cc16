"""conf/deploy/standalone.sh on a real cluster whose workers have nothing but Python."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyspark
import pytest

from helpers.cluster_jobs import TIMEOUT, Lab

pytestmark = [pytest.mark.spark, pytest.mark.cluster]

ROOT = Path(__file__).resolve().parents[2]


def test_the_file_for_standalone_fits_on_the_cluster(
    lab: Lab, cluster: Any, rows: Path, output: Path, tmp_path: Path
) -> None:
    config = tmp_path / "trips.yaml"
    values = {
        "input": {"path": str(rows)},
        "model": {"k": 2, "n_init": 2, "max_iter": 5},
        "output": {"path": str(output), "run_id": "night", "report": False},
    }
    config.write_text(json.dumps(values))  # JSON is YAML
    home = Path(pyspark.__file__).parent
    kept = {k: v for k, v in os.environ.items() if k in ("HOME", "JAVA_HOME", "LANG")}
    done = subprocess.run(
        [str(ROOT / "conf/deploy/standalone.sh"), "--set", "model.seed=3"],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
        cwd=ROOT,
        env={
            **kept,
            "PATH": f"{home}/bin:{os.environ['PATH']}",
            "SPARK_HOME": str(home),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_LOCAL_DIRS": str(tmp_path / "local"),
            "MASTER": cluster.url,
            "CONF": str(config),
            "DRIVER_PYTHON": str(lab.folder / "environment" / "bin" / "python"),
            "EXECUTOR_MEMORY": "600m",
        },
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((output / "night" / "manifest.json").read_text())
    assert manifest["spark"]["master"] == cluster.url
    assert manifest["configuration"]["model"]["seed"] == 3
    metrics = json.loads((output / "night" / "metrics.json").read_text())
    assert metrics["rows_used"] == 600_000


@pytest.mark.usefixtures("cluster")
def test_the_packed_environment_names_its_commit(lab: Lab) -> None:
    """The packages on the cluster are no checkout: the build noted the commit in them."""
    noted = json.loads((lab.folder / "environment/lib/sparkgmm/commit.json").read_text())
    python = lab.folder / "environment" / "bin" / "python"
    code = "from sparkgmm.runs.provenance import source; print(source()['commit'])"
    done = subprocess.run([str(python), "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == noted["commit"]
    assert len(noted["commit"]) == 40
