"""What can go wrong, by a job's exit code. A message says what, the value met and the remedy."""


class SparkGmmError(Exception):
    """Base of the errors that a user can cause and correct; `exit_code` is what a job returns.

    `may_pass` is True where the same job may go well later with nothing changed: a store that did
    not answer.
    """

    exit_code = 1
    may_pass = False


class ConfigurationError(SparkGmmError, ValueError):
    """The command line, the configuration or the environment is wrong."""

    exit_code = 2


class InputError(SparkGmmError, ValueError):
    """The input is wrong: missing, empty, unreadable, or nothing a mixture can be fitted to."""

    exit_code = 3


class FitError(SparkGmmError):
    """No fit is possible: every candidate is degenerate."""

    exit_code = 4


class DriftError(SparkGmmError):
    """The run is there to be looked at, but it drifted too far: LATEST does not name it."""

    exit_code = 5
