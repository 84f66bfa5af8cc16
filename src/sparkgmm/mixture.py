"""The value a user holds: an immutable Gaussian mixture that scores, samples, travels as JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkgmm.errors import InputError
from sparkgmm.formatting import mean_and_sd
from sparkgmm.products import Array as Array
from sparkgmm.products import fill_monomials, multiply, room

Labels = NDArray[np.int64]

FORMAT_VERSION = 1
# A wide mixture is shown in a notebook by its first features.
_SHOWN = 8
COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
# Rows are scored so many at a time that the work arrays, 1 MiB, stay in the cache.
_CHUNK_VALUES = 2**17
# A log density may be wrong by this much, in nats, for the sake of speed.
_TOLERATED = 1e-10
# The polynomial is not worth it where it holds for rows within so many sds of the mean alone.
_LEAST_REACH = 6.0


def n_parameters(k: int, d: int, covariance_type: str) -> int:
    """Count the free parameters: k - 1 weights, k d means, and the covariances of the type."""
    covariances = {
        "full": k * d * (d + 1) // 2,
        "tied": d * (d + 1) // 2,
        "diag": k * d,
        "spherical": k,
    }[covariance_type]
    return k - 1 + k * d + covariances


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
    covariances : array-like of shape (k, d, d), symmetric and positive definite, always dense
    covariance_type : "full", "tied", "diag" or "spherical"; counts the free parameters
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

    """

    __slots__ = (
        "_log_norms",
        "_polynomial",
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
    _polynomial: _Polynomial | None

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
        if features is not None and (
            isinstance(features, str | Mapping) or not hasattr(features, "__len__")
        ):
            raise InputError(f"features is {features!r}: give a list of {d} names")
        if features is not None and len(features) != d:
            raise InputError(f"features holds {len(features)} names for {d} columns of means")
        if features is not None and len(set(map(str, features))) < d:
            raise InputError(f"features is {list(features)}: a name stands twice, give each once")
        _check_structure(values[2], covariance_type)
        factors = _cholesky(values[2])
        with np.errstate(divide="ignore"):
            log_norms = np.log(values[0]) - 0.5 * d * math.log(2 * math.pi)
        log_norms -= np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        whiteners = np.linalg.inv(factors)
        fields: dict[str, Any] = {
            "weights": values[0],
            "means": values[1],
            "covariances": values[2],
            "covariance_type": covariance_type,
            "features": None if features is None else tuple(map(str, features)),
            "_whiteners": whiteners,
            "_log_norms": log_norms,
            "_polynomial": _Polynomial.of(*values, whiteners, log_norms),
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

    def _repr_html_(self) -> str:
        """Return a table for notebooks: a row a component, means and standard deviations."""
        names = list(self.features or [f"x{i}" for i in range(self.d)])
        shown = min(self.d, _SHOWN)
        more = [f"… {self.d - shown} more"] if shown < self.d else []
        heads = ["component", "weight", *names[:shown], *more]
        sd = np.sqrt(np.einsum("kii->ki", self.covariances))
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
    def n_parameters(self) -> int:
        """The number of free parameters of a mixture of this covariance type."""
        return n_parameters(self.k, self.d, self.covariance_type)

    def log_density(self, X: ArrayLike) -> Array:
        """Return the natural log of the density at each row of X (n, d), shape (n,)."""
        return self._score(X, None)

    def responsibilities(self, X: ArrayLike) -> Array:
        """Return P(component | row) for X (n, d), shape (n, k): finite and summing to 1 a row.

        A row so far out that its squared distances overflow goes to the component whose
        Mahalanobis distance grows slowest in its direction, which is the limit.
        """
        return self.score(X).responsibilities

    def score(self, X: ArrayLike) -> Scores:
        """Return log density and responsibilities of X (n, d), for the price of one of them."""
        rows = np.asarray(X)
        R = np.empty((*rows.shape[:1], self.k))
        return Scores(self._score(rows, R), R)

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
        except (ValueError, RecursionError) as error:
            raise InputError(f"the model is not valid JSON ({error}): write it again") from None
        if not isinstance(model, dict) or not {"weights", "means", "covariances"} <= model.keys():
            raise InputError("the model has no weights, means and covariances: is it a model.json?")
        version = model.get("format_version")
        if version != FORMAT_VERSION:
            raise InputError(
                f"the model's format_version is {version!r}, this sparkgmm reads {FORMAT_VERSION}: "
                "update sparkgmm or write the model again"
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

    def _score(self, X: ArrayLike, R: Array | None) -> Array:
        """Return the log density of X (n, d), and fill R (n, k) with the responsibilities.

        Chunks are turned feature-major: then all that follows runs along the rows.
        """
        rows = np.asarray(X)
        if rows.ndim != 2 or rows.shape[1] != self.d:
            raise InputError(f"X has shape {rows.shape}: give (n, {self.d})")
        log_density = np.empty(len(rows))
        n_terms = 2 * self.d if self._polynomial is None else self._polynomial.eta.shape[1]
        step = max(64, _CHUNK_VALUES // (n_terms + 2 * self.k) // 8 * 8)
        work = room(n_terms, min(step, len(rows)))
        for start in range(0, len(rows), step):
            here = slice(start, start + step)
            chunk = np.array(rows[here].T, dtype=np.float64, order="C")
            if not np.isfinite(chunk).all():
                row = int(np.argmin(np.isfinite(chunk).all(axis=0)))
                raise InputError(
                    f"X holds {chunk[:, row].tolist()} in row {start + row}: give finite numbers"
                )
            joint = self._log_joint(chunk, work[:, : chunk.shape[1]])
            top = joint.max(axis=0)
            log_density[here] = top
            far = ~np.isfinite(top)
            if far.any():
                joint[:, far] = self._log_joint_far_out(chunk[:, far])
                top[far] = 0.0
            log_density[here] += _softmax(joint, top)
            if R is not None:
                R[here] = joint.T
        return log_density

    def _log_joint(self, X: Array, work: Array) -> Array:
        """Return log(weight_j N(x_i | mean_j, covariance_j)) of X (d, n), shape (k, n)."""
        if self._polynomial is None:
            return self._log_joint_by_residuals(X)
        joint, beyond = self._polynomial(X, work)
        if beyond.any():
            joint[:, beyond] = self._log_joint_by_residuals(X[:, beyond])
        return joint

    def _log_joint_by_residuals(self, X: Array) -> Array:
        """Do it a component at a time, the residual whitened, so that nothing cancels."""
        joint = np.empty((self.k, X.shape[1]))
        with np.errstate(over="ignore", invalid="ignore"):
            for j in range(self.k):
                Y = self._whiteners[j] @ (X - self.means[j][:, None])
                np.einsum("ij,ij->j", Y, Y, out=joint[j])
            joint *= -0.5
            joint += self._log_norms[:, None]
        # inf - inf and 0 * inf on the way are overflows too: a distance without bound
        joint[np.isnan(joint)] = -np.inf
        return joint

    def _log_joint_far_out(self, X: Array) -> Array:
        """Stand in for the log joint density where all overflow: 0 for the nearest, else -inf."""
        unit = np.maximum(np.abs(X).max(axis=0), np.abs(self.means).max())
        distance = np.full((self.k, X.shape[1]), np.inf)
        for j in np.flatnonzero(self.weights):
            residual = X / unit - self.means[j][:, None] / unit
            distance[j] = ((self._whiteners[j] @ residual) ** 2).sum(axis=0)
        nearest = np.argmin(distance, axis=0)
        return np.where(np.arange(self.k)[:, None] == nearest, 0.0, -np.inf)


class _Polynomial(NamedTuple):
    """The log joint density as a polynomial: eta_j . T(z) with z = (x - shift) * factor.

    T(z) = (1, z, z^2, z_i z_j), without the last where all covariances are diagonal: one product
    serves all components. Its terms cancel where a component is narrow for its distance from the
    shift, so it holds for rows within `reach` of the shift in every z: there the terms sum to less
    than _TOLERATED over the precision of a float64.
    """

    shift: Array
    factor: Array
    eta: Array
    reach: float

    @classmethod
    @np.errstate(all="ignore")
    def of(
        cls, weights: Array, means: Array, covariances: Array, whiteners: Array, log_norms: Array
    ) -> _Polynomial | None:
        """Return the polynomial, or None where it is not worth it."""
        k, d = means.shape
        diagonal = np.count_nonzero(covariances) <= k * d
        if (weights == 0).any() or not (diagonal or k > _pays_above(d)):
            return None
        shift = weights @ means
        spread = np.einsum("kii->ki", covariances) + (means - shift) ** 2
        # a power of two: no digit changes
        factor = np.exp2(-np.round(0.5 * np.log2(weights @ spread)))
        m, V = (means - shift) * factor, whiteners / factor
        reach = _reach(np.abs(m), np.abs(V))
        if not reach >= _LEAST_REACH:  # or it is no number
            return None
        Vm = np.matmul(V, m[:, :, None])
        Vt = np.swapaxes(V, 1, 2)
        P = np.matmul(Vt, V)
        quadratic = [-np.diagonal(P, s, 1, 2) for s in range(1 if diagonal else d)]
        quadratic[0] = 0.5 * quadratic[0]
        constant = log_norms[:, None] - 0.5 * (Vm * Vm).sum(axis=1)
        eta = np.concatenate([constant, np.matmul(Vt, Vm)[:, :, 0], *quadratic], axis=1)
        return cls(shift[:, None], factor[:, None], eta, reach)

    @np.errstate(over="ignore", invalid="ignore")
    def __call__(self, X: Array, T: Array) -> tuple[Array, Array]:
        """Return the log joint density of X (d, n), (k, n), and where it does not hold, (n,).

        T is room for the monomials.
        """
        z = T[1 : 1 + len(X)]
        np.subtract(X, self.shift, out=z)
        z *= self.factor
        fill_monomials(z, T)
        if max(z.max(), -z.min()) <= self.reach:
            beyond = np.zeros(X.shape[1], dtype=bool)
        else:
            beyond = np.abs(z).max(axis=0) > self.reach
        joint = np.empty((len(self.eta), X.shape[1]))
        multiply(self.eta, T, out=joint)
        return joint, beyond


def _pays_above(d: int) -> float:
    """Return how many components of full covariance the polynomial needs to be the faster way.

    Filling T costs the same for one as for fifty. Measured crossings on one core: 3 components at
    d = 5, 6 at 10, 8 at 20, 10 at 30, 17 at 50.
    """
    return 1 + d / 3


def _reach(m: Array, V: Array) -> float:
    """Return r such that for |z| <= r the terms of |V (z - m)|^2 / 2 sum to what is tolerated.

    m (k, d) and V (k, d, d) are absolute values. The precision V^T V is rounded too, from terms
    that may be larger than it is, so the bound is by |V|^T |V|.
    """
    A = np.matmul(np.swapaxes(V, 1, 2), V)
    a = A.sum(axis=(1, 2))
    b = np.einsum("kij,kj->k", A, m)
    c = np.einsum("ki,kij,kj->k", m, A, m)
    terms = 2 * _TOLERATED / np.finfo(np.float64).eps
    return float(((np.sqrt(b * b + a * (terms - c)) - b) / a).min())


def _softmax(joint: Array, top: Array) -> Array:
    """Turn log joint densities (k, n) into responsibilities; top (n,) are their largest.

    Return the log density less the largest, (n,).
    """
    joint -= top
    np.exp(joint, out=joint)
    norm = joint.sum(axis=0)
    joint /= norm
    return np.asarray(np.log(norm))


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
            if np.asarray(value).dtype.kind in "SU":  # numpy would read numbers in it
                raise TypeError("could not convert text")
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
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
    with np.errstate(over="ignore"):  # what overflows is told
        return _shares(w), m, _symmetric(c)


def _shares(w: Array) -> Array:
    if (w < 0).any() or abs(w.sum() - 1) > 1e-6:
        raise InputError(f"weights are {w.tolist()}, sum {w.sum():.9g}: give shares that sum to 1")
    return w


def _symmetric(c: Array) -> Array:
    """Return covariances (k, d, d) that are symmetric to the last bit."""
    scale = np.sqrt(np.abs(np.einsum("kii->ki", c)))
    asymmetry = np.abs(c - c.transpose(0, 2, 1)) > 1e-8 * scale[:, :, None] * scale[:, None, :]
    if asymmetry.any():
        raise InputError(f"covariance {int(np.argwhere(asymmetry)[0, 0])} is not symmetric")
    symmetric = 0.5 * (c + c.transpose(0, 2, 1))
    if not np.isfinite(symmetric).all():
        raise InputError(
            f"covariances hold {np.abs(c).max():.3g}, too large for float64: rescale the features"
        )
    return symmetric


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
