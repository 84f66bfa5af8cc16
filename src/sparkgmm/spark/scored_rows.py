"""From a DataFrame to the scored DataFrame: which columns travel, and under which types."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    FractionalType,
    IntegerType,
    IntegralType,
    MapType,
    StringType,
    StructField,
    StructType,
)

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.formatting import quoted_list
from sparkgmm.mixture import Mixture
from sparkgmm.spark.score_columns import (
    columns_of,
    columns_with_threshold,
    imputed_columns,
    predicted_columns,
)
from sparkgmm.spark.scoring import UNSEEN, RecordScorer, Scorer, Totals
from sparkgmm.spark.source import Features, as_array, as_number, did_you_mean, free_name, quoted

# The types of the columns added, by their names in `ScoreColumn`.
SPARK_TYPES: dict[str, DataType] = {
    "int": IntegerType(),
    "double": DoubleType(),
    "boolean": BooleanType(),
    "string": StringType(),
    "array<double>": ArrayType(DoubleType(), containsNull=False),
    "map<string,double>": MapType(StringType(), DoubleType(), valueContainsNull=False),
}
_OF = ("mean", "sd")
# Types that a batch holds as numbers that numpy takes as they are; others are cast by Spark.
_PLAIN = (DoubleType, FloatType, IntegralType)
_UNKNOWN_TO_ARROW = ("YearMonthIntervalType", "CalendarIntervalType")


@dataclass(frozen=True)
class ScoreRequest:
    """What the scored rows are to have: columns of the input kept, and columns added.

    `threshold` is the log density below which a row is an outlier, or None. An invalid row fails
    the job, or is left out. `labels` has one for each component, where `label` is to be added.
    With `impute` all features are written, what is null or NaN replaced by its conditional mean,
    and of a categorical column by the most probable level, in the type of the column; of those to
    `predict` mean and standard deviation given the row's others are added.
    """

    kept: tuple[str, ...]
    added: tuple[str, ...]
    threshold: float | None
    fail: bool
    labels: tuple[int, ...] | None = None
    impute: bool = False
    predict: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of all columns added."""
        more = () if self.threshold is None else columns_with_threshold()
        return (*self.added, *more, *(f"{name}_{of}" for name in self.predict for of in _OF))

    def passed(self, features: Features) -> tuple[str, ...]:
        """Return the columns of the input that go through as they are."""
        if not self.impute:
            return self.kept
        made = (*features.columns, *_of_kind(features, "counts"))
        levels = _of_kind(features, "categorical")
        kept = [name for name in self.kept if name not in made]
        return (*kept, *(name for name in levels if name not in kept))

    def order(self, features: Features) -> list[str]:
        """Return the names of all columns as they are written: what is imputed at its place."""
        if not self.impute:
            return [*self.kept, *self.columns]
        others = [name for name in _imputed(features) if name not in self.kept]
        return [*self.kept, *others, *self.columns]

    def gaps(self, features: Features) -> tuple[int, ...]:
        """Return the positions of the features that may be null or NaN."""
        if self.impute:
            return tuple(range(len(features.names)))
        return tuple(features.names.index(name) for name in self.predict if name in features.names)


def _of_kind(features: Features, kind: str) -> list[str]:
    return [column.name for column in features.beside if column.kind == kind]


def _imputed(features: Features) -> tuple[str, ...]:
    """Return the names of all columns that imputation fills."""
    return (*features.columns, *(column.name for column in features.beside))


