"""Drift from run to run: what is measured and written, what fails, and where LATEST points."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession

from helpers.html_pages import Page, check_it_loads_nothing
from helpers.nightly_fits import STRICT, NightlyFits, read, write_rows
from sparkgmm.core.quantiles import threshold
from sparkgmm.errors import ConfigurationError, DriftError, InputError
from sparkgmm.runs import cli
from sparkgmm.runs.config import ScoreConfig
from sparkgmm.runs.drift_check import Judged, _past_runs
from sparkgmm.runs.score_job import run_score
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.storage import Folder

# --- what is measured and written


def test_the_first_night_compares_with_nothing_and_begins_the_labels(
    nights: NightlyFits, capsys: pytest.CaptureFixture[str]
) -> None:
    (nights.root / "LATEST").unlink()
    # nothing is there that could cross a threshold
    drift = nights.run("b", {"fail": {"divergence": 0, "vanished": 0}})
    assert (drift["verdict"], drift["against"], drift["measures"]) == ("first", None, None)
    assert (drift["labels"], drift["next_label"]) == ([0, 1, 2], 3)
    assert capsys.readouterr().err.count("nothing to compare with") == 1
    assert nights.latest == "b"


def test_a_night_is_measured_by_its_rows_and_the_mixture_before(two_nights: NightlyFits) -> None:
    drift = two_nights.json("b", "drift.json")
    old, model = two_nights.mixture("a"), two_nights.json("a", "model.json")
    density = old.log_density(read(two_nights.folder / "b.parquet"))
    measures = drift["measures"]
    assert drift["mean_log_density"] == pytest.approx(density.mean(), rel=1e-9)
    height = two_nights.json("a", "metrics.json")["mean_log_likelihood"]
    assert measures["log_density_fall"] == pytest.approx(height - density.mean(), abs=1e-9)
    edge = threshold(model["log_density_quantiles"], 0.001)
    assert measures["outlier_share"] == pytest.approx((density < edge).mean())
    assert 0 < measures["divergence"] < 5 * drift["divergence_by_chance"]
    assert (measures["appeared"], measures["vanished"]) == (0, 0)
    assert (drift["verdict"], drift["previous"]) == ("steady", "a")
    new = two_nights.mixture("b")
    for entry in drift["components"]:
        i, j = entry["component_before"], entry["component"]
        assert entry["weight_change"] == pytest.approx(new.weights[j] - old.weights[i])
        assert np.abs(old.means[i] - new.means[j]).max() < 1  # the same one, not its neighbour


def test_drift_json_is_listed_with_its_checksum_and_the_model_has_the_labels(
    two_nights: NightlyFits,
) -> None:
    listed = {f["path"]: f["sha256"] for f in two_nights.json("b", "manifest.json")["files"]}
    content = (two_nights.root / "b" / "drift.json").read_bytes()
    assert listed["drift.json"] == hashlib.sha256(content).hexdigest()
    model = two_nights.json("b", "model.json")
    assert (sorted(model["labels"]), model["next_label"]) == ([0, 1, 2], 3)
    assert model["labels"] == two_nights.json("b", "drift.json")["labels"]


def test_a_chain_goes_on_from_a_run_without_a_drift_section(nights: NightlyFits) -> None:
    nights.fit({**nights.values("b"), "drift": None})
    assert not (nights.root / "b" / "drift.json").exists()
    assert "labels" not in nights.json("b", "model.json")
    assert "drift" not in nights.json("b", "manifest.json")
    write_rows(nights.folder / "c.parquet", seed=3)
    drift = nights.run("c")
    assert drift["against"]["run_id"] == "b"
    assert sorted(drift["labels"]) == [0, 1, 2]


def test_the_same_night_gives_the_same_drift_to_the_bit(
    after_two: NightlyFits, two_nights: NightlyFits
) -> None:
    after_two.run("b", STRICT, overwrite=True)
    again, before = (json.dumps(n.json("b", "drift.json")) for n in (after_two, two_nights))
    assert again == before.replace(str(two_nights.root), str(after_two.root))


# --- thresholds


def test_a_warning_is_told_and_the_run_is_the_latest(
    nights: NightlyFits, capsys: pytest.CaptureFixture[str]
) -> None:
    drift = nights.run("broken", {"warn": {"divergence": 0.1, "mean_shift": 2}})
    assert drift["verdict"] == "warned"
    assert {c["measure"] for c in drift["crossed"]} == {"divergence", "mean_shift"}
    assert nights.latest == "broken"
    shown = capsys.readouterr().out
    assert "above drift.warn.divergence 0.1" in shown
    assert "component  label" in shown


def test_a_run_that_drifted_too_far_is_whole_and_not_the_latest(nights: NightlyFits) -> None:
    values = nights.values("broken", {**STRICT, "warn": {"vanished": 0}})
    values["output"]["keep_runs"] = 1
    with pytest.raises(DriftError) as caught:
        nights.fit(values)
    message = str(caught.value)
    for part in ("'broken' drifted from 'a'", "drift.fail.divergence 0.1", "--overwrite"):
        assert part in message
    assert "drift.warn" not in message
    assert str(nights.root / "broken") in message
    assert nights.latest == "a"
    assert nights.json("broken", "drift.json")["verdict"] == "failed"
    for entry in nights.json("broken", "manifest.json")["files"]:
        content = (nights.root / "broken" / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest()
    assert nights.held == ["LATEST", "a", "broken"]


def test_the_night_after_a_failed_one_compares_with_the_last_good_one(nights: NightlyFits) -> None:
    with pytest.raises(DriftError) as first:
        nights.run("broken", STRICT)
    for drift in (STRICT, {}):  # no configuration makes it green without --overwrite
        with pytest.raises(DriftError) as second:
            nights.run("broken", drift)
        assert str(second.value) == str(first.value)
    assert nights.latest == "a"
    found = nights.run("b", STRICT)
    assert (found["against"]["run_id"], found["previous"]) == ("a", "a")
    assert sorted(found["labels"]) == [0, 1, 2]
    assert nights.latest == "b"


def test_the_latest_run_is_not_replaced_by_one_that_drifted(after_two: NightlyFits) -> None:
    model = (after_two.root / "b" / "model.json").read_bytes()
    (after_two.folder / "broken.parquet").rename(after_two.folder / "b.parquet")
    with pytest.raises(DriftError, match=r"was not written, as the run in .*/b stays"):
        after_two.run("b", STRICT, overwrite=True)
    assert (after_two.root / "b" / "model.json").read_bytes() == model
    assert after_two.latest == "b"
    assert after_two.held == ["LATEST", "a", "b"]


@pytest.fixture
def job(
    spark: SparkSession, nights: NightlyFits, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., int]:
    """The fit job's main function in this process: it returns the exit code."""
    monkeypatch.setattr("sparkgmm.spark.session.start_session", lambda *_: spark)
    monkeypatch.setattr("sparkgmm.spark.session.stopping", contextlib.nullcontext)
    for name in ("direct_errors", "end_on_sigterm"):
        monkeypatch.setattr(cli, name, lambda: None)

    def run(night: str, *arguments: str) -> int:
        path = nights.folder / "job.yaml"
        path.write_text(yaml.safe_dump(nights.values(night, STRICT)), encoding="utf-8")
        return cli.fit_main(["--config", str(path), *arguments])

    return run


