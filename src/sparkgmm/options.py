"""Every option: its default, what it takes, what it is called where, and what it does.

The configuration, the Spark estimator, `fit_array`, the searches of the numerics and
docs/configuration.md take these from here; tests/test_options.py compares them all with this table.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sparkgmm.errors import InputError


class Kind(Protocol):
    """What values an option takes."""

    @property
    def description(self) -> str:
        """The values in words: "an integer of 1 or more"."""
        ...

    def take(self, value: Any) -> Any:
        """Return the value, as a plain one of Python's.

        Raises
        ------
        ValueError
            If the option does not take it; the text says what to give.
        """
        ...


@dataclass(frozen=True)
class Whole:
    """Integers from `least` to `most`, both included."""

    least: int
    most: int = 2**31 - 1  # what Spark and MLlib take for an int

    @property
    def description(self) -> str:
        """The values in words."""
        if self.most == 2**31 - 1:
            return f"an integer of {self.least} or more"
        return f"an integer from {_plain(self.least)} to {_plain(self.most)}"

    def take(self, value: Any) -> int:
        """Return an integer in the range; a truth value is none."""
        if isinstance(value, bool) or not isinstance(value, numbers.Integral):
            raise ValueError(f"give {self.description}")
        number = int(value)
        if number < self.least:
            raise ValueError(f"give an integer of {_plain(self.least)} or more")
        if number > self.most:
            raise ValueError(f"give an integer of {_plain(self.most)} or less")
        return number


@dataclass(frozen=True)
class Real:
    """Finite numbers from `least` to `most`; `above` and `below` leave the limit itself out."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    @property
    def description(self) -> str:
        """The values in words."""
        low = f"above {self.above:g}" if math.isfinite(self.above) else f"of {self.least:g} or more"
        if math.isfinite(self.most):
            return f"a number {low}, at most {self.most:g}"
        if math.isfinite(self.below):
            return f"a number {low}, below {self.below:g}"
        return f"a number {low}"

    def take(self, value: Any) -> float:
        """Return a number in the range; a truth value is none."""
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        number = float(value) if real else math.nan
        if not (
            math.isfinite(number)
            and self.least <= number <= self.most
            and self.above < number < self.below
        ):
            raise ValueError(f"give {self.description}")
        return number


@dataclass(frozen=True)
class OneOf:
    """One of some names."""

    choices: tuple[str, ...]

    @property
    def description(self) -> str:
        """The values in words."""
        return f"one of {', '.join(self.choices)}"

    def take(self, value: Any) -> str:
        """Return one of the choices."""
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(f"use {self.description}")
        return str(value)


@dataclass(frozen=True)
class Other:
    """Values that only their description says; whoever reads them checks them."""

    description: str

    def take(self, value: Any) -> Any:
        """Return the value."""
        return value


@dataclass(frozen=True)
class Required:
    """In place of the default of an option that has none."""


REQUIRED = Required()


@dataclass(frozen=True, repr=False)
class Option:
    """An option.

    Parameters
    ----------
    name : what the numerics, and errors, know it by
    default : None where it may be left out; `REQUIRED` where it may not
    kind : the values that it takes
    several : how the configuration takes more than one of them, empty where it does not
    description : what it does, in sentences for docs/configuration.md
    example : a value, as it is written in YAML
    key, same_as : its key in a job's configuration, and others that mean the same
    python, spark : its name in `fit_array`, and among the params of Spark ML
    spark_kind : what it takes there, where that differs

    """

    name: str
    default: Any
    kind: Kind
    description: str
    example: str = ""
    key: str | None = None
    same_as: tuple[str, ...] = ()
    python: str | None = None
    spark: str | None = None
    several: str = ""
    spark_kind: Kind | None = None

    def __repr__(self) -> str:
        return f"<option {self.name}>"

    @property
    def keys(self) -> tuple[str, ...]:
        """All its keys in the configuration."""
        return () if self.key is None else (self.key, *self.same_as)


