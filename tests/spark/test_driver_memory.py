"""What the driver holds, and how much of it there is room for."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from pyspark.sql import SparkSession

from sparkgmm import fit_array
from sparkgmm.errors import ConfigurationError
from sparkgmm.spark.driver_memory import (
    RESULT_BYTES,
    DriverMemory,
    byte_size,
    check_models_fit,
    check_sums_fit,
    machine_memory,
    room_for_results,
)

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("4m", 2**22), ("1g", 2**30), ("512k", 2**19), ("2GB", 2**31), ("7", 7), (" 3b", 3)],
)
def test_sizes_are_read_as_spark_reads_them(spark: SparkSession, text: str, expected: int) -> None:
    assert byte_size(text) == expected
    assert spark._jvm is not None
    utils = spark._jvm.org.apache.spark.network.util.JavaUtils
    assert utils.byteStringAsBytes(text) == expected


def test_what_is_no_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'1\.5g' is not a number of bytes"):
        byte_size("1.5g")


@pytest.mark.long
@pytest.mark.parametrize(
    ("n", "d", "k", "covariance_type"),
    [(3000, 100, 5, "full"), (3000, 100, 5, "tied"), (2000, 1000, 5, "diag")],
)
def test_what_a_fit_takes_is_what_the_table_says(
    n: int, d: int, k: int, covariance_type: str
) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d)) + 2 * rng.normal(size=(k, d))[rng.integers(0, k, n)]
    tracemalloc.start()
    how = {"init": "k-means++", "n_init": 2, "max_iter": 3}
    fit_array(X, k, covariance_type=covariance_type, **how)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    nothing = DriverMemory.of(1, 1, 1, 1, covariance_type).python
    said = DriverMemory.of(n, 1, k, d, covariance_type).python - nothing
    assert said / 3 < peak < 1.2 * said


def test_ten_times_the_partitions_take_kilobytes_each_and_no_sums() -> None:
    few, many = (DriverMemory.of(10**9, p, 10, 100, "full") for p in (1_000, 10_000))
    assert many.python - few.python == 9_000 * 2**10
    assert many.heap - few.heap == 9_000 * 20 * 2**10


def test_a_model_that_no_machine_holds_is_refused_by_its_sizes() -> None:
    memory = machine_memory()
    d = 20_000
    k = memory // (d * d * 8)
    with pytest.raises(ConfigurationError, match=rf"k = {k:,} components of type full in 20,000"):
        check_models_fit(d, (2, k), ("full",))
    check_models_fit(d, (2, k), ("diag", "tied"))


def test_sums_that_the_driver_cannot_take_are_refused_by_their_size(spark: SparkSession) -> None:
    assert spark._jvm is not None
    heap = spark._jvm.java.lang.Runtime.getRuntime().maxMemory()
    check_sums_fit(spark, heap // 8, 100, "EM pass 1")
    with pytest.raises(ConfigurationError, match=r"the sums of EM pass 1 over 100 columns are"):
        check_sums_fit(spark, 2**50, 100, "EM pass 1")


@pytest.mark.parametrize(
    ("limit", "expected"), [("4m", 2**20), ("0", RESULT_BYTES), ("1g", RESULT_BYTES)]
)
def test_a_job_brings_a_quarter_of_max_result_size_at_most(limit: str, expected: int) -> None:
    class Session:
        conf = {"spark.driver.maxResultSize": limit}  # noqa: RUF012

    assert room_for_results(Session()) == expected  # type: ignore[arg-type]
