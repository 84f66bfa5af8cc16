"""The columns that scoring adds: an entry each, for the score job, transform and streams alike.

This runs on the executors: numpy and pyarrow, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sparkgmm.mixture import Array, Labels, Mixture

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Scored:
    """Rows that were scored, and what a model may know beside its mixture.

    `log_density` (n,) is in nats, `responsibilities` are (n, k). `labels` has one for each
    component; `threshold` is the log density below which a row is an outlier. Both are None where
    they are not known. `rows` (n, d) are what was scored, and `mixture` what by. Where there may be
    `gaps`, NaN in rows is a value that is not known. Rows are (n, D) where the mixture has columns
    of levels and counts beside its d features.
    """

    log_density: Array
    responsibilities: Array
    labels: tuple[int, ...] | None = None
    threshold: float | None = None
    rows: Array | None = None
    mixture: Mixture | None = None
    gaps: bool = False

    @cached_property
    def component(self) -> Labels:
        """The most probable component of each row, (n,)."""
        return self.responsibilities.argmax(axis=1)

    @cached_property
    def label(self) -> Labels:
        """The label of that component, (n,)."""
        return np.array(self.labels)[self.component]

    @cached_property
    def outlier(self) -> Any:
        """Whether each row is an outlier, (n,): none is without a threshold."""
        flags = self.log_density < (-np.inf if self.threshold is None else self.threshold)
        if self.rows is None or not self.gaps:
            return flags
        # the density of fewer features compares with no threshold
        return flags & ~np.isnan(self.rows).any(axis=1)

    @property
    def features(self) -> tuple[str, ...]:
        """The names of features, levels and counts; x0 and so on where they have none."""
        assert self.mixture is not None
        return self.mixture.columns or tuple(f"x{i}" for i in range(self.mixture.d))

    @cached_property
    def surprise(self) -> Array:
        """-log p(a value | the others of its row), (n, D), in nats."""
        assert self.mixture is not None
        assert self.rows is not None
        return self.mixture.surprise(self.rows)

    @cached_property
    def imputed(self) -> Array:
        """The rows (n, D), NaN replaced by its mean, or the likeliest level, given its row."""
        assert self.mixture is not None
        assert self.rows is not None
        return np.asarray(self.mixture.impute(self.rows))

    @cached_property
    def _expectations(self) -> dict[int, tuple[Array, Array]]:
        return {}

    def filled_level(self, position: int) -> list[str]:
        """Return the levels (n,) of a column of such, the likeliest where it is not known."""
        assert self.mixture is not None
        levels = self.mixture.parts[position - self.mixture.d].of.levels
        return [levels[int(code)] for code in self.imputed[:, position]]

    def expectation(self, feature: int) -> tuple[Array, Array]:
        """Return mean and sd (n,) of a feature, by its position, given the others of each row."""
        assert self.mixture is not None
        assert self.rows is not None
        if feature not in self._expectations:
            mean, sd = self.mixture.expect(self.rows, feature)
            self._expectations[feature] = mean[:, 0], sd[:, 0]
        return self._expectations[feature]

    @property
    def expected(self) -> Array:
        """The mean of each feature given the others of its row, (n, d)."""
        return np.stack([self.expectation(i)[0] for i in range(len(self.features))], axis=1)

    @property
    def expected_sd(self) -> Array:
        """The standard deviation of each feature given the others of its row, (n, d)."""
        return np.stack([self.expectation(i)[1] for i in range(len(self.features))], axis=1)


class ScoreColumn(NamedTuple):
    """A column that scoring adds.

    `name` is what output.columns calls it, and the column of the score job; `type` is Spark's.
    `values` takes it from the scored rows: (n,), (n, k) for an array, or (n, D) for a map, whose
    keys are the features. Where it `needs` labels, the model must have some; where it needs a
    threshold, it is added if and only if output.outlier_quantile is set; where it needs a param, it
    is of transform alone. A column that takes `gaps` is for rows of which some values are not
    known.

    The model's transform adds it where `param` names the Param that holds its column's name, empty
    for none; `doc` explains a Param that Spark does not have. Arrays are vectors there.
    `attributes` returns what Spark ML notes of such a column, given k.
    """

    name: str
    type: Literal["int", "double", "boolean", "string", "array<double>", "map<string,double>"]
    values: Callable[[Scored], Array | Labels | list[str]]
    needs: Literal["labels", "threshold", "param"] | None = None
    param: str | None = None
    doc: str = ""
    attributes: Callable[[int], dict[str, Any]] | None = None
    gaps: bool = False


def _sized(k: int) -> dict[str, Any]:
    return {"num_attrs": k}


def _nominal(k: int) -> dict[str, Any]:
    return {"type": "nominal", "num_vals": k}


# In this order transform adds them.
SCORE_COLUMNS: tuple[ScoreColumn, ...] = (
    ScoreColumn(
        "probability",
        "array<double>",
        attrgetter("responsibilities"),
        param="probabilityCol",
        attributes=_sized,
    ),
    ScoreColumn(
        "component",
        "int",
        attrgetter("component"),
        param="predictionCol",
        attributes=_nominal,
    ),
    ScoreColumn(
        "log_density",
        "double",
        attrgetter("log_density"),
        param="logDensityCol",
        doc="column name for the natural log of the density of a row; empty leaves it out",
    ),
    ScoreColumn("label", "int", attrgetter("label"), needs="labels"),
    ScoreColumn("outlier", "boolean", attrgetter("outlier"), needs="threshold"),
    ScoreColumn("surprise", "map<string,double>", attrgetter("surprise")),
    ScoreColumn(
        "surprises",
        "array<double>",
        attrgetter("surprise"),
        needs="param",
        param="surpriseCol",
        doc="column name for -log p(a feature | the others of its row), a vector of all features; "
        "empty leaves it out",
    ),
    ScoreColumn(
        "imputed",
        "array<double>",
        attrgetter("imputed"),
        needs="param",
        param="imputedCol",
        doc="column name for the vector with each NaN replaced by its mean given the rest of its "
        "row; vectors may then hold NaN, which is a value that is not known; empty leaves it out",
        gaps=True,
    ),
    ScoreColumn(
        "expected",
        "array<double>",
        attrgetter("expected"),
        needs="param",
        param="expectedCol",
        doc="column name for the mean of each feature given the others of its row, a vector; "
        "vectors may then hold NaN; empty leaves it out",
        gaps=True,
    ),
    ScoreColumn(
        "expected_sd",
        "array<double>",
        attrgetter("expected_sd"),
        needs="param",
        param="expectedSdCol",
        doc="column name for the standard deviations of expectedCol; empty leaves it out",
        gaps=True,
    ),
)


@dataclass(frozen=True)
class _Feature:
    """Takes what is known of one feature, by its position, from the scored rows: (n,)."""

    position: int
    of: Literal["imputed", "level", "mean", "sd"]

    def __call__(self, scored: Scored) -> Array | list[str]:
        if self.of == "level":
            return scored.filled_level(self.position)
        if self.of == "imputed":
            return scored.imputed[:, self.position]
        return scored.expectation(self.position)[self.of == "sd"]


def imputed_columns(features: Iterable[str], levels: Iterable[str] = ()) -> tuple[ScoreColumn, ...]:
    """Return a column for each feature, under its name: its values, or what is expected of it.

    Those of `levels` are text, whatever the input has.
    """
    of_levels = set(levels)
    return tuple(
        ScoreColumn(name, "string", _Feature(i, "level"), gaps=True)
        if name in of_levels
        else ScoreColumn(name, "double", _Feature(i, "imputed"), gaps=True)
        for i, name in enumerate(features)
    )


def predicted_columns(features: tuple[str, ...], wanted: Iterable[str]) -> tuple[ScoreColumn, ...]:
    """Return the columns `<feature>_mean` and `<feature>_sd` of the wanted features."""
    return tuple(
        ScoreColumn(f"{name}_{of}", "double", _Feature(features.index(name), of), gaps=True)
        for name in wanted
        for of in ("mean", "sd")
    )


def columns_of(names: Iterable[str]) -> tuple[ScoreColumn, ...]:
    """Return the columns of these names, in their order.

    Raises
    ------
    KeyError
        If there is none of a name.

    """
    known = {column.name: column for column in SCORE_COLUMNS}
    return tuple(known[name] for name in names)


def selectable_columns() -> list[str]:
    """Return the names that output.columns may hold: columns that need no other setting."""
    return [column.name for column in SCORE_COLUMNS if column.needs not in ("threshold", "param")]


def columns_with_threshold() -> list[str]:
    """Return the names of the columns that come with a threshold."""
    return [column.name for column in SCORE_COLUMNS if column.needs == "threshold"]


def transform_columns() -> list[tuple[ScoreColumn, str]]:
    """Return the columns that transform may add, and the Param that names each."""
    return [(column, column.param) for column in SCORE_COLUMNS if column.param is not None]


def arrow_of(
    column: ScoreColumn, scored: Scored, arrays: Callable[[Array], pa.Array] | None = None
) -> pa.Array:
    """Return a column of n scored rows as Arrow has it; `arrays` makes it of (n, k) numbers."""
    import pyarrow as pa

    values: Any = column.values(scored)
    if column.type == "array<double>":
        return (arrays or as_lists)(values)
    if column.type == "map<string,double>":
        return as_maps(scored.features, values)
    if column.type == "string":
        return pa.array(values, pa.string())
    kinds = {
        "int": (np.int32, pa.int32()),
        "double": (np.float64, pa.float64()),
        "boolean": (np.bool_, pa.bool_()),
    }
    dtype, kind = kinds[column.type]
    return pa.array(np.asarray(values, dtype=dtype), kind)


def as_maps(keys: tuple[str, ...], values: Array) -> pa.Array:
    """Return the rows of values (n, d) as maps from d keys to doubles."""
    import pyarrow as pa

    n, d = values.shape
    offsets = pa.array(np.arange(0, (n + 1) * d, d, dtype=np.int32))
    names = pa.array(keys, pa.string()).take(pa.array(np.tile(np.arange(d), n)))
    kind = pa.map_(pa.string(), pa.field("value", pa.float64(), nullable=False))
    return pa.MapArray.from_arrays(offsets, names, pa.array(values.reshape(-1)), type=kind)


def as_lists(R: Array) -> pa.Array:
    """Return the rows of R (n, k) as arrays of doubles, without a copy."""
    import pyarrow as pa

    n, k = R.shape
    offsets = pa.array(np.arange(0, (n + 1) * k, k, dtype=np.int32))
    kind = pa.list_(pa.field("element", pa.float64(), nullable=False))
    return pa.ListArray.from_arrays(offsets, pa.array(R.reshape(-1)), type=kind)
