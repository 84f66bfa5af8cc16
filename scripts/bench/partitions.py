"""The driver's peak memory by the number of partitions: nothing may grow but the rows' counts.

    python scripts/bench/partitions.py [100 10000]

A process each: rows are read, the sample is drawn and a pass is made for a model of 8 components
in 10 columns, at spark.driver.maxResultSize=16m. In local mode the JVM runs the tasks as well.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROWS = 20  # a partition
D, K = 10, 8


def main(partitions: int) -> None:
    """Run all jobs of a pass over so many partitions and print the peaks."""
    confs = {
        "spark.driver.memory": "1g",
        "spark.driver.maxResultSize": "16m",
        "spark.ui.enabled": "false",
        "spark.sparkgmm.driverBytes": "0",
    }
    options = " ".join(f"--conf {key}={value}" for key, value in confs.items())
    os.environ["PYSPARK_SUBMIT_ARGS"] = f"--master local[*] {options} pyspark-shell"
    from sparkgmm.core.evidence import Scan
    from sparkgmm.core.model import from_mixture
    from sparkgmm.core.profile import Frame
    from sparkgmm.mixture import Mixture
    from sparkgmm.spark.cluster_rows import Blocks
    from sparkgmm.spark.session import start_session
    from sparkgmm.spark.source import find_features

    spark = start_session("partitions")
    columns = [f"sin(id * {i + 1}) as x{i}" for i in range(D)]
    df = spark.range(0, ROWS * partitions, 1, partitions).selectExpr(*columns)
    start = time.monotonic()
    with Blocks(df, find_features(df, None, None)) as blocks:
        rows = blocks.rows(seed=0)
        frame = Frame.of(rows.profile)
        means = np.random.default_rng(0).normal(size=(K, D)) / 2
        mixture = Mixture([1 / K] * K, means, np.tile(np.eye(D) / 2, (K, 1, 1)))
        kernels = Scan.of([from_mixture(mixture, frame)], frame).kernels
        [sums] = rows.scan(kernels, "a pass")
        counted = round(float(sums.moments[:, 0].sum()))
        assert counted == ROWS * partitions, counted
        seconds = time.monotonic() - start
        jvm = spark.sparkContext._jvm
        assert jvm is not None
        pid = jvm.java.lang.ProcessHandle.current().pid()
        [peak] = [
            int(line.split()[1]) // 1024
            for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
            if line.startswith("VmHWM")
        ]
        for _ in range(2):
            jvm.java.lang.System.gc()
        runtime = jvm.java.lang.Runtime.getRuntime()
        used = (runtime.totalMemory() - runtime.freeMemory()) // 2**20
        python = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(
            f"| {partitions:,} | {python} MiB | {used} MiB | {peak} MiB | {seconds:.0f} s |",
            flush=True,
        )
    spark.stop()


if __name__ == "__main__":
    asked = [int(text) for text in sys.argv[1:]] or [100, 10_000]
    if len(asked) == 1:
        main(asked[0])
    else:
        print("| partitions | Python, peak | heap in use at the end | JVM, peak | time |")
        print("|---|---|---|---|---|", flush=True)
        for partitions in asked:
            subprocess.run([sys.executable, __file__, str(partitions)], check=True)
