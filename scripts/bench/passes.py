"""Time of one EM pass over the same rows: ours through Spark, MLlib, scikit-learn, Armadillo.

Ours is a whole Spark job, blocks resident on the executors. The peers' is the difference between
runs of more and of one iteration, so that their reading and starting do not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from pyspark.ml.clustering import GaussianMixture
from sklearn.mixture import GaussianMixture as SklearnMixture

from sparkgmm.core.evidence import Scan
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Frame
from sparkgmm.mixture import Mixture
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.mllib import assemble
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import find_features, read

sys.path.insert(0, str(Path(__file__).parent))
from machine import keep

from data import Recipe

# so many rows that a pass of ours takes seconds: what a Spark job costs by itself fades
SHAPES = {
    (2, 3): 24_000_000,
    (10, 5): 12_000_000,
    (10, 20): 8_000_000,
    (20, 10): 4_800_000,
    (50, 10): 1_600_000,
    (50, 50): 480_000,
    (100, 10): 600_000,
    (200, 10): 200_000,
}
PASSES = 7
WARM_SECONDS = 12
# The peers, whose time a row does not depend on the number of rows, get two of the eight files.
PEER_FILES = 2


def recipe(d: int, k: int, n: int) -> Recipe:
    """Overlapping components, scaled so that densities stay above MLlib's floor."""
    return Recipe("pass", n, d, k, apart=0.5, scale=0.1)


def start(d: int, k: int) -> Mixture:
    """Return a mixture that overlaps the data, to measure a pass at."""
    rng = np.random.default_rng(2)
    return Mixture(
        np.full(k, 1 / k), rng.standard_normal((k, d)) * 0.05, np.tile(np.eye(d) * 0.012, (k, 1, 1))
    )


def ours(spark: Any, folder: Path, k: int, warm: float) -> list[float]:
    """Return the seconds of some passes, after `warm` seconds of others: the JVM compiles."""
    df = read(spark, str(folder))
    features = find_features(df, None, None)
    with Blocks(df, features, str(folder)) as blocks:
        frame = Frame.of(blocks.profile)
        scan = Scan.of([from_mixture(start(len(features.names), k), frame)], frame)
        times = []
        until = time.perf_counter() + warm
        while time.perf_counter() < until:
            blocks.scan(scan.kernels, "warming up")
        for _ in range(PASSES):
            begun = time.perf_counter()
            blocks.scan(scan.kernels, "benchmark pass")
            times.append(time.perf_counter() - begun)
    return times


def mllib(spark: Any, files: list[str], k: int) -> float:
    """Return the seconds of an iteration."""
    df = read(spark, files)
    vectors = assemble(df, find_features(df, None, None)).cache()
    vectors.count()
    times = []
    for iterations in (1, 1, 5):  # the first has the JVM compile
        begun = time.perf_counter()
        GaussianMixture(k=k, maxIter=iterations, tol=0.0, seed=1).fit(vectors)
        times.append(time.perf_counter() - begun)
    vectors.unpersist(blocking=True)
    return (times[2] - times[1]) / 4


def require_native_blas(spark: Any) -> None:
    """Fail where MLlib would fall back to Java without a word."""
    spark._jvm.dev.ludovic.netlib.blas.NativeBLAS.getInstance()


def sklearn(X: np.ndarray[Any, Any], k: int) -> float:
    """Return the seconds of an iteration, from given parameters."""
    at = start(X.shape[1], k)
    times = []
    for iterations in (1, 1, 4):  # the first touches the memory
        model = SklearnMixture(
            k,
            max_iter=iterations,
            tol=0.0,
            weights_init=at.weights,
            means_init=at.means,
            precisions_init=np.linalg.inv(at.covariances),
        )
        begun = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it did not converge
            model.fit(X)
        times.append(time.perf_counter() - begun)
    return (times[2] - times[1]) / 3


def armadillo(X: np.ndarray[Any, Any], k: int, program: str | None) -> float | None:
    """Return the seconds of an iteration, or None where Armadillo is not installed."""
    if program is None:
        return None
    with tempfile.NamedTemporaryFile() as file:
        X.tofile(file.name)
        command = [program, file.name, str(X.shape[1]), str(len(X)), str(k), "1", "5"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line.split() for line in done.stdout.splitlines() if line[:1].isdigit()]
    if len(lines) < 2:
        return None
    return (float(lines[1][1]) - float(lines[0][1])) / 4


def main(master: str, root: str, peers: str, program: str, out: str) -> None:
    """Measure all shapes under one master that `out` does not have yet.

    `peers` is yes, no, or mllib, which measures nothing but MLlib on a native BLAS.
    """
    results: list[dict[str, Any]] = json.loads(Path(out).read_text()) if Path(out).exists() else []
    done = {(row["d"], row["k"]) for row in results}
    for (d, k), n in SHAPES.items():
        if (d, k) in done:
            continue
        folder = recipe(d, k, n).write(Path(root))
        spark = start_session("benchmark")
        row: dict[str, Any] = {"d": d, "k": k, "n": n, "master": master}
        files = sorted(map(str, folder.glob("*.parquet")))[:PEER_FILES]
        if peers == "mllib":
            require_native_blas(spark)
        else:
            row["ours"] = ours(spark, folder, k, WARM_SECONDS if peers == "yes" else 4)
        if peers == "yes":
            X = np.column_stack([c.to_numpy() for c in pq.read_table(files).columns])
            row["peer_n"] = len(X)
            row["armadillo"] = armadillo(X, k, program or None)
            row["sklearn"] = sklearn(X, k)
            del X
        if peers != "no":
            row["mllib"] = mllib(spark, files, k)
        keep(results, row, out)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
