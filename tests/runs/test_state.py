"""A run that was stopped goes on after its last pass, to the bits of one that was not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from helpers.run_folders import decided
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.errors import ConfigurationError, FitError, InputError
from sparkgmm.runs.config import FitConfig
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.terminal import Terminal
from sparkgmm.spark.cluster_rows import Blocks
from sparkgmm.spark.storage import Folder

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("on_executors")]


class Stopped(BaseException):
    """What ends a driver in the middle of a fit."""


class Passes:
    """Counts the passes over the rows, and ends the driver instead of making one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.stop_at: int | None = None
        scan = Blocks.scan

        def counted(blocks: Blocks, kernels: Sequence[Kernel], label: str) -> list[Sums]:
            if self.made == self.stop_at:
                raise Stopped
            self.made += 1
            return scan(blocks, kernels, label)

        monkeypatch.setattr(Blocks, "scan", counted)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Passes:
    """Passes that are kept one by one, however quick they are."""
    monkeypatch.setattr("sparkgmm.runs.state._EVERY_SECONDS", 0.0)
    monkeypatch.setattr("sparkgmm.runs.state._SHARE", 1e9)
    return Passes(monkeypatch)


class Undisturbed(NamedTuple):
    """The end of a fit, and the passes that it took."""

    found: tuple[bytes, dict[str, Any]]
    n_passes: int


class Job:
    """A fit of overlapping clusters that takes some passes, and what came of it."""

    def __init__(self, spark: SparkSession, folder: Path) -> None:
        self._spark = spark
        self.folder = folder
        self.parquet = folder / "rows.parquet"
        self.parquet.mkdir()
        self.write_rows(0)

    def write_rows(self, seed: int, name: str = "0.parquet") -> None:
        rng = np.random.default_rng(seed)
        X = rng.standard_normal((40_000, 2))
        X[::3] += 1.5
        pq.write_table(pa.table({"a": X[:, 0], "b": X[:, 1]}), self.parquet / name)

    def run(self, overwrite: bool = False, run_id: str = "night", **model: Any) -> Path:
        model = {"k": [2, 3], "init": "k-means++", "n_init": 2, **model}
        values = {
            "input": {"path": str(self.parquet)},
            "model": model,
            "output": {"path": str(self.folder / "runs"), "run_id": run_id, "report": False},
        }
        run_fit(self._spark, FitConfig.model_validate(values), Terminal(), overwrite)
        return self.folder / "runs" / run_id

    @property
    def state(self) -> Path:
        return self.folder / "runs" / "night" / "state"


@pytest.fixture
def job(spark: SparkSession, tmp_path: Path) -> Job:
    return Job(spark, tmp_path)


