"""The configuration: what is taken, and how each error names its key and remedy."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from sparkgmm.core.drift import MEASURES
from sparkgmm.errors import ConfigurationError
from sparkgmm.runs.config import (
    CompareConfig,
    DriftConfig,
    FitConfig,
    ScoreConfig,
    ThresholdsConfig,
    load_config,
)

ROOT = Path(__file__).resolve().parents[2]
MINIMAL = "input: {path: a.csv}\noutput: {path: runs}\n"
SCORE = "input: {path: a.csv}\nmodel: runs\noutput: {path: scored}\n"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., FitConfig]:
    """A function that loads a text and overrides."""

    def from_text(text: str = MINIMAL, *overrides: str, schema: Any = FitConfig) -> Any:
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return load_config(str(path), overrides, schema)

    return from_text


Load = Callable[..., FitConfig]


def refused(load: Load, *arguments: str, schema: Any = FitConfig) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(*arguments, schema=schema)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_defaults_are_those_of_the_documented_configuration(load: Load) -> None:
    assert load().resolved() == {
        "input": {
            "path": "a.csv",
            "format": None,
            "table": None,
            "options": {},
            "features": None,
            "categorical": [],
            "counts": [],
            "weight": None,
            "group_by": [],
            "where": None,
            "missing": "invalid",
            "invalid_rows": "fail",
            "constant_features": "fail",
        },
        "model": {
            "engine": "em",
            "k": 2,
            "covariance_type": "full",
            "criterion": "bic",
            "init": "auto",
            "n_init": 10,
            "tol": 1e-6,
            "max_iter": 200,
            "reg_covar": 1e-6,
            "seed": 0,
            "warm_start": None,
            "update": None,
            "decay": 1.0,
        },
        "output": {"path": "runs", "run_id": None, "report": True, "keep_runs": None},
        "drift": None,
    }


@pytest.mark.parametrize(
    ("name", "schema"),
    [
        ("faithful.yaml", FitConfig),
        ("select.yaml", FitConfig),
        ("nightly.yaml", FitConfig),
        ("score.yaml", ScoreConfig),
        ("compare.yaml", CompareConfig),
    ],
)
def test_a_shipped_configuration_is_valid(name: str, schema: Any) -> None:
    assert load_config(str(ROOT / "conf" / name), (), schema).input.path == "data/faithful.csv"


def test_the_nightly_configuration_and_the_guide_name_every_key_of_drift() -> None:
    values = yaml.safe_load((ROOT / "conf" / "nightly.yaml").read_text(encoding="utf-8"))
    guide = (ROOT / "docs" / "drift.md").read_text(encoding="utf-8")
    assert values["drift"].keys() == DriftConfig.model_fields.keys()
    for level in ("warn", "fail"):
        assert (
            values["drift"][level].keys() == ThresholdsConfig.model_fields.keys() == MEASURES.keys()
        )
    for name in MEASURES:
        assert f"**`{name}`**" in guide


def test_defaults_of_a_score_job_are_those_documented(load: Load) -> None:
    assert load(SCORE, schema=ScoreConfig).resolved() == {
        "input": {
            "path": "a.csv",
            "format": None,
            "table": None,
            "options": {},
            "where": None,
            "invalid_rows": "fail",
        },
        "model": "runs",
        "output": {
            "path": "scored",
            "table": None,
            "format": "parquet",
            "mode": "error",
            "columns": ["component", "probability", "log_density"],
            "keep": "all",
            "outlier_quantile": None,
            "impute": False,
            "predict": [],
        },
    }


def test_a_compare_job_takes_what_a_fit_takes_and_its_peers(load: Load) -> None:
    fit = load(MINIMAL, "model.k=3").resolved()
    compare = load(MINIMAL, "model.k=3", schema=CompareConfig).resolved()
    assert fit["input"].pop("missing") == "invalid"  # which peers could not take
    assert (compare["input"], compare["model"]) == (fit["input"], fit["model"])
    assert compare["compare"] == {"peers": ["sklearn", "mllib", "kmeans"], "sample_rows": 200_000}
    assert compare["output"] == {"path": "runs"}


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("output.keep=[]", "keep", []),
        ("output.keep=[id, 温度]", "keep", ["id", "温度"]),
        ("output.columns=[log_density]", "columns", ["log_density"]),
        ("output.outlier_quantile=1e-3", "outlier_quantile", 1e-3),
        ("output.mode=append", "mode", "append"),
        ("output.format=orc", "format", "orc"),
    ],
)
def test_a_score_job_takes(load: Load, override: str, key: str, value: Any) -> None:
    assert getattr(load(SCORE, override, schema=ScoreConfig).output, key) == value


@pytest.mark.parametrize(
    ("override", "path", "met"),
    [
        ("model=3", "model", "3"),
        ("model=''", "model", "''"),
        ("model={k: 2}", "model", "string"),
        ("input.invalid_rows=skip", "input.invalid_rows", "'skip'"),
        ("output.path=''", "output.path", "''"),
        ("output.keep=id", "output.keep", "'id'"),
        ("output.keep=[a, a]", "output.keep", "['a', 'a']"),
        ("output.columns=[]", "output.columns", "[]"),
        ("output.columns=[componet]", "output.columns", "'componet'"),
        ("output.columns=[component, component]", "output.columns", "appears twice"),
        ("output.outlier_quantile=0", "output.outlier_quantile", "0"),
        ("output.outlier_quantile=1", "output.outlier_quantile", "1"),
        ("output.outlier_quantile=few", "output.outlier_quantile", "'few'"),
        ("output.mode=ignore", "output.mode", "'ignore'"),
        ("output.format=avro", "output.format", "'avro'"),
    ],
)
def test_a_bad_value_of_a_score_job_is_named_once(
    load: Load, override: str, path: str, met: str
) -> None:
    message = refused(load, SCORE, override, schema=ScoreConfig)
    assert message.startswith(path)
    assert met in message
    assert message.count(f"{path} is") <= 1


@pytest.mark.parametrize(
    ("schema", "override", "told"),
    [
        (ScoreConfig, "output.keeep=all", "did you mean output.keep?"),
        (ScoreConfig, "output.zzz=true", "valid keys are output.path, output.table, output.format"),
        (ScoreConfig, "input.features=[a]", "valid keys are input.path, input.format"),
        (CompareConfig, "compare.peer=[sklearn]", "did you mean compare.peers?"),
        (CompareConfig, "output.report=true", "valid keys are output.path"),
        (FitConfig, "compare.peers=[sklearn]", "valid keys are input, model, output"),
    ],
)
def test_the_nearest_key_is_one_of_the_job_at_hand(
    load: Load, schema: Any, override: str, told: str
) -> None:
    text = SCORE if schema is ScoreConfig else MINIMAL
    assert told in refused(load, text, override, schema=schema)


def test_a_score_job_without_a_model_or_an_input_path_says_so(load: Load) -> None:
    message = refused(load, "input: {where: a > 1}\noutput: {path: x}\n", schema=ScoreConfig)
    assert "model is missing: set it" in message
    assert "path is missing" in message


@pytest.mark.parametrize("schema", [ScoreConfig, CompareConfig])
def test_a_secret_never_shows_in_any_job(load: Load, schema: Any) -> None:
    text = SCORE if schema is ScoreConfig else MINIMAL
    config = load(text, "input.options={password: hunter2}", schema=schema)
    assert config.resolved()["input"]["options"] == {"password": "***"}


@pytest.mark.parametrize(
    ("override", "section", "key", "value"),
    [
        ("model.k=3", "model", "k", [3]),
        ("model.k=[1, 2, 3]", "model", "k", [1, 2, 3]),
        ("model.covariance_type=[full, tied]", "model", "covariance_type", ["full", "tied"]),
        ("model.tol=1e-6", "model", "tol", 1e-6),
        ("model.tol=1.0e-6", "model", "tol", 1e-6),
        ("model.reg_covar=0", "model", "reg_covar", 0.0),
        ("model.tol=0", "model", "tol", 0.0),
        ("input.weight=null", "input", "weight", None),
        ("input.where=a = 'x' and b > 1", "input", "where", "a = 'x' and b > 1"),
        ("input.features=[a, 温度]", "input", "features", ["a", "温度"]),
        (
            "input.options={header: true, sep: ';'}",
            "input",
            "options",
            {"header": True, "sep": ";"},
        ),
        ("input.options.sep=;", "input", "options", {"sep": ";"}),
        ("output.run_id=2024-01-01", "output", "run_id", "2024-01-01"),
    ],
)
def test_set_takes_any_dotted_key_and_reads_the_value_as_yaml(
    load: Load, override: str, section: str, key: str, value: Any
) -> None:
    assert getattr(getattr(load(MINIMAL, override), section), key) == value


def test_set_makes_a_section_that_the_file_lacks_and_the_last_one_wins(load: Load) -> None:
    config = load("input: {path: a.csv}\n", "output.path=x", "model.k=3", "model.k=4")
    assert config.output.path == "x"
    assert config.model.k == [4]


@pytest.mark.parametrize("override", ["model.k", "=3", "model..k=3", "input.path.deeper=1"])
def test_set_that_is_no_assignment_is_refused_with_its_text(load: Load, override: str) -> None:
    assert repr(override) in refused(load, MINIMAL, override)


@pytest.mark.parametrize(
    ("override", "nearest"),
    [
        ("model.kk=3", "model.k"),
        ("modl.k=3", "model"),
        ("model.covariancetype=full", "model.covariance_type"),
        ("model.maxiter=3", "model.max_iter"),
        ("input.feature=[a]", "input.features"),
        ("output.runid=x", "output.run_id"),
        ("tol=1", "model.tol"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_valid_key(
    load: Load, override: str, nearest: str
) -> None:
    unknown = override.partition("=")[0].rpartition(".")[0] or override.partition("=")[0]
    message = refused(load, MINIMAL, override)
    assert f"unknown key {unknown}" in message
    assert f"did you mean {nearest}?" in message


def test_an_unknown_key_without_a_neighbour_gets_the_valid_keys(load: Load) -> None:
    message = refused(load, MINIMAL, "output.zzz=1")
    keys = ", ".join(f"output.{key}" for key in ("path", "run_id", "report", "keep_runs"))
    assert f"unknown key output.zzz: valid keys are {keys}" in message


@pytest.mark.parametrize(
    ("override", "path", "met"),
    [
        ("model.k=two", "model.k", "'two'"),
        ("model.k=2.5", "model.k", "2.5"),
        ("model.k=true", "model.k", "True"),
        ("model.k=0", "model.k", "0"),
        ("model.k=[2, -1]", "model.k", "-1"),
        ("model.k=[]", "model.k", "[]"),
        ("model.k=[2, 2]", "model.k", "[2, 2]"),
        ("model.covariance_type=ful", "model.covariance_type", "'ful'"),
        ("model.engine=sklearn", "model.engine", "'sklearn'"),
        ("model.criterion=bicc", "model.criterion", "'bicc'"),
        ("model.init=kmeans", "model.init", "'kmeans'"),
        ("model.n_init=0", "model.n_init", "0"),
        ("model.tol=-1e-9", "model.tol", "-1e-9"),
        ("model.tol=small", "model.tol", "'small'"),
        ("model.tol=.nan", "model.tol", "nan"),
        ("model.tol=true", "model.tol", "True"),
        ("model.max_iter=1.5", "model.max_iter", "1.5"),
        ("model.reg_covar=-1", "model.reg_covar", "-1"),
        ("model.seed=-1", "model.seed", "-1"),
        ("model.warm_start=3", "model.warm_start", "3"),
        ("model.update=3", "model.update", "3"),
        ("model.update=' '", "model.update", "' '"),
        ("model.decay=0", "model.decay", "0"),
        ("model.decay=1.1", "model.decay", "1.1"),
        ("input.path=7", "input.path", "7"),
        ("input.path=[]", "input.path", "[]"),
        ("input.features=[]", "input.features", "[]"),
        ("input.features=[a, a]", "input.features", "['a', 'a']"),
        ("input.options={a: [1]}", "input.options", "[1]"),
        ("input.options=header", "input.options", "'header'"),
        ("input.invalid_rows=skip", "input.invalid_rows", "'skip'"),
        ("input.constant_features=keep", "input.constant_features", "'keep'"),
        ("output.path=null", "output.path", "None"),
        ("output.report=1", "output.report", "1"),
        ("output.run_id=../x", "output.run_id", "'../x'"),
        ("output.run_id=LATEST", "output.run_id", "'LATEST'"),
        ("output.run_id=20240101", "output.run_id", "20240101"),
        ("input=a.csv", "input", "'a.csv'"),
    ],
)
def test_a_bad_value_is_named_by_its_dotted_path_with_the_value_met(
    load: Load, override: str, path: str, met: str
) -> None:
    message = refused(load, MINIMAL, override)
    assert message.startswith(path)
    assert met in message


def test_all_that_is_wrong_is_said_at_once(load: Load) -> None:
    message = refused(load, MINIMAL, "model.k=0", "model.zzz=1", "output.report=maybe")
    for path in ("model.k", "model.zzz", "output.report"):
        assert path in message


def test_a_missing_section_is_named(load: Load) -> None:
    assert "output is missing" in refused(load, "input: {path: a.csv}\n")


def test_a_missing_input_path_is_named(load: Load) -> None:
    assert "path is missing" in refused(load, "input: {features: [a]}\noutput: {path: x}\n")


def test_a_weight_that_is_a_feature_too_is_refused(load: Load) -> None:
    message = refused(load, MINIMAL, "input.features=[a, w]", "input.weight=w")
    assert "'w' is one of the features too" in message


@pytest.mark.parametrize(
    "override",
    ["model.covariance_type=diag", "model.k=[1, 2]", "model.warm_start=runs/before"],
)
def test_what_mllib_cannot_do_is_refused_before_spark_starts(load: Load, override: str) -> None:
    message = refused(load, MINIMAL, "model.engine=mllib", override)
    assert override.partition("=")[0].partition(".")[2] in message
    assert "use engine em" in message


def test_warm_start_goes_with_several_candidates(load: Load) -> None:
    config = load(MINIMAL, "model.k=[1, 2]", "model.warm_start=runs/before")
    assert (config.model.k, config.model.warm_start) == ([1, 2], "runs/before")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("drift.fail.divergence=1.0", "0.6931"),  # it cannot be more than ln 2
        ("drift.warn.mean_shift=-1", "give a number of 0 or more"),
        ("drift.warn.appeared=0.5", "drift.warn.appeared"),
        ("drift.fail.divergense=0.1", "did you mean drift.fail.divergence?"),
        ("drift.agianst=runs", "did you mean drift.against?"),
        ("drift.fail=0.3", "drift.fail"),
    ],
)
def test_a_wrong_threshold_is_named_by_its_path(load: Load, override: str, part: str) -> None:
    message = refused(load, MINIMAL, override)
    assert part in message
    assert "drift." in message


def test_a_drift_section_without_thresholds_is_one(load: Load) -> None:
    assert load(MINIMAL).drift is None
    assert load(MINIMAL + "drift: {}\n").drift is not None
    assert load(MINIMAL + "drift: {fail: {divergence: 0.3}}\n", "drift.fail={}") == load(
        MINIMAL + "drift: {}\n"
    )


def test_thresholds_make_no_other_fit(load: Load) -> None:
    plain, judged = load(MINIMAL), load(MINIMAL, "drift.fail.divergence=0.3")
    assert plain.digest() == judged.digest()
    assert plain.deciding() == judged.deciding()


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("model.k=[1, 2]", "update goes with one k"),
        ("model.covariance_type=[full, diag]", "one covariance_type"),
        ("model.engine=mllib", "use engine em"),
        ("model.warm_start=runs/before", "update and warm_start are set"),
    ],
)
def test_what_an_update_cannot_do_is_refused_before_spark_starts(
    load: Load, override: str, part: str
) -> None:
    assert part in refused(load, MINIMAL, "model.update=runs", override)


def test_an_update_is_nothing_to_compare_peers_by(load: Load) -> None:
    assert "over all the rows" in refused(load, MINIMAL, "model.update=runs", schema=CompareConfig)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("input: {path: a.csv\n", "no valid YAML"),
        ("input:\n\tpath: a.csv\n", "line 2"),
        ("just words\n", "not sections"),
        ("- a\n- b\n", "not sections"),
        ("", "not sections"),
        ("input: {path: a}\ninput: {path: b}\noutput: {path: c}\n", "'input' appears twice"),
        ("input: !!python/object/apply:os.getcwd []\n", "no valid YAML"),
    ],
    ids=["unclosed", "tab", "text", "list", "empty", "twice", "python"],
)
def test_a_file_that_is_no_configuration_is_refused_with_the_place(
    load: Load, text: str, part: str
) -> None:
    assert part in refused(load, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "absent.yaml")
    with pytest.raises(ConfigurationError, match="No such file") as caught:
        load_config(path)
    assert path in str(caught.value)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"input: {path: \xe9.csv}\n")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_config(str(path))


@pytest.mark.parametrize("key", ["password", "fs.s3a.secret.key", "accessKey", "sasToken"])
def test_a_secret_among_the_options_never_shows(load: Load, key: str) -> None:
    config = load(MINIMAL, f"input.options={{{key}: hunter2, header: true}}")
    assert config.resolved()["input"]["options"] == {key: "***", "header": True}


def test_the_digest_tells_what_is_fitted_and_not_where_it_goes(load: Load) -> None:
    digest = load().digest()
    assert load(MINIMAL, "output.path=elsewhere", "output.report=false").digest() == digest
    assert load(MINIMAL, "model.k=3").digest() != digest
    assert load(MINIMAL, "input.where=a > 1").digest() != digest


@pytest.mark.parametrize("override", ["input.path=''", "input.path=[' ']", "output.path=''"])
def test_an_empty_path_is_refused_before_anything_is_listed(load: Load, override: str) -> None:
    assert "it is empty: give a path" in refused(load, MINIMAL, override)


def test_a_run_id_may_hold_the_day_and_the_time_of_the_start(
    load: Callable[..., FitConfig],
) -> None:
    before = datetime.now(UTC)
    config = load(MINIMAL, "output.run_id=nightly-{date}")
    assert config.output.run_id in {f"nightly-{t:%Y-%m-%d}" for t in (before, datetime.now(UTC))}
    assert config.resolved()["output"]["run_id"] == config.output.run_id
    assert re.fullmatch(r"\d{8}T\d{6}Z", str(load(MINIMAL, "output.run_id='{time}'").output.run_id))
    with pytest.raises(ConfigurationError, match=r"\{date\} and \{time\}"):
        load(MINIMAL, "output.run_id=a-{day}")


def test_a_number_of_runs_to_keep_is_at_least_one(load: Callable[..., FitConfig]) -> None:
    assert load(MINIMAL, "output.keep_runs=30").output.keep_runs == 30
    with pytest.raises(ConfigurationError, match=r"output\.keep_runs is 0"):
        load(MINIMAL, "output.keep_runs=0")


TABLE = "input: {table: db.trips}\noutput: {path: x}\n"
INTO_TABLE = "input: {path: a}\nmodel: m\noutput: {table: db.scored}\n"


def test_a_table_takes_the_place_of_a_path(load: Load) -> None:
    config = load(TABLE)
    assert config.input.table == "db.trips"
    assert str(config.input.place) == "db.trips"
    assert load(MINIMAL).input.place == "a.csv"
    scored = load(INTO_TABLE, schema=ScoreConfig)
    assert str(scored.output.place) == "db.scored"


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("input.path=a.csv", "path 'a.csv' and table 'db.trips' are both set"),
        ("input.format=delta", "table 'db.trips' has a format of its own"),
        ("input.options={schema: x double}", "options name a schema"),
        ("input.table=a b", "no name of a table"),
        ("input.table=", "path is missing"),
        ("input.tabel=db.t", "did you mean input.table?"),
    ],
)
def test_a_table_that_cannot_be_is_told_before_spark_starts(
    load: Load, override: str, told: str
) -> None:
    assert told in refused(load, TABLE, override)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("output.path=x", "path 'x' and table 'db.scored' are both set"),
        ("output.format=csv", "not for tables"),
        ("output.table=", "output: path is missing"),
        ("output.table=a..b", "no name of a table"),
    ],
)
def test_an_output_table_that_cannot_be_is_told_before_spark_starts(
    load: Load, override: str, told: str
) -> None:
    assert told in refused(load, INTO_TABLE, override, schema=ScoreConfig)


def test_runs_of_other_tables_have_other_digests(load: Load) -> None:
    assert load(TABLE).digest() != load(TABLE, "input.table=db.other").digest()


@pytest.mark.parametrize("text", ["1-6", " 1 - 6 ", "[1, 2, 3, 4, 5, 6]"])
def test_a_range_of_k_is_every_k_in_it(tmp_path, text):
    path = tmp_path / "fit.yaml"
    path.write_text("input: {path: a.csv}\noutput: {path: runs}\n")
    assert load_config(str(path), [f"model.k={text}"]).model.k == [1, 2, 3, 4, 5, 6]
    path.write_text(f"input: {{path: a.csv}}\nmodel: {{k: {text}}}\noutput: {{path: runs}}\n")
    assert load_config(str(path)).model.k == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("6-1", "the range '6-1' goes from 6 to 1: give the smaller end first"),
        ("1-100000", "at most 1000 values"),
        ("0-2", "an integer of 1 or more"),
        ("1-", "model.k"),
    ],
)
def test_a_range_that_is_none_is_refused(tmp_path, text, message):
    path = tmp_path / "fit.yaml"
    path.write_text("input: {path: a.csv}\noutput: {path: runs}\n")
    with pytest.raises(ConfigurationError, match=message):
        load_config(str(path), [f"model.k={text}"])
