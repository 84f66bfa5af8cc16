"""S3A does what local files do: the same bits, the same rows, the same runs, and no litter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from helpers.nightly_fits import write_rows
from helpers.s3_store import S3, Bucket
from helpers.session_jobs import ROOT, Jobs, until

pytestmark = pytest.mark.storage

FAITHFUL = ROOT / "data" / "faithful.csv"
CSV = {"path": str(FAITHFUL), "options": {"header": True}}


def fit(path: str, output: str, run_id: str = "run", **more: Any) -> dict[str, Any]:
    """Return the configuration of a fit without a report; `more` are whole sections."""
    return {
        "input": {"path": path, "options": {"header": True}, **more.pop("input", {})},
        "model": {"k": 2, **more.pop("model", {})},
        "output": {"path": output, "run_id": run_id, "report": False, **more.pop("run", {})},
        **more,
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clusters in four Parquet files, two a day, as Spark lays partitions by columns out.

    The files are of different sizes: those of one size Spark reads in the order in which a file
    system lists them, and the order decides the last bits.
    """
    folder = tmp_path_factory.mktemp("rows")
    for i in range(4):
        day = folder / f"day=2026-11-0{i // 2 + 1}"
        day.mkdir(exist_ok=True)
        write_rows(day / f"part-{i}.parquet", n=400 + 100 * i, seed=i)
    return folder


