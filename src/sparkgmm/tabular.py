"""Rows as people hold them: arrays, and tables of pandas, polars and pyarrow, by columns' names.

None of the three is imported: a table is known by what it can do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparkgmm.errors import InputError
from sparkgmm.products import Array

_DATES = "a date or time: give numbers, such as the seconds since the first"
# How the types begin, in small letters, that the three libraries have for text and the like.
_LEVELS = ("bool", "str", "category", "categorical", "enum", "large_string", "dictionary", "utf8")
_COMPLEX = "a complex number: give real ones, X.real and X.imag as columns of their own"


class Table:
    """A table of whichever library: names of columns, and each column as numbers.

    `names` are None where the columns are numbered or not all named by text, as pandas' may be.
    """

    def __init__(self, data: Any, labels: Sequence[Any]) -> None:
        self._data = data
        self._labels = list(labels)
        named = all(isinstance(label, str) for label in self._labels)
        self.names: tuple[str, ...] | None = tuple(self._labels) if named else None
        self._is_pandas = hasattr(data, "iloc")

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        n = self._data.num_rows if hasattr(self._data, "num_rows") else len(self._data)
        return int(n), len(self._labels)

    def column(self, i: int) -> NDArray[Any]:
        """Return column i as floats, NaN where nothing is known.

        Raises
        ------
        InputError
            If it holds something else; its name and the row are said.

        """
        if self._is_pandas:
            column = self._data.iloc[:, i]
            if str(column.dtype) == "category":
                raise self._refused(i, "a category: leave it out, or code it as numbers")
            values = column.to_numpy()
        else:
            values = self._of_arrow(self._data[self._labels[i]])
        return _numbers(values, lambda row, what: self._refused(i, what, row))

    def objects(self, i: int) -> list[Any]:
        """Return column i as the values that Python has for them."""
        if self._is_pandas:
            return list(self._data.iloc[:, i].tolist())
        column = self._data[self._labels[i]]
        return list(column.to_pylist() if hasattr(column, "to_pylist") else column.to_list())

    def holds_levels(self, i: int) -> bool:
        """Say whether column i holds text, categories or booleans."""
        if self._is_pandas:
            column = self._data.iloc[:, i]
            kind = str(column.dtype)
            if kind == "object":
                known = column[column.notna()]
                return len(known) > 0 and isinstance(known.iloc[0], str | bool | np.bool_)
        else:
            column = self._data[self._labels[i]]
            kind = str(column.type if hasattr(column, "to_pylist") else column.dtype)
        return kind.lower().startswith(_LEVELS)

    def _of_arrow(self, column: Any) -> NDArray[Any]:
        """Return a column of polars or pyarrow as numpy has it; a null becomes None or NaN."""
        if hasattr(column, "to_pylist"):
            if "decimal" in str(column.type) or "dictionary" in str(column.type):
                return np.array([*column.to_pylist(), None], dtype=object)[:-1]
            return np.asarray(column.to_numpy(zero_copy_only=False))
        if column.dtype.is_decimal():
            return np.array([*column.to_list(), None], dtype=object)[:-1]
        return np.asarray(column.to_numpy())

    def _refused(self, i: int, what: str, row: int | None = None) -> InputError:
        where = "" if row is None else f" in row {row}"
        return InputError(f"column {self._labels[i]!r} holds{where} {what}")

    def with_columns(self, names: Sequence[str], values: Array) -> Any:
        """Return the table, of its own kind, with values (n, d) in the columns of these names."""
        columns = dict(zip(names, values.T, strict=True))
        if self._is_pandas:
            return self._data.assign(**columns)
        library = sys.modules[type(self._data).__module__.partition(".")[0]]
        if hasattr(self._data, "with_columns"):
            return self._data.with_columns([library.Series(n, v) for n, v in columns.items()])
        table = self._data
        for name, column in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, library.array(column))
        return table

    def with_values(self, name: str, values: list[Any]) -> Any:
        """Return the table with these values in a column, of its type where that can hold them."""
        library = sys.modules[type(self._data).__module__.partition(".")[0]]
        if hasattr(self._data, "schema") and hasattr(self._data, "set_column"):
            at = self._data.schema.get_field_index(name)
            kind = self._data.schema.field(at).type
            return self._data.set_column(at, name, library.array(values, kind))
        old = self._data[name]
        kind = old.dtype
        if self._is_pandas:
            if hasattr(old, "cat"):
                new = dict.fromkeys([*old.cat.categories, *values])
                kind = library.CategoricalDtype(list(new), old.cat.ordered)
            column = library.Series(values, index=old.index, dtype=kind)
            return self._data.assign(**{name: column})
        return self._data.with_columns(library.Series(name, values, dtype=kind))


def as_table(X: Any) -> Table | None:
    """Return a table of pandas, polars or pyarrow as one; None where X is none."""
    if hasattr(X, "iloc") and getattr(X, "ndim", 0) == 2:
        return Table(X, list(X.columns))
    if hasattr(X, "column_names") and hasattr(X, "num_rows"):
        return Table(X, X.column_names)
    if hasattr(X, "get_columns") and hasattr(X, "with_columns"):
        return Table(X, X.columns)
    return None


def column_of(table: Table, name: str) -> int:
    """Return where a table has the column of a name.

    Raises
    ------
    InputError
        If it has none, or several.

    """
    names = table.names or ()
    if names.count(name) != 1:
        raise _no_column(name, names, names.count(name))
    return names.index(name)


def read_numbers(table: Table, which: Sequence[int]) -> NDArray[Any]:
    """Return some columns of a table as numbers, (n, len(which))."""
    return _joined(table, which)


def read(X: Any) -> tuple[NDArray[Any], tuple[str, ...] | None]:
    """Return rows (n, d) of numbers, float32 or float64, and the names of a table's columns.

    What is not known is NaN; nothing else is checked of the numbers.

    Raises
    ------
    InputError
        If X is no array or table, or holds something else than numbers.

    """
    table = as_table(X)
    if table is None:
        return array(X), None
    return read_numbers(table, range(table.shape[1])), table.names


def read_like(
    X: Any,
    names: Sequence[str] | None,
    d: int,
    unread: Sequence[int] = (),
    gaps: bool = False,
    fills: bool = True,
) -> NDArray[Any]:
    """Return rows (n, d) of numbers, a table's by the names of features, in whatever order.

    Where features or columns have no names it goes by position. Features `unread` are NaN, and may
    be missing in a table. With `gaps` NaN may stand for what is not known; without, the error says
    that a mixture `fills` such rows in, where it is one that does.

    Raises
    ------
    InputError
        If X does not have d columns, or a table lacks one; what `read` refuses.

    """
    table = as_table(X)
    if table is None:
        rows = array(X)
        if rows.ndim != 2 or rows.shape[1] != d:
            raise InputError(f"X has shape {rows.shape}: give (n, {d})")
        if len(unread):
            rows = rows.astype(np.float64)
            rows[:, unread] = np.nan
        return rows
    which = _positions(table, names, d, unread)
    rows = _joined(table, which)
    if not gaps:
        _refuse_gaps(rows, table.names or range(table.shape[1]), which, fills)
    return rows


def _positions(
    table: Table, names: Sequence[str] | None, d: int, unread: Sequence[int]
) -> list[int]:
    """Return where each feature is in a table, -1 for those that need not be read."""
    if names is None or table.names is None:
        if table.shape[1] != d:
            raise InputError(f"X has {table.shape[1]} columns: give {d}")
        return [-1 if i in unread else i for i in range(d)]
    found = []
    for i, name in enumerate(names):
        times = table.names.count(name)
        if i in unread:
            found.append(-1)
        elif times != 1:
            raise _no_column(name, table.names, times)
        else:
            found.append(table.names.index(name))
    return found


def _no_column(name: str, names: Sequence[str], times: int) -> InputError:
    if times:
        return InputError(f"X has column {name!r} {times} times: give it once")
    near = get_close_matches(name, names, 1)
    hint = f"rename {near[0]!r} to it" if near else f"its columns are {', '.join(names)}"
    return InputError(f"X has no column {name!r}: {hint}")


def _joined(table: Table, which: Sequence[int]) -> NDArray[Any]:
    columns = [np.full(table.shape[0], np.nan) if i < 0 else table.column(i) for i in which]
    if not columns:
        return np.empty((table.shape[0], 0))
    return np.stack(columns, axis=1)


def _refuse_gaps(
    rows: NDArray[Any], names: Sequence[Any], which: Sequence[int], fills: bool
) -> None:
    gap = np.isnan(rows)
    if gap.any():
        row, at = map(int, np.argwhere(gap)[0])
        scored = "score what they have by Mixture.with_missing('model')"
        others = f", fill them with Mixture.impute, or {scored}" if fills else f", or {scored}"
        raise InputError(
            f"column {names[which[at]]!r} holds NA in row {row}: leave such rows out{others}"
        )


def array(X: Any) -> NDArray[Any]:
    """Return an array-like of numbers as float32 or float64, of whatever shape.

    Raises
    ------
    InputError
        If it is sparse, masked, or holds something else than real numbers.

    """
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise InputError("X is a sparse matrix: give a dense array, X.toarray()")
    if "numpy.ma" in sys.modules and isinstance(X, np.ma.MaskedArray):  # else it is loaded here
        return _unmasked(X)
    if isinstance(X, Mapping | Iterator) or type(X).__module__.startswith("pyspark"):
        raise InputError(
            f"X is a {type(X).__name__}: give an array, or a table of pandas, polars or pyarrow"
        )
    try:
        values = np.asarray(X)
    except (ValueError, TypeError) as error:
        raise InputError(f"X is not an array ({error}): give rows of one length") from None

    def refused(at: int, what: str) -> InputError:
        place = np.unravel_index(at, values.shape) if values.ndim else ()
        where = " in row {}, column {}".format(*place) if len(place) == 2 else ""
        return InputError(f"X holds{where} {what}")

    return _numbers(values, refused)


def _unmasked(X: np.ma.MaskedArray[Any, Any]) -> NDArray[Any]:
    mask = np.ma.getmaskarray(X)
    if mask.any():
        at = tuple(map(int, np.argwhere(mask)[0]))
        raise InputError(
            f"X is masked at {at}: leave such rows out, X[~X.mask.any(axis=1)].data, or give "
            "X.filled(numpy.nan) to Mixture.impute"
        )
    return array(X.data)


def _numbers(values: NDArray[Any], refused: Any) -> NDArray[Any]:
    """Return numbers as float32 or float64; `refused` makes the error of a place and its value."""
    kind = values.dtype.kind
    if kind == "f":
        return values if values.dtype == np.float32 else values.astype(np.float64, copy=False)
    if kind in "iub":
        return values.astype(np.float64)
    if kind == "c":
        raise refused(0, _COMPLEX)
    if kind in "mM":
        raise refused(0, _DATES)
    if kind in "USTV":
        first = values.ravel()[0].item() if values.size else ""
        raise refused(0, f"{first!r}, which is no number: leave text out, or code it as numbers")
    flat = values.ravel()
    numbers = np.empty(len(flat))
    for i, value in enumerate(flat):
        numbers[i] = _number(value, i, refused)
    return numbers.reshape(values.shape)


def _number(value: Any, at: int, refused: Any) -> float:
    """Return an object as a number; None and other libraries' NA are not known: NaN."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return float("nan")
    if isinstance(value, complex | np.complexfloating):
        raise refused(at, _COMPLEX)
    if isinstance(value, str | bytes):
        raise refused(at, f"{value!r}, which is no number: leave text out, or code it as numbers")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise refused(
            at, f"a {type(value).__name__}, which is no number: leave it out, or give numbers"
        ) from None
