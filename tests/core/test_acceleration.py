from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data_sets import random_mixture
from sparkgmm.core.acceleration import Anderson, metric, pack, unpack
from sparkgmm.core.model import Model, expected_log_likelihood, from_mixture, to_mixture
from sparkgmm.core.profile import Frame
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import Moments
from sparkgmm.covariances.stacks import Dense
from sparkgmm.mixture import COVARIANCE_TYPES, Mixture


def some_model(kind, k=3, d=3, seed=0):
    rng = np.random.default_rng(seed)
    frame = Frame(rng.standard_normal(d), rng.uniform(0.5, 2, d), np.eye(d), 1.0)
    return from_mixture(random_mixture(rng, k, d, kind), frame), frame


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_packed_parameters_are_read_back(kind, d):
    model, _ = some_model(kind, d=d)
    back = unpack(pack(model), model)
    assert back.covariance_type == kind
    pairs = ((m.weights, m.means, m.stack.values) for m in (model, back))
    for a, b in zip(*pairs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-15)


@given(
    kind=st.sampled_from([name for name in FAMILIES if FAMILIES[name].closed]),
    seed=st.integers(0, 2**32 - 1),
    size=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_every_point_of_the_packed_space_is_a_valid_mixture(kind, seed, size):
    model, frame = some_model(kind, seed=seed)
    here = pack(model)
    there = here + size * np.random.default_rng(seed).standard_normal(here.shape)
    mixture = to_mixture(unpack(there, model), frame)  # checks weights and covariances
    assert mixture.weights.min() > 0


def model_of(kind, covariances):
    """A model of covariances like these (k, d, d), in coordinates that are the data's own."""
    k, d = covariances.shape[:2]
    covariances = FAMILIES[kind].nearest(covariances, np.ones(d)).dense(k)
    means = np.random.default_rng(1).standard_normal((k, d))
    mixture = Mixture(np.arange(1.0, k + 1) / (k * (k + 1) / 2), means, covariances, kind)
    return from_mixture(mixture, Frame(np.zeros(d), np.ones(d), np.eye(d), 1.0))


def moments_at(model):
    """What one row is expected to add to the sums if the model is true."""
    w, means, covariances = model.weights, model.means, model.stack.dense(model.k)
    total = np.einsum("k,kde->de", w, covariances) + np.einsum("k,kd,ke->de", w, means, means)
    zero = np.zeros_like(means)
    return Moments(w, zero, w[:, None, None] * covariances, means, np.ones(model.d), total)


def information(model):
    """Return the information of complete data in the coordinates of `pack`, a row.

    It is the curvature of the expected log-likelihood at the truth, by central differences.
    Log-weights have a direction that `unpack` takes out: of counts that are free it would be w w^T.
    """
    moments, here, h = moments_at(model), pack(model), 2e-4
    steps = h * np.eye(len(here))

    def q(vector):
        return expected_log_likelihood(unpack(vector, model), moments)

    curvature = np.array(
        [
            [q(here + a + b) - q(here + a - b) - q(here - a + b) + q(here - a - b) for b in steps]
            for a in steps
        ]
    ) / (4 * h * h)
    found = -curvature
    found[: model.k, : model.k] += np.outer(model.weights, model.weights)
    return found


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_without_correlations_the_metric_is_the_root_of_the_information(kind, d):
    variances = np.random.default_rng(d).uniform(0.3, 3, (3, d))
    model = model_of(kind, variances[:, :, None] * np.eye(d))
    expected = information(model)
    np.testing.assert_allclose(np.diag(metric(model) ** 2), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_with_correlations_the_metric_is_never_more_than_the_information(kind):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3, 3, 3))
    covariances = A @ A.transpose(0, 2, 1) + 0.5 * np.eye(3)
    model = model_of(kind, covariances)
    ratio = metric(model) ** 2 / np.diagonal(information(model))
    assert (ratio <= 1 + 1e-5).all()
    # of a mean it leaves out what the other features say: 1 - R^2 of the regression on them
    first = model.stack.dense(3)[0]
    least = 1 / (np.diagonal(first) * np.diagonal(np.linalg.inv(first)))
    np.testing.assert_allclose(ratio[3:6], least, rtol=1e-4)
    np.testing.assert_allclose(ratio[:3], 1, rtol=1e-4)


def points(*values):
    """Two components of equal width whose means stand at the values: a model each."""
    stack = Dense(np.eye(1)[None])
    return [Model(FAMILIES["tied"], np.full(2, 0.5), np.array(v)[:, None], stack) for v in values]


def test_the_first_step_is_the_plain_one():
    here, there = points([0.0, 1.0], [0.5, 2.0])
    assert Anderson().extrapolate(here, there) is there


def linear(model, rate, limit):
    """Take a step of a map that draws nearer to `limit` by a rate a coordinate."""
    return replace(model, means=limit + rate * (model.means - limit))


def iterate(limit, rate, steps, anderson):
    (model,) = points([0.0, 0.0])
    for _ in range(steps):
        plain = linear(model, rate, limit)
        model = plain if anderson is None else anderson.extrapolate(model, plain)
    return np.abs(model.means - limit).max()


def test_a_slow_linear_map_is_solved_in_a_few_steps():
    limit, rate = np.array([[3.0], [-2.0]]), np.array([[0.95], [0.7]])
    assert iterate(limit, rate, 12, None) > 1
    assert iterate(limit, rate, 12, Anderson()) < 1e-6


def test_without_depth_every_step_is_plain():
    limit, rate = np.array([[3.0], [-2.0]]), np.array([[0.95], [0.7]])
    assert iterate(limit, rate, 9, Anderson(0)) == iterate(limit, rate, 9, None)


def test_a_step_taken_back_clears_the_history():
    anderson = Anderson()
    a, b, c, d = points([0.0, 0.0], [1.0, 1.0], [1.9, 1.9], [2.7, 2.7])
    anderson.extrapolate(a, b)
    assert anderson.extrapolate(b, c) is not c
    anderson.take_back()
    assert anderson.extrapolate(c, d) is d


def test_steps_that_grow_in_one_direction_are_lengthened_to_leave_a_saddle():
    anderson = Anderson()
    a, b, c = points([0.0, 0.0], [1.0, 1.0], [3.0, 3.0])
    anderson.extrapolate(a, b)
    ahead = pack(anderson.extrapolate(b, c)) - pack(b)
    np.testing.assert_allclose(ahead, 2 * (pack(c) - pack(b)), atol=1e-12)


def test_steps_that_grow_and_turn_are_not_extrapolated():
    anderson = Anderson()
    a, b, c = points([0.0, 0.0], [1.0, 1.0], [3.0, -2.0])
    anderson.extrapolate(a, b)
    assert anderson.extrapolate(b, c) is c


@pytest.mark.parametrize("kind", ["full", "tied"])
def test_packing_a_model_does_not_write_into_the_factors_that_it_keeps(kind):
    rng = np.random.default_rng(5)
    mixture = random_mixture(rng, 3, 2, kind)
    frame = Frame(np.zeros(2), np.ones(2), np.eye(2), 1.0)
    model = from_mixture(mixture, frame)
    before = model.stack.factors.copy()
    np.testing.assert_array_equal(pack(model), pack(model))
    np.testing.assert_array_equal(model.stack.factors, before)
