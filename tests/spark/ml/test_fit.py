"""Fits of all kinds of DataFrames: a right answer or an error that says what is wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.ml.feature import VectorAssembler
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from sparkgmm import GaussianMixture, fit_array
from sparkgmm.errors import ConvergenceWarning, FitWarning, InputError, SparkGmmError
from sparkgmm.mixture import Array
from sparkgmm.spark.ml import fit_plans

pytestmark = pytest.mark.spark


def test_the_fit_is_that_of_the_same_rows_in_memory(frame: Any, faithful: Array) -> None:
    model = GaussianMixture(k=2).fit(frame(faithful, partitions=1))
    assert model.summary.logLikelihood == pytest.approx(-1130.2640, abs=1e-4)
    expected = fit_array(faithful, 2).mixture
    np.testing.assert_allclose(model.mixture.means, expected.means, rtol=1e-8)
    assert model.summary.converged


@pytest.mark.parametrize("kind", ["full", "tied", "diag", "spherical"])
def test_every_covariance_type(frame: Any, three: Array, quick: Any, kind: str) -> None:
    model = quick(k=3, covarianceType=kind).fit(frame(three))
    assert model.mixture.covariance_type == kind
    assert sorted(model.summary.clusterSizes) == [40, 40, 40]
    np.testing.assert_allclose(model.weights, [1 / 3] * 3, atol=1e-3)


def test_any_long_is_a_seed(frame: Any, three: Array, quick: Any) -> None:
    df = frame(three)
    for seed in (-1, 2**63 - 1, 1990343563194890348):
        assert quick(k=3, seed=seed).fit(df).mixture == quick(k=3, seed=seed).fit(df).mixture


def test_one_component_is_the_normal_distribution(frame: Any, three: Array) -> None:
    model = GaussianMixture(k=1, regCovar=0.0).fit(frame(three))
    np.testing.assert_allclose(model.mixture.means[0], three.mean(axis=0))
    np.testing.assert_allclose(model.mixture.covariances[0], np.cov(three.T, bias=True))


def test_empty_partitions(frame: Any, three: Array, quick: Any) -> None:
    df = frame(three)
    spread = df.repartition(5).union(df.limit(0).repartition(3))
    np.testing.assert_allclose(
        quick(k=3).fit(spread).mixture.means, quick(k=3).fit(df).mixture.means, rtol=1e-6
    )


def test_one_row_a_partition(spark: SparkSession, quick: Any) -> None:
    values = [0.0, 0.3, 0.7, 9.0, 9.4, 9.6, 9.9]
    rows = [(Vectors.dense(value),) for value in values]
    df = spark.createDataFrame(spark.sparkContext.parallelize(rows, len(rows)), ["features"])
    model = quick(k=2).fit(df)
    assert model.summary.clusterSizes == [4, 3]
    np.testing.assert_allclose(model.mixture.means[:, 0], [9.475, 1 / 3], rtol=1e-5)


def test_names_that_a_vector_assembler_noted_are_those_of_the_features(
    spark: SparkSession, three: Array, quick: Any
) -> None:
    df = spark.createDataFrame([tuple(row) for row in three.tolist()], "east double, north double")
    assembled = VectorAssembler(inputCols=["east", "north"], outputCol="features").transform(df)
    assert quick(k=3).fit(assembled).mixture.features == ("east", "north")


def test_vectors_without_names_are_counted(frame: Any, three: Array, quick: Any) -> None:
    assert quick(k=3).fit(frame(three)).mixture.features == ("features[0]", "features[1]")


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        ([None], "features null in 1"),
        ([[1.0, NAN], [2.0, NAN]], r"features\[1\] NaN in 2"),
        ([[INF, 1.0]], r"features\[0\] infinite in 1"),
        ([[1.0], [1.0, 2.0, 3.0]], "features not of length 2 in 2"),
    ],
    ids=["null", "nan", "infinite", "ragged"],
)
def test_invalid_rows_are_named_and_counted(
    frame: Any, three: Array, quick: Any, bad: list[Any], fault: str
) -> None:
    message = rf"{len(bad)} of {len(bad) + 120} rows are invalid \({fault}\): fix or drop"
    with pytest.raises(InputError, match=message):
        quick(k=2).fit(frame([*three, *bad]))


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, r"1 of 120 rows are invalid \(w negative in 1\)"),
        (None, r"\(w null in 1\)"),
        (NAN, r"\(w NaN in 1\)"),
    ],
)
def test_invalid_weights_are_named_and_counted(
    frame: Any, three: Array, quick: Any, weight: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quick(k=2, weightCol="w").fit(frame(three, w=[weight] + [1.0] * 119))


def test_weights_that_are_all_zero_are_told(frame: Any, three: Array, quick: Any) -> None:
    with pytest.raises(InputError, match=r"none of the 120 .* weight above 0: check weightCol"):
        quick(k=2, weightCol="w").fit(frame(three, w=[0.0] * 120))


def test_an_empty_data_frame_is_told(spark: SparkSession, frame: Any, quick: Any) -> None:
    with pytest.raises(InputError, match="column 'features' holds no values in any row"):
        quick().fit(frame([[1.0, 2.0]]).limit(0))
    nothing = spark.range(0)
    assembled = VectorAssembler(inputCols=["id"], outputCol="features").transform(nothing)
    with pytest.raises(InputError, match="the DataFrame has no rows: give one with data"):
        quick().fit(assembled)


def test_a_column_of_the_wrong_type_is_told(frame: Any, three: Array, quick: Any) -> None:
    df = frame(three, name=["x"] * 120, id=list(range(120)))
    with pytest.raises(InputError, match="featuresCol is 'id', a column of type bigint"):
        quick(featuresCol="id").fit(df)
    with pytest.raises(InputError, match="weightCol is 'name', a column of type string"):
        quick(weightCol="name").fit(df)
    with pytest.raises(InputError, match="weightCol is 'wait', which the DataFrame does not"):
        quick(weightCol="wait").fit(df)
    strings = df.select(F.array("name").alias("features"))
    with pytest.raises(InputError, match="a column of type array<string>"):
        quick().fit(strings)


def test_a_column_that_the_model_would_add_must_not_be_there(
    frame: Any, three: Array, quick: Any
) -> None:
    with pytest.raises(InputError, match="column 'prediction' already exists"):
        quick().fit(frame(three, prediction=[1] * 120))


def test_more_components_than_distinct_rows_are_refused(frame: Any, quick: Any) -> None:
    X = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, 7.0]] * 10)
    with pytest.raises(InputError, match="3 distinct rows for k = 4 components: lower k to 3"):
        quick(k=4).fit(frame(X))


def test_clusters_of_equal_rows_are_fitted_and_named(frame: Any, quick: Any) -> None:
    X = np.array([[0.0, 1.0], [1.0, 0.5], [2.0, 7.0]] * 20)
    with pytest.warns(FitWarning, match="20 rows of one value"):
        model = quick(k=3).fit(frame(X))
    np.testing.assert_allclose(model.weights, [1 / 3] * 3, rtol=1e-6)


def test_an_error_speaks_of_params_and_never_of_keys_of_the_configuration(
    frame: Any, three: Array, quick: Any
) -> None:
    constant = np.column_stack([three, np.full(len(three), 7.0)])
    with pytest.raises(InputError, match=r"is constant \(7 in .*: leave it out of featuresCol$"):
        quick().fit(frame(constant))
    with pytest.raises(InputError, match=r"the weights .* sum to inf.*the column that weightCol"):
        quick(weightCol="w").fit(frame(three, w=[1e308] * len(three)))


def test_a_stream_cannot_be_fitted(
    spark: SparkSession, frame: Any, three: Array, quick: Any, tmp_path: Any
) -> None:
    df = frame(three)
    df.write.parquet(str(tmp_path / "in"))
    stream = spark.readStream.schema(df.schema).parquet(str(tmp_path / "in"))
    with pytest.raises(InputError, match="is a stream, which a fit cannot read to its end"):
        quick().fit(stream)


def test_columns_left_out_of_the_model_are_left_out_of_the_summary(
    frame: Any, three: Array, quick: Any
) -> None:
    summary = quick(k=3, predictionCol="", probabilityCol="").fit(frame(three)).summary
    assert summary.predictions.columns == ["features"]
    with pytest.raises(InputError, match="predictionCol was empty in the fit"):
        _ = summary.clusterSizes


@pytest.mark.parametrize("name", ["pre.diction", "pre`dic tion"])
def test_the_summary_finds_columns_with_dots_and_backticks_in_their_names(
    frame: Any, three: Array, quick: Any, name: str
) -> None:
    params = {"predictionCol": name, "probabilityCol": f"{name}.2"}
    summary = quick(k=3, **params).fit(frame(three)).summary
    assert sorted(summary.clusterSizes) == [40, 40, 40]
    assert (summary.cluster.columns, summary.probability.columns) == ([name], [f"{name}.2"])


@pytest.mark.parametrize("file_format", ["parquet", "orc"])
def test_arrays_straight_from_files_are_counted_by_component(
    spark: SparkSession, three: Array, quick: Any, file_format: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "arrays")
    table = spark.createDataFrame([(row,) for row in three.tolist()], "features array<double>")
    table.write.format(file_format).save(path)
    summary = quick(k=3).fit(spark.read.format(file_format).load(path)).summary
    assert sorted(summary.clusterSizes) == [40, 40, 40]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count readings of the rows and searches over them."""
    counts: Counter[str] = Counter()
    blocks, fit = fit_plans.Blocks, fit_plans.fit

    def reading(*args: Any, **options: Any) -> Any:
        counts["readings"] += 1
        return blocks(*args, **options)

    def fitting_(*args: Any) -> Any:
        counts["searches"] += 1
        return fit(*args)

    monkeypatch.setattr(fit_plans, "Blocks", reading)
    monkeypatch.setattr(fit_plans, "fit", fitting_)
    return counts


