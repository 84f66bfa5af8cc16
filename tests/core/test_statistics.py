from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.builders import block_of
from helpers.data_sets import random_mixture
from helpers.oracle import e_step, weighted_sums
from sparkgmm.core.evidence import Scan
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.statistics import (
    NaturalKernel,
    Sums,
    WhitenedKernel,
    run_kernels,
    total,
)
from sparkgmm.covariances.moments import Moments, diagonal_order
from sparkgmm.covariances.stacks import Dense
from sparkgmm.mixture import COVARIANCE_TYPES, Mixture

# "mixed": every other component is measured about its own mean
KERNELS = ["natural", "mixed", "whitened", "centred"]


def every_other(k):
    return np.arange(k) % 2 == 0


def kernel_of(name, model, frame):
    if name == "natural" or (name == "mixed" and model.covariance_type == "tied"):
        return NaturalKernel.of([model], frame)
    if name == "mixed":
        narrow = every_other(model.k)
        return NaturalKernel.of([model], frame, [narrow])
    if model.family.diagonal:  # which have no kernel of their own
        narrow = np.full(model.k, name == "centred")
        return NaturalKernel.of([model], frame, [narrow])
    return WhitenedKernel.of(model, frame, centred=name == "centred")


def drawn_from(mixture, n, dtype=np.float64, weighted=False, seed=0):
    X, _ = mixture.sample(n, seed=seed)
    w = np.random.default_rng(seed).uniform(0.1, 4, n) if weighted else None
    block = Block(np.ascontiguousarray(X.T.astype(dtype)), w)
    return block, Frame.of(Profile.of(block))


def textbook(mixture, block, frame, origin):
    """Return the moments about `origin` and the log-likelihood, in standardised coordinates."""
    X = block.values.T.astype(np.float64)
    w = np.ones(len(X)) if block.weights is None else block.weights
    log_density, R = e_step(mixture, X)
    sums = weighted_sums(R, w, (X - frame.shift) / frame.scale, origin)
    return sums, float(w @ (log_density + frame.log_volume))


def pack(sums):
    rows, columns = diagonal_order(sums.first.shape[1])
    return np.concatenate([sums.counts[:, None], sums.first, sums.second[:, rows, columns]], axis=1)


def assert_close(found, expected, rel=1e-10):
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=rel * np.abs(expected).max())


def read_beside_the_textbook(scan, mixture, block, frame, rel):
    """Return what a scan of one candidate reads and what the textbook has, checked but for second.

    `rel` is the tolerance of the mean log-likelihood.
    """
    ((moments, mean_log_likelihood, _),) = scan.read(run_kernels(scan.kernels, block))
    sums, log_likelihood = textbook(mixture, block, frame, moments.origin)
    assert mean_log_likelihood == pytest.approx(log_likelihood / frame.weight, rel=rel)
    assert_close(moments.counts, sums.counts)
    assert_close(moments.first, sums.first)
    return moments, sums


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_kernels_statistics_are_the_textbooks(kind, d, dtype, weighted, name):
    truth = random_mixture(np.random.default_rng(d), 3, d, kind)
    block, frame = drawn_from(truth, 700, dtype, weighted)
    # not the mixture of the rows: its responsibilities would be too tidy
    mixture = Mixture(truth.weights[::-1], truth.means * 0.9, truth.covariances, kind)
    model = from_mixture(mixture, frame)
    origin = model.means if name in ("centred", "mixed") else np.zeros((3, d))
    if name == "mixed":
        origin = origin * (every_other(3) & (kind != "tied"))[:, None]
    sums, log_likelihood = textbook(mixture, block, frame, origin)
    (found,) = kernel_of(name, model, frame)(block)
    packed = pack(sums)
    assert_close(found.moments, packed[:, : found.moments.shape[1]])
    # of a tied candidate the natural kernel leaves out the common quadratic term
    if name in ("whitened", "centred") or kind != "tied":
        assert found.log_likelihood == pytest.approx(log_likelihood, rel=1e-11)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("d", [1, 3])
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_scan_reads_the_textbooks_moments_and_mean_log_likelihood(kind, d, weighted):
    mixture = random_mixture(np.random.default_rng(d), 4, d, kind)
    block, frame = drawn_from(mixture, 500, weighted=weighted)
    scan = Scan.of([from_mixture(mixture, frame)], frame)
    moments, sums = read_beside_the_textbook(scan, mixture, block, frame, rel=1e-11)
    if kind in ("diag", "spherical"):
        second = moments.second
        if second.ndim == 3:
            second = np.einsum("kii->ki", second)
        assert_close(second, np.einsum("kii->ki", sums.second))
    elif kind == "full":
        assert_close(moments.second.reshape(sums.second.shape), sums.second)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("n", [1, 2, 1023, 1025, 4097, 9001])
