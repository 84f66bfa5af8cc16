"""docs/configuration.md: what `make configuration` would write now, and YAML that is taken."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import yaml

from sparkgmm.options import JOBS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_is_what_the_table_of_options_gives() -> None:
    spec = importlib.util.spec_from_file_location("script", ROOT / "scripts" / "configuration.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    stale = "docs/configuration.md is stale: run make configuration"
    assert script.page() == PAGE.read_text(encoding="utf-8"), stale


def test_every_key_has_its_place_and_an_example_that_is_yaml() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for job in JOBS:
        for key in job.keys:
            assert f"`{key}`" in text
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    options = {option.name for job in JOBS for option in job.options}
    assert len(examples) == len(options)
    for example in examples:
        assert isinstance(yaml.safe_load(example), dict)
