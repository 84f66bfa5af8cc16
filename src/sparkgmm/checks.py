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
from sparkgmm.errors import InputError
from sparkgmm.products import Array


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


def row_weights(sample_weight: ArrayLike) -> Array:
    """Return the weights of rows (n,) as numbers."""
    return np.asarray(sample_weight, dtype=np.float64)


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


def parameters(
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
    with np.errstate(over="ignore"):  # what overflows is reported
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


def structure(covariances: Array, covariance_type: str) -> None:
    """Refuse covariances that are not of the type that counts their parameters."""
    k, d = covariances.shape[:2]
    like = FAMILIES[covariance_type].read(covariances, np.ones(d)).dense(k)
    sd = np.sqrt(np.abs(np.einsum("kii->ki", covariances)))
    off = np.abs(covariances - like) > 1e-8 * sd[:, :, None] * sd[:, None, :]
    if off.any():
        j = int(np.argwhere(off)[0, 0])
        raise InputError(
            f"covariance {j} is {covariances[j].tolist()}, which is not {covariance_type}: give "
            "covariances of that type, or covariance_type='full'"
        )


def positive_definite(covariances: Array) -> None:
    """Refuse covariances (k, d, d) that have no Cholesky factor."""
    for j, covariance in enumerate(covariances):
        try:
            np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            raise InputError(
                f"covariance {j} is not positive definite (smallest eigenvalue "
                f"{np.linalg.eigvalsh(covariance)[0]:.3g}): raise reg_covar or drop a component"
            ) from None
