from fractions import Fraction
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.builders import block_of
from sparkgmm.core.profile import Block, Frame, Profile, block_rows, take_rows


def exact(X, w):
    """Return weight, mean and scatter in rational arithmetic, rounded at the very end."""
    rows = [[Fraction(float(x)) for x in row] for row in X]
    weights = [Fraction(float(x)) for x in w]
    weight, d = sum(weights), len(rows[0])
    means = [
        sum(p * row[a] for p, row in zip(weights, rows, strict=True)) / weight for a in range(d)
    ]
    scatter = [
        [
            sum(
                p * (row[a] - means[a]) * (row[b] - means[b])
                for p, row in zip(weights, rows, strict=True)
            )
            for b in range(d)
        ]
        for a in range(d)
    ]
    as_floats = [[float(value) for value in row] for row in scatter]
    return float(weight), [float(m) for m in means], np.array(as_floats)


@st.composite
def cut_rows(draw):
    """Rows about an offset, weights or None, and where to cut the rows in blocks."""
    seed = draw(st.integers(0, 2**32 - 1))
    n, d = draw(st.integers(2, 30)), draw(st.integers(1, 3))
    offset = draw(st.sampled_from([0.0, 1.0, -1e8, 1.7e9, 1.7e12]))
    spread = draw(st.sampled_from([1e-3, 1.0, 1e5])) if abs(offset) < 1e9 else 1e3
    rng = np.random.default_rng(seed)
    X = offset + spread * rng.standard_normal((n, d))
    w = rng.uniform(0.1, 9, n) if draw(st.booleans()) else None
    cuts = draw(st.lists(st.integers(1, n - 1), unique=True, max_size=5))
    return X, w, [0, *sorted(cuts), n], offset


@given(cut_rows())
def test_merging_profiles_of_parts_loses_no_digits_at_any_offset(case):
    X, w, edges, _ = case
    parts = [
        Profile.of(block_of(X[a:b], None if w is None else w[a:b])) for a, b in pairwise(edges)
    ]
    merged = reduce(add, parts)
    weight, mean, scatter = exact(X, np.ones(len(X)) if w is None else w)
    # a mean is a float64: what it cannot hold of an offset is all that may be lost
    ulp = np.spacing(np.abs(X).max())
    spread = np.ptp(X, axis=0).max()
    assert merged.n_rows == len(X)
    assert merged.weight == pytest.approx(weight, rel=1e-13)
    np.testing.assert_allclose(merged.mean, mean, rtol=0, atol=3 * ulp)
    np.testing.assert_allclose(
        merged.scatter, scatter, rtol=1e-12, atol=weight * (4 * ulp * spread + 1e-14 * spread**2)
    )
    np.testing.assert_array_equal(merged.low, X.min(axis=0))
    np.testing.assert_array_equal(merged.high, X.max(axis=0))


@given(cut_rows())
def test_a_profile_travels_as_numbers_without_losing_a_bit(case):
    X, w, _, _ = case
    profile = Profile.of(block_of(X, w))
    read = Profile.unpack(profile.pack(), X.shape[1])
    for name in ("n_rows", "weight"):
        assert getattr(read, name) == getattr(profile, name)
    for name in ("mean", "scatter", "low", "high"):
        assert getattr(read, name).tobytes() == getattr(profile, name).tobytes()
        assert getattr(read, name).shape == getattr(profile, name).shape


def test_float32_rows_are_summed_in_double_precision():
    rng = np.random.default_rng(0)
    X = (1000 + rng.standard_normal((20_000, 2))).astype(np.float32)
    expected = Profile.of(block_of(X.astype(np.float64)))
    found = Profile.of(block_of(X))
    assert found.mean.dtype == found.scatter.dtype == np.float64
    np.testing.assert_array_equal(found.scatter, expected.scatter)


def test_a_range_beyond_float64_makes_a_variance_that_is_not_finite_and_no_warning():
    profile = Profile.of(block_of([[1.0, 1.0], [2.0, 1e160]])) + Profile.of(block_of([[0.0, 0.0]]))
    assert profile.variance[0] == pytest.approx(2 / 3)
    assert not np.isfinite(profile.variance[1])


