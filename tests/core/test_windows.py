"""Narrow clusters within wide ones, and clusters beside values that no short run can measure."""

from __future__ import annotations

import numpy as np
import pytest

from sparkgmm import Mixture, fit_array
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.initialisation import Seeds
from sparkgmm.core.model import from_mixture
from sparkgmm.core.rows import LocalRows
from sparkgmm.core.short_runs import Sample
from sparkgmm.core.starts.ground import Ground
from sparkgmm.core.windows import onto_windows
from sparkgmm.products import Array


def bursts(seed: int, d: int = 2) -> Array:
    """400 events over a day and 80 within a minute, three times; the other columns are noise."""
    rng = np.random.default_rng(seed)
    at = [rng.uniform(0, 86400, 400), *(rng.normal(m, 20, 80) for m in (3000, 30000, 51000))]
    time = np.concatenate(at).round()
    return np.column_stack([time, rng.normal(10, 3, (len(time), d - 1))])


@pytest.mark.parametrize("kind", ["diag", "full", "spherical"])
def test_bursts_within_wide_components_are_proposed(kind: str) -> None:
    X = bursts(1)
    rows = LocalRows.of_array(X, None, 0)
    frame = OverRows.of(rows).frame
    seeds = Seeds.of(rows, frame)
    covariance = np.diag(X.var(axis=0))
    written = {"diag": np.diag(covariance), "full": covariance, "spherical": covariance[0, 0]}
    means = X.mean(axis=0) + np.array([[-20000, 0], [20000, 0]])
    model = from_mixture(Mixture([0.5, 0.5], means, [written[kind]] * 2, kind), frame)
    ground = Ground(seeds)
    sample = Sample.of(seeds, model.n_features)
    moved = onto_windows(model, ground, sample, np.random.default_rng(0), 8)
    assert 0 < len(moved) <= 8
    times = np.concatenate([m.means[:, 0] for m in moved]) * frame.scale[0] + frame.shift[0]
    missed = [float(np.abs(times - burst).min()) for burst in (3000, 30000, 51000)]
    assert sorted(missed)[1] < 100  # each component proposes the one that is plainest to it


@pytest.mark.parametrize("seed", range(3))
def test_bursts_in_time_are_found_from_every_seed(seed: int) -> None:
    """Cuts drawn at random used to miss one of three in a fit of four, 227 nats."""
    mixture = fit_array(bursts(52), 4, covariance_type="diag", seed=seed).mixture
    narrow = np.sqrt(mixture.covariances[:, 0, 0]) < 60
    np.testing.assert_allclose(np.sort(mixture.means[narrow, 0]), [3000, 30000, 51000], atol=30)


def test_clusters_beside_a_component_on_one_value_are_found_from_every_seed() -> None:
    """Moves used to end there: products cannot measure what is so narrow so far out."""
    rng = np.random.default_rng(51)
    centres = [[0, 0, 0], [4, 4, 2], [-4, 4, 5], [5, -4, 1]]
    X = np.concatenate([rng.normal(centre, 1, (150, 3)) for centre in centres])
    X[rng.random(len(X)) < 0.1, 1] = -9999
    fits = [fit_array(X, 6, covariance_type="diag", seed=seed) for seed in range(3)]
    np.testing.assert_allclose(
        [fit.log_likelihood for fit in fits], fits[0].log_likelihood, atol=0.01
    )


def test_a_component_that_others_leave_no_row_has_no_window() -> None:
    rows = LocalRows.of_array(bursts(1), None, 0)
    frame = OverRows.of(rows).frame
    seeds = Seeds.of(rows, frame)
    far = Mixture([0.5, 0.5], [[43000, 10], [43000, 1e6]], [[6e8, 9.0], [6e8, 9.0]], "diag")
    model = from_mixture(far, frame)
    sample = Sample.of(seeds, model.n_features)
    assert len(onto_windows(model, Ground(seeds), sample, np.random.default_rng(0), 8)) > 0
