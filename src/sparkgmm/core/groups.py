"""The rows of one group of many, fitted in memory: to the same bits in any order of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from sparkgmm.core import together
from sparkgmm.core.fit import fit
from sparkgmm.core.initialisation import AUTO
from sparkgmm.core.rows import LocalRows, pilot_rows
from sparkgmm.core.search import Search
from sparkgmm.core.together import FittedGroup
from sparkgmm.errors import InputError
from sparkgmm.products import Array

# So many values of groups wait for company at most.
_MOST_WAITING = 2**22

Key = TypeVar("Key")


def search_for_groups(search: Search) -> Search:
    """Return the search that each group gets: with `auto`, no more starts than k-means++.

    What auto adds costs five times all else where rows are few: 0.1 s for 100 rows, 10,000 times.
    """
    return replace(search, init="k-means++") if search.init == AUTO else search


def fit_groups(
    groups: Iterable[tuple[Key, Array, Array | None]],
    search: Search,
    features: Sequence[str],
    drop_constants: bool = False,
) -> Iterator[tuple[Key, FittedGroup | Exception]]:
    """Fit groups, each a key, its rows X (n, d) and its weights, as they come.

    Yielded are the keys with what was found, or with what `fit_group` raises, in any order. Small
    groups are fitted together (`core.together`); what is found of a group hangs on neither the
    others nor the order of its rows.
    """
    apart = not together.possible(search)
    waiting: dict[int, list[tuple[Key, Array, Array | None]]] = {}
    n_values = 0
    for key, X, weights in groups:
        n_rows = None if apart else together.size_class(*X.shape)
        if n_rows is None:
            yield key, _alone(X, weights, search, features, drop_constants)
            continue
        mine = waiting.setdefault(n_rows, [])
        mine.append((key, X, weights))
        n_values += X.size
        enough = len(mine) == together.n_together(n_rows, len(features), search)
        if enough or n_values > _MOST_WAITING:
            for size in [n_rows] if enough else list(waiting):
                those = waiting.pop(size)
                n_values -= sum(X.size for _, X, _ in those)
                yield from _together(those, size, search, features, drop_constants)
    for n_rows, those in waiting.items():
        yield from _together(those, n_rows, search, features, drop_constants)


def _together(
    groups: Sequence[tuple[Key, Array, Array | None]],
    n_rows: int,
    search: Search,
    features: Sequence[str],
    drop_constants: bool,
) -> Iterator[tuple[Key, FittedGroup | Exception]]:
    """Fit groups of one size class at once, and those alone that are out of the ordinary."""
    rows = [(X, weights) for _, X, weights in groups]
    found = together.fit_together(rows, n_rows, search, features)
    for (key, X, weights), fitted in zip(groups, found, strict=True):
        yield key, fitted or _alone(X, weights, search, features, drop_constants)


def _alone(
    X: Array,
    weights: Array | None,
    search: Search,
    features: Sequence[str],
    drop_constants: bool,
) -> FittedGroup | Exception:
    try:
        return fit_group(X, weights, search, features, drop_constants)
    except Exception as error:  # one group of thousands does not end the others
        return error


def fit_group(
    X: Array,
    weights: Array | None,
    search: Search,
    features: Sequence[str],
    drop_constants: bool = False,
) -> FittedGroup:
    """Fit the rows X (n, d) of a group, of weights (n,) above 0, if they have any.

    Rows are put into the order of their values first. With `drop_constants` features of one value
    are left out of this group's mixture, whose `features` are the others.

    Raises
    ------
    InputError
        If there are too few distinct rows, or a feature is constant.
    FitError
        If every candidate is degenerate.
    """
    if not len(X):
        raise InputError("no row of the group is valid, with a weight above 0", "give more rows")
    names = tuple(features)
    X = X + 0.0  # minus zero is zero
    if drop_constants and len(X) > 1:
        varies = X.min(axis=0) < X.max(axis=0)
        if not varies.any():
            raise InputError("every feature is constant", "give rows that differ")
        X = X[:, varies]
        names = tuple(name for name, kept in zip(names, varies, strict=True) if kept)
    order = in_order(X, weights)
    rows = LocalRows.of_array(
        X[order],
        None if weights is None else weights[order],
        search.seed,
        search.products,
        pilot_rows(max(search.k)),
    )
    return FittedGroup.of(fit(rows, search, names).chosen)


def in_order(X: Array, weights: Array | None) -> Array:
    """Return the numbers of the rows by their first value, then by the next, at last by weight."""
    order = np.argsort(X[:, 0])
    first = X[order, 0]
    if (first[1:] > first[:-1]).all():  # which takes a fifth of the time of what follows
        return order
    columns = [] if weights is None else [weights]
    return np.lexsort([*columns, *X.T[::-1]])
