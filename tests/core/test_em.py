from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.builders import block_of
from helpers.data_sets import TEXTBOOK, faithful, iris, random_mixture
from sparkgmm.core.em import Settings, Trajectory, em
from sparkgmm.core.evidence import Measured, Scan
from sparkgmm.core.initialisation import Seeds, k_means_plus_plus, model_around
from sparkgmm.core.model import from_mixture, to_mixture
from sparkgmm.core.prior import Regularised, m_step
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.core.statistics import run_kernels
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.stacks import Dense
from sparkgmm.mixture import COVARIANCE_TYPES


def frame_of(block):
    return Frame.of(Profile.of(block))


def start_of(block, frame, k, kind, seed=0):
    Z, w = frame.standardise([block])
    centres = k_means_plus_plus(Z, w, k, np.random.default_rng(seed))
    seeds = Seeds(Z, w, frame.scale, frame.correlation)
    return model_around(centres, seeds, FAMILIES[kind])


def numbers_of(model):
    return model.weights, model.means, model.stack.values


def climb(model, block, frame, options):
    """Drive the coroutine to its end; return the state and the height of every model it yielded."""
    state, heights = Trajectory(model), []
    run = em(state, options)
    proposal = next(run)
    while True:
        scan = Scan.of([proposal], frame)
        ((moments, log_likelihood, _),) = scan.read(run_kernels(scan.kernels, block))
        heights.append(log_likelihood)
        try:
            proposal = run.send(Measured(moments, log_likelihood))
        except StopIteration:
            return state, heights


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(COVARIANCE_TYPES),
    k=st.integers(1, 4),
    d=st.integers(1, 3),
    weighted=st.booleans(),
)
def test_the_plain_em_step_never_lowers_the_likelihood(seed, kind, k, d, weighted):
    rng = np.random.default_rng(seed)
    X, _ = random_mixture(rng, 3, d, kind).sample(150, seed=seed)
    block = block_of(X, rng.uniform(0.1, 3, 150) if weighted else None)
    frame = frame_of(block)
    options = Settings(tol=0.0, max_iter=30, prior=Regularised(0.0), accelerate=False)
    _, heights = climb(start_of(block, frame, k, kind, seed), block, frame, options)
    falls = -np.diff(heights)
    assert falls.max(initial=0.0) < 1e-10


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_best_so_far_is_what_is_kept_and_reported(kind, accelerate):
    block = block_of(iris())
    frame = frame_of(block)
    options = Settings(prior=Regularised(0.0), accelerate=accelerate)
    state, heights = climb(start_of(block, frame, 3, kind, 1), block, frame, options)
    assert state.n_iter == len(heights) == len(state.log_likelihoods)
    np.testing.assert_allclose(state.log_likelihoods, np.maximum.accumulate(heights), atol=1e-10)
    assert state.log_likelihood == state.log_likelihoods[-1]


@pytest.mark.parametrize("accelerate", [False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_log_likelihood_and_moments_kept_are_those_of_the_model_kept(kind, accelerate):
    block = block_of(faithful())
    frame = frame_of(block)
    for max_iter in (1, 2, 3, 7, 200):
        options = Settings(max_iter=max_iter, accelerate=accelerate)
        state, _ = climb(start_of(block, frame, 3, kind), block, frame, options)
        assert state.n_iter <= max_iter
        scan = Scan.of([state.model], frame)
        ((moments, log_likelihood, _),) = scan.read(run_kernels(scan.kernels, block))
        assert state.log_likelihood == log_likelihood
        np.testing.assert_array_equal(state.measured.moments.counts, moments.counts)
        expected = to_mixture(state.model, frame).log_likelihood(faithful())
        found = len(faithful()) * (log_likelihood - frame.log_volume)
        assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("data", "k", "kind"),
    [
        (faithful, 2, "full"),
        (faithful, 3, "tied"),
        (faithful, 3, "full"),
        (iris, 3, "tied"),
        (iris, 3, "diag"),
        (iris, 4, "spherical"),
    ],
)
def test_acceleration_reaches_the_same_limit_in_fewer_passes(data, k, kind):
    block = block_of(data())
    frame = frame_of(block)
    start = start_of(block, frame, k, kind, seed=1)

    def run(accelerate):
        options = Settings(tol=1e-9, max_iter=2000, prior=Regularised(0.0), accelerate=accelerate)
        return climb(start, block, frame, options)[0]

    fast, plain = run(True), run(False)
    assert fast.converged
    assert plain.converged
    assert fast.log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-7)
    assert fast.n_iter < plain.n_iter


