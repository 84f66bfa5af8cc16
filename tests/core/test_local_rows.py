from itertools import pairwise

import numpy as np
import pytest

from helpers.data_sets import random_mixture
from sparkgmm.core.evidence import Scan
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.rows import PILOT_ROWS, LocalRows, cut, draw_rows, scan_blocks
from sparkgmm.core.statistics import run_kernels, total


@pytest.fixture(scope="module")
def case():
    """Seven blocks of unlike sizes in three partitions, and kernels for two candidates."""
    rng = np.random.default_rng(0)
    mixture = random_mixture(rng, 3, 4, "full")
    X, _ = mixture.sample(20_000, seed=0)
    edges = [0, 5000, 5001, 9000, 12_000, 16_000, 19_999, 20_000]
    blocks = [Block(np.ascontiguousarray(X[a:b].T), None) for a, b in pairwise(edges)]
    profile = sum((Profile.of(b) for b in blocks[1:]), start=Profile.of(blocks[0]))
    frame = Frame.of(profile)
    models = [from_mixture(mixture, frame), from_mixture(random_mixture(rng, 2, 4, "diag"), frame)]
    return [blocks[:3], blocks[3:4], blocks[4:]], profile, Scan.of(models, frame).kernels


def bits(sums):
    return [(s.moments.tobytes(), s.log_likelihood) for s in sums]


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_bits_do_not_depend_on_the_number_of_threads(case, threads):
    partitions, _, kernels = case
    expected = bits(scan_blocks(partitions, kernels, threads=1))
    for _ in range(3):
        assert bits(scan_blocks(partitions, kernels, threads=threads)) == expected


def test_sums_are_taken_within_each_partition_first_then_over_the_partitions(case):
    partitions, profile, kernels = case
    expected = total([total([run_kernels(kernels, b) for b in p]) for p in partitions])
    rows = LocalRows(partitions, profile, seed=0)
    assert bits(rows.scan(kernels, "")) == bits(expected)
    regrouped = scan_blocks([partitions[0], partitions[1] + partitions[2]], kernels)
    assert bits(regrouped) != bits(expected)  # so that the line above means something
    for ours, theirs in zip(regrouped, expected, strict=True):
        np.testing.assert_allclose(ours.moments, theirs.moments, rtol=1e-10, atol=1e-8)


def test_empty_partitions_change_nothing(case):
    partitions, profile, kernels = case
    gaps = [[], partitions[0], [], partitions[1], partitions[2], []]
    rows = LocalRows(gaps, profile, seed=0)
    expected = LocalRows(partitions, profile, seed=0).scan(kernels, "")
    assert bits(rows.scan(kernels, "")) == bits(expected)


def test_small_data_is_its_own_sample(case):
    partitions, profile, _ = case
    rows = LocalRows(partitions, profile, seed=0)
    assert rows.complete
    assert sum(block.n_rows for block in rows.sample) == 20_000


def test_large_data_has_a_sample_of_distinct_rows_that_the_seed_decides():
    n = PILOT_ROWS + 5000
    blocks = [Block(part[None], None) for part in np.array_split(np.arange(float(n)), 3)]
    profile = sum((Profile.of(b) for b in blocks[1:]), start=Profile.of(blocks[0]))

    def sample(seed):
        drawn = LocalRows([blocks[:2], blocks[2:]], profile, seed)
        assert not drawn.complete
        return np.concatenate([block.values[0] for block in drawn.sample])

    drawn = sample(0)
    assert len(np.unique(drawn)) == len(drawn) == PILOT_ROWS
    np.testing.assert_array_equal(drawn, sample(0))
    assert not np.array_equal(drawn, sample(1))


@pytest.mark.parametrize("n", [1, PILOT_ROWS - 1, PILOT_ROWS, PILOT_ROWS + 1, 10 * PILOT_ROWS])
def test_rows_are_drawn_in_ascending_order_without_replacement(n):
    rows = draw_rows(n, seed=3)
    assert len(rows) == min(n, PILOT_ROWS)
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] < n


@pytest.mark.parametrize("weighted", [False, True])
def test_cutting_a_block_keeps_every_row_in_order(weighted):
    w = np.arange(1.0, 11.0) if weighted else None
    block = Block(np.arange(20.0).reshape(2, 10), w)
    parts = cut(block, 4)
    assert [part.n_rows for part in parts] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([p.values for p in parts], axis=1), block.values)
    if weighted:
        np.testing.assert_array_equal(np.concatenate([p.weights for p in parts]), w)
    else:
        assert all(part.weights is None for part in parts)
