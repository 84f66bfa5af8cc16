"""The pages: HTML that holds everything, and the figures as files beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from threadpoolctl import threadpool_limits

from sparkgmm.report.remarks import remarks
from sparkgmm.report.run import Run
from sparkgmm.report.sections import SECTIONS
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import Picture, style


@dataclass(frozen=True)
class FilledSection:
    """A section filled: its title and what is below it, its figures, and what its script reads."""

    title: str
    body: Markup
    long: bool
    pictures: tuple[Picture, ...]
    script: str | None
    data: tuple[str, Markup] | None


def report(run: Run, sections: Sequence[Section] = SECTIONS) -> dict[str, bytes]:
    """Return the files of the report: report.html and plots/*.png."""
    with threadpool_limits(1, user_api="blas"):  # many small matrices: threads would be in the way
        with style():
            filled = [(section, section.fill(run)) for section in sections]
        parts = [filled_in(section, values) for section, values in filled if values is not None]
        page = render(
            "report.html",
            scripts=[part.script for part in parts if part.script is not None],
            run_id=run.manifest["run_id"],
            data=data_named(run.configuration["input"]),
            output=run.configuration["output"]["path"],
            mixture=run.mixture,
            metrics=run.metrics,
            remarks=remarks(
                run.chosen,
                run.candidates,
                run.membership,
                run.metrics,
                run.configuration,
                run.past,
                run.column_cautions,
            ),
            sections=parts,
        )
        drawn = [picture for part in parts for picture in part.pictures]
        return {"report.html": page.encode(), **plots(drawn)}


def data_named(source: Mapping[str, Any]) -> str:
    """Name the input: a table, or the last part of its path, of several the first one's."""
    if source.get("table") is not None:
        return str(source["table"])
    path = source.get("path")
    if not path:
        return str(source.get("format"))
    first, *more = [path] if isinstance(path, str) else path
    name = str(first).rstrip("/").rpartition("/")[2] or str(first)
    if set(name) & set("*?[{"):
        name = "/".join(str(first).rstrip("/").split("/")[-2:])
    return f"{name} and {len(more)} more" if more else name


def filled_in(section: Section, values: Mapping[str, Any]) -> FilledSection:
    """Return a section with the values that its `fill` gave."""
    environment = _environment()
    show = environment.get_template("macros.html").module
    title = environment.from_string(section.title).render(values)
    body = environment.from_string(section.template.strip("\n")).render(values, show=show)
    content = None if section.data is None else values[section.data]
    return FilledSection(
        title,
        Markup(body),
        section.long,
        tuple(value for value in values.values() if isinstance(value, Picture)),
        None if content is None else section.script,
        None if content is None else (str(section.data), content),
    )


def plots(pictures: Iterable[Picture]) -> dict[str, bytes]:
    """Return the figures as files."""
    return {f"plots/{picture.name}.png": picture.png for picture in pictures}


def render(template: str, scripts: Sequence[str] = (), **values: Any) -> str:
    """Fill the template of a page; everything that comes from the data is escaped.

    The page's own policy lets it load nothing and run no script but the ones given here.
    """
    folder = files("sparkgmm.report") / "templates"
    code = [Markup((folder / name).read_text(encoding="utf-8")) for name in scripts]
    hashes = [base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    css = Markup((folder / "page.css").read_text(encoding="utf-8"))
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    return _environment().get_template(template).render(code=code, css=css, policy=policy, **values)


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("sparkgmm.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