def taken(option: Option, value: Any, name: str, kind: Kind | None = None) -> Any:
    """Return the value that a caller gave to the option, under the caller's name for it.

    Raises
    ------
    InputError
        If the option does not take it.
    """
    try:
        return (kind or option.kind).take(value)
    except ValueError as error:
        raise InputError(f"{name} is {value!r}", str(error)) from None


def _plain(number: int) -> str:
    """Return a number as people write it: 10000, 2**63 - 1."""
    size = abs(number).bit_length()
    for text, value in ((f"2**{size} - 1", 2**size - 1), (f"-2**{size - 1}", -(2 ** (size - 1)))):
        if size > 30 and number == value:
            return text
    return str(number)


COVARIANCE_TYPES = ("full", "tied", "diag", "spherical", "VEV")

_COUNT = Whole(1)
_SHARE = Real(least=0.0, below=1.0)
_NOT_NEGATIVE = Real(least=0.0)
_PATH = Other("a path or URI")
_COLUMN = Other("the name of a column")

# What a fit is asked for. -----------------------------------------------------------------------

K = Option(
    "k",
    2,
    _COUNT,
    "The number of components.",
    example="[2, 3, 4]",
    key="model.k",
    python="k",
    spark="k",
    several="or a list or range (1-6) to choose from",
)
COVARIANCE_TYPE = Option(
    "covariance_type",
    "full",
    OneOf(COVARIANCE_TYPES),
    "The covariances of the components: full is a matrix of its own for each, tied one matrix for "
    "all, diag a variance for each component and feature, spherical one for each component.",
    example="[full, tied]",
    key="model.covariance_type",
    python="covariance_type",
    spark="covarianceType",
    several="or a list to choose from",
)
CRITERION = Option(
    "criterion",
    "bic",
    OneOf(("bic", "aic", "icl")),
    "What chooses among the candidates, every k with every covariance type: the lowest wins.",
    example="icl",
    key="model.criterion",
    python="criterion",
)
INIT = Option(
    "init",
    "auto",
    OneOf(("auto", "k-means++", "random_from_data")),
    "Where the starts come from: k-means++ (rows that are far from each other), random_from_data "
    "(any rows), or auto: k-means++ and starts of other kinds, of which the best by short runs of "
    "EM get a run, and moves that leave one component out and split another.",
    example="random_from_data",
    key="model.init",
    python="init",
    spark="initMode",
)
N_INIT = Option(
    "n_init",
    10,
    Whole(1, 10_000),
    "The number of starts of each kind, for each candidate; the best sound one wins.",
    example="20",
    key="model.n_init",
    python="n_init",
    spark="nInit",
)
TOL = Option(
    "tol",
    1e-6,
    _NOT_NEGATIVE,
    "The fit ends where the mean log-likelihood a row is estimated to be within tol nats of its "
    "limit. At 0 it ends where rounding stops it, or after the last pass that it may take.",
    example="1.0e-8",
    key="model.tol",
    python="tol",
    spark="tol",
)
MAX_ITER = Option(
    "max_iter",
    200,
    _COUNT,
    "The number of passes over the data at most.",
    example="500",
    key="model.max_iter",
    python="max_iter",
    spark="maxIter",
)
REG_COVAR = Option(
    "reg_covar",
    1e-6,
    _NOT_NEGATIVE,
    "The least variance of a component of few rows, relative to each feature's. It widens no "
    "component that has rows enough.",
    example="0",
    key="model.reg_covar",
    python="reg_covar",
    spark="regCovar",
)
SEED = Option(
    "seed",
    0,
    Whole(0, 2**63 - 1),
    "The random seed of the starts: the same seed and data give the same model.",
    example="7",
    key="model.seed",
    python="seed",
    spark="seed",
    spark_kind=Whole(-(2**63), 2**63 - 1),  # any Java long, as Spark's own estimators take
)
AGGREGATION_DEPTH = Option(
    "aggregation_depth",
    2,
    Whole(2),
    "Taken for compatibility and without effect: sums are added in the order of the partitions.",
    spark="aggregationDepth",
)
ENGINE = Option(
    "engine",
    "em",
    OneOf(("em", "mllib")),
    "What fits: em is this package, mllib is Spark's own GaussianMixture (one k, full covariances, "
    "no warm start, no update), whose result is judged by one pass of ours.",
    example="mllib",
    key="model.engine",
)
WARM_START = Option(
    "warm_start",
    None,
    _PATH,
    "An earlier run, or an output root (its LATEST), whose model is one more start. Where an "
    "output root has no run yet, the fit begins without it.",
    example="runs/nightly",
    key="model.warm_start",
)
UPDATE = Option(
    "update",
    None,
    _PATH,
    "An earlier run, or an output root (its LATEST), to go on from: only the new rows are read, "
    "and the run's statistics count for its rows. It needs one k and one covariance type, engine "
    "em and no warm_start. See [incremental.md](incremental.md).",
    example="runs/nightly",
    key="model.update",
)
DECAY = Option(
    "decay",
    1.0,
    Real(above=0.0, most=1.0),
    "What the weight of all earlier rows is multiplied by at each update.",
    example="0.9",
    key="model.decay",
)

