"""Covariance types: a file each, and one line in the table of families."""

from __future__ import annotations

from sparkgmm.covariances.diag import Diag
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.full import Full
from sparkgmm.covariances.spherical import Spherical
from sparkgmm.covariances.tied import Tied
from sparkgmm.covariances.vev import VEV

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Full(),
        Tied(),
        Diag(),
        Spherical(),
        VEV(),
    )
}
