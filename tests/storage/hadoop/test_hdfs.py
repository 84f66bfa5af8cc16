"""Jobs on HDFS: what they leave, what faults of it come to, and what they say then."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from helpers.cluster_jobs import Submitted
from helpers.mini_cluster import HOME, ROOT, MiniCluster, Session, after_passes
from helpers.run_folders import decided

pytestmark = pytest.mark.storage

FAITHFUL = ROOT / "data" / "faithful.csv"
CSV = {"format": "csv", "options": {"header": True}}
MODEL = {"k": [1, 2], "n_init": 2}
# What the contract gives a job that cannot go on, in seconds.
BOUND = 120


@pytest.fixture
def folder(hadoop: MiniCluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A folder of a test's own in HDFS."""
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    path = f"{HOME}/{name}"
    hadoop.tell("mkdir", path, "hadoop", "755")
    yield path
    hadoop.tell("delete", path)


def fit_config(hadoop: MiniCluster, place: str, run_id: str = "night", **changes: Any) -> Any:
    """A quick fit of Old Faithful in HDFS."""
    config: dict[str, Any] = {
        "input": {"path": f"{hadoop.uri}{HOME}/faithful.csv", **CSV},
        "model": MODEL,
        "output": {"path": f"{hadoop.uri}{place}", "run_id": run_id, "report": False},
    }
    for section, values in changes.items():
        config[section] = {**config.get(section, {}), **values}
    return config


def model_of(hadoop: MiniCluster, output: str, tmp_path: Path, run_id: str = "night") -> bytes:
    """Check a run's files by its manifest, and that nothing lies beside it; return model.json."""
    hadoop.copy(f"{output}/{run_id}", tmp_path / run_id)
    model, _ = decided(tmp_path / run_id)
    check_tidy(hadoop, output, run_id)
    return model


def check_tidy(hadoop: MiniCluster, output: str, run_id: str = "night") -> None:
    assert hadoop.read(f"{output}/LATEST") == f"{run_id}\n".encode()
    assert not [name for name in hadoop.names(output) if name.startswith(".")]
    assert "state" not in hadoop.names(f"{output}/{run_id}")


def check_nothing_published(hadoop: MiniCluster, output: str) -> None:
    assert "LATEST" not in hadoop.names(output)
    assert "manifest.json" not in hadoop.names(f"{output}/night")


def local_model(session: Session, tmp_path: Path, source: dict[str, Any]) -> bytes:
    """What the same session finds in local files."""
    output = tmp_path / "local"
    config = {
        "input": source,
        "model": MODEL,
        "output": {"path": output.as_uri(), "run_id": "run", "report": False},
    }
    done = session.run("fit", config)
    assert done.code == 0, done.err
    return (output / "run" / "model.json").read_bytes()


def parquet_of_faithful(target: Path) -> Path:
    """Old Faithful as two Parquet files in a folder."""
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    table = pc.read_csv(FAITHFUL)
    target.mkdir()
    pq.write_table(table.slice(0, 100), target / "a.parquet")
    pq.write_table(table.slice(100), target / "b.parquet")
    return target


@pytest.mark.parametrize("kind", ["csv", "parquet", "glob"])
def test_a_fit_of_files_in_hdfs_has_the_bits_of_local_files(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path, kind: str
) -> None:
    if kind == "csv":
        here, there, options = FAITHFUL.as_uri(), f"{HOME}/faithful.csv", CSV
    else:
        local = parquet_of_faithful(tmp_path / "faithful.parquet")
        hadoop.tell("put", local, f"{folder}/faithful.parquet")
        end = "/[ab].parquet" if kind == "glob" else ""
        here, there = f"file:{local}{end}", f"{folder}/faithful.parquet{end}"
        options = {"format": "parquet"}
    given = {"path": f"{hadoop.uri}{there}", **options}
    done = session.run("fit", fit_config(hadoop, f"{folder}/runs", input=given))
    assert done.code == 0, done.err
    expected = local_model(session, tmp_path, {"path": here, **options})
    assert model_of(hadoop, f"{folder}/runs", tmp_path) == expected


