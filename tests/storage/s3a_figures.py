"""Prints what S3A costs beside local files, for docs/deploy.md.

    .venv/bin/python tests/storage/s3a_figures.py

A fit of 1,000,000 rows of 10 columns in Parquet (eight files), k = 3, with its report, by local
files and by the S3 server of the tests, which answers at once or 30 ms later; and a fit and a score
of data/faithful.csv.
"""

from __future__ import annotations

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from helpers.s3_store import S3, Bucket
from helpers.session_jobs import ROOT, Jobs

FAITHFUL = ROOT / "data" / "faithful.csv"


def make_rows(folder: Path) -> Path:
    """Write the table, and return its folder."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        n = 121_500 + 1000 * i  # files of one size would be read in another order
        X = rng.standard_normal((n, 10)) + 6 * rng.integers(3, size=(n, 1))
        table = pa.table({f"x{j}": X[:, j] for j in range(10)})
        pq.write_table(table, folder / f"{i}.parquet")
    return folder


def figures(jobs: Jobs, source: Any, root: str, metrics_at: Any) -> list[str]:
    """Fit, and return the seconds to read, of the passes, to publish, and of all."""
    output = {"path": root, "run_id": "run"}
    config = {"input": source, "model": {"k": 3, "n_init": 2}, "output": output}
    done = jobs.run("fit", config)
    assert done.code == 0, done.err
    steps = json.loads(metrics_at())["seconds_by_step"]
    publish = done.seconds - sum(steps.values())
    seconds = (steps["read"], steps["fit"], steps["report"], publish, done.seconds)
    return [f"{value:.1f}" for value in seconds]


def measured(jobs: Jobs, server: S3, place: tuple[Path, str, Any], n: int) -> list[list[str]]:
    """Return the lines of a table, and make sure that all its fits found the same bits."""
    path, key, more = place
    root = jobs.folder / f"runs-{n}"
    source = {"path": str(path), **more}
    model = root / "run" / "model.json"
    local = figures(jobs, source, str(root), (root / "run" / "metrics.json").read_bytes)
    lines = [["local files", *local, ""]]
    for milliseconds in (0, 30):
        bucket = Bucket(server, f"figures-{n}-{milliseconds}")
        if path.is_dir():
            bucket.put_folder(key, path)
        else:
            bucket.put(key, path.read_bytes())
        server.rules({"fault": "delay", "seconds": milliseconds / 1000})
        server.forget()
        source = {"path": f"{bucket.uri}/{key}", **more}
        found = figures(
            jobs, source, f"{bucket.uri}/runs", partial(bucket.get, "runs/run/metrics.json")
        )
        requests = server.counts().total()
        server.rules()
        lines.append([f"S3A, {milliseconds} ms a request", *found, str(requests)])
        assert bucket.get("runs/run/model.json") == model.read_bytes()
    return lines


def main() -> None:
    """Measure and print a table in Markdown."""
    server = S3()
    with tempfile.TemporaryDirectory() as name:
        jobs = Jobs(Path(name) / "jobs", server.confs())
        rows = make_rows(Path(name) / "rows")
        tables = {
            "1,000,000 x 10, Parquet": (rows, "rows", {}),
            "faithful, CSV": (FAITHFUL, "faithful.csv", {"options": {"header": True}}),
        }
        measured(jobs, server, tables["faithful, CSV"], 0)  # a JVM is slow at first
        print("| table | on | read | fit | report | publish | all | requests |")
        print("|---" * 8 + "|")
        for n, (title, place) in enumerate(tables.items(), 1):
            for line in measured(jobs, server, place, n):
                print("| " + " | ".join([title, *line]) + " |", flush=True)
        jobs.stop()
    server.stop()


if __name__ == "__main__":
    main()
