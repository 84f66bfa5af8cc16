"""The information of a sample, the gradient, and the claim that a large table has converged."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.builders import block_of, rows_of
from helpers.data_sets import random_mixture
from sparkgmm import Mixture, fit_array
from sparkgmm.core.acceleration import metric, pack, unpack
from sparkgmm.core.evidence import OverBlocks, OverRows
from sparkgmm.core.information import SampleInformation, gradient, informed, scores
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.covariances import FAMILIES
from sparkgmm.mixture import COVARIANCE_TYPES, Array
from sparkgmm.parts import Column

CLOSED = [kind for kind in COVARIANCE_TYPES if FAMILIES[kind].closed]


def slopes(f, model):
    """Central differences of f along each coordinate of a model, in units of its metric."""
    x, unit = pack(model), 1e-5 * np.diag(1 / metric(model))
    return np.array([(f(x + h) - f(x - h)) / 2e-5 for h in unit])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", CLOSED)
def test_the_gradient_is_that_of_the_log_likelihood(kind, weighted):
    rng = np.random.default_rng(3)
    mixture = random_mixture(rng, 3, 3, kind)
    X, _ = random_mixture(rng, 3, 3, kind).sample(200, seed=1)
    block = block_of(X, rng.uniform(0.1, 3, 200) if weighted else None)
    profile = Profile.of(block)
    evidence = OverBlocks.of([block], Frame.of(profile), profile)
    model = from_mixture(mixture, evidence.frame)

    def height(x: Array) -> float:
        return evidence.measure([unpack(x, model)], "")[0].log_likelihood

    found = gradient(model, evidence.measure([model], "")[0].moments)
    np.testing.assert_allclose(found / metric(model), slopes(height, model), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", CLOSED)
def test_a_row_s_scores_are_the_gradient_of_its_log_density(kind):
    rng = np.random.default_rng(4)
    X, _ = random_mixture(rng, 3, 2, kind).sample(40, seed=2)
    block = block_of(X)
    frame = Frame.of(Profile.of(block))
    model = from_mixture(random_mixture(rng, 3, 2, kind), frame)
    Z, _ = frame.standardise([block])
    found = scores(model, np.ascontiguousarray(Z.T)) / metric(model)[:, None]
    for i in (0, 17):
        profile = Profile.of(block)
        evidence = OverBlocks([block_of(X[i : i + 1])], Frame.of(profile), profile)
        evidence = OverBlocks.of(evidence.blocks, frame, profile)

        def density(x: Array, evidence: OverBlocks = evidence) -> float:
            return evidence.measure([unpack(x, model)], "")[0].log_likelihood

        np.testing.assert_allclose(found[:, i], slopes(density, model), rtol=1e-5, atol=1e-5)


def test_the_information_on_one_gaussian_is_fisher_s():
    # nodes and weights under which moments up to the seventh are exact
    nodes, w = np.polynomial.hermite_e.hermegauss(8)
    block = block_of(3.0 + 2.0 * nodes[:, None], w)
    frame = Frame.of(Profile.of(block))
    model = from_mixture(Mixture([1.0], [[3.0]], [[[4.0]]]), frame)
    A = SampleInformation.of([block] * 40, frame)(model)  # 320 rows: not few
    # of the mean 1 / variance, of the log standard deviation 2; a weight of 1 is no parameter
    np.testing.assert_allclose(A, np.diag([1.0, 1.0, 2.0]), atol=1e-9)


def test_a_weight_of_three_is_three_equal_rows_in_the_information():
    X, _ = random_mixture(np.random.default_rng(0), 2, 2, "full").sample(300, seed=0)
    w = np.tile([1.0, 2.0, 3.0], 100)
    frame = Frame.of(Profile.of(block_of(X)))
    model = from_mixture(random_mixture(np.random.default_rng(1), 2, 2, "full"), frame)
    by_weight = SampleInformation.of([block_of(X, w)], frame)(model)
    by_rows = SampleInformation.of([block_of(np.repeat(X, w.astype(int), axis=0))], frame)(model)
    np.testing.assert_allclose(by_weight, by_rows, rtol=1e-9, atol=1e-12)


def test_the_information_has_the_same_bits_on_any_number_of_cores(monkeypatch):
    X, _ = random_mixture(np.random.default_rng(0), 3, 3, "full").sample(9000, seed=0)
    rows = rows_of(X)
    frame = OverRows.of(rows).frame
    model = from_mixture(random_mixture(np.random.default_rng(1), 3, 3, "full"), frame)
    found = []
    for cores in (1, 2, 7):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        found.append(SampleInformation.of(rows.sample, frame)(model).tobytes())
    assert found[0] == found[1] == found[2]


def test_a_component_of_few_rows_keeps_a_curvature_in_every_direction():
    X = np.random.default_rng(0).standard_normal((400, 4))
    frame = Frame.of(Profile.of(block_of(X)))
    lonely = Mixture([0.99, 0.01], np.zeros((2, 4)), np.array([np.eye(4), 0.1 * np.eye(4)]))
    model = from_mixture(lonely, frame)
    A = SampleInformation.of([block_of(X)], frame)(model) / np.outer(metric(model), metric(model))
    assert np.linalg.eigvalsh(A).min() > 1e-4


def test_a_family_without_coordinates_and_a_matrix_too_large_have_none():
    def of(kind: str, k: int, d: int) -> bool:
        frame = Frame(np.zeros(d), np.ones(d), np.eye(d), 1.0)
        return informed(from_mixture(random_mixture(np.random.default_rng(0), k, d, kind), frame))

    assert of("full", 3, 4)
    assert not of("VEV", 3, 4)
    assert not of("full", 3, 50)
    assert of("diag", 3, 50)


def overlapping(d: int, k: int, seed: int, n: int) -> tuple[Array, Mixture]:
    """Rows of a mixture whose components overlap, so that EM is slow, and the mixture."""
    rng = np.random.default_rng([d, k, seed])
    weights, means = rng.dirichlet(np.full(k, 3.0)), rng.normal(0, 2, (k, d))
    A = 0.4 * rng.normal(size=(k, d, d))
    covariances = 0.6 * np.eye(d) + A @ A.transpose(0, 2, 1)
    z = rng.choice(k, n, p=weights)
    noise = rng.normal(size=(n, d))
    X = means[z] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[z], noise)
    return X, Mixture(weights, means, covariances)


@pytest.mark.parametrize(
    ("d", "k", "seed"), [(3, 8, 1), pytest.param(4, 6, 0, marks=pytest.mark.long)]
)
def test_a_large_table_of_overlapping_components_ends_within_tol_of_its_limit(d, k, seed):
    X, truth = overlapping(d, k, seed, 100_000)
    found = fit_array(X, k, n_init=2)
    start = {
        "weights_init": found.mixture.weights,
        "means_init": found.mixture.means,
        "precisions_init": np.linalg.inv(found.mixture.covariances),
    }
    limit = fit_array(X, k, **start, tol=1e-10, max_iter=1000)
    assert found.converged
    assert found.n_iter <= 60
    assert limit.log_likelihood - found.log_likelihood < 2e-6 * len(X)
    # the limit is one: what all rows add to the slope there is nothing
    model = from_mixture(limit.mixture, OverRows.of(rows_of(X)).frame)
    evidence = OverRows.of(rows_of(X))
    slope = gradient(model, evidence.measure([model], "")[0].moments) / metric(model)
    assert np.abs(slope).max() < 1e-5
    assert found.log_likelihood > truth.log_likelihood(X)


def test_the_gradient_and_the_scores_are_those_of_levels_and_counts_too():
    rng = np.random.default_rng(5)
    table, columns = mixed_rows(rng, 400)
    block = Block(table, rng.uniform(0.1, 3, 400))
    profile = Profile.of(block, n_beside=2)
    frame = Frame.of(profile)
    evidence = OverBlocks.of([block], frame, profile)
    beside = {
        "categorical": {"kind": {"a": [0.2, 0.5], "b": [0.3, 0.4], "c": [0.5, 0.1]}},
        "counts": {"n": [2.0, 6.0]},
    }
    mixture = Mixture([0.4, 0.6], [[0.0], [0.5]], [[1.0], [2.0]], "diag", ["x"], **beside)
    model = from_mixture(mixture, frame, columns)

    def height(x: Array, evidence: OverBlocks = evidence) -> float:
        return evidence.measure([unpack(x, model)], "")[0].log_likelihood

    found = gradient(model, evidence.measure([model], "")[0].moments)
    np.testing.assert_allclose(found / metric(model), slopes(height, model), rtol=1e-5, atol=1e-5)
    information = SampleInformation.of([block], frame)
    found = scores(model, information.X) / metric(model)[:, None]
    for i in (0, 3, 9):  # in 3 the level is not known, in 9 the count
        alone = OverBlocks.of([Block(table[:, i : i + 1].copy(), None)], frame, profile)

        def density(x: Array, alone: OverBlocks = alone) -> float:
            return height(x, alone)

        np.testing.assert_allclose(found[:, i], slopes(density, model), rtol=1e-5, atol=1e-5)
    # every direction has some information: log-probabilities are determined but for a constant
    assert np.linalg.eigvalsh(information(model)).min() > 0


def mixed_rows(rng: np.random.Generator, n: int) -> tuple[Array, tuple[Column, ...]]:
    """Return a numeric column, one of three levels and one of counts, (3, n)."""
    values = np.stack([rng.normal(size=n), rng.integers(0, 3, n), rng.poisson(4.0, n)])
    values = values.astype(np.float64)
    values[1, 3], values[2, 9] = np.nan, np.nan
    return values, (Column("kind", "categorical", ("a", "b", "c")), Column("n", "counts"))
