from dataclasses import replace

import numpy as np
import pytest

from helpers.builders import block_of
from helpers.data_sets import TEXTBOOK, random_mixture
from helpers.oracle import e_step, weighted_sums
from sparkgmm.core.model import (
    check_volume,
    expected_log_likelihood,
    from_mixture,
    to_mixture,
)
from sparkgmm.core.prior import Regularised, m_step
from sparkgmm.core.profile import Frame, Profile
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.moments import Moments, diagonal_order
from sparkgmm.mixture import COVARIANCE_TYPES, Mixture


def setting(kind, d=3, k=3, n=400, weighted=True, seed=0):
    """Return rows, weights, their frame, a model and the moments it measures about an origin."""
    rng = np.random.default_rng(seed)
    mixture = random_mixture(rng, k, d, kind)
    X, _ = mixture.sample(n, seed=seed)
    w = rng.uniform(0.2, 3, n) if weighted else np.ones(n)
    frame = Frame.of(Profile.of(block_of(X, w)))
    R = e_step(mixture, X).responsibilities
    Z = (X - frame.shift) / frame.scale
    origin = rng.standard_normal((k, d))
    sums = weighted_sums(R, w, Z, origin)
    return X, w, R, frame, mixture, Moments(*sums, origin, frame.scale, frame.correlation)


def with_values(model, values):
    return replace(model, stack=replace(model.stack, values=values))


def textbook_m_step(kind, X, w, R, reg, frame):
    """Bishop (2006), eq. 9.24-9.26, and what each type makes of it, in the data's own units."""
    weight = R * w[:, None]
    counts = weight.sum(axis=0)
    means = (weight.T @ X) / counts[:, None]
    d = X.shape[1]
    full = np.array(
        [
            sum(p * np.outer(x - m, x - m) for p, x in zip(share, X, strict=True)) / share.sum()
            for m, share in zip(means, weight.T, strict=True)
        ]
    ) + reg * np.diag(frame.scale**2)
    if kind == "tied":
        pooled = np.tensordot(counts / counts.sum(), full, axes=1)
        full = np.broadcast_to(pooled, full.shape)
    elif kind == "diag":
        full = full * np.eye(d)
    elif kind == "spherical":
        full = np.array([np.trace(c) / d * np.eye(d) for c in full])
    return Mixture(counts / counts.sum(), means, full, kind)


def by_weight(mixture):
    order = np.lexsort((*mixture.means.T[::-1], -mixture.weights))
    return mixture.weights[order], mixture.means[order], mixture.covariances[order]


@pytest.mark.parametrize("d", [1, 2, 4])
@pytest.mark.parametrize("reg", [0.0, 0.01])
@pytest.mark.parametrize("kind", TEXTBOOK)
def test_the_m_step_is_the_textbooks_in_the_datas_units(kind, reg, d):
    X, w, R, frame, _, moments = setting(kind, d=d)
    found = to_mixture(m_step(FAMILIES[kind], moments, Regularised(reg)), frame)
    expected = textbook_m_step(kind, X, w, R, reg, frame)
    for ours, theirs in zip(by_weight(found), by_weight(expected), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())


@pytest.mark.parametrize("d", [1, 3])
def test_a_tied_m_step_without_second_moments_takes_the_scatter_of_all_the_data(d):
    *_, moments = setting("tied", d=d)
    # that short cut is for moments about the frame's origin
    shift = moments.origin
    first = moments.first + moments.counts[:, None] * shift
    bare = moments._replace(first=first, second=None, origin=np.zeros_like(shift))
    np.testing.assert_allclose(
        m_step(FAMILIES["tied"], bare, Regularised(0.0)).stack.values,
        m_step(FAMILIES["tied"], moments, Regularised(0.0)).stack.values,
        rtol=1e-9,
        atol=1e-12,
    )


