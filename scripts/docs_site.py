"""What mkdocs.yml leaves to be done for the site: pages from outside docs/, links, formulas.

The pages of docs/ are written to be read in the repository. On the site README and its neighbours
are pages too, files that pages link to come along, and TeX becomes MathML, which browsers draw
without a script.
"""

from __future__ import annotations

import ast
import html
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
GALLERY = ROOT / "build" / "gallery"
# Pages of the site by their place in the repository, where that is not below docs/.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "SECURITY.md": "SECURITY.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
# Files that pages link to, below this folder of the site.
_FILES = "files"
_FENCE = re.compile(r"^([ \t]*)(`{3,}|~{3,})(.*?)\n(.*?)^\1\2[ \t]*$", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
_INLINE = re.compile(r"\$(?!\s)([^$]+?)(?<!\s)\$")
_CSS = ".formula { overflow-x: auto; } .md-typeset figure, .md-typeset img { max-width: 100%; }\n"
_formulas: list[str] = []


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside docs/, the API reference, the gallery, and files linked to."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "site.css", content=_CSS))
    files.append(File.generated(config, "api.md", content=_api()))
    files.append(File.generated(config, "gallery.md", content=_gallery()))
    for path in sorted(GALLERY.glob("*/*.html")) + sorted(GALLERY.glob("*/*.png")):
        at = f"gallery/{path.relative_to(GALLERY).as_posix()}"
        files.append(File.generated(config, at, abs_src_path=str(path)))
    linked = {
        target
        for page in [*PAGES, *(f"docs/{f.src_uri}" for f in files.documentation_pages())]
        if (ROOT / page).is_file()
        for target in _linked(page)
    }
    for target in sorted(linked):
        at = f"{_FILES}/{target}"
        files.append(File.generated(config, at, abs_src_path=str(ROOT / target)))
    return files


def _linked(page: str) -> list[str]:
    """Return the files that a page of the repository links to and that are not of the site."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = (_resolved(page, match[3])[0] for match in _LINK.finditer(_without_code(text)))
    return [p for p in found if p and _is_outside(p) and (ROOT / p).is_file()]


def _is_outside(path: str) -> bool:
    return path not in PAGES and not path.startswith("docs/")


def _resolved(page: str, link: str) -> tuple[str | None, str]:
    """Return which path of the repository a link means, None of an address, and its anchor."""
    target, _, anchor = link.partition("#")
    if not target or re.match(r"[a-z][a-z0-9+.-]*:", target):
        return None, anchor
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), target)), anchor


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to where their targets are on the site, and put formulas aside."""
    at = next((s for s, p in PAGES.items() if p == page.file.src_uri), f"docs/{page.file.src_uri}")

    def link(match: re.Match[str]) -> str:
        return _link(match, at, page.file.src_uri)

    def prose(text: str) -> str:
        text = _INLINE.sub(lambda match: _put_aside(match[1], "inline"), text)
        return _LINK.sub(link, text)

    return _outside_code(markdown, prose)


def _link(match: re.Match[str], at: str, here: str) -> str:
    image, words, given = match.groups()
    path, anchor = _resolved(at, given)
    if path is None:
        return match[0]
    if path in PAGES:
        target = PAGES[path]
    elif path.startswith("docs/"):
        target = path.removeprefix("docs/")
    elif (ROOT / path).is_file():
        target = f"{_FILES}/{path}"
    elif (ROOT / path).is_dir():
        return words  # a folder: the site shows none
    else:
        return match[0]  # mkdocs says so
    relative = posixpath.relpath(target, posixpath.dirname(here) or ".")
    return f"{image}[{words}]({relative}{'#' + anchor if anchor else ''})"


def on_page_content(html: str, **_: Any) -> str:
    """Put the formulas to their places."""
    return re.sub(r"FORMULA(\d+)FORMULA", lambda match: _formulas[int(match[1])], html)


def _put_aside(tex: str, display: str) -> str:
    tex = re.sub(r"\\arg\b", r"\\operatorname{arg}", " ".join(tex.split()))
    _formulas.append(convert(tex, display=display))
    return f"FORMULA{len(_formulas) - 1}FORMULA"


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """Change prose alone: code stays as it is, and a block of math becomes a formula."""
    parts, last = [], 0
    for match in _FENCE.finditer(text):
        parts.append(_outside_spans(text[last : match.start()], change))
        block = match[0]
        if match[3].strip() == "math":
            block = f"\n<div class='formula'>{_put_aside(match[4], 'block')}</div>\n"
        parts.append(block)
        last = match.end()
    return "".join([*parts, _outside_spans(text[last:], change)])


def _outside_spans(text: str, change: Callable[[str], str]) -> str:
    """Change what is not between backticks; a link's words may have such spans."""
    spans: list[str] = []

    def hide(match: re.Match[str]) -> str:
        spans.append(match[0])
        return f"\0{len(spans) - 1}\0"

    changed = change(_CODE.sub(hide, text))
    return re.sub("\0(\\d+)\0", lambda match: spans[int(match[1])], changed)


def _without_code(text: str) -> str:
    return _CODE.sub("", _FENCE.sub("", text))


def _api() -> str:
    """Return the page of all public names, each by its docstring where it is defined."""
    tree = ast.parse((ROOT / "src/sparkgmm/__init__.py").read_text(encoding="utf-8"))
    [homes] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOMES"
    ]
    names = [
        *(f"{home}.{name}" for name, home in homes.items()),
        "sparkgmm.sklearn.GaussianMixture",
    ]
    first = "# Python\n\nAll public names of `sparkgmm`; the last is of `sparkgmm.sklearn`.\n"
    return first + "".join(f"\n::: {name}\n" for name in names)


def _gallery() -> str:
    """Return the page of example reports, which `make docs` has made by real runs."""
    shown = ["# Gallery\n\nReports of runs, each one file that opens without a network.\n"]
    for folder in sorted(GALLERY.glob("*/")) if GALLERY.is_dir() else ():
        title, words = (folder / "about.txt").read_text(encoding="utf-8").split("\n", 1)
        shown.append(
            f"\n## {title}\n\n{html.escape(words.strip())}\n\n"
            f"[![{title}](gallery/{folder.name}/picture.png)](gallery/{folder.name}/report.html)\n\n"
            f"[The report](gallery/{folder.name}/report.html)\n"
        )
    return "".join(shown)