# Which rows it is about. ------------------------------------------------------------------------

PATH = Option(
    "path",
    None,
    Other("a path or URI, a glob, or a list of them"),
    "The files or folders to read, of any file system that Spark reads. It may be left out where "
    "`table` names the input, or the format needs no path.",
    example='["s3a://bucket/trips/*.parquet"]',
    key="input.path",
)
FORMAT = Option(
    "format",
    None,
    Other("csv, parquet, json, orc, delta, iceberg or any other data source of the Spark at hand"),
    "The format of the input. Left out, the extension of the files says it.",
    example="csv",
    key="input.format",
)
TABLE = Option(
    "table",
    None,
    Other("the name of a table or view of Spark's catalog"),
    "The table to read, in place of a path.",
    example="db.trips",
    key="input.table",
)
READER_OPTIONS = Option(
    "options",
    {},
    Other("keys with one value each"),
    "Options that are handed to Spark's reader of that format.",
    example='{header: true, sep: ";"}',
    key="input.options",
)
FEATURES = Option(
    "features",
    None,
    Other("the name of a column, or a list of names"),
    "Numeric columns, or one column of vectors. Left out: every numeric column but the weight, the "
    "categorical columns, the counts and the groups. An empty list: none, where there are such "
    "columns.",
    example="[distance, duration]",
    key="input.features",
    python="X",
    spark="featuresCol",
)
CATEGORICAL = Option(
    "categorical",
    [],
    Other("a list of names"),
    "Columns of strings, booleans or integers that are categories: each has a multinomial in every "
    "component, independent of the other columns there. Up to 256 levels each; when scoring, null "
    "and a level that was not seen are integrated out.",
    example="[sex, class]",
    key="input.categorical",
    python="categorical",
)
COUNTS = Option(
    "counts",
    [],
    Other("a list of names"),
    "Columns of counts, whole numbers of 0 or more: each has a Poisson in every component, "
    "independent of the other columns there.",
    example="[visits]",
    key="input.counts",
    python="counts",
)
WEIGHT = Option(
    "weight",
    None,
    _COLUMN,
    "A column of weights, 0 or more: a row of weight 2 counts as two rows.",
    example="passengers",
    key="input.weight",
    python="sample_weight",
    spark="weightCol",
)
GROUP_BY = Option(
    "group_by",
    [],
    Other("the name of a column, or a list of names"),
    "Columns of any simple type: every combination of their values gets a mixture of its own, all "
    "in one job. See [guide.md](guide.md#a-mixture-for-each-group).",
    example="[station]",
    key="input.group_by",
)
WHERE = Option(
    "where",
    None,
    Other("a predicate in Spark SQL"),
    "Which rows count; the others are as if they were not there.",
    example="distance > 0",
    key="input.where",
)
MISSING = Option(
    "missing",
    "invalid",
    OneOf(("invalid", "model")),
    "What null and NaN in a feature are: with invalid they make a row invalid, with model they are "
    "missing at random, and the mixture integrates over them, so that every row counts by what it "
    "has; scoring does the same then.",
    example="model",
    key="input.missing",
    python="missing",
    spark="missing",
)
INVALID_ROWS = Option(
    "invalid_rows",
    "fail",
    OneOf(("fail", "drop", "quarantine")),
    "What happens where a feature is null or NaN (unless missing is model), or infinite, or a "
    "weight is null, NaN or negative: fail ends the job, drop leaves such rows out and counts "
    "them, quarantine writes them down with the reason.",
    example="quarantine",
    key="input.invalid_rows",
)
CONSTANT_FEATURES = Option(
    "constant_features",
    "fail",
    OneOf(("fail", "drop")),
    "What happens where a feature has one value in all rows: fail ends the job, drop leaves the "
    "feature out and says so in metrics.json and in the report.",
    example="drop",
    key="input.constant_features",
)

