"""An update against a fit of all the rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.builders import rows_of
from helpers.data_sets import clusters, random_mixture
from sparkgmm.core.em import Settings
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.fit import fit
from sparkgmm.core.history import History
from sparkgmm.core.model import from_mixture
from sparkgmm.core.prior import Regularised
from sparkgmm.core.profile import Frame
from sparkgmm.core.search import Search
from sparkgmm.core.update import Update, update
from sparkgmm.errors import FitError, InputError
from sparkgmm.mixture import COVARIANCE_TYPES, Array, Mixture

TIGHT = Settings(tol=1e-10)


def in_full(
    X: Array, k: int, kind: str, w: Array | None = None, start: Mixture | None = None
) -> tuple[Mixture, History]:
    search = Search(k=(k,), covariance_type=(kind,), init="k-means++", n_init=3, settings=TIGHT)
    found = fit(rows_of(X, w), search, starts=None if start is None else [start])
    assert found.history is not None
    return found.chosen.mixture, found.history


def check_equal(one: Mixture, other: Mixture, rtol: float) -> None:
    sd = np.sqrt(np.einsum("kii->ki", other.covariances))
    np.testing.assert_allclose(one.weights, other.weights, rtol=rtol)
    np.testing.assert_allclose(one.means / sd, other.means / sd, rtol=rtol, atol=rtol)
    unit = sd[:, :, None] * sd[:, None, :]
    np.testing.assert_allclose(one.covariances / unit, other.covariances / unit, atol=rtol)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_of_one_component_an_update_is_the_fit_of_all_rows(kind: str, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    X, _ = random_mixture(rng, 2, 3, kind).sample(700, seed=0)
    X[400:] += 1.0  # the new rows are elsewhere: the frame moves
    w = rng.uniform(0.1, 4, 700) if weighted else np.ones(700)
    _, before = in_full(X[:400], 1, kind, w[:400])
    found = update(rows_of(X[400:], w[400:]), before, TIGHT)
    check_equal(found.chosen.mixture, in_full(X, 1, kind, w)[0], 1e-10)


@pytest.mark.parametrize("separation", [40.0, 5e3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_where_no_row_is_shared_an_update_is_the_fit_of_all_rows(
    kind: str, separation: float
) -> None:
    """At the larger separation the products would cancel: moments are about the means."""
    rng = np.random.default_rng(1)
    X, _ = clusters(rng, 3, 2, 900, separation)
    X[600::3] += 1.5  # the new rows of one cluster have moved
    _, before = in_full(X[:600], 3, kind)
    found = update(rows_of(X[600:]), before, TIGHT)
    check_equal(found.chosen.mixture, in_full(X, 3, kind, start=found.chosen.mixture)[0], 1e-8)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_decayed_history_counts_as_rows_of_that_weight(kind: str) -> None:
    rng = np.random.default_rng(2)
    X, _ = clusters(rng, 3, 2, 900, 40.0)
    _, before = in_full(X[:600], 3, kind)
    found = update(rows_of(X[600:]), before.decayed(0.3), TIGHT)
    w = np.where(np.arange(900) < 600, 0.3, 1.0)
    check_equal(found.chosen.mixture, in_full(X, 3, kind, w, found.chosen.mixture)[0], 1e-8)


def test_updates_chain_as_if_every_row_were_there() -> None:
    rng = np.random.default_rng(3)
    X, _ = clusters(rng, 3, 2, 1200, 40.0)
    _, history = in_full(X[:300], 3, "full")
    for start in range(300, 1200, 300):
        found = update(rows_of(X[start : start + 300]), history, TIGHT)
        history = found.history
    mixture, whole = in_full(X, 3, "full", start=found.chosen.mixture)
    check_equal(found.chosen.mixture, mixture, 1e-8)
    assert history is not None
    assert history.n_rows == whole.n_rows == 1200
    np.testing.assert_allclose(np.sort(history.counts), np.sort(whole.counts), rtol=1e-10)
    assert history.profile.scatter == pytest.approx(whole.profile.scatter, rel=1e-10)
    assert history.profile.low.tolist() == X.min(axis=0).tolist()


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_on_overlapping_rows_an_update_ends_where_the_full_fit_does(kind: str) -> None:
    truth = random_mixture(np.random.default_rng(4), 3, 3, kind, spread=1.0)
    X, _ = truth.sample(22_000, seed=4)
    X[20_000:] += 0.2 * np.sqrt(truth.covariances[0].diagonal())
    start, before = in_full(X[:20_000], 3, kind, start=truth)
    found = update(rows_of(X[20_000:]), before, Settings())
    full, _ = in_full(X, 3, kind, start=start)
    heights = [m.log_likelihood(X) / len(X) for m in (full, found.chosen.mixture, start)]
    assert abs(heights[0] - heights[1]) < 3e-4
    assert heights[0] - heights[1] < 0.5 * (heights[0] - heights[2])  # there was this to gain


def test_ten_updates_in_a_chain_stay_within_a_thousandth_of_a_nat_of_the_full_fit() -> None:
    truth = random_mixture(np.random.default_rng(5), 3, 2, "full", spread=1.2)
    X, _ = truth.sample(20_000, seed=5)
    start, history = in_full(X[:10_000], 3, "full", start=truth)
    for first in range(10_000, 20_000, 1000):
        found = update(rows_of(X[first : first + 1000]), history, Settings())
        history = found.history
    full, _ = in_full(X, 3, "full", start=truth)
    heights = [m.log_likelihood(X) / len(X) for m in (full, found.chosen.mixture, start)]
    assert abs(heights[0] - heights[1]) < 1e-3
    assert heights[0] - heights[1] < heights[0] - heights[2]


def of(mixture: Mixture, X: Array) -> History:
    """The statistics of rows at any mixture, whether EM would end there or not."""
    rows = rows_of(X)
    frame = Frame.of(rows.profile)
    model = from_mixture(mixture, frame)
    evidence = OverRows(rows, frame)
    [measured] = evidence.measure([model], "")
    return History.of(model, measured, evidence)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(COVARIANCE_TYPES),
    accelerate=st.booleans(),
    decay=st.floats(0.05, 1.0),
)
def test_the_objective_never_falls_and_never_exceeds_the_log_likelihood_of_all_rows(
    seed: int, kind: str, accelerate: bool, decay: float
) -> None:
    rng = np.random.default_rng(seed)
    X, _ = random_mixture(rng, 3, 2, "full").sample(240, seed=seed)
    before = of(random_mixture(rng, 2, 2, kind), X[:160]).decayed(decay)
    options = Settings(tol=1e-12, max_iter=25, prior=Regularised(0.0), accelerate=accelerate)
    try:
        found = update(rows_of(X[160:]), before, options)
    except FitError:  # a component that no row is near
        return
    scale = 1e-9 * max(1.0, abs(found.objectives[-1]))
    assert np.diff(found.objectives).min(initial=0.0) >= -scale
    w = np.where(np.arange(240) < 160, decay, 1.0)
    assert found.objectives[-1] <= found.chosen.mixture.log_likelihood(X, w) + scale


def an_update(n_new: int = 3000) -> tuple[Update, Array]:
    truth = random_mixture(np.random.default_rng(6), 2, 2, "full")
    X, _ = truth.sample(6000 + n_new, seed=6)
    _, before = in_full(X[:6000], 2, "full", start=truth)
    return update(rows_of(X[6000:]), before, TIGHT), X[6000:]


def test_the_figures_told_are_those_of_the_rows_read() -> None:
    found, new = an_update()
    chosen = found.chosen
    assert chosen.log_likelihood == pytest.approx(chosen.mixture.log_likelihood(new), rel=1e-10)
    assert chosen.bic == pytest.approx(chosen.mixture.bic(new), rel=1e-10)
    assert chosen.icl == pytest.approx(chosen.mixture.icl(new), rel=1e-8)
    assert chosen.weight == len(new)
    assert len(chosen.log_likelihoods) == len(found.objectives) == found.n_passes
    assert chosen.log_likelihoods[-1] == chosen.log_likelihood
    assert chosen.converged


def test_one_new_row_is_enough() -> None:
    found, _ = an_update(1)
    assert found.history is not None
    assert found.history.n_rows == 6001
    assert np.isfinite(found.chosen.log_likelihood)


def test_new_rows_that_are_all_the_same_are_no_constant_feature() -> None:
    truth = random_mixture(np.random.default_rng(7), 2, 2, "full")
    X, _ = truth.sample(2000, seed=7)
    _, before = in_full(X, 2, "full", start=truth)
    found = update(rows_of(np.repeat(X[:1], 50, axis=0)), before, Settings())
    assert found.chosen.degenerate is None


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_timestamps_and_tiny_scales_change_nothing_but_the_units(kind: str) -> None:
    X, _ = clusters(np.random.default_rng(8), 2, 2, 1500, 5.0)
    X = np.round(X * 2**10) / 2**10  # exact in float64, near and far
    found = []
    for scale, shift in ((np.ones(2), np.zeros(2)), (np.array([1, 2.0**-27]), [1.7e9, 0.0])):
        Y = X * scale + shift
        _, before = in_full(Y[:1200], 2, kind)
        there = update(rows_of(Y[1200:]), before, TIGHT).chosen.mixture
        inner = there.covariances / np.outer(scale, scale)
        found.append(Mixture(there.weights, (there.means - shift) / scale, inner, kind))
    check_equal(found[1], found[0], 1e-5)


def test_a_component_that_the_decay_left_without_rows_is_refused_with_the_remedy() -> None:
    rng = np.random.default_rng(9)
    X, labels = clusters(rng, 2, 2, 600, 40.0)
    _, before = in_full(X, 2, "full")
    with pytest.raises(FitError, match=r"effective rows.*fit all rows again, with update null"):
        update(rows_of(X[labels == 0]), before.decayed(1e-3), Settings())


def test_a_feature_that_never_varied_is_refused_by_name() -> None:
    rng = np.random.default_rng(10)
    X, _ = clusters(rng, 2, 2, 200, 10.0)
    _, before = in_full(X, 2, "full")
    p = before.profile
    still = replace(p, low=np.array([p.low[0], 3.0]), high=np.array([p.high[0], 3.0]))
    X[:, 1] = 3.0
    with pytest.raises(InputError, match="'b' is constant"):
        update(rows_of(X), replace(before, profile=still), Settings(), ("a", "b"))
