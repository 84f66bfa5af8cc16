"""Mixtures to and from scikit-learn's fitted GaussianMixture; only the way there needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparkgmm.checks import numeric_alone
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import InputError
from sparkgmm.mixture import Mixture


def mixture_from_sklearn(fitted: Any, features: Sequence[str] | None = None) -> Mixture:
    """Return the mixture of a fitted `sklearn.mixture.GaussianMixture`, of any covariance type.

    Components keep their order. `features` are d names for one that was fitted without any.

    Raises
    ------
    InputError
        If it is not fitted, or no such estimator.

    """
    if hasattr(fitted, "weight_concentration_"):
        raise InputError(
            f"a {type(fitted).__name__} scores by a posterior over its parameters, which is no "
            "Gaussian mixture: give a GaussianMixture"
        )
    if not all(hasattr(fitted, f"{name}_") for name in ("weights", "means", "covariances")):
        raise InputError(
            f"{type(fitted).__name__} has no weights_, means_ and covariances_: give a "
            "GaussianMixture that is fitted"
        )
    names = getattr(fitted, "feature_names_in_", None)
    return Mixture(
        fitted.weights_,
        fitted.means_,
        fitted.covariances_,
        fitted.covariance_type,
        features if names is None else [str(name) for name in names],
    )


def mixture_to_sklearn(mixture: Mixture) -> Any:
    """Return a fitted `sklearn.mixture.GaussianMixture` that scores as the mixture does.

    It has all that `predict`, `predict_proba`, `score`, `bic`, `sample` and a warm start need. As
    the mixture does not know its fit, `converged_` is true, `n_iter_` 0 and `lower_bound_` NaN.

    Raises
    ------
    InputError
        If scikit-learn is not installed.

    """
    numeric_alone(mixture.parts, "scikit-learn's mixture")
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise InputError("scikit-learn is not installed: pip install 'sparkgmm[compare]'") from None
    family = FAMILIES[FAMILIES[mixture.covariance_type].known_as]
    stack = mixture.stack
    fitted = GaussianMixture(mixture.k, covariance_type=family.name, warm_start=True)
    fitted.weights_ = mixture.weights / mixture.weights.sum()
    fitted.means_ = mixture.means.copy()
    fitted.covariances_ = family.compact(stack.values).copy()
    fitted.precisions_cholesky_ = family.compact(stack.precision_factors)
    fitted.precisions_ = family.compact(stack.precisions)
    fitted.converged_, fitted.n_iter_, fitted.lower_bound_ = True, 0, float("nan")
    fitted.n_features_in_ = mixture.d
    if mixture.features is not None:
        fitted.feature_names_in_ = np.array(mixture.features, dtype=object)
    return fitted
