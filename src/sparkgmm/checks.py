"""What a user may give for a mixture: each check returns what is right, or says what is not.

Every one raises `InputError` with the name, the value met and what to give instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sparkgmm.covariances import FAMILIES
from sparkgmm.covariances.family import Family
from sparkgmm.covariances.stacks import Stack
from sparkgmm.errors import InputError, Way
from sparkgmm.parts import Column, Multinomial, Part, Parts, Poisson, level_of, text_of
from sparkgmm.products import Array

# Means farther from the rows than so many of their ranges leave no digits of the distances.
_FAR = 1e6
# Eigenvalues and -vectors make a matrix again to so many units of rounding of its largest value.
_ROUNDINGS = 64
_MARGINAL = Way("give mixture.marginal(mixture.features)")


def family_name(covariance_type: str) -> str:
    """Return the name of a covariance type that there is."""
    if covariance_type not in tuple(FAMILIES):  # whatever it is, hashable or not
        raise InputError(
            f"covariance_type is {covariance_type!r}: use one of {', '.join(FAMILIES)}"
        )
    return covariance_type


def feature_names(features: Sequence[str] | None, d: int) -> tuple[str, ...] | None:
    """Return d distinct names as text, or None where none are given."""
    if features is None:
        return None
    if isinstance(features, str | Mapping) or not hasattr(features, "__len__"):
        raise InputError(f"features is {features!r}: give a list of {d} names")
    if len(features) != d:
        raise InputError(f"features holds {len(features)} names for {d} columns of means")
    if len(set(map(str, features))) < d:
        raise InputError(f"features is {list(features)}: a name appears twice, give each once")
    return tuple(map(str, features))


def feature_positions(
    features: str | int | Iterable[str | int], names: Sequence[str] | None, d: int
) -> NDArray[np.intp]:
    """Return where features are among d, by their names or by their positions from 0, each once."""
    if isinstance(features, str | int | np.integer):
        features = [features]
    try:
        found = [_feature_position(feature, names, d) for feature in features]
    except TypeError:
        raise InputError(f"features is {features!r}: give a list of names or positions") from None
    if len(set(found)) < len(found):
        raise InputError(f"features is {list(features)}: a feature appears twice, give each once")
    return np.array(found, dtype=np.intp)


def _feature_position(feature: Any, names: Sequence[str] | None, d: int) -> int:
    if isinstance(feature, int | np.integer) and not isinstance(feature, bool):
        if not 0 <= feature < d:
            raise InputError(f"there is no feature {feature}: give a position from 0 to {d - 1}")
        return int(feature)
    if names is None:
        raise InputError(
            f"there is no feature {feature!r}, as this mixture's have no names: give positions "
            f"from 0 to {d - 1}"
        )
    if feature not in names:
        near = get_close_matches(str(feature), names, 1)
        known = f"did you mean {near[0]!r}?" if near else f"give some of {', '.join(names)}"
        raise InputError(f"there is no feature {feature!r}: {known}")
    return names.index(feature)


def feature_values(
    given: Mapping[str | int, float], names: Sequence[str] | None, d: int
) -> tuple[NDArray[np.intp], Array]:
    """Return where the features of a mapping are, and their values, finite numbers."""
    if not isinstance(given, Mapping):
        raise InputError(f"the values are {given!r}: give a mapping, {{feature: value, ...}}")
    which = feature_positions(list(given), names, d)
    for feature, value in given.items():
        if isinstance(value, str) or not np.ndim(value) == 0 or not _is_finite(value):
            raise InputError(f"the value of {feature!r} is {value!r}: give a finite number")
    return which, np.array([float(value) for value in given.values()])


def _is_finite(value: Any) -> bool:
    try:
        return bool(np.isfinite(float(value)))
    except (TypeError, ValueError, OverflowError):
        return False


def row_weights(sample_weight: ArrayLike | None, n: int) -> Array:
    """Return the weights of n rows as numbers, (n,): ones where there are none.

    Raises
    ------
    InputError
        If they are no finite numbers of 0 or more, one a row.

    """
    if sample_weight is None:
        weights = np.ones(n)
    else:
        weights = numbers("sample_weight", sample_weight)
        if weights.shape != (n,):
            raise InputError(f"sample_weight has shape {weights.shape}: give ({n},), one a row")
        if (weights < 0).any():
            raise InputError(
                f"sample_weight holds {weights.min():g}: give finite weights of 0 or more"
            )
    return weights


def numbers(name: str, value: ArrayLike) -> Array:
    """Return finite real numbers as an array of float64, or say what of `name` is none."""
    try:
        found = np.asarray(value)
        if found.dtype.kind in "SUcmM":  # text, complex, dates: numpy would make numbers of some
            raise TypeError(f"it holds values of type {found.dtype}")
        array = np.array(found, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} is no array of numbers ({error}): give numbers") from None
    if not np.isfinite(array).all():
        raise InputError(f"{name} holds {array[~np.isfinite(array)][0]}: give finite numbers")
    return array


def start_means(means: ArrayLike, k: int, low: Array, high: Array) -> Array:
    """Return means to start from, (k, d): not farther from the rows than float64 can tell."""
    array = numbers("means_init", means)
    if array.shape != (k, len(low)):
        raise InputError(f"means_init has shape {array.shape}: give {(k, len(low))}, a row each")
    width = np.maximum(high - low, np.finfo(float).tiny)
    with np.errstate(over="ignore"):
        far = np.maximum(low - array, array - high) > _FAR * width
    if far.any():
        j, i = map(int, np.argwhere(far)[0])
        raise InputError(
            f"means_init holds {array[j, i]:g} in row {j}, column {i}, far from the rows, which go "
            f"from {low[i]:g} to {high[i]:g} there: give means among them"
        )
    return array


def start_weights(weights: ArrayLike | None, k: int) -> Array:
    """Return weights to start from, (k,): equal ones where there are none."""
    if weights is None:
        return np.full(k, 1 / k)
    array = numbers("weights_init", weights)
    if array.shape != (k,):
        raise InputError(f"weights_init has shape {array.shape}: give ({k},), one a component")
    if (array < 0).any() or abs(array.sum() - 1) > 1e-6:
        raise InputError(
            f"weights_init is {array.tolist()}, sum {array.sum():.9g}: give shares that sum to 1"
        )
    return np.maximum(array, np.finfo(float).tiny)  # which has a logarithm


def start_precisions(precisions: ArrayLike, shapes: Iterable[tuple[int, ...]]) -> Array:
    """Return inverse covariances to start from, of one of these shapes."""
    array = numbers("precisions_init", precisions)
    if array.shape not in shapes:
        known = " or ".join(map(str, sorted(set(shapes))))
        raise InputError(f"precisions_init has shape {array.shape}: give {known}")
    return array


def drawn(n: Any) -> int:
    """Return a number of rows to draw."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0:
        raise InputError(f"n is {n!r}: give an integer of 0 or more, the number of rows to draw")
    return int(n)