def test_no_row_is_lost_or_counted_twice_at_the_edges_of_chunks(n, name):
    mixture = random_mixture(np.random.default_rng(0), 2, 2, "full")
    X, _ = mixture.sample(n, seed=0)
    block = Block(np.ascontiguousarray(X.T), np.arange(1.0, n + 1))
    frame = Frame(np.zeros(2), np.ones(2), np.eye(2), float(block.weights.sum()))
    (found,) = kernel_of(name, from_mixture(mixture, frame), frame)(block)
    assert found.moments[:, 0].sum() == pytest.approx(n * (n + 1) / 2, rel=1e-12)
    expected = mixture.log_likelihood(X, block.weights)
    assert found.log_likelihood == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("d", [5, 24, 60, 101])
def test_the_kernels_agree_in_many_dimensions(d):
    mixture = random_mixture(np.random.default_rng(d), 3, d, "full", spread=0.3)
    block, frame = drawn_from(mixture, 2500, weighted=True)
    model = from_mixture(mixture, frame)
    (natural,) = kernel_of("natural", model, frame)(block)
    (whitened,) = kernel_of("whitened", model, frame)(block)
    (centred,) = kernel_of("centred", model, frame)(block)
    assert_close(whitened.moments, natural.moments, rel=1e-9)
    assert whitened.log_likelihood == pytest.approx(natural.log_likelihood, rel=1e-10)
    assert centred.log_likelihood == pytest.approx(natural.log_likelihood, rel=1e-10)
    zero = np.zeros_like(model.means)
    about_zero = Moments.unpack(natural.moments, zero, frame.scale, frame.correlation)
    about_means = Moments.unpack(centred.moments, model.means, frame.scale, frame.correlation)
    m = about_means.origin
    cross = m[:, :, None] * about_means.first[:, None, :]
    moved = (
        about_means.second
        + cross
        + cross.transpose(0, 2, 1)
        + about_means.counts[:, None, None] * m[:, :, None] * m[:, None, :]
    )
    assert_close(moved, about_zero.second, rel=1e-9)


def test_candidates_of_all_types_and_sizes_in_one_scan_are_each_as_alone():
    rng = np.random.default_rng(0)
    block, frame = drawn_from(random_mixture(rng, 3, 3, "full"), 3000, weighted=True)
    mixtures = [
        random_mixture(rng, k, 3, kind)
        for kind, k in [
            ("full", 2), ("tied", 3), ("diag", 1), ("spherical", 4), ("full", 5), ("tied", 1),
            ("diag", 3), ("full", 1),
        ]
    ]  # fmt: skip
    # where the rows are, so that no candidate is worlds away from them
    models = [
        from_mixture(
            Mixture(m.weights, frame.shift + 0.1 * m.means, m.covariances, m.covariance_type), frame
        )
        for m in mixtures
    ]
    # components so narrow that their candidate must go by the centred kernel, amid the others
    narrow = models[4]
    models[4] = replace(narrow, means=narrow.means + 3.0, stack=Dense(narrow.stack.values * 1e-8))
    together = Scan.of(models, frame)
    results = together.read(run_kernels(together.kernels, block))
    assert len(results) == len(models)
    for model, (moments, log_likelihood, _) in zip(models, results, strict=True):
        alone = Scan.of([model], frame)
        ((expected, expected_height, _),) = alone.read(run_kernels(alone.kernels, block))
        assert log_likelihood == pytest.approx(expected_height, rel=1e-10)
        np.testing.assert_array_equal(moments.origin, expected.origin)
        np.testing.assert_allclose(moments.counts, expected.counts, atol=1e-9)
        np.testing.assert_allclose(moments.first, expected.first, atol=1e-8)


def narrow_amid(kind, n_narrow):
    """Return rows of 3 wide components and some so narrow that their products would cancel."""
    rng = np.random.default_rng(1)
    k = 3 + n_narrow
    covariances = np.tile(np.eye(2), (k, 1, 1))
    covariances[3:] *= 1e-7
    means = np.concatenate([rng.normal(0, 2, (3, 2)), rng.normal(0, 5, (n_narrow, 2))])
    mixture = Mixture(np.full(k, 1 / k), means, covariances, kind)
    return mixture, *drawn_from(mixture, 4000)