def test_the_exit_code_is_five_until_the_run_is_accepted_by_the_remedy_that_is_told(
    job: Callable[..., int], nights: NightlyFits, capsys: pytest.CaptureFixture[str]
) -> None:
    assert job("broken") == 5
    [line] = [text for text in capsys.readouterr().err.splitlines() if "error:" in text]
    assert line.startswith("error: run 'broken' drifted from 'a' (divergence is 0.")
    assert job("broken") == 5
    remedy = line[line.index("--overwrite") :].split()
    assert remedy == ["--overwrite", "--set", "drift.fail={}"]
    assert job("broken", *remedy) == 0
    assert nights.latest == "broken"
    assert nights.json("broken", "drift.json")["against"]["run_id"] == "a"
    assert job("broken") == 0


# --- which run it is compared with


def test_the_first_run_done_again_is_the_first_again(after_two: NightlyFits) -> None:
    assert after_two.run("a", overwrite=True)["against"] is None
    assert after_two.latest == "a"


def test_against_names_a_run_or_another_root(after_two: NightlyFits) -> None:
    write_rows(after_two.folder / "c.parquet", seed=7)
    drift = after_two.run("c", {"against": str(after_two.root / "a")})
    assert (drift["against"]["run_id"], drift["previous"]) == ("a", "b")


def test_a_run_to_compare_with_that_is_missing_is_refused_before_anything_is_read(
    nights: NightlyFits,
) -> None:
    with pytest.raises(ConfigurationError, match="neither a whole run"):
        nights.run("b", {"against": str(nights.folder / "baseline")})
    assert nights.held == ["LATEST", "a"]


def test_the_plan_tells_which_run_would_be_compared_with(after_two: NightlyFits) -> None:
    root = after_two.root
    write_rows(after_two.folder / "c.parquet", seed=7)
    assert "nothing to compare with yet" in after_two.plan("a")
    assert f"drift    {root}/b, run 'b'" in after_two.plan("c")
    assert f"drift    {root}/a, run 'a'" in after_two.plan("c", {"against": str(root / "a")})


def test_the_plan_refuses_a_run_to_compare_with_that_is_missing(nights: NightlyFits) -> None:
    with pytest.raises(ConfigurationError, match="baseline"):
        nights.plan("b", {"against": str(nights.folder / "baseline")})


def test_other_features_are_refused_and_nothing_is_left(nights: NightlyFits) -> None:
    table = pq.read_table(nights.folder / "b.parquet")
    pq.write_table(table.rename_columns(["x", "z"]), nights.folder / "b.parquet")
    with pytest.raises(ConfigurationError, match=r"has features \['x', 'y'\], the input"):
        nights.run("b")
    assert nights.held == ["LATEST", "a"]