@pytest.mark.parametrize("kind", ["diag", "spherical"])
def test_dense_and_diagonal_second_moments_give_the_same_m_step(kind):
    *_, moments = setting(kind)
    diagonal = moments._replace(second=np.einsum("kii->ki", moments.second))
    a, b = (m_step(FAMILIES[kind], m, Regularised(0.1)) for m in (moments, diagonal))
    np.testing.assert_allclose(a.means, b.means, rtol=1e-14)
    np.testing.assert_allclose(a.stack.values, b.stack.values, rtol=1e-14)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_no_neighbour_of_the_m_step_expects_a_higher_log_likelihood(kind):
    *_, moments = setting(kind)
    best = m_step(FAMILIES[kind], moments, Regularised(0.0))
    height = expected_log_likelihood(best, moments)
    w, means, values = best.weights, best.means, best.stack.values
    rng = np.random.default_rng(1)
    for size in (1e-1, 1e-2):
        for _ in range(20):
            factor = 1 + size * rng.uniform(-1, 1, len(values))
            stretch = factor.reshape(-1, *[1] * (values.ndim - 1))
            v = w * np.exp(size * rng.standard_normal(len(w)))
            near = replace(
                with_values(best, values * stretch),
                weights=v / v.sum(),
                means=means + size * rng.standard_normal(means.shape),
            )
            assert expected_log_likelihood(near, moments) < height


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_the_expected_log_likelihood_is_that_of_complete_data(kind, d):
    X, w, R, frame, mixture, moments = setting(kind, d=d)
    # E[log p(x, component)] = sum of r (log density + log r), in standardised coordinates
    log_joint = e_step(mixture, X).log_density[:, None] + np.log(np.maximum(R, 1e-300))
    expected = (w[:, None] * R * log_joint).sum() / w.sum() + frame.log_volume
    found = expected_log_likelihood(from_mixture(mixture, frame), moments)
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_regularisation_costs_half_reg_covar_times_the_trace_of_the_precisions(kind, d):
    _, _, _, frame, mixture, moments = setting(kind, d=d)
    scaled = mixture.covariances / np.outer(frame.scale, frame.scale)
    traces = [np.trace(np.linalg.inv(c)) for c in scaled]
    expected = 0.5 * 0.01 * float(moments.counts / moments.counts.sum() @ traces)
    model = from_mixture(mixture, frame)
    found = Regularised(0.01).log_density(model, moments)
    assert found == pytest.approx(-expected, rel=1e-10)
    assert Regularised(0.0).log_density(model, moments) == 0.0


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_to_standardised_coordinates_and_back_is_the_same_mixture(kind):
    _, _, _, frame, mixture, _ = setting(kind)
    back = to_mixture(from_mixture(mixture, frame), frame, ("a", "b", "c"))
    for ours, theirs in zip(by_weight(back), by_weight(mixture), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    assert back.features == ("a", "b", "c")
    assert back.covariance_type == kind


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_expanded_covariances_are_dense_in_standardised_coordinates(kind):
    _, _, _, frame, mixture, _ = setting(kind)
    dense = from_mixture(mixture, frame).stack.dense(mixture.k)
    scaled = mixture.covariances / np.outer(frame.scale, frame.scale)
    np.testing.assert_allclose(dense, scaled, rtol=1e-12, atol=1e-15)


def test_components_stand_by_falling_weight_and_ties_by_mean():
    frame = Frame(np.zeros(2), np.ones(2), np.eye(2), 1.0)
    means = np.array([[3.0, 0.0], [1.0, 5.0], [1.0, 2.0], [9.0, 9.0]])
    mixture = Mixture([0.2, 0.2, 0.2, 0.4], means, np.tile(np.eye(2), (4, 1, 1)))
    ordered = to_mixture(from_mixture(mixture, frame), frame)
    np.testing.assert_array_equal(ordered.weights, [0.4, 0.2, 0.2, 0.2])
    np.testing.assert_array_equal(ordered.means, [[9, 9], [1, 2], [1, 5], [3, 0]])


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_component_without_volume_is_refused_by_the_m_step(kind):
    nothing = np.zeros((1, 2))
    spike = Moments(
        np.array([4.0]), nothing, np.zeros((1, 2, 2)), nothing, np.ones(2), np.zeros((2, 2))
    )
    with pytest.raises(np.linalg.LinAlgError):
        m_step(FAMILIES[kind], spike, Regularised(0.0))
    m_step(FAMILIES[kind], spike, Regularised(1e-6))


def test_products_are_ordered_diagonal_by_diagonal():
    rows, columns = diagonal_order(3)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [
        (0, 0), (1, 1), (2, 2), (0, 1), (1, 2), (0, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "expected"), [("full", 10), ("tied", 4), ("diag", 7), ("spherical", 7)]
)
def test_each_type_asks_of_a_pass_what_its_m_step_needs(kind, expected):
    assert FAMILIES[kind].statistics.n_features(3) == expected


@pytest.mark.parametrize("d", [2, 3, 5])
def test_packed_moments_are_read_back(d):
    rng = np.random.default_rng(0)
    second = rng.standard_normal((2, d, d))
    second = second + second.transpose(0, 2, 1)
    counts, first, origin = rng.uniform(1, 2, 2), rng.standard_normal((2, d)), np.zeros((2, d))
    rows, columns = diagonal_order(d)
    data = np.ones(d), np.eye(d)
    packed = np.concatenate([counts[:, None], first, second[:, rows, columns]], axis=1)
    read = Moments.unpack(packed, origin, *data)
    np.testing.assert_array_equal(read.counts, counts)
    np.testing.assert_array_equal(read.first, first)
    np.testing.assert_array_equal(read.second, second)
    diagonal = Moments.unpack(packed[:, : 1 + 2 * d], origin, *data)
    np.testing.assert_array_equal(diagonal.second, np.einsum("kii->ki", second))
    assert Moments.unpack(packed[:, : 1 + d], origin, *data).second is None


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
@pytest.mark.parametrize("times", [1e20, 1e250, 1e-20])
def test_a_component_far_wider_or_narrower_than_the_data_has_no_volume(kind, times):
    _, _, _, frame, mixture, _ = setting(kind)
    model = from_mixture(mixture, frame)
    check_volume(model)
    with pytest.raises(np.linalg.LinAlgError, match="variances are"):
        check_volume(with_values(model, model.stack.values * times))
