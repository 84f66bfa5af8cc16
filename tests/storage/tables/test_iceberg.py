"""Iceberg tables as input: which rows are read, and that they stay the same."""

from __future__ import annotations

from typing import Any

import pyarrow.compute as pc
import pytest
from pyspark.sql import functions as F

from helpers.table_jobs import Jobs, draw, stopped_fit, written_while_it_is_read

pytestmark = pytest.mark.storage


def made(jobs: Jobs, name: str, *parts: Any, **properties: str) -> str:
    """Make a table of parts, each of which is a snapshot, and return its name."""
    table = f"ice.db.{name}"
    jobs.spark.sql(f"DROP TABLE IF EXISTS {table}")
    first, *more = parts
    writer = jobs.frame(first).writeTo(table).using("iceberg")
    for key, value in properties.items():
        writer = writer.tableProperty(key.replace("_", "."), value)
    writer.create()
    for rows in more:
        jobs.frame(rows).writeTo(table).append()
    return table


def snapshots(jobs: Jobs, table: str) -> list[int]:
    rows = jobs.spark.table(f"{table}.snapshots").orderBy("committed_at").collect()
    return [int(row["snapshot_id"]) for row in rows]


def path_of(jobs: Jobs, table: str) -> str:
    warehouse = jobs.spark.conf.get("spark.sql.catalog.ice.warehouse")
    return f"{warehouse}/{table.removeprefix('ice.').replace('.', '/')}"


def test_the_rows_of_a_table_by_name_and_by_path_are_those_of_parquet(jobs: Jobs) -> None:
    table = made(jobs, "plain", draw(1500), draw(1500, seed=1))
    now = snapshots(jobs, table)[-1]

    named = jobs.fit("named", table=table)
    found = jobs.fit("found", path=path_of(jobs, table))  # its format is found by its metadata

    assert named.rows == 3000
    assert named.input == {"table": table, "format": "iceberg", "snapshot_id": now}
    assert found.input["format"] == "iceberg"
    assert found.model == named.model
    both = jobs.folder / "both"
    jobs.parquet("both", draw(1500), 1)
    jobs.parquet("other", draw(1500, seed=1), 1)
    (jobs.folder / "other" / "part-0.parquet").rename(both / "part-1.parquet")
    truth = jobs.fit("truth", path=str(both))
    assert named.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)


def test_snapshots_are_chosen_by_the_names_of_both_formats(jobs: Jobs) -> None:
    table = made(jobs, "timed", draw(600), draw(300, seed=1))
    first, second = snapshots(jobs, table)
    jobs.spark.sql(f"ALTER TABLE {table} CREATE TAG early AS OF VERSION {first}")
    history = jobs.spark.table(f"{table}.history")
    at = history.where(f"snapshot_id = {first}").first()["made_current_at"]
    milliseconds = int(at.timestamp() * 1000) + 1

    for number, options in enumerate(
        [
            {"versionAsOf": first},
            {"snapshot-id": first},
            {"tag": "early"},
            {"versionAsOf": "early"},
            {"timestampAsOf": str(at)},
            {"as-of-timestamp": milliseconds},
        ]
    ):
        run = jobs.fit(f"first{number}", table=table, options=options)
        assert (run.rows, run.input["snapshot_id"]) == (600, first), options
    assert jobs.fit("now", table=table).input["snapshot_id"] == second


def test_rows_deleted_by_merge_on_read_do_not_count(jobs: Jobs) -> None:
    rows = draw(2000)
    table = made(jobs, "mor", rows, write_delete_mode="merge-on-read")
    jobs.spark.sql(f"DELETE FROM {table} WHERE id >= 1200")
    deletes = jobs.spark.table(f"{table}.files").where("content <> 0").count()
    assert deletes, "the table has no files of deletes"

    run = jobs.fit("run", table=table)

    truth = jobs.fit("truth", path=jobs.parquet("truth", rows.slice(0, 1200), 1))
    assert run.rows == 1200
    assert run.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)


def test_columns_have_the_names_that_the_table_has_now(jobs: Jobs) -> None:
    """A change of names makes no snapshot: the last one still has the old ones."""
    table = made(jobs, "renamed", draw(600).rename_columns(["id", "a", "x", "day"]))
    jobs.spark.sql(f"ALTER TABLE {table} RENAME COLUMN x TO y")
    jobs.spark.sql(f"ALTER TABLE {table} RENAME COLUMN a TO x")
    jobs.spark.sql(f"ALTER TABLE {table} ADD COLUMN later double")
    jobs.spark.sql(f"ALTER TABLE {table} DROP COLUMN id")

    run = jobs.fit("run", table=table)

    truth = jobs.fit("truth", path=jobs.parquet("truth", draw(600), 1))
    assert run.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)
    assert "'id'" in jobs.refused(lambda: jobs.fit("no", table=table, features=["id"]), 3)
    old = jobs.fit(
        "old", table=table, options={"versionAsOf": run.input["snapshot_id"]}, features=["a", "x"]
    )
    assert old.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)


