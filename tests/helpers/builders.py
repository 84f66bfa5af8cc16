"""Arrays as what the numerics take: a block, the rows of a fit, standardised coordinates."""

from __future__ import annotations

from functools import reduce
from operator import add
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from sparkgmm.core.profile import Block, Frame, Profile, block_rows
from sparkgmm.core.rows import LocalRows
from sparkgmm.mixture import Array

RowsT = TypeVar("RowsT", bound=LocalRows)


def block_of(X: ArrayLike, w: Array | None = None) -> Block:
    """Return rows (n, d) as one block, in single precision if they are, else in double."""
    values = np.asarray(X)
    if values.dtype != np.float32:
        values = values.astype(np.float64)
    return Block(np.ascontiguousarray(values.T), w)


def rows_of(
    X: ArrayLike,
    w: Array | None = None,
    *,
    blocks: int | None = None,
    seed: int = 0,
    kind: type[RowsT] = LocalRows,  # type: ignore[assignment]
) -> RowsT:
    """Return rows (n, d) as those of a fit, cut in so many blocks; None: as a fit of arrays cuts.

    `kind` is a subclass of LocalRows.
    """
    X = np.asarray(X)
    step = block_rows(X.shape[1])
    at = np.arange(step, len(X), step) if blocks is None else blocks
    parts = np.array_split(np.arange(len(X)), at)
    cut = [block_of(X[i], None if w is None else w[i]) for i in parts]
    return kind([cut], reduce(add, map(Profile.of, cut)), seed)


class Standardised(NamedTuple):
    """Rows as a block, with what describes them, and in standardised coordinates (n, d)."""

    block: Block
    profile: Profile
    frame: Frame
    Z: Array
    w: Array


def standardised(X: ArrayLike) -> Standardised:
    """Return rows (n, d) and their standardised coordinates."""
    block = block_of(X)
    profile = Profile.of(block)
    frame = Frame.of(profile)
    return Standardised(block, profile, frame, *frame.standardise([block]))
