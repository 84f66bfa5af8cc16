"""VEV, added as a family of its own: mclust 6.0's figures, and the M-step by a slow optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from helpers.data_sets import faithful, iris
from sparkgmm import fit_array
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import Moments

VEV = FAMILIES["VEV"]


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.long) for s in (1, 2))])
@pytest.mark.parametrize(
    ("data", "k", "log_likelihood", "n_parameters"),
    [
        (iris, 1, -379.914630122, 14),
        (iris, 2, -215.725972234, 26),
        (iris, 3, -186.073283408, 38),
        (faithful, 1, -1289.796745053, 5),
        (faithful, 2, -1134.679203510, 10),
    ],
)
def test_a_fit_reaches_mclusts_log_likelihood(
    data: Any, k: int, log_likelihood: float, n_parameters: int, seed: int
) -> None:
    found = fit_array(
        data(), k, covariance_type="VEV", reg_covar=0, tol=1e-9, max_iter=1000, seed=seed
    )
    assert found.log_likelihood == pytest.approx(log_likelihood, abs=1e-4)
    assert found.mixture.n_parameters == n_parameters
    assert found.converged


def test_a_fit_that_is_not_accelerated_stops_within_tol_of_its_limit() -> None:
    # three components of Old Faithful: EM's steps shrink by a few per cent each
    def fitted(tol: float) -> float:
        found = fit_array(
            faithful(),
            3,
            covariance_type="VEV",
            reg_covar=0,
            tol=tol,
            max_iter=5000,
            init="k-means++",
            n_init=3,
        )
        assert found.converged
        return found.log_likelihood / 272

    limit = fitted(1e-12)
    # where all rows fit the sample a fit goes on to a thousandth of tol
    assert limit - fitted(1e-3) < 2e-6


def rows_of_three(d: int) -> Moments:
    """Moments of three components about their means, and of unlike counts."""
    rng = np.random.default_rng(d)
    A = rng.standard_normal((3, d, d))
    scatter = A @ A.transpose(0, 2, 1) + 0.1 * np.eye(d)
    counts, nothing = np.array([5.0, 20.0, 50.0]), np.zeros((3, d))
    scale = rng.uniform(0.1, 10, d)
    second = counts[:, None, None] * scatter
    return Moments(counts, nothing, second, nothing, scale, np.eye(d))


def test_the_m_step_is_the_optimum_over_volumes_shape_and_rotations() -> None:
    moments = rows_of_three(3)
    unit = np.outer(moments.scale, moments.scale)
    scatter = moments.scatter() * unit
    found = np.array(VEV.estimate(moments).dense(3)) * unit

    def cost(covariances: np.ndarray) -> float:
        log_dets = np.linalg.slogdet(covariances)[1]
        traces = np.einsum("kij,kji->k", np.linalg.inv(covariances), scatter)
        return float(moments.counts @ (log_dets + traces)) / moments.counts.sum()

    def read(x: np.ndarray) -> np.ndarray:
        shape = np.exp(np.array([x[0], x[1], -x[0] - x[1]]))
        turns = Rotation.from_rotvec(x[5:].reshape(3, 3)).as_matrix()
        return np.array([np.exp(v) * (D * shape) @ D.T for v, D in zip(x[2:5], turns, strict=True)])

    best = min(
        minimize(lambda x: cost(read(x)), np.random.default_rng(i).standard_normal(14)).fun
        for i in range(6)
    )
    assert cost(found) == pytest.approx(best, rel=1e-8)


@pytest.mark.parametrize("d", [1, 2, 4])
def test_all_components_have_the_same_shape_in_the_datas_units(d: int) -> None:
    moments = rows_of_three(d)
    unit = np.outer(moments.scale, moments.scale)
    values = np.linalg.eigvalsh(
        np.array(VEV.estimate(moments._replace(ridge=1e-3)).dense(3)) * unit
    )
    shapes = values / values.prod(axis=1, keepdims=True) ** (1 / d)
    np.testing.assert_allclose(shapes, np.broadcast_to(shapes[0], shapes.shape), rtol=1e-8)


def test_a_component_whose_rows_are_equal_has_no_shape() -> None:
    moments = rows_of_three(2)
    second = moments.second.copy()
    second[0] = 0.0
    with pytest.raises(np.linalg.LinAlgError, match="eigenvalue"):
        VEV.estimate(moments._replace(second=second))
    VEV.estimate(moments._replace(second=second, ridge=1e-6))


def test_columns_of_unlike_scales_are_no_error() -> None:
    """Eigenvectors know a column of unit width beside one of 1e4 to 1e-8 at best."""
    X = np.random.default_rng(0).normal(size=(800, 4)) * [1, 100, 1e4, 1]
    found = fit_array(X, 1, covariance_type="VEV").mixture
    np.testing.assert_allclose(found.covariances[0], np.cov(X.T, bias=True), rtol=1e-3, atol=1e-6)
