"""Gaussian mixtures for Apache Spark: exact, fast, the same bits on a laptop and on a cluster."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sparkgmm.version import __version__

if TYPE_CHECKING:
    from sparkgmm.core.local import FitResult, fit_array
    from sparkgmm.mixture import Mixture
    from sparkgmm.report.plot import plot
    from sparkgmm.scikit import mixture_from_sklearn, mixture_to_sklearn
    from sparkgmm.spark.ml.estimator import GaussianMixture
    from sparkgmm.spark.ml.evaluation import MixtureEvaluator
    from sparkgmm.spark.ml.model import GaussianMixtureModel

__all__ = [
    "FitResult",
    "GaussianMixture",
    "GaussianMixtureModel",
    "Mixture",
    "MixtureEvaluator",
    "__version__",
    "fit_array",
    "mixture_from_sklearn",
    "mixture_to_sklearn",
    "plot",
]

# Imported where used: executors import this package too, and have numpy and pyarrow alone.
_HOMES = {
    "FitResult": "sparkgmm.core.local",
    "GaussianMixture": "sparkgmm.spark.ml.estimator",
    "GaussianMixtureModel": "sparkgmm.spark.ml.model",
    "Mixture": "sparkgmm.mixture",
    "MixtureEvaluator": "sparkgmm.spark.ml.evaluation",
    "fit_array": "sparkgmm.core.local",
    "mixture_from_sklearn": "sparkgmm.scikit",
    "mixture_to_sklearn": "sparkgmm.scikit",
    "plot": "sparkgmm.report.plot",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
