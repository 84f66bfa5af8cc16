"""Whatever dies, the run that comes out has the bits of the undisturbed one, or there is none."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from helpers.cluster_jobs import Cluster, Lab, Submitted
from helpers.run_folders import decided
from helpers.scenarios import Done

pytestmark = [pytest.mark.spark, pytest.mark.cluster]

Wait = Callable[[Submitted, Path, int], None]
# PySpark's own, of a worker whose task was cancelled: nothing that a job could catch.
_CANCELLED_WORKER = re.compile(
    r"^Traceback \(most recent call last\):\n(?:  .*\n)*?  .*/pyspark/daemon\.py.*\n(?:  .*\n)*"
    r"(?:BrokenPipeError|ConnectionResetError): .*\n",
    re.MULTILINE,
)


def check_no_traceback(done: Done) -> None:
    assert "Traceback" not in _CANCELLED_WORKER.sub("", done.err + done.out)


def check_it_ended_well(done: Done, output: Path, undisturbed: Any) -> None:
    assert done.code == 0, done.err
    check_no_traceback(done)
    assert decided(output / "night") == undisturbed
    assert (output / "LATEST").read_text() == "night\n"
    assert sorted(path.name for path in output.iterdir()) == ["LATEST", "night"]
    assert not (output / "night" / "state").exists()


def test_the_workers_have_no_package_but_the_packed_ones(cluster: Any, undisturbed: Any) -> None:
    """The fixtures have fitted on the cluster by then, from another directory than this one."""
    logs = [log.read_text() for log in cluster.folder.glob("worker-*/app-*/*/stderr")]
    assert logs
    assert not any("No module named" in log for log in logs)


@pytest.mark.long
def test_one_core_gives_the_bits_of_the_cluster(
    lab: Lab, rows: Path, output: Path, undisturbed: Any
) -> None:
    done = lab.fit(rows, output, "night", master="local[1]").finish()
    check_it_ended_well(done, output, undisturbed)


def test_an_executor_killed_in_the_middle_of_the_passes_changes_no_bit(
    lab: Lab, cluster: Any, rows: Path, output: Path, undisturbed: Any, after_passes: Wait
) -> None:
    job = lab.fit(rows, output, "night")
    after_passes(job, output / "night", 3)
    os.kill(cluster.executors()[0], signal.SIGKILL)
    check_it_ended_well(job.finish(), output, undisturbed)


@pytest.mark.long
def test_all_executors_lost_for_a_while_change_no_bit(
    lab: Lab, cluster: Any, rows: Path, output: Path, undisturbed: Any, after_passes: Wait
) -> None:
    job = lab.fit(rows, output, "night")
    after_passes(job, output / "night", 3)
    for executor in cluster.executors():
        os.kill(executor, signal.SIGKILL)
    check_it_ended_well(job.finish(), output, undisturbed)


def test_a_worker_killed_for_good_changes_no_bit(
    lab: Lab, cluster: Any, rows: Path, output: Path, undisturbed: Any, after_passes: Wait
) -> None:
    job = lab.fit(rows, output, "night")
    after_passes(job, output / "night", 3)
    cluster.kill_worker(len(cluster.workers) - 1)
    try:
        check_it_ended_well(job.finish(), output, undisturbed)
    finally:
        cluster.add_worker()


@pytest.mark.long
def test_an_executor_that_hangs_under_speculation_changes_no_bit(
    lab: Lab, cluster: Any, rows: Path, output: Path, undisturbed: Any, after_passes: Wait
) -> None:
    confs = {
        "spark.speculation": "true",
        "spark.speculation.interval": "100ms",
        "spark.speculation.multiplier": "1.1",
        "spark.speculation.quantile": "0.3",
        "spark.speculation.minTaskRuntime": "10ms",
    }
    job = lab.fit(rows, output, "night", confs=confs)
    after_passes(job, output / "night", 3)
    stopped = cluster.executors()[0]
    os.kill(stopped, signal.SIGSTOP)
    time.sleep(4)
    os.kill(stopped, signal.SIGCONT)
    check_it_ended_well(job.finish(), output, undisturbed)


@pytest.mark.long
def test_hardly_any_memory_to_keep_rows_in_changes_no_bit(
    lab: Lab, rows: Path, output: Path, undisturbed: Any
) -> None:
    """What Spark caches is evicted to disk; the blocks are in files in any case."""
    confs = {"spark.memory.fraction": "0.02", "spark.executor.memory": "500m"}
    done = lab.fit(rows, output, "night", confs=confs).finish()
    check_it_ended_well(done, output, undisturbed)


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param(signal.SIGKILL, id="SIGKILL"),
        pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.long),
    ],
)
def test_a_driver_that_was_killed_goes_on_to_the_same_bits_when_started_again(
    lab: Lab, rows: Path, output: Path, undisturbed: Any, after_passes: Wait, sign: int
) -> None:
    job = lab.fit(rows, output, "night")
    after_passes(job, output / "night", 5)
    job.kill(sign)
    done = job.finish()
    assert done.code == (143 if sign == signal.SIGTERM else -signal.SIGKILL)
    check_no_traceback(done)
    assert not (output / "LATEST").exists()
    assert not (output / "night" / "manifest.json").exists()
    again = lab.fit(rows, output, "night").finish()
    assert "goes on after pass" in again.err
    check_it_ended_well(again, output, undisturbed)


def test_sigterm_to_a_plain_python_driver_ends_it_with_143(
    lab: Lab, rows: Path, output: Path, after_passes: Wait
) -> None:
    """The signal reaches Python alone: it must tell the JVM to stop, and end."""
    job = lab.fit(rows, output, "night", master="local[1]")
    after_passes(job, output / "night", 2)
    driver = subprocess.run(
        ["pgrep", "-g", str(job.process.pid), "-f", r"^\S*python\S* .*fit_gmm"],
        capture_output=True,
        text=True,
        check=True,
    )
    begun = time.monotonic()
    for pid in driver.stdout.split():
        os.kill(int(pid), signal.SIGTERM)
    done = job.finish()
    assert done.code == 143, done
    assert time.monotonic() - begun < 60
    assert "terminated: start the same job again" in done.err
    check_no_traceback(done)


@pytest.mark.long
def test_an_input_that_changed_before_the_run_went_on_is_refused_with_the_reason(
    lab: Lab,
    rows: Path,
    output: Path,
    tmp_path: Path,
    run_before: Callable[[Path], None],
    undisturbed: Any,
    after_passes: Wait,
) -> None:
    copied = tmp_path / "rows.parquet"
    shutil.copytree(rows, copied)
    run_before(output)
    job = lab.fit(copied, output, "night")
    after_passes(job, output / "night", 2)
    job.kill()
    job.finish()
    (copied / "5.parquet").unlink()
    done = lab.fit(copied, output, "night").finish()
    assert done.code == 3
    assert len(done.errors) == 1
    assert "5.parquet is gone" in done.errors[0]
    assert (output / "LATEST").read_text() == "before\n"
    assert decided(output / "before") == undisturbed


@pytest.mark.long
def test_two_jobs_with_one_run_id_leave_one_whole_run(
    lab: Lab, rows: Path, output: Path, undisturbed: Any
) -> None:
    jobs = [lab.fit(rows, output, "night", master="local[1]") for _ in range(2)]
    for done in [job.finish() for job in jobs]:
        assert done.code == 0, done.err
    assert decided(output / "night") == undisturbed
    assert sorted(path.name for path in output.iterdir()) == ["LATEST", "night"]
    assert not (output / "night" / "state").exists()


@pytest.mark.long
def test_two_runs_that_publish_at_once_leave_latest_at_a_whole_one(
    lab: Lab, rows: Path, output: Path, undisturbed: Any
) -> None:
    jobs = {name: lab.fit(rows, output, name, master="local[1]") for name in ("a", "b")}
    for job in jobs.values():
        done = job.finish()
        assert done.code == 0, done.err
    assert decided(output / "a") == decided(output / "b") == undisturbed
    assert (output / "LATEST").read_text() in ("a\n", "b\n")
    assert sorted(path.name for path in output.iterdir()) == ["LATEST", "a", "b"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here (root alone may)")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take all the room that is left."""
    path = folder / "filling"
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path


