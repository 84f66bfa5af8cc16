"""The command line: arguments, exit codes and the one `error:` line."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from sparkgmm.errors import OVERWRITE, ConfigurationError, SparkGmmError, option_names
from sparkgmm.runs import json_log
from sparkgmm.runs.config import CompareConfig, FitConfig, ScoreConfig, load_config
from sparkgmm.runs.streams import direct_errors, without_py4js_tracebacks
from sparkgmm.runs.termination import TERMINATED, asked_to_end, end_on_sigterm
from sparkgmm.spark.executors import executor_fault
from sparkgmm.spark.lost import lost_spark
from sparkgmm.spark.masking import masked
from sparkgmm.spark.yarn import give_up
from sparkgmm.version import __version__

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from sparkgmm.runs.terminal import Terminal

Plan = Callable[["SparkSession", Any], str]
Run = Callable[["SparkSession", Any, argparse.Namespace], None]
# Configuration, input, no fit possible, drift: the same job would end there once more.
_WOULD_COME_AGAIN = (2, 3, 4, 5)


@dataclass(frozen=True)
class _Job:
    """What the jobs differ in; `steps` imports Spark and returns how to plan and how to run."""

    name: str
    description: str
    schema: type[Any]
    steps: Callable[[], tuple[Plan, Run]]
    can_overwrite: bool = False


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ConfigurationError(f"{message} ({self.format_usage().strip()})")


def _parser(job: _Job) -> _Parser:
    parser = _Parser(prog=f"{job.name}_gmm", description=job.description, allow_abbrev=False)
    parser.add_argument("--config", required=True, metavar="FILE", help="the configuration, YAML")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="overrides",
        metavar="A.B=VALUE",
        help="set a key by its dotted path, the value read as YAML; may be given several times",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check configuration and schema, write nothing"
    )
    if job.can_overwrite:
        parser.add_argument(
            "--overwrite", action="store_true", help="redo a run whose run_id exists already"
        )
    parser.add_argument(
        "--verbose", action="store_true", help="show Spark's log and the traceback of an error"
    )
    parser.add_argument(
        "--log-format",
        choices=["text", "json"],
        default="text",
        help="how progress is written to standard error: json is a line an event, for log shippers",
    )
    parser.add_argument("--version", action="version", version=f"sparkgmm {__version__}")
    return parser


def fit_main(argv: Sequence[str] | None = None) -> int:
    """Run the fit job and return its exit code."""
    text = "Fit a Gaussian mixture to a table and write the run."
    return _main(_Job("fit", text, FitConfig, _fit_steps, can_overwrite=True), argv)


def score_main(argv: Sequence[str] | None = None) -> int:
    """Run the score job and return its exit code."""
    text = "Score the rows of a table by a fitted Gaussian mixture and write them."
    return _main(_Job("score", text, ScoreConfig, _score_steps), argv)


def compare_main(argv: Sequence[str] | None = None) -> int:
    """Run the compare job and return its exit code."""
    text = "Fit a table by this and by other software and show where they differ."
    return _main(_Job("compare", text, CompareConfig, _compare_steps), argv)


def _terminal(options: argparse.Namespace) -> Terminal:
    from sparkgmm.runs.terminal import Terminal

    return Terminal(as_json=options.log_format == "json")


def _fit_steps() -> tuple[Plan, Run]:
    from sparkgmm.runs.fit_job import plan, run_fit

    def run(spark: SparkSession, config: FitConfig, options: argparse.Namespace) -> None:
        run_fit(spark, config, _terminal(options), options.overwrite)

    return plan, run


def _score_steps() -> tuple[Plan, Run]:
    from sparkgmm.runs.score_job import plan_score, run_score

    def run(spark: SparkSession, config: ScoreConfig, options: argparse.Namespace) -> None:
        run_score(spark, config, _terminal(options))

    return plan_score, run


def _compare_steps() -> tuple[Plan, Run]:
    from sparkgmm.runs.compare_job import plan_compare, run_compare

    def run(spark: SparkSession, config: CompareConfig, options: argparse.Namespace) -> None:
        run_compare(spark, config, _terminal(options))

    return plan_compare, run


def export_main(argv: Sequence[str] | None = None) -> int:
    """Write a run's model for other software to read, and return the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _guarded(arguments, lambda: _export(_export_parser().parse_args(arguments)))


def _export_parser() -> _Parser:
    parser = _Parser(
        prog="sparkgmm-export",
        description="Write a run's model for other software to read.",
        allow_abbrev=False,
    )
    parser.add_argument("run", help="a run, or an output root: its LATEST")
    parser.add_argument("path", help="what to write")
    parser.add_argument(
        "--to",
        required=True,
        choices=["spark", "sparkgmm", "sklearn", "json", "sql", "onnx"],
        help="spark: a folder for pyspark.ml's GaussianMixtureModel.load; sparkgmm: one for "
        "sparkgmm's; sklearn: a joblib file of a fitted GaussianMixture; json: a model.json; "
        "sql: a SELECT over a table named rows that adds component, probability_0.., log_density; "
        "onnx: a graph with the same outputs",
    )
    parser.add_argument(
        "--dialect",
        choices=["spark", "duckdb", "postgres", "bigquery", "snowflake"],
        help="of sql; default: spark",
    )
    parser.add_argument(
        "--input-type",
        choices=["float64", "float32"],
        help="of the tensor that onnx takes; default: float64",
    )
    return _writing(parser)


