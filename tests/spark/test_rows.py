"""Blocks across partitions: every row accounted for, and the same bits wherever passes run."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import Vectors
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from sparkgmm.core.em import Settings
from sparkgmm.core.fit import fit
from sparkgmm.core.rows import PILOT_ROWS, LocalRows
from sparkgmm.core.search import Search
from sparkgmm.errors import InputError
from sparkgmm.spark.cluster_rows import Blocks, ClusterRows
from sparkgmm.spark.partitions import described
from sparkgmm.spark.source import find_features

pytestmark = pytest.mark.spark

MANY = PILOT_ROWS + 5000
SEARCH = Search(k=(2, 3), init="k-means++", n_init=2, settings=Settings(max_iter=15))


def two_groups(spark: SparkSession, n: int, partitions: int) -> DataFrame:
    """Rows around two centres, the same in every session."""
    noise = [F.sin(F.col("id") * c) + F.sin(F.col("id") * F.col("id") * c) for c in (1.1, 2.3)]
    side = (F.col("id") % 3 == 0).cast("double")
    return spark.range(0, n, 1, partitions).select(
        (side * 8 + noise[0]).alias("x"),
        (side * -5 + noise[1] + noise[0] * 0.3).alias("y"),
        (F.col("id") % 4 + 0.5).alias("w"),
        "id",
    )


def block_files(spark: SparkSession) -> list[Path]:
    return list(Path(spark.sparkContext.getConf().get("spark.local.dir")).rglob("*.blocks"))


def opened(df: DataFrame, features: Any = ("x", "y"), weight: str | None = None) -> Blocks:
    return Blocks(df, find_features(df, features, weight), "some/path")


def test_all_rows_are_read_used_or_invalid_over_all_partitions(spark: SparkSession) -> None:
    nan, inf = float("nan"), float("inf")
    rows = [(1.0, 2.0, 1.0), (None, 2.0, 1.0), (nan, 2.0, 1.0), (1.0, inf, 1.0)]
    rows += [(1.0, 2.0, -1.0), (1.0, 3.0, 0.0), (None, nan, None), (3.0, 1.0, 2.0)]
    df = spark.createDataFrame(rows, "x double, y double, w double").repartition(3)
    with opened(df, weight="w") as blocks:
        found = blocks.read
        assert (found.counts.read, found.counts.invalid, found.used) == (8, 5, 3)
        assert found.counts.negative == 1
        np.testing.assert_array_equal(found.counts.null, [2, 0, 1])
        np.testing.assert_array_equal(found.counts.nan, [1, 1, 0])
        np.testing.assert_array_equal(found.counts.infinite, [0, 1, 0])
        assert blocks.profile.n_rows == 2  # one valid row has no weight
        assert blocks.profile.weight == 3.0


def test_ragged_vectors_are_counted_over_all_partitions(spark: SparkSession) -> None:
    vectors = [Vectors.dense(1, 2), Vectors.dense(3, 4), Vectors.dense(1, 2, 3), None]
    df = spark.createDataFrame([(v,) for v in vectors], ["v"]).coalesce(1)
    with opened(df, "v") as blocks:
        assert (blocks.read.counts.read, blocks.read.counts.ragged, blocks.read.used) == (4, 1, 2)
        np.testing.assert_array_equal(blocks.read.counts.null, [1, 1])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the input has no rows"),
        ([(float("nan"), 1.0), (None, 1.0)], "all 2 rows are invalid"),
        ([(1.0, 0.0), (2.0, 0.0)], "none of the 2 valid rows has a weight above 0"),
    ],
    ids=["empty", "invalid", "weightless"],
)
def test_data_with_nothing_left_say_why(
    spark: SparkSession, rows: list[tuple[float, float]], message: str
) -> None:
    df = spark.createDataFrame(rows, "x double, w double")
    with opened(df, ("x",), "w") as blocks, pytest.raises(InputError, match=message):
        _ = blocks.profile


def test_the_profile_is_that_of_all_the_rows(spark: SparkSession) -> None:
    df = two_groups(spark, 3000, 4)
    X = np.array(df.select("x", "y").collect())
    w = np.array(df.select("w").collect())[:, 0]
    with opened(df, weight="w") as blocks:
        profile = blocks.profile
    np.testing.assert_allclose(profile.mean, np.average(X, axis=0, weights=w), rtol=1e-12)
    centred = X - np.average(X, axis=0, weights=w)
    np.testing.assert_allclose(profile.scatter, (centred.T * w) @ centred, rtol=1e-10)
    np.testing.assert_array_equal(profile.high, X.max(axis=0))


@pytest.mark.parametrize(
    "make",
    [
        lambda spark: (two_groups(spark, 900, 3), None),
        lambda spark: (two_groups(spark, MANY, 3), None),
        lambda spark: (two_groups(spark, MANY, 3), "w"),
        lambda spark: (two_groups(spark, MANY, 4).where("id < 20000 or id > 34000"), None),
        lambda spark: (two_groups(spark, MANY, 3).selectExpr("float(x) x", "float(y) y"), None),
    ],
    ids=["small", "sampled", "weighted", "an empty partition", "float"],
)
def test_driver_and_executors_give_the_same_bits(
    spark: SparkSession,
    driver_bytes: Callable[[int], None],
    make: Callable[[SparkSession], tuple[DataFrame, str | None]],
) -> None:
    df, weight = make(spark)
    with opened(df, weight=weight) as blocks:
        here = blocks.rows(seed=0)
        driver_bytes(0)
        there = blocks.rows(seed=0)
        assert isinstance(here, LocalRows)
        assert isinstance(there, ClusterRows)
        assert sum(block.n_rows for block in there.sample) == min(PILOT_ROWS, here.profile.n_rows)
        # the whole search runs on the driver, over the few rows as over the many
        search = replace(SEARCH, init="auto") if here.profile.n_rows == 900 else SEARCH
        a, b = fit(here, search).chosen, fit(there, search).chosen
    assert a.mixture == b.mixture
    assert a.log_likelihoods == b.log_likelihoods


@pytest.mark.long
@pytest.mark.parametrize("n", [300, MANY], ids=["in rows", "in files"])
def test_sums_added_on_the_executors_have_the_bits_of_those_added_on_the_driver(
    spark: SparkSession,
    driver_bytes: Callable[[int], None],
    request: pytest.FixtureRequest,
    n: int,
) -> None:
    request.addfinalizer(lambda: spark.conf.unset("spark.sparkgmm.resultBytes"))
    found = []
    # by a room of one byte nothing but the rows' counts is brought to the driver
    for limit, room in ((0, "32m"), (0, "1"), (2**26, "32m")):
        driver_bytes(limit)
        spark.conf.set("spark.sparkgmm.resultBytes", room)
        with opened(two_groups(spark, n, 40), weight="w") as blocks:
            rows = blocks.rows(seed=0)
            found.append((rows.profile.pack().tobytes(), one_pass(rows)))
    assert isinstance(rows, LocalRows)
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("on_executors")
def test_a_lost_file_is_made_again_where_the_executors_add(
    spark: SparkSession, request: pytest.FixtureRequest
) -> None:
    spark.conf.set("spark.sparkgmm.resultBytes", "1")
    request.addfinalizer(lambda: spark.conf.unset("spark.sparkgmm.resultBytes"))
    with opened(two_groups(spark, MANY, 3)) as blocks:
        rows = blocks.rows(seed=0)
        before = one_pass(rows)
        block_files(spark)[1].unlink()
        assert one_pass(rows) == before


@pytest.mark.parametrize("limit", [2**26, 0], ids=["on the driver", "on the executors"])
def test_rows_that_the_driver_reads_are_those_that_a_job_would_fetch(
    spark: SparkSession,
    driver_bytes: Callable[[int], None],
    request: pytest.FixtureRequest,
    limit: int,
) -> None:
    driver_bytes(limit)
    with opened(two_groups(spark, MANY, 3), weight="w") as blocks:
        read = blocks.rows(seed=0)
        request.getfixturevalue("far_from_the_driver")
        fetched = blocks.rows(seed=0)
        for one, other in zip(read.sample, fetched.sample, strict=True):
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.weights, other.weights)
        assert fit(read, SEARCH).chosen.mixture == fit(fetched, SEARCH).chosen.mixture


def test_the_configuration_of_spark_decides_where_passes_run(
    spark: SparkSession, request: pytest.FixtureRequest
) -> None:
    spark.conf.set("spark.sparkgmm.driverBytes", "0")
    request.addfinalizer(lambda: spark.conf.unset("spark.sparkgmm.driverBytes"))
    with opened(two_groups(spark, 100, 2)) as blocks:
        assert isinstance(blocks.rows(seed=0), ClusterRows)


def one_pass(rows: LocalRows | ClusterRows) -> Any:
    """Return the chosen fit after one pass: what a scan measured, bits and all."""
    search = Search(init="k-means++", n_init=1, settings=Settings(max_iter=1))
    return fit(rows, search).chosen.mixture


@pytest.mark.usefixtures("on_executors")
def test_blocks_whose_files_are_lost_are_made_again_with_the_same_bits(
    spark: SparkSession,
) -> None:
    with opened(two_groups(spark, MANY, 3)) as blocks:
        rows = blocks.rows(seed=0)
        before = one_pass(rows)
        files = block_files(spark)
        assert len(files) == 3
        files[1].unlink()
        assert one_pass(rows) == before


@pytest.mark.usefixtures("on_executors")
def test_a_source_that_changed_meanwhile_is_told_and_not_mixed(spark: SparkSession) -> None:
    # randomness that Spark does not seed stands for a table written to during the fit
    changing = F.udf(lambda _: random.random(), "double").asNondeterministic()
    df = spark.range(0, 20000, 1, 1).select(changing("id").alias("x"), changing("id").alias("y"))
    with opened(df) as blocks:
        rows = blocks.rows(seed=0)
        for file in block_files(spark):
            file.unlink()
        with pytest.raises(InputError, match="changed while it was being fitted"):
            one_pass(rows)


@pytest.mark.usefixtures("on_executors")
def test_files_that_keep_vanishing_end_the_job_instead_of_looping(
    spark: SparkSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Blocks._make

    def make_and_lose(self: Blocks) -> Any:
        summaries = make(self)
        for file in block_files(spark):
            file.unlink()
        return summaries

    monkeypatch.setattr(Blocks, "_make", make_and_lose)
    with (
        opened(two_groups(spark, 20000, 1)) as blocks,
        pytest.raises(RuntimeError, match="blocks were lost 3 times"),
    ):
        blocks.rows(seed=0)


@pytest.mark.parametrize("reached", [True, False])
def test_no_block_file_outlives_its_context(
    spark: SparkSession, request: pytest.FixtureRequest, reached: bool
) -> None:
    if not reached:
        request.getfixturevalue("far_from_the_driver")
    with opened(two_groups(spark, MANY, 3)):
        assert len(block_files(spark)) == 3
    assert block_files(spark) == []


def test_no_sums_that_the_executors_added_stay_on_their_disks(
    spark: SparkSession,
    driver_bytes: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """Those of many passes over many partitions take longer to delete than a JVM gets to end."""
    local = Path(spark.sparkContext.getConf().get("spark.local.dir"))

    def shuffled() -> set[Path]:
        return set(local.rglob("shuffle_*"))

    driver_bytes(0)
    spark.conf.set("spark.sparkgmm.resultBytes", "1")
    request.addfinalizer(lambda: spark.conf.unset("spark.sparkgmm.resultBytes"))
    before = shuffled()
    with opened(two_groups(spark, 300, 40)) as blocks:
        assert blocks.profile.n_rows == 300
        with monkeypatch.context() as patch:
            # by a room of one byte the sample is fetched by a job a partition, which adds nothing
            patch.setattr(blocks, "_room", 2**25)
            rows = blocks.rows(seed=0)
        one_pass(rows)
        end = time.monotonic() + 60
        while shuffled() - before and time.monotonic() < end:  # Spark deletes them meanwhile
            time.sleep(0.1)
        assert shuffled() - before == set()


def test_nothing_stays_cached_after_the_context(spark: SparkSession) -> None:
    before = spark.sparkContext._jsc.getPersistentRDDs().size()
    with opened(two_groups(spark, 100, 1)):
        assert spark.sparkContext._jsc.getPersistentRDDs().size() == before + 1
    assert spark.sparkContext._jsc.getPersistentRDDs().size() == before


def descriptions(spark: SparkSession, wanted: str) -> list[str]:
    """Return what the Spark UI calls the jobs, once a wanted one is among them."""
    context = spark.sparkContext
    port = context.uiWebUrl.rpartition(":")[2]
    url = f"http://127.0.0.1:{port}/api/v1/applications/{context.applicationId}/jobs"
    found: list[str] = []
    for _ in range(600):
        with urllib.request.urlopen(url) as answer:
            found = [job.get("description", "") for job in json.load(answer)]
        if any(wanted in text for text in found):
            break
        time.sleep(0.1)  # the UI learns of jobs a moment later
    return found


@pytest.mark.usefixtures("on_executors", "far_from_the_driver")
def test_the_spark_ui_tells_which_pass_a_job_is(spark: SparkSession) -> None:
    with opened(two_groups(spark, 2000, 2)) as blocks:
        fit(blocks.rows(seed=0), Search(n_init=2))
    found = descriptions(spark, "EM pass 2")
    assert "reading the rows" in found
    assert "drawing the pilot sample" in found
    assert "EM pass 1, 2 candidates" in found
    assert any(text.startswith("EM pass 2, ") for text in found)


def test_the_description_of_the_callers_jobs_comes_back(spark: SparkSession) -> None:
    context, key = spark.sparkContext, "spark.job.description"
    with described(spark, "outer"):
        with described(spark, "inner"):
            assert context.getLocalProperty(key) == "inner"
        assert context.getLocalProperty(key) == "outer"
    assert context.getLocalProperty(key) is None