def test_partition_columns_can_be_filtered_by(jobs: Jobs) -> None:
    jobs.spark.sql("DROP TABLE IF EXISTS ice.db.parted")
    jobs.spark.sql(
        "CREATE TABLE ice.db.parted (id bigint, x double, y double, day string) USING iceberg "
        "PARTITIONED BY (day, bucket(4, id))"
    )
    jobs.frame(draw(1000)).writeTo("ice.db.parted").append()

    run = jobs.fit("run", table="ice.db.parted", where="day = '2026-11-01'")

    rows = draw(1000).filter(pc.equal(draw(1000)["day"], "2026-11-01"))
    truth = jobs.fit("truth", path=jobs.parquet("truth", rows, 1))
    assert run.rows == 500
    assert run.log_likelihood == pytest.approx(truth.log_likelihood, rel=1e-9)


def test_many_manifests_and_other_numbers_of_cores_give_the_same_bits(jobs: Jobs) -> None:
    """Iceberg would list the files in the order in which its threads find them."""
    table = made(jobs, "many", *(draw(100 + 10 * seed, seed) for seed in range(12)))
    manifests = jobs.spark.table(f"{table}.manifests").count()
    assert manifests > 4

    first = jobs.fit("first", table=table)
    jobs.spark.conf.set("spark.sql.shuffle.partitions", 64)  # by this Iceberg would choose splits
    try:
        second = jobs.fit("second", table=table)
    finally:
        jobs.spark.conf.set("spark.sql.shuffle.partitions", 2)

    assert second.model == first.model


def test_a_table_that_is_written_to_keeps_its_snapshot_when_blocks_are_made_again(
    jobs: Jobs, passes_as_jobs: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = made(jobs, "busy", draw(20000))
    quiet = jobs.fit("quiet", table=table)
    again = written_while_it_is_read(
        monkeypatch, lambda: jobs.frame(draw(700, seed=1)).writeTo(table).append()
    )

    busy = jobs.fit("busy", table=table)

    assert again == ["again"]
    assert busy.model == quiet.model
    assert busy.input == quiet.input


def test_a_run_goes_on_with_its_snapshot_and_says_when_that_has_expired(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    table = made(jobs, "stopped", draw(2000))
    whole = jobs.fit("whole", table=table)
    stopped_fit(jobs, "stopped", table=table)
    stopped_fit(jobs, "expired", table=table)
    jobs.frame(draw(500, seed=1)).writeTo(table).overwrite(F.lit(True))
    capsys.readouterr()

    gone_on = jobs.fit("stopped", table=table)

    assert "goes on after pass" in capsys.readouterr().err
    assert gone_on.model == whole.model
    assert gone_on.input == whole.input
    jobs.spark.sql(
        "CALL ice.system.expire_snapshots(table => 'db.stopped', "
        "older_than => TIMESTAMP '2100-01-01 00:00:00', retain_last => 1)"
    )
    message = jobs.refused(lambda: jobs.fit("expired", table=table), 3)
    assert str(whole.input["snapshot_id"]) in message
    assert "--overwrite" in message
    assert jobs.fit("expired", overwrite=True, table=table).rows == 500


def test_the_night_is_what_was_appended_between_snapshots(jobs: Jobs) -> None:
    table = made(jobs, "nightly", draw(2000), draw(700, seed=1), draw(800, seed=2))
    monday, _, wednesday = snapshots(jobs, table)
    root = str(jobs.folder / "runs")
    base = jobs.fit("monday", table=table, options={"versionAsOf": monday}, drift={})

    night = {"start-snapshot-id": monday}
    updated = jobs.fit("updated", table=table, options=night, model={"update": root}, drift={})
    warm = jobs.fit(
        "warm",
        table=table,
        options={**night, "end-snapshot-id": wednesday},
        model={"warm_start": str(base.path)},
        drift={"against": str(base.path)},
    )

    assert updated.rows == warm.rows == 1500
    assert updated.input["start_snapshot_id"] == monday
    assert updated.input["snapshot_id"] == wednesday
    assert updated.read("metrics.json")["history_rows"] == 2000
    assert warm.read("drift.json")["against"]["run_id"] == "monday"


def test_what_cannot_be_read_is_said_in_one_line(jobs: Jobs) -> None:
    table = made(jobs, "trips", draw(300))
    jobs.spark.sql("DROP TABLE IF EXISTS ice.db.unwritten")
    jobs.spark.sql("CREATE TABLE ice.db.unwritten (x double, y double) USING iceberg")
    (jobs.folder / "empty").mkdir()

    def refused(code: int, **source: Any) -> str:
        return jobs.refused(lambda: jobs.fit("no", **source), code)

    assert "snapshot with ID 5" in refused(3, table=table, options={"versionAsOf": 5})
    assert "'nightly'" in refused(3, table=table, options={"tag": "nightly"})
    assert "as of that time" in refused(3, table=table, options={"timestampAsOf": "2020-01-01"})
    assert "did you mean 'trips'" in refused(3, table="ice.db.trip")
    assert "nothing was written" in refused(3, table="ice.db.unwritten")
    assert "input.format to iceberg" in refused(2, path=path_of(jobs, table), format="parquet")
    refused(3, path=str(jobs.folder / "empty"), format="iceberg")
    assert f"table {table} (Iceberg), snapshot " in jobs.plan(table=table)
