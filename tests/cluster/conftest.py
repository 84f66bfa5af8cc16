"""A real cluster on loopback whose workers have nothing but Python, and jobs submitted to it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.cluster_jobs import ENVIRONMENT, TIMEOUT, Cluster, Lab, Submitted
from helpers.run_folders import decided


@pytest.fixture(scope="session")
def empty_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Python in which nothing is installed."""
    folder = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    missing = subprocess.run(
        [str(folder / "bin" / "python3"), "-c", "import numpy"], capture_output=True, check=False
    )
    assert missing.returncode == 1
    return folder / "bin"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, empty_python: Path) -> Iterator[Any]:
    """A master and three workers that find only the empty Python."""
    if not ENVIRONMENT.exists():
        pytest.fail(f"{ENVIRONMENT} is missing: make dist builds it")
    folder = tmp_path_factory.mktemp("cluster")
    with Cluster(folder, workers=3, cores=1, memory="700m", python=empty_python) as running:
        yield running


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, cluster: Any) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), cluster.url)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six files of 100,000 rows by 6 that overlap, so that EM takes many passes."""
    folder = tmp_path_factory.mktemp("rows.parquet")
    rng = np.random.default_rng(0)
    for i in range(6):
        X = rng.standard_normal((100_000, 6))
        X[::3] += 0.8
        X[1::3] *= 1.3
        table = pa.table({f"x{j}": X[:, j] for j in range(6)})
        pq.write_table(table, folder / f"{i}.parquet")
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture(scope="session")
def undisturbed_run(lab: Lab, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of a fit to which nothing happens, with the environment that it ships."""
    output = tmp_path_factory.mktemp("undisturbed")
    done = lab.fit(rows, output, "night", shipped=True).finish()
    assert done.code == 0, done.err
    return output / "night"


@pytest.fixture(scope="session")
def undisturbed(undisturbed_run: Path) -> Any:
    """What that run found."""
    return decided(undisturbed_run)


@pytest.fixture
def run_before(undisturbed_run: Path) -> Callable[[Path], None]:
    """A function that leaves an output as a fit named `before` would have left it."""

    def copy(output: Path) -> None:
        shutil.copytree(undisturbed_run, output / "before")
        (output / "LATEST").write_text("before\n")

    return copy


@pytest.fixture
def after_passes() -> Callable[[Submitted, Path, int], None]:
    """A function that waits until a fit has kept so many passes, while it still runs."""

    def wait(job: Submitted, run: Path, n_passes: int) -> None:
        end = time.monotonic() + TIMEOUT
        while len(list((run / "state").glob("*.passes"))) < n_passes:
            assert job.process.poll() is None, job.finish()
            assert time.monotonic() < end
            time.sleep(0.02)

    return wait
