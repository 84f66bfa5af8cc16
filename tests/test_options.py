"""One table of options: the configuration, `fit_array`, Spark ML and the numerics agree with it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import yaml

from sparkgmm import GaussianMixture, fit_array, options
from sparkgmm.core import local
from sparkgmm.core.drift import MEASURES
from sparkgmm.core.em import Settings
from sparkgmm.core.initialisation import AUTO, INIT
from sparkgmm.core.prior import Bounded
from sparkgmm.core.search import Search
from sparkgmm.core.selection import Candidate
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import COVARIANCE_TYPES
from sparkgmm.options import JOBS, OPTIONS, REQUIRED, Job, Kind, OneOf, Option, Real, Whole
from sparkgmm.runs.config import CompareConfig, FitConfig, ScoreConfig, load_config
from sparkgmm.spark.ml.params import MixtureParams
from sparkgmm.spark.score_columns import transform_columns

SCHEMAS: dict[str, Any] = {"fit": FitConfig, "score": ScoreConfig, "compare": CompareConfig}
MINIMAL = {
    "fit": "input: {path: a.csv}\noutput: {path: runs}\n",
    "score": "input: {path: a.csv}\nmodel: runs\noutput: {path: scored}\n",
    "compare": "input: {path: a.csv}\noutput: {path: runs}\n",
}
# Where Python takes an array and Spark ML a column, there is no value to compare.
COLUMNS = {"features", "weight", "categorical", "counts"}
IN_PYTHON = [o for o in OPTIONS.values() if o.python and o.name not in COLUMNS]
IN_SPARK = [o for o in OPTIONS.values() if o.spark and o.name not in COLUMNS]
KEYS = [(job, key, option) for job in JOBS for key, option in job.keys.items()]


class Edges(NamedTuple):
    """The outermost values that an option takes, and the nearest that it does not."""

    inside: tuple[Any, ...]
    outside: tuple[Any, ...]


def edges(kind: Kind) -> Edges:
    if isinstance(kind, Whole):
        return Edges((kind.least, kind.most), (kind.least - 1, kind.most + 1))
    if isinstance(kind, Real):
        return _edges_of_a_number(kind)
    if isinstance(kind, OneOf):
        return Edges(kind.choices, ("nonsense", kind.choices[0].upper()))
    return Edges((), ())


def _edges_of_a_number(kind: Real) -> Edges:
    inside, outside = [], [float("nan"), float("inf"), float("-inf")]
    for limit, is_in in (
        (kind.least, True),
        (kind.most, True),
        (kind.above, False),
        (kind.below, False),
    ):
        if abs(limit) < float("inf"):
            (inside if is_in else outside).append(limit)
            step = 1e-6 if limit in (kind.least, kind.above) else -1e-6
            (inside if not is_in else outside).append(limit + (step if not is_in else -step))
    return Edges(tuple(inside), tuple(outside))


def ids(value: object) -> str | None:
    return value.name if isinstance(value, Option | Job) else None


# --- the table itself


def test_a_name_or_a_key_of_a_job_says_one_option() -> None:
    listed = {id(o): o for job in JOBS for o in job.options}
    assert len({o.name for o in listed.values()}) == len(listed)
    for job in JOBS:
        assert len(job.keys) == sum(len(option.keys) for option in job.options)
    for names in (options.PYTHON, options.SPARK):
        assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=ids)
def test_every_option_takes_its_own_default_and_says_what_it_is(option: Option) -> None:
    assert re.fullmatch(r"[A-Z].*\.", option.description)
    if option.default in (None, REQUIRED):
        return
    values = option.default if isinstance(option.default, list) else [option.default]
    for value in values:
        taken = option.kind.take(value)
        assert (taken, type(taken)) == (value, type(value))


@pytest.mark.parametrize(
    ("kind", "value", "remedy"),
    [
        (Whole(1), 0, "give an integer of 1 or more"),
        (Whole(1), 2**31, "give an integer of 2**31 - 1 or less"),
        (Whole(1, 10_000), 10_001, "give an integer of 10000 or less"),
        (Whole(0, 2**63 - 1), -1, "give an integer of 0 or more"),
        (Whole(0, 2**63 - 1), "7", "give an integer from 0 to 2**63 - 1"),
        (Whole(1), True, "give an integer of 1 or more"),
        (Real(least=0.0), True, "give a number of 0 or more"),
        (Real(above=0.0, most=1.0), 0.0, "give a number above 0, at most 1"),
        (Real(least=0.0, below=1.0), 1.0, "give a number of 0 or more, below 1"),
        (OneOf(("a", "b")), "c", "use one of a, b"),
        (OneOf(("a", "b")), ["a"], "use one of a, b"),
    ],
)
def test_a_value_that_is_not_taken_is_answered_by_what_is(
    kind: Kind, value: Any, remedy: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(remedy) + "$"):
        kind.take(value)


# --- the numerics


def test_the_searches_of_the_numerics_have_the_defaults_of_the_table() -> None:
    search, settings = Search(), Settings()
    for name in ("criterion", "init", "n_init", "seed"):
        assert getattr(search, name) == OPTIONS[name].default
    for name in ("tol", "max_iter"):
        assert getattr(settings, name) == OPTIONS[name].default
    assert settings.prior == Bounded(OPTIONS["reg_covar"].default)
    assert (search.k, search.covariance_type) == (
        (options.K.default,),
        (options.COVARIANCE_TYPE.default,),
    )


def test_the_choices_of_the_table_are_what_there_is() -> None:
    assert options.INIT.kind == OneOf((AUTO, *INIT))
    assert options.COVARIANCE_TYPE.kind == OneOf(tuple(COVARIANCE_TYPES))
    assert isinstance(options.CRITERION.kind, OneOf)
    for criterion in options.CRITERION.kind.choices:
        assert isinstance(getattr(Candidate, criterion), property)
    assert options.MEASURES.keys() == MEASURES.keys()


# --- fit_array


def test_fit_array_has_every_option_under_its_name_with_its_default() -> None:
    parameters = inspect.signature(fit_array).parameters
    starts = {"weights_init", "means_init", "precisions_init"}
    assert parameters.keys() - starts == set(options.PYTHON.values())
    for option in IN_PYTHON:
        default = parameters[str(option.python)].default
        if option is not options.K:  # who calls fit_array says how many
            assert (default, type(default)) == (option.default, type(option.default))
        one = type(option.default).__name__
        several = f"{one} | Sequence[{one}]" if option.several else one
        assert parameters[str(option.python)].annotation == several


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A function that calls fit_array and returns the option as the search has it."""

    class Reached(Exception):  # noqa: N818
        pass

    def fit(rows: object, search: Search, features: object, starts: object) -> NoReturn:
        raise Reached(search)

    monkeypatch.setattr(local, "fit", fit)

    def value_of(option: Option, value: Any) -> Any:
        with pytest.raises(Reached) as caught:
            fit_array([[0.0], [1.0]], **({"k": 1} | {str(option.python): value}))
        search = caught.value.args[0]
        found = getattr(search, option.name, None)
        if found is None:
            held = search.settings.prior if option.name == "reg_covar" else search.settings
            found = getattr(held, option.name)
        return found[0] if isinstance(found, tuple) else found

    return value_of


