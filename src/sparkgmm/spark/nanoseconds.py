"""Parquet files whose timestamps count nanoseconds, as pandas writes them.

Spark knows microseconds, and refuses the whole file for such a column. It reads them as whole
numbers where it is told to, and these are made timestamps again here, to the microsecond.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

_AS_LONG = "spark.sql.legacy.parquet.nanosAsLong"
_COLUMN = re.compile(r"int64 (.+?) \(TIMESTAMP\(NANOS,(true|false)\)\)")


def load(spark: SparkSession, read: Callable[[], DataFrame]) -> DataFrame:
    """Return what `read` opens, timestamps of nanoseconds in it as those of microseconds."""
    if str(spark.conf.get(_AS_LONG)).lower() != "true":
        try:
            return read()
        except Exception as error:
            if "TIMESTAMP(NANOS" not in str(error):
                raise
        spark.conf.set(_AS_LONG, "true")  # for good: it has to be so when the rows are read
    df = read()
    found = {
        name: zoned
        for name, zoned in _nanosecond_columns(spark, df).items()
        if dict(df.dtypes).get(name) == "bigint"
    }
    columns = []
    for name in df.columns:
        here = "`" + name.replace("`", "``") + "`"
        if name in found:
            kind = "timestamp" if found[name] else "timestamp_ntz"
            # whole numbers, rounded down before 1970 too
            moment = f"timestamp_micros({here} div 1000 - if({here} % 1000 < 0, 1, 0))"
            columns.append(F.expr(moment if found[name] else _unzoned(moment, kind)).alias(name))
        else:
            columns.append(F.col(here))
    return df.select(columns)


def _unzoned(moment: str, kind: str) -> str:
    """Return the moment as it was written, whatever the session's time zone is."""
    zone = "current_timezone()"
    return f"CAST(from_utc_timestamp(to_utc_timestamp({moment}, {zone}), 'UTC') AS {kind})"


def _nanosecond_columns(spark: SparkSession, df: DataFrame) -> dict[str, bool]:
    """Return the columns of the first file that count nanoseconds, and whether those are UTC's."""
    jvm, session = spark._jvm, spark._jsparkSession
    assert jvm is not None
    path = jvm.org.apache.hadoop.fs.Path(df.inputFiles()[0])
    settings = session.sessionState().newHadoopConf()
    file = jvm.org.apache.parquet.hadoop.util.HadoopInputFile.fromPath(path, settings)
    reader = jvm.org.apache.parquet.hadoop.ParquetFileReader.open(file)
    try:
        schema = str(reader.getFileMetaData().getSchema().toString())
    finally:
        reader.close()
    return {name: zoned == "true" for name, zoned in _COLUMN.findall(schema)}
