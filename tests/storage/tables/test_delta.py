"""Delta tables as input: which rows are read, and that they stay the same."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from helpers.table_jobs import Jobs, draw, stopped_fit, written_while_it_is_read

pytestmark = pytest.mark.storage


def test_a_table_gives_the_same_bits_as_its_files_by_path_and_by_name(
    jobs: Jobs, spark: Any
) -> None:
    path, files = jobs.folder / "trips", jobs.folder / "files"
    jobs.frame(draw(), n_files=3).write.format("delta").save(str(path))
    shutil.copytree(path, files, ignore=shutil.ignore_patterns("_delta_log", ".*"))
    before = jobs.fit("parquet", path=str(files))
    spark.sql(f"CREATE TABLE db.trips USING delta LOCATION '{path}'")

    found = jobs.fit("found", path=str(path))  # its format is found by its log
    named = jobs.fit("named", table="db.trips")
    spelled = jobs.fit("spelled", table="spark_catalog.db.trips")

    assert found.model == before.model
    assert named.model == before.model
    assert spelled.model == before.model
    assert found.input == {"path": str(path), "format": "delta", "version": 0}
    assert named.input == {"table": "db.trips", "format": "delta", "version": 0}


def test_a_version_and_a_time_choose_the_rows(jobs: Jobs, spark: Any) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(1000)).write.format("delta").save(path)
    jobs.frame(draw(500, seed=1)).write.format("delta").mode("append").save(path)
    row = spark.sql(f"DESCRIBE HISTORY delta.`{path}`").where("version = 0").first()
    spark.sql(f"CREATE TABLE db.timed USING delta LOCATION '{path}'")

    now = jobs.fit("now", path=path, format="delta")
    first = jobs.fit("first", path=path, format="delta", options={"versionAsOf": 0})
    then = jobs.fit("then", table="db.timed", options={"timestampasof": str(row["timestamp"])})

    assert (now.rows, now.input["version"]) == (1500, 1)
    assert (first.rows, first.input["version"]) == (1000, 0)
    assert (then.rows, then.input["version"]) == (1000, 0)
    assert then.model == first.model


def test_rows_under_deletion_vectors_do_not_count(jobs: Jobs, spark: Any) -> None:
    rows = draw(2000)
    path = str(jobs.folder / "t")
    jobs.frame(rows).write.format("delta").option("delta.enableDeletionVectors", True).save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id % 7 = 0")
    spark.sql(f"UPDATE delta.`{path}` SET x = x + 1 WHERE id % 7 = 1")
    assert list(Path(path).glob("deletion_vector*")), "the table has no deletion vectors"

    table = jobs.fit("table", path=path)

    left = rows.filter(pc.not_equal(remainder(rows["id"], 7), 0))
    moved = pc.equal(remainder(left["id"], 7), 1)
    x = pc.if_else(moved, pc.add(left["x"], 1.0), left["x"])
    truth = jobs.fit("truth", path=jobs.parquet("truth", left.set_column(1, "x", x), 1))
    assert table.rows == left.num_rows
    assert table.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)


def remainder(values: Any, by: int) -> Any:
    return pc.subtract(values, pc.multiply(pc.divide(values, by), by))


def test_columns_under_a_mapping_are_read_by_the_names_of_the_version(
    jobs: Jobs, spark: Any
) -> None:
    path = jobs.folder / "t"
    mapped = jobs.frame(draw(1000).rename_columns(["id", "a", "y", "day"])).write.format("delta")
    mapped.option("delta.columnMapping.mode", "name").save(str(path))
    file = next(path.rglob("part-*.parquet"))
    assert "a" not in pq.read_schema(file).names, "the files have the names of the table"
    spark.sql(f"ALTER TABLE delta.`{path}` RENAME COLUMN a TO x")
    spark.sql(f"ALTER TABLE delta.`{path}` DROP COLUMN id")

    table = jobs.fit("table", path=str(path))
    old = jobs.fit("old", path=str(path), options={"versionAsOf": 0}, features=["a", "y"])

    truth = jobs.fit("truth", path=jobs.parquet("truth", draw(1000), 1))
    assert table.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)
    assert old.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)
    assert (table.input["version"], old.input["version"]) == (2, 0)
    message = jobs.refused(lambda: jobs.fit("no", path=str(path), features=["x", "id"]), 3)
    assert "'id'" in message


def test_partition_columns_can_be_asked_for_and_filtered_by(jobs: Jobs) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(1000)).write.format("delta").partitionBy("day").save(path)

    table = jobs.fit("table", path=path, where="day = '2026-11-02'")

    rows = draw(1000).filter(pc.equal(draw(1000)["day"], "2026-11-02"))
    truth = jobs.fit("truth", path=jobs.parquet("truth", rows, 1))
    assert table.rows == 500
    assert table.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)


def test_a_table_that_is_written_to_keeps_its_version_when_blocks_are_made_again(
    jobs: Jobs, passes_as_jobs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(20000)).write.format("delta").save(path)
    quiet = jobs.fit("quiet", path=path)
    made = written_while_it_is_read(
        monkeypatch,
        lambda: jobs.frame(draw(700, seed=1)).write.format("delta").mode("append").save(path),
    )

    busy = jobs.fit("busy", path=path)

    assert made == ["again"]
    assert busy.model == quiet.model
    assert busy.input["version"] == 0
    assert jobs.fit("after", path=path).rows == 20700


def test_a_run_goes_on_with_the_version_that_it_was_begun_with(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(2000)).write.format("delta").save(path)
    whole = jobs.fit("whole", path=path)
    stopped_fit(jobs, "stopped", path=path)
    for seed in range(1, 13):  # past a checkpoint of the log
        jobs.frame(draw(10, seed)).write.format("delta").mode("append").save(path)
    assert list((Path(path) / "_delta_log").glob("*.checkpoint*.parquet"))
    capsys.readouterr()

    gone_on = jobs.fit("stopped", path=path)

    assert "goes on after pass" in capsys.readouterr().err
    assert gone_on.model == whole.model
    assert gone_on.input["version"] == 0


def test_a_run_whose_version_was_vacuumed_says_so_and_begins_anew_when_told_to(
    jobs: Jobs, spark: Any
) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(2000)).write.format("delta").save(path)
    stopped_fit(jobs, "stopped", path=path)
    jobs.frame(draw(900, seed=1)).write.format("delta").mode("overwrite").save(path)
    spark.sql(f"VACUUM delta.`{path}` RETAIN 0 HOURS")

    message = jobs.refused(lambda: jobs.fit("stopped", path=path), 3)

    assert "version 0" in message
    assert "VACUUM" in message
    assert jobs.fit("stopped", overwrite=True, path=path).rows == 900


def test_the_night_is_a_range_of_the_change_feed(jobs: Jobs, spark: Any) -> None:
    """Update, warm start and drift read what was written since the last run, and count it once."""
    path = str(jobs.folder / "t")
    first, second = draw(2000), draw(1500, seed=1)
    feed = jobs.frame(first).write.format("delta").option("delta.enableChangeDataFeed", True)
    feed.save(path)
    monday = jobs.fit("monday", path=path, drift={})
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id < 100")  # version 1: not of this night
    jobs.frame(second.slice(0, 700)).write.format("delta").mode("append").save(path)
    jobs.frame(second.slice(700)).write.format("delta").mode("append").save(path)
    spark.sql(f"DELETE FROM delta.`{path}` WHERE id BETWEEN 1500 AND 1509")  # these rows are older
    night = {"readChangeFeed": True, "startingVersion": 2}
    root = str(jobs.folder / "runs")

    updated = jobs.fit("updated", path=path, options=night, model={"update": root}, drift={})
    warm = jobs.fit(
        "warm",
        path=path,
        options={**night, "endingVersion": 3},
        model={"warm_start": str(monday.path)},
        drift={"against": str(monday.path)},
    )

    assert updated.rows == warm.rows == 1500
    assert updated.input["start_version"] == 2
    assert updated.input["version"] == 4
    assert warm.input["version"] == 3
    assert updated.read("manifest.json")["updated_from"]["run_id"] == "monday"
    assert updated.read("metrics.json")["history_rows"] == 2000
    assert warm.read("drift.json")["against"]["run_id"] == "monday"
    cold = jobs.fit(
        "cold",
        path=jobs.parquet("second", second, 1),
        model={"warm_start": str(monday.path)},
    )
    assert warm.log_likelihood == pytest.approx(cold.log_likelihood, rel=1e-9)


def test_default_features_are_those_of_the_table_and_not_of_its_change_feed(jobs: Jobs) -> None:
    path = str(jobs.folder / "t")
    rows = draw(600).select(["x", "y"])
    jobs.frame(rows).write.format("delta").option("delta.enableChangeDataFeed", True).save(path)
    options = {"readChangeFeed": True, "startingVersion": 0}

    run = jobs.fit("run", path=path, format="delta", options=options, features=None)

    assert run.read("model.json")["features"] == ["x", "y"]


def test_a_table_of_parquet_and_a_view_are_read_by_name(jobs: Jobs, spark: Any) -> None:
    rows = draw(1000)
    jobs.frame(rows).write.saveAsTable("db.plain")
    spark.sql("CREATE VIEW db.half AS SELECT * FROM db.plain WHERE id < 400")
    spark.table("db.plain").where("id < 300").createOrReplaceTempView("third")

    plain = jobs.fit("plain", table="db.plain")

    assert plain.rows == 1000
    assert plain.input["table"] == "db.plain"
    assert len(plain.input["files"]) == 1
    assert jobs.fit("half", table="db.half").rows == 400
    assert jobs.fit("third", table="third").rows == 300
    assert "table db.plain: 1 file(s)" in jobs.plan(table="db.plain")


def test_what_cannot_be_read_is_said_in_one_line(jobs: Jobs, spark: Any) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(300)).write.format("delta").save(path)
    spark.sql(f"CREATE TABLE db.journeys USING delta LOCATION '{path}'")
    (jobs.folder / "empty").mkdir()

    def refused(code: int, **source: Any) -> str:
        return jobs.refused(lambda: jobs.fit("no", **source), code)

    said = refused(3, path=path, options={"versionAsOf": 9}, format="delta")
    assert "9" in said
    assert "[0" in said  # the versions that there are
    assert "db.journeys" in refused(3, table="db.journeys", options={"versionAsOf": 9})
    assert "as of 2020" in refused(3, table="db.journeys", options={"timestampAsOf": "2020-01-01"})
    assert "did you mean 'journeys'" in refused(3, table="db.journey")
    assert "input.table 'nodb.t' does not exist" in refused(3, table="nodb.t")
    assert "spark.sql.catalog.NAME" in refused(2, table="nowhere.db.t")
    assert "versionAsOf" in refused(2, table="db.journeys", options={"versionAsOf": "x"})
    assert "startingVersion" in refused(2, path=path, options={"readChangeFeed": True})
    feed = {"readChangeFeed": True, "startingVersion": 0}
    assert "enableChangeDataFeed" in refused(3, path=path, options=feed)
    assert "input.format to delta" in refused(2, path=path, format="parquet")
    assert "one path" in refused(2, path=[path, path], format="delta")
    refused(3, path=str(jobs.folder / "empty"), format="delta")
    refused(3, path=str(jobs.folder / "missing"), format="delta")
    assert not (jobs.folder / "runs" / "no" / "manifest.json").exists()


def test_the_files_of_a_table_are_not_read_without_its_log(jobs: Jobs, spark: Any) -> None:
    """They hold rows that were deleted."""
    rows = jobs.frame(draw(400)).selectExpr("*", "x < 0 AS half")
    for name in ("t.v1", "parted.parquet"):
        path = str(jobs.folder / name)
        writer = rows.write.format("delta")
        (writer.partitionBy("half") if name.startswith("parted") else writer).save(path)
        spark.sql(f"DELETE FROM delta.`{path}` WHERE y < 0")
        below = "half=true" if name.startswith("parted") else "*.parquet"
        for place in (path, f"{path}/*", f"{path}/{below}", [f"{path}/{below}"]):
            said = jobs.refused(lambda: jobs.fit("no", path=place, format="parquet"), 2)  # noqa: B023
            assert path in said
            assert "input.format to delta" in said


def test_the_plan_names_the_table_and_the_version(jobs: Jobs) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(300)).write.format("delta").save(path)
    jobs.frame(draw(300)).write.format("delta").mode("append").save(path)

    assert f"reads    the table at {path} (Delta), version 1" in jobs.plan(path=path)


def test_a_comparison_reads_the_same_version(jobs: Jobs) -> None:
    from sparkgmm.runs.compare_job import run_compare
    from sparkgmm.runs.config import CompareConfig
    from sparkgmm.runs.terminal import Terminal

    path = str(jobs.folder / "t")
    jobs.frame(draw(600)).write.format("delta").save(path)
    jobs.frame(draw(600, seed=1)).write.format("delta").mode("append").save(path)
    values = {
        "input": {"path": path, "features": ["x", "y"], "options": {"versionAsOf": 0}},
        "model": {"k": 3, "n_init": 2},
        "compare": {"peers": ["kmeans"]},
        "output": {"path": str(jobs.folder / "compared")},
    }

    run_compare(jobs.spark, jobs.config(CompareConfig, values), Terminal())

    text = (jobs.folder / "compared" / "compare.json").read_text()
    assert '"rows": 600' in text


def test_a_table_that_was_dropped_and_made_anew_is_not_taken_for_the_old_one(jobs: Jobs) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(2000)).write.format("delta").save(path)
    stopped_fit(jobs, "stopped", path=path)
    shutil.rmtree(path)
    jobs.frame(draw(2000, seed=5)).write.format("delta").save(path)

    message = jobs.refused(lambda: jobs.fit("stopped", path=path), 3)

    assert "changed since run 'stopped' was begun" in message
