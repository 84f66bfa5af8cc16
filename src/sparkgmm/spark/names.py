"""Names of tables, as people write them and as SQL takes them. Needs no Spark."""

from __future__ import annotations

import re

_PART = re.compile(r"`(?:[^`]|``)+`|[^`.\s]+")


class TableName(str):
    """The name of a table of a catalog: `db.trips`, `catalog.db.trips`, or a view's.

    It takes the place of a path wherever the input or the output is named, so that messages can
    say which of the two it is.
    """

    __slots__ = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts without backticks: catalog, namespaces, table."""
        found = _PART.findall(self)
        return tuple(p[1:-1].replace("``", "`") if p.startswith("`") else p for p in found)

    @property
    def quoted(self) -> str:
        """The name in backticks, so that SQL takes every part as it is."""
        return ".".join(backticked(part) for part in self.parts)

    def beside(self, ending: str) -> TableName:
        """Return the name of a table in the same namespace, which ends with `ending`."""
        *namespace, table = self.parts
        return TableName(".".join(backticked(p) for p in (*namespace, f"{table}{ending}")))


def backticked(part: str) -> str:
    """Return one part of a name as SQL takes it."""
    return "`" + part.replace("`", "``") + "`"


def is_table_name(text: str) -> bool:
    """Return whether a text can be the name of a table: parts with dots between them."""
    return re.fullmatch(rf"(?:{_PART.pattern})(?:\.(?:{_PART.pattern}))*", text) is not None


def place_named(path: object, kind: str = "input") -> str:
    """Return how a message calls what is read or written: by its key and value."""
    if path is None:
        return f"the {kind}"
    return f"{kind}.{'table' if isinstance(path, TableName) else 'path'} {path!r}"
