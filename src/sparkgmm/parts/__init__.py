"""Parts: a component's density is a product of factors over different columns.

The first factor is the Gaussian over the numeric columns, which the engine knows inside out. Every
other one is a `Part`, of one column: counts, categories, whatever is an exponential family. It
fills rows of T and reads rows of S; the products eta T and R T^T and the softmax between them never
change. A part is a file here and a line in PARTS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkgmm.parts.multinomial import (
    BOOLEANS,
    MOST_LEVELS,
    WHOLE,
    Multinomial,
    level_of,
    text_of,
)
from sparkgmm.parts.part import (
    Column,
    Part,
    Parts,
    cut_vector,
    estimated,
    fill,
    natural,
    split,
)
from sparkgmm.parts.poisson import Poisson
from sparkgmm.products import Array

__all__ = [
    "BOOLEANS",
    "MOST_LEVELS",
    "PARTS",
    "WHOLE",
    "Column",
    "Multinomial",
    "Part",
    "Parts",
    "Poisson",
    "aligned",
    "cut_vector",
    "estimated",
    "fill",
    "level_of",
    "natural",
    "of_all",
    "split",
    "text_of",
]

# In the order in which their columns stand after the numeric ones.
PARTS: dict[str, type[Multinomial | Poisson]] = {"categorical": Multinomial, "counts": Poisson}


def aligned(parts: Sequence[Part], columns: Sequence[Column], d: int, unseen: float = 1.0) -> Parts:
    """Return parts for rows that have these columns after d numeric ones, found by their names.

    `unseen` is the factor of levels that they do not have.
    """
    by_name = {part.of.name: part for part in parts}
    pairs = enumerate(columns, d)
    return tuple(by_name[of.name].aligned(of, i, unseen) for i, of in pairs if of.name in by_name)


def of_all(columns: Sequence[Column], values: Array, w: Array) -> Parts:
    """Return one component for all rows (D, n) of weights w (n,); these columns are the last."""
    first = len(values) - len(columns)
    parts: list[Part] = []
    for i, column in enumerate(columns, first):
        parts.append(PARTS[column.kind].of_all(column, i, values, np.asarray(w)))
    return tuple(parts)
