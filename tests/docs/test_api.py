"""The API reference: every public name is in it, with what it takes and what it raises."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys

import pytest

import sparkgmm


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write the reference as `make api` does."""
    folder = tmp_path_factory.mktemp("api")
    command = [sys.executable, "-m", "pdoc", "--docformat", "numpy", "--math"]
    command += ["--output-directory", str(folder), "sparkgmm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert "does not resolve" not in done.stderr
    return (folder / "sparkgmm.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in sparkgmm.__all__ if not n.startswith("_")])
def test_every_public_name_is_described(page: str, name: str) -> None:
    assert f'id="{name}"' in page
    described = inspect.getdoc(getattr(sparkgmm, name))
    assert described
    first = described.splitlines()[0].split(":")[0].rstrip(".")[:30]
    assert first.replace("'", "&#39;") in page or first in page


def test_what_fit_array_raises_is_in_its_own_section(page: str) -> None:
    section = page.split('<section id="fit_array">')[1].split("</section>")[0]
    raises = section.split(">Raises</h6>")[1].split("<h6")[0]
    assert re.findall(r"<strong>(\w+)</strong>", raises) == ["InputError", "FitError"]
