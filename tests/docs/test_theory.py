"""The documents speak in the code's names: each must exist, and so must each source and link."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "sparkgmm"
THEORY = (ROOT / "docs" / "theory.md").read_text(encoding="utf-8")
BODY, SOURCES = THEORY.split("## Sources")
WALKTHROUGH = "\n\n".join(
    "".join(cell["source"])
    for cell in json.loads((ROOT / "docs" / "walkthrough.ipynb").read_text(encoding="utf-8"))[
        "cells"
    ]
    if cell["cell_type"] == "markdown"
)
# `core/em.py: em`, `mixture.py: Mixture.predict`
REFERENCES = sorted(set(re.findall(r"`([\w/]+\.py): ([\w.]+)`", THEORY + WALKTHROUGH)))
ENTRIES = [line[2:] for line in SOURCES.splitlines() if line.startswith("- ")]


def _bound(node: ast.stmt) -> list[str]:
    """Return the names that a statement binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.AnnAssign):
        return [node.target.id] if isinstance(node.target, ast.Name) else []
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return []


@cache
def names_in(path: str) -> frozenset[str]:
    """Return the names of a module and, after their class's, those of its classes."""
    names = set()
    for node in ast.parse((PACKAGE / path).read_text(encoding="utf-8")).body:
        names.update(_bound(node))
        if isinstance(node, ast.ClassDef):
            names.update(f"{node.name}.{name}" for inner in node.body for name in _bound(inner))
    return frozenset(names)


def test_the_text_has_references_to_check() -> None:
    assert len(REFERENCES) > 40
    for document in (THEORY, WALKTHROUGH):  # whatever looks like a reference is one
        references = re.findall(r"`[\w/]+\.py: [\w.]+`", document)
        assert len(re.findall(r"\w+\.py: ", document)) == len(references) > 0


@pytest.mark.parametrize(("path", "name"), REFERENCES, ids=[f"{p}:{n}" for p, n in REFERENCES])
def test_each_name_in_the_text_is_in_the_code(path: str, name: str) -> None:
    assert (PACKAGE / path).is_file()
    assert name in names_in(path)


@pytest.mark.parametrize("entry", ENTRIES, ids=[entry.split(",")[0] for entry in ENTRIES])
def test_each_source_is_cited(entry: str) -> None:
    match = re.match(r"(?P<first>[\w-]+), .*?\((?P<year>\d{4})\)", entry)
    assert match
    assert re.search(rf"{match['first']}[^)]{{0,60}}?\(?{match['year']}", " ".join(BODY.split()))


def test_each_citation_has_its_source() -> None:
    # Lloyd 1982; Neal and Hinton (1998); Ueda, Nakano, Ghahramani and Hinton (2000)
    authors = r"([A-Z][\w-]+)(?:,[^().;]*?| and [A-Z][\w-]+)?"
    cited = re.findall(authors + r" \(?(1[89]\d\d|20\d\d)\b", BODY)
    assert len(cited) > 20
    for name, year in cited:
        assert any(name in entry and f"({year})" in entry for entry in ENTRIES), (name, year)


def test_each_link_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in THEORY.splitlines()
        if line.startswith("#")
    }
    links = re.findall(r"\]\(([^)]+)\)", THEORY + WALKTHROUGH)
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        assert not path or (ROOT / "docs" / path).is_file(), link
        assert not anchor or anchor in headings, link  # of theory.md, from either


def test_math_is_closed() -> None:
    fences = re.findall(r"^```(\w*)$", THEORY, flags=re.MULTILINE)
    assert fences == ["math", ""] * (len(fences) // 2)
    text = re.sub(r"^```math$.*?^```$", "", THEORY, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"^```math$(.*?)^```$", THEORY, flags=re.MULTILINE | re.DOTALL):
        assert block.count("{") - block.count(r"\{") == block.count("}") - block.count(r"\}"), block
    for paragraph in text.split("\n\n"):
        prose = re.sub(r"`[^`]*`", "", paragraph)
        assert prose.count("$") % 2 == 0, paragraph
        for formula in re.findall(r"\$([^$]+)\$", prose):
            assert formula.count("{") == formula.count("}"), formula
            # Markdown takes the backslash off punctuation before the formula is set
            assert not re.search(r"\\[^a-zA-Z\s]", formula), formula
