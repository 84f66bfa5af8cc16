"""Nights of updates: which run each goes on from, whatever is done again, stopped or deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from helpers.html_pages import Page
from helpers.nightly_updates import ROWS, NightlyUpdates, content, mixture_of, rows_of_statistics
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.spark.cluster_rows import Blocks

pytestmark = pytest.mark.nights


@pytest.fixture
def nights(spark: SparkSession, tmp_path: Path) -> NightlyUpdates:
    return NightlyUpdates(spark, tmp_path)


def test_an_update_ends_where_a_fit_of_all_nights_does(nights: NightlyUpdates) -> None:
    names = ["mon", "tue", "wed", "thu"]
    for name in names:
        last = nights.run(name)
    paths = [nights.write(name) for name in names]
    full = nights.run("full", paths, model={"update": None})
    X = np.concatenate([nights.rows(name) for name in names])
    heights = [mixture_of(run).log_likelihood(X) / len(X) for run in (full, last)]
    assert abs(heights[0] - heights[1]) < 1e-3
    told = content(last, "metrics.json")
    assert told["log_likelihood"] == pytest.approx(
        mixture_of(last).log_likelihood(nights.rows("thu")), rel=1e-9
    )
    assert told["bic"] == pytest.approx(mixture_of(last).bic(nights.rows("thu")), rel=1e-9)
    bound = told["objective"] / len(X)
    assert heights[1] - 1e-3 < bound <= heights[1] + 1e-9


def test_a_decay_lets_old_rows_fade(nights: NightlyUpdates) -> None:
    nights.run("mon")
    for name in ("tue", "wed"):
        run = nights.run(name, model={"decay": 0.5})
    metrics = content(run, "metrics.json")
    assert metrics["history_rows"] == 2 * ROWS
    assert metrics["history_weight"] == pytest.approx(ROWS * (0.25 + 0.5))


def test_a_run_that_was_not_an_update_can_be_updated_from_its_folder_or_its_root(
    nights: NightlyUpdates,
) -> None:
    full = nights.run("full", model={"update": None})
    by_root = nights.run("a")
    by_run = nights.run("b", [nights.write("a")], model={"update": str(full)})
    assert (by_root / "model.json").read_bytes() == (by_run / "model.json").read_bytes()


def test_the_bits_do_not_depend_on_where_the_rows_are(
    nights: NightlyUpdates, driver_bytes: Callable[[int], None]
) -> None:
    full = str(nights.run("mon"))
    near = nights.run("near", [nights.write("tue")], model={"update": full})
    driver_bytes(0)
    far = nights.run("far", [nights.write("tue")], model={"update": full})
    for name in ("model.json", "components/part-00000.snappy.parquet"):
        assert (near / name).read_bytes() == (far / name).read_bytes()


def test_the_first_night_done_again_is_fitted_in_full_again(nights: NightlyUpdates) -> None:
    before = (nights.run("mon") / "model.json").read_bytes()
    again = nights.run("mon", overwrite=True)
    assert (again / "model.json").read_bytes() == before
    assert rows_of_statistics(again) == ["mon"]


def test_a_night_done_again_later_takes_no_rows_of_the_nights_after_it(
    nights: NightlyUpdates,
) -> None:
    for name in ("mon", "tue", "wed"):
        nights.run(name)
    again = nights.run("tue", overwrite=True)
    assert rows_of_statistics(again) == ["mon", "tue"]
    assert rows_of_statistics(nights.run("wed", overwrite=True)) == ["mon", "tue", "wed"]


def test_a_run_that_holds_the_nights_rows_already_is_refused_as_its_base(
    nights: NightlyUpdates,
) -> None:
    for name in ("mon", "tue", "wed"):
        run = nights.run(name)
    with pytest.raises(ConfigurationError, match="'wed', which holds the rows of run 'tue'"):
        nights.run("tue", overwrite=True, model={"update": str(run)})


def test_a_full_fit_is_not_replaced_by_an_update_that_would_forget_its_rows(
    nights: NightlyUpdates,
) -> None:
    nights.run("sun", model={"update": None})
    with pytest.raises(ConfigurationError, match=r"was a full fit .* model\.update: null"):
        nights.run("sun", overwrite=True)
    nights.run("sun", overwrite=True, model={"update": None})


def test_a_base_that_was_deleted_is_told_with_the_remedy(nights: NightlyUpdates) -> None:
    nights.run("mon")
    nights.run("tue")
    shutil.rmtree(nights.root / "mon")
    with pytest.raises(ConfigurationError, match=r"went on from run 'mon', which is gone"):
        nights.run("tue", overwrite=True)
    nights.run("tue", overwrite=True, model={"update": None})


class Stopped(BaseException):
    """What ends a driver in the middle of a fit."""


@pytest.fixture
def stop_at(on_executors: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[int | None], None]:
    """A function that has the driver end before a pass; passes are kept one by one."""
    monkeypatch.setattr("sparkgmm.runs.state._EVERY_SECONDS", 0.0)
    monkeypatch.setattr("sparkgmm.runs.state._SHARE", 1e9)
    scan, limit, made = Blocks.scan, [-1], [0]

    def counted(blocks: Blocks, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        if made[0] == limit[0]:
            raise Stopped
        made[0] += 1
        return scan(blocks, kernels, label)

    def set_limit(number: int | None) -> None:
        made[0], limit[0] = 0, -1 if number is None else number

    monkeypatch.setattr(Blocks, "scan", counted)
    return set_limit


def stopped_after_a_pass(nights: NightlyUpdates, stop_at: Callable[[int | None], None]) -> None:
    """Night tue ends after its first pass; then wed is published on mon and is LATEST."""
    stop_at(1)
    with pytest.raises(Stopped):
        nights.run("tue", model={"tol": 1e-12})
    stop_at(None)
    nights.run("wed")


def test_a_resumed_update_ends_on_the_base_it_was_begun_with_whatever_latest_is(
    nights: NightlyUpdates, stop_at: Callable[[int | None], None], capfd: pytest.CaptureFixture[str]
) -> None:
    mon = nights.run("mon")
    tuesday = [nights.write("tue")]
    model = {"tol": 1e-12, "update": str(mon)}
    undisturbed = nights.run("undisturbed", tuesday, model=model)
    (nights.root / "LATEST").write_text("mon\n")
    stopped_after_a_pass(nights, stop_at)
    resumed = nights.run("tue", model={"tol": 1e-12})
    assert "goes on after pass 1" in capfd.readouterr().err
    assert (resumed / "model.json").read_bytes() == (undisturbed / "model.json").read_bytes()
    assert content(resumed, "metrics.json")["updated_from"] == "mon"


def test_an_update_is_not_resumed_on_a_base_that_was_fitted_anew(
    nights: NightlyUpdates, stop_at: Callable[[int | None], None]
) -> None:
    nights.run("mon")
    stopped_after_a_pass(nights, stop_at)
    nights.run("mon", [nights.write("other")], overwrite=True)
    with pytest.raises(InputError, match=r"statistics of run 'mon', which are others.*--overwrite"):
        nights.run("tue", model={"tol": 1e-12})
    (nights.root / "LATEST").write_text("mon\n")
    run = nights.run("tue", overwrite=True, model={"tol": 1e-12})
    assert rows_of_statistics(run) == ["mon", "tue"]


def test_a_run_without_statistics_is_refused_with_the_remedy(nights: NightlyUpdates) -> None:
    run = nights.run("mon")
    manifest = content(run, "manifest.json")
    manifest["files"] = [f for f in manifest["files"] if f["path"] != "statistics.json"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    (run / "statistics.json").unlink()
    with pytest.raises(ConfigurationError, match=r"no statistics.json: fit all rows once"):
        nights.run("tue")


def test_statistics_that_were_tampered_with_are_refused(nights: NightlyUpdates) -> None:
    run = nights.run("mon")
    text = (run / "statistics.json").read_text()
    (run / "statistics.json").write_text(text.replace('"rows": 600', '"rows": 6000', 1))
    with pytest.raises(InputError, match=r"statistics.json' is not what the run wrote"):
        nights.run("tue")


def test_a_feature_that_stands_still_for_one_night_is_neither_refused_nor_dropped(
    nights: NightlyUpdates,
) -> None:
    nights.run("mon")
    X = nights.rows("tue")
    X[:, 1] = 0.5
    run = nights.run("tue", [nights.write("tue", X)], input={"constant_features": "drop"})
    assert mixture_of(run).features == ("a", "b")


def test_the_plan_names_the_run_that_is_updated(nights: NightlyUpdates) -> None:
    assert "updates  nothing" in nights.plan("mon")
    nights.run("mon")
    assert f"updates  {nights.root}/mon" in nights.plan("tue")


def test_the_report_of_an_update_says_what_it_went_on_from(nights: NightlyUpdates) -> None:
    nights.run("mon")
    run = nights.run("tue", output={"report": True})
    page = Page((run / "report.html").read_text(encoding="utf-8"))
    assert "run mon: 600 rows, weight 600" in page.cells


def test_a_run_of_mllib_can_be_updated(nights: NightlyUpdates) -> None:
    nights.run("mon", model={"engine": "mllib", "n_init": 1, "update": None})
    run = nights.run("tue")
    assert rows_of_statistics(run) == ["mon", "tue"]
