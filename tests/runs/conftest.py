"""Nights of a job, of which the first were run once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from helpers.nightly_fits import STRICT, NightlyFits, read, write, write_rows


def _write_inputs(folder: Path) -> None:
    """Two nights of the same mixture, and one in which the second feature has other units."""
    for seed, night in enumerate(("a", "b", "broken")):
        write_rows(folder / f"{night}.parquet", seed=seed)
    write(folder / "broken.parquet", read(folder / "broken.parquet") * [1, 60])


@pytest.fixture(scope="module")
def two_nights(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> NightlyFits:
    """The nights a and b, run once."""
    nights = NightlyFits(spark, tmp_path_factory.mktemp("nights"))
    _write_inputs(nights.folder)
    nights.run("a")
    nights.run("b", STRICT)
    return nights


@pytest.fixture
def nights(spark: SparkSession, tmp_path: Path, two_nights: NightlyFits) -> NightlyFits:
    """A place of its own in which night a has run."""
    _write_inputs(tmp_path)
    mine = NightlyFits(spark, tmp_path)
    mine.take(two_nights, "a")
    return mine


@pytest.fixture
def after_two(nights: NightlyFits, two_nights: NightlyFits) -> NightlyFits:
    """A place of its own in which the nights a and b have run."""
    nights.take(two_nights, "b")
    return nights