def test_scores_are_written_in_every_mode(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path
) -> None:
    assert session.run("fit", fit_config(hadoop, f"{folder}/runs")).code == 0

    def score(mode: str) -> Any:
        output = {"path": f"{hadoop.uri}{folder}/scored", "mode": mode}
        given = {"path": f"{hadoop.uri}{HOME}/faithful.csv", **CSV}
        model = f"{hadoop.uri}{folder}/runs"
        return session.run("score", {"input": given, "model": model, "output": output})

    def n_rows(name: str) -> int:
        hadoop.copy(f"{folder}/scored", tmp_path / name)
        return int(ds.dataset(tmp_path / name, format="parquet").count_rows())

    assert score("error").code == 0
    assert n_rows("first") == 272
    again = score("error")
    assert again.code == 2
    assert "exists" in again.error()
    assert score("append").code == 0
    assert n_rows("appended") == 544
    assert score("overwrite").code == 0
    assert n_rows("overwritten") == 272


def test_invalid_rows_are_put_aside(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path
) -> None:
    source = tmp_path / "holes.csv"
    source.write_text(FAITHFUL.read_text() + ",1\n2,\n")
    hadoop.tell("put", source, f"{folder}/holes.csv")
    given = {"path": f"{hadoop.uri}{folder}/holes.csv", "invalid_rows": "quarantine"}
    done = session.run("fit", fit_config(hadoop, f"{folder}/runs", input=given))
    assert done.code == 0, done.err
    model_of(hadoop, f"{folder}/runs", tmp_path)
    rejected = ds.dataset(tmp_path / "night" / "rejected", format="parquet")
    assert rejected.count_rows() == 2


def test_a_second_run_becomes_the_latest_and_old_ones_go(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path
) -> None:
    for night in ("one", "two", "three"):
        output = {"keep_runs": 2}
        done = session.run("fit", fit_config(hadoop, f"{folder}/runs", night, output=output))
        assert done.code == 0, done.err
    assert hadoop.names(f"{folder}/runs") == ["LATEST", "three", "two"]
    check_tidy(hadoop, f"{folder}/runs", "three")


def submitted_on_local(config: Path) -> list[str | Path]:
    """The command of a fit in a process of its own, in local mode."""
    settings = ("--conf", "spark.ui.enabled=false", "--master", "local[2]")
    submit = ROOT / ".venv" / "bin" / "spark-submit"
    return [submit, *settings, "jobs/fit_gmm.py", "--config", config]


@pytest.fixture
def submit(
    hadoop: MiniCluster, rows: str, many_passes: dict[str, Any], tmp_path: Path
) -> Callable[..., Submitted]:
    """A function that submits the fit of many passes in a process of its own."""

    def start(output: str, number: int = 0) -> Submitted:
        config = fit_config(hadoop, output, input={"path": rows}, model=many_passes)
        config["input"] = {"path": rows}
        path = tmp_path / f"config-{number}.json"
        path.write_text(json.dumps(config))
        return hadoop.submit(submitted_on_local(path))

    return start


