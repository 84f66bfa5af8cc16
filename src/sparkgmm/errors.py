"""What can go wrong, by a job's exit code. A message says what, the value met and the remedy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple, Protocol


class Named(Protocol):
    """An option, of which a front end has a name of its own: `model.k`, `k`."""

    @property
    def name(self) -> str: ...  # noqa: D102


Remedy = str | tuple[str | Named, ...]
"""What to do, in words, options among them: `("lower", K, "to 3")`."""


class Way(NamedTuple):
    """A remedy that front ends have in words of their own, or not at all: a name as an option's."""

    name: str


OVERWRITE = Way("overwrite it")


class SparkGmmError(Exception):
    """Base of the errors that a user can cause and correct; `exit_code` is what a job returns.

    Parameters
    ----------
    problem : what is wrong, with the value met; or the whole message, remedy and all
    remedies : what to do about it, one of them or several; each says it once

    The numerics name options by objects, as they do not know who called them. The front end that
    the error leaves by gives its own names for them with `option_names`, and a remedy by an option
    that it does not have is left out.

    `may_pass` is True where the same job may go well later with nothing changed: a store that did
    not answer.
    """

    exit_code = 1
    may_pass = False

    def __init__(self, problem: str, *remedies: Remedy) -> None:
        super().__init__(problem, *remedies)
        self.names: Mapping[str, str] | None = None

    def __str__(self) -> str:
        problem, *remedies = self.args
        said = [text for text in map(self._remedy_text, remedies) if text is not None]
        return f"{problem}: {_alternatives(said)}" if said else str(problem)

    def _remedy_text(self, remedy: Remedy) -> str | None:
        """Return a remedy in the front end's words, None where it lacks an option."""
        words = []
        for part in (remedy,) if isinstance(remedy, str) else remedy:
            if isinstance(part, str):
                words.append(part)
            elif self.names is None:
                words.append(part.name)
            elif part.name in self.names:
                words.append(self.names[part.name])
            else:
                return None
        return " ".join(words)


class ConfigurationError(SparkGmmError, ValueError):
    """The command line, the configuration or the environment is wrong."""

    exit_code = 2


class InputError(SparkGmmError, ValueError):
    """The input is wrong: missing, empty, unreadable, or nothing a mixture can be fitted to."""

    exit_code = 3


class FitError(SparkGmmError):
    """No fit is possible: every candidate is degenerate."""

    exit_code = 4


class FitWarning(UserWarning):
    """There is a mixture, but something about it that a user should know."""


class ConvergenceWarning(FitWarning):
    """The fit used up its passes before it was within `tol` of its limit."""


class DriftError(SparkGmmError):
    """The run is there to be looked at, but it drifted too far: LATEST does not name it."""

    exit_code = 5


@contextlib.contextmanager
def option_names(names: Mapping[str, str]) -> Iterator[None]:
    """Make errors that leave the block call options by these names, by the name in the table."""
    try:
        yield
    except SparkGmmError as error:
        error.names = names
        raise


def _alternatives(texts: list[str]) -> str:
    """Return "a", "a or b", "a, b, or c"."""
    if len(texts) < 3:
        return " or ".join(texts)
    return f"{', '.join(texts[:-1])}, or {texts[-1]}"
