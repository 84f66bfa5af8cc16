"""Mixtures to and from scikit-learn's fitted GaussianMixture; only the way there needs it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sparkgmm.errors import InputError
from sparkgmm.mixture import Array, Mixture


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
        _dense(np.asarray(fitted.covariances_), fitted.covariance_type, *fitted.means_.shape),
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
    try:
        from sklearn.mixture import GaussianMixture
    except ImportError:
        raise InputError("scikit-learn is not installed: pip install 'sparkgmm[compare]'") from None
    kind = mixture.covariance_type
    fitted = GaussianMixture(mixture.k, covariance_type=kind, warm_start=True)
    covariances = _compact(mixture.covariances, kind)
    factors = _precision_factors(covariances, kind)
    dense = kind in ("full", "tied")
    fitted.weights_ = mixture.weights / mixture.weights.sum()
    fitted.means_ = mixture.means.copy()
    fitted.covariances_ = covariances
    fitted.precisions_cholesky_ = factors
    fitted.precisions_ = factors @ np.swapaxes(factors, -1, -2) if dense else factors**2
    fitted.converged_, fitted.n_iter_, fitted.lower_bound_ = True, 0, float("nan")
    fitted.n_features_in_ = mixture.d
    if mixture.features is not None:
        fitted.feature_names_in_ = np.array(mixture.features, dtype=object)
    return fitted


def _dense(covariances: Array, kind: str, k: int, d: int) -> Array:
    """Return scikit-learn's covariances of shape (k, d, d), (d, d), (k, d) or (k,) as (k, d, d)."""
    if kind == "tied":
        return np.broadcast_to(covariances, (k, d, d))
    if kind in ("diag", "spherical"):
        return np.asarray(covariances.reshape(k, -1)[:, :, None] * np.eye(d))
    return covariances


def _compact(covariances: Array, kind: str) -> Array:
    """Return covariances (k, d, d) in scikit-learn's shape of the type."""
    if kind == "tied":
        return covariances[0].copy()
    if kind == "diag":
        return np.einsum("kii->ki", covariances).copy()
    if kind == "spherical":
        return np.asarray(np.einsum("kii->ki", covariances).mean(axis=1))
    return covariances.copy()


def _precision_factors(covariances: Array, kind: str) -> Array:
    """Return upper U with precision = U U^T, or the square roots of precisions on a diagonal."""
    if kind in ("diag", "spherical"):
        return np.asarray(1 / np.sqrt(covariances))
    return np.swapaxes(np.linalg.inv(np.linalg.cholesky(covariances)), -1, -2).copy()
