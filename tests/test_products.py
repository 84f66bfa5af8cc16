import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparkgmm import products
from sparkgmm.products import add_product, aligned_empty, multiply

# (m, k, n) of a matrix (m, k) and k rows of n: in one piece; in pieces of rows of the first, of
# columns, of features, of several at once; and so large that the first product stays whole.
SHAPES = [
    (1, 1, 1),
    (3, 6, 5000),
    (20, 66, 2437),
    (10, 231, 712),
    (33, 40, 901),
    (70, 130, 2437),
    (128, 120, 2437),
    (130, 9, 2048),
    (50, 1326, 408),
]


@pytest.fixture(params=[0, 1_000_000], ids=["whole", "in pieces"], autouse=True, scope="module")
def small(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_SMALL", request.param)
        yield


def operands(m, k, n):
    rng = np.random.default_rng([m, k, n])
    X = aligned_empty(k, n + 3)[:, :n]
    R = aligned_empty(m + 2, n + 5)[:m, :n]
    X[:], R[:] = rng.standard_normal((k, n)), rng.standard_normal((m, n))
    return rng.standard_normal((m, k)), X, R


def assert_same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_a_product_is_right_and_stays_within_its_room(m, k, n):
    A, X, _ = operands(m, k, n)
    out = np.full((m + 1, n + 1), 7.0)
    multiply(A, X, out=out[:m, :n])
    assert_same(out[:m, :n], np.einsum("mk,kn->mn", A, X))
    assert (out[m] == 7).all()
    assert (out[:, n] == 7).all()


@pytest.mark.parametrize(("m", "k", "n"), SHAPES)
def test_a_product_with_a_transpose_is_added_once_in_every_place(m, k, n):
    A, X, R = operands(m, k, n)
    out = A.copy()
    add_product(R, X, out=out)
    assert_same(out, A + np.einsum("mn,kn->mk", R, X))


@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 400), st.integers(0, 5))
def test_products_of_any_shape_are_right_to_the_last_bit_of_whole_numbers(m, k, n, seed):
    rng = np.random.default_rng(seed)
    # whole numbers: any order of the sums gives the same bits
    A, X, R = (rng.integers(-9, 10, s).astype(float) for s in ((m, k), (k, n), (m, n)))
    L, S = np.empty((m, n)), np.zeros((m, k))
    multiply(A, X, out=L)
    add_product(R, X, out=S)
    np.testing.assert_array_equal(L, A @ X)
    np.testing.assert_array_equal(S, R @ X.T)


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_room_begins_at_a_cache_line_and_so_do_rows_of_whole_lines(height, width):
    values = aligned_empty(height, 8 * width)
    assert values.shape == (height, 8 * width)
    assert values.flags.c_contiguous
    assert all(row.ctypes.data % 64 == 0 for row in values)
    values[:] = 1.0


def test_an_infinite_value_spoils_its_own_column_only():
    A, X, _ = operands(20, 66, 2437)
    X[5, 1000] = np.inf
    out = np.empty((20, 2437))
    with np.errstate(invalid="ignore"):
        multiply(A, X, out=out)
    assert not np.isfinite(out[:, 1000]).any()
    assert np.isfinite(np.delete(out, 1000, axis=1)).all()
