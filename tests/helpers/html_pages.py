"""A page as a browser reads it, for tests of pages."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree


class Page(HTMLParser):
    """A page as a browser reads it: elements, visible text, scripts and data."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.data: dict[str, str] = {}
        self.cells: list[str] = []
        self.text = ""
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script" and attributes.get("type") == "application/json":
            self.data[str(attributes["id"])] = data
        elif tag == "script":
            self.scripts.append(data)
        elif tag == "style":
            self.styles.append(data)
        else:
            self.text += data
            if tag in ("td", "th"):
                self.cells[-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def pairs(self) -> dict[str, Any]:
        """What the page carries for the pairs that are not drawn."""
        return json.loads(self.data["pairs"])


def svg_of(source: str) -> ElementTree.Element:
    kind, content = source.split(",", 1)
    assert kind == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(content))


def check_it_loads_nothing(page: Page) -> None:
    """Assert that page and drawings hold all that they show, and nothing else that runs."""
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "srcset", "action", "data", "poster", "background"):
                assert str(value).startswith("data:"), (tag, name, str(value)[:80])
            assert not name.startswith("on"), (tag, name)
    for style in page.styles:
        assert "@import" not in style
        assert "url(" not in style
    names = {tag for tag, _ in page.elements}
    assert not names & {"iframe", "object", "embed", "form", "base", "audio", "video"}
    for script in page.scripts:
        assert not re.search(r"fetch|XMLHttp|import\(|innerHTML|document\.write|eval\(", script)
    for attributes in page.of("img"):
        _check_drawing(svg_of(str(attributes["src"])))


def _check_drawing(svg: ElementTree.Element) -> None:
    for element in svg.iter():
        assert not element.tag.endswith(("}script", "}foreignObject", "}a"))
        for name, value in element.attrib.items():
            if name.endswith("href"):
                assert value.startswith(("#", "data:image/png;base64,")), value[:80]
            for target in re.findall(r"url\(([^)]*)\)", value):
                assert target.startswith("#")


def check_its_policy(page: Page) -> None:
    """Assert that the page's own policy comes first and allows its own scripts alone."""
    [policy] = [
        str(meta["content"])
        for meta in page.of("meta")
        if meta.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in page.scripts
    ]
    expected = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    assert rules["script-src"] == expected
    # a policy holds for what comes after it
    at = page.elements.index(("meta", {"http-equiv": "Content-Security-Policy", "content": policy}))
    assert not {"style", "script", "img", "link"} & {tag for tag, _ in page.elements[:at]}
