"""Gaussian mixtures for Apache Spark: exact, fast, the same bits on a laptop and on a cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparkgmm.version import __version__

if TYPE_CHECKING:
    from sparkgmm.core.local import FitResult, fit_array
    from sparkgmm.mixture import Mixture
    from sparkgmm.report.plot import plot

__all__ = ["FitResult", "Mixture", "__version__", "fit_array", "plot"]

# Imported where used: executors import this package too, and have numpy and pyarrow alone.
_HOMES = {
    "FitResult": "sparkgmm.core.local",
    "Mixture": "sparkgmm.mixture",
    "fit_array": "sparkgmm.core.local",
    "plot": "sparkgmm.report.plot",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
