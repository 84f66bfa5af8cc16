"""A mixture with categorical columns and counts as a value: JSON, checks, conditions, exports."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparkgmm import Mixture
from sparkgmm.errors import InputError
from sparkgmm.exports.onnx import graph
from sparkgmm.exports.sql import select
from sparkgmm.scikit import mixture_to_sklearn

BESIDE: dict[str, Any] = {
    "categorical": {"paid": {"no": [0.9, 0.2], "yes": [0.1, 0.8]}},
    "counts": {"visits": [1.0, 5.0]},
}


def mixed(**more: Any) -> Mixture:
    return Mixture(
        [0.4, 0.6],
        [[0.0, 1.0], [2.0, 3.0]],
        [[[1.0, 0.3], [0.3, 2.0]], [[2.0, -0.5], [-0.5, 1.0]]],
        features=["a", "b"],
        **{**BESIDE, **more},
    )


def of_levels(levels: dict[str, list[float]]) -> Mixture:
    return Mixture([0.5, 0.5], [[], []], [[], []], "diag", [], categorical={"c": levels})


def test_the_remedy_for_a_gap_is_one_that_a_mixed_mixture_has() -> None:
    mixture = mixed()
    table = pd.DataFrame({"a": [np.nan], "b": [1.0], "paid": ["yes"], "visits": [4]})
    with pytest.raises(InputError, match=r"'a' holds NA in row 0.*with_missing\('model'") as error:
        mixture.log_density(table)
    assert "impute" not in str(error.value)
    with pytest.raises(InputError, match=r"in row 0: .*with_missing\('model'\)"):
        mixture.log_density([[np.nan, 1.0, 1, 4]])
    found = mixture.with_missing("model").log_density(table)
    expected = mixture.marginal(["b", "paid", "visits"]).log_density(table)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    "true_and_false",
    [(1, 0), (1.0, 0.0), ("True", "False"), ("true", "false"), ("TRUE", "FALSE"), ("1.0", "0")],
)
def test_booleans_are_known_however_a_program_writes_them(true_and_false: Any) -> None:
    mixture = of_levels({"false": [0.9, 0.2], "true": [0.1, 0.8]})
    expected = mixture.log_density(pd.DataFrame({"c": [True, False]}))
    given = pd.DataFrame({"c": pd.Series([*true_and_false, None], dtype=object)})
    np.testing.assert_array_equal(mixture.log_density(given)[:2], expected)
    with_a, without = mixed(categorical={"c": mixture.categorical["c"]}), true_and_false[1]
    assert with_a.condition({"c": without}) == with_a.condition({"c": False})


def test_integer_levels_are_known_as_floats_and_no_other_text_is_taken_for_one() -> None:
    mixture = of_levels({"-1": [0.3, 0.1], "10": [0.5, 0.1], "2": [0.2, 0.8]})
    expected = mixture.log_density(pd.DataFrame({"c": [-1, 10, 2]}))
    for written in ([-1.0, 10.0, 2.0], ["-1.0", "10.00", "2.0"]):
        found = mixture.log_density(pd.DataFrame({"c": written}))
        np.testing.assert_array_equal(found, expected)
    with pytest.warns(UserWarning, match="'c' holds no level"):  # a code is no number
        assert not mixture.log_density(pd.DataFrame({"c": ["02", "2.5", "1", "True"]})).any()
    yes_and_no = of_levels({"no": [0.9, 0.2], "yes": [0.1, 0.8]})
    with pytest.warns(UserWarning, match="'c' holds no level"):
        assert not yes_and_no.log_density(pd.DataFrame({"c": [1, 0]})).any()


def test_a_column_of_unseen_levels_alone_is_told_and_one_seen_level_is_enough() -> None:
    mixture = mixed()
    table = pd.DataFrame({"a": [0.0, 1.0], "b": 1.0, "paid": ["Yes", "No"], "visits": 4})
    said = r"column 'paid' holds no level that the mixture has, such as 'Yes' in place of 'no', 'ye"
    with pytest.warns(UserWarning, match=said) as caught:
        found = mixture.responsibilities(table)
    assert [warning.filename for warning in caught] == [__file__]
    rest = mixture.marginal(["a", "b", "visits"]).responsibilities(table)
    np.testing.assert_allclose(found, rest, rtol=1e-12)
    mixture.log_density(table.assign(paid=["yes", "No"]))  # warnings are errors here
    mixture.log_density(table.assign(paid=pd.Series([None, None], dtype=object)))
    mixture.log_density(table[:0])


@st.composite
def mixtures(draw: st.DrawFn) -> Mixture:
    """Return mixtures of one or no numeric feature, with whatever names of columns and levels."""
    k, d = draw(st.integers(1, 3)), draw(st.integers(0, 1))
    names = draw(st.lists(st.text(min_size=1), min_size=2, max_size=4, unique=True))
    levels = draw(st.lists(st.text(), min_size=1, max_size=5, unique=True))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(len(levels)), k)
    return Mixture(
        rng.dirichlet(np.ones(k)),
        rng.normal(size=(k, d)),
        rng.uniform(0.1, 2.0, (k, d)),
        "diag",
        names[:d],
        categorical={names[-1]: dict(zip(levels, p.T, strict=True))},
        counts={name: rng.uniform(0, 50, k) for name in names[d:-1]},
    )


@settings(max_examples=25, deadline=None)
@given(mixtures())
def test_json_and_pickle_give_the_very_same_mixture(mixture: Mixture) -> None:
    text = mixture.to_json()
    again = Mixture.from_json(text)
    assert again.to_json() == text
    assert again == mixture
    assert pickle.loads(pickle.dumps(mixture)) == mixture
    assert json.loads(text)["format_version"] == 3
    X, _ = mixture.sample(20, seed=0)
    np.testing.assert_array_equal(again.log_density(X), mixture.log_density(X))


def test_a_mixture_of_numbers_alone_is_written_as_before() -> None:
    numeric = mixed(categorical=None, counts=None)
    written = json.loads(numeric.to_json())
    assert written["format_version"] == 2
    assert written.keys() == {
        "format_version",
        "features",
        "covariance_type",
        "weights",
        "means",
        "covariances",
    }
    assert numeric == mixed().marginal(["a", "b"])


def test_a_mixture_is_immutable_throughout() -> None:
    mixture = mixed()
    with pytest.raises(AttributeError, match="immutable"):
        mixture.parts = ()  # type: ignore[misc]
    mixture.categorical["paid"]["no"][0] = 0.0
    mixture.counts["visits"][0] = 7.0
    assert mixture == mixed()


def test_conditions_on_numbers_leave_levels_and_counts_their_part() -> None:
    mixture = mixed()
    X, _ = mixture.sample(50, seed=3)
    for row in X[:5]:
        given_a = mixture.condition({"a": row[0]})
        joint = mixture.log_density([row])
        alone = mixture.marginal("a").log_density([row[:1]])
        np.testing.assert_allclose(given_a.log_density([row[1:]]) + alone, joint, rtol=1e-10)


def test_conditions_on_levels_and_counts_are_bayes_rule() -> None:
    mixture = mixed()
    X, _ = mixture.sample(50, seed=4)
    levels = ("no", "yes")
    for row in X[:5]:
        values = {"paid": levels[int(row[2])], "visits": row[3], "b": row[1]}
        rest = mixture.condition(values)
        assert rest.columns == ("a",)
        alone = mixture.marginal(["visits", "b", "paid"])
        assert alone.columns == ("b", "paid", "visits")
        joint = rest.log_density([row[:1]]) + alone.log_density([row[1:]])
        np.testing.assert_allclose(joint, mixture.log_density([row]), rtol=1e-10)
    # of levels alone, given numbers: P(paid | a, b)
    paid = mixture.condition({"a": 0.0, "b": 1.0, "visits": 2})
    assert (paid.d, paid.columns) == (0, ("paid",))
    both = [mixture.log_density([[0.0, 1.0, level, 2]])[0] for level in (0, 1)]
    expected = np.exp(both) / np.exp(both).sum()
    found = [paid.weights @ paid.categorical["paid"][level] for level in levels]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(InputError, match="'paid' has no level 'yse': did you mean 'yes'"):
        mixture.condition({"paid": "yse"})
    with pytest.raises(InputError, match=r"the value of 'visits' is 1\.5: give a count"):
        mixture.condition({"visits": 1.5})
    with pytest.raises(InputError, match="every feature has a value"):
        paid.condition({"paid": "no"})


def test_a_level_that_cannot_be_has_no_density_and_still_a_component() -> None:
    levels = {"no": [1.0, 1.0], "yes": [0.0, 0.0]}
    mixture = mixed(categorical={"paid": levels})
    scores = mixture.score([[0.0, 1.0, 1.0, 2.0], [0.0, 1.0, 0.0, 2.0]])
    assert scores.log_density[0] == -np.inf
    assert np.isfinite(scores.log_density[1])
    np.testing.assert_allclose(scores.responsibilities.sum(axis=1), 1)
    nothing = Mixture([1.0], [[]], [[]], "diag", categorical={"paid": {"a": [1.0], "b": [0.0]}})
    assert nothing.score([[1.0]]).log_density == -np.inf
    assert nothing.predict([[1.0]]).tolist() == [0]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"categorical": {"paid": {"no": [0.9, 0.2], "yes": [0.2, 0.8]}}}, "component 0 are .*1.1"),
        ({"categorical": {"paid": {"no": [0.9]}}}, "give 2 numbers of 0 or more, one a component"),
        ({"categorical": {"paid": {"no": [-1, 1], "yes": [2, 0]}}}, "give 2 numbers of 0 or more"),
        ({"categorical": {"paid": {}}}, "give probabilities by level"),
        ({"categorical": [1]}, "give a mapping by the names of columns"),
        ({"categorical": {"a": {"x": [1, 1]}}}, "column 'a' appears twice among features"),
        ({"counts": {"visits": [1.0, np.nan]}}, "'visits' is .*: give 2 numbers"),
        ({"counts": {"visits": "ab"}}, "'visits' is 'ab': give 2 numbers"),
    ],
)
def test_what_is_no_part_is_refused_with_its_name(more: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        mixed(**more)


def test_parts_need_the_names_of_the_numeric_features() -> None:
    with pytest.raises(InputError, match="features is None: give names"):
        Mixture([1.0], [[0.0]], [[[1.0]]], counts={"visits": [1.0]})


@pytest.mark.parametrize(
    "export",
    [lambda m: select(m, "duckdb"), graph, mixture_to_sklearn],
    ids=["sql", "onnx", "sklearn"],
)
def test_what_takes_numbers_alone_says_so_in_a_line(export: Any) -> None:
    with pytest.raises(
        InputError, match="takes numeric features alone, and this mixture has 'paid'"
    ):
        export(mixed())


def test_a_notebook_shows_levels_and_counts() -> None:
    page = mixed()._repr_html_()
    assert "<th>paid</th><th>visits</th>" in page
    assert "no 90%, yes 10%" in page
