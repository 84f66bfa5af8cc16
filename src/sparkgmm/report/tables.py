"""Tables of a page, and numbers as people write them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """A heading a column and the rows' cells, all text."""

    head: list[str]
    rows: list[list[str]]


def number(value: float, digits: int = 6) -> str:
    """Return a number as people write it: no more digits than these, no exponent if short."""
    return f"{float(value):.{digits}g}"


def mean_and_sd(mean: float, sd: float) -> str:
    """Return mean ± sd, the mean to a hundredth of the sd, whatever their sizes."""
    return f"{near(mean, sd)} ± {near(sd, sd)}"


def near(value: float, sd: float) -> str:
    """Return a value to about a hundredth of a standard deviation."""
    decimals = 2 - int(np.floor(np.log10(sd)))
    if 0 <= decimals <= 6:
        return f"{value:,.{decimals}f}"
    return number(value, int(np.ceil(np.log10(max(abs(value), sd) / sd))) + 3)
