"""The registry of the columns that scoring adds: each is wherever its entry says."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml.linalg import VectorUDT
from pyspark.sql import DataFrame, SparkSession

from helpers.data_sets import random_mixture
from sparkgmm import GaussianMixture, GaussianMixtureModel
from sparkgmm.errors import ConfigurationError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.config import ScoreConfig, load_config
from sparkgmm.spark import score_columns
from sparkgmm.spark.ml.params import add_score_params
from sparkgmm.spark.score_columns import SCORE_COLUMNS, ScoreColumn, Scored, selectable_columns
from sparkgmm.spark.scored_rows import SPARK_TYPES, ScoreRequest, score_rows
from sparkgmm.spark.source import find_model_features

pytestmark = pytest.mark.spark

ROOT = Path(__file__).resolve().parents[2]
MIXTURE = random_mixture(np.random.default_rng(2), 3, 2, "full")
X = MIXTURE.sample(40, seed=3)[0]
LABELS, THRESHOLD = (7, 0, 4), float(np.quantile(MIXTURE.log_density(X), 0.2))


@pytest.fixture(scope="module")
def df(spark: SparkSession) -> DataFrame:
    rows = [(i, *map(float, row), [*map(float, row)]) for i, row in enumerate(X)]
    return spark.createDataFrame(rows, "id int, x0 double, x1 double, features array<double>")


def by_the_job(df: DataFrame, *names: str, threshold: float | None = None) -> DataFrame:
    mixture = Mixture(MIXTURE.weights, MIXTURE.means, MIXTURE.covariances, features=["x0", "x1"])
    features = find_model_features(df, mixture.features, 2, None)
    request = ScoreRequest(("id",), names, threshold, fail=True, labels=LABELS)
    return score_rows(df, features, mixture, request)[0]


def expected(name: str) -> Any:
    """Return what a column should hold, from the mixture alone."""
    density, R = MIXTURE.score(X)
    values: dict[str, Callable[[], Any]] = {
        "probability": lambda: R,
        "component": lambda: R.argmax(axis=1),
        "log_density": lambda: density,
        "label": lambda: np.array(LABELS)[R.argmax(axis=1)],
        "outlier": lambda: density < THRESHOLD,
        "surprise": lambda: MIXTURE.surprise(X),
        "surprises": lambda: MIXTURE.surprise(X),
        "imputed": lambda: X,
        "expected": lambda: np.hstack([MIXTURE.expect(X, i)[0] for i in range(2)]),
        "expected_sd": lambda: np.hstack([MIXTURE.expect(X, i)[1] for i in range(2)]),
    }
    return values[name]()


@pytest.fixture(scope="module")
def scored(df: DataFrame) -> tuple[DataFrame, list[Any]]:
    out = by_the_job(df, *selectable_columns(), threshold=THRESHOLD)
    return out, sorted(out.collect())


@pytest.mark.parametrize(
    "column", [c for c in SCORE_COLUMNS if c.needs != "param"], ids=attrgetter("name")
)
def test_the_score_job_adds_each_column_of_its_type(
    scored: tuple[DataFrame, list[Any]], column: ScoreColumn
) -> None:
    out, rows = scored
    assert out.schema[column.name].dataType == SPARK_TYPES[column.type]
    assert out.schema[column.name].dataType.simpleString() == column.type.replace("integer", "int")
    values = [row[column.name] for row in rows]
    found = np.array([[v["x0"], v["x1"]] if isinstance(v, dict) else v for v in values])
    np.testing.assert_allclose(found, expected(column.name), rtol=1e-12)
    assert len(set(np.ravel(found))) > 1


@pytest.mark.parametrize(
    "column", [c for c in SCORE_COLUMNS if c.param is not None], ids=attrgetter("name")
)
def test_transform_adds_each_column_that_has_a_param(df: DataFrame, column: ScoreColumn) -> None:
    model = GaussianMixtureModel(MIXTURE)
    params = [c.param for c in SCORE_COLUMNS if c.param is not None]
    model._set(**{param: "found" if param == column.param else "" for param in params})
    assert GaussianMixture().hasParam(str(column.param))
    out = model.transform(df.select("id", "features"))
    assert out.columns == ["id", "features", "found"]
    is_array = column.type == "array<double>"
    kind = VectorUDT() if is_array else SPARK_TYPES[column.type]
    assert out.schema["found"].dataType == kind
    rows = sorted(out.collect())
    found = np.array([row.found.toArray() if is_array else row.found for row in rows])
    np.testing.assert_allclose(found, expected(column.name), rtol=1e-12)
    noted = out.schema["found"].metadata.get("ml_attr")
    assert noted == (None if column.attributes is None else column.attributes(3))


def test_a_column_that_needs_a_threshold_is_chosen_by_it_and_not_by_name() -> None:
    needing = [c.name for c in SCORE_COLUMNS if c.needs == "threshold"]
    assert needing
    assert not set(needing) & set(selectable_columns())
    assert set(ScoreRequest((), (), None, True).columns) == set()
    assert set(ScoreRequest((), (), -5.0, True).columns) == set(needing)


@pytest.mark.parametrize("column", SCORE_COLUMNS, ids=attrgetter("name"))
def test_each_column_is_in_the_guides(column: ScoreColumn) -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    name = column.param if column.needs == "param" else column.name
    assert any(f"`{name}`" in page.read_text(encoding="utf-8") for page in pages)


def test_a_new_column_is_one_entry(
    df: DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def certainty(scored: Scored) -> Any:
        return scored.responsibilities.max(axis=1)

    text = "input: {path: a.csv}\nmodel: runs\noutput: {path: scored, columns: [certainty]}\n"
    path = tmp_path / "score.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"output\.columns is 'certainty': use one of "):
        load_config(str(path), (), ScoreConfig)
    mine = ScoreColumn("certainty", "double", certainty, param="certaintyCol", doc="certainty")
    monkeypatch.setattr(score_columns, "SCORE_COLUMNS", (*SCORE_COLUMNS, mine))
    most = MIXTURE.responsibilities(X).max(axis=1)

    config = load_config(str(path), (), ScoreConfig)
    rows = sorted(by_the_job(df, *config.output.columns).collect())
    np.testing.assert_allclose([row.certainty for row in rows], most, rtol=1e-12)

    @add_score_params  # as the package's own classes get them when they are imported
    class Model(GaussianMixtureModel):
        pass

    model: Any = Model(MIXTURE)
    assert model.getCertaintyCol() == ""
    plain = model.transform(df).columns
    model.setCertaintyCol("sure")
    out = model.transform(df)
    assert out.columns == [*plain, "sure"]
    assert "certainty" in model.explainParam("certaintyCol")
    np.testing.assert_allclose([row.sure for row in sorted(out.collect())], most, rtol=1e-12)
