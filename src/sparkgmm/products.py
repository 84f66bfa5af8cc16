"""Monomials of rows, and matrix products in the pieces that BLAS multiplies fastest.

OpenBLAS copies both matrices into an order of its own before it multiplies. With few components
those copies cost as much as the product. On processors with AVX-512 (Intel's for servers since
Skylake, AMD's since Zen 4) it multiplies small matrices in place, at 70 to 85% of the peak
instead of 30 to 60% (measured with 10 to 50 components). On others products stay whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def _has_avx512() -> bool:
    found = np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", [])
    return not {"AVX512_SKX", "X86_V4"}.isdisjoint(found)  # numpy before 2.4, and since


# A product of (m, k) by (k, n) is small up to this m k n. Where the second matrix is a transpose,
# m n is bounded too (OpenBLAS 0.3.31, dgemm_small_kernel_permit_skylakex.c).
_SMALL = 1_000_000 if _has_avx512() else 0
_SMALL_RESULT = 1_200
# Pieces of fewer columns cost more than the copies do.
_LEAST_COLUMNS = 200
# Pieces of more rows gain nothing.
_MOST_ROWS = 32
_MOST_ROWS_BY_TRANSPOSE = 64
# The values in a cache line.
_LINE = 8


def aligned_empty(n_rows: int, n_columns: int) -> Array:
    """Return an array (n_rows, n_columns) of values not set, which begins at a cache line.

    So does each of its rows where n_columns is a multiple of 8: loads of 64 bytes that straddle
    two lines take twice the time.
    """
    size = n_rows * n_columns
    values = np.empty(size + _LINE)
    first = -values.ctypes.data // values.itemsize % _LINE
    return values[first : first + size].reshape(n_rows, n_columns)


def fill_monomials(X: Array, T: Array) -> None:
    """Fill T around its rows 1..d, which already hold X; a diagonal of x x^T at a time."""
    d = len(X)
    T[0] = 1.0
    row = 1 + d
    for s in range(d):
        if row == len(T):
            return
        np.multiply(X[: d - s], X[s:], out=T[row : row + d - s])
        row += d - s


def multiply(A: Array, X: Array, out: Array) -> None:
    """Set out (m, n) to A X, of A (m, k) and X (k, n)."""
    rows = _pieces(len(A), _MOST_ROWS)
    most = _SMALL // (rows[0].stop * len(X))
    if most < _LEAST_COLUMNS:
        np.matmul(A, X, out=out)
        return
    for columns in _pieces(X.shape[1], most, _LINE):
        for some in rows:
            np.matmul(A[some], X[:, columns], out=out[some, columns])


def add_product(R: Array, T: Array, out: Array) -> None:
    """Add R T^T to out (m, k), of R (m, n) and T (k, n)."""
    rows = _pieces(len(R), _MOST_ROWS_BY_TRANSPOSE)
    features = _pieces(len(T), _SMALL_RESULT // rows[0].stop)
    most = _SMALL // (rows[0].stop * features[0].stop)
    if most < _LEAST_COLUMNS:
        out += R @ T.T
        return
    for columns in _pieces(R.shape[1], most, _LINE):
        for some in rows:
            for those in features:
                out[some, those] += R[some, columns] @ T[those, columns].T


def second_moment(X: Array, w: Array | None) -> Array:
    """Return the sum of w x x^T over the columns of X (d, n): symmetric to the last bit.

    A product with its own transpose is; (X w) X^T is not on every processor, and where components
    are narrow the likelihood multiplies that difference by the square of their precision.
    """
    Y = X if w is None else X * np.sqrt(w)
    return np.asarray(Y @ Y.T)


def squares(X: Array, w: Array | None) -> Array:
    """Return the diagonal (d,) of that: the sums of w x^2 over the columns of X (d, n)."""
    return np.asarray((X * X).sum(axis=1) if w is None else (X * X) @ w)


def diagonal(second: Array) -> Array:
    """Return the diagonal (d,) of a matrix (d, d), or what is a diagonal already."""
    return second if second.ndim == 1 else np.diagonal(second)


def _pieces(n: int, most: int, unit: int = 1) -> list[slice]:
    """Cut n evenly into pieces of at most `most`, all but the last a multiple of the unit."""
    most = max(most // unit * unit, unit)
    step = -(-n // -(-n // most))
    step += -step % unit
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]
