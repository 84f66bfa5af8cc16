"""sparkgmm-init: look at a table and write a configuration that fits it as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

import yaml

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.formatting import some_of
from sparkgmm.runs.column_account import left_out_lines
from sparkgmm.runs.column_kinds import ColumnKind
from sparkgmm.runs.first_look import FirstLook, look_at_files, look_by_spark
from sparkgmm.runs.local_folder import local_files
from sparkgmm.spark.names import TableName, is_table_name
from sparkgmm.spark.source import COMPRESSIONS, EXTENSIONS, format_of

# Above so many features a matrix of each component's own has more parameters than most tables rows.
_MANY_FEATURES = 100
_ROWS_A_COMPONENT = 20
_MOST_COMPONENTS = 6
_ENDINGS = ".csv, .tsv, .parquet, .json or .orc"


def init(table: str, output: str | None, overwrite: bool, verbose: bool) -> str:
    """Look at a table, write its configuration to `output`, and return what to print.

    Without `output` that is the configuration itself.

    Raises
    ------
    ConfigurationError
        If `output` exists or cannot be written.
    InputError
        If the table cannot be read or has nothing to fit.

    """
    if output is not None and Path(output).exists() and not overwrite:
        raise ConfigurationError(
            f"--output {output!r} exists: give another file, or --overwrite to replace it"
        )
    seen = _look(table, verbose)
    written = configuration(seen, output)
    if output is None:
        return written
    try:
        Path(output).write_text(written, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"--output {output!r} cannot be written ({error.strerror}): give another file"
        ) from error
    return "\n".join([*_told(seen), f"wrote    {output}: fit it by sparkgmm-fit --config {output}"])


def _look(table: str, verbose: bool) -> FirstLook:
    files = [file for file in local_files(table) if _is_readable(file)]
    if files and not any((Path(table) / log).exists() for log in ("_delta_log", "metadata")):
        return look_at_files(table, files)
    if not files and Path(table).is_file():
        raise ConfigurationError(
            f"{table!r} is of a format that its extension does not say: name it "
            f"{_ENDINGS}, by what it holds"
        )
    from sparkgmm.spark.session import start_session, stopping

    suffix = PurePosixPath(table).suffix.lower()
    named = "/" not in table and suffix not in {*EXTENSIONS, *COMPRESSIONS}
    place = TableName(table) if named and is_table_name(table) else table
    spark = start_session("sparkgmm init", verbose)
    with stopping(spark):
        known = suffix in EXTENSIONS or suffix in COMPRESSIONS
        return look_by_spark(spark, place, format_of(table) if known else None)


def _is_readable(file: Path) -> bool:
    try:
        format_of(str(file))
    except ConfigurationError:
        return False
    return True


def configuration(seen: FirstLook, output: str | None = None) -> str:
    """Return a fit's configuration of a table, with what was seen in its comments.

    Raises
    ------
    InputError
        If no column can be a feature.

    """
    features = _of_kind(seen, "numeric") or _of_kind(seen, "counts")
    if not features and not _of_kind(seen, "categorical"):
        raise InputError(
            f"{str(seen.place)!r} has no column of numbers to fit "
            f"({'; '.join(f'{c.name}: {c.what}' for c in seen.columns[:8])}): give a table with "
            "some, or make numbers of what it holds"
        )
    return "\n".join([*_heading(seen, output), *_input(seen, features), *_rest(seen, features), ""])


def _of_kind(seen: FirstLook, kind: str) -> list[ColumnKind]:
    return [column for column in seen.columns if column.kind == kind]


def _heading(seen: FirstLook, output: str | None) -> Iterator[str]:
    rows = f"{seen.n_rows:,} rows" if seen.whole else f"the first {seen.n_rows:,} rows"
    yield f"# A fit of {seen.place}, as sparkgmm-init found it on {datetime.now(UTC):%Y-%m-%d}:"
    yield f"# {rows}, {len(seen.columns)} columns. It runs as it is:"
    yield f"#     sparkgmm-fit --config {output or 'FILE'}"
    for note in seen.notes:
        yield f"# {note}."


def _input(seen: FirstLook, features: Sequence[ColumnKind]) -> Iterator[str]:
    yield "input:"
    if isinstance(seen.place, TableName):
        yield f"  table: {_scalar(str(seen.place))}"
    else:
        yield f"  path: {_scalar(str(seen.place))}"
        if seen.format is not None:
            yield f"  format: {seen.format}"
    if seen.options:
        yield "  options:  # handed to the Spark reader"
        for key, value in seen.options.items():
            yield f"    {key}: {_scalar(value)}"
    yield "  features:" if features else "  features: []  # categories alone: latent classes"
    yield from _listed(features, "    - ")
    yield from _other_kind(seen, "categorical", features, "a multinomial in each component")
    yield from _other_kind(seen, "counts", features, "a Poisson in each component")
    yield from _nulls([c for c in seen.columns if c.kind != "out"])
    out = _of_kind(seen, "out")
    if out:
        yield "  # left out:"
        yield from _listed(out, "  #   ")


def _other_kind(
    seen: FirstLook, key: str, features: Sequence[ColumnKind], meaning: str
) -> Iterator[str]:
    """Write the columns of a kind that is not the features'."""
    columns = [column for column in _of_kind(seen, key) if column not in features]
    if not columns:
        return
    yield f"  {key}:  # {meaning}"
    yield from _listed(columns, "    - ")