@option_names({OVERWRITE.name: "replace it by --overwrite"})
def _export(options: argparse.Namespace) -> None:
    from sparkgmm.exports.files import FORMS
    from sparkgmm.runs.folder import load_mixture
    from sparkgmm.runs.local_folder import LocalFolder
    from sparkgmm.spark.ml.export import export

    for flag, to in (("dialect", "sql"), ("input_type", "onnx")):
        if getattr(options, flag) and options.to != to:
            raise ConfigurationError(
                f"--{flag.replace('_', '-')} is {getattr(options, flag)}, and --to {options.to}: "
                f"it is for --to {to} alone, leave it out"
            )
    forms = {"dialect": options.dialect or "spark", "input_type": options.input_type or "float64"}
    local = LocalFolder.at(options.run) if options.to in FORMS else None
    if local is not None:
        export(load_mixture(local), options.to, options.path, None, options.overwrite, **forms)
    else:
        _export_by_spark(options, forms)
    print(f"wrote {options.path}")


def _export_by_spark(options: argparse.Namespace, forms: Mapping[str, str]) -> None:
    from sparkgmm.runs.folder import load_mixture
    from sparkgmm.spark.file_systems import Use
    from sparkgmm.spark.ml.export import export
    from sparkgmm.spark.session import start_session, stopping
    from sparkgmm.spark.storage import Folder

    spark = start_session("sparkgmm export", options.verbose)
    with stopping(spark):
        mixture = load_mixture(Folder(spark, options.run, Use("the run", ConfigurationError)))
        export(mixture, options.to, options.path, spark, options.overwrite, **forms)


def _writing(parser: _Parser) -> _Parser:
    """Add the options that all commands have which write one thing."""
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")
    parser.add_argument(
        "--verbose", action="store_true", help="show Spark's log and the traceback of an error"
    )
    parser.add_argument("--version", action="version", version=f"sparkgmm {__version__}")
    return parser


def init_main(argv: Sequence[str] | None = None) -> int:
    """Look at a table and write a configuration that fits it; return the exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _guarded(arguments, lambda: _init(_init_parser().parse_args(arguments)))


def _init_parser() -> _Parser:
    parser = _Parser(
        prog="sparkgmm-init",
        description="Look at a table and write a commented configuration that fits it as it is.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "table", help="a file, folder or glob, any URI that Spark reads, or a table of a catalog"
    )
    parser.add_argument("--output", metavar="FILE", help="what to write; default: to the terminal")
    return _writing(parser)


def _init(options: argparse.Namespace) -> None:
    from sparkgmm.runs.init_job import init

    print(init(options.table, options.output, options.overwrite, options.verbose))


def _main(job: _Job, argv: Sequence[str] | None) -> int:
    """Run a job; what a user can correct is one line on standard error."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    return _guarded(arguments, lambda: _run(job, _parser(job).parse_args(arguments)))


def _guarded(arguments: Sequence[str], work: Callable[[], None]) -> int:
    direct_errors()
    if "--verbose" not in arguments:
        without_py4js_tracebacks()
    end_on_sigterm()
    json_log.clear_context()
    as_json = json_log.asked_for(arguments)
    try:
        with json_log.with_warnings(as_json):
            work()
    except Exception as error:
        message, code = _ending(error)
        if code is None and not as_json:
            raise
        verbose = code is None or "--verbose" in arguments
        if as_json:
            json_log.write_error(error, message, code or 1, verbose)
        else:
            if verbose and isinstance(error, SparkGmmError):
                print(masked(traceback.format_exc()), file=sys.stderr)
            print(message, file=sys.stderr, flush=True)
        if code in _WOULD_COME_AGAIN and not getattr(error, "may_pass", False):
            give_up(f"{message} (exit code {code})")
        return code or 1
    return 0


def _ending(error: Exception) -> tuple[str, int | None]:
    """Return the one line of what ended a job, and its exit code, None where nobody expected it."""
    code: int | None
    if asked_to_end():
        text = "terminated: start the same job again; a fit with an output.run_id goes on"
        code = TERMINATED
    elif isinstance(error, SparkGmmError):
        text, code = f"error: {error}", error.exit_code
    elif lost := lost_spark(error):
        text, code = f"error: {lost}", lost.exit_code
    elif fault := executor_fault(str(error)):
        text, code = f"error: {fault}", ConfigurationError.exit_code
    else:
        text, code = f"error: {type(error).__name__}: {error}", None
    return " ".join(masked(text).split()), code


def _run(job: _Job, options: argparse.Namespace) -> None:
    config = load_config(options.config, options.overrides, job.schema)
    # Spark is imported only once the configuration is known to be right
    plan, run = job.steps()
    from sparkgmm.spark.session import start_session, stopping

    as_json = options.log_format == "json"
    spark = start_session(f"sparkgmm {job.name}", options.verbose, as_json)
    with stopping(spark):
        if options.dry_run:
            described = plan(spark, config)
            print(yaml.safe_dump(config.resolved(), sort_keys=False, allow_unicode=True))
            print(described)
        else:
            run(spark, config, options)
