"""Thirty nights of one job: a cluster drifts, one appears, one vanishes, and a night is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from helpers.nightly_fits import STRICT, NightlyFits, write, write_rows
from sparkgmm.errors import DriftError
from sparkgmm.mixture import Array
from sparkgmm.spark.cluster_rows import Blocks

pytestmark = pytest.mark.nights

N_NIGHTS = 30
APPEARS, BROKEN, VANISHES = 12, 16, 20
ROWS = 4000
# The second cluster moves by so many of its standard deviations a night.
STEP = 0.15
DRIFT = {
    "warn": {"divergence": 0.02, "appeared": 0, "vanished": 0, "mean_shift": 0.5},
    "fail": {"divergence": 0.3, "log_density_fall": 10},
}
NAMES = ("still", "moving", "vanishing", "appearing")
K = [3, 4, 5]


def truth_of(night: int) -> dict[str, tuple[float, Array]]:
    """Return weight and centre of each cluster that is there in a night, 1 to 30."""
    there = {
        "still": (0.4, np.array([0.0, 0.0])),
        "moving": (0.3, np.array([9.0 + STEP * night, 0.0])),
    }
    if night < VANISHES:
        there["vanishing"] = (0.2, np.array([0.0, 9.0]))
    if night >= APPEARS:
        there["appearing"] = (0.15, np.array([9.0, 12.0]))
    return there


def write_night(folder: Path, night: int) -> None:
    weights, centres = zip(*truth_of(night).values(), strict=True)
    path = folder / f"{night:02}.parquet"
    X = write_rows(path, ROWS, np.array(centres), night, weights)
    if night == BROKEN:
        write(path, X * [1, 60])  # seconds, where there were minutes


@dataclass
class Year:
    """What the nights left: drift.json and metrics.json of each, and what LATEST named after it."""

    nights: NightlyFits
    drift: dict[int, Any] = field(default_factory=dict)
    metrics: dict[int, Any] = field(default_factory=dict)
    cold: dict[int, Any] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)
    errors: dict[int, DriftError] = field(default_factory=dict)

    @property
    def good(self) -> list[int]:
        """All nights but the broken one."""
        return [night for night in range(1, N_NIGHTS + 1) if night != BROKEN]


@pytest.fixture(scope="module")
def year(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Year:
    """Thirty nights, begun warm, and every sixth of them begun cold in another place."""
    nights = NightlyFits(spark, tmp_path_factory.mktemp("year"))
    cold = NightlyFits(spark, nights.folder)
    cold.root = nights.folder / "cold"
    found = Year(nights)
    for night in range(1, N_NIGHTS + 1):
        write_night(nights.folder, night)
        name = f"{night:02}"
        try:
            nights.run(name, DRIFT, k=K, warm_start=str(nights.root))
        except DriftError as error:
            found.errors[night] = error
        found.drift[night] = nights.json(name, "drift.json")
        found.metrics[night] = nights.json(name, "metrics.json")
        found.latest[night] = int(nights.latest)
        if night % 6 == 2:
            cold.fit({**cold.values(name, k=K), "drift": None})
            found.cold[night] = cold.json(name, "metrics.json")
    return found


def labels_of(year: Year, night: int) -> dict[str, int]:
    """Tell the label of each cluster by the component whose mean is nearest to its centre."""
    mixture = year.nights.mixture(f"{night:02}")
    labels = year.drift[night]["labels"]
    found = {}
    for name, (_, centre) in truth_of(night).items():
        distances = np.linalg.norm(mixture.means - centre, axis=1)
        assert distances.min() < 0.5, (night, name)
        found[name] = labels[int(np.argmin(distances))]
    return found


def test_every_cluster_keeps_its_label_through_the_nights(year: Year) -> None:
    by_name: dict[str, set[int]] = {name: set() for name in NAMES}
    for night in year.good:
        found = labels_of(year, night)
        assert len(set(found.values())) == len(found) == year.metrics[night]["k"]
        for name, label in found.items():
            by_name[name].add(label)
    assert all(len(labels) == 1 for labels in by_name.values()), by_name
    assert len(set.union(*by_name.values())) == 4
    assert by_name["appearing"] == {3}
    assert year.drift[N_NIGHTS]["next_label"] == 4


def test_the_drift_is_told_on_its_nights_and_on_no_other(year: Year) -> None:
    told = {
        night: {crossing["measure"] for crossing in year.drift[night]["crossed"]}
        for night in year.good
        if year.drift[night]["crossed"]
    }
    assert told == {APPEARS: {"divergence", "appeared"}, VANISHES: {"divergence", "vanished"}}
    assert [year.drift[night]["verdict"] for night in (1, 2, APPEARS, BROKEN, VANISHES)] == [
        "first",
        "steady",
        "warned",
        "failed",
        "warned",
    ]


def test_the_broken_night_fails_and_the_next_one_compares_with_the_last_good_one(
    year: Year,
) -> None:
    assert list(year.errors) == [BROKEN]
    assert year.errors[BROKEN].exit_code == 5
    expected = {night: night - 1 if night == BROKEN else night for night in year.latest}
    assert year.latest == expected
    assert year.drift[BROKEN + 1]["against"]["run_id"] == f"{BROKEN - 1:02}"
    assert year.drift[BROKEN + 1]["verdict"] == "steady"


def test_the_slow_drift_of_one_cluster_is_measured_night_by_night(year: Year) -> None:
    label = labels_of(year, 1)["moving"]
    shifts: dict[int, list[Array]] = {}
    for night in year.good[1:]:
        # two nights lie between the runs around the broken one
        nights_between = night - int(year.drift[night]["against"]["run_id"])
        for entry in year.drift[night]["components"]:
            if entry["status"] == "matched":
                moved = np.subtract(entry["mean"], entry["mean_before"]) / nights_between
                shifts.setdefault(entry["label"], []).append(moved)
    mean_shift = {each: np.mean(moved, axis=0) for each, moved in shifts.items()}
    np.testing.assert_allclose(mean_shift.pop(label), [STEP, 0], atol=0.015)
    for moved in mean_shift.values():
        np.testing.assert_allclose(moved, 0, atol=0.015)


def test_against_a_baseline_the_slow_drift_crosses_a_threshold_in_the_end(year: Year) -> None:
    nights, label = year.nights, labels_of(year, 1)["moving"]
    verdicts = {}
    for night in (4, 11):
        name = f"{night:02}"
        judge = {"against": str(nights.root / "01"), "warn": {"mean_shift": 1.0}}
        values = nights.values(name, judge)
        values["output"]["path"] = str(nights.folder / "baseline")
        nights.fit(values)
        other = NightlyFits(nights._spark, nights.folder)
        other.root = nights.folder / "baseline"
        drift = other.json(name, "drift.json")
        verdicts[night] = drift["verdict"]
        [entry] = [e for e in drift["components"] if e["label"] == label]
        assert entry["mean_shift"] == pytest.approx(STEP * (night - 1), abs=0.15)
    assert verdicts == {4: "steady", 11: "warned"}


def test_nights_begun_warm_end_as_high_and_with_as_many_components_as_nights_begun_cold(
    year: Year,
) -> None:
    for night, metrics in year.cold.items():
        warm = year.metrics[night]
        assert warm["k"] == metrics["k"] == len(truth_of(night))
        height = metrics["mean_log_likelihood"]
        assert warm["mean_log_likelihood"] == pytest.approx(height, abs=1e-5)


def test_warm_nights_of_many_rows_pass_over_them_less_often(
    spark: SparkSession, tmp_path: Path
) -> None:
    """Above the pilot's sample the passes that count are those over all the rows."""
    warm = NightlyFits(spark, tmp_path)
    cold = NightlyFits(spark, tmp_path)
    cold.root = tmp_path / "cold"
    centres = 1.5 * np.array([[0, 0], [1, 0], [0, 1]])
    for seed, night in enumerate("abcde"):
        write_rows(tmp_path / f"{night}.parquet", 200_000, centres, seed)
        for nights in (warm, cold):
            start = {"warm_start": str(nights.root)} if nights is warm else {}
            values = nights.values(night, init="auto", **start)
            nights.fit({**values, "drift": None})
    ran = {
        name: [nights.json(night, "metrics.json") for night in "bcde"]
        for name, nights in (("warm", warm), ("cold", cold))
    }
    passes = {name: [run["n_passes"] for run in runs] for name, runs in ran.items()}
    print(f"\npasses over 200,000 rows: {passes['warm']} warm, {passes['cold']} cold")
    assert sum(passes["warm"]) < sum(passes["cold"])
    for one, other in zip(ran["warm"], ran["cold"], strict=True):
        height = other["mean_log_likelihood"]
        assert one["mean_log_likelihood"] == pytest.approx(height, abs=1e-5)