def _nulls(columns: Sequence[ColumnKind]) -> Iterator[str]:
    if any(column.nulls for column in columns):
        yield "  missing: model  # nulls are integrated over; invalid: such rows are left out"
    if any(column.infinite for column in columns):
        yield "  invalid_rows: quarantine  # infinite values: beside the run; drop: nowhere"


def _listed(columns: Sequence[ColumnKind], begin: str) -> Iterator[str]:
    """Write a column a line, with what it holds."""
    names = [_scalar(column.name) for column in columns]
    width = min(max(map(len, names), default=0), 30)
    for name, column in zip(names, columns, strict=True):
        nulls = f", {column.nulls:,} null{'s' if column.nulls > 1 else ''}" if column.nulls else ""
        infinite = f", {column.infinite:,} infinite" if column.infinite else ""
        what = " ".join(f"{column.what}{nulls}{infinite}".split())
        yield f"{begin}{name:<{width}}  # {what}"


def _rest(seen: FirstLook, features: Sequence[ColumnKind]) -> Iterator[str]:
    most = max(1, min(_MOST_COMPONENTS, seen.n_rows // _ROWS_A_COMPONENT))
    yield "model:"
    if most == 1:
        yield "  k: 1"
    else:
        yield f"  k: 1-{most}  # the criterion chooses; or one number"
    kind = "full" if len(features) <= _MANY_FEATURES else "diag"
    yield f"  covariance_type: {kind}  # full, tied, diag, spherical; or several: [full, diag]"
    yield "output:"
    yield f"  path: {_scalar(f'runs/{_stem(seen.place)}')}"


def _stem(place: str | TableName) -> str:
    """Return a name for the runs of a table."""
    if isinstance(place, TableName):
        return str(place).rpartition(".")[2].strip("`")
    path = PurePosixPath(place.rstrip("/"))
    while path.suffix.lower() in {*COMPRESSIONS, *EXTENSIONS}:
        path = path.with_suffix("")
    return path.name if path.name and not set(path.name) & set("*?[{") else "table"


def _scalar(value: object) -> str:
    """Write one value as YAML, quoted where it has to be."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("\n").removesuffix("\n...")


def _told(seen: FirstLook) -> Iterator[str]:
    rows = "all" if seen.whole else "the first"
    form = f"{seen.format or 'table'}, " + ", ".join(
        f"{key} {_scalar(value)}" for key, value in seen.options.items() if key != "schema"
    )
    yield f"looked   at {rows} {seen.n_rows:,} rows of {seen.place} ({form.rstrip(', ')})"
    for kind, word in (
        ("numeric", "features"),
        ("categorical", "categor."),
        ("counts", "counts"),
    ):
        names = [column.name for column in _of_kind(seen, kind)]
        if names:
            yield f"{word:<8} {some_of(names)}"
    yield from left_out_lines({c.name: c.what for c in _of_kind(seen, "out")}, "the file written")
