"""Numbers as people write them: for pages, notebooks and the terminal alike."""

from __future__ import annotations

import math


def number(value: float, digits: int = 6) -> str:
    """Return a number with no more digits than these, and no exponent if it is short."""
    return f"{float(value):.{digits}g}"


def near(value: float, sd: float) -> str:
    """Return a value to about a hundredth of a standard deviation, which is positive."""
    decimals = 2 - math.floor(math.log10(sd))
    if 0 <= decimals <= 6:
        return f"{value:,.{decimals}f}"
    return number(value, math.ceil(math.log10(max(abs(value), sd) / sd)) + 3)


def mean_and_sd(mean: float, sd: float) -> str:
    """Return mean ± sd, the mean to a hundredth of the sd, whatever their sizes."""
    return f"{near(mean, sd)} ± {near(sd, sd)}"
