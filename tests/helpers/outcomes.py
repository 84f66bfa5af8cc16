"""What became of a job that was given something hostile."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sparkgmm.errors import SparkGmmError
from sparkgmm.mixture import Mixture


@dataclass(frozen=True)
class Outcome:
    """What became of a job: 0 and a mixture, or the code and line of an error of the user's."""

    code: int
    message: str = ""
    mixture: Mixture | None = None


Attempt = Callable[..., Outcome]


def failed(error: SparkGmmError, output: Path) -> Outcome:
    """Check that an error is a line of words, and that nothing was published."""
    message = " ".join(str(error).split())
    assert 20 < len(message) < 2000, message
    assert "Traceback" not in message
    assert "\tat " not in str(error)
    assert "Py4J" not in message
    assert not output.exists(), list(output.rglob("*"))
    return Outcome(error.exit_code, message)