# --- what takes several runs to see


def test_a_label_is_never_given_to_another_component(
    nights: NightlyFits, capsys: pytest.CaptureFixture[str]
) -> None:
    more = np.array([[20.0, 20.0], [0, 0], [8, 0], [0, 8]])
    for seed, night in enumerate(("more", "more again")):
        write_rows(nights.folder / f"{night}.parquet", centres=more, seed=seed)
    drift = nights.run("more", k=4)
    assert drift["labels"][0] == 3  # it is the heaviest: all others move down a place
    assert "appeared: label 3" in capsys.readouterr().out
    assert nights.run("b")["next_label"] == 4
    (nights.folder / "more again.parquet").rename(nights.folder / "again.parquet")
    assert nights.run("again", k=4)["labels"][0] == 4


@pytest.mark.usefixtures("on_executors")
def test_a_run_stopped_while_drift_was_measured_makes_no_pass_again(
    nights: NightlyFits, two_nights: NightlyFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparkgmm.runs.state._EVERY_SECONDS", 0.0)
    monkeypatch.setattr("sparkgmm.runs.state._SHARE", 1e9)

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("sparkgmm.runs.drift_check.jensen_shannon", stopped)
        with pytest.raises(KeyboardInterrupt):
            nights.run("b", STRICT)
    passes: list[str] = []
    scan = Blocks.scan
    monkeypatch.setattr(
        Blocks, "scan", lambda *arguments: passes.append(arguments[2]) or scan(*arguments)
    )
    drift = nights.run("b", STRICT)
    assert passes == []
    drift["against"]["path"] = str(two_nights.root / "a")
    assert drift == two_nights.json("b", "drift.json")  # of a run on the driver, not stopped


def test_a_warm_start_from_the_own_output_begins_cold_on_the_first_night_whenever_it_is_done(
    nights: NightlyFits, capsys: pytest.CaptureFixture[str]
) -> None:
    nights.root = nights.folder / "others"
    warm = {"warm_start": str(nights.root)}
    nights.run("a", **warm)
    assert "model.warm_start begins cold" in capsys.readouterr().err
    first = (nights.root / "a" / "model.json").read_bytes()
    nights.run("b", **warm)
    assert "begins cold" not in capsys.readouterr().err
    nights.run("a", overwrite=True, **warm)  # and not from itself
    assert (nights.root / "a" / "model.json").read_bytes() == first