def score_rows(
    df: DataFrame, features: Features, mixture: Mixture, request: ScoreRequest
) -> tuple[DataFrame, Totals]:
    """Return the scored rows, in the partitions of the input, and what is counted meanwhile.

    The columns kept come first, of the very types of the input, then those to be added, of the
    types in `score_columns.SCORE_COLUMNS`; arrays have k values, in the order of the components.

    Raises
    ------
    ConfigurationError
        If a column cannot be kept.
    InputError
        If a column to keep is missing or appears twice.

    """
    check_columns(df, features, request)
    passed = request.passed(features)
    selected = [quoted(df, name) for name in passed]
    sources = []
    for name in features.columns if features.vector is None else (features.vector,):
        if name in passed and _is_plain(df.schema[name].dataType):
            sources.append(passed.index(name))
            continue
        sources.append(len(selected))
        column = quoted(df, name) if features.vector is None else as_array(df, name)
        wide = "double" if features.vector is None else "array<double>"
        selected.append(column.cast(wide))
    for beside in features.beside:
        sources.append(len(selected))
        selected.append(as_number(df, beside, UNSEEN))
    more = columns_with_threshold() if request.threshold is not None else ()
    columns = columns_of((*request.added, *more))
    names = (*features.names, *(column.name for column in features.beside))
    columns += predicted_columns(names, request.predict)
    levels = _of_kind(features, "categorical") if request.impute else []
    if request.impute:
        beside_it = {name: free_name(df, f"{name} filled in") for name in levels}
        columns += imputed_columns(
            [beside_it.get(name, name) for name in names], beside_it.values()
        )
    scorer = Scorer(mixture, columns, request.threshold, request.labels)
    added = [StructField(c.name, SPARK_TYPES[c.type], nullable=False) for c in scorer.columns]
    schema = StructType([*(df.schema[name] for name in passed), *added])
    records = RecordScorer(
        scorer,
        len(passed),
        tuple(sources),
        features.vector is not None,
        request.fail,
        request.gaps(features),
    )
    context = df.sparkSession.sparkContext
    totals = Totals.of(lambda: context.accumulator(0), mixture)
    # mapInArrow stumbles over names with dots
    plain = df.select([column.alias(f"c{i}") for i, column in enumerate(selected)])
    scored = plain.mapInArrow(records.on_batches(totals), schema)
    if request.impute:
        written = {name: quoted(scored, name) for name in request.order(features)}
        for name in levels:
            dtype = df.schema[name].dataType
            value, filled = written[name], quoted(scored, beside_it[name])
            if isinstance(dtype, FractionalType):
                value = F.when(~F.isnan(value.cast("double")), value)
            written[name] = F.coalesce(value, filled.cast(dtype)).alias(name)
        scored = scored.select(list(written.values()))
    return scored, totals


def _is_plain(dtype: DataType) -> bool:
    inner = dtype.elementType if isinstance(dtype, ArrayType) else dtype
    return isinstance(inner, _PLAIN)


def check_columns(df: DataFrame, features: Features, request: ScoreRequest) -> None:
    """Refuse columns to keep that are missing, appear twice, clash or cannot be handed over.

    Raises
    ------
    ConfigurationError
        If one has the name of a column to add, or a type that Spark cannot hand to Python.
    InputError
        If one is missing or appears twice.

    """
    missing = [name for name in request.kept if name not in df.columns]
    if missing:
        hint = did_you_mean(missing[0], df.columns)
        raise InputError(
            f"output.keep names {quoted_list(missing)}, which the input does not have: {hint}its "
            f"columns are {quoted_list(df.columns)}"
        )
    _check_names(df, features, request)
    for name in request.kept:
        if not _has_arrow_type(df.schema[name].dataType):
            raise ConfigurationError(
                f"column {name!r} is of type {df.schema[name].dataType.simpleString()}, which "
                "Spark cannot hand to Python: leave it out of output.keep"
            )


def _check_names(df: DataFrame, features: Features, request: ScoreRequest) -> None:
    """Refuse names that appear twice or are taken, as Spark compares names."""
    sensitive = str(df.sparkSession.conf.get("spark.sql.caseSensitive")).lower() == "true"
    keys = {name: name if sensitive else name.casefold() for name in df.columns}
    held = Counter(keys[name] for name in df.columns)
    added = {name if sensitive else name.casefold() for name in request.columns}
    written = (*request.kept, *(_imputed(features) if request.impute else ()))
    for name in written:
        if keys[name] in added:
            raise ConfigurationError(
                f"input column {name!r} has the name of a column that is added: leave it out of "
                "output.keep, or rename it"
            )
    sources = features.columns if features.vector is None else (features.vector,)
    sources = (*sources, *(column.name for column in features.beside))
    for name in (*request.kept, *sources):
        if held[keys[name]] > 1:
            raise InputError(
                f"the input has column {name!r} {held[keys[name]]} times: rename one, or leave it "
                "out of output.keep"
            )


def _has_arrow_type(dtype: DataType) -> bool:
    """Return whether pyarrow has the type: all but intervals that count months."""
    if isinstance(dtype, ArrayType):
        return _has_arrow_type(dtype.elementType)
    if isinstance(dtype, MapType):
        return _has_arrow_type(dtype.keyType) and _has_arrow_type(dtype.valueType)
    if isinstance(dtype, StructType):
        return all(_has_arrow_type(field.dataType) for field in dtype.fields)
    return type(dtype).__name__ not in _UNKNOWN_TO_ARROW