@pytest.fixture(scope="module")
def undisturbed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What the job finds, and in how many passes, when nothing happens."""
    spark.conf.set("spark.sparkgmm.driverBytes", 0)
    try:
        with pytest.MonkeyPatch.context() as patch:
            passes = Passes(patch)
            run = Job(spark, tmp_path_factory.mktemp("undisturbed")).run()
            return Undisturbed(decided(run), passes.made)
    finally:
        spark.conf.unset("spark.sparkgmm.driverBytes")


@pytest.fixture
def stopped(job: Job, passes: Passes) -> Job:
    """A job that ended before its fifth pass; the counter is at zero again."""
    passes.stop_at = 4
    with pytest.raises(Stopped):
        job.run()
    passes.made, passes.stop_at = 0, None
    return job


def test_a_resumed_run_makes_only_the_passes_that_are_missing_and_ends_in_the_same_bits(
    stopped: Job, passes: Passes, capfd: pytest.CaptureFixture[str], undisturbed: Undisturbed
) -> None:
    assert not (stopped.folder / "runs" / "LATEST").exists()
    resumed = decided(stopped.run())
    assert "goes on after pass 4" in capfd.readouterr().err
    assert resumed == undisturbed.found
    assert passes.made == undisturbed.n_passes - 4


def test_a_run_stopped_at_every_pass_in_turn_ends_in_the_same_bits(
    job: Job, passes: Passes, undisturbed: Undisturbed
) -> None:
    for _ in range(4):
        passes.made, passes.stop_at = 0, 1
        with pytest.raises(Stopped):
            job.run()
    passes.made, passes.stop_at = 0, None
    resumed = decided(job.run())
    assert resumed == undisturbed.found
    assert passes.made == undisturbed.n_passes - 4


def test_a_finished_run_keeps_no_state(stopped: Job) -> None:
    run = stopped.run()
    assert sorted(p.name for p in run.iterdir()) == [
        "components",
        "manifest.json",
        "metrics.json",
        "metrics.prom",
        "model.json",
        "statistics.json",
    ]
    assert sorted(p.name for p in run.parent.iterdir()) == ["LATEST", "night"]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 9)


def of_a_later_format(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"format_version": 1', b'"format_version": 2'))


def claim_other_shapes(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"shapes": [[', b'"shapes": [[9'))


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        cut_short,
        cut_in_the_header,
        empty,
        replace_by_noise,
        of_a_later_format,
        claim_other_shapes,
        os.unlink,
    ],
)
def test_a_damaged_pass_is_made_again_and_the_bits_are_the_same(
    stopped: Job, passes: Passes, damage: Callable[[Path], None], undisturbed: Undisturbed
) -> None:
    damage(stopped.state / "000002.passes")
    resumed = decided(stopped.run())
    assert resumed == undisturbed.found
    assert passes.made == undisturbed.n_passes - 3


def test_numbers_that_were_tampered_with_under_a_right_checksum_of_another_request_do_not_count(
    stopped: Job, passes: Passes, undisturbed: Undisturbed
) -> None:
    """A pass is known by all that it measures: that of another fit is not mistaken for it."""
    first = stopped.state / "000000.passes"
    head, _, numbers = first.read_bytes().partition(b"\n")
    values = {**json.loads(head), "request": "0" * 64}
    first.write_bytes(json.dumps(values).encode() + b"\n" + numbers)
    resumed = decided(stopped.run())
    assert resumed == undisturbed.found
    assert passes.made == undisturbed.n_passes - 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format_version": 99}', '{"rows": 1}'])
def test_a_damaged_beginning_has_the_run_fitted_anew(
    stopped: Job, content: str, undisturbed: Undisturbed
) -> None:
    (stopped.state / "begun.json").write_text(content)
    assert decided(stopped.run()) == undisturbed.found


def test_another_configuration_is_refused_by_the_key_that_differs(stopped: Job) -> None:
    with pytest.raises(ConfigurationError, match=r"model\.tol was 1e-06, is 0\.001.*--overwrite"):
        stopped.run(tol=1e-3)
    assert (stopped.state / "000003.passes").exists()


def test_overwrite_begins_anew_by_another_configuration(stopped: Job, passes: Passes) -> None:
    again = decided(stopped.run(overwrite=True, tol=1e-3))
    assert again == decided(stopped.run(run_id="undisturbed", tol=1e-3))


def test_an_overwriting_run_goes_on_too(
    stopped: Job, passes: Passes, undisturbed: Undisturbed
) -> None:
    stopped.run()
    passes.made, passes.stop_at = 0, 4
    with pytest.raises(Stopped):
        stopped.run(overwrite=True)
    before = decided(stopped.folder / "runs" / "night")
    passes.made, passes.stop_at = 0, None
    assert decided(stopped.run(overwrite=True)) == before == undisturbed.found
    assert passes.made == undisturbed.n_passes - 4
    assert not stopped.state.exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda job: job.write_rows(1), r"0\.parquet (had [\d,]+ bytes, has|was written again)"),
        (lambda job: job.write_rows(1, "1.parquet"), r"1\.parquet is new"),
        (
            lambda job: (job.write_rows(1, "1.parquet"), (job.parquet / "0.parquet").unlink()),
            r"0\.parquet is gone",
        ),
    ],
)
def test_rows_that_changed_meanwhile_are_refused_with_the_reason(
    stopped: Job, change: Callable[[Job], Any], reason: str
) -> None:
    change(stopped)
    with pytest.raises(InputError, match=f"changed since run 'night' was begun .*{reason}"):
        stopped.run()
    assert (stopped.state / "000003.passes").exists()
    stopped.run(overwrite=True)


def test_the_same_rows_written_again_are_the_same_rows(
    stopped: Job, passes: Passes, undisturbed: Undisturbed
) -> None:
    stopped.write_rows(0)
    os.utime(stopped.parquet / "0.parquet", (1, 1))
    assert decided(stopped.run()) == undisturbed.found
    assert passes.made == undisturbed.n_passes - 4


def test_a_run_begun_by_another_version_is_fitted_anew(
    stopped: Job, passes: Passes, capfd: pytest.CaptureFixture[str], undisturbed: Undisturbed
) -> None:
    path = stopped.state / "begun.json"
    values = json.loads(path.read_text())
    values["versions"]["sparkgmm"] = "0.0.1"
    path.write_text(json.dumps(values))
    resumed = decided(stopped.run())
    assert "begun by other versions" in capfd.readouterr().err
    assert resumed == undisturbed.found
    assert passes.made == undisturbed.n_passes


def test_a_fit_that_is_not_possible_leaves_nothing(
    job: Job, passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def impossible(*_: Any) -> None:
        raise FitError("every candidate is degenerate")

    monkeypatch.setattr("sparkgmm.core.fit.choose", impossible)
    with pytest.raises(FitError):
        job.run()
    assert not (job.folder / "runs" / "night").exists()


def test_a_fit_goes_on_where_its_passes_cannot_be_kept(
    job: Job,
    passes: Passes,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    undisturbed: Undisturbed,
) -> None:
    replace = Folder.replace

    def full(folder: Folder, name: str, content: bytes) -> None:
        if name.endswith((".passes", "begun.json")):
            raise OSError("No space left on device")
        replace(folder, name, content)

    monkeypatch.setattr(Folder, "replace", full)
    run = job.run()
    assert capfd.readouterr().err.count("the passes cannot be kept (No space left") == 1
    assert decided(run) == undisturbed.found


def test_a_quick_fit_writes_no_state(
    job: Job, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    written: list[str] = []
    replace = Folder.replace

    def spy(folder: Folder, name: str, content: bytes) -> None:
        written.append(name)
        replace(folder, name, content)

    monkeypatch.setattr(Folder, "replace", spy)
    monkeypatch.setattr("sparkgmm.runs.state._EVERY_SECONDS", 60.0)
    job.run()
    assert written == ["LATEST"]
