"""The one engine of log densities: a fit's two ways and scoring's two ways are one function."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.builders import block_of
from helpers.data_sets import random_mixture
from helpers.oracle import e_step
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.covariances import FAMILIES
from sparkgmm.density import (
    Density,
    centred_on,
    natural_parameters,
    pass_by_residuals_pays,
    scoring_by_products_pays,
    subtract_squares,
    whitened,
)
from sparkgmm.products import fill_monomials

EVERY = pytest.mark.parametrize("name", FAMILIES)


@EVERY
def test_products_and_residuals_of_a_fit_are_the_log_joint_densities_of_the_textbook(
    name: str,
) -> None:
    mixture = random_mixture(np.random.default_rng(3), 3, 4, name)
    X, _ = mixture.sample(50, seed=1)
    frame = Frame.of(Profile.of(block_of(X)))
    model = from_mixture(mixture, frame)
    Z = np.ascontiguousarray(((X - frame.shift) / frame.scale).T)
    density, R = e_step(mixture, X)
    joint = np.log(R.T) + density + frame.log_volume
    which = np.arange(3)
    log_norms, V = whitened(model, True, which)
    assert (V.ndim == 2) == FAMILIES[name].diagonal
    if V.ndim == 2:  # what the residuals are multiplied by
        V = np.concatenate([np.zeros((3, 4, 1)), V[:, :, None] * np.eye(4)], axis=2)
    for j in which:
        L = np.full((1, 50), log_norms[j])
        subtract_squares(
            V[j : j + 1], centred_on(model.means[j], Z, np.empty((5, 50))), L, np.empty((4, 50))
        )
        np.testing.assert_allclose(L[0], joint[j], rtol=1e-9, atol=1e-9)
    T = np.empty((model.n_features, 50))
    T[1:5] = Z
    fill_monomials(T[1:5], T)
    L = natural_parameters(model) @ T
    if FAMILIES[name].shared:  # a term that all components share is left out
        common = joint - L
        np.testing.assert_allclose(common - common[0], 0.0, atol=1e-9)
    else:
        np.testing.assert_allclose(L, joint, rtol=1e-8, atol=1e-8)


@EVERY
def test_scoring_is_the_textbook_with_and_without_products(name: str) -> None:
    mixture = random_mixture(np.random.default_rng(4), 6, 3, name)
    X, _ = mixture.sample(300, seed=1)
    density = Density.of(mixture.weights, mixture.means, mixture.stack)
    assert density.polynomial is not None
    expected = e_step(mixture, X)
    bare = Density(density.weights, density.means, density.whiteners, density.log_norms, None)
    for engine in (density, bare):
        R = np.empty((300, 6))
        np.testing.assert_allclose(engine.score(X, R), expected.log_density, atol=1e-9)
        np.testing.assert_allclose(R, expected.responsibilities, atol=1e-9)
        np.testing.assert_array_equal(engine.score(X), engine.score(X, R))


def test_each_use_has_its_own_crossover_since_a_pass_adds_moments_as_well() -> None:
    assert not scoring_by_products_pays(4, 10)
    assert scoring_by_products_pays(5, 10)
    assert pass_by_residuals_pays(7, 40)
    assert not pass_by_residuals_pays(9, 40)
    assert pass_by_residuals_pays(10**6, 129)  # T would take more memory than the rest of a worker
    assert not pass_by_residuals_pays(1, 2)
