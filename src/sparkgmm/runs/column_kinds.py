"""What each column of a table is good for in a mixture: feature, category, count, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sparkgmm.formatting import number
from sparkgmm.runs.csv_form import is_date

Kind = Literal["numeric", "categorical", "counts", "out"]

# Words for "no value" that stand in columns of numbers.
NULL_WORDS = frozenset(
    {"na", "n/a", "#n/a", "null", "none", "nan", "nil", "?", "-", "--", ".", "missing", "\\n"}
)
# A column of numbers may hold so few words, all of them for "no value".
_WORDS_AT_MOST = 0.5
_ID_NAME = re.compile(
    r"((^|.*[_\s.-])(?i:id|uuid|guid|key|index|row|nr|no|rownum)\d?|.*[a-z](Id|ID))$"
)
_LABEL_NAME = re.compile(
    r"(^|.*[_\s-])(label|class|target|species|cluster|group|type|code|category|segment|flag)$", re.I
)
# A few values many times each are categories; a word that comes back so seldom is text.
_FEW_VALUES = 12
_MANY_CATEGORIES = 50
_ROWS_A_CATEGORY = 5
# Counts are small, start at 0 or 1 and come back.
_MEAN_OF_COUNTS = 20
_MOST_COUNTS = 100
# A feature that is null in more than half of the rows would leave most rows out.
_NULL_SHARE = 0.5


@dataclass(frozen=True)
class ColumnKind:
    """A column, what it is taken for, and why or what it holds.

    `words` are those that stand for "no value" among numbers, `numeric` whether it holds numbers,
    be they written as text, `whole` whether those are whole, and so many are `infinite`.
    """

    name: str
    kind: Kind
    what: str
    nulls: int = 0
    words: tuple[str, ...] = ()
    numeric: bool = False
    whole: bool = False
    infinite: int = 0


def kinds_of(table: pa.Table, decimal: str = ".") -> list[ColumnKind]:
    """Return what each column of a table is, text read as numbers where it is written so."""
    return [
        _kind(name, column, decimal)
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]


def _kind(name: str, column: pa.ChunkedArray, decimal: str) -> ColumnKind:
    dtype = column.type
    if pa.types.is_dictionary(dtype):
        column = pc.cast(column, dtype.value_type)
        dtype = column.type
    if pa.types.is_string(dtype) or pa.types.is_large_string(dtype):
        return _kind_of_text(name, pc.utf8_trim_whitespace(column), decimal)
    nulls = column.null_count
    if nulls == len(column):
        return ColumnKind(name, "out", "no value in any row", nulls)
    if pa.types.is_boolean(dtype):
        return _category(name, column, nulls)
    if pa.types.is_temporal(dtype):
        return ColumnKind(name, "out", "a date or a time: make a number of it first", nulls)
    if pa.types.is_integer(dtype) or pa.types.is_floating(dtype) or pa.types.is_decimal(dtype):
        values = pc.cast(column, pa.float64(), safe=False)
        return _kind_of_numbers(name, values, (), False)
    if pa.types.is_list(dtype) or pa.types.is_fixed_size_list(dtype):
        return ColumnKind(
            name, "out", "an array: it can be the one entry of input.features, alone", nulls
        )
    return ColumnKind(name, "out", f"of type {dtype}, no number", nulls)


def _kind_of_text(name: str, column: pa.ChunkedArray, decimal: str) -> ColumnKind:
    empty = pc.equal(pc.binary_length(column), 0)
    column = pc.if_else(empty, pa.scalar(None, column.type), column)
    nulls = column.null_count
    if nulls == len(column):
        return ColumnKind(name, "out", "no value in any row", nulls)
    plain = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"
    if decimal == ",":
        plain = r"^[-+]?(\d+(,\d*)?|,\d+|\d{1,3}(\.\d{3})+(,\d+)?|\d+\.\d+)([eE][-+]?\d+)?$"
    is_number = pc.match_substring_regex(column, plain)
    others = [str(value) for value in pc.unique(column.filter(pc.invert(is_number))).to_pylist()]
    share = (pc.sum(is_number).as_py() or 0) / (len(column) - nulls)
    if share > _WORDS_AT_MOST and all(word.lower() in NULL_WORDS for word in others):
        return _kind_of_written_numbers(name, column, is_number, tuple(sorted(others)), decimal)
    if share > _WORDS_AT_MOST:
        what = f"mostly numbers, but it holds {others[0][:30]!r}: mend the data first"
        return ColumnKind(name, "out", what, nulls)
    if all(is_date(word) for word in others[:100]):
        return ColumnKind(name, "out", "a date or a time: make a number of it first", nulls)
    return _category(name, column, nulls)


def _kind_of_written_numbers(
    name: str, column: pa.ChunkedArray, is_number: Any, words: tuple[str, ...], decimal: str
) -> ColumnKind:
    text = pc.if_else(is_number, column, pa.scalar(None, column.type))
    if pc.any(pc.match_substring_regex(text, r"^0\d+$")).as_py():
        what = "digits that begin with 0: a code, no quantity"
        return ColumnKind(name, "out", what, text.null_count)
    if decimal == ",":
        text = pc.replace_substring(pc.replace_substring(text, ".", ""), ",", ".")
    values = pc.cast(pc.replace_substring_regex(text, r"^\+", ""), pa.float64())
    return _kind_of_numbers(name, values, words, True)


def _kind_of_numbers(
    name: str, column: pa.ChunkedArray, words: tuple[str, ...], written: bool
) -> ColumnKind:
    found = column.drop_null().to_numpy()
    infinite = int(np.isinf(found).sum())
    found = found[np.isfinite(found)]
    nulls = len(column) - len(found) - infinite
    if not len(found):
        return ColumnKind(name, "out", "no finite number in any row", nulls, words)
    whole = bool((found == np.floor(found)).all())
    kind, what = _judged(name, found, whole, nulls / len(column))
    return ColumnKind(name, kind, what, nulls, words, True, whole, infinite)


def _judged(name: str, found: Any, whole: bool, null_share: float) -> tuple[Kind, str]:
    """Return what finite numbers (n,) are, and why or what they hold."""
    values, times = np.unique(found, return_counts=True)
    low, high, mean = float(values[0]), float(values[-1]), float(found.mean())
    if len(values) == 1:
        return "out", f"constant: it is {number(low)} in every row"
    if (
        whole
        and len(values) == len(found) > 2
        and (
            _ID_NAME.match(name)
            or name.startswith("_c")
            or name.lower().startswith("unnamed")
            or high - low == len(found) - 1
        )
    ):
        return "out", "an id: whole numbers, no two rows have the same"
    if whole and _ID_NAME.match(name) and len(values) > _FEW_VALUES:
        return "out", f"an id by its name: {len(values):,} whole numbers"
    if null_share > _NULL_SHARE:
        return "out", f"null in {null_share:.0%} of the rows"
    ranged = f"{number(low)} to {number(high)}"
    if (
        whole
        and len(values) <= _FEW_VALUES
        and times.mean() >= _ROWS_A_CATEGORY
        and (len(values) == 2 or _LABEL_NAME.match(name))
    ):
        return "categorical", f"{len(values)} whole numbers, {ranged}"
    small = low in (0.0, 1.0) and mean < _MEAN_OF_COUNTS and len(values) <= _MOST_COUNTS
    if whole and small and times.mean() >= 2:
        return "counts", f"whole numbers, {ranged}"
    return "numeric", ranged


def _category(name: str, column: pa.ChunkedArray, nulls: int) -> ColumnKind:
    counted = pc.value_counts(column.drop_null())
    n, seen = len(counted), len(column) - nulls
    shown = ", ".join(_shown(counted))
    if n == 1:
        return ColumnKind(name, "out", f"constant: it is {shown} in every row", nulls)
    if n == seen > _FEW_VALUES:
        return ColumnKind(name, "out", "text of which no two rows have the same: an id", nulls)
    if n > _MANY_CATEGORIES or seen < _ROWS_A_CATEGORY * n:
        return ColumnKind(name, "out", f"text: {n:,} values, as {shown}", nulls)
    if _LABEL_NAME.match(name):
        shown += "; its name is that of a label: leave it out to see whether clusters find it"
    return ColumnKind(name, "categorical", f"{n} values: {shown}", nulls)


def _shown(counted: pa.Array, most: int = 3) -> Iterator[str]:
    """Yield the commonest values, cut short."""
    pairs: Sequence[dict[str, Any]] = counted.to_pylist()
    for pair in sorted(pairs, key=lambda p: (-p["counts"], str(p["values"])))[:most]:
        text = str(pair["values"])
        yield text if len(text) <= 20 else f"{text[:19]}…"
