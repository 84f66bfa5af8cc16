"""The value a user holds: an immutable Gaussian mixture that scores, samples, travels as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkgmm.errors import InputError

Array = NDArray[Any]
Labels = NDArray[np.int64]

FORMAT_VERSION = 1
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
# Rows scored at a time, so that the work arrays (d + k values a row) stay in the cache.
_CHUNK_BYTES = 2**20


def n_parameters(k: int, d: int, covariance_type: str) -> int:
    """Count the free parameters: k - 1 weights, k d means, and the covariances of the type."""
    covariances = {
        "full": k * d * (d + 1) // 2,
        "tied": d * (d + 1) // 2,
        "diag": k * d,
        "spherical": k,
    }[covariance_type]
    return k - 1 + k * d + covariances


class Mixture:
    """A Gaussian mixture in the data's own units.

    Parameters
    ----------
    weights : array-like of shape (k,), positive, summing to 1
    means : array-like of shape (k, d)
    covariances : array-like of shape (k, d, d), symmetric and positive definite, always dense
    covariance_type : "full", "tied", "diag" or "spherical"; counts the free parameters
    features : d names, or None

    Raises
    ------
    InputError
        If a shape, a value or the covariance type is not as above.

    """

    __slots__ = (
        "_log_norms",
        "_whiteners",
        "covariance_type",
        "covariances",
        "features",
        "means",
        "weights",
    )

    weights: Array
    means: Array
    covariances: Array
    covariance_type: str
    features: tuple[str, ...] | None
    _whiteners: Array
    _log_norms: Array

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        covariance_type: str = "full",
        features: Sequence[str] | None = None,
    ) -> None:
        values = _checked(weights, means, covariances)
        if covariance_type not in COVARIANCE_TYPES:
            raise InputError(
                f"covariance_type is {covariance_type!r}: use one of {', '.join(COVARIANCE_TYPES)}"
            )
        d = values[1].shape[1]
        if features is not None and (isinstance(features, str) or not hasattr(features, "__len__")):
            raise InputError(f"features is {features!r}: give a list of {d} names")
        if features is not None and len(features) != d:
            raise InputError(f"features holds {len(features)} names for {d} columns of means")
        _check_structure(values[2], covariance_type)
        factors = _cholesky(values[2])
        fields: dict[str, Any] = {
            "weights": values[0],
            "means": values[1],
            "covariances": values[2],
            "covariance_type": covariance_type,
            "features": None if features is None else tuple(map(str, features)),
            "_whiteners": np.linalg.inv(factors),
            "_log_norms": -0.5 * d * math.log(2 * math.pi)
            - np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1),
        }
        for name, value in fields.items():
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Mixture is immutable: {name} cannot be set; build another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Mixture is immutable: {name} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return Mixture, (
            self.weights,
            self.means,
            self.covariances,
            self.covariance_type,
            self.features,
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mixture):
            return NotImplemented
        return self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def __repr__(self) -> str:
        return (
            f"Mixture(k={self.k}, d={self.d}, covariance_type={self.covariance_type!r}, "
            f"weights={np.array2string(self.weights, precision=4, separator=', ')})"
        )

    @property
    def k(self) -> int:
        """The number of components."""
        return len(self.weights)

    @property
    def d(self) -> int:
        """The number of features."""
        return int(self.means.shape[1])

    @property
    def n_parameters(self) -> int:
        """The number of free parameters of a mixture of this covariance type."""
        return n_parameters(self.k, self.d, self.covariance_type)

    def log_density(self, X: ArrayLike) -> Array:
        """Return the natural log of the density at each row of X (n, d), shape (n,)."""
        return self._by_chunks(X, lambda joint, rows: _log_sum_exp(joint), ())

    def responsibilities(self, X: ArrayLike) -> Array:
        """Return P(component | row) for X (n, d), shape (n, k): finite and summing to 1 a row.

        A row so far out that its squared distances overflow goes to the component whose
        Mahalanobis distance grows slowest in its direction, which is the limit.
        """

        def softmax(joint: Array, rows: Array) -> Array:
            far = ~np.isfinite(joint).any(axis=1)
            if far.any():
                joint[far] = self._log_joint_far_out(rows[far])
            joint -= joint.max(axis=1, keepdims=True)
            np.exp(joint, out=joint)
            joint /= joint.sum(axis=1, keepdims=True)
            return joint

        return self._by_chunks(X, softmax, (self.k,))

    def predict(self, X: ArrayLike) -> Labels:
        """Return the most responsible component of each row of X (n, d), shape (n,)."""
        return np.argmax(self.responsibilities(X), axis=1).astype(np.int64)

    def log_likelihood(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the sum over the rows of X (n, d) of weight times log density, in nats."""
        density = self.log_density(X)
        return float(density.sum() if sample_weight is None else density @ _weights(sample_weight))

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Akaike's criterion, -2 log-likelihood + 2 n_parameters: lower is better."""
        return -2 * self.log_likelihood(X, sample_weight) + 2 * self.n_parameters

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Schwarz's criterion, -2 log-likelihood + n_parameters ln(n): lower is better.

        With weights, n is their sum.
        """
        n = len(np.asarray(X)) if sample_weight is None else _weights(sample_weight).sum()
        return -2 * self.log_likelihood(X, sample_weight) + self.n_parameters * math.log(n)

    def icl(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return bic + 2 * entropy of the responsibilities: lower is better.

        Biernacki, Celeux and Govaert (2000), the integrated completed likelihood.
        """
        R = self.responsibilities(X)
        entropy = -(R * np.log(np.where(R > 0, R, 1.0))).sum(axis=1)
        total = entropy.sum() if sample_weight is None else entropy @ _weights(sample_weight)
        return self.bic(X, sample_weight) + 2 * float(total)

    def sample(self, n: int, seed: int | None = None) -> tuple[Array, Labels]:
        """Draw n rows: X (n, d) and the component each came from (n,)."""
        if n < 0:
            raise InputError(f"n is {n}: ask for 0 rows or more")
        rng = np.random.default_rng(seed)
        labels = rng.choice(self.k, size=n, p=self.weights / self.weights.sum())
        X = rng.standard_normal((n, self.d))
        for j, factor in enumerate(np.linalg.cholesky(self.covariances)):
            X[labels == j] = X[labels == j] @ factor.T + self.means[j]
        return X, labels.astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain numbers, lists and strings."""
        return {
            "format_version": FORMAT_VERSION,
            "features": None if self.features is None else list(self.features),
            "covariance_type": self.covariance_type,
            "weights": self.weights.tolist(),
            "means": self.means.tolist(),
            "covariances": self.covariances.tolist(),
        }

    def to_json(self) -> str:
        """Return the model as JSON text, every number exact."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Mixture:
        """Read a model from `to_json` or from a run's model.json.

        Raises
        ------
        InputError
            If the text is not such a model, is of a later format, or fails the checks.

        """
        try:
            model = json.loads(text)
        except ValueError as error:
            raise InputError(f"the model is not valid JSON ({error}): write it again") from None
        if not isinstance(model, dict) or not {"weights", "means", "covariances"} <= model.keys():
            raise InputError("the model has no weights, means and covariances: is it a model.json?")
        version = model.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"the model's format_version is {version!r}, this sparkgmm reads {FORMAT_VERSION}: "
                "update sparkgmm or write the model again"
            )
        return cls(
            model["weights"],
            model["means"],
            model["covariances"],
            model.get("covariance_type", "full"),
            model.get("features"),
        )

    def _by_chunks(
        self, X: ArrayLike, reduce: Callable[[Array, Array], Array], shape: tuple[int, ...]
    ) -> Array:
        """Apply `reduce` to the log joint density (rows, k) of a chunk of rows at a time."""
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.d:
            raise InputError(f"X has shape {rows.shape}: give (n, {self.d})")
        out = np.empty((len(rows), *shape))
        step = max(64, _CHUNK_BYTES // (8 * (2 * self.d + self.k)))
        for start in range(0, len(rows), step):
            chunk = rows[start : start + step].astype(np.float64)
            if not np.isfinite(chunk).all():
                row = int(np.argmin(np.isfinite(chunk).all(axis=1)))
                raise InputError(
                    f"X holds {chunk[row].tolist()} in row {start + row}: give finite numbers"
                )
            out[start : start + step] = reduce(self._log_joint(chunk), chunk)
        return out

    def _log_joint(self, X: Array) -> Array:
        """Return log(weight_j N(x_i | mean_j, covariance_j)), shape (n, k).

        The residual is whitened by the inverse Cholesky factor, so nothing cancels.
        """
        joint = np.empty((len(X), self.k))
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for j in range(self.k):
                Y = self._whiteners[j] @ (X - self.means[j]).T
                np.einsum("ij,ij->j", Y, Y, out=joint[:, j])
            joint *= -0.5
            joint += self._log_norms + np.log(self.weights)
        # inf - inf and 0 * inf on the way are overflows too: a distance without bound
        joint[np.isnan(joint)] = -np.inf
        return joint

    def _log_joint_far_out(self, X: Array) -> Array:
        """Stand in for the log joint density where all overflow: 0 for the nearest, else -inf."""
        unit = np.maximum(np.abs(X).max(axis=1, keepdims=True), np.abs(self.means).max())
        distance = np.full((len(X), self.k), np.inf)
        for j in np.flatnonzero(self.weights):
            residual = X / unit - self.means[j] / unit
            distance[:, j] = ((residual @ self._whiteners[j].T) ** 2).sum(axis=1)
        nearest = np.argmin(distance, axis=1)
        return np.where(np.arange(self.k) == nearest[:, None], 0.0, -np.inf)


def _log_sum_exp(joint: Array) -> Array:
    """Return log(sum(exp(joint), axis=1)), never by exponentiating a raw density."""
    top = joint.max(axis=1)
    safe = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(np.exp(joint - safe[:, None]).sum(axis=1)) + safe)