@pytest.mark.parametrize("tol", [1e-4, 1e-6, 1e-8])
@pytest.mark.parametrize(
    ("data", "k", "kind"), [(faithful, 2, "full"), (faithful, 3, "tied"), (iris, 3, "full")]
)
def test_converged_means_within_tol_of_the_limit(data, k, kind, tol):
    block = block_of(data())
    frame = frame_of(block)
    for seed in range(3):
        start = start_of(block, frame, k, kind, seed)
        options = Settings(tol=tol, max_iter=1000, prior=Regularised(0.0))
        state, _ = climb(start, block, frame, options)
        assert state.converged
        onwards = Settings(tol=1e-13, max_iter=3000, prior=Regularised(0.0))
        limit, _ = climb(state.model, block, frame, onwards)
        assert limit.log_likelihood - state.log_likelihood <= 2 * tol


def test_running_out_of_passes_is_not_convergence():
    block = block_of(faithful())
    frame = frame_of(block)
    options = Settings(tol=1e-12, max_iter=3, prior=Regularised(0.0))
    state, _ = climb(start_of(block, frame, 3, "tied"), block, frame, options)
    assert state.n_iter == 3
    assert not state.converged
    assert state.distance > 1e-12


@pytest.mark.parametrize("kind", TEXTBOOK)
def test_one_component_converges_at_once_to_mean_and_covariance(kind):
    block = block_of(iris(), np.random.default_rng(0).uniform(1, 2, 150))
    frame = frame_of(block)
    options = Settings(tol=1e-12, prior=Regularised(0.0))
    state, heights = climb(start_of(block, frame, 1, kind), block, frame, options)
    assert state.converged
    assert len(heights) <= 3
    mixture = to_mixture(state.model, frame)
    np.testing.assert_allclose(mixture.means[0], np.average(iris(), axis=0, weights=block.weights))
    S = np.cov(iris().T, aweights=block.weights, ddof=0)
    expected = {
        "full": S,
        "tied": S,
        "diag": np.diag(np.diag(S)),
        "spherical": np.trace(S) / 4 * np.eye(4),
    }[kind]
    np.testing.assert_allclose(mixture.covariances[0], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_limit_is_a_fixed_point_of_the_m_step(kind):
    block = block_of(faithful())
    frame = frame_of(block)
    options = Settings(tol=1e-13, max_iter=500, prior=Regularised(0.0))
    state, _ = climb(start_of(block, frame, 2, kind), block, frame, options)
    again = m_step(FAMILIES[kind], state.measured.moments, Regularised(0.0))
    for here, there in zip(numbers_of(state.model), numbers_of(again), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reg_covar", [1e-6, 1e-2, 0.3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_limit_is_a_fixed_point_of_the_regularised_m_step_too(kind, reg_covar):
    block = block_of(faithful())
    frame = frame_of(block)
    options = Settings(tol=1e-10, max_iter=500, prior=Regularised(reg_covar))
    state, _ = climb(start_of(block, frame, 2, kind), block, frame, options)
    assert state.converged
    again = m_step(FAMILIES[kind], state.measured.moments, Regularised(reg_covar))
    for here, there in zip(numbers_of(state.model), numbers_of(again), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-3, atol=1e-3)


def test_a_component_that_loses_its_rows_ends_the_run_as_collapsed():
    block = block_of(faithful())
    frame = frame_of(block)
    mixture = random_mixture(np.random.default_rng(0), 2, 2, "full")
    model = from_mixture(mixture, frame)
    nowhere = replace(
        model,
        means=np.array([[0.0, 0.0], [1e3, 1e3]]),
        stack=Dense(np.tile(np.eye(2), (2, 1, 1))),
    )
    state, _ = climb(nowhere, block, frame, Settings())
    assert state.collapsed
    assert not state.converged
    assert state.n_iter == 1


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_a_component_that_loses_its_volume_ends_the_run_as_collapsed(kind):
    # half of the rows are one and the same
    X = np.r_[np.zeros((50, 2)), 5 + np.random.default_rng(0).standard_normal((50, 2))]
    block = block_of(X)
    frame = frame_of(block)
    state, _ = climb(
        start_of(block, frame, 2, kind), block, frame, Settings(prior=Regularised(0.0))
    )
    assert state.collapsed
    assert not state.converged
    assert np.isfinite(state.log_likelihoods).all()
