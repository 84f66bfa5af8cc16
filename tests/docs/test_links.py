"""The pages as a whole: links and anchors lead somewhere, and the site has them all."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [*DOCS, *(ROOT / f"{n}.md" for n in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG"))]
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """Return a page without its code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(?m)^    .*$", "", text)


def anchors(page: Path) -> set[str]:
    """Return the anchors that both the repository's host and the site give to headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(page), flags=re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_what_is_there(page: Path) -> None:
    links = re.findall(r"\]\(([^()\s]+)\)", re.sub(r"`[^`\n]*`", "``", prose(page)))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), f"{page.name} links to {link}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name} links to {link}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_are_closed_and_yaml_among_them_is_yaml(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, flags=re.MULTILINE)) % 2 == 0
    for block in re.findall(r"^```yaml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        list(yaml.safe_load_all(block))


def test_every_page_is_in_the_sites_contents_and_nothing_comes_from_elsewhere() -> None:
    listed = set(re.findall(r"^ +- [^:\n]+: (\S+\.md)$", SITE, flags=re.MULTILINE))
    own = {page.name for page in PAGES} - {"README.md"} | {"index.md"}
    assert listed == own | {"api.md", "gallery.md"}
    assert "font: false" in SITE
    assert "use_directory_urls: false" in SITE
    assert "http" not in SITE
