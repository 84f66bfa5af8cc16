"""What a section of a page is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from sparkgmm.report.run import Run


@dataclass(frozen=True)
class Section:
    """A section of the report of a run.

    `fill` returns what the section shows by name: numbers, text, `Table` and `Picture`, or None
    where the run has nothing to show in it. `title` and `template` are Jinja templates over these
    names, in which `show` has the macros of templates/macros.html; everything that comes from the
    data is escaped. Each `Picture` is also a file beside the page. `long` sections may fill a
    printed page.

    `script` is a file of templates/ that runs on the page if `fill` returned its data, which are
    JSON as `Markup`, under the name `data`: the element that holds them has that id.
    """

    title: str
    template: str
    fill: Callable[[Run], Mapping[str, Any] | None]
    long: bool = False
    script: str | None = None
    data: str | None = None


def as_data(value: Any) -> Markup:
    """Return a value as JSON that cannot end the element which holds it."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))