def _weights(sample_weight: ArrayLike) -> Array:
    return np.asarray(sample_weight, dtype=np.float64)


def _checked(
    weights: ArrayLike, means: ArrayLike, covariances: ArrayLike
) -> tuple[Array, Array, Array]:
    """Return private copies, or raise with the name and the value that is off."""
    arrays = []
    for name, value, ndim in (
        ("weights", weights, 1),
        ("means", means, 2),
        ("covariances", covariances, 3),
    ):
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is not an array of numbers: {error}") from None
        if array.ndim != ndim or array.size == 0:
            raise InputError(f"{name} has shape {array.shape}: {ndim} dimension(s) are needed")
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds {array[~np.isfinite(array)][0]}: give finite numbers")
        arrays.append(array)
    w, m, c = arrays
    if m.shape[0] != len(w) or c.shape != (len(w), m.shape[1], m.shape[1]):
        raise InputError(
            f"weights {w.shape}, means {m.shape} and covariances {c.shape} do not fit together: "
            "give (k,), (k, d) and (k, d, d)"
        )
    if (w < 0).any() or abs(w.sum() - 1) > 1e-6:
        raise InputError(f"weights are {w.tolist()}, sum {w.sum():.9g}: give shares that sum to 1")
    scale = np.sqrt(np.abs(np.einsum("kii->ki", c)))
    asymmetry = np.abs(c - c.transpose(0, 2, 1)) > 1e-8 * scale[:, :, None] * scale[:, None, :]
    if asymmetry.any():
        raise InputError(f"covariance {int(np.argwhere(asymmetry)[0, 0])} is not symmetric")
    return w, m, 0.5 * (c + c.transpose(0, 2, 1))


def _check_structure(covariances: Array, covariance_type: str) -> None:
    """Refuse covariances that are not of the type that counts their parameters."""
    d = covariances.shape[1]
    variances = np.einsum("kii->ki", covariances)
    like: Array = {
        "full": covariances,
        "tied": covariances[:1],
        "diag": variances[:, :, None] * np.eye(d),
        "spherical": variances[:, :1, None] * np.eye(d),
    }[covariance_type]
    sd = np.sqrt(np.abs(variances))
    off = np.abs(covariances - like) > 1e-8 * sd[:, :, None] * sd[:, None, :]
    if off.any():
        j = int(np.argwhere(off)[0, 0])
        raise InputError(
            f"covariance {j} is {covariances[j].tolist()}, which is not {covariance_type}: give "
            "covariances of that type, or covariance_type='full'"
        )


def _cholesky(covariances: Array) -> Array:
    for j, covariance in enumerate(covariances):
        try:
            np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise InputError(
                f"covariance {j} is not positive definite (smallest eigenvalue "
                f"{np.linalg.eigvalsh(covariance)[0]:.3g}): raise reg_covar or drop a component"
            ) from None
    return np.linalg.cholesky(covariances)
