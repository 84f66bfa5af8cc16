"""Jobs on tables as users start them: by spark-submit, with the package and its settings."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from helpers.scenarios import Done
from helpers.table_jobs import DELTA, ICEBERG, Jobs, Run, Submit, draw

pytestmark = pytest.mark.storage

DELTA_SETTINGS = {
    "spark.sql.extensions": DELTA,
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}


def fit_of(folder: Path, run_id: str, source: dict[str, Any], **model: Any) -> dict[str, Any]:
    return {
        "input": {"features": ["x", "y"], **source},
        "model": {"k": 3, "n_init": 2, **model},
        "output": {"path": str(folder / "runs"), "run_id": run_id, "report": False},
    }


def one_line(done: Done, code: int) -> str:
    assert done.code == code, done.err
    [line] = done.errors
    assert "\tat " not in done.err
    assert "Traceback" not in done.err
    return line


def test_a_job_killed_while_its_table_is_written_to_goes_on_to_the_same_bits(
    jobs: Jobs, submit: Submit
) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(60000)).write.format("delta").save(path)
    slow = {"tol": 1e-13, "max_iter": 60}
    how: Any = {
        "jar_names": ("delta",),
        "confs": {**DELTA_SETTINGS, "spark.sparkgmm.driverBytes": 1},
    }
    killed = fit_of(jobs.folder, "killed", {"path": path}, **slow)
    first = submit.start("fit", killed, **how)
    state = jobs.folder / "runs" / "killed" / "state"
    deadline = time.monotonic() + 150
    while not list(state.glob("*.passes")):
        assert first.poll() is None, first.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    for seed in range(1, 12):
        jobs.frame(draw(50, seed)).write.format("delta").mode("append").save(path)

    whole = fit_of(jobs.folder, "whole", {"path": path, "options": {"versionAsOf": 0}}, **slow)
    with ThreadPoolExecutor(2) as pool:
        done, other = pool.map(lambda values: submit.run("fit", values, **how), (killed, whole))

    assert done.code == 0, done.err
    assert other.code == 0, other.err
    assert "goes on after pass" in done.err
    again, truth = Run(jobs.folder / "runs" / "killed"), Run(jobs.folder / "runs" / "whole")
    assert again.model == truth.model
    assert again.input == {"path": path, "format": "delta", "version": 0}


def test_an_iceberg_catalog_is_fitted_and_scored_by_names(jobs: Jobs, submit: Submit) -> None:
    jobs.spark.sql("DROP TABLE IF EXISTS ice.db.submitted")
    jobs.frame(draw(900)).writeTo("ice.db.submitted").create()
    warehouse = jobs.spark.conf.get("spark.sql.catalog.ice.warehouse")
    how: Any = {
        "jar_names": ("iceberg",),
        "confs": {
            "spark.sql.extensions": ICEBERG,
            "spark.sql.catalog.ice": "org.apache.iceberg.spark.SparkCatalog",
            "spark.sql.catalog.ice.type": "hadoop",
            "spark.sql.catalog.ice.warehouse": warehouse,
        },
    }
    values = fit_of(jobs.folder, "named", {"table": "ice.db.submitted"})
    fitted = submit.run("fit", values, **how)
    assert fitted.code == 0, fitted.err
    score = {
        "input": {"table": "ice.db.submitted"},
        "model": str(jobs.folder / "runs"),
        "output": {"table": "ice.db.submitted_scored"},
    }

    scored = submit.run("score", score, **how)

    assert scored.code == 0, scored.err
    assert "ice.db.submitted_scored, snapshot " in scored.out
    jobs.spark.sql("REFRESH TABLE ice.db.submitted")
    assert jobs.spark.table("ice.db.submitted_scored").count() == 900
    snapshot = Run(jobs.folder / "runs" / "named").input["snapshot_id"]
    assert jobs.spark.table("ice.db.submitted.snapshots").first()["snapshot_id"] == snapshot


def test_what_spark_lacks_or_cannot_load_is_named_with_the_remedy(
    jobs: Jobs, submit: Submit
) -> None:
    """Without the package, without its settings, and on a Spark that it was not made for."""
    path = str(jobs.folder / "t")
    jobs.frame(draw(100)).write.format("delta").save(path)
    jobs.spark.sql("DROP TABLE IF EXISTS ice.db.lacking")
    jobs.frame(draw(100)).writeTo("ice.db.lacking").create()
    ice = f"{jobs.spark.conf.get('spark.sql.catalog.ice.warehouse')}/db/lacking"
    newer: Any = {"environment": ".venv", "confs": DELTA_SETTINGS}
    cases: list[tuple[str, dict[str, Any]]] = [
        (path, {"jar_names": ()}),
        (ice, {"jar_names": ()}),
        (path, {"jar_names": ("delta",)}),
        (path, {"jar_names": ("delta",), **newer}),
        (ice, {"jar_names": ("iceberg",), "environment": ".venv"}),
        (path, {"jar_names": (), "confs": DELTA_SETTINGS}),
    ]

    def run(number: int) -> Done:
        place, how = cases[number]
        return submit.run("fit", fit_of(jobs.folder, f"no{number}", {"path": place}), **how)

    with ThreadPoolExecutor(2) as pool:
        lines = [one_line(done, 2) for done in pool.map(run, range(len(cases)))]

    assert "--packages io.delta:delta-spark_4.1_2.13:" in lines[0]
    assert "spark.sql.extensions=" + DELTA in lines[0]
    assert "--packages org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:" in lines[1]
    assert "spark.sql.catalog.spark_catalog=" in lines[2]
    assert "Delta" in lines[3]
    assert "does not fit Spark 4.3" in lines[3]
    assert "Iceberg" in lines[4]
    assert "does not fit Spark 4.3" in lines[4]
    assert "--packages" in lines[5]
    assert not list((jobs.folder / "runs").glob("*/manifest.json"))


def test_a_metastore_names_delta_tables_to_jobs(jobs: Jobs, submit: Submit) -> None:
    """db.trips of a Hive metastore, as a cluster has it: made by one job, fitted by another."""
    confs = {
        **DELTA_SETTINGS,
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": str(jobs.folder / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": (
            f"jdbc:derby:;databaseName={jobs.folder}/metastore;create=true"
        ),
    }
    how: Any = {"jar_names": ("delta",), "confs": confs}
    first = submit.run(
        "fit", fit_of(jobs.folder, "files", {"path": jobs.parquet("rows", draw(600))})
    )
    assert first.code == 0, first.err
    score = {
        "input": {"path": str(jobs.folder / "rows")},
        "model": str(jobs.folder / "runs"),
        "output": {"table": "default.trips", "format": "delta"},
    }
    scored = submit.run("score", score, **how)
    assert scored.code == 0, scored.err

    fitted = submit.run("fit", fit_of(jobs.folder, "named", {"table": "default.trips"}), **how)

    assert fitted.code == 0, fitted.err
    run = Run(jobs.folder / "runs" / "named")
    assert run.rows == 600
    assert run.input == {"table": "default.trips", "format": "delta", "version": 0}
