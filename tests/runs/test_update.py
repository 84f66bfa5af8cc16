"""The fit job with model.update: what it reads, writes and refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from helpers.nightly_updates import ROWS, NightlyUpdates, content, rows_of_statistics
from sparkgmm.errors import ConfigurationError


@pytest.fixture
def nights(spark: SparkSession, tmp_path: Path) -> NightlyUpdates:
    return NightlyUpdates(spark, tmp_path)


def test_the_first_night_is_fitted_in_full_and_the_next_read_their_own_rows_alone(
    nights: NightlyUpdates, capsys: pytest.CaptureFixture[str]
) -> None:
    first = nights.run("mon")
    assert "no run of" in capsys.readouterr().err
    assert content(first, "metrics.json")["updated_from"] is None
    second, third = nights.run("tue"), nights.run("wed")
    assert "goes on from run tue: 1,200 rows" in capsys.readouterr().err
    metrics = content(third, "metrics.json")
    assert metrics["updated_from"] == "tue"
    assert (metrics["rows_used"], metrics["history_rows"], metrics["history_weight"]) == (
        ROWS,
        2 * ROWS,
        2 * ROWS,
    )
    assert rows_of_statistics(third) == ["mon", "tue", "wed"]
    assert content(third, "manifest.json")["updated_from"]["run_id"] == "tue"
    assert content(second, "statistics.json")["rows"] == 2 * ROWS


def test_a_night_done_again_goes_on_from_the_night_before_it_and_not_from_itself(
    nights: NightlyUpdates,
) -> None:
    nights.run("mon")
    before = (nights.run("tue") / "statistics.json").read_bytes()
    again = nights.run("tue", overwrite=True)
    assert (again / "statistics.json").read_bytes() == before
    assert content(again, "metrics.json")["updated_from"] == "mon"


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"model": {"k": 3}}, "k = 2"),
        ({"model": {"covariance_type": "tied"}}, "covariance_type full"),
        ({"input": {"features": ["b", "a"]}}, "name the same in the same order"),
    ],
    ids=["k", "covariance type", "features"],
)
def test_an_update_of_another_kind_of_mixture_is_refused(
    nights: NightlyUpdates, sections: dict[str, Any], told: str
) -> None:
    nights.run("mon")
    with pytest.raises(ConfigurationError, match=r"model\.update") as caught:
        nights.run("tue", **sections)
    assert told in str(caught.value)
    assert not (nights.root / "tue").exists()


def test_an_update_from_nowhere_is_refused(nights: NightlyUpdates) -> None:
    with pytest.raises(ConfigurationError, match="neither a whole run"):
        nights.run("mon", model={"update": str(nights.folder / "absent")})


def test_one_row_is_a_night(nights: NightlyUpdates) -> None:
    nights.run("mon")
    run = nights.run("tue", [nights.write("tue", nights.rows("tue")[:1])])
    assert content(run, "metrics.json")["rows_used"] == 1