def test_an_earlier_run_whose_metrics_are_damaged_is_named(nights: NightlyFits) -> None:
    (nights.root / "a" / "metrics.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"a/metrics\.json.*restore it"):
        nights.run("b")


def rewrite_model(nights: NightlyFits, night: str, **changes: Any) -> None:
    """Change a run's model.json, and the checksum that tells it is the run's own."""
    content = json.dumps(nights.json(night, "model.json") | changes).encode()
    (nights.root / night / "model.json").write_bytes(content)
    manifest = nights.json(night, "manifest.json")
    for entry in manifest["files"]:
        if entry["path"] == "model.json":
            entry["sha256"] = hashlib.sha256(content).hexdigest()
    (nights.root / night / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": [0, 1]},
        {"labels": [0, 1, 1]},
        {"labels": [0, 1, 3]},
        {"labels": "abc"},
        {"labels": [0, 1, True]},
        {"labels": [0, -1, 2]},
        {"next_label": None},
    ],
    ids=str,
)
def test_labels_that_cannot_be_are_refused(nights: NightlyFits, changes: dict[str, Any]) -> None:
    rewrite_model(nights, "a", **changes)
    with pytest.raises(InputError, match="for 3 components: give each one of its own"):
        nights.run("b")


def test_outliers_need_a_model_that_knows_its_quantiles(nights: NightlyFits) -> None:
    rewrite_model(nights, "a", log_density_quantiles=None)
    with pytest.raises(ConfigurationError, match=r"which outlier_share of drift\.warn"):
        nights.run("b", {"warn": {"outlier_share": 0.01}})


# --- warm starts


def test_a_warm_start_that_is_no_candidate_is_told_and_all_begin_cold(
    nights: NightlyFits, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.run("b", k=[1, 2], warm_start=str(nights.root))
    assert "has k = 3 and covariance_type full, which is no candidate" in capsys.readouterr().err
    assert nights.json("b", "metrics.json")["k"] == 2


# --- the report, and scores


def test_the_report_tells_what_changed_and_draws_the_last_runs(after_two: NightlyFits) -> None:
    values = after_two.values("broken", STRICT)
    values["output"]["report"] = True
    with pytest.raises(DriftError):
        after_two.fit(values)
    page = Page((after_two.root / "broken" / "report.html").read_text(encoding="utf-8"))
    check_it_loads_nothing(page)
    assert "Since b" in page.text
    assert "The last 3 runs" in page.text
    assert "The run drifted too far since b: divergence is 0." in page.text
    assert "vanished" in page.cells
    assert (after_two.root / "broken" / "plots" / "nights.png").exists()


def shown(nights: NightlyFits, previous: str) -> list[str]:
    """Return the runs before one that follows `previous` in the report's picture."""
    judged = Judged("c", -4.0, None, None, None, (), previous)  # type: ignore[arg-type]
    return [night.run_id for night in _past_runs(Folder(nights._spark, str(nights.root)), judged)]


@pytest.mark.parametrize(
    "damage",
    [
        {"previous": "../a"},
        {"previous": "a/../a"},
        {"previous": "b"},
        {"previous": "c"},
        {"previous": "gone"},
        {"previous": None},
        {"previous": 3},
    ],
    ids=str,
)
def test_the_chain_of_runs_ends_where_a_run_names_none_that_may_come_before(
    after_two: NightlyFits, damage: dict[str, Any]
) -> None:
    assert shown(after_two, "b") == ["a", "b"]
    drift = after_two.json("b", "drift.json") | damage
    (after_two.root / "b" / "drift.json").write_text(json.dumps(drift), encoding="utf-8")
    assert shown(after_two, "b") == ["b"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"measures": {"divergence": "x"}}'])
def test_a_damaged_drift_json_costs_its_part_of_the_picture_alone(
    after_two: NightlyFits, text: str
) -> None:
    (after_two.root / "a" / "drift.json").write_text(text, encoding="utf-8")
    assert shown(after_two, "b") == ["b"]


def scored(nights: NightlyFits, *columns: str) -> Any:
    values = {
        "input": {"path": str(nights.folder / "b.parquet")},
        "model": str(nights.root),
        "output": {"path": str(nights.folder / "scored"), "columns": list(columns)},
    }
    run_score(nights._spark, ScoreConfig.model_validate(values), Terminal())
    return pq.read_table(nights.folder / "scored").to_pandas()


def test_scores_carry_the_label_of_the_component(nights: NightlyFits) -> None:
    rewrite_model(nights, "a", labels=[7, 2, 5], next_label=8)
    rows = scored(nights, "component", "label")
    assert set(rows["label"]) == {7, 2, 5}
    assert rows["label"].tolist() == [[7, 2, 5][j] for j in rows["component"]]


def test_a_label_is_refused_where_the_model_has_none(nights: NightlyFits) -> None:
    rewrite_model(nights, "a", labels=None)
    with pytest.raises(ConfigurationError, match=r"output\.columns names label.*drift section"):
        scored(nights, "label")
    assert not (nights.folder / "scored").exists()
