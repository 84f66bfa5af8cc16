"""The scenarios of a module of tests/jobs: registered by name, run once, looked at by its tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FAITHFUL = str(Path(__file__).resolve().parents[2] / "data" / "faithful.csv")


@dataclass(frozen=True)
class Done:
    """What a process left: exit code, both streams, and the folder it worked in."""

    code: int
    out: str
    err: str
    folder: Path

    @property
    def errors(self) -> list[str]:
        """The lines that start with `error:`."""
        return [line for line in self.err.splitlines() if line.startswith("error:")]


class Scenarios(dict[str, Callable[..., Any]]):
    """Scenarios by name; as a decorator it registers one under its function's name."""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self[function.__name__] = function
        return function


def look_at(name: str) -> pytest.MarkDecorator:
    """Give a test what a scenario returned, as `outcome`."""
    return pytest.mark.parametrize("outcome", [name], indirect=True, ids=[""])


def command_line(config: str, overrides: tuple[str, ...]) -> list[str]:
    """Return the arguments of a job: its configuration and what is set over it."""
    return ["--config", config, *(part for text in overrides for part in ("--set", text))]
