"""What is wrong with a text that is no YAML, in words for those who do not know its grammar."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_SHOWN = 60
Explain = Callable[[re.Match[str], Any, str], str]


def explained(error: Exception, text: str) -> str:
    """Say where a text is no YAML, what stands there and what to do.

    The parser's own words are kept where none of ours fit.
    """
    mark = getattr(error, "problem_mark", None)
    problem = str(
        getattr(error, "problem", None) or getattr(error, "reason", None) or "nested too deep"
    )
    context = f"{getattr(error, 'context', None) or ''} | {problem}"
    lines = text.splitlines()
    if mark is None:
        return f"{problem}: fix it"
    number = min(mark.line, max(len(lines) - 1, 0))
    line = lines[number].strip() if lines else ""
    shown = repr(line if len(line) <= _SHOWN else f"{line[:_SHOWN]}…")
    where = f"line {mark.line + 1}, column {mark.column + 1}"
    for pattern, explain in _EXPLANATIONS:
        found = re.search(pattern, context)
        if found is not None:
            return f"{where}, {shown}: {explain(found, error, line)}"
    return f"{where}, {shown}: {problem}: fix it"


def _opened(error: Any) -> str:
    """Say where what is not closed was opened."""
    mark = getattr(error, "context_mark", None)
    return "before it" if mark is None else f"in line {mark.line + 1}"


def _bracket(found: re.Match[str], error: Any, line: str) -> str:
    bracket = {"}": "{", "]": "["}[found[1]]
    return (
        f"the {bracket} opened {_opened(error)} is not closed by {found[1]}, or a comma is missing "
        "between two entries: add it, or put a value with : or , in quotes"
    )


_EXPLANATIONS: tuple[tuple[str, Explain], ...] = (
    (r"'\\t' that cannot start", lambda m, e, line: "a tab stands there: indent by blanks"),
    (
        r"character '(.)' that cannot start",
        lambda m, e, line: f"a value cannot begin with {m[1]}: put it in quotes",
    ),
    (
        r"scanning an alias",
        lambda m, e, line: (
            "a value that begins with * means something else in YAML: put it in quotes"
        ),
    ),
    (
        r"scanning an anchor",
        lambda m, e, line: (
            "a value that begins with & means something else in YAML: put it in quotes"
        ),
    ),
    (
        r"mapping values are not allowed",
        lambda m, e, line: (
            "a second colon stands there, or a value stands above its keys: put a "
            "value that holds a colon in quotes, and each key on a line of its own"
        ),
    ),
    (
        r"quoted scalar.*(unexpected end of stream|document separator)",
        lambda m, e, line: f"the quote opened {_opened(e)} is not closed: close it",
    ),
    (r"expected ',' or '([\]}])'", _bracket),
    (
        r"expected <block end>",
        lambda m, e, line: (
            "it is indented otherwise than the lines that it goes with: indent the "
            "keys of a section alike"
        ),
    ),
    (
        r"could not find expected ':'",
        lambda m, e, line: "a key without a colon stands there or above: write key: value",
    ),
    (
        r"constructor for the tag '(.*)'",
        lambda m, e, line: (
            f"{m[1]} is a tag, which is not known here: leave it out, or put the value in quotes"
        ),
    ),
    (
        r"found undefined alias",
        lambda m, e, line: (
            "a value that begins with * means something else in YAML: put it in quotes"
        ),
    ),
)
