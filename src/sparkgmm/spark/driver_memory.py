"""What the driver holds of a fit, and how much of it there is room for."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pyspark.sql import SparkSession

from sparkgmm.core.rows import pilot_rows
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import ConfigurationError
from sparkgmm.options import COVARIANCE_TYPE, K

# Blocks of no more than this are scanned on the driver: an empty Spark job costs more.
# spark.sparkgmm.driverBytes sets it.
DRIVER_BYTES = 64 * 2**20
# What one job brings to the driver: where it would be more, the executors add first. A job costs
# some 0.1 s, and a level of the tree as much again; this is brought in about that time.
# spark.sparkgmm.resultBytes sets it.
RESULT_BYTES = 32 * 2**20
# A job brings no more than this share of spark.driver.maxResultSize, where that is less.
_SHARE = 4
# What a driver takes that holds nothing yet, Python with numpy and pyspark and a JVM; and a
# partition: its summary, and what Spark's scheduler keeps of its tasks.
_PYTHON, _HEAP = 160 * 2**20, 300 * 2**20
_PARTITION_PYTHON, _PARTITION_HEAP = 2**10, 20 * 2**10
# So many times the sample and the covariances of a model are there at the peak of a fit, when
# moves propose other models: measured at d of 100 to 1000, k of 3 to 10, and held by the tests.
_OF_SAMPLE, _OF_MATRICES = 6, 200
# And of the covariances without any move: model, sums, whiteners, the step before.
_LEAST_OF_MATRICES = 6
_ANOTHER_TYPE = ("choose diag or spherical as",)
_UNITS = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}


def room_for_results(spark: SparkSession) -> int:
    """Return how many bytes the results of one job may bring to the driver."""
    wanted = spark.conf.get("spark.sparkgmm.resultBytes", None)
    room = RESULT_BYTES if wanted is None else byte_size(wanted)
    limit = byte_size(spark.conf.get("spark.driver.maxResultSize", None) or "1g")
    return min(room, limit // _SHARE) if limit else room


def byte_size(text: str) -> int:
    """Return a size as Spark writes it, such as 50m or 1g, in bytes.

    Raises
    ------
    ValueError
        If it is none.

    """
    found = re.fullmatch(r"\s*(\d+)\s*([kmgtp]?)i?b?\s*", text.lower())
    if found is None:
        raise ValueError(f"{text!r} is not a number of bytes: write it as 512m or 1g")
    return int(found[1]) << _UNITS[found[2]]


@dataclass(frozen=True)
class DriverMemory:
    """What a fit needs of the driver, in bytes: of its Python process and of the JVM's heap."""

    python: int
    heap: int

    @classmethod
    def of(
        cls, n: int, partitions: int, k: int, d: int, covariance_type: str, itemsize: int = 8
    ) -> DriverMemory:
        """Return what a fit of n rows needs at its peak, by the sizes of what is held then.

        Rows of up to 64 MiB are all there; the sample always is, and copies of it; so are the
        models that starts and moves propose, and the results of a job, twice in the JVM.
        """
        family = FAMILIES[covariance_type]
        matrices = (1 if family.shared else k) * (d if family.diagonal else d * d) * 8
        sums = k * family.statistics.n_features(d) * 8
        results = max(sums, min(partitions * sums, RESULT_BYTES))
        rows = n * d * itemsize
        sample = _OF_SAMPLE * min(n, pilot_rows(k)) * d * 8
        return cls(
            _PYTHON
            + (rows if rows <= DRIVER_BYTES else 0)
            + sample
            + _OF_MATRICES * matrices
            + results
            + _PARTITION_PYTHON * partitions,
            _HEAP + 2 * results + _PARTITION_HEAP * partitions,
        )


def check_models_fit(d: int, ks: Iterable[int], covariance_types: Iterable[str]) -> None:
    """Refuse models that the driver's machine has no memory for, before any row is read.

    Raises
    ------
    ConfigurationError
        If its memory does not hold the few copies of the covariances that any fit makes.

    """
    memory = machine_memory()
    largest = max(ks)
    for name in covariance_types:
        family = FAMILIES[name]
        matrices = (1 if family.shared else largest) * (d if family.diagonal else d * d) * 8
        need = _LEAST_OF_MATRICES * matrices
        if need > memory:
            raise ConfigurationError(
                f"k = {largest:,} components of type {name} in {d:,} columns need at least "
                f"{need / 2**30:,.1f} GiB on the driver, and its machine has "
                f"{memory / 2**30:.1f} GiB",
                ("lower", K),
                (*_ANOTHER_TYPE, COVARIANCE_TYPE),
                "take a driver with more memory",
            )


def check_sums_fit(spark: SparkSession, sums: int, d: int, label: str) -> None:
    """Refuse a pass of which one group's sums are already too large for the driver to take.

    Raises
    ------
    ConfigurationError
        If they are above spark.driver.maxResultSize, or twice as large as the JVM's heap takes.

    """
    limit = byte_size(spark.conf.get("spark.driver.maxResultSize", None) or "1g")
    heap = _heap(spark)
    if limit and sums > limit:
        met = f"spark.driver.maxResultSize is {limit / 2**30:.2g} GiB"
    elif heap and 2 * sums > heap:
        met = f"it takes twice that, and the JVM's heap is {heap / 2**30:.2g} GiB"
    else:
        return
    raise ConfigurationError(
        f"the sums of {label} over {d:,} columns are {sums / 2**30:.2g} GiB, too much for the "
        f"driver ({met})",
        "raise spark.driver.memory and spark.driver.maxResultSize",
        ("lower", K),
        (*_ANOTHER_TYPE, COVARIANCE_TYPE),
    )


def machine_memory() -> int:
    """Return the memory that this process may use: the machine's, or its container's."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for place in ("memory.max", "memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            pages = min(pages, int(Path("/sys/fs/cgroup", place).read_text(encoding="ascii")))
    return pages


def _heap(spark: SparkSession) -> int | None:
    jvm = getattr(spark, "_jvm", None)
    return None if jvm is None else int(jvm.java.lang.Runtime.getRuntime().maxMemory())