# What a run leaves. -----------------------------------------------------------------------------

OUTPUT_PATH = Option(
    "output_path",
    REQUIRED,
    _PATH,
    "The output root: each run becomes a folder in it, and LATEST names the newest.",
    example="s3a://bucket/mixtures/trips",
    key="output.path",
)
RUN_ID = Option(
    "run_id",
    None,
    Other("letters, digits and . _ = -, at most 200, a letter or digit first"),
    "The name of the run's folder. {date} and {time} are filled in, in UTC. A run that is there "
    "already is left alone, one that was begun goes on. Left out: the time and a short hash of the "
    "configuration.",
    example='"{date}"',
    key="output.run_id",
)
REPORT = Option(
    "report",
    True,
    Other("true or false"),
    "Whether report.html and plots/ are drawn.",
    example="false",
    key="output.report",
)
KEEP_RUNS = Option(
    "keep_runs",
    None,
    _COUNT,
    "How many runs of the output root are kept: older ones are deleted, but never the one that "
    "LATEST names. Left out: all of them.",
    example="30",
    key="output.keep_runs",
)

# What changed since an earlier run. -------------------------------------------------------------

AGAINST = Option(
    "against",
    None,
    _PATH,
    "The run to compare with, or an output root (its LATEST). Left out: the run before this one in "
    "output.path.",
    example="runs/baseline",
    key="drift.against",
)


def _drift_measure(name: str, kind: Kind, example: str, description: str) -> Option:
    return Option(
        name,
        None,
        kind,
        description,
        example,
        key=f"drift.warn.{name}",
        same_as=(f"drift.fail.{name}",),
    )


MEASURES = {
    option.name: option
    for option in (
        _drift_measure(
            "divergence",
            Real(least=0.0, most=0.6931),
            "0.3",
            "Jensen and Shannon's divergence of the two mixtures, nats.",
        ),
        _drift_measure(
            "log_density_fall",
            _NOT_NEGATIVE,
            "0.1",
            "By how much the new rows are less likely under the earlier mixture than its own rows "
            "were, nats a row.",
        ),
        _drift_measure(
            "outlier_share",
            _SHARE,
            "0.01",
            "The share of the new rows that are rarer than 0.1% of the earlier rows.",
        ),
        _drift_measure(
            "weight_change", _SHARE, "0.05", "The largest change of a component's weight."
        ),
        _drift_measure(
            "weight_z",
            _NOT_NEGATIVE,
            "5",
            "The largest change of a component's weight, in standard errors.",
        ),
        _drift_measure(
            "mean_shift",
            _NOT_NEGATIVE,
            "0.5",
            "The largest shift of a component's mean, in its own standard deviations.",
        ),
        _drift_measure(
            "mean_z",
            _NOT_NEGATIVE,
            "5",
            "The largest change of one feature's mean in a component, in standard errors.",
        ),
        _drift_measure("appeared", Whole(0), "0", "How many components have no predecessor."),
        _drift_measure("vanished", Whole(0), "0", "How many components have no successor."),
    )
}