@pytest.mark.parametrize("fault", ["full", pytest.param("read-only", marks=pytest.mark.long)])
def test_an_output_that_takes_no_more_leaves_latest_alone_and_the_run_to_be_gone_on_with(
    lab: Lab,
    rows: Path,
    small_disk: Path,
    run_before: Callable[[Path], None],
    undisturbed: Any,
    after_passes: Wait,
    fault: str,
) -> None:
    output = small_disk / "runs"
    run_before(output)
    job = lab.fit(rows, output, "night")
    after_passes(job, output / "night", 3)
    if fault == "full":
        filling = fill(small_disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = job.finish()
    assert done.code == 2
    assert len(done.errors) == 1, done.err
    assert "cannot be written" in done.errors[0]
    check_no_traceback(done)
    assert (output / "LATEST").read_text() == "before\n"
    assert decided(output / "before") == undisturbed
    assert not (output / "night" / "manifest.json").exists()
    if fault == "full":
        filling.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    again = lab.fit(rows, output, "night").finish()
    assert again.code == 0, again.err
    assert "goes on after pass" in again.err
    assert decided(output / "night") == undisturbed


def test_executors_killed_while_scoring_lose_no_row_and_write_none_twice(
    lab: Lab, cluster: Any, rows: Path, undisturbed_run: Path, tmp_path: Path
) -> None:
    many = tmp_path / "many.parquet"
    many.mkdir()
    for i in range(4):
        for part in sorted(rows.iterdir()):
            os.link(part, many / f"{i}-{part.name}")
    scored = tmp_path / "scored"
    config = tmp_path / "score.json"
    values = {
        "input": {"path": str(many)},
        "model": str(undisturbed_run),
        "output": {"path": str(scored)},
    }
    config.write_text(json.dumps(values))
    before = set(cluster.executors())
    job = lab.submit("score", "--config", str(config))
    end = time.monotonic() + 120
    while not any(tmp_path.glob(".scored.*/_temporary/0/*/part-*")) and not any(
        tmp_path.glob(".scored.*/_temporary/0/_temporary/*/part-*")
    ):
        assert job.process.poll() is None, job.finish()
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(next(e for e in cluster.executors() if e not in before), signal.SIGKILL)
    done = job.finish()
    assert done.code == 0, done.err
    wanted = ds.dataset(many).count_rows()
    table = pq.read_table(scored)
    assert table.num_rows == wanted
    for name in ("x0", "x5"):
        there, here = (np.sort(t[name].to_numpy()) for t in (pq.read_table(many), table))
        assert (there == here).all()
    assert not list(tmp_path.glob(".scored.*"))


@pytest.mark.long
def test_a_cluster_of_one_worker_gives_the_bits_of_three(
    lab: Lab, rows: Path, output: Path, empty_python: Path, undisturbed: Any, tmp_path: Path
) -> None:
    with Cluster(tmp_path / "one", workers=1, memory="700m", python=empty_python) as one:
        done = lab.fit(rows, output, "night", master=one.url).finish()
    check_it_ended_well(done, output, undisturbed)
