"""What to fit: the options of a search."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparkgmm.core.em import Settings


@dataclass(frozen=True)
class Search:
    """What to fit: every k with every covariance type, from `n_init` starts each.

    With `lenient`, components that starve are neither moved nor dropped, and a degenerate solution
    may win where there is no other.
    """

    k: tuple[int, ...] = (2,)
    covariance_type: tuple[str, ...] = ("full",)
    criterion: str = "bic"
    init: str = "k-means++"
    n_init: int = 10
    seed: int = 0
    settings: Settings = field(default_factory=Settings)
    lenient: bool = False