# What a score job writes. -----------------------------------------------------------------------

SCORED_BY = Option(
    "scored_by",
    REQUIRED,
    _PATH,
    "The model: a run, or an output root (its LATEST).",
    example="s3a://bucket/mixtures/trips",
    key="model",
)
SCORED_PATH = Option(
    "scored_path",
    None,
    _PATH,
    "The folder that the scored rows are written to; it appears whole or not at all.",
    example="s3a://bucket/scored/today",
    key="output.path",
)
SCORED_TABLE = Option(
    "scored_table",
    None,
    Other("the name of a table of Spark's catalog"),
    "The table that the scored rows are written to in one commit, in place of a path.",
    example="db.scored",
    key="output.table",
)
SCORED_FORMAT = Option(
    "scored_format",
    "parquet",
    OneOf(("parquet", "orc", "json", "csv", "delta", "iceberg")),
    "The format of the scored rows.",
    example="orc",
    key="output.format",
)
MODE = Option(
    "mode",
    "error",
    OneOf(("error", "overwrite", "append")),
    "What happens where the output exists: error ends the job, overwrite replaces it once the new "
    "rows are whole, append adds to it.",
    example="overwrite",
    key="output.mode",
)
COLUMNS = Option(
    "columns",
    ["component", "probability", "log_density"],
    OneOf(("probability", "component", "log_density", "label", "surprise")),
    "The columns that are added: the most probable component, the probability of each, the natural "
    "log of the density, the component's label (of runs with a section drift), and surprise: a map "
    "from each feature, categorical column and count to -log p(it | the rest of the row), which "
    "says what makes a row strange (NaN where it is not known).",
    example="[component, label]",
    key="output.columns",
    several="in a list",
)
KEEP = Option(
    "keep",
    "all",
    Other("all, or a list of columns"),
    "Which columns of the input are written beside them.",
    example="[trip_id, distance]",
    key="output.keep",
)
OUTLIER_QUANTILE = Option(
    "outlier_quantile",
    None,
    Real(above=0.0, below=1.0),
    "Adds a column outlier: whether the row is rarer than this share of the rows that the model "
    "was fitted to.",
    example="0.001",
    key="output.outlier_quantile",
)
IMPUTE = Option(
    "impute",
    False,
    Other("true or false"),
    "Whether a null or NaN of a feature is replaced by its mean given what its row has, instead of "
    "making the row invalid; the row is scored by what it has. Counts become their mean too, which "
    "need not be whole, and categorical columns the most probable level; a level that the model "
    "does not have stays. All features are then written: numbers and counts as doubles, levels in "
    "the type of their column. A row with nulls is never an outlier: the density of fewer features "
    "compares with no quantile.",
    example="true",
    key="output.impute",
)
PREDICT = Option(
    "predict",
    [],
    Other("a list of features"),
    "Features, or counts, of which `<feature>_mean` and `<feature>_sd` are added: mean and "
    "standard deviation given the rest of the row, each without the column itself. In the input "
    "such a feature may be null, or no column at all.",
    example="[fare]",
    key="output.predict",
)

# What a compare job does. -----------------------------------------------------------------------

