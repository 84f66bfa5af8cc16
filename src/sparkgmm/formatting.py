"""Numbers and lists as people write them: for pages, notebooks and the terminal alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


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


def some_of(names: Sequence[str], most: int = 12) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def quoted_list(names: Sequence[str]) -> str:
    """Return the first names in quotes, for a message, and how many more there are."""
    return some_of([repr(name) for name in names])


def by_value(values: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Return each value, in the order of appearance, with the keys that have it."""
    keys: dict[str, list[str]] = {}
    for key, value in values.items():
        keys.setdefault(value, []).append(key)
    return list(keys.items())