@pytest.mark.parametrize("kind", ["full", "diag", "spherical"])
def test_only_the_narrow_components_are_measured_about_their_means(kind):
    mixture, block, frame = narrow_amid(kind, 2)
    scan = Scan.of([from_mixture(mixture, frame)], frame)
    assert [type(kernel) for kernel in scan.kernels] == [NaturalKernel]
    moments, sums = read_beside_the_textbook(scan, mixture, block, frame, rel=1e-12)
    assert (moments.origin != 0).any(axis=1).tolist() == [False] * 3 + [True] * 2
    for j in range(5):  # each to its own digits: the narrow ones' are 1e-7 of the wide ones'
        second = moments.second[j]
        truth = sums.second[j] if second.ndim == 2 else np.diag(sums.second[j])
        assert_close(second, truth)


def test_narrow_components_of_several_candidates_keep_to_their_own_rows():
    mixture, block, frame = narrow_amid("full", 2)
    models = []
    for kind, components in [
        ("full", [0, 1, 2]), ("diag", [0, 1, 3]), ("full", [2, 1, 4]), ("full", [0, 1, 3]),
        ("diag", [2, 0]), ("diag", [4, 2, 1]),
    ]:  # fmt: skip
        k = len(components)
        means, covariances = mixture.means[components], mixture.covariances[components]
        part = Mixture(np.full(k, 1 / k), means, covariances * 1.5, kind)
        models.append(from_mixture(part, frame))
    together = Scan.of(models, frame)
    assert [type(kernel) for kernel in together.kernels] == [NaturalKernel]
    results = together.read(run_kernels(together.kernels, block))
    for model, (moments, height, _) in zip(models, results, strict=True):
        scan = Scan.of([model], frame)
        ((alone, expected, _),) = scan.read(run_kernels(scan.kernels, block))
        assert height == pytest.approx(expected, rel=1e-12)
        np.testing.assert_array_equal(moments.origin, alone.origin)
        assert moments.counts.min() > 100
        for second, expected_second in zip(moments.second, alone.second, strict=True):
            assert_close(second, expected_second)


def test_of_a_tied_candidate_all_or_none_are_measured_about_their_means():
    # the second component is far from the origin for its width, the other two are not
    means = np.array([[0.0, 0.0], [3000.0, 0.0], [0.1, 0.1]])
    mixture = Mixture(np.array([0.5, 0.1, 0.4]), means, np.tile(np.eye(2), (3, 1, 1)), "tied")
    X, _ = mixture.sample(3000, seed=0)
    block = block_of(X)
    frame = Frame(np.zeros(2), np.ones(2), X.T @ X / len(X), float(len(X)))
    scan = Scan.of([from_mixture(mixture, frame)], frame)
    read_beside_the_textbook(scan, mixture, block, frame, rel=1e-9)


def test_kernels_that_differ_in_a_narrow_component_differ_in_their_numbers():
    mixture, _, frame = narrow_amid("full", 2)
    model = from_mixture(mixture, frame)
    narrow = np.array([False] * 3 + [True] * 2)
    kernels = [
        NaturalKernel.of([model], frame, [mask])
        for mask in (narrow, narrow & (np.arange(5) > 3), np.zeros(5, dtype=bool))
    ]
    digests = {b"".join(a.tobytes() for a in kernel.arrays()) for kernel in kernels}
    assert len(digests) == 3


def test_where_most_components_are_narrow_no_product_is_made():
    mixture, _, frame = narrow_amid("full", 4)
    scan = Scan.of([from_mixture(mixture, frame)], frame)
    assert [type(kernel) for kernel in scan.kernels] == [WhitenedKernel]


def test_the_choice_of_kernel_does_not_show_in_what_is_read():
    rng = np.random.default_rng(3)
    mixture = random_mixture(rng, 2, 30, "full")
    block, frame = drawn_from(mixture, 800)
    model = from_mixture(mixture, frame)
    alone = Scan.of([model], frame)
    crowd = Scan.of([model] * 40, frame)
    assert {type(kernel) for kernel in alone.kernels} != {type(kernel) for kernel in crowd.kernels}
    ((expected, height, _),) = alone.read(run_kernels(alone.kernels, block))
    for moments, log_likelihood, _ in crowd.read(run_kernels(crowd.kernels, block)):
        assert log_likelihood == pytest.approx(height, rel=1e-12)
        assert_close(moments.second, expected.second)


