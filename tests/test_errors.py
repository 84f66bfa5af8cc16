"""An error says what is wrong and what to do, in the words of the front end that it leaves by."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from sparkgmm import fit_array, options
from sparkgmm.errors import FitError, InputError, SparkGmmError, option_names
from sparkgmm.options import KEYS, PYTHON, SPARK, Option

PACKAGE = Path(options.__file__).parent
# What all front ends call: here options are named by objects alone.
NUMERICS = [*sorted((PACKAGE / "core").glob("*.py")), PACKAGE / "mixture.py"]
SHARED = [*NUMERICS, PACKAGE / "spark" / "cluster_rows.py"]
FRONT_ENDS = {"the jobs": KEYS, "fit_array": PYTHON, "Spark ML": SPARK}


def constant_feature() -> InputError:
    return InputError(
        "feature 'a' is constant",
        ("leave it out of", options.FEATURES),
        ("set", options.CONSTANT_FEATURES, "to drop"),
        "give other rows",
    )


@pytest.mark.parametrize(
    ("names", "remedies"),
    [
        (
            KEYS,
            "leave it out of input.features, set input.constant_features to drop, or give other "
            "rows",
        ),
        (PYTHON, "leave it out of X or give other rows"),
        (SPARK, "leave it out of featuresCol or give other rows"),
    ],
)
def test_each_front_end_says_its_own_names_and_leaves_out_what_it_does_not_have(
    names: Mapping[str, str], remedies: str
) -> None:
    with pytest.raises(InputError) as caught, option_names(names):
        raise constant_feature()
    assert str(caught.value) == f"feature 'a' is constant: {remedies}"


def test_without_a_front_end_the_options_have_their_own_names() -> None:
    assert "set constant_features to drop" in str(constant_feature())


def test_a_message_of_one_piece_stays_as_it_is_braces_and_all() -> None:
    with pytest.raises(InputError) as caught, option_names(PYTHON):
        raise InputError("column '{k}' holds {}: leave it out")
    assert str(caught.value) == "column '{k}' holds {}: leave it out"


def test_an_error_keeps_its_words_when_it_is_pickled() -> None:
    with pytest.raises(FitError) as caught, option_names(SPARK):
        raise FitError("it is degenerate", ("try", options.COVARIANCE_TYPE, "diag"))
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == "it is degenerate: try covarianceType diag"


def raised_with_remedies() -> Iterator[tuple[str, list[list[Option]]]]:
    """Yield each error of the shared code: its place, and the options of each remedy."""
    for path in SHARED:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("InputError", "FitError") and len(node.args) > 1:
                remedies = [
                    [
                        getattr(options, part.id)
                        for part in getattr(remedy, "elts", ())
                        if isinstance(part, ast.Name)
                    ]
                    for remedy in node.args[1:]
                    if not isinstance(remedy, ast.Starred)
                ]
                if remedies:
                    yield f"{path.name}:{node.lineno}", remedies


def test_every_front_end_has_a_remedy_of_every_error_of_the_numerics() -> None:
    found = list(raised_with_remedies())
    assert len(found) >= 8
    for place, remedies in found:
        for front_end, names in FRONT_ENDS.items():
            said = [all(option.name in names for option in remedy) for remedy in remedies]
            assert any(said), f"{place} has no remedy in {front_end}"


@pytest.mark.parametrize("path", NUMERICS, ids=lambda path: path.name)
def test_the_numerics_hold_no_key_of_the_configuration(path: Path) -> None:
    keys = [key for key in options.KEYS.values() if "." in key]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            assert not [key for key in keys if key in node.value], node.value


def clusters() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.r_[rng.normal(0, 1, (50, 2)), rng.normal(6, 1, (50, 2))]


ROWS = clusters()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"X": np.c_[ROWS, np.ones(100)]},
            "feature 'column 2' is constant (1 in all 100 rows): leave it out of X",
        ),
        ({"X": np.c_[ROWS[:, 0], ROWS[:, 1] * 1e200]}, "in float64: rescale it"),
        (
            {"X": np.repeat(ROWS[:3], 5, axis=0), "k": 4},
            "3 distinct rows for k = 4 components: lower k to 3 or less or give more data",
        ),
        (
            {"X": np.repeat(ROWS[:4], 4, axis=0), "k": 4, "reg_covar": 0},
            "lower k, try covariance_type tied or diag, or look for outliers and repeats "
            "among these rows",
        ),
        (
            {"X": ROWS, "sample_weight": np.full(100, 1e307)},
            "too far from 1 for float64: rescale sample_weight",
        ),
    ],
)
def test_fit_array_speaks_of_its_own_parameters(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(SparkGmmError) as caught:
        fit_array(**({"k": 2} | arguments))  # type: ignore[arg-type]
    assert str(caught.value).endswith(message)
