"""What the driver holds of a fit, and how much of it there is room for."""

from __future__ import annotations

import re

from pyspark.sql import SparkSession

# What one job brings to the driver: where it would be more, the executors add first. A job costs
# some 0.1 s, and a level of the tree as much again; this is brought in about that time.
# spark.sparkgmm.resultBytes sets it.
RESULT_BYTES = 32 * 2**20
# A job brings no more than this share of spark.driver.maxResultSize, where that is less.
_SHARE = 4
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