@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(COVARIANCE_TYPES),
    name=st.sampled_from(KERNELS),
    weighted=st.booleans(),
    cuts=st.lists(st.integers(1, 199), unique=True, max_size=6),
)
def test_statistics_of_parts_add_up_to_those_of_the_whole(seed, kind, name, weighted, cuts):
    mixture = random_mixture(np.random.default_rng(seed), 2, 2, kind)
    block, frame = drawn_from(mixture, 200, weighted=weighted, seed=seed)
    kernel = kernel_of(name, from_mixture(mixture, frame), frame)
    parts = [
        kernel(Block(block.values[:, a:b], None if block.weights is None else block.weights[a:b]))
        for a, b in pairwise([0, *sorted(cuts), 200])
    ]
    (added,), (whole,) = total(parts), kernel(block)
    assert_close(added.moments, whole.moments, rel=1e-12)
    assert added.log_likelihood == pytest.approx(whole.log_likelihood, rel=1e-12, abs=1e-10)


def test_totals_are_taken_candidate_by_candidate_in_the_order_given():
    def sums(*values):
        return [Sums(np.array([[v]]), v) for v in values]

    first, second = total([sums(1e16, 1.0), sums(1.0, 2.0), sums(-1e16, 3.0)])
    assert first.moments[0, 0] == (1e16 + 1.0) - 1e16  # plainly added, left to right
    assert first.log_likelihood == 1.0  # exactly added
    assert second.moments[0, 0] == second.log_likelihood == 6.0


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_kernel_leaves_the_rows_alone(kind):
    mixture = random_mixture(np.random.default_rng(0), 2, 2, kind)
    block, frame = drawn_from(mixture, 100, weighted=True)
    before = block.values.copy(), block.weights.copy()
    block.values.setflags(write=False)
    block.weights.setflags(write=False)
    for name in KERNELS:
        kernel_of(name, from_mixture(mixture, frame), frame)(block)
    np.testing.assert_array_equal(block.values, before[0])
    np.testing.assert_array_equal(block.weights, before[1])


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_a_row_far_out_leaves_the_counts_whole(kind, name):
    mixture = random_mixture(np.random.default_rng(0), 3, 2, kind)
    _, frame = drawn_from(mixture, 100)
    far = np.array([[1e9, 0.0], [0.0, -1e9], [1e7, 1e7]]) * frame.scale
    (found,) = kernel_of(name, from_mixture(mixture, frame), frame)(block_of(far))
    assert np.isfinite(found.moments).all()
    assert found.moments[:, 0].sum() == pytest.approx(3, rel=1e-12)


@pytest.mark.parametrize("kind", COVARIANCE_TYPES)
def test_tight_components_far_apart_keep_their_digits(kind):
    centres, sd = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), 1e-6
    mixture = Mixture(np.full(3, 1 / 3), centres, np.tile(sd**2 * np.eye(2), (3, 1, 1)), kind)
    block, frame = drawn_from(mixture, 600)
    model = from_mixture(mixture, frame)
    scan = Scan.of([model], frame)
    ((moments, log_likelihood, _),) = scan.read(run_kernels(scan.kernels, block))
    sums, expected = textbook(mixture, block, frame, model.means)
    assert log_likelihood == pytest.approx(expected / 600, rel=1e-9)
    np.testing.assert_array_equal(moments.origin, model.means)
    second = moments.second
    if second.ndim == 2:
        second = second[:, :, None] * np.eye(2)
        sums = sums._replace(second=sums.second * np.eye(2))
    assert_close(second, sums.second, rel=1e-8)


@pytest.mark.parametrize("name", KERNELS)
def test_clusters_far_apart_leave_no_subnormal_numbers_which_would_double_the_time_of_a_pass(name):
    # of the other cluster's rows, 38 standard deviations away, a share of exp(-722) would be left
    rng = np.random.default_rng(6)
    X = rng.standard_normal((400, 2)) * 0.01 + np.repeat([[0.0, 0.0], [38.0, 0.0]], 200, axis=0)
    block = block_of(X)
    frame = Frame.of(Profile.of(block))
    mixture = Mixture([0.5, 0.5], [[0.0, 0.0], [38.0, 0.0]], [np.eye(2)] * 2)
    other = kernel_of(name, from_mixture(mixture, frame), frame)
    halves = [Block(np.ascontiguousarray(half), None) for half in np.split(block.values, 2, axis=1)]
    sums = np.abs(np.concatenate([other(half)[0].moments.ravel() for half in halves]))
    assert ((sums == 0) | (sums > np.finfo(float).tiny)).all()
    np.testing.assert_allclose([other(half)[0].moments[:, 0].max() for half in halves], 200)
