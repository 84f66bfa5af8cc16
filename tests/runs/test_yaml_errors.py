"""What is said of a configuration that is no YAML."""

from __future__ import annotations

from pathlib import Path

import pytest

from sparkgmm.errors import ConfigurationError
from sparkgmm.runs.config import load_config


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("input:\n\tpath: a.csv", r"line 2, column 1, 'path: a.csv': a tab stands there"),
        ("input: {path: @x}", r"line 1, .*: a value cannot begin with @: put it in quotes"),
        ("input: {path: *.csv}", r"line 1, .* begins with \* means something else in YAML"),
        ("input: path: a", r"a second colon stands there"),
        ("input:\n  path: 'a.csv\nmodel: {k: 2}\n", "the quote opened in line 2 is not closed"),
        ("model:\n  k: [2, 3\noutput: {path: r}", r"the \[ opened in line 2 is not closed by \]"),
        ("input: {path: a.csv", r"the { opened in line 1 is not closed by }"),
        ("input:\n  path: a\n model:\n  k: 2", r"line 3, .*'model:': it is indented otherwise"),
        ("input:\n  path: !x a", "!x is a tag, which is not known here"),
    ],
)
def test_what_is_wrong_with_the_text_is_said_and_where(
    text: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said) as caught:
        load_config(str(path))
    assert "expected" not in str(caught.value)
    assert "\n" not in str(caught.value)
