"""Model files as they come: what a run did not write, or what is no mixture, is not scored with."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.outcomes import Attempt
from sparkgmm.errors import InputError
from sparkgmm.mixture import Mixture

pytestmark = pytest.mark.long

MIXTURE = Mixture(
    [0.6, 0.4],
    [[0.0, 0.0], [8.0, 0.0]],
    [[[1.0, 0.2], [0.2, 1.0]], [[2.0, 0.0], [0.0, 0.5]]],
    features=("x", "y"),
)


def changed(**values: Any) -> Callable[[str], str]:
    """Set some keys of the model."""
    return lambda text: json.dumps({**json.loads(text), **values})


def without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


NOT_DEFINITE = [[[1.0, 2.0], [2.0, 1.0]], [[2.0, 0.0], [0.0, 0.5]]]
ASYMMETRIC = [[[1.0, 0.3], [0.2, 1.0]], [[2.0, 0.0], [0.0, 0.5]]]
DAMAGES: dict[str, Callable[[str], str]] = {
    "truncated": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "no json": lambda text: "hello",
    "a list": lambda text: "[]",
    "null": lambda text: "null",
    "deep brackets": lambda text: "[" * 100_000,
    "a later format": changed(format_version=99),
    "a format that is text": changed(format_version="one"),
    "no format": without("format_version"),
    "no weights": without("weights"),
    "no means": without("means"),
    "no covariances": without("covariances"),
    "a covariance type of its own": changed(covariance_type="round"),
    "NaN in a mean": lambda text: changed(means=[[math.nan, 0.0], [8.0, 0.0]])(text),
    "infinity in a covariance": changed(
        covariances=[[[math.inf, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.5]]]
    ),
    "a null in a weight": changed(weights=[None, 1.0]),
    "text in a weight": changed(weights=["0.6", "0.4"]),
    "weights that do not sum to one": changed(weights=[0.6, 0.6]),
    "a negative weight": changed(weights=[1.5, -0.5]),
    "a covariance that is not positive definite": changed(covariances=NOT_DEFINITE),
    "a covariance that is not symmetric": changed(covariances=ASYMMETRIC),
    "a covariance of zero": changed(covariances=[[[0.0, 0.0], [0.0, 0.0]]] * 2),
    "means of another length": changed(means=[[0.0], [8.0]]),
    "one covariance for two components": changed(covariances=[[[1.0, 0.0], [0.0, 1.0]]]),
    "ragged means": changed(means=[[0.0, 0.0], [8.0]]),
    "more names than features": changed(features=["x", "y", "z"]),
    "a name twice": changed(features=["x", "x"]),
    "names that are numbers": changed(features=[1, 2]),
    "a covariance near the end of float64": changed(
        covariances=[[[1.7e308, 0.0], [0.0, 1.0]], [[2.0, 0.0], [0.0, 0.5]]]
    ),
    "weights that overflow": changed(weights=[1e308, 1e308]),
    "names in a mapping": changed(features={"x": 0, "y": 1}),
    "a whole number beyond float64": changed(means=[[10**400, 0.0], [8.0, 0.0]]),
    "numbers beyond float64": lambda text: text.replace("8.0", "1e999"),
    "a whole number of a million digits": lambda text: text.replace("8.0", "8" * 1_000_000),
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that is whole."""
    folder = tmp_path / "model" / "night"
    folder.mkdir(parents=True)
    write(folder, MIXTURE.to_json())
    return folder


def write(run: Path, text: str, sealed: bool = True) -> None:
    """Write model.json, and with `sealed` a manifest that agrees with it."""
    (run / "model.json").write_text(text, encoding="utf-8")
    if sealed:
        digest = hashlib.sha256(text.encode()).hexdigest()
        listed = [{"path": "model.json", "bytes": len(text), "sha256": digest}]
        (run / "manifest.json").write_text(json.dumps({"files": listed}))


@pytest.fixture
def rows(tmp_path: Path, three: np.ndarray) -> Path:
    pq.write_table(pa.table({"x": three[:, 0], "y": three[:, 1]}), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize("name", DAMAGES)
def test_a_model_that_is_none_is_refused_in_a_line(
    attempt_to_score: Attempt, run: Path, rows: Path, name: str
) -> None:
    write(run, DAMAGES[name](MIXTURE.to_json()))
    outcome = attempt_to_score(run, rows)
    assert outcome.code == 3
    assert "model.json" in outcome.message


def test_a_model_that_was_tampered_with_is_refused_by_its_checksum(
    attempt_to_score: Attempt, run: Path, rows: Path
) -> None:
    write(run, MIXTURE.to_json().replace("8.0", "8.5"), sealed=False)
    outcome = attempt_to_score(run, rows)
    assert outcome.code == 3
    assert "checksum" in outcome.message


@pytest.mark.parametrize("target", ["../elsewhere", "/etc", "..", "night\n../x", "\0", "no-run"])
def test_latest_leads_to_runs_beside_it_alone(
    attempt_to_score: Attempt, run: Path, rows: Path, target: str
) -> None:
    """A LATEST that was written by someone else does not reach outside of its folder."""
    elsewhere = run.parent.parent / "elsewhere"
    elsewhere.mkdir()
    for path in run.iterdir():
        (elsewhere / path.name).write_bytes(path.read_bytes())
    (run.parent / "LATEST").write_text(target)
    outcome = attempt_to_score(run.parent, rows)
    assert outcome.code in (2, 3)


@pytest.mark.parametrize("content", ["", "[]", "null", '{"files": 3}', '{"files": [{}]}', "{"])
def test_a_manifest_that_is_none_is_refused_in_a_line(
    attempt_to_score: Attempt, run: Path, rows: Path, content: str
) -> None:
    (run / "manifest.json").write_text(content)
    assert attempt_to_score(run, rows).code == 3


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    values=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ("weights", "means", "covariances", "features", "format_version"), JSON
        ),
    )
)
def test_any_values_at_all_are_a_mixture_or_refused(values: dict[str, Any]) -> None:
    text = json.dumps({**json.loads(MIXTURE.to_json()), **values})
    try:
        mixture = Mixture.from_json(text)
    except InputError:
        return
    assert np.isfinite(mixture.log_density(np.zeros((1, mixture.d)))).all()
