"""The UDF of a transform: by Arrow from Spark 4.1 on, by pandas before.

Annotations are evaluated in this module, since Spark reads from them what kind of UDF it is given.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from pyspark.ml.functions import array_to_vector, vector_to_array
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, DoubleType, StructField, StructType

from sparkgmm.spark.ml.vectors import DENSE, ColumnScorer
from sparkgmm.spark.scored_rows import SPARK_TYPES
from sparkgmm.spark.source import as_array, is_vector, quoted

# From Spark 4.1 on a function is handed the arrow arrays themselves, vectors included.
HAS_ARROW_UDF = hasattr(F, "arrow_udf")
_udfs: Any = F  # whose stubs know neither kind of UDF
_PLAIN = ("double", "float")
_ARRAY = "array<double>"


def add_scores(df: DataFrame, scorer: ColumnScorer, name: str) -> DataFrame:
    """Add a struct column of what the scorer makes of its column: one UDF, computed once a row.

    Its fields are the columns that the scorer was asked for, arrays of them as vectors.
    """
    if not HAS_ARROW_UDF:
        return df.select("*", _by_pandas(df, scorer).alias(name))
    # Spark 4.3 fails where a UDF is the next operator above a columnar scan (Parquet, ORC) and any
    # column in its input or output is a vector. A projection between them prevents it. It stays
    # there while the UDF's argument uses twice what it computes, and contains a Scala UDF: then a
    # filter on the scores stays above, and does not take the UDF along to the scan. It computes
    # one number, since what it computes is copied with each row.
    number_name = f"{name} of"
    number = F.col(f"`{number_name}`")
    if is_vector(df.schema[scorer.name].dataType):
        fields = F.unwrap_udt(quoted(df, scorer.name))
        computed = fields["type"]
        # A dense vector's values need no conversion.
        array = F.when(number == DENSE, fields["values"])
        array = array.when(number != DENSE, vector_to_array(quoted(df, scorer.name)))
    else:
        plain = _as_plain_array(df, scorer.name)
        computed = F.size(plain)  # below 0 at most for null, which nothing is to convert
        array = F.when(number >= 0, plain)
        array = array.when(number < -1, vector_to_array(array_to_vector(plain)))
    projected = df.select("*", computed.alias(number_name))
    return projected.select("*", _by_arrow(array, scorer).alias(name)).drop(number_name)


def _by_arrow(array: Column, scorer: ColumnScorer) -> Column:
    import pyarrow as pa

    def score(batches: Iterator[pa.Array]) -> Iterator[pa.Array]:
        return scorer(batches)

    udf: Callable[[Column], Column] = _udfs.arrow_udf(score, _schema(scorer, VectorUDT()))
    return udf(array)


def _by_pandas(df: DataFrame, scorer: ColumnScorer) -> Column:
    """Take the way by pandas, which knows no vectors: they go and come as arrays."""
    import pandas as pd  # type: ignore[import-untyped]
    import pyarrow as pa

    plain = replace(scorer, vectors=False)

    def score(batches: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        kind = pa.list_(pa.float64())
        # from_pandas would make nulls of NaN
        arrays = (pa.array(batch.to_numpy(), kind, from_pandas=False) for batch in batches)
        for scores in plain(arrays):
            yield pd.DataFrame(dict(zip(plain.scorer.names, _as_series(scores), strict=True)))

    gaps = plain.scorer.gaps  # then scores may be NaN, of which pandas makes nulls on the way back
    arrays = ArrayType(DoubleType()) if gaps else SPARK_TYPES[_ARRAY]
    udf: Callable[[Column], Column] = _udfs.pandas_udf(score, _schema(plain, arrays))
    made = udf(_as_plain_array(df, scorer.name).cast(_ARRAY))
    fields = []
    for column in plain.scorer.columns:
        values = made[column.name]
        if column.type == _ARRAY:
            if gaps:
                values = F.transform(values, lambda v: F.coalesce(v, F.lit(float("nan"))))
            values = array_to_vector(values)
        fields.append(values.alias(column.name))
    return F.struct(*fields)


def _as_series(scores: Any) -> list[Any]:
    return [field.to_pandas() for field in scores.flatten()]


def _as_plain_array(df: DataFrame, name: str) -> Column:
    """Return a vector or array column as an array of doubles, or of floats if it is one."""
    column = as_array(df, name)
    dtype = df.schema[name].dataType
    if isinstance(dtype, ArrayType) and dtype.elementType.simpleString() not in _PLAIN:
        return column.cast("array<double>")
    return column


def _schema(scorer: ColumnScorer, array: DataType) -> StructType:
    """Return the type of the UDF's result; columns that are arrays are of type `array`."""
    types = {**SPARK_TYPES, _ARRAY: array}
    return StructType([StructField(c.name, types[c.type]) for c in scorer.scorer.columns])
