"""What the driver holds, and how much of it there is room for."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from sparkgmm.spark.driver_memory import RESULT_BYTES, byte_size, room_for_results

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


@pytest.mark.parametrize(
    ("limit", "expected"), [("4m", 2**20), ("0", RESULT_BYTES), ("1g", RESULT_BYTES)]
)
def test_a_job_brings_a_quarter_of_max_result_size_at_most(limit: str, expected: int) -> None:
    class Session:
        conf = {"spark.driver.maxResultSize": limit}  # noqa: RUF012

    assert room_for_results(Session()) == expected  # type: ignore[arg-type]
