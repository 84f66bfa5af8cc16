"""What to fit: the options of a search."""

from __future__ import annotations

from dataclasses import dataclass, field

from sparkgmm import options
from sparkgmm.core.em import Settings
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family


@dataclass(frozen=True)
class Search:
    """What to fit: every k with every covariance type, from `n_init` starts each.

    With `lenient`, components that starve are neither moved nor dropped, and a degenerate solution
    may win where there is no other. `missing` is what the mixtures take NaN for.
    """

    k: tuple[int, ...] = (options.K.default,)
    covariance_type: tuple[str, ...] = (options.COVARIANCE_TYPE.default,)
    criterion: str = options.CRITERION.default
    init: str = options.INIT.default
    n_init: int = options.N_INIT.default
    seed: int = options.SEED.default
    settings: Settings = field(default_factory=Settings)
    lenient: bool = False
    missing: str = options.MISSING.default

    @property
    def families(self) -> list[Family]:
        """The families of the covariance types, in their order."""
        return [FAMILIES[name] for name in self.covariance_type]

    @property
    def products(self) -> bool:
        """Whether a covariance type asks for products of features: the profile's (d, d) scatter."""
        return not all(family.diagonal for family in self.families)
