"""The examples in the docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest
from pyspark.sql import SparkSession

pytestmark = pytest.mark.spark


@pytest.mark.parametrize("name", ["estimator", "evaluation", "model"])
def test_the_examples_give_what_they_say(spark: SparkSession, name: str) -> None:
    module = importlib.import_module(f"sparkgmm.spark.ml.{name}")
    outcome = doctest.testmod(module, extraglobs={"spark": spark})
    assert outcome.attempted > 0
    assert outcome.failed == 0
