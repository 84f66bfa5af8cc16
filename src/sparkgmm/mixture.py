"""The value a user holds: an immutable Gaussian mixture that scores, samples, travels as JSON."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkgmm import checks, conditionals
from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.stacks import Stack
from sparkgmm.density import Density
from sparkgmm.errors import InputError
from sparkgmm.formatting import mean_and_sd
from sparkgmm.levels import filled_table, read_mixed_like
from sparkgmm.merging import Groups, merged
from sparkgmm.options import MISSING, taken
from sparkgmm.parts import Column, Part, Parts, Poisson
from sparkgmm.products import Array as Array
from sparkgmm.tabular import as_table

Labels = NDArray[np.int64]

# So many rows, drawn from the mixture, stand for the data where components are merged without any.
_MERGE_ROWS = 20_000
# Of models as JSON: 2 has the covariances in the shape of their type, 1 had them dense. 3 is 2 with
# categorical or counts, without which a mixture is written as 2.
FORMAT_VERSION = 2
FORMAT_VERSION_WITH_PARTS = 3
FORMATS_READ = (1, 2, 3)
# A wide mixture is shown in a notebook by its first features.
_SHOWN = 8
COVARIANCE_TYPES = tuple(FAMILIES)


def n_parameters(k: int, d: int, covariance_type: str) -> int:
    """Count the free parameters: k - 1 weights, k d means, and the covariances of the type."""
    return k - 1 + k * d + FAMILIES[covariance_type].n_parameters(k, d)


def named(parts: Sequence[Part]) -> dict[str, dict[str, Any]]:
    """Return what `Mixture` takes parts by: `categorical` and `counts`, by the columns' names."""
    by_kind: dict[str, dict[str, Any]] = {}
    for part in parts:
        by_kind.setdefault(part.of.kind, {})[part.of.name] = part.written()
    return by_kind


def as_dict(
    features: Sequence[str] | None,
    covariance_type: str,
    weights: Array,
    means: Array,
    covariances: Array,
    missing: str | None = None,
) -> dict[str, Any]:
    """Return a model without parts beside the Gaussian as plain numbers, lists and strings.

    The covariances are in the shape of their type.
    """
    return {
        "format_version": FORMAT_VERSION,
        "features": None if features is None else list(features),
        **({} if missing is None else {"missing": missing}),
        "covariance_type": covariance_type,
        "weights": weights.tolist(),
        "means": means.tolist(),
        "covariances": covariances.tolist(),
    }


class Scores(NamedTuple):
    """Of n rows: the natural log of the density (n,), and P(component | row) (n, k)."""

    log_density: Array
    responsibilities: Array