@pytest.mark.parametrize("option", IN_PYTHON, ids=ids)
def test_fit_array_takes_what_the_table_says_and_nothing_else(
    searched: Callable[..., Any], option: Option
) -> None:
    inside, outside = edges(option.kind)
    assert inside
    for value in inside:
        assert searched(option, value) == value
    for value in outside:
        with pytest.raises(InputError, match=f"^{option.python} is {re.escape(repr(value))}: "):
            fit_array([[0.0], [1.0]], **({"k": 1} | {str(option.python): value}))


# --- Spark ML


def test_the_estimator_has_every_option_under_its_name_with_its_default() -> None:
    estimator = GaussianMixture()
    columns = {param for _, param in transform_columns()}
    assert {param.name for param in estimator.params} - columns == set(options.SPARK.values())
    for option in IN_SPARK:
        default = estimator.getOrDefault(str(option.spark))
        assert (default, type(default)) == (option.default, type(option.default))


@pytest.mark.parametrize("method", [GaussianMixture.__init__, GaussianMixture.setParams])
def test_the_signatures_of_the_estimator_are_those_of_its_params(
    method: Callable[..., Any],
) -> None:
    estimator = GaussianMixture()
    parameters = inspect.signature(method).parameters
    assert parameters.keys() - {"self"} == {param.name for param in estimator.params}
    for name, parameter in parameters.items():
        if name != "self" and parameter.default is not None:  # None leaves it unset
            assert parameter.default == estimator.getOrDefault(name)
    unset = {name for name, parameter in parameters.items() if parameter.default is None}
    assert unset == {"seed", "weightCol"}


