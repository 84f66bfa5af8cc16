"""One fixture in three kinds of session: local, a cluster of processes, Spark Connect."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sparkgmm import fit_array

pytestmark = [pytest.mark.spark, pytest.mark.long]

APP = Path(__file__).with_name("modes_app.py")
N_FILES, ROWS = 3, 4000


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 2.0], [0.0, 5.0, -2.0]])
    labels = rng.integers(0, 3, N_FILES * ROWS)
    X = centres[labels] + rng.standard_normal((len(labels), 3))
    return X, rng.uniform(0.5, 2.0, len(labels))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modes") / "data"
    folder.mkdir()
    X, w = rows()
    for i in range(N_FILES):
        part = slice(i * ROWS, (i + 1) * ROWS)
        table = pa.table({"id": np.arange(len(X))[part], "values": X[part].tolist(), "w": w[part]})
        pq.write_table(table, folder / f"part-{i}.parquet")
    return folder


@pytest.fixture(scope="module")
def results(data: Path) -> dict[str, dict[str, Any]]:
    found = {}
    for mode in ("local", "local-cluster", "connect"):
        environment = os.environ | {
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
        }
        environment.pop("SPARK_HOME", None)
        environment.pop("PYSPARK_GATEWAY_PORT", None)
        environment.pop("PYSPARK_SUBMIT_ARGS", None)
        command = [sys.executable, str(APP), mode, str(data), str(data.parent / mode)]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=300, check=False
        )
        assert done.returncode == 0, f"{mode}: {done.stderr[-3000:]}"
        found[mode] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_a_cluster_and_connect_give_the_bits_of_one_machine(
    results: dict[str, dict[str, Any]],
) -> None:
    assert results["local-cluster"] == results["local"]
    assert results["connect"] == results["local"]


def test_passes_on_connect_read_the_blocks_that_were_kept(
    results: dict[str, dict[str, Any]],
) -> None:
    assert results["connect"]["kept"]


def test_the_three_sessions_give_what_fit_array_gives(results: dict[str, dict[str, Any]]) -> None:
    X, w = rows()
    alone = fit_array(X, 3, sample_weight=w)
    weights = [float.fromhex(text) for text in results["connect"]["weights"]]
    np.testing.assert_allclose(weights, alone.mixture.weights, atol=1e-5)
    heights = [float.fromhex(text) for text in results["connect"]["height"]]
    np.testing.assert_allclose(heights, alone.mixture.log_density(X), atol=1e-3)


def test_a_pipeline_and_a_loaded_model_predict_alike(results: dict[str, dict[str, Any]]) -> None:
    for found in results.values():
        assert found["pipeline"] == found["prediction"]


def test_arrays_straight_from_files_are_scored_as_vectors_are(
    results: dict[str, dict[str, Any]],
) -> None:
    for found in results.values():
        assert found["height of arrays"] == found["height"]
        assert sum(found["sizes of arrays"]) == N_FILES * ROWS
