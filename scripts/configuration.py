"""`make configuration`: write docs/configuration.md, every key of the jobs, from the options."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import yaml

from sparkgmm.options import JOBS, OPTIONS, REQUIRED, Job, Option

PAGE = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"
_INTRODUCTION = """
Written by `make configuration` from `src/sparkgmm/options.py`: change it there.

A job reads one YAML file (`--config trips.yaml`), and `--set a.b=value` sets any key by its dotted
path, the value read as YAML. A key that is not in this list, a wrong type or a value out of range
ends the job before Spark starts, with exit code 2 and one line that names the key. A key whose
default is none may be set to `null`, which leaves it out. `conf/` has configurations that run.
"""
_TABLE = """
## The same options in Python and in Spark ML

`sparkgmm.fit_array` and the Spark estimator `sparkgmm.GaussianMixture` have the same options with
the same defaults, and take the same values unless the last column says otherwise. Of rows and
weights `fit_array` takes arrays, the estimator the names of columns.

| configuration | `fit_array` | `GaussianMixture` | default | |
|---|---|---|---|---|
"""


def page() -> str:
    """Return the page."""
    parts = ["# Every key of the configuration\n", _INTRODUCTION]
    shown: set[str] = set()
    for job in JOBS:
        parts += ["\n", *_job(job, shown)]
        shown |= {option.name for option in job.options}
    parts += [_TABLE, *map(_row, filter(_in_python, OPTIONS.values()))]
    return "".join(parts)


def _job(job: Job, shown: set[str]) -> Iterator[str]:
    yield f"## {job.name.capitalize()}\n\n"
    yield _wrapped(
        f"{job.description} Started by `jobs/{job.name}_gmm.py`, or by "
        f"`sparkgmm-{job.name}` where the package is installed."
    )
    section = None
    for option in job.options:
        assert option.key is not None
        parent = option.key.rpartition(".")[0]
        if parent != section:
            section = parent
            if parent:
                yield f"\n### {job.name}: `{parent}`\n\n{_wrapped(job.sections[parent])}"
            same = [o for o in job.options if o.name in shown and _parent(o) == parent]
            if same:
                keys = ", ".join(f"`{o.key}`" for o in same)
                yield f"\n{_wrapped(f'As in the jobs above: {keys}.')}"
        if option.name not in shown:
            yield from _option(option)


def _parent(option: Option) -> str:
    return (option.key or "").rpartition(".")[0]


def _option(option: Option) -> Iterator[str]:
    yield f"\n#### {', '.join(f'`{key}`' for key in option.keys)}\n\n"
    yield _wrapped(option.description)
    takes = ", ".join(filter(None, [f"Takes {option.kind.description}", option.several]))
    yield f"\n{_wrapped(f'{takes}. {_default(option)}.{_elsewhere(option)}')}"
    yield f"\n```yaml\n{_example(option.keys[0], option.example)}\n```\n"


def _elsewhere(option: Option) -> str:
    names = [
        f"`{name}` in {where}"
        for where, name in (("`fit_array`", option.python), ("Spark ML", option.spark))
        if name is not None
    ]
    return f" It is {' and '.join(names)}." if names else ""


def _default(option: Option) -> str:
    if option.default == REQUIRED:
        return "Required"
    if option.default is None:
        return "Default: none"
    return f"Default: `{_yaml(option.default)}`"


def _yaml(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=1000)
    text = text.removesuffix("\n").removesuffix("\n...")
    return re.sub(r"e-0(\d)$", r"e-\1", text)


def _example(key: str, value: str) -> str:
    *sections, name = key.split(".")
    lines = [f"{'  ' * depth}{section}:" for depth, section in enumerate(sections)]
    return "\n".join([*lines, f"{'  ' * len(sections)}{name}: {value}"])


def _in_python(option: Option) -> bool:
    return option.python is not None or option.spark is not None


def _row(option: Option) -> str:
    differs = "" if option.spark_kind is None else f"in Spark ML {option.spark_kind.description}"
    if option.key is None:
        differs = option.description
    names = (f"`{name}`" if name else "" for name in (option.key, option.python, option.spark))
    default = "" if option.default is None else f"`{_yaml(option.default)}`"
    return f"| {' | '.join([*names, default, differs])} |\n"


def _wrapped(text: str) -> str:
    # links and code stay in one line
    words = re.sub(
        r"\[[^]]*\]\([^)]*\)|`[^`]*`", lambda link: link.group().replace(" ", "\0"), text
    )
    lines = textwrap.wrap(words, 100, break_on_hyphens=False, break_long_words=False)
    return "\n".join(lines).replace("\0", " ") + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
