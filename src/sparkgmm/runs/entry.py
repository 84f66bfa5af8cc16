"""The console scripts: a job that fails raises SystemExit with its exit code.

Whoever calls an entry point and passes its result by, as a Python wheel task of Databricks does,
would take an exit code that is merely returned for success. A job that succeeds just returns.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from sparkgmm.runs import cli


def fit() -> None:
    """Run the fit job by the command line."""
    _end(cli.fit_main)


def score() -> None:
    """Run the score job by the command line."""
    _end(cli.score_main)


def compare() -> None:
    """Run the compare job by the command line."""
    _end(cli.compare_main)


def export() -> None:
    """Write a run's model for other software, by the command line."""
    _end(cli.export_main)


def init() -> None:
    """Write a configuration for a table, by the command line."""
    _end(cli.init_main)


def _end(main: Callable[[], int]) -> None:
    code = main()
    if code:
        sys.exit(code)
