"""Whether counts that vary too much for a Poisson are told from those that do not."""

from __future__ import annotations

import numpy as np

from sparkgmm import Mixture
from sparkgmm.core.dispersion import dispersion, overdispersed
from sparkgmm.core.sample import Membership, Sample
from sparkgmm.products import Array


def membership_of(X: Array, weights: Array | None = None) -> Membership:
    mixture = Mixture(
        [0.5, 0.5], [[0.0], [20.0]], [[1.0], [1.0]], "diag", ["x"], counts={"n": [2.0, 9.0]}
    )
    w = np.ones(len(X)) if weights is None else weights
    return Membership(mixture, Sample(X, w, complete=True))


def test_poisson_counts_have_a_dispersion_of_one_and_are_not_flagged() -> None:
    rng = np.random.default_rng(0)
    z = np.repeat([0, 1], 4000)
    X = np.stack([20.0 * z, rng.poisson(np.array([2.0, 9.0])[z])], axis=1)
    membership = membership_of(X)
    np.testing.assert_allclose(dispersion(membership), [[1, 1]], atol=0.1)
    assert overdispersed(membership) == []


def test_a_component_whose_counts_vary_more_is_named() -> None:
    rng = np.random.default_rng(1)
    z = np.repeat([0, 1], 2000)
    rate = np.where(z == 1, 9.0 * rng.gamma(2.0, 0.5, len(z)), 2.0)  # negative binomial
    X = np.stack([20.0 * z, rng.poisson(rate)], axis=1)
    [(name, component, times)] = overdispersed(membership_of(X))
    assert (name, component) == ("n", 1)
    counts = X[z == 1, 1]
    assert abs(times - counts.var() / counts.mean()) < 1e-6
    # so much in a handful of rows is chance: three standard errors above 1
    few = np.concatenate([X[:2000], [[20.0, 2.0], [20.0, 9.0], [20.0, 16.0]]])
    assert dispersion(membership_of(few))[0, 1] > 1.5
    assert overdispersed(membership_of(few)) == []


def test_counts_that_are_not_known_do_not_count() -> None:
    rng = np.random.default_rng(2)
    X = np.stack([np.zeros(1000), rng.poisson(2.0, 1000)], axis=1).astype(float)
    gaps = np.concatenate([X, X * [1, np.nan]])
    np.testing.assert_allclose(
        dispersion(membership_of(gaps)), dispersion(membership_of(X)), rtol=1e-12
    )
