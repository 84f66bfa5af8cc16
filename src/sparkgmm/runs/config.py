"""A job's configuration: YAML and --set, checked before Spark starts, errors by dotted path."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import reprlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args, overload

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from sparkgmm import options as opt
from sparkgmm.errors import ConfigurationError
from sparkgmm.runs.yaml_errors import explained
from sparkgmm.spark.masking import masked_values
from sparkgmm.spark.names import TableName, is_table_name
from sparkgmm.spark.score_columns import selectable_columns

# What a run_id may hold for the moment in which the job starts.
_TIMES = {"{date}": "%Y-%m-%d", "{time}": "%Y%m%dT%H%M%SZ"}
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,199}")


# So many problems are shown at once, with the values met cut short: a few lines of YAML can hold
# ten thousand million values by their anchors.
_MANY_PROBLEMS = 10
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 300, 80


def _number(value: object) -> object:
    """Take 1e-6 for a number, which YAML 1.1 takes for text."""
    if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", value):
        return float(value)
    return value


def _checked(option: opt.Option) -> BeforeValidator:
    """Return the check of a value by the table of options."""
    kind = option.kind
    if isinstance(kind, opt.Real):
        return BeforeValidator(lambda value: kind.take(_number(value)))
    return BeforeValidator(kind.take)


# Such as 1-6, which YAML takes for text; and how many values one may stand for.
_RANGE = re.compile(r"\s*(\d{1,9})\s*-\s*(\d{1,9})\s*")
_MOST_OF_A_RANGE = 1000


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("it is empty: give a path")
    return value


def _named_as_a_table(value: str) -> str:
    if not is_table_name(value):
        raise ValueError(
            "it is no name of a table: write table, db.table or catalog.db.table, and parts with "
            "blanks or dots in backticks"
        )
    return value


Location = Annotated[StrictStr, AfterValidator(_not_blank)]
Table = Annotated[StrictStr, AfterValidator(_named_as_a_table)]


def _listed(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _ranged(value: object) -> object:
    """Return the integers of a range such as 1-6, both ends among them; anything else as it is."""
    ends = _RANGE.fullmatch(value) if isinstance(value, str) else None
    if ends is None:
        return _listed(value)
    first, last = int(ends[1]), int(ends[2])
    if not first <= last < first + _MOST_OF_A_RANGE:
        raise ValueError(
            f"the range {value!r} goes from {first} to {last}: give the smaller end first, and at "
            f"most {_MOST_OF_A_RANGE} values"
        )
    return list(range(first, last + 1))


def _distinct(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("a value appears twice: give each once")
    return values


def _all_or_listed(value: object) -> object:
    if isinstance(value, str) and value != "all":
        raise ValueError("give all, or a list of columns")
    return value


def _distinct_if_listed(value: Any) -> Any:
    return _distinct(value) if isinstance(value, list) else value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Source(_Section):
    """Where the rows are."""

    path: Location | Annotated[list[Location], Field(min_length=1)] | None = opt.PATH.default
    format: StrictStr | None = opt.FORMAT.default
    options: dict[StrictStr, Any] = opt.READER_OPTIONS.default
    table: Table | None = opt.TABLE.default

    @property
    def place(self) -> str | list[str] | TableName | None:
        """The path or paths, or the table's name: what messages call the input by."""
        return self.path if self.table is None else TableName(self.table)

    @field_validator("options")
    @classmethod
    def _options_scalar(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, option in value.items():
            if isinstance(option, dict | list):
                raise ValueError(f"option {key!r} holds {_SHORT.repr(option)}: give one value")
        return value

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.table is not None:
            self._check_table()
        elif self.path is None and self.format is None:
            raise ValueError("path is missing: give the file or folder to read, or a table")
        return self

    def _check_table(self) -> None:
        if self.path is not None:
            raise ValueError(
                f"path {_SHORT.repr(self.path)} and table {self.table!r} are both set: leave one "
                "of them out"
            )
        if self.format is not None:
            raise ValueError(
                f"format is {self.format!r}, but table {self.table!r} has a format of its own: "
                "leave format out"
            )
        if any(key.lower() == "schema" for key in self.options):
            raise ValueError(
                f"options name a schema, but table {self.table!r} has one of its own: leave it out"
            )


class InputConfig(_Source):
    """Where the rows are and which columns count; what a fit and a comparison have in common."""

    categorical: Annotated[list[StrictStr], BeforeValidator(_listed)] = opt.CATEGORICAL.default
    counts: Annotated[list[StrictStr], BeforeValidator(_listed)] = opt.COUNTS.default
    features: StrictStr | list[StrictStr] | None = opt.FEATURES.default
    weight: StrictStr | None = opt.WEIGHT.default
    group_by: Annotated[list[StrictStr], BeforeValidator(_listed)] = opt.GROUP_BY.default
    where: StrictStr | None = opt.WHERE.default
    invalid_rows: Annotated[str, _checked(opt.INVALID_ROWS)] = opt.INVALID_ROWS.default
    constant_features: Annotated[str, _checked(opt.CONSTANT_FEATURES)] = (
        opt.CONSTANT_FEATURES.default
    )

    _distinct = field_validator("features", "categorical", "counts", "group_by")(
        _distinct_if_listed
    )

    @field_validator("features")
    @classmethod
    def _some_column(cls, value: Any, info: ValidationInfo) -> Any:
        if value == [] and not info.data.get("categorical") and not info.data.get("counts"):
            raise ValueError("name one or more columns, or leave it out")
        return value

    @property
    def beside(self) -> list[str]:
        """The columns that are categorical or counts."""
        return [*self.categorical, *self.counts]

    @model_validator(mode="after")
    def _columns_apart(self) -> Self:
        if self.weight is not None and self.weight in _names(self.features):
            raise ValueError(f"weight {self.weight!r} is one of the features too")
        named = {"features": _names(self.features), "weight": _names(self.weight)}
        named |= {
            "categorical": self.categorical,
            "counts": self.counts,
            "group_by": self.group_by,
        }
        for key in ("categorical", "counts", "group_by"):
            for other, names in named.items():
                both = [name for name in named[key] if name in names]
                if other != key and both:
                    raise ValueError(f"{key} and {other} both name {both[0]!r}: name it in one")
        return self


class FitInputConfig(InputConfig):
    """Where the rows of a fit are, which columns count, and what null is."""

    missing: Annotated[str, _checked(opt.MISSING)] = opt.MISSING.default


def _names(features: str | list[str] | None) -> list[str]:
    return features if isinstance(features, list) else [features] if features else []


class ModelConfig(_Section):
    """What to fit and how."""

    engine: Annotated[str, _checked(opt.ENGINE)] = opt.ENGINE.default
    k: Annotated[
        list[Annotated[int, _checked(opt.K)]], BeforeValidator(_ranged), Field(min_length=1)
    ] = [opt.K.default]
    covariance_type: Annotated[
        list[Annotated[str, _checked(opt.COVARIANCE_TYPE)]],
        BeforeValidator(_listed),
        Field(min_length=1),
    ] = [opt.COVARIANCE_TYPE.default]
    criterion: Annotated[str, _checked(opt.CRITERION)] = opt.CRITERION.default
    init: Annotated[str, _checked(opt.INIT)] = opt.INIT.default
    n_init: Annotated[int, _checked(opt.N_INIT)] = opt.N_INIT.default
    tol: Annotated[float, _checked(opt.TOL)] = opt.TOL.default
    max_iter: Annotated[int, _checked(opt.MAX_ITER)] = opt.MAX_ITER.default
    reg_covar: Annotated[float, _checked(opt.REG_COVAR)] = opt.REG_COVAR.default
    seed: Annotated[int, _checked(opt.SEED)] = opt.SEED.default
    warm_start: StrictStr | None = opt.WARM_START.default
    update: Location | None = opt.UPDATE.default
    decay: Annotated[float, _checked(opt.DECAY)] = opt.DECAY.default

    _distinct = field_validator("k", "covariance_type")(_distinct)

    @model_validator(mode="after")
    def _mllib_can(self) -> ModelConfig:
        if self.engine == "mllib":
            if self.covariance_type != ["full"]:
                raise ValueError(
                    f"covariance_type is {self.covariance_type}, engine mllib fits full alone: "
                    "use engine em"
                )
            if len(self.k) > 1:
                raise ValueError(f"k is {self.k}, engine mllib fits one k a run: use engine em")
            if self.warm_start is not None:
                raise ValueError("warm_start is set, engine mllib cannot use one: use engine em")
        return self

    @model_validator(mode="after")
    def _update_can(self) -> Self:
        if self.update is None:
            return self
        if self.engine != "em":
            raise ValueError(f"update is set, engine {self.engine} cannot use it: use engine em")
        if self.warm_start is not None:
            raise ValueError("update and warm_start are set: an update has its start, leave one")
        if len(self.k) * len(self.covariance_type) > 1:
            raise ValueError("update goes with one k and one covariance_type")
        return self


class OutputConfig(_Section):
    """Where the run goes."""

    path: Location
    run_id: StrictStr | None = opt.RUN_ID.default
    report: StrictBool = opt.REPORT.default
    keep_runs: Annotated[int, _checked(opt.KEEP_RUNS)] | None = opt.KEEP_RUNS.default

    @field_validator("run_id")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        if value is None:
            return None
        now = datetime.now(UTC)
        for placeholder, shape in _TIMES.items():
            value = value.replace(placeholder, now.strftime(shape))
        if not RUN_ID.fullmatch(value) or value == "LATEST":
            raise ValueError(
                "use letters, digits and . _ = - only, a letter or digit first; {date} and {time} "
                "are those of the start, in UTC"
            )
        return value


def _limit(measure: opt.Option) -> Any:
    """Return the type of a threshold."""
    kind = int if isinstance(measure.kind, opt.Whole) else float
    return Annotated[kind, _checked(measure)] | None


_limits: dict[str, Any] = {name: (_limit(option), None) for name, option in opt.MEASURES.items()}


class ThresholdsConfig(create_model("_Limits", __base__=_Section, **_limits)):  # type: ignore[misc]
    """What drift may be at most, by measure; docs/drift.md says what each measures."""


class DriftConfig(_Section):
    """What to compare a run with, and which changes warn or fail it."""

    against: Location | None = opt.AGAINST.default
    warn: ThresholdsConfig = Field(default_factory=ThresholdsConfig)
    fail: ThresholdsConfig = Field(default_factory=ThresholdsConfig)


class ScoreInputConfig(_Source):
    """Where the rows to score are; their features are the model's."""

    where: StrictStr | None = opt.WHERE.default
    invalid_rows: Annotated[str, _checked(opt.INVALID_ROWS)] = opt.INVALID_ROWS.default


def _score_column(value: Any) -> str:
    return str(opt.OneOf(tuple(selectable_columns())).take(value))


ScoreColumnName = Annotated[str, BeforeValidator(_score_column)]


class ScoreOutputConfig(_Section):
    """Where the scored rows go, and with which columns."""

    path: Location | None = opt.SCORED_PATH.default
    table: Table | None = opt.SCORED_TABLE.default
    format: Annotated[str, _checked(opt.SCORED_FORMAT)] = opt.SCORED_FORMAT.default
    mode: Annotated[Literal["error", "overwrite", "append"], _checked(opt.MODE)] = opt.MODE.default
    columns: Annotated[list[ScoreColumnName], Field(min_length=1)] = opt.COLUMNS.default
    keep: Annotated[Literal["all"] | list[StrictStr], BeforeValidator(_all_or_listed)] = (
        opt.KEEP.default
    )
    outlier_quantile: Annotated[float, _checked(opt.OUTLIER_QUANTILE)] | None = (
        opt.OUTLIER_QUANTILE.default
    )

    impute: StrictBool = opt.IMPUTE.default
    predict: list[StrictStr] = opt.PREDICT.default

    _distinct = field_validator("columns", "keep", "predict")(_distinct_if_listed)

    @property
    def place(self) -> str | TableName:
        """The path, or the table's name: what messages call the output by."""
        return str(self.path) if self.table is None else TableName(self.table)

    @property
    def table_format(self) -> str | None:
        """The format that the user asked for, or None: that of the table or of its catalog."""
        return self.format if "format" in self.model_fields_set else None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.table is None and self.path is None:
            raise ValueError("path is missing: set it, or table")
        if self.table is not None and self.path is not None:
            raise ValueError(
                f"path {self.path!r} and table {self.table!r} are both set: leave one of them out"
            )
        if self.table is not None and self.format in ("json", "csv"):
            raise ValueError(
                f"format is {self.format!r}, which is not for tables: use parquet, orc, delta or "
                "iceberg"
            )
        return self


class PeersConfig(_Section):
    """Whom to compare with."""

    peers: Annotated[list[Annotated[str, _checked(opt.PEERS)]], Field(min_length=1)] = (
        opt.PEERS.default
    )
    sample_rows: Annotated[int, _checked(opt.SAMPLE_ROWS)] = opt.SAMPLE_ROWS.default

    _distinct = field_validator("peers")(_distinct)


class CompareOutputConfig(_Section):
    """Where the comparison goes."""

    path: Location


class _Job(_Section):
    """The configuration of a job: each has rows to read."""

    def resolved(self) -> dict[str, Any]:
        """Return all keys with their values, single choices as single values, secrets masked."""
        values = self.model_dump()
        model = values["model"]
        for key in ("k", "covariance_type"):
            if isinstance(model, dict) and len(model[key]) == 1:
                model[key] = model[key][0]
        return masked_values(values)


# The sections that say what becomes of what was fitted.
_JUDGED_AFTER = {"output", "drift"}


class FitConfig(_Job):
    """A fit job's configuration."""

    input: FitInputConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    output: OutputConfig
    drift: DriftConfig | None = None

    @model_validator(mode="after")
    def _mllib_needs_all(self) -> Self:
        if self.model.engine == "mllib" and self.input.missing == "model":
            raise ValueError(
                "input.missing is model, engine mllib cannot integrate over what is missing: use "
                "model.engine em"
            )
        return self

    @model_validator(mode="after")
    def _parts_can(self) -> Self:
        if not self.input.beside:
            return self
        what = "input.categorical or input.counts are set"
        if self.model.engine != "em":
            raise ValueError(
                f"{what}, engine {self.model.engine} fits numeric features alone: use engine em"
            )
        for key in ("update", "warm_start"):
            if getattr(self.model, key) is not None:
                raise ValueError(
                    f"{what}, and model.{key} goes with numeric features alone so far: leave it "
                    "out, and fit all the rows anew"
                )
        return self

    @model_validator(mode="after")
    def _groups_can(self) -> Self:
        """Refuse with groups what needs one mixture, or all the rows at once."""
        if self.input.group_by:
            model = self.model
            asked = {
                "model.engine": model.engine != "em" and f"{model.engine!r}: use em",
                "model.warm_start": model.warm_start is not None and "set: leave it out",
                "model.update": model.update is not None and "set: leave it out",
                "drift": self.drift is not None and "set: leave it out",
                "input.missing": self.input.missing == "model" and "model: leave it out",
                "input.categorical": bool(self.input.categorical) and "set: leave it out",
                "input.counts": bool(self.input.counts) and "set: leave it out",
            }
            for key, problem in asked.items():
                if problem:
                    raise ValueError(
                        f"{key} does not go with input.group_by, and is {problem}, or fit one "
                        "mixture"
                    )
        return self

    def deciding(self) -> dict[str, Any]:
        """Return the sections that decide what the fit finds, resolved."""
        return {key: value for key, value in self.resolved().items() if key not in _JUDGED_AFTER}

    def digest(self) -> str:
        """Return a short hash of what is fitted: everything but where it goes."""
        values = self.model_dump(exclude=_JUDGED_AFTER)
        for key in ("table", "categorical", "counts", "group_by"):
            if not values["input"][key]:  # a key that came later: digests stay as they were
                del values["input"][key]
        if values["input"]["missing"] == opt.MISSING.default:  # and so did this one
            del values["input"]["missing"]
        text = json.dumps(values, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class ScoreConfig(_Job):
    """A score job's configuration; `model` is a run or an output root."""

    input: ScoreInputConfig
    model: Location
    output: ScoreOutputConfig


class CompareConfig(_Job):
    """A compare job's configuration."""

    input: InputConfig
    model: ModelConfig = Field(default_factory=ModelConfig)
    compare: PeersConfig = Field(default_factory=PeersConfig)
    output: CompareOutputConfig

    @model_validator(mode="after")
    def _all_rows(self) -> Self:
        if self.model.update is not None:
            raise ValueError("model.update is set: peers are compared over all the rows, leave it")
        if self.input.beside:
            raise ValueError(
                f"input.categorical or input.counts name {self.input.beside[0]!r}, which no peer "
                "can fit: compare by numeric features alone"
            )
        if self.input.group_by:
            raise ValueError("input.group_by is set: one mixture is compared, leave it out")
        return self


AnyConfig = TypeVar("AnyConfig", FitConfig, ScoreConfig, CompareConfig)


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML without surprises: a key that appears twice is an error, a date is text."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Tell values that are not of their tag, where yaml fails in ways of its own."""
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, str):
                value.encode()  # half a surrogate pair is no text
        except ConfigurationError:
            raise
        except (ValueError, KeyError, AttributeError) as error:
            problem = f"{_SHORT.repr(node.value)} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error
        return value

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            name = getattr(key, "value", None)
            if isinstance(name, str) and name != "<<":
                if name in seen:
                    raise ConfigurationError(
                        f"key {name!r} appears twice (line {key.start_mark.line + 1}): keep one"
                    )
                seen.add(name)
        return super().construct_mapping(node, deep)


@overload
def load_config(path: str, overrides: Sequence[str] = ()) -> FitConfig: ...
@overload
def load_config(path: str, overrides: Sequence[str], schema: type[AnyConfig]) -> AnyConfig: ...
def load_config(path: str, overrides: Sequence[str] = (), schema: type[_Job] = FitConfig) -> _Job:
    """Read a YAML file, lay `a.b=value` overrides over it and check the result by a schema.

    Raises
    ------
    ConfigurationError
        If the file is missing or no YAML, or a key or value is wrong: all are named.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # no UTF-8, or a path with a NUL
        raise ConfigurationError(
            f"--config {path!r} cannot be read ({getattr(error, 'strerror', None) or error}): "
            "give a YAML file"
        ) from error
    values = _parse(text, f"--config {path!r}")
    if not isinstance(values, dict):
        found = "nothing" if values is None else type(values).__name__
        raise ConfigurationError(
            f"--config {path!r} holds {found}, not sections: write "
            + ", ".join(f"{name}:" for name in schema.model_fields)
        )
    for override in overrides:
        _override(values, override)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = list(dict.fromkeys(_problem(d, schema) for d in details[:_MANY_PROBLEMS]))
        more = len(details) - _MANY_PROBLEMS
        raise ConfigurationError(
            "; ".join([*problems, *([f"and {more} more"] if more > 0 else [])])
        ) from None


def _parse(text: str, origin: str) -> Any:
    try:
        return yaml.load(text, Loader=_UniqueKeys)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{origin} is no valid YAML: {explained(error, text)}") from error


def _override(values: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    parts = key.strip().split(".")
    if not separator or not all(parts):
        raise ConfigurationError(f"--set {override!r} is not of the form a.b=value")
    here = values
    for part in parts[:-1]:
        if here.get(part) is None:
            here[part] = {}
        here = here[part]
        if not isinstance(here, dict):
            raise ConfigurationError(f"--set {override!r}: {part!r} holds no keys")
    here[parts[-1]] = _parse(value, f"--set {override!r}")


def _problem(detail: ErrorDetails, schema: type[BaseModel]) -> str:
    """Say one thing that is wrong: dotted path, value met, remedy."""
    location = [str(part) for part in detail["loc"]]
    keys = list(_keys(schema))
    words = {part for key in keys for part in key.split(".")}
    path = ".".join([part for part in location if part in words] or location)
    if detail["type"] == "extra_forbidden":
        path = ".".join(location)
        near = _nearest(path, keys)
        valid = ", ".join(_siblings(path, keys))
        return f"unknown key {path}: " + (
            f"did you mean {near}?" if near else f"valid keys are {valid}"
        )
    if detail["type"] == "missing":
        return f"{'.'.join(location)} is missing: set it"
    message = detail["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if isinstance(detail["input"], dict):
        return f"{path}: {message}" if path else message
    return f"{path} is {_SHORT.repr(detail['input'])}: {message}"


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        for kind in (field.annotation, *get_args(field.annotation)):  # a section may be left out
            if isinstance(kind, type) and issubclass(kind, _Section):
                yield from _keys(kind, f"{prefix}{name}.")


def _siblings(path: str, keys: Sequence[str]) -> list[str]:
    parent = path.rpartition(".")[0]
    return [key for key in keys if key.rpartition(".")[0] == parent]


def _nearest(path: str, keys: Sequence[str]) -> str | None:
    """Return the valid key nearest to an unknown one: of its name, in its section, anywhere."""
    name = path.rpartition(".")[2]
    leaves = {key.rpartition(".")[2]: key for key in keys}
    if name in leaves:
        return leaves[name]
    siblings = {key.rpartition(".")[2]: key for key in _siblings(path, keys)}
    near = difflib.get_close_matches(name, siblings, 1, 0.5)
    if near:
        return siblings[near[0]]
    near = difflib.get_close_matches(name, leaves, 1, 0.7)
    return leaves[near[0]] if near else None