PEERS = Option(
    "peers",
    ["sklearn", "mllib", "kmeans"],
    OneOf(("sklearn", "mllib", "kmeans")),
    "Whom to compare with: scikit-learn, Spark's MLlib, and Spark's k-means.",
    example="[sklearn]",
    key="compare.peers",
    several="in a list",
)
SAMPLE_ROWS = Option(
    "sample_rows",
    200_000,
    _COUNT,
    "How many rows, drawn from all, those peers get that run on one machine.",
    example="50000",
    key="compare.sample_rows",
)
COMPARED_PATH = Option(
    "compared_path",
    REQUIRED,
    _PATH,
    "The folder that gets compare.html, compare.json and plots/.",
    example="runs/faithful-compare",
    key="output.path",
)


@dataclass(frozen=True)
class Job:
    """A job: what it is started by, and the options of its configuration."""

    name: str
    description: str
    options: tuple[Option, ...]
    sections: Mapping[str, str] = field(default_factory=dict)

    @property
    def keys(self) -> dict[str, Option]:
        """Its options by their keys, each of a key's own."""
        return {key: option for option in self.options for key in option.keys}


_SOURCE = (PATH, FORMAT, TABLE, READER_OPTIONS)
_INPUT = (
    *_SOURCE,
    FEATURES,
    CATEGORICAL,
    COUNTS,
    WEIGHT,
    GROUP_BY,
    WHERE,
    INVALID_ROWS,
    CONSTANT_FEATURES,
)
_MODEL = (
    ENGINE,
    K,
    COVARIANCE_TYPE,
    CRITERION,
    INIT,
    N_INIT,
    TOL,
    MAX_ITER,
    REG_COVAR,
    SEED,
    WARM_START,
    UPDATE,
    DECAY,
)
JOBS = (
    Job(
        "fit",
        "Fits a mixture to a table and writes the run.",
        (
            *_INPUT,
            MISSING,
            *_MODEL,
            OUTPUT_PATH,
            RUN_ID,
            REPORT,
            KEEP_RUNS,
            AGAINST,
            *MEASURES.values(),
        ),
        {
            "input": "Where the rows are, and which columns count.",
            "model": "What to fit, and how.",
            "output": "Where the run goes.",
            "drift": "What to compare the run with, and which changes are too large. Without the "
            "section nothing is compared. See [drift.md](drift.md).",
            "drift.warn": "A measure above its threshold in warn is said in the terminal and in "
            "the report; above that in fail the run is written, but LATEST stays and the job ends "
            "with exit code 5. Left out: no threshold.",
        },
    ),
    Job(
        "score",
        "Gives every row of a table its component, their probabilities and its log density.",
        (
            *_SOURCE,
            WHERE,
            INVALID_ROWS,
            SCORED_BY,
            SCORED_PATH,
            SCORED_TABLE,
            SCORED_FORMAT,
            MODE,
            COLUMNS,
            KEEP,
            OUTLIER_QUANTILE,
            IMPUTE,
            PREDICT,
        ),
        {
            "input": "Where the rows to score are; their features are those of the model.",
            "output": "Where the scored rows go, and with which columns.",
        },
    ),
    Job(
        "compare",
        "Fits a table by this and by other software, and shows where they differ.",
        (*_INPUT, *_MODEL, PEERS, SAMPLE_ROWS, COMPARED_PATH),
        {
            "input": "Where the rows are, and which columns count.",
            "model": "What to fit, and how. Peers need all the rows, so that update is refused.",
            "compare": "Whom to compare with.",
            "output": "Where the comparison goes.",
        },
    ),
)
# Every option once. A name says one option, whichever jobs have it.
OPTIONS = {o.name: o for o in (*(o for job in JOBS for o in job.options), AGGREGATION_DEPTH)}


def _names(options: Iterable[Option], front_end: str) -> dict[str, str]:
    found = {option.name: getattr(option, front_end) for option in options}
    return {name: own for name, own in found.items() if own is not None}


# What the front ends call the options: for `errors.option_names`.
KEYS = _names(OPTIONS.values(), "key")
PYTHON = _names(OPTIONS.values(), "python")
SPARK = _names(OPTIONS.values(), "spark")