@pytest.fixture(scope="session")
def undisturbed(
    hadoop: MiniCluster,
    session: Session,
    rows: str,
    many_passes: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> bytes:
    """The model of that fit when nothing happens."""
    output = tmp_path_factory.mktemp("undisturbed")
    values = {"path": output.as_uri(), "run_id": "run", "report": False}
    config = {"input": {"path": rows}, "model": many_passes, "output": values}
    done = session.run("fit", config)
    assert done.code == 0, done.err
    return (output / "run" / "model.json").read_bytes()


def test_a_driver_that_was_killed_goes_on_to_the_same_bits(
    hadoop: MiniCluster,
    submit: Callable[..., Submitted],
    folder: str,
    undisturbed: bytes,
    tmp_path: Path,
) -> None:
    output = f"{folder}/runs"
    job = submit(output)
    after_passes(hadoop, f"{output}/night", 2, job)
    job.kill(signal.SIGKILL)
    job.finish()
    check_nothing_published(hadoop, output)
    done = submit(output).finish()
    assert done.code == 0, done.err
    assert "goes on after pass" in done.err
    assert model_of(hadoop, output, tmp_path) == undisturbed


def test_two_jobs_with_one_run_id_leave_one_whole_run(
    hadoop: MiniCluster,
    submit: Callable[..., Submitted],
    folder: str,
    undisturbed: bytes,
    tmp_path: Path,
) -> None:
    output = f"{folder}/runs"
    jobs = [submit(output, number) for number in (1, 2)]
    for job in jobs:
        done = job.finish()
        assert done.code == 0, done.err
    assert model_of(hadoop, output, tmp_path) == undisturbed


@pytest.fixture
def mended(hadoop: MiniCluster) -> Iterator[None]:
    """Servers that a test stopped are started again, whatever came of it."""
    yield
    hadoop.tell("start-datanodes")
    hadoop.tell("safe-mode", "off")


@pytest.mark.usefixtures("mended")
def test_a_datanode_that_stops_while_a_fit_keeps_its_passes_changes_no_bit(
    hadoop: MiniCluster,
    session: Session,
    rows: str,
    many_passes: dict[str, Any],
    folder: str,
    undisturbed: bytes,
    tmp_path: Path,
) -> None:
    output = f"{folder}/runs"
    config = fit_config(hadoop, output, model=many_passes)
    config["input"] = {"path": rows}
    session.start("fit", config)
    end = time.monotonic() + BOUND
    while not [n for n in hadoop.names(f"{output}/night/state") if n.endswith(".passes")]:
        assert time.monotonic() < end
        time.sleep(0.05)
    hadoop.tell("stop-datanode", 0)
    done = session.finish()
    assert done.code == 0, done.err
    assert model_of(hadoop, output, tmp_path) == undisturbed


@pytest.mark.usefixtures("mended")
def test_an_output_in_safe_mode_is_refused_in_one_line(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path
) -> None:
    output = f"{folder}/runs"
    hadoop.tell("safe-mode", "on")
    done = session.run("fit", fit_config(hadoop, output))
    assert done.code == 2, done.err
    assert "safe mode" in done.error()
    assert "output.path" in done.error()
    assert done.seconds < BOUND
    hadoop.tell("safe-mode", "off")
    assert hadoop.names(output) == []
    assert session.run("fit", fit_config(hadoop, output)).code == 0
    model_of(hadoop, output, tmp_path)


@pytest.mark.usefixtures("mended")
def test_safe_mode_that_begins_during_a_fit_leaves_nothing_half_published(
    hadoop: MiniCluster,
    session: Session,
    rows: str,
    many_passes: dict[str, Any],
    folder: str,
    undisturbed: bytes,
    tmp_path: Path,
) -> None:
    output = f"{folder}/runs"
    config = fit_config(hadoop, output, model=many_passes)
    config["input"] = {"path": rows}
    session.start("fit", config)
    end = time.monotonic() + BOUND
    while not [n for n in hadoop.names(f"{output}/night/state") if n.endswith(".passes")]:
        assert time.monotonic() < end
        time.sleep(0.05)
    hadoop.tell("safe-mode", "on")
    done = session.finish()
    assert done.code == 2, done.err
    assert "safe mode" in done.error()
    check_nothing_published(hadoop, output)
    hadoop.tell("safe-mode", "off")
    done = session.run("fit", config)
    assert done.code == 0, done.err
    assert model_of(hadoop, output, tmp_path) == undisturbed


def test_a_quota_of_names_that_is_used_up_leaves_nothing_half_published(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path
) -> None:
    """The quota leaves room for the state and for some of the run's files, not for all."""
    output = f"{folder}/runs"
    hadoop.tell("mkdir", output, "hadoop", "755")
    hadoop.tell("quota", output, 8, 0)
    done = session.run("fit", fit_config(hadoop, output))
    assert done.code == 2, done.err
    assert "quota" in done.error().lower()
    assert "output.path" in done.error()
    check_nothing_published(hadoop, output)
    hadoop.tell("quota", output, 0, 0)
    done = session.run("fit", fit_config(hadoop, output))
    assert done.code == 0, done.err
    model_of(hadoop, output, tmp_path)


def test_a_quota_of_bytes_that_is_used_up_is_refused_in_one_line(
    hadoop: MiniCluster, session: Session, folder: str
) -> None:
    output = f"{folder}/runs"
    hadoop.tell("mkdir", output, "hadoop", "755")
    hadoop.tell("quota", output, 0, 1 << 20)  # less than one block
    done = session.run("fit", fit_config(hadoop, output))
    assert done.code == 2, done.err
    assert "quota" in done.error().lower()
    check_nothing_published(hadoop, output)


def test_scores_past_a_quota_are_taken_back(
    hadoop: MiniCluster, session: Session, folder: str
) -> None:
    assert session.run("fit", fit_config(hadoop, f"{folder}/runs")).code == 0
    hadoop.tell("mkdir", f"{folder}/out", "hadoop", "755")
    hadoop.tell("quota", f"{folder}/out", 3, 0)
    config = {
        "input": {"path": f"{hadoop.uri}{HOME}/faithful.csv", **CSV},
        "model": f"{hadoop.uri}{folder}/runs",
        "output": {"path": f"{hadoop.uri}{folder}/out/scored"},
    }
    done = session.run("score", config)
    assert done.code == 2, done.err
    assert "quota" in done.error().lower()
    assert hadoop.names(f"{folder}/out/scored") == []


def test_an_output_of_another_user_is_refused_in_one_line(
    hadoop: MiniCluster, session: Session
) -> None:
    hadoop.tell("mkdir", "/user/other", "other", "755")
    done = session.run("fit", fit_config(hadoop, "/user/other/runs"))
    assert done.code == 2, done.err
    assert "output.path" in done.error()
    assert "denied" in done.error()
    assert hadoop.names("/user/other/runs") == []


def test_an_input_of_another_user_is_refused_in_one_line(
    hadoop: MiniCluster, session: Session, folder: str
) -> None:
    hadoop.tell("mkdir", "/user/private", "other", "755")
    hadoop.tell("put", FAITHFUL, "/user/private/faithful.csv")
    hadoop.tell("mkdir", "/user/private", "other", "700")
    given = {"path": f"{hadoop.uri}/user/private/faithful.csv"}
    done = session.run("fit", fit_config(hadoop, f"{folder}/runs", input=given))
    assert done.code == 3, done.err
    assert "input.path" in done.error()
    assert "denied" in done.error()
    check_nothing_published(hadoop, f"{folder}/runs")


@pytest.fixture
def nobody() -> str:
    """An address at which nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"hdfs://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers, as a namenode that hangs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(64)
        yield f"hdfs://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def unreachable() -> Iterator[str]:
    """An address whose packets are dropped, as by a firewall: its queue is full."""
    with socket.socket() as taken, socket.socket() as waiting:
        taken.bind(("127.0.0.1", 0))
        taken.listen(0)
        waiting.connect(taken.getsockname())
        yield f"hdfs://127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    "where",
    [
        "nobody",
        pytest.param("silent", marks=pytest.mark.long),
        pytest.param("unreachable", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("key", ["output", "input"])
def test_no_namenode_is_said_in_one_line_within_two_minutes(
    hadoop: MiniCluster,
    session: Session,
    folder: str,
    where: str,
    key: str,
    request: pytest.FixtureRequest,
) -> None:
    address = request.getfixturevalue(where)
    changes = {key: {"path": f"{address}/data/faithful.csv"}}
    done = session.run("fit", fit_config(hadoop, f"{folder}/runs", **changes))
    assert done.code == {"output": 2, "input": 3}[key], done.err
    assert f"{key}.path" in done.error()
    assert done.seconds < BOUND
    if where != "nobody":
        assert address in done.err.partition("error:")[0], "nothing was said of what is waited for"
    check_nothing_published(hadoop, f"{folder}/runs")


def test_a_namenode_that_comes_back_is_written_to_by_the_same_job_again(
    hadoop: MiniCluster, session: Session, folder: str, tmp_path: Path
) -> None:
    hadoop.tell("stop-namenode")
    try:
        done = session.run("fit", fit_config(hadoop, f"{folder}/runs"))
        assert done.code == 2, done.err
        assert "output.path" in done.error()
    finally:
        hadoop.tell("start-namenode")
    # in a process of its own, as people start it: this session's connection is broken
    config = tmp_path / "config.json"
    config.write_text(json.dumps(fit_config(hadoop, f"{folder}/runs")))
    done = hadoop.submit(submitted_on_local(config)).finish()
    assert done.code == 0, done.err
    model_of(hadoop, f"{folder}/runs", tmp_path)