@pytest.mark.parametrize("option", IN_SPARK, ids=ids)
def test_the_estimator_takes_what_the_table_says_and_nothing_else(option: Option) -> None:
    name = str(option.spark)
    inside, outside = edges(option.spark_kind or option.kind)
    assert inside
    for value in inside:
        assert GaussianMixture(**{name: value}).getOrDefault(name) == value
    for value in outside:
        with pytest.raises(InputError, match=f"^{name} is {re.escape(repr(value))}: "):
            GaussianMixture(**{name: value})


def test_a_param_explains_itself_in_the_words_of_the_table() -> None:
    for option in IN_SPARK:
        kind = option.spark_kind or option.kind
        doc = getattr(MixtureParams, str(option.spark)).doc
        assert doc == f"{option.description} It takes {kind.description}."


# --- the configuration


def leaves(schema: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a schema and their fields."""
    for name, field in schema.model_fields.items():
        inner = [
            kind
            for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
            if hasattr(kind, "model_fields")
        ]
        if inner:
            yield from leaves(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


@pytest.mark.parametrize("job", JOBS, ids=ids)
def test_a_job_has_every_key_of_the_table_with_its_default(job: Job) -> None:
    fields = dict(leaves(SCHEMAS[job.name]))
    assert list(fields) == sorted(job.keys, key=list(fields).index)
    for key, option in job.keys.items():
        if option.default == REQUIRED:
            assert fields[key].is_required()
            continue
        default = fields[key].default
        if option.several and not isinstance(option.default, list):
            [default] = default  # one of several to choose from
        assert (default, type(default)) == (option.default, type(option.default))


def set_to(tmp_path: Path, job: Job, key: str, value: str) -> Any:
    """Return the value of a key of a minimal configuration in which it is set."""
    path = tmp_path / "config.yaml"
    path.write_text(MINIMAL[job.name], encoding="utf-8")
    overrides = [f"{key}={value}"]
    if key.endswith(".table"):  # which stands in place of a path
        overrides.append(key.replace(".table", ".path=null"))
    found: Any = load_config(str(path), overrides, SCHEMAS[job.name])
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize(("job", "key", "option"), KEYS, ids=ids)
def test_a_job_takes_what_the_table_says_and_nothing_else(
    tmp_path: Path, job: Job, key: str, option: Option
) -> None:
    listed = isinstance(option.default, list)
    for value in edges(option.kind).inside:
        found = set_to(tmp_path, job, key, yaml.safe_dump([value] if listed else value))
        assert found == ([value] if option.several else value)
    for value in edges(option.kind).outside:
        with pytest.raises(ConfigurationError, match=f"^{re.escape(key)} is ") as caught:
            set_to(tmp_path, job, key, yaml.safe_dump([value] if listed else value))
        with pytest.raises(ValueError, match=r"^(give|use) ") as remedy:
            option.kind.take(value)
        assert str(caught.value).endswith(f": {remedy.value}")


@pytest.mark.parametrize(("job", "key", "option"), KEYS, ids=ids)
def test_the_example_of_every_key_is_taken(
    tmp_path: Path, job: Job, key: str, option: Option
) -> None:
    refused = {
        "model.update": r"model\.update is set",
        "input.categorical": "which no peer can fit",
        "input.counts": "which no peer can fit",
        "input.group_by": "one mixture is compared",
    }
    if job.name == "compare" and key in refused:
        with pytest.raises(ConfigurationError, match=refused[key]):
            set_to(tmp_path, job, key, option.example)
    else:
        assert set_to(tmp_path, job, key, option.example) is not None


def test_a_flag_is_no_number_to_a_job(tmp_path: Path) -> None:
    [fit, *_] = JOBS
    for key in ("model.k", "model.tol"):
        with pytest.raises(ConfigurationError, match=f"{key} is True: give "):
            set_to(tmp_path, fit, key, "true")
