"""A table's columns of levels and of counts, as the numbers that parts of a mixture read.

Levels are text, in the order of the text: `true` and `false` of booleans, whole numbers as they are
written. A level becomes its number from 0; what is not known, and when scoring a level that the
mixture has not seen, becomes NaN.
"""

from __future__ import annotations

import inspect
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkgmm.errors import InputError
from sparkgmm.parts import BOOLEANS, MOST_LEVELS, Column, level_of, text_of
from sparkgmm.products import Array
from sparkgmm.tabular import Table, as_table, column_of, read, read_like, read_numbers

# Counts are exact up to this one.
_MOST_COUNT = 2.0**53
# So many levels are named in a warning.
_SHOWN = 5


def read_mixed(
    X: Any, categorical: Sequence[str], counts: Sequence[str], gaps: bool = False
) -> tuple[NDArray[Any], tuple[str, ...] | None, tuple[Column, ...]]:
    """Return rows (n, D) as numbers, the names of the numeric columns, and the others' columns.

    Of a table, columns of text, categories and booleans are categorical, with those that are named;
    they come after the numeric ones, and those of counts after them. Without any such, what `read`
    returns. With `gaps` what is not known in those columns is NaN, else it is refused.

    Raises
    ------
    InputError
        If a column is missing, has too many levels, or holds what is no count.

    """
    table = as_table(X)
    if table is None or table.names is None:
        if categorical or counts:
            raise InputError(
                "categorical and counts are names of columns: give X as a table of pandas, polars "
                "or pyarrow"
            )
        values, features = read(X)
        return values, features, ()
    names = table.names
    twice = sorted({name for name, n in Counter(names).items() if n > 1})
    if twice:
        raise InputError(f"X has column {twice[0]!r} more than once: give each a name of its own")
    for name in [*categorical, *counts]:
        column_of(table, name)
    both = sorted(set(categorical) & set(counts))
    if both:
        raise InputError(f"column {both[0]!r} is in categorical and in counts: name it in one")
    of_levels = [
        name
        for i, name in enumerate(names)
        if name in categorical or (name not in counts and table.holds_levels(i))
    ]
    of_counts = [name for name in names if name in counts]
    if not of_levels and not of_counts:
        values, features = read(X)
        return values, features, ()
    numeric = [name for name in names if name not in of_levels and name not in of_counts]
    columns, beside = _beside(table, names, of_levels, of_counts)
    if not gaps:
        _refuse_gaps(columns, beside)
    numbers = read_numbers(table, [names.index(name) for name in numeric]).astype(np.float64)
    rows = np.concatenate([numbers, np.stack(beside, axis=1)], axis=1)
    return rows, tuple(numeric), columns


def _beside(
    table: Table, names: Sequence[str], of_levels: Sequence[str], of_counts: Sequence[str]
) -> tuple[tuple[Column, ...], list[Array]]:
    """Return the columns of levels and of counts, and what they hold."""
    columns, beside = [], []
    for name in of_levels:
        texts = [text_of(value) for value in table.objects(names.index(name))]
        levels = levels_of(name, texts)
        columns.append(Column(name, "categorical", levels))
        beside.append(_codes(texts, levels))
    for name in of_counts:
        columns.append(Column(name, "counts"))
        beside.append(checked_counts(name, table.column(names.index(name))))
    return tuple(columns), beside


def _refuse_gaps(columns: Sequence[Column], beside: Sequence[Array]) -> None:
    for column, values in zip(columns, beside, strict=True):
        if np.isnan(values).any():
            row = int(np.argmax(np.isnan(values)))
            if column.kind == "counts" and np.isnan(values).all():
                raise InputError(
                    f"column {column.name!r} of counts holds no value in any of {len(values):,} "
                    "rows: leave it out"
                )
            remedy = "leave such rows out or set missing='model'"
            if column.kind == "categorical":
                remedy = (
                    "leave such rows out, set missing='model', or give what is not known a level "
                    "of its own"
                )
            raise InputError(f"column {column.name!r} holds NA in row {row}: {remedy}")


def levels_of(name: str, texts: Iterable[str | None]) -> tuple[str, ...]:
    """Return the levels that there are, in the order of their text.

    Raises
    ------
    InputError
        If there are none, or too many.

    """
    levels = sorted({text for text in texts if text is not None})
    if not levels:
        raise InputError(f"column {name!r} holds no value at all: leave it out")
    if len(levels) > MOST_LEVELS:
        raise InputError(
            f"column {name!r} has {len(levels)} levels, such as {levels[0]!r} and {levels[1]!r}; a "
            f"categorical column may have {MOST_LEVELS}: {_remedy(levels)}"
        )
    return tuple(levels)


