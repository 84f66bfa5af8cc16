"""Tables by name, and what is said of Delta and Iceberg where this Spark has neither."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.spark.error_translation import translate
from sparkgmm.spark.names import TableName, is_table_name, place_named
from sparkgmm.spark.source import open_rows
from sparkgmm.spark.table_errors import files_are_gone, spark_version, table_error
from sparkgmm.spark.tables import Snapshot

pytestmark = pytest.mark.spark


@pytest.fixture(scope="module")
def trips(spark: SparkSession) -> str:
    spark.sql("CREATE SCHEMA IF NOT EXISTS shop")
    spark.sql("DROP TABLE IF EXISTS shop.trips")
    rows = spark.range(40).selectExpr("id", "cast(id as double) AS x", "id % 7 AS `a.b`")
    rows.write.saveAsTable("shop.trips")
    return "shop.trips"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("trips", ("trips",)),
        ("db.trips", ("db", "trips")),
        ("catalog.db.trips", ("catalog", "db", "trips")),
        ("`my db`.`a.b`", ("my db", "a.b")),
        ("`tick``ed`", ("tick`ed",)),
        ("delta.`/data/trips`", ("delta", "/data/trips")),
    ],
)
def test_names_of_tables_are_taken_apart_and_quoted(text: str, parts: tuple[str, ...]) -> None:
    assert is_table_name(text)
    assert TableName(text).parts == parts
    assert TableName(TableName(text).quoted).parts == parts
    assert TableName(text).beside("_x").parts == (*parts[:-1], f"{parts[-1]}_x")


@pytest.mark.parametrize("text", ["", " ", ".", "a.", ".a", "a..b", "a b", "`", "a.`b"])
def test_what_is_no_name_of_a_table_is_told(text: str) -> None:
    assert not is_table_name(text)


def test_messages_name_the_key_that_the_user_gave() -> None:
    assert place_named(TableName("db.t")) == "input.table 'db.t'"
    assert place_named("a.csv") == "input.path 'a.csv'"
    assert place_named(TableName("db.t"), "output") == "output.table 'db.t'"
    assert place_named(None) == "the input"


def test_a_table_and_a_view_of_the_catalog_are_read(spark: SparkSession, trips: str) -> None:
    spark.table(trips).where("id < 5").createOrReplaceTempView("few")

    assert open_rows(spark, TableName(trips)).df.count() == 40
    assert open_rows(spark, TableName("few")).df.count() == 5
    assert open_rows(spark, TableName(trips), where="x < 3").df.count() == 3
    assert open_rows(spark, TableName(trips)).snapshot is None


def test_a_table_that_does_not_exist_is_named_with_near_ones(
    spark: SparkSession, trips: str
) -> None:
    with pytest.raises(InputError, match=r"'shop\.tripz' does not exist: did you mean 'trips'"):
        open_rows(spark, TableName("shop.tripz"))
    with pytest.raises(InputError, match=r"input\.table 'noshop\.trips' does not exist"):
        open_rows(spark, TableName("noshop.trips"))
    with pytest.raises(ConfigurationError, match=r"spark\.sql\.catalog\.NAME"):
        open_rows(spark, TableName("nowhere.shop.trips"))


def test_a_version_of_a_table_that_has_none_is_refused(spark: SparkSession, trips: str) -> None:
    with pytest.raises(InputError, match="cannot be read at the version"):
        open_rows(spark, TableName(trips), options={"versionAsOf": 3})


@pytest.mark.parametrize(
    ("log", "format_name", "word"),
    [
        ("_delta_log/00000000000000000000.json", "delta", "io.delta"),
        ("metadata/v1.metadata.json", "iceberg", "org.apache.iceberg"),
    ],
)
def test_a_folder_of_a_table_format_is_found_and_its_package_named(
    spark: SparkSession, tmp_path: Path, log: str, format_name: str, word: str
) -> None:
    spark.range(3).write.parquet(str(tmp_path / "t"))
    (tmp_path / "t" / log).parent.mkdir()
    (tmp_path / "t" / log).write_text("{}")

    with pytest.raises(ConfigurationError) as caught:
        open_rows(spark, str(tmp_path / "t"))
    assert f"input.format '{format_name}' needs the package" in str(caught.value)
    assert f"--packages {word}" in str(caught.value)
    for place in ("t", "t/*.parquet"):
        with pytest.raises(ConfigurationError, match=f"input.format to {format_name}"):
            open_rows(spark, str(tmp_path / place), "parquet")


def test_a_folder_that_only_has_a_folder_called_metadata_is_read_by_its_files(
    spark: SparkSession, tmp_path: Path
) -> None:
    spark.range(3).write.parquet(str(tmp_path / "t"))
    (tmp_path / "t" / "metadata").mkdir()
    (tmp_path / "t" / "metadata" / "notes.txt").write_text("none")

    assert open_rows(spark, str(tmp_path / "t"), "parquet").df.count() == 3


class JavaError(Exception):
    """Stands for what Java throws, whose text is all that reaches Python."""


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        (
            "An error occurred while calling o47.count.\n: java.lang.NoSuchMethodError: 'void "
            "org.apache.spark.sql.execution.LogicalRDD.<init>(scala.Seq)'\n\tat org.apache.spark"
            ".sql.delta.util.StateCache$CachedDS.$anonfun$cachedDs$4(StateCache.scala:70)",
            ConfigurationError,
            ("version of Delta", "does not fit Spark", "NoSuchMethodError"),
        ),
        (
            "An error occurred while calling o38.load.\n: java.lang.IncompatibleClassChangeError: "
            "Found interface org.apache.spark.sql.connector.catalog.CatalogManager, but class was "
            "expected\n\tat org.apache.iceberg.spark.source.IcebergSource.x(IcebergSource.java:1)",
            ConfigurationError,
            ("version of Iceberg", "does not fit Spark"),
        ),
        (
            "[DELTA_CONFIGURE_SPARK_SESSION_WITH_EXTENSION_AND_CATALOG] This Delta operation",
            ConfigurationError,
            ("spark.sql.extensions=io.delta", "spark.sql.catalog.spark_catalog="),
        ),
        (
            "[DELTA_VERSION_NOT_FOUND] Cannot time travel Delta table to version 9. Available "
            "versions: [0, 1].",
            InputError,
            ("version 9. Available versions: [0, 1]", "input.options"),
        ),
        (
            "org.apache.spark.SparkException: Cannot find catalog plugin class for catalog 'ice': "
            "org.apache.iceberg.spark.SparkCatalog.\n\tat a.b(c.scala:1)",
            ConfigurationError,
            ("'ice'", "--packages org.apache.iceberg:iceberg-spark-runtime"),
        ),
        (
            "[CANNOT_LOAD_CATALOG.PLUGIN_CLASS_NOT_FOUND] Cannot load catalog 'spark_catalog' with "
            "the plugin class 'org.apache.spark.sql.delta.catalog.DeltaCatalog': cannot find the "
            "plugin class. SQLSTATE: 46103",
            ConfigurationError,
            ("'spark_catalog'", "--packages io.delta:delta-spark"),
        ),
        ("Cannot find snapshot with ID 5", InputError, ("snapshot with ID 5",)),
        (
            "[DELTA_MISSING_CHANGE_DATA] Error getting change data for range [0 , 1] as change "
            "data was not\nrecorded for version [0].",
            InputError,
            ("delta.enableChangeDataFeed",),
        ),
    ],
)
def test_what_the_formats_throw_becomes_one_line_with_a_remedy(
    text: str, kind: type[Exception], words: tuple[str, ...]
) -> None:
    found = translate(JavaError(text), TableName("db.trips"))

    assert type(found) is kind
    for word in words:
        assert word in str(found)
    assert "\n" not in str(found)
    assert spark_version() in str(found) or "does not fit" not in str(found)


def test_other_errors_are_not_taken_for_those_of_tables() -> None:
    for text in (
        "java.lang.NoClassDefFoundError: Could not initialize class org.xerial.snappy.Snappy",
        "java.lang.NullPointerException",
        "[DIVIDE_BY_ZERO] Division by zero",
    ):
        assert table_error(JavaError(text), "the input") is None


def test_files_that_a_clean_up_removed_are_told_from_others() -> None:
    gone = JavaError("Caused by: java.io.FileNotFoundException: File does not exist: a.parquet")
    found = files_are_gone(gone, "input.table 'db.t'", "version 3")
    assert "no longer has the files of version 3" in str(found)
    assert files_are_gone(JavaError("is not a Parquet file"), "x", "version 3") is None


def test_the_record_of_a_state_is_what_the_contract_says() -> None:
    whole = Snapshot(TableName("db.t"), "delta", 3, {})
    changes = Snapshot("s3a://key:secret@bucket/t", "iceberg", 9, {}, since=7)

    assert whole.record() == {"table": "db.t", "format": "delta", "version": 3}
    assert changes.record()["start_snapshot_id"] == 7
    assert changes.record()["snapshot_id"] == 9
    assert "secret" not in json.dumps(changes.record())
    assert "version 3" in whole.described()
    assert "after snapshot 7 to 9" in changes.described()


def test_a_scored_table_of_parquet_is_replaced_and_added_to(
    spark: SparkSession, trips: str
) -> None:
    from sparkgmm.runs.config import ScoreOutputConfig
    from sparkgmm.runs.scored_table import ScoredTable

    spark.sql("DROP TABLE IF EXISTS shop.scored")
    rows: Any = spark.table(trips).select("id", "x")

    def into(mode: str) -> ScoredTable:
        output = ScoreOutputConfig.model_validate({"table": "shop.scored", "mode": mode})
        table = ScoredTable.of(spark, output)
        assert table is not None
        return table

    into("error").write(rows)
    with pytest.raises(ConfigurationError, match="exists and is not empty"):
        into("error").check(quarantine=False)
    into("append").write(rows)
    assert spark.table("shop.scored").count() == 80
    into("overwrite").write(rows.limit(3))
    assert spark.table("shop.scored").count() == 3
    with pytest.raises(ConfigurationError, match="column 'x' is double, here it is missing"):
        into("append").check_columns(rows.select("id"))
    names = [row["tableName"] for row in spark.sql("SHOW TABLES IN shop").collect()]
    assert not [name for name in names if "_new" in name or "_old" in name]


@pytest.mark.parametrize("format_name", ["delta", "iceberg"])
def test_an_output_whose_package_is_missing_names_it(
    spark: SparkSession, tmp_path: Path, format_name: str
) -> None:
    from sparkgmm.runs.config import ScoreOutputConfig
    from sparkgmm.runs.scored_table import ScoredTable

    values = {"path": str(tmp_path / "scored"), "format": format_name}
    output = ScoreOutputConfig.model_validate(values)
    with pytest.raises(ConfigurationError) as caught:
        ScoredTable.of(spark, output)
    assert f"output.format '{format_name}' needs the package" in str(caught.value)
