"""Delta, Iceberg and catalog tables as output: one commit, or nothing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyspark.sql import functions as F

from helpers.table_jobs import Jobs, Run, draw

pytestmark = pytest.mark.storage

KINDS = ("delta path", "delta table", "iceberg path", "iceberg table", "parquet table")


class Target:
    """An output of one of the kinds, and what it holds."""

    def __init__(self, jobs: Jobs, kind: str) -> None:
        self.jobs, self.kind = jobs, kind
        self.format = kind.split()[0]
        self.path = str(jobs.folder / "scored")
        name = f"db.s{jobs.folder.name.strip('0123456789_')[-20:]}_{self.format}"
        self.table = f"ice.{name}" if self.format == "iceberg" else name

    def output(self, **more: Any) -> dict[str, Any]:
        if self.kind.endswith("path"):
            return {"path": self.path, "format": self.format, **more}
        given = {} if self.format == "iceberg" else {"format": self.format}  # its catalog's
        return {"table": self.table, **given, **more}

    def rows(self, beside: str = "") -> Any:
        if self.kind.endswith("path"):
            return self.jobs.spark.read.format(self.format).load(self.path + beside)
        return self.jobs.spark.table(self.table + beside)

    def versions(self) -> int:
        """The number of commits that the table has seen."""
        spark = self.jobs.spark
        if self.format == "delta":
            name = f"delta.`{self.path}`" if self.kind == "delta path" else self.table
            return int(spark.sql(f"DESCRIBE HISTORY {name}").count())
        if self.kind == "iceberg path":
            return int(spark.read.format("iceberg").load(f"{self.path}#snapshots").count())
        return int(spark.table(f"{self.table}.snapshots").count())

    def exists(self, beside: str = "") -> bool:
        if self.kind.endswith("path"):
            folder = Path(self.path + beside)
            return folder.exists()
        return bool(self.jobs.spark.catalog.tableExists(self.table + beside))


@pytest.fixture(params=KINDS)
def target(request: pytest.FixtureRequest, jobs: Jobs) -> Target:
    return Target(jobs, request.param)


@pytest.fixture(params=["delta path", "delta table", "iceberg path", "iceberg table"])
def versioned(request: pytest.FixtureRequest, jobs: Jobs) -> Target:
    return Target(jobs, request.param)


def broken(n: int = 300, every: int = 3) -> pa.Table:
    """Rows of which every third has no x."""
    rows = draw(n)
    values = rows["x"].to_pylist()
    x = pa.array([None if i % every == 0 else v for i, v in enumerate(values)], pa.float64())
    return rows.set_column(1, "x", x)


def test_rows_are_written_by_every_mode(target: Target, jobs: Jobs, one_fit: Run) -> None:
    source = {"path": jobs.parquet("rows", draw(300))}
    versioned = target.format != "parquet"

    said = jobs.score(one_fit, source, target.output())

    made = target.rows()
    assert made.columns == ["id", "x", "y", "day", "component", "probability", "log_density"]
    assert made.count() == 300
    expected = scored_to_files(jobs, one_fit, source)
    assert same_rows(made, expected)
    assert (target.path if "path" in target.kind else target.table) in said
    if versioned:
        assert target.versions() == 1
        assert ("snapshot" if target.format == "iceberg" else "version 0") in said
    message = jobs.refused(lambda: jobs.score(one_fit, source, target.output()), 2)
    assert "exists and is not empty" in message
    jobs.score(one_fit, source, target.output(mode="append"))
    assert target.rows().count() == 600
    jobs.score(one_fit, source, target.output(mode="overwrite"))
    assert same_rows(target.rows(), expected)
    if versioned:
        assert target.versions() == 3
    fewer = target.output(mode="append", keep=["id"])
    assert "column 'x' is double" in jobs.refused(lambda: jobs.score(one_fit, source, fewer), 2)
    jobs.score(one_fit, source, target.output(mode="overwrite", keep=["id"]))
    assert target.rows().columns[:2] == ["id", "component"]
    assert target.rows().count() == 300
    if versioned:
        assert target.versions() == 4


def scored_to_files(jobs: Jobs, run: Run, source: Any) -> Any:
    path = jobs.folder / "files"
    shutil.rmtree(path, ignore_errors=True)
    jobs.score(run, source, {"path": str(path)})
    return jobs.spark.read.parquet(str(path))


def same_rows(a: Any, b: Any) -> bool:
    return sorted(map(str, a.collect())) == sorted(map(str, b.select(a.columns).collect()))


def test_invalid_rows_are_found_before_anything_is_visible(
    versioned: Target, jobs: Jobs, one_fit: Run
) -> None:
    bad = {"path": jobs.parquet("bad", broken())}
    none_valid = {"path": jobs.parquet("none", broken(every=1)), "invalid_rows": "drop"}
    no_rows = {"path": bad["path"], "where": "id < 0"}

    for source, word in ((bad, "100 of 300"), (none_valid, "all 300"), (no_rows, "no rows")):
        message = jobs.refused(lambda s=source: jobs.score(one_fit, s, versioned.output()), 3)
        assert word in message
        assert not versioned.exists()
    jobs.score(one_fit, {"path": jobs.parquet("good", draw(50))}, versioned.output())
    for mode in ("append", "overwrite"):
        for source in (bad, none_valid, no_rows):
            output = versioned.output(mode=mode)
            jobs.refused(lambda s=source, o=output: jobs.score(one_fit, s, o), 3)
    assert versioned.rows().count() == 50
    assert versioned.versions() == 1
    assert not versioned.exists("_rejected")


def test_rejected_rows_are_a_table_beside(versioned: Target, jobs: Jobs, one_fit: Run) -> None:
    source = {"path": jobs.parquet("bad", broken()), "invalid_rows": "quarantine"}

    said = jobs.score(one_fit, source, versioned.output())

    assert "_rejected" in said
    assert versioned.rows().count() == 200
    assert versioned.rows("_rejected").count() == 100
    assert versioned.rows("_rejected").where(F.col("reason") == "x is null").count() == 100
    jobs.score(one_fit, source, versioned.output(mode="append"))
    assert versioned.rows("_rejected").count() == 200
    good = {"path": jobs.parquet("good", draw(50)), "invalid_rows": "quarantine"}
    jobs.score(one_fit, good, versioned.output(mode="overwrite"))
    assert versioned.rows().count() == 50
    assert versioned.rows("_rejected").count() == 0, "rejected rows of an older table stayed"


def test_a_write_that_fails_takes_its_rejected_rows_along(
    jobs: Jobs, one_fit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparkgmm.runs.scored_table import ScoredTable

    target = Target(jobs, "delta path")
    source = {"path": jobs.parquet("bad", broken()), "invalid_rows": "quarantine"}

    def full(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(ScoredTable, "write", full)

    message = jobs.refused(lambda: jobs.score(one_fit, source, target.output()), 2)

    assert "full" in message
    assert not target.exists()
    assert not target.exists("_rejected")


def test_a_table_is_scored_at_one_version_into_another_table(jobs: Jobs, one_fit: Run) -> None:
    path = str(jobs.folder / "t")
    jobs.frame(draw(100)).write.format("delta").save(path)
    jobs.frame(draw(100, seed=1)).write.format("delta").mode("append").save(path)
    target = Target(jobs, "iceberg table")

    jobs.score(one_fit, {"path": path, "options": {"versionAsOf": 0}}, target.output())

    assert target.rows().count() == 100
    into_itself = jobs.refused(
        lambda: jobs.score(one_fit, {"table": target.table}, target.output(mode="append")), 2
    )
    assert "are one within the other" in into_itself


def test_partitions_of_a_table_stay_when_it_is_overwritten(jobs: Jobs, one_fit: Run) -> None:
    source = {"path": jobs.parquet("rows", draw(100))}
    target = Target(jobs, "delta path")
    scored = scored_to_files(jobs, one_fit, source)
    scored.write.format("delta").partitionBy("day").save(target.path)

    jobs.score(one_fit, source, target.output(mode="overwrite"))

    assert len(list(Path(target.path).glob("day=*"))) == 2
    detail = jobs.spark.sql(f"DESCRIBE DETAIL delta.`{target.path}`").first()
    assert detail["partitionColumns"] == ["day"]


def test_an_output_that_cannot_be_is_refused_in_one_line(jobs: Jobs, one_fit: Run) -> None:
    source = {"path": jobs.parquet("rows", draw(50))}
    (jobs.folder / "files").mkdir()
    (jobs.folder / "files" / "a.txt").write_text("a")
    jobs.spark.range(1).createOrReplaceTempView("seen")

    def refused(**output: Any) -> str:
        return jobs.refused(lambda: jobs.score(one_fit, source, output), 2)

    assert "no Delta table" in refused(path=str(jobs.folder / "files"), format="delta")
    assert "no Iceberg table" in refused(path=str(jobs.folder / "files"), format="iceberg")
    assert "CREATE SCHEMA" in refused(table="nodb.scored")
    assert "spark.sql.catalog.NAME" in refused(table="nowhere.db.scored")
    assert "holds tables of iceberg" in refused(table="ice.db.scored", format="delta")
    assert "is a view" in refused(table="seen")
    assert "where the model is" in refused(path=str(one_fit.path), format="delta", mode="append")
