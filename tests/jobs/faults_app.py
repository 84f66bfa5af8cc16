"""Run passes through spark-submit while something dies; print a digest of the sums after each.

usage: faults_app.py PARQUET FAULT, where FAULT is none, executor, task or adding
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from sparkgmm.core.evidence import Scan
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Block, Frame
from sparkgmm.core.statistics import Sums, add_partitions
from sparkgmm.mixture import Mixture
from sparkgmm.spark import cluster_rows
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.session import start_session
from sparkgmm.spark.source import find_features, read


@dataclass(frozen=True)
class DiesOnce:
    """A kernel that kills its worker the first time that a task reaches it."""

    kernel: Any

    def __call__(self, block: Block) -> list[Sums]:
        from pyspark import TaskContext

        context = TaskContext.get()
        if context is not None and context.attemptNumber() == 0 and context.partitionId() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return list(self.kernel(block))

    def arrays(self) -> tuple[Any, ...]:
        return tuple(self.kernel.arrays())


@dataclass(frozen=True)
class LosesItsExecutor:
    """What adds partitions up, but first kills the executor, with all that it has shuffled."""

    once: Path

    def __call__(self, parts: Sequence[Sequence[Sums]]) -> list[Sums]:
        from pyspark import TaskContext

        if TaskContext.get() is not None:
            try:
                self.once.touch(exist_ok=False)
            except FileExistsError:
                pass
            else:
                os.kill(executor_of_this_worker(), signal.SIGKILL)
        return add_partitions(parts)


def executor_of_this_worker() -> int:
    with open(f"/proc/{os.getppid()}/stat") as file:  # noqa: PTH123
        return int(file.read().rpartition(")")[2].split()[1])


def digest(sums: list[Sums]) -> str:
    """Return a hash of every bit of the sums."""
    content = b"".join(s.moments.tobytes() + np.float64(s.log_likelihood).tobytes() for s in sums)
    return hashlib.sha256(content).hexdigest()


def kill_an_executor(spark: Any) -> None:
    """Kill the JVM of the executor that runs partition 0, and everything in it, at once."""

    executor = (
        spark.sparkContext.parallelize([0], 1).map(lambda _: executor_of_this_worker()).collect()[0]
    )
    assert executor not in (os.getpid(), os.getppid())
    os.kill(executor, signal.SIGKILL)


def main(path: str, fault: str) -> None:
    spark = start_session("faults")
    df = read(spark, path)
    features = find_features(df, None, None)
    d = len(features.names)
    model = Mixture([0.4, 0.6], [[-1.0] * d, [1.0] * d], np.tile(np.eye(d), (2, 1, 1)))
    with Blocks(df, features, path) as blocks:
        frame = Frame.of(blocks.profile)
        scan = Scan.of([from_mixture(model, frame)], frame)
        kernels: list[Any] = list(scan.kernels)
        print("digest", digest(blocks.scan(kernels, "first pass")))
        if fault == "executor":
            kill_an_executor(spark)
        if fault == "task":
            kernels = [DiesOnce(kernel) for kernel in kernels]
        if fault == "adding":
            flag = Path(mkdtemp()) / "killed"
            seams: Any = cluster_rows
            seams.add_partitions = LosesItsExecutor(flag)
        print("digest", digest(blocks.scan(kernels, "second pass")))
        if fault == "adding":
            assert flag.exists()
        print("digest", digest(blocks.scan(scan.kernels, "third pass")))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
