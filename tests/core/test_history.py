"""What stands for rows that are not read again, against the rows themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.builders import rows_of
from helpers.data_sets import clusters, faithful, random_mixture
from helpers.oracle import weighted_sums
from sparkgmm.core.em import Settings
from sparkgmm.core.evidence import OverRows
from sparkgmm.core.fit import Fit, fit
from sparkgmm.core.history import History
from sparkgmm.core.model import from_mixture
from sparkgmm.core.prior import Regularised
from sparkgmm.core.profile import Frame
from sparkgmm.core.search import Search
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import PRODUCTS
from sparkgmm.errors import InputError
from sparkgmm.mixture import COVARIANCE_TYPES, Array, Mixture


def measured(mixture: Mixture, X: Array, w: Array | None = None) -> tuple[History, Frame]:
    """The statistics of rows at a mixture, by one pass, and the frame that it worked in."""
    rows = rows_of(X, w)
    frame = Frame.of(rows.profile)
    model = from_mixture(mixture, frame)
    evidence = OverRows(rows, frame)
    [measured] = evidence.measure([model], "")
    return History.of(model, measured, evidence), frame


def other_frame(d: int, rng: np.random.Generator) -> Frame:
    return Frame(rng.normal(size=d), rng.uniform(0.2, 5, d), np.eye(d), 1.0)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_where_it_was_measured_the_bound_is_the_log_likelihood(kind: str, weighted: bool) -> None:
    rng = np.random.default_rng(0)
    mixture = random_mixture(rng, 3, 3, kind)
    X, _ = mixture.sample(500, seed=1)
    w = rng.uniform(0.1, 3, 500) if weighted else None
    history, _ = measured(mixture, X, w)
    frame = other_frame(3, rng)
    bound = history.bound(from_mixture(mixture, frame), frame)
    bound -= history.profile.weight * frame.log_volume
    assert bound == pytest.approx(mixture.log_likelihood(X, w), rel=1e-11)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), kind=st.sampled_from(COVARIANCE_TYPES), k=st.integers(1, 4))
def test_the_bound_never_exceeds_the_log_likelihood_at_any_other_mixture(
    seed: int, kind: str, k: int
) -> None:
    rng = np.random.default_rng(seed)
    at, elsewhere = (random_mixture(rng, k, 2, kind) for _ in range(2))
    X, _ = random_mixture(rng, 3, 2, "full").sample(200, seed=seed)
    assume(at.responsibilities(X).sum(axis=0).min() > 1e-3)
    history, frame = measured(at, X)
    bound = history.bound(from_mixture(elsewhere, frame), frame)
    there = elsewhere.log_likelihood(X) + 200 * frame.log_volume
    assert bound <= there + 1e-9 * abs(there)


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_carried_to_another_frame_the_moments_are_those_of_the_rows_in_it(
    kind: str, d: int
) -> None:
    rng = np.random.default_rng(d)
    mixture = random_mixture(rng, 3, d, kind)
    X, _ = mixture.sample(400, seed=2)
    w = rng.uniform(0.5, 2, 400)
    history, _ = measured(mixture, X, w)
    frame, origin = other_frame(d, rng), rng.normal(size=(3, d))
    Z = (X - frame.shift) / frame.scale
    naive = weighted_sums(mixture.responsibilities(X), w, Z, origin)
    found = history.moments(frame, origin)
    np.testing.assert_allclose(found.counts, naive.counts, rtol=1e-10)
    np.testing.assert_allclose(found.first, naive.first, rtol=1e-8, atol=1e-8)
    assert found.second is not None
    if FAMILIES[kind].statistics is PRODUCTS:
        np.testing.assert_allclose(found.second, naive.second, rtol=1e-8, atol=1e-8)
    elif kind == "tied":  # within the components it keeps their sum
        about = found.first / found.counts[:, None]
        between = found.counts[:, None, None] * about[:, :, None] * about[:, None, :]
        theirs = naive.first / naive.counts[:, None]
        within = naive.second - naive.counts[:, None, None] * theirs[:, :, None] * theirs[:, None]
        np.testing.assert_allclose(
            (found.second - between).sum(axis=0), within.sum(axis=0), rtol=1e-7, atol=1e-7
        )
    else:
        assert found.second.shape == (3, d)  # no d x d array is made for variances
        squares = np.einsum("kii->ki", naive.second)
        np.testing.assert_allclose(found.second, squares, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_decay_is_a_weight_of_every_row(kind: str) -> None:
    rng = np.random.default_rng(3)
    mixture = random_mixture(rng, 2, 2, kind)
    X, _ = mixture.sample(300, seed=3)
    decayed = measured(mixture, X)[0].decayed(0.25)
    weighted, _ = measured(mixture, X, np.full(300, 0.25))
    assert decayed.n_rows == weighted.n_rows == 300
    assert decayed.entropy == pytest.approx(weighted.entropy, rel=1e-10)
    for one, other in (
        (decayed.counts, weighted.counts),
        (decayed.offsets, weighted.offsets),
        (decayed.spreads, weighted.spreads),
        (decayed.profile.scatter, weighted.profile.scatter),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["full", "tied", "diag"])
def test_offsets_of_a_timestamp_and_scales_of_1e_minus_8_cost_no_digits(kind: str) -> None:
    X, _ = clusters(np.random.default_rng(4), 2, 2, 400, 6.0)
    X = np.round(X * 2**10) / 2**10  # exact in float64, near and far
    scale = np.array([1.0, 2.0**-27])
    near = fitted(X, kind).history
    far = fitted(X * scale + [1.7e9, 0.0], kind).history
    assert near is not None
    assert far is not None
    one, other = (np.argsort(history.offsets[:, 0]) for history in (near, far))  # of equal weight
    np.testing.assert_allclose(far.counts[other], near.counts[one], rtol=1e-6)
    np.testing.assert_allclose(far.offsets[other] / scale, near.offsets[one], atol=2e-6)
    unit = scale**2 if kind == "diag" else np.outer(scale, scale)
    if kind == "tied":
        one = other = slice(None)
    np.testing.assert_allclose(far.spreads[other] / unit, near.spreads[one], atol=1e-6)


def fitted(X: Array, kind: str) -> Fit:
    return fit(rows_of(X), Search(k=(2,), covariance_type=(kind,), n_init=2))


def a_history() -> History:
    found = fit(rows_of(faithful()), Search(n_init=1, settings=Settings(max_iter=3)))
    assert found.history is not None
    return found.history


def test_json_keeps_every_bit() -> None:
    history = a_history()
    again = History.from_dict(json.loads(json.dumps(history.to_dict())))
    assert again.to_dict() == history.to_dict()
    frame = Frame.of(history.profile)
    assert again.model(frame, Regularised(0.0)).stack.values.tolist() == (
        history.model(frame, Regularised(0.0)).stack.values.tolist()
    )


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda v: v.pop("entropy"), "entropy"),
        (lambda v: v.update(covariance_type="oval"), "oval"),
        (lambda v: v.update(counts=[1.0]), "shape"),
        (lambda v: v["counts"].__setitem__(0, -1.0), "above 0"),
        (lambda v: v["offsets"].__setitem__(0, [None, 1.0]), "finite"),
        (lambda v: v.update(spreads="wide"), "wide"),
        (lambda v: v["profile"].update(weight=0), "above 0"),
        (lambda v: v.update(profile=[]), "damaged"),
    ],
)
def test_damaged_statistics_are_refused(damage: Callable[[Any], Any], told: str) -> None:
    values = a_history().to_dict()
    damage(values)
    with pytest.raises(InputError, match=told):
        History.from_dict(values)
