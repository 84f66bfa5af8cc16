"""The command line: arguments, exit codes and the one `error:` line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import yaml

from sparkgmm.errors import ConfigurationError, SparkGmmError
from sparkgmm.runs.config import load_config
from sparkgmm.runs.streams import direct_errors
from sparkgmm.version import __version__


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} ({self.format_usage().strip()})")


def _fit_parser() -> _Parser:
    parser = _Parser(
        prog="fit_gmm",
        description="Fit a Gaussian mixture to a table and write the run.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="the configuration, YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="A.B=VALUE",
        help="set a key by its dotted path, the value read as YAML; may stand several times",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check configuration and schema, write nothing"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="redo a run whose run_id exists already"
    )
    parser.add_argument(
        "--verbose", action="store_true", help="show Spark's log and the traceback of an error"
    )
    parser.add_argument("--version", action="version", version=f"sparkgmm {__version__}")
    return parser


def fit_main(argv: Sequence[str] | None = None) -> int:
    """Run the fit job and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    direct_errors()
    try:
        options = _fit_parser().parse_args(arguments)
        _fit(options)
    except SparkGmmError as error:
        if "--verbose" in arguments:
            import traceback

            traceback.print_exc()
        print("error: " + " ".join(str(error).split()), file=sys.stderr, flush=True)
        return error.exit_code
    return 0


def _fit(options: argparse.Namespace) -> None:
    config = load_config(options.config, options.overrides)
    # Spark is imported only once the configuration is known to be right
    from sparkgmm.runs.fit import plan, run_fit
    from sparkgmm.runs.terminal import Terminal
    from sparkgmm.spark.session import start_session

    spark = start_session("sparkgmm fit", options.verbose)
    try:
        if options.dry_run:
            described = plan(spark, config)
            print(yaml.safe_dump(config.resolved(), sort_keys=False, allow_unicode=True))
            print(described)
        else:
            run_fit(spark, config, Terminal(), options.overwrite)
    finally:
        spark.stop()