def test_maps_that_differ_in_k_and_type_share_one_reading_and_every_scan(
    frame: Any, three: Array, quick: Any, counted: Counter[str]
) -> None:
    gm = quick()
    kinds = [(k, kind) for k in (3, 1, 2) for kind in ("diag", "full")]
    maps = [{gm.k: k, gm.covarianceType: kind} for k, kind in kinds]
    models = gm.fit(frame(three), maps)
    assert counted == {"readings": 1, "searches": 1}
    assert [(m.getK(), m.mixture.k, m.getCovarianceType()) for m in models] == [
        (k, k, kind) for k, kind in kinds
    ]
    alone = gm.fit(frame(three), maps[0])
    assert models[0].summary.logLikelihood == pytest.approx(alone.summary.logLikelihood, abs=1e-5)
    assert models[0].uid == gm.uid


def test_maps_fit_nothing_that_was_not_asked_for(
    frame: Any, three: Array, quick: Any, counted: Counter[str]
) -> None:
    gm = quick()
    maps = [
        {gm.k: 1, gm.covarianceType: "full"},
        {gm.k: 3, gm.covarianceType: "diag"},
        {gm.k: 3, gm.covarianceType: "diag", gm.predictionCol: "p"},
        {gm.k: 3, gm.covarianceType: "diag", gm.seed: 5},
    ]
    models = gm.fit(frame(three), maps)
    assert counted == {"readings": 1, "searches": 3}
    assert models[2].mixture == models[1].mixture
    assert models[2].getPredictionCol() == "p"


