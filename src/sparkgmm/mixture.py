"""The value a user holds: an immutable Gaussian mixture that scores, samples, travels as JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkgmm import checks
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.stacks import Stack
from sparkgmm.density import Density
from sparkgmm.errors import InputError
from sparkgmm.formatting import mean_and_sd
from sparkgmm.products import Array as Array

Labels = NDArray[np.int64]

# Of models as JSON: 2 has the covariances in the shape of their type, 1 had them dense.
FORMAT_VERSION = 2
FORMATS_READ = (1, 2)
# A wide mixture is shown in a notebook by its first features.
_SHOWN = 8
COVARIANCE_TYPES = tuple(FAMILIES)


def n_parameters(k: int, d: int, covariance_type: str) -> int:
    """Count the free parameters: k - 1 weights, k d means, and the covariances of the type."""
    return k - 1 + k * d + FAMILIES[covariance_type].n_parameters(k, d)


class Scores(NamedTuple):
    """Of n rows: the natural log of the density (n,), and P(component | row) (n, k)."""

    log_density: Array
    responsibilities: Array


class Mixture:
    """A Gaussian mixture in the data's own units.

    Parameters
    ----------
    weights : array-like of shape (k,), positive, summing to 1
    means : array-like of shape (k, d)
    covariances : array-like, symmetric and positive definite
        In the shape of their type: (k, d, d) of full and VEV, (d, d) of tied, (k, d) variances of
        diag, (k,) variances of spherical; or dense, (k, d, d), of any type. They are kept in the
        shape of their type, and nothing that a mixture does makes them dense but the property
        `covariances`.
    covariance_type : "full", "tied", "diag", "spherical" or "VEV"; counts the free parameters
    features : d names, or None

    Raises
    ------
    InputError
        If a shape, a value or the covariance type is not as above.

    Examples
    --------
    >>> from sparkgmm import Mixture
    >>> mixture = Mixture([0.5, 0.5], [[-1.0], [1.0]], [[[1.0]], [[1.0]]])
    >>> mixture.responsibilities([[0.0], [1.0]]).round(3).tolist()
    [[0.5, 0.5], [0.119, 0.881]]
    >>> mixture.n_parameters
    5
    >>> Mixture.from_json(mixture.to_json()) == mixture
    True
    >>> Mixture([1.0], [[0.0, 0.0]], [[1.0, 4.0]], "diag").covariances.tolist()
    [[[1.0, 0.0], [0.0, 4.0]]]

    """

    __slots__ = (
        "_density",
        "covariance_type",
        "features",
        "means",
        "stack",
        "weights",
    )

    weights: Array
    means: Array
    covariance_type: str
    features: tuple[str, ...] | None
    stack: Stack
    _density: Density

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        covariance_type: str = "full",
        features: Sequence[str] | None = None,
    ) -> None:
        family = FAMILIES[checks.family_name(covariance_type)]
        w, mu, stack = checks.parameters(weights, means, covariances, family)
        names = checks.feature_names(features, mu.shape[1])
        for array in (w, mu, stack.values):
            array.setflags(write=False)
        fields: dict[str, Any] = {
            "weights": w,
            "means": mu,
            "covariance_type": covariance_type,
            "features": names,
            "stack": stack,
            "_density": Density.of(w, mu, stack),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Mixture is immutable: {name} cannot be set; build another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Mixture is immutable: {name} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return Mixture, (
            self.weights,
            self.means,
            self.compact_covariances,
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

    def _repr_html_(self) -> str:
        """Return a table for notebooks: a row a component, means and standard deviations."""
        names = list(self.features or [f"x{i}" for i in range(self.d)])
        shown = min(self.d, _SHOWN)
        more = [f"… {self.d - shown} more"] if shown < self.d else []
        heads = ["component", "weight", *names[:shown], *more]
        sd = np.sqrt(self.variances)
        rows = [
            [
                str(j),
                f"{self.weights[j]:.4f}",
                *(mean_and_sd(self.means[j, i], sd[j, i]) for i in range(shown)),
                *[""] * len(more),
            ]
            for j in range(self.k)
        ]
        head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in row) + "</tr>"
            for row in rows
        )
        return (
            f"<table><caption>Gaussian mixture, {self.covariance_type} covariance, mean ± standard "
            f"deviation</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
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
    def covariances(self) -> Array:
        """The covariances, one a component, (k, d, d), read-only; made when they are asked for.

        Of a diag, spherical or tied mixture of many features they take far more memory than the
        mixture itself: `compact_covariances` and `variances` do not.
        """
        return self.stack.dense(self.k)

    @property
    def compact_covariances(self) -> Array:
        """The covariances in the shape of their type, read-only.

        (k, d, d) of full and VEV, (d, d) of tied, (k, d) variances of diag, (k,) of spherical.
        """
        return FAMILIES[self.covariance_type].compact(self.stack.values)

    @property
    def variances(self) -> Array:
        """The variance of each feature in each component, (k, d)."""
        return np.broadcast_to(self.stack.variances, self.means.shape)

    @property
    def n_parameters(self) -> int:
        """The number of free parameters of a mixture of this covariance type."""
        return n_parameters(self.k, self.d, self.covariance_type)

    def log_density(self, X: ArrayLike) -> Array:
        """Return the natural log of the density at each row of X (n, d), shape (n,)."""
        return self._density.score(self._rows(X))

    def responsibilities(self, X: ArrayLike) -> Array:
        """Return P(component | row) for X (n, d), shape (n, k): finite and summing to 1 a row.

        A row so far out that its squared distances overflow goes to the component whose
        Mahalanobis distance grows slowest in its direction, which is the limit.
        """
        return self.score(X).responsibilities

    def score(self, X: ArrayLike) -> Scores:
        """Return log density and responsibilities of X (n, d), for the price of one of them."""
        rows = self._rows(X)
        R = np.empty((len(rows), self.k))
        return Scores(self._density.score(rows, R), R)

    def predict(self, X: ArrayLike) -> Labels:
        """Return the most responsible component of each row of X (n, d), shape (n,)."""
        return np.argmax(self.responsibilities(X), axis=1).astype(np.int64)

    def log_likelihood(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the sum over the rows of X (n, d) of weight times log density, in nats."""
        density = self.log_density(X)
        return float(
            density.sum() if sample_weight is None else density @ checks.row_weights(sample_weight)
        )

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Akaike's criterion, -2 log-likelihood + 2 n_parameters: lower is better."""
        return -2 * self.log_likelihood(X, sample_weight) + 2 * self.n_parameters

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Schwarz's criterion, -2 log-likelihood + n_parameters ln(n): lower is better.

        With weights, n is their sum.
        """
        n = len(np.asarray(X)) if sample_weight is None else checks.row_weights(sample_weight).sum()
        return -2 * self.log_likelihood(X, sample_weight) + self.n_parameters * math.log(n)

    def icl(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return bic + 2 * entropy of the responsibilities: lower is better.

        Biernacki, Celeux and Govaert (2000), the integrated completed likelihood.
        """
        R = self.responsibilities(X)
        entropy = -(R * np.log(np.where(R > 0, R, 1.0))).sum(axis=1)
        total = (
            entropy.sum() if sample_weight is None else entropy @ checks.row_weights(sample_weight)
        )
        return self.bic(X, sample_weight) + 2 * float(total)

    def _rows(self, X: ArrayLike) -> NDArray[Any]:
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.d:
            raise InputError(f"X has shape {rows.shape}: give (n, {self.d})")
        return rows

    def sample(self, n: int, seed: int | None = None) -> tuple[Array, Labels]:
        """Draw n rows: X (n, d) and the component each came from (n,)."""
        if n < 0:
            raise InputError(f"n is {n}: ask for 0 rows or more")
        rng = np.random.default_rng(seed)
        labels = rng.choice(self.k, size=n, p=self.weights / self.weights.sum())
        X = rng.standard_normal((n, self.d))
        for j, mean in enumerate(self.means):
            X[labels == j] = self.stack.coloured(j, X[labels == j]) + mean
        return X, labels.astype(np.int64)

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain numbers, lists and strings."""
        return {
            "format_version": FORMAT_VERSION,
            "features": None if self.features is None else list(self.features),
            "covariance_type": self.covariance_type,
            "weights": self.weights.tolist(),
            "means": self.means.tolist(),
            "covariances": self.compact_covariances.tolist(),
        }

    def to_json(self) -> str:
        """Return the model as JSON text, every number exact."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Mixture:
        """Read a model from `to_json` or from a run's model.json, of this or an earlier version.

        Raises
        ------
        InputError
            If the text is not such a model, is of a later format, or fails the checks.

        """
        try:
            model = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"the model is not valid JSON ({error}): write it again") from None
        if not isinstance(model, dict) or not {"weights", "means", "covariances"} <= model.keys():
            raise InputError("the model has no weights, means and covariances: is it a model.json?")
        version = model.get("format_version")
        if type(version) is not int or version not in FORMATS_READ:
            raise InputError(
                f"the model's format_version is {version!r}, this sparkgmm reads 1 to "
                f"{FORMAT_VERSION}: update sparkgmm or write the model again"
            )
        features = model.get("features")
        if isinstance(features, list) and not all(isinstance(name, str) for name in features):
            raise InputError(f"the model's features is {features!r}: give names as text")
        return cls(
            model["weights"],
            model["means"],
            model["covariances"],
            model.get("covariance_type", "full"),
            features,
        )
