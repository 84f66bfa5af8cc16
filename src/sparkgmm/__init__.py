"""Gaussian mixtures for Apache Spark: exact, fast, the same bits on a laptop and on a cluster."""

from sparkgmm.core.fit import FitResult, fit_array
from sparkgmm.mixture import Mixture
from sparkgmm.version import __version__

__all__ = ["FitResult", "Mixture", "__version__", "fit_array"]