@pytest.fixture(scope="module")
def local_model(s3_jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """model.json of Old Faithful, read from and written to local files."""
    root = tmp_path_factory.mktemp("local")
    done = s3_jobs.run("fit", fit(str(FAITHFUL), str(root)))
    assert done.code == 0, done.err
    return (root / "run" / "model.json").read_bytes()


@pytest.fixture
def run_on_s3(s3_jobs: Jobs, bucket: Bucket) -> Callable[..., None]:
    """Put Old Faithful into the bucket, and fit it there to a run named `run`."""

    def run(**more: Any) -> None:
        bucket.put("faithful.csv", FAITHFUL.read_bytes())
        config = fit(f"{bucket.uri}/faithful.csv", f"{bucket.uri}/runs", **more)
        done = s3_jobs.run("fit", config)
        assert done.code == 0, done.err

    return run


def table_of(folder: Path) -> pa.Table:
    """Return the rows below a folder in an order of their own, whatever files they came in."""
    files = [p for p in sorted(folder.rglob("*.parquet")) if "_rejected" not in p.parts]
    table = pa.concat_tables([pq.ParquetFile(path).read() for path in files])
    order = [(name, "ascending") for name in table.column_names if name != "probability"]
    return table.sort_by(order)


# --- reading


@pytest.mark.parametrize(
    "path",
    [
        "rows",
        "rows/day=*/*.parquet",
        "rows/day=2026-11-0[12]",
        "rows/day=2026-11-01/part-0.parquet",
    ],
)
def test_parquet_by_folder_glob_and_file_gives_the_bits_of_local_files(
    s3_jobs: Jobs, bucket: Bucket, rows: Path, tmp_path: Path, path: str
) -> None:
    bucket.put_folder("rows", rows)
    more = {"model": {"k": 3}}
    there = s3_jobs.run("fit", fit(f"{bucket.uri}/{path}", f"{bucket.uri}/runs", **more))
    assert there.code == 0, there.err
    here = s3_jobs.run(
        "fit", fit(f"{rows.parent}/{path.replace('rows', rows.name)}", str(tmp_path), **more)
    )
    assert here.code == 0, here.err
    assert bucket.get("runs/run/model.json") == (tmp_path / "run" / "model.json").read_bytes()
    assert bucket.litter() == []


def test_a_partition_column_is_read_and_can_be_asked_for(
    s3_jobs: Jobs, bucket: Bucket, rows: Path, tmp_path: Path
) -> None:
    bucket.put_folder("rows", rows)
    more = {"input": {"where": "day = '2026-11-02'", "features": ["x", "y"]}}
    there = s3_jobs.run("fit", fit(f"{bucket.uri}/rows", f"{bucket.uri}/runs", **more))
    assert there.code == 0, there.err
    here = s3_jobs.run("fit", fit(str(rows), str(tmp_path), **more))
    assert here.code == 0, here.err
    assert json.loads(bucket.get("runs/run/metrics.json"))["rows_read"] == 1300
    assert bucket.get("runs/run/model.json") == (tmp_path / "run" / "model.json").read_bytes()


def test_csv_gives_the_bits_of_local_files_and_a_whole_run(
    run_on_s3: Callable[..., None], bucket: Bucket, local_model: bytes
) -> None:
    run_on_s3(run={"report": True})
    assert bucket.get("runs/run/model.json") == local_model
    assert bucket.get("runs/LATEST") == b"run\n"
    manifest = json.loads(bucket.get("runs/run/manifest.json"))
    listed = {f"runs/run/{entry['path']}" for entry in manifest["files"]}
    assert set(bucket.keys("runs/")) == {
        *listed,
        *("runs/run/manifest.json", "runs/LATEST", "runs/index.html"),
    }
    assert {"runs/run/report.html", "runs/run/plots/mixture.png"} <= listed
    assert bucket.litter() == []


def test_a_whole_bucket_can_be_the_output(
    s3_jobs: Jobs, bucket: Bucket, local_model: bytes
) -> None:
    done = s3_jobs.run("fit", fit(str(FAITHFUL), bucket.uri))
    assert done.code == 0, done.err
    assert bucket.get("run/model.json") == local_model
    assert bucket.get("LATEST") == b"run\n"


# --- runs


def test_a_run_that_exists_is_left_alone_and_replaced_with_overwrite(
    s3_jobs: Jobs, run_on_s3: Callable[..., None], bucket: Bucket, s3: S3
) -> None:
    run_on_s3()
    config = fit(f"{bucket.uri}/faithful.csv", f"{bucket.uri}/runs", model={"k": 3})
    s3.forget()
    again = s3_jobs.run("fit", config)
    assert again.code == 0
    assert "left alone" in again.err + again.out
    assert {request.operation for request in s3.asked()} <= {"HEAD", "GET", "LIST"}
    redone = s3_jobs.run("fit", config, "--overwrite")
    assert redone.code == 0, redone.err
    assert len(json.loads(bucket.get("runs/run/model.json"))["weights"]) == 3
    assert bucket.litter() == []


def test_invalid_rows_go_to_the_run_under_quarantine(s3_jobs: Jobs, bucket: Bucket) -> None:
    content = FAITHFUL.read_bytes() + b",70\n3.5,\n"
    bucket.put("dirty.csv", content)
    config = fit(
        f"{bucket.uri}/dirty.csv", f"{bucket.uri}/runs", input={"invalid_rows": "quarantine"}
    )
    done = s3_jobs.run("fit", config)
    assert done.code == 0, done.err
    rejected = [key for key in bucket.keys("runs/run/rejected/") if key.endswith(".parquet")]
    tables = [pq.read_table(pa.BufferReader(bucket.get(key))) for key in rejected]
    assert sum(table.num_rows for table in tables) == 2
    listed = {entry["path"] for entry in json.loads(bucket.get("runs/run/manifest.json"))["files"]}
    assert {key.removeprefix("runs/run/") for key in rejected} <= listed
    assert bucket.litter() == []


def chain(uri: str, nights: list[str], **model: Any) -> list[dict[str, Any]]:
    """Return the configurations of nights that follow each other."""
    return [
        {
            "input": {"path": f"{uri}/{night}.parquet"},
            "model": {"k": 3, **model},
            "drift": {"warn": {"appeared": 0}},
            "output": {"path": f"{uri}/runs", "run_id": night, "report": False, "keep_runs": 2},
        }
        for night in nights
    ]


@pytest.mark.parametrize("how", ["warm_start", "update"])
def test_nights_follow_each_other_as_on_local_files(
    s3_jobs: Jobs, bucket: Bucket, tmp_path: Path, how: str
) -> None:
    nights = ["n1", "n2", "n3"]
    for i, night in enumerate(nights):
        write_rows(tmp_path / f"{night}.parquet", n=600, seed=i)
        bucket.put(f"{night}.parquet", (tmp_path / f"{night}.parquet").read_bytes())
    for uri in (bucket.uri, str(tmp_path)):
        for config in chain(uri, nights, **{how: f"{uri}/runs"}):
            done = s3_jobs.run("fit", config)
            assert done.code == 0, done.err
    here = tmp_path / "runs"
    assert sorted(path.name for path in here.iterdir()) == ["LATEST", "n2", "n3"]
    there = {key.split("/")[1] for key in bucket.keys("runs/")}
    assert there == {"LATEST", "n2", "n3"}
    for night in nights[1:]:
        assert bucket.get(f"runs/{night}/model.json") == (here / night / "model.json").read_bytes()
        there_drift = json.loads(bucket.get(f"runs/{night}/drift.json"))
        here_drift = json.loads((here / night / "drift.json").read_text())
        assert there_drift["components"] == here_drift["components"]
    assert bucket.litter() == []


def test_a_driver_killed_after_passes_were_kept_goes_on_to_the_bits_of_local_files(
    s3_jobs: Jobs, other_s3_jobs: Jobs, s3: S3, bucket: Bucket, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30_000, 4))
    X[::3] += 0.8
    pq.write_table(pa.table({f"x{j}": X[:, j] for j in range(4)}), tmp_path / "rows.parquet")
    bucket.put("rows.parquet", (tmp_path / "rows.parquet").read_bytes())
    more = {"model": {"k": 5, "n_init": 2}}
    config = fit(f"{bucket.uri}/rows.parquet", f"{bucket.uri}/runs", **more)
    other_s3_jobs.hadoop()
    # passes are kept, and the store stops to answer when the run is to be published
    s3.rules({"fault": "hang", "operation": "PUT", "key": r"\.publishing$"})
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(other_s3_jobs.run, "fit", config)
        until(lambda: s3.met() == [1], killed)
        other_s3_jobs.kill()
        with pytest.raises(EOFError):
            killed.result()
    s3.rules()
    assert "runs/run/state/000000.passes" in bucket.keys("runs/run/state/")
    assert "runs/run/manifest.json" not in bucket.keys("runs/run/")
    s3.forget()
    resumed = s3_jobs.run("fit", config)
    assert resumed.code == 0, resumed.err
    assert "goes on" in resumed.err
    here = s3_jobs.run("fit", fit(str(tmp_path / "rows.parquet"), str(tmp_path / "runs"), **more))
    assert here.code == 0, here.err
    there = bucket.get("runs/run/model.json")
    assert there == (tmp_path / "runs" / "run" / "model.json").read_bytes()
    assert bucket.litter() == []