class Mixture:
    """A Gaussian mixture in the data's own units.

    Rows X that methods take are arrays (n, d), or tables of pandas, polars or pyarrow: a table
    whose columns are named is taken by `features`, in any order, whatever other columns it has.

    A component may have factors beside its Gaussian: of each categorical column a multinomial, of
    each column of counts a Poisson, independent within the component. Tables have those columns by
    their names too; an array (n, D) has them after the numeric ones, in the order of `columns`,
    levels as their numbers from 0. A level that the mixture does not have, None and NaN in such a
    column count as not known, and are integrated out; where no row of a table has a level that the
    mixture has, a `UserWarning` says so. Levels of booleans are known as 1 and 0 too, and those of
    integers as floats.

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
    categorical : {column: {level: (k,) probabilities}}, which sum to 1 over the levels; or None
    counts : {column: (k,) rates}, the mean counts; or None
    missing : "invalid" or "model": what NaN in rows is
        With "model", as `fit_array` and jobs set it where they were told so, it is a missing value,
        which is integrated over: the density and responsibilities of a row are those of what it
        has. Those of a row that has nothing are 1 and the weights. With "invalid" it is an error.

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

    Two classes of rows, told apart by a level and a count alone:

    >>> levels = {"no": [0.9, 0.2], "yes": [0.1, 0.8]}
    >>> beside = {"categorical": {"paid": levels}, "counts": {"n": [1, 5]}}
    >>> mixture = Mixture([0.5, 0.5], [[], []], [[], []], "diag", **beside)
    >>> mixture.columns
    ('paid', 'n')
    >>> mixture.responsibilities([[0, 1], [1, 4], [float("nan"), 4]]).round(3).tolist()
    [[0.98, 0.02], [0.011, 0.989], [0.08, 0.92]]

    """

    __slots__ = (
        "_density",
        "covariance_type",
        "features",
        "means",
        "missing",
        "parts",
        "stack",
        "weights",
    )

    weights: Array
    means: Array
    covariance_type: str
    features: tuple[str, ...] | None
    missing: str
    stack: Stack
    parts: Parts
    _density: Density

    def __init__(
        self,
        weights: ArrayLike,
        means: ArrayLike,
        covariances: ArrayLike,
        covariance_type: str = "full",
        features: Sequence[str] | None = None,
        categorical: Mapping[str, Mapping[str, ArrayLike]] | None = None,
        counts: Mapping[str, ArrayLike] | None = None,
        missing: str = MISSING.default,
    ) -> None:
        family = FAMILIES[checks.family_name(covariance_type)]
        beside = bool(categorical or counts)
        w, mu, stack = checks.parameters(weights, means, covariances, family, beside)
        names = checks.feature_names(features, mu.shape[1])
        parts = checks.parts(categorical, counts, w, names, mu.shape[1])
        for array in (w, mu, stack.values):
            array.setflags(write=False)
        fields: dict[str, Any] = {
            "weights": w,
            "means": mu,
            "covariance_type": covariance_type,
            "features": names,
            "missing": taken(MISSING, missing, MISSING.name),
            "stack": stack,
            "parts": parts,
            "_density": Density.of(w, mu, stack, parts),
        }
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Mixture is immutable: {name} cannot be set; build another one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Mixture is immutable: {name} cannot be deleted")

    def __reduce__(self) -> tuple[Any, ...]:
        return Mixture, self._arguments(self.missing)

    def with_missing(self, missing: str) -> Mixture:
        """Return the same mixture, for which NaN in rows is "invalid" or to "model"."""
        return Mixture(*self._arguments(missing))

    def _arguments(self, missing: str) -> tuple[Any, ...]:
        """Return what makes this mixture, or one that takes NaN for something else."""
        return (
            self.weights,
            self.means,
            self.compact_covariances,
            self.covariance_type,
            self.features,
            self.categorical,
            self.counts,
            missing,
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
        beside = self.parts[:_SHOWN]
        more = [f"… {self.d - shown} more"] if shown < self.d else []
        heads = ["component", "weight", *names[:shown], *more, *(part.of.name for part in beside)]
        sd = np.sqrt(self.variances)
        rows = [
            [
                str(j),
                f"{self.weights[j]:.4f}",
                *(mean_and_sd(self.means[j, i], sd[j, i]) for i in range(shown)),
                *[""] * len(more),
                *(part.summary(j) for part in beside),
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
    def columns(self) -> tuple[str, ...] | None:
        """The names of all columns: the numeric features, the categorical ones, the counts."""
        if not self.parts:
            return self.features
        return (*(self.features or ()), *(part.of.name for part in self.parts))

    @property
    def categorical(self) -> dict[str, dict[str, Array]]:
        """The probabilities of the levels of each categorical column, (k,) each."""
        by_name = named(self.parts).get("categorical", {})
        return {
            name: {level: np.array(p) for level, p in by_level.items()}
            for name, by_level in by_name.items()
        }

    @property
    def counts(self) -> dict[str, Array]:
        """The rates of each column of counts, (k,) each."""
        return {
            name: np.array(rates) for name, rates in named(self.parts).get("counts", {}).items()
        }

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
        of_parts = sum(part.n_parameters for part in self.parts)
        return n_parameters(self.k, self.d, self.covariance_type) + of_parts

    def log_density(self, X: ArrayLike) -> Array:
        """Return the natural log of the density at each row of X (n, d), shape (n,)."""
        return self._density.score(self._rows(X), missing=self._gaps)

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
        return Scores(self._density.score(rows, R, self._gaps), R)

    def score_with_gaps(self, X: ArrayLike) -> Scores:
        """Return log density and responsibilities of what rows X (n, D) have; NaN is not known.

        The densities are of as many features as a row has: those of rows with other gaps do not
        compare. Of a row that has nothing they are 0 and the weights.
        """
        return Scores(*conditionals.scores_with_gaps(self._components, self._rows_with_gaps(X)))

    def predict(self, X: ArrayLike) -> Labels:
        """Return the most responsible component of each row of X (n, d), shape (n,)."""
        return np.argmax(self.responsibilities(X), axis=1).astype(np.int64)

    def log_likelihood(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the sum over the rows of X (n, d) of weight times log density, in nats."""
        density = self.log_density(X)
        if sample_weight is None:
            return float(density.sum())
        return float(density @ checks.row_weights(sample_weight, len(density)))

    def aic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Akaike's criterion, -2 log-likelihood + 2 n_parameters: lower is better."""
        return -2 * self.log_likelihood(X, sample_weight) + 2 * self.n_parameters

    def bic(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return Schwarz's criterion, -2 log-likelihood + n_parameters ln(n): lower is better.

        With weights, n is their sum.
        """
        rows = self._rows(X)
        n = checks.row_weights(sample_weight, len(rows)).sum()
        if n <= 0:
            raise InputError("there is no row with a weight above 0: give one or more")
        return -2 * self.log_likelihood(rows, sample_weight) + self.n_parameters * math.log(n)

    def icl(self, X: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return bic + 2 * entropy of the responsibilities: lower is better.

        Biernacki, Celeux and Govaert (2000), the integrated completed likelihood.
        """
        rows = self._rows(X)
        R = self.responsibilities(rows)
        entropy = -(R * np.log(np.where(R > 0, R, 1.0))).sum(axis=1)
        total = entropy.sum()
        if sample_weight is not None:
            total = entropy @ checks.row_weights(sample_weight, len(rows))
        return self.bic(rows, sample_weight) + 2 * float(total)

    def _rows(self, X: ArrayLike) -> NDArray[Any]:
        return read_mixed_like(X, self.features, self.d, self._beside, gaps=self._gaps)

    @property
    def _beside(self) -> list[Column]:
        """The columns of levels and counts."""
        return [part.of for part in self.parts]

    @property
    def _gaps(self) -> bool:
        """Whether NaN is a missing value."""
        return self.missing == "model"

    def sample(self, n: int, seed: int | None = None) -> tuple[Array, Labels]:
        """Draw n rows: X (n, d) and the component each came from (n,).

        With categorical columns or counts X is (n, D), in the order of `columns`, and has the
        numbers of levels.
        """
        n, rng = checks.drawn(n), checks.generator(seed)
        labels = rng.choice(self.k, size=n, p=self.weights / self.weights.sum())
        X = rng.standard_normal((n, self.d))
        for j, mean in enumerate(self.means):
            X[labels == j] = self.stack.coloured(j, X[labels == j]) + mean
        if self.parts:
            beside = [part.sample(labels, rng) for part in self.parts]
            X = np.concatenate([X, np.stack(beside, axis=1)], axis=1)
        return X, labels.astype(np.int64)

    def marginal(self, features: str | int | Iterable[str | int]) -> Mixture:
        """Return the mixture of some features, whatever all other columns are.

        Parameters
        ----------
        features : names, or positions from 0, in the order that the result is to have; categorical
            columns and counts, by their names, come after the numeric ones

        Raises
        ------
        InputError
            If there is no such feature, or one is given twice.

        """
        numeric, parts = checks.of_parts(features, self.parts)
        which = checks.feature_positions(numeric, self.features, self.d)
        if not len(which) and not parts:
            raise InputError("features is empty: name one or more")
        return self._of_features(self._gaussians.take(which), which, parts)

    def condition(self, values: Mapping[str | int, float]) -> Mixture:
        """Return the mixture of the other features where some have these values.

        log_density(x) = marginal(some).log_density(x_some) + condition(...).log_density(x_others).

        Parameters
        ----------
        values : {feature: value, ...}, by names or by positions from 0; of a categorical column one
            of its levels

        Returns
        -------
        Mixture
            Of as many components, in their order; their weights are the responsibilities at the
            values, which may be 0. A VEV mixture's is full, other covariance types stay.

        Raises
        ------
        InputError
            If there is no such feature or level, a value is not finite, or no other feature is
            left.

        """
        known = checks.part_values(values, self.parts)
        numeric = values
        if known:
            numeric = {name: value for name, value in values.items() if name not in known}
        o, row = checks.feature_values(numeric, self.features, self.d)
        u = np.setdiff1d(np.arange(self.d), o)
        others = tuple(part for part in self.parts if part.of.name not in known)
        if not len(u) and not others:
            raise InputError("every feature has a value: leave one or more without")
        given = self._gaussians
        if known:
            shares = checks.weights_given(self.weights, self.parts, known)
            given = replace(given, weights=shares)
        rest = conditionals.conditional(given, o, row, u) if len(o) else given.take(u)
        return self._of_features(rest, u, others)

    def expect(
        self, X: ArrayLike, features: str | int | Iterable[str | int]
    ) -> tuple[Array, Array]:
        """Return mean and standard deviation of features given the rest of each row.

        Regression on whatever the row has: for one component it is the linear regression on all
        other features, for several a mixture of such (Ghahramani and Jordan 1994). Levels and
        counts that a row has say which component it is of.

        Parameters
        ----------
        X : rows (n, D), D the numeric features, categorical columns and counts; what stands in the
            columns of `features` is not looked at, and what is NaN in others counts as not known
        features : m names, or positions from 0 in the order of `columns`: numeric, or of counts

        Returns
        -------
        mean, sd : both (n, m), in the order of `features`

        Raises
        ------
        InputError
            If there is no such feature, it is categorical, or X is not as above.

        """
        which = checks.of_quantities(features, self.columns, self.d, self.parts)
        rows = self._rows_with_gaps(X, which.tolist())
        mean, sd = np.empty((2, len(rows), len(which)))
        numeric = which < self.d
        if numeric.any():
            of_numbers = conditionals.moments(self._components, rows, which[numeric])
            mean[:, numeric], sd[:, numeric] = of_numbers
        if not numeric.all():
            shares = conditionals.scores_with_gaps(self._components, rows)[1]
            for at in np.flatnonzero(~numeric):
                part = self.parts[which[at] - self.d]
                assert isinstance(part, Poisson)
                mean[:, at], sd[:, at] = part.likely(shares), part.deviations(shares)
        return mean, sd

    def impute(self, X: ArrayLike) -> Any:
        """Return X (n, D) with what is not known replaced by what is expected given its row.

        NaN among numbers becomes the mean given what the row has, a count that is not known its
        mean, too, which need not be whole, and a level the most probable one. A row of nothing but
        NaN becomes what the mixture is on average. What is there stays as it is: so does a level
        that the mixture does not have.

        Returns
        -------
        ndarray, or a table of X's kind
            Numbers and counts are float64, levels of an array their numbers; a table's levels are
            what its column has for them, and its other columns unchanged.

        Raises
        ------
        InputError
            If X does not have the columns, or holds an infinite value or what is no count.

        """
        filled = conditionals.imputed(self._components, self._rows_with_gaps(X))
        table = as_table(X)
        if table is None or table.names is None:
            return filled
        names = self.features or (() if self.parts else table.names)
        return filled_table(table, names, filled, self._beside)

    def surprise(self, X: ArrayLike) -> Array:
        """Return -log p(a value | the others of its row), (n, D), in nats, in the order of columns.

        It tells which cell makes a row strange: the density of the row alone does not. Values of a
        feature compare between rows; between features of different units they do up to the log of
        the units. Levels and counts have probabilities, which compare as they are. A NaN counts as
        not known, and so does a level that the mixture does not have: its own surprise is NaN.

        Raises
        ------
        InputError
            If X does not have the columns, or holds an infinite value or what is no count.

        """
        return conditionals.surprises(self._components, self._rows_with_gaps(X))

    def quantile(self, q: ArrayLike, feature: str | int) -> Any:
        """Return the value of a feature that has the share q of the mixture's mass below it.

        Parameters
        ----------
        q : shares from 0 to 1, a number or an array of any shape
        feature : a name, or a position from 0; a numeric one

        Returns
        -------
        float or ndarray
            As q is, in the feature's units; -inf at 0 and inf at 1.

        Raises
        ------
        InputError
            If there is no such feature, it is not numeric, or a share is not from 0 to 1.

        """
        checks.is_numeric(feature, self.parts)
        which = checks.feature_positions(feature, self.features, self.d)
        if len(which) != 1:
            raise InputError(f"feature is {feature!r}: give one")
        try:
            shares = np.asarray(q, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(f"q is {q!r}: give shares from 0 to 1") from None
        if not ((shares >= 0) & (shares <= 1)).all():
            raise InputError(f"q is {q!r}: give shares from 0 to 1")
        component = self._gaussians.take(which)
        values = [conditionals.quantile(component, float(share)) for share in shares.ravel()]
        return np.array(values).reshape(shares.shape) if shares.ndim else values[0]

    def merge(
        self,
        threshold: float | None = None,
        k: int | None = None,
        X: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Groups:
        """Return groups of components that together are one cluster, by entropy.

        Several Gaussians may be needed for one cluster that is not Gaussian itself. The two groups
        whose merger lowers the entropy of the responsibilities most are merged, one after the other
        (Baudry, Raftery, Celeux, Lo and Gottardo 2010).

        Parameters
        ----------
        threshold : merge until the mean entropy of the groups' responsibilities is at most so many
            nats a row. An integer above 0 in its place is taken as `k`.
        k : merge until so many groups are left. Give one of the two.
        X : the rows (n, d) over which the entropy is taken; without any, 20,000 that are drawn from
            the mixture, always the same
        sample_weight : (n,) weights of the rows of X, or None

        Returns
        -------
        tuple of tuples of int
            The components of each group; `responsibilities(X)[:, group].sum(axis=1)` is what a
            group gets.

        Raises
        ------
        InputError
            If both or none of threshold and k are given, or one is out of its range.

        """
        if isinstance(threshold, int | np.integer) and threshold > 0 and k is None:
            threshold, k = None, int(threshold)
        n_groups, least = checks.merging(threshold, k, self.k)
        rows = self.sample(_MERGE_ROWS, seed=0)[0] if X is None else X
        R = self.responsibilities(rows)
        return merged(R, checks.row_weights(sample_weight, len(R)), n_groups, least)

    @property
    def _components(self) -> conditionals.Components:
        return replace(self._gaussians, parts=self.parts)

    @property
    def _gaussians(self) -> conditionals.Components:
        diagonal = FAMILIES[self.covariance_type].diagonal
        matrices = self.variances if diagonal else self.covariances
        return conditionals.Components(self.weights, self.means, matrices)

    def _of_features(
        self, components: conditionals.Components, which: conditionals.Positions, parts: Parts = ()
    ) -> Mixture:
        family = FAMILIES[FAMILIES[self.covariance_type].known_as if len(which) else "diag"]
        matrices = components.matrices
        if not len(which):
            matrices = components.means
        elif family.shared:
            matrices = matrices[0]
        elif len(family.shape(1, 1)) == 1:
            matrices = matrices[:, 0]
        return Mixture(
            components.weights / components.weights.sum(),
            components.means,
            matrices,
            family.name,
            None if self.features is None else [self.features[i] for i in which],
            missing=self.missing,
            **dict[str, Any](named(parts)),
        )

    def _rows_with_gaps(self, X: ArrayLike, unread: Sequence[int] = ()) -> Array:
        """Return rows (n, D) as float64, NaN where nothing is known or is to be looked at."""
        rows = read_mixed_like(X, self.features, self.d, self._beside, unread, gaps=True)
        rows = rows.astype(np.float64)
        infinite = np.isinf(rows[:, : self.d]).any(axis=1)
        if infinite.any():
            row = int(np.argmax(infinite))
            raise InputError(
                f"X holds {rows[row].tolist()} in row {row}: give finite numbers, or NaN for what "
                "is not known"
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Return the model as plain numbers, lists and strings."""
        covariances = self.compact_covariances
        missing = self.missing if self._gaps else None
        model = as_dict(
            self.features, self.covariance_type, self.weights, self.means, covariances, missing
        )
        if self.parts:
            model["format_version"] = FORMAT_VERSION_WITH_PARTS
        return model | named(self.parts)

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
        if not isinstance(text, str | bytes | bytearray):
            raise InputError(
                f"the model is {type(text).__name__}, not text: give what to_json returned, or "
                "what a model.json holds"
            )
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
                f"{FORMATS_READ[-1]}: update sparkgmm or write the model again"
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
            model.get("categorical"),
            model.get("counts"),
            model.get("missing", MISSING.default),
        )
