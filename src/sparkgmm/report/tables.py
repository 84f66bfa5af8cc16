"""Tables of a page."""

from __future__ import annotations

from typing import NamedTuple


class Table(NamedTuple):
    """A heading a column and the rows' cells, all text."""

    head: list[str]
    rows: list[list[str]]