def test_two_jobs_with_one_run_id_leave_one_whole_run(
    s3_jobs: Jobs, other_s3_jobs: Jobs, bucket: Bucket, local_model: bytes
) -> None:
    bucket.put("faithful.csv", FAITHFUL.read_bytes())
    config = fit(f"{bucket.uri}/faithful.csv", f"{bucket.uri}/runs")
    other_s3_jobs.hadoop()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(jobs.run, "fit", config) for jobs in (s3_jobs, other_s3_jobs)]
    done = [job.result() for job in both]
    assert [job.code for job in done] == [0, 0], [job.err for job in done]
    assert bucket.get("runs/run/model.json") == local_model
    assert bucket.get("runs/LATEST") == b"run\n"
    listed = json.loads(bucket.get("runs/run/manifest.json"))["files"]
    assert len(bucket.keys("runs/run/")) == len(listed) + 1
    assert bucket.litter() == []


# --- scoring


@pytest.fixture
def scores(s3_jobs: Jobs, run_on_s3: Callable[..., None], bucket: Bucket) -> Callable[..., Any]:
    """A function that scores a file of the bucket by the model that was fitted there."""
    run_on_s3()

    def score(path: str, mode: str, hadoop: Any = None, **given: Any) -> Any:
        config = {
            "input": {"path": path, "options": {"header": True}, **given},
            "model": f"{bucket.uri}/runs",
            "output": {"path": f"{bucket.uri}/scored", "mode": mode},
        }
        return s3_jobs.run("score", config, hadoop=hadoop)

    return score


