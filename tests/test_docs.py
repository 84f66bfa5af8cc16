"""What the documentation shows is run."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MODULES = ["sparkgmm.mixture", "sparkgmm.core.local"]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_give_what_they_say(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))
    assert outcome.attempted > 0
    assert outcome.failed == 0


@pytest.mark.parametrize("example", [0, 1])
def test_the_examples_of_the_readme_print_what_they_say(
    example: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    import matplotlib

    matplotlib.use("Agg")
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[example]
    exec(compile(code, "README.md", "exec"), {})
    promised = re.findall(r"print\(.*\)  # (.*)", code)
    assert capsys.readouterr().out.splitlines() == promised


def test_the_package_shows_its_public_names_and_no_others() -> None:
    import sparkgmm

    assert dir(sparkgmm) == sorted(sparkgmm.__all__)
    assert all(hasattr(sparkgmm, name) for name in dir(sparkgmm))
