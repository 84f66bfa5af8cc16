"""Configurations as they come: none does more than set values, and each fault is told in a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.outcomes import Attempt
from sparkgmm.errors import ConfigurationError
from sparkgmm.runs.config import CompareConfig, FitConfig, ScoreConfig, load_config

pytestmark = pytest.mark.long

GOOD = {"input": {"path": "rows.parquet"}, "output": {"path": "runs"}}
BOMB = (
    "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{after}: &{after} [{', '.join([f'*{before}'] * 10)}]\n"
        for before, after in zip("abcdefghi", "bcdefghij", strict=True)
    )
    + "input: {path: *j}\noutput: {path: runs}\n"
)
TEXTS = {
    "a bomb of anchors": BOMB,
    "an anchor that holds itself": "input: &a\n  path: *a\noutput: {path: runs}\n",
    "brackets a thousand deep": "[" * 1000,
    "a Python object": "input: !!python/object/apply:os.system [touch hacked]\noutput: {path: r}\n",
    "a Python name": "input: {path: !!python/name:os.system }\noutput: {path: r}\n",
    "a binary tag": "input: {path: !!binary aGVsbG8= }\noutput: {path: r}\n",
    "a set": "input: !!set {path}\noutput: {path: r}\n",
    "tabs": "input:\n\tpath: x\n",
    "two documents": "input: {path: x}\n---\noutput: {path: y}\n",
    "a key twice": "input: {path: x}\ninput: {path: y}\noutput: {path: r}\n",
    "a key that is a list": "input: {path: x}\noutput: {path: r}\n? [a, b]\n: c\n",
    "a key that is a number": "input: {path: x}\noutput: {path: r}\n1: 2\n",
    "nothing": "",
    "a comment": "# nothing\n",
    "a list": "- input\n- output\n",
    "a number": "3.14\n",
    "control characters": "input: {path: \x00\x01}\n",
    "an unknown escape": 'input: {path: "\\q"}\n',
    "an unfinished mapping": "input: {path: x\n",
    "a whole number of five thousand digits": f"model: {{seed: {'9' * 5000}}}\n",
    "text that is said to be a number": "model: {k: !!int abc}\n",
    "text that is said to be a fraction": "model: {tol: !!float abc}\n",
    "text that is said to be a truth value": "output: {report: !!bool abc}\n",
    "text that is said to be a date": "input: {path: !!timestamp abc}\n",
    "digits without digits": "model: {seed: 0x_}\n",
    "half a surrogate pair": 'input: {path: "\\ud800"}\noutput: {path: r}\n',
    "a merge of nothing": "input: {<<: 3, path: x}\noutput: {path: r}\n",
}
BYTES = {
    "latin-1": "input: {path: größe}\n".encode("latin-1"),
    "noise": bytes(range(256)),
    "utf-16 without a mark": "input: {path: x}\n".encode("utf-16-le"),
}
VALUES: dict[str, Any] = {
    "model.k=0": "model.k",
    "model.k=-3": "model.k",
    "model.k=2.5": "model.k",
    "model.k=two": "model.k",
    "model.k=true": "model.k",
    "model.k=[]": "model.k",
    "model.k=[2, 2]": "model.k",
    "model.k=[2, [3]]": "model.k",
    "model.k=.inf": "model.k",
    "model.k={a: 1}": "model.k",
    "model.tol=-1": "model.tol",
    "model.tol=.nan": "model.tol",
    "model.tol=.inf": "model.tol",
    "model.tol=yes": "model.tol",
    "model.reg_covar=-1e-6": "model.reg_covar",
    "model.reg_covar=.nan": "model.reg_covar",
    "model.max_iter=0": "model.max_iter",
    "model.max_iter=1e3": "model.max_iter",
    "model.k=" + "9" * 400: "model.k",
    "model.n_init=0": "model.n_init",
    "model.n_init=1000000000": "model.n_init",
    "model.max_iter=3000000000": "model.max_iter",
    "model.seed=-1": "model.seed",
    "model.seed=1.5": "model.seed",
    "model.seed=9223372036854775808": "model.seed",
    "model.covariance_type=round": "model.covariance_type",
    "model.covariance_type=[]": "model.covariance_type",
    "model.criterion=dic": "model.criterion",
    "model.init=guess": "model.init",
    "model.engine=spark": "model.engine",
    "model.enigne=em": "did you mean model.engine",
    "modle.k=2": "did you mean model",
    "input.path=": "path is missing",
    "input.path=[]": "input.path",
    "input.path=3": "input.path",
    "input.features=[]": "input.features",
    "input.features=[a, a]": "input.features",
    "input.features={a: 1}": "input.features",
    "input.options={a: {b: 1}}": "input.options",
    "input.options=[1]": "input.options",
    "input.invalid_rows=ignore": "input.invalid_rows",
    "input.constant_features=no": "input.constant_features",
    "output.path=''": "output.path",
    "output.report=maybe": "output.report",
    "output.run_id=../../etc": "output.run_id",
    "output.run_id=..": "output.run_id",
    "output.run_id=.": "output.run_id",
    "output.run_id=/etc/passwd": "output.run_id",
    "output.run_id=a/b": "output.run_id",
    "output.run_id=.hidden": "output.run_id",
    "output.run_id=LATEST": "output.run_id",
    "output.run_id='a b'": "output.run_id",
    'output.run_id="a\\n"': "output.run_id",
    "output.run_id=" + "a" * 201: "output.run_id",
    "output.run_id=${jndi:ldap://x}": "output.run_id",
    "output.run_id=3": "output.run_id",
    "model": "--set",
    "=3": "--set",
    "model..k=3": "--set",
    "input.path.deep=3": "--set",
    "model.k=[": "--set",
}


@pytest.mark.parametrize("name", [*TEXTS, *BYTES])
def test_a_file_that_is_no_configuration_is_told_in_a_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_bytes(BYTES[name] if name in BYTES else TEXTS[name].encode())
    for schema in (FitConfig, ScoreConfig, CompareConfig):
        with pytest.raises(ConfigurationError) as told:
            load_config(str(path), (), schema)
        assert 10 < len(str(told.value)) < 3000
        assert "\n" not in str(told.value)
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize("override", VALUES)
def test_a_value_that_cannot_be_is_told_by_its_path(tmp_path: Path, override: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(GOOD))
    with pytest.raises(ConfigurationError) as told:
        load_config(str(path), [override], FitConfig)
    assert VALUES[override] in str(told.value)


def test_a_bomb_is_told_in_few_words_wherever_it_is_put(tmp_path: Path) -> None:
    """Ten thousand million values by ten anchors must not be counted, copied or shown."""
    path = tmp_path / "config.yaml"
    for place in ("options: {a: *j}", "features: *j", "weight: *j", "where: *j", "*j : x"):
        path.write_text(BOMB.replace("path: *j", f"path: x, {place}"))
        with pytest.raises(ConfigurationError) as told:
            load_config(str(path))
        assert len(str(told.value)) < 3000


@pytest.mark.parametrize("path", ["/", "/etc/no/such/file", "\0", "", "x" * 5000])
def test_a_configuration_file_that_cannot_be_read_is_told(path: str) -> None:
    with pytest.raises(ConfigurationError, match="--config"):
        load_config(path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)
KEYS = ["input", "model", "output", "path", "k", "features", "covariance_type", "run_id", "tol"]


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    values=st.dictionaries(
        st.sampled_from(KEYS), st.dictionaries(st.sampled_from(KEYS), ANYTHING) | ANYTHING
    )
)
def test_any_values_at_all_are_a_configuration_or_told_in_words(
    tmp_path: Path, values: dict[str, Any]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    try:
        loaded = load_config(str(path))
    except ConfigurationError:
        return
    assert FitConfig.model_validate(loaded.model_dump()) == loaded


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode()))
def test_any_bytes_at_all_are_a_configuration_or_told_in_words(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        load_config(str(path))


def test_anchors_and_merges_that_mean_well_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "base: &b 3\ninput: {path: x}\nmodel: {k: *b}\noutput: {path: y}\n".replace(
            "base: &b 3\n", ""
        ).replace("*b", "&b 3, seed: *b")
    )
    config = load_config(str(path))
    assert (config.model.k, config.model.seed) == ([3], 3)


def test_secrets_do_not_reach_the_terminal_or_the_run(
    attempt: Attempt, tmp_path: Path, three: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"x": three[:, 0], "y": three[:, 1]}), tmp_path / "rows.parquet")
    options = {
        "fs.s3a.secret.key": "hunter2",
        "password": "hunter2",
        "url": "jdbc:postgresql://user:hunter2@host/db?password=hunter2&ssl=true",
        "sasToken": "hunter2",
    }
    values = {"input": {"path": str(tmp_path / "rows.parquet"), "options": options}}
    assert attempt(values, "output.report=true").code == 0
    for path in (tmp_path / "runs").rglob("*"):
        if path.is_file():
            assert b"hunter2" not in path.read_bytes(), path
    said = capfd.readouterr()
    assert "hunter2" not in said.out + said.err
    manifest = json.loads((tmp_path / "runs" / "a" / "manifest.json").read_text())
    url = manifest["configuration"]["input"]["options"]["url"]
    assert url == "jdbc:postgresql://***@host/db?password=***&ssl=true"