def test_rows_are_scored_in_every_mode_as_on_local_files(
    s3_jobs: Jobs, scores: Callable[..., Any], bucket: Bucket, tmp_path: Path
) -> None:
    path = f"{bucket.uri}/faithful.csv"
    assert scores(path, "error").code == 0
    first = bucket.keys("scored/")
    refused = scores(path, "error")
    assert refused.code == 2
    assert len(refused.errors) == 1
    assert bucket.keys("scored/") == first
    model = bucket.fetch("runs", tmp_path / "runs")
    local = {"input": CSV, "model": str(model), "output": {"path": str(tmp_path / "scored")}}
    assert s3_jobs.run("score", local).code == 0
    expected = table_of(tmp_path / "scored")
    assert table_of(bucket.fetch("scored", tmp_path / "once")).equals(expected)

    assert scores(path, "append").code == 0
    twice = table_of(bucket.fetch("scored", tmp_path / "twice"))
    assert twice.num_rows == 2 * expected.num_rows
    assert scores(path, "overwrite").code == 0
    again = bucket.keys("scored/")
    assert not set(again) & {key for key in first if key.endswith(".parquet")}
    assert table_of(bucket.fetch("scored", tmp_path / "again")).equals(expected)
    assert bucket.litter() == []


def test_invalid_rows_of_a_score_go_beside_the_rows(
    scores: Callable[..., Any], bucket: Bucket, tmp_path: Path
) -> None:
    bucket.put("dirty.csv", FAITHFUL.read_bytes() + b",70\n")
    done = scores(f"{bucket.uri}/dirty.csv", "error", invalid_rows="quarantine")
    assert done.code == 0, done.err
    scored = bucket.fetch("scored", tmp_path)
    assert table_of(scored).num_rows == 272
    rejected = list((scored / "_rejected").glob("*.parquet"))
    assert sum(pq.ParquetFile(path).metadata.num_rows for path in rejected) == 1
    assert bucket.litter() == []


# --- the README


def test_the_readmes_configuration_runs_as_it_stands(s3_jobs: Jobs, s3: S3, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"## Your own table.*?```yaml\n(.*?)```", text, flags=re.DOTALL)
    assert found is not None
    given = yaml.safe_load(found[1])
    assert given["input"]["path"] == "s3a://bucket/trips/*.parquet"
    bucket = Bucket(s3, "bucket")
    rng = np.random.default_rng(0)
    for i in range(2):
        size = rng.choice([1.0, 5.0], 500)
        columns = {name: size + rng.standard_normal(500) for name in given["input"]["features"]}
        columns["duration"][0] = np.nan
        pq.write_table(pa.table({**columns, "note": ["trip"] * 500}), tmp_path / "trips.parquet")
        bucket.put(f"trips/{i}.parquet", (tmp_path / "trips.parquet").read_bytes())
    path = tmp_path / "trips.yaml"
    path.write_text(found[1], encoding="utf-8")
    done = s3_jobs.main("fit", "--config", str(path))
    assert done.code == 0, done.err
    run_id = bucket.get("mixtures/trips/LATEST").decode().strip()
    metrics = json.loads(bucket.get(f"mixtures/trips/{run_id}/metrics.json"))
    assert (metrics["rows_used"], metrics["rows_invalid"]) == (1000, 0)  # missing: model
    assert metrics["missing_by_column"] == {"distance": 0, "duration": 2, "fare": 0}
    assert any(key.endswith("report.html") for key in bucket.keys(f"mixtures/trips/{run_id}/"))
    assert bucket.litter() == []
