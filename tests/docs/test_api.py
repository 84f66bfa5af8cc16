"""The API reference: every public name is in it, with what it takes and what it raises."""

from __future__ import annotations

import inspect
from pathlib import Path

import pdoc
import pytest

import sparkgmm


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("api")
    pdoc.render.configure(docformat="numpy", math=True)
    pdoc.pdoc("sparkgmm", output_directory=folder)
    return (Path(folder) / "sparkgmm.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in sparkgmm.__all__ if not n.startswith("_")])
def test_every_public_name_is_described(page: str, name: str) -> None:
    assert f'id="{name}"' in page
    described = inspect.getdoc(getattr(sparkgmm, name))
    assert described
    first = described.splitlines()[0].split(":")[0].rstrip(".")[:30]
    assert first.replace("'", "&#39;") in page or first in page


def test_what_fit_array_raises_is_told(page: str) -> None:
    for part in ("Raises", "InputError", "FitError"):
        assert part in page