def test_a_frame_shifts_and_scales_each_feature_to_mean_0_and_sd_1():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3)) * [1e-8, 1, 1e8] + [
        5,
        1.7e12,
        0,
    ]
    w = rng.uniform(1, 2, 500)
    profile = Profile.of(block_of(X, w))
    frame = Frame.of(profile)
    Z, weights = frame.standardise([block_of(X, w)])
    np.testing.assert_array_equal(weights, w)
    np.testing.assert_allclose(np.average(Z, axis=0, weights=w), 0, atol=1e-3)
    second = (Z.T * w) @ Z / w.sum()
    np.testing.assert_allclose(frame.correlation, second, atol=1e-6)
    np.testing.assert_allclose(np.diagonal(frame.correlation), 1, rtol=1e-12)
    assert frame.log_volume == pytest.approx(np.log(frame.scale).sum())


def test_a_frame_over_a_sample_keeps_the_coordinates_and_takes_the_samples_constants():
    rng = np.random.default_rng(2)
    X = rng.standard_normal((400, 2)) + 3
    frame = Frame.of(Profile.of(block_of(X)))
    sample = block_of(X[:100])
    sampled = frame.over([sample])
    np.testing.assert_array_equal(sampled.shift, frame.shift)
    np.testing.assert_array_equal(sampled.scale, frame.scale)
    Z = (X[:100] - frame.shift) / frame.scale
    np.testing.assert_allclose(sampled.correlation, Z.T @ Z / 100, rtol=1e-12)
    assert sampled.weight == 100


@given(st.integers(1, 10_000))
def test_a_block_holds_about_two_mebibytes_whatever_the_width(d):
    rows = block_rows(d)
    assert rows % 1024 == 0
    assert rows == 2048 or rows * d * 8 <= 2**21


def test_rows_are_taken_by_number_across_blocks():
    X = np.arange(20.0).reshape(10, 2)
    w = np.arange(1.0, 11.0)
    blocks = [block_of(X[:3], w[:3]), block_of(X[3:4], w[3:4]), block_of(X[4:], w[4:])]
    rows = np.array([0, 2, 3, 9])
    taken = take_rows(blocks, rows)
    np.testing.assert_array_equal(taken.values, X[rows].T)
    np.testing.assert_array_equal(taken.weights, w[rows])
    assert taken.values.flags.c_contiguous
    assert take_rows([block_of(X)], rows).weights is None


@pytest.mark.parametrize("weighted", [False, True])
def test_a_scatter_that_is_not_symmetric_to_the_last_bit_would_cost_narrow_fits_their_digits(
    weighted,
):
    rng = np.random.default_rng(3)
    w = rng.uniform(0.5, 2.0, 1000) if weighted else None
    scatter = Profile.of(block_of(rng.standard_normal((1000, 7)), w)).scatter
    np.testing.assert_array_equal(scatter, scatter.T)


def test_a_samples_correlation_is_symmetric_to_the_last_bit_too():
    rng = np.random.default_rng(4)
    block = block_of(rng.standard_normal((1000, 7)), rng.uniform(0.5, 2.0, 1000))
    correlation = Frame.of(Profile.of(block)).over([block]).correlation
    np.testing.assert_array_equal(correlation, correlation.T)


@pytest.mark.parametrize("d", [1, 2, 5])
@pytest.mark.parametrize("products", [True, False])
def test_a_profile_of_incomplete_rows_is_packed_whatever_the_number_of_features(d, products):
    X = np.random.default_rng(0).normal(size=(d, 60))
    X[0, ::5] = np.nan
    profile = Profile.of(Block(X, None), products)
    again = Profile.unpack(profile.pack(), d)
    assert again.scatter.shape == profile.scatter.shape == (d,)
    assert again.pack().tobytes() == profile.pack().tobytes()


@pytest.mark.parametrize("d", [1, 2, 16, 17, 33, 100, 257])
@pytest.mark.parametrize("weighted", [False, True])
def test_features_a_band_at_a_time_have_the_bits_of_all_at_once(d, weighted, monkeypatch):
    rng = np.random.default_rng(d)
    values = rng.normal(3, 2, (d, 777))
    block = Block(values, rng.uniform(0.5, 2, 777) if weighted else None)
    profile = Profile.of(block, products=False)
    Z, _ = Frame.of(profile).standardise([block, block.between(5, 20)])
    monkeypatch.setattr("sparkgmm.core.profile._BAND_BYTES", 2**40)
    np.testing.assert_array_equal(Profile.of(block, products=False).pack(), profile.pack())
    np.testing.assert_array_equal(Frame.of(profile).standardise([block])[0], Z[:777])
    monkeypatch.setattr("sparkgmm.core.profile._BAND_BYTES", 1)
    np.testing.assert_array_equal(Profile.of(block, products=False).pack(), profile.pack())
    again, _ = Frame.of(profile).standardise([block, block.between(5, 20)])
    np.testing.assert_array_equal(again, Z)