def test_maps_over_other_columns_read_them_once_each(
    frame: Any, three: Array, quick: Any, counted: Counter[str]
) -> None:
    gm = quick(k=3)
    df = frame(three, w=[1.0, 2.0] * 60)
    models = gm.fit(df, [{}, {gm.weightCol: "w"}, {gm.k: 2}])
    assert counted == {"readings": 2, "searches": 2}
    assert models[1].summary.logLikelihood < models[0].summary.logLikelihood


def test_a_map_that_fails_leaves_the_others_their_models(
    frame: Any, three: Array, quick: Any
) -> None:
    gm = quick(k=2)
    maps: list[Any] = [{}, {gm.k: 200}, {gm.weightCol: "no"}, {gm.covarianceType: "diag"}]
    found = gm.fitMultiple(frame(three), maps)
    models: dict[int, Any] = {}
    errors = []
    for _ in maps:
        try:
            index, model = next(found)
            models[index] = model
        except SparkGmmError as error:
            errors.append(str(error))
    assert sorted(models) == [0, 3]
    assert "120 distinct rows for k = 200" in errors[0]
    assert "weightCol is 'no'" in errors[1]
    with pytest.raises(StopIteration):
        next(found)


def test_a_fit_that_used_up_its_passes_warns_in_the_words_of_the_estimator(
    frame: Any, quick: Any, three: Array
) -> None:
    with pytest.warns(ConvergenceWarning, match="used up its one pass .*: raise maxIter"):
        quick(k=3, maxIter=1).fit(frame(three))


def test_a_sentinel_that_hides_all_other_values_is_told_with_the_column(
    frame: Any, quick: Any, three: Array
) -> None:
    X = three.copy()
    X[:40, 1] = 9.969209968386869e36
    with pytest.warns(FitWarning, match=r"fitted as one: features\[1\] .* beside 9.9692"):
        quick(k=2).fit(frame(X))


def test_components_that_could_not_be_kept_are_told(
    frame: Any, quick: Any, monkeypatch: pytest.MonkeyPatch, three: Array
) -> None:
    from dataclasses import replace

    gm = quick(k=3)
    [candidate] = fit_plans.fit_all(frame(three), [gm._plan()])
    assert not isinstance(candidate, Exception)
    dropped = replace(candidate, k=2, n_dropped=1)
    monkeypatch.setattr("sparkgmm.spark.ml.estimator.fit_all", lambda *_: [dropped])
    with pytest.warns(UserWarning, match="1 of 3 components found no rows of their own"):
        gm.fit(frame(three))