def _remedy(levels: Sequence[str]) -> str:
    numbers = sum(map(_is_number, levels))
    if 2 * numbers < len(levels):
        return "leave it out, or join levels"
    others = [level for level in levels if not _is_number(level)]
    return "make numbers of its text" + (f", which {others[0]!r} is not" if others else "")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_mixed_like(
    X: Any,
    features: Sequence[str] | None,
    d: int,
    columns: Sequence[Column],
    unread: Sequence[int] = (),
    gaps: bool = False,
) -> NDArray[Any]:
    """Return rows (n, D) for a mixture: an array as it is, a table's by the names of its columns.

    With `gaps` NaN may stand for what is not known among the numbers, too. Columns `unread`, by
    their positions, are NaN, and may be missing in a table.

    Raises
    ------
    InputError
        If X does not have the columns, or holds what is no number or no count where one is needed.

    """
    if not columns:
        return read_like(X, features, d, unread, gaps=gaps)
    table = as_table(X)
    if table is None or table.names is None:
        rows = np.asarray(read_like(X, None, d + len(columns), unread, gaps=True))
        for i, column in enumerate(columns, d):
            if column.kind == "counts":
                checked_counts(column.name, rows[:, i].astype(np.float64))
        return rows
    numeric = [i for i in unread if i < d]
    numbers = read_like(X, features, d, numeric, gaps=gaps, fills=False)
    beside = [
        np.full(table.shape[0], np.nan) if i in unread else _read(table, column)
        for i, column in enumerate(columns, d)
    ]
    return np.concatenate([numbers.astype(np.float64), np.stack(beside, axis=1)], axis=1)


def filled_table(
    table: Table, features: Sequence[str], filled: Array, columns: Sequence[Column]
) -> Any:
    """Return the table, of its own kind, with rows (n, D) in its columns; levels where it has none.

    The numeric features come first in `filled`, then the columns of levels and of counts.
    """
    d = len(features)
    counts = [i for i, of in enumerate(columns, d) if of.kind == "counts"]
    names = [*features, *(columns[i - d].name for i in counts)]
    result = table.with_columns(names, filled[:, [*range(d), *counts]])
    for i, of in enumerate(columns, d):
        if of.kind != "categorical":
            continue
        values = table.objects(column_of(table, of.name))
        gaps = [row for row, value in enumerate(values) if text_of(value) is None]
        if gaps:
            spelled = _spelled(values, of.levels)
            for row in gaps:
                values[row] = spelled[int(filled[row, i])]
            result = Table(result, table.names or ()).with_values(of.name, values)
    return result


def _spelled(values: Sequence[Any], levels: Sequence[str]) -> list[Any]:
    """Return the levels as a column writes them that has these values."""
    met: dict[str | None, Any] = {}
    like: Any = None
    for value in values:
        text = text_of(value)
        if text is not None:
            like = value
            met[level_of(text, levels)] = value
    spelled: Any = str
    if isinstance(like, int | float | np.number):
        kind = type(like)
        booleans = set(levels) <= set(BOOLEANS.values())
        spelled = (lambda level: kind(level == "true")) if booleans else kind
    return [met[level] if level in met else spelled(level) for level in levels]


def _read(table: Table, column: Column) -> Array:
    i = column_of(table, column.name)
    if column.kind == "counts":
        return checked_counts(column.name, table.column(i))
    texts = [text_of(value) for value in table.objects(i)]
    codes = _codes(texts, column.levels)
    if np.isnan(codes).all():
        _warn_unseen(column, texts)
    return codes


def _warn_unseen(column: Column, texts: Sequence[str | None]) -> None:
    """Warn that no row has a level that the mixture has, unless no row has any."""
    met = next((text for text in texts if text is not None), None)
    if met is None:
        return
    known = ", ".join(map(repr, column.levels[:_SHOWN]))
    more = len(column.levels) - _SHOWN
    warnings.warn(
        f"column {column.name!r} holds no level that the mixture has, such as {met!r} in place of "
        f"{known}{f' and {more} more' if more > 0 else ''}: it counts as not known in all "
        f"{len(texts):,} rows; write the levels as the mixture was fitted on",
        UserWarning,
        stacklevel=_outside(),
    )


def _outside() -> int:
    """Return how far up the caller is that is not of this package."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").startswith("sparkgmm."):
        frame, level = frame.f_back, level + 1
    return level


def _codes(texts: Sequence[str | None], levels: Sequence[str]) -> Array:
    """Return the numbers of levels from 0, NaN for what is none of them."""
    number: dict[str | None, float] = {level: float(i) for i, level in enumerate(levels)}
    for text in set(texts) - number.keys():
        level = None if text is None else level_of(text, levels)
        if level is not None:
            number[text] = number[level]
    return np.array([number.get(text, np.nan) for text in texts], dtype=np.float64)


def checked_counts(name: str, values: Array) -> Array:
    """Return counts, NaN where one is not known.

    Raises
    ------
    InputError
        If one is no whole number of 0 or more.

    """
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    wrong = known & ~((values >= 0) & (values <= _MOST_COUNT) & (np.rint(values) == values))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(
            f"column {name!r} holds {values[row]:.9g} in row {row}: counts are whole numbers of 0 "
            "or more; leave such rows out, or take the column for a numeric one"
        )
    return values