def generator(seed: Any) -> np.random.Generator:
    """Return a generator of random numbers of a seed, or what numpy takes for one."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError) as error:
        raise InputError(f"seed is {seed!r} ({error}): give an integer of 0 or more") from None


def merging(threshold: Any, k: Any, n_components: int) -> tuple[int, float]:
    """Return until how many groups, and down to which entropy, components are merged."""
    if (threshold is None) == (k is None):
        raise InputError("give either a threshold, in nats a row, or k, the number of groups")
    if k is not None:
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or not 1 <= k <= n_components:
            raise InputError(f"k is {k!r}: give 1 to {n_components} groups")
        return int(k), -np.inf
    if isinstance(threshold, str | bool) or not _is_finite(threshold) or threshold < 0:
        raise InputError(f"threshold is {threshold!r}: give 0 or more nats a row")
    return 1, float(threshold)


def parts(
    categorical: Mapping[str, Mapping[str, ArrayLike]] | None,
    counts: Mapping[str, ArrayLike] | None,
    weights: Array,
    features: Sequence[str] | None,
    d: int,
) -> Parts:
    """Return the parts of these columns, which come after the d numeric ones."""
    for option, given in (("categorical", categorical), ("counts", counts)):
        if given is not None and not isinstance(given, Mapping):
            raise InputError(f"{option} is {given!r}: give a mapping by the names of columns")
    categorical, counts = dict(categorical or {}), dict(counts or {})
    if (categorical or counts) and d and features is None:
        raise InputError("features is None: give names, as the categorical and counts have them")
    names = [*(features or ()), *categorical, *counts]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"column {twice!r} appears twice among features, categorical and counts")
    made: list[Part] = []
    for name, by_level in categorical.items():
        if not isinstance(by_level, Mapping) or not by_level:
            raise InputError(f"categorical[{name!r}] is {by_level!r}: give probabilities by level")
        p = np.stack(
            [_of_components(f"{name}={v}", p, weights) for v, p in by_level.items()], axis=1
        )
        off = np.abs(p.sum(axis=1) - 1)
        if not off.max() < 1e-6:
            j = int(np.argmax(off))
            raise InputError(
                f"the probabilities of {name!r} in component {j} are {p[j].tolist()}, sum "
                f"{p[j].sum():.9g}: give shares that sum to 1"
            )
        p.setflags(write=False)
        column = Column(str(name), "categorical", tuple(map(str, by_level)))
        made.append(Multinomial(column, d + len(made), p, weights @ p))
    for name, of_name in counts.items():
        rates = _of_components(name, of_name, weights)
        rates.setflags(write=False)
        column = Column(str(name), "counts")
        made.append(Poisson(column, d + len(made), rates, float(weights @ rates)))
    return tuple(made)


def of_parts(features: Any, parts: Parts) -> tuple[Any, Parts]:
    """Return the features that are not of parts, and the parts of the others."""
    if not parts or not isinstance(features, str | Iterable):
        return features, ()
    asked = [features] if isinstance(features, str) else list(features)
    found = tuple(part for part in parts if part.of.name in asked)
    beside = [part.of.name for part in found]
    numeric = [feature for feature in asked if feature not in beside]
    if len(numeric) + len(beside) < len(asked):
        raise InputError(f"features is {asked}: a feature appears twice, give each once")
    return numeric, found


def of_quantities(
    features: Any, columns: Sequence[str] | None, d: int, parts: Parts
) -> NDArray[np.intp]:
    """Return where features are among d and the columns of parts; none may be categorical."""
    which = feature_positions(features, columns, d + len(parts))
    for i in which[which >= d].tolist():
        of = parts[i - d].of
        if of.kind == "categorical":
            raise InputError(
                f"{of.name!r} is categorical, and levels have no mean: take "
                "mixture.condition(...).categorical for their probabilities, or mixture.impute(X)"
            )
    return which


def is_numeric(feature: Any, parts: Parts) -> None:
    """Refuse a column of levels or of counts where quantiles are asked for."""
    for part in parts:
        if part.of.name == feature:
            raise InputError(
                f"{feature!r} is no numeric feature, which alone have quantiles: take "
                f"mixture.{part.of.kind}[{feature!r}]"
            )


def part_values(values: Mapping[Any, Any], parts: Sequence[Part]) -> dict[str, float]:
    """Return the numbers of levels, and the counts, that a mapping has for columns of parts."""
    if not parts or not isinstance(values, Mapping):
        return {}
    known = {}
    for part in parts:
        name = part.of.name
        if name not in values:
            continue
        value, levels = values[name], part.of.levels
        if part.of.kind == "categorical":
            text = text_of(value)
            level = None if text is None else level_of(text, levels)
            if level is None:
                near = get_close_matches(str(text), levels, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"give one of {', '.join(levels)}"
                raise InputError(f"{name!r} has no level {value!r}: {hint}")
            known[name] = float(levels.index(level))
        else:
            if isinstance(value, str) or not _is_finite(value) or value < 0 or value % 1:
                raise InputError(f"the value of {name!r} is {value!r}: give a count, 0 or more")
            known[name] = float(value)
    return known


def weights_given(weights: Array, parts: Sequence[Part], known: Mapping[str, float]) -> Array:
    """Return the shares of components where columns of parts have these values."""
    with np.errstate(divide="ignore"):
        logs = np.log(weights)
    for part in parts:
        if part.of.name in known:
            rows = np.full((part.column + 1, 1), known[part.of.name])
            logs = logs + part.log_density(rows)[:, 0]
    if not np.isfinite(logs.max()):
        raise InputError(f"no component has {dict(known)} together: give other values")
    shares = np.exp(logs - logs.max())
    return np.asarray(shares / shares.sum())


def numeric_alone(parts: Sequence[Part], what: str) -> None:
    """Refuse a mixture with parts beside its Gaussians for what takes numbers alone."""
    if parts:
        names = ", ".join(repr(part.of.name) for part in parts)
        raise InputError(
            f"{what} takes numeric features alone, and this mixture has {names} beside them",
            "keep the mixture as JSON and score by it",
            (_MARGINAL,),
        )


def _of_components(name: str, given: ArrayLike, weights: Array) -> Array:
    try:
        values = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name!r} is {given!r}: give {len(weights)} numbers") from None
    if values.shape != weights.shape or not (np.isfinite(values) & (values >= 0)).all():
        raise InputError(
            f"{name!r} is {values.tolist()}: give {len(weights)} numbers of 0 or more, one a "
            "component"
        )
    return values


def parameters(
    weights: ArrayLike,
    means: ArrayLike,
    covariances: ArrayLike,
    family: Family,
    beside: bool = False,
) -> tuple[Array, Array, Stack]:
    """Return private copies, or raise with the name and the value that is off.

    With parts `beside` there may be no numeric feature.
    """
    arrays = []
    for name, value, ndims in (
        ("weights", weights, (1,)),
        ("means", means, (2,)),
        ("covariances", covariances, (3, len(family.shape(1, 1)))),
    ):
        try:
            if np.asarray(value).dtype.kind in "SU":  # numpy would read numbers in it
                raise TypeError("could not convert text")
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"{name} is not an array of numbers: {error}") from None
        if array.ndim not in ndims or (array.size == 0 and not (beside and len(array))):
            needed = " or ".join(map(str, dict.fromkeys(ndims)))
            raise InputError(f"{name} has shape {array.shape}: {needed} dimension(s) are needed")
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds {array[~np.isfinite(array)][0]}: give finite numbers")
        arrays.append(array)
    w, m, c = arrays
    k, d = len(w), m.shape[1]
    if len(m) != k or c.shape not in ((k, d, d), family.shape(k, d)):
        shapes = dict.fromkeys([_named(family), "(k, d, d)"])
        raise InputError(
            f"weights {w.shape}, means {m.shape} and covariances {c.shape} do not fit together: "
            f"give (k,), (k, d) and {' or '.join(shapes)}"
        )
    with np.errstate(over="ignore"):  # what overflows is reported
        return _shares(w), m, _stack(c, family, d)


def _named(family: Family) -> str:
    """Return the shape in which the covariances of a family are written, in letters."""
    axes = [{2: "k", 3: "d"}[n] for n in family.shape(2, 3)]
    return f"({', '.join(axes)}{',' * (len(axes) == 1)})"


def _stack(c: Array, family: Family, d: int) -> Stack:
    """Return checked covariances, dense or as their type is written, symmetric to the last bit."""
    unit = np.ones(d)
    if c.ndim == 3:
        c = _symmetric(c)
        structure(c, family)
        is_dense = len(family.shape(1, 1)) == 3
        stack = family.kept(c, unit) if is_dense else family.read(c, unit)
    else:
        stack = family.kept(_symmetric(c[None])[0] if family.shared else c, unit)
    positive_definite(stack)
    return stack


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


def structure(covariances: Array, family: Family) -> None:
    """Refuse covariances (k, d, d) that are not of the type that counts their parameters."""
    k, d = covariances.shape[:2]
    like = family.read(covariances, np.ones(d)).dense(k)
    sd = np.sqrt(np.abs(np.einsum("kii->ki", covariances)))
    # eigenvectors are exact to the rounding of the widest feature, however narrow the others are
    rounding = _ROUNDINGS * np.finfo(float).eps * sd.max(axis=1, initial=0.0) ** 2
    most = 1e-8 * sd[:, :, None] * sd[:, None, :] + rounding[:, None, None]
    off = np.abs(covariances - like) > most
    if off.any():
        j = int(np.argwhere(off)[0, 0])
        raise InputError(
            f"covariance {j} is {covariances[j].tolist()}, which is not {family.name}: give "
            "covariances of that type, or covariance_type='full'"
        )


def positive_definite(stack: Stack) -> None:
    """Refuse covariances that have no Cholesky factor, or variances that are not above 0."""
    for j in range(len(stack.values)):
        alone = stack.take(np.array([j]))
        if not alone.values.size:
            continue
        try:
            least = float(alone.pivots.min())
        except np.linalg.LinAlgError:
            least = 0.0
        if not least > 0:
            raise InputError(
                f"covariance {j} is not positive definite (smallest eigenvalue "
                f"{alone.narrowest:.3g}): raise reg_covar or drop a component"
            )
