"""What Delta and Iceberg throw, and what it means to the user."""

from __future__ import annotations

import re

from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError
from sparkgmm.spark.masking import masked

FORMATS = ("delta", "iceberg")
NAMES = {"delta": "Delta", "iceberg": "Iceberg"}
# What to give to spark-submit: the settings, and the package by Spark's version where it was run.
_SETTINGS = {
    "delta": (
        "--conf spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension "
        "--conf spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog"
    ),
    "iceberg": (
        "--conf spark.sql.extensions="
        "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions "
        "and, for tables by name, spark.sql.catalog.NAME=org.apache.iceberg.spark.SparkCatalog"
    ),
}
_PACKAGES = {
    ("delta", "4.1"): "io.delta:delta-spark_4.1_2.13:4.3.0",
    ("iceberg", "4.1"): "org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:1.12.0",
}
_ARTIFACTS = {
    "delta": "io.delta:delta-spark",
    "iceberg": "org.apache.iceberg:iceberg-spark-runtime",
}
# Java's errors where a class is not the one that another was compiled against.
_LINKAGE = re.compile(
    r"java\.lang\.(NoSuchMethodError|NoSuchFieldError|IncompatibleClassChangeError"
    r"|AbstractMethodError|NoClassDefFoundError|ClassFormatError|VerifyError|IllegalAccessError)"
    r"(?:: ([^\n]{0,160}))?"
)
_VERSION_GONE = re.compile(
    r"DELTA_VERSION_NOT_FOUND|DELTA_TIMESTAMP_EARLIER|DELTA_TIMESTAMP_GREATER|"
    r"TIMESTAMP_EARLIER_THAN_COMMIT|TIMESTAMP_GREATER_THAN_COMMIT|"
    r"DELTA_TIMESTAMP_INVALID|Cannot find snapshot|Cannot find a snapshot|"
    r"DELTA_TRUNCATED_TRANSACTION|"
    r"DELTA_LOG_FILE_NOT_FOUND|Start version\S* for reading change data|DELTA_INVALID_CDC_RANGE|"
    r"is not a parent ancestor|is not an ancestor|not a valid (?:snapshot|timestamp)|"
    r"UNSUPPORTED_FEATURE\.TIME_TRAVEL|INVALID_TIME_TRAVEL"
)
_FILES_GONE = re.compile(
    r"DELTA_FILE_NOT_FOUND|FILE_NOT_EXIST|FileNotFoundException|NotFoundException"
)
_NO_CATALOG = re.compile(r"REQUIRES_SINGLE_PART_NAMESPACE|CATALOG_NOT_FOUND")
# Spark 4.3 and later, and before.
_PLUGIN = re.compile(
    r"Cannot load catalog '([^']+)' with the plugin class '([\w.$]+)': cannot find"
    r"|Cannot find catalog plugin class for catalog '([^']+)': ([\w.$]+\w)"
)


def spark_version() -> str:
    """Return the version of this Spark, as 4.1.4."""
    import pyspark

    return str(pyspark.__version__)


def how_to_add(format_name: str) -> str:
    """Say which options of spark-submit bring a table format to this Spark."""
    return f"--packages {_package(format_name)} {_SETTINGS[format_name]}"


def _package(format_name: str) -> str:
    minor = ".".join(spark_version().split(".")[:2])
    known = _PACKAGES.get((format_name, minor))
    return known or f"{_ARTIFACTS[format_name]} in the version made for Spark {minor}"


def no_source(format_name: str, key: str = "input.format") -> ConfigurationError:
    """Return the error for a format whose package this Spark does not have."""
    return ConfigurationError(
        f"{key} {format_name!r} needs the package of {NAMES[format_name]}, which this Spark does "
        f"not have: add {how_to_add(format_name)}"
    )


def not_set_up(name: str) -> ConfigurationError:
    """Return the error for Delta's package without its settings."""
    return ConfigurationError(
        f"{name} is a Delta table, and this Spark is not set up for Delta: add {_SETTINGS['delta']}"
    )


def lacks_catalog_class(text: str) -> bool:
    """Return whether Spark does not have the class of a catalog."""
    return _PLUGIN.search(text) is not None


def table_error(error: BaseException, name: str) -> SparkGmmError | None:
    """Return the error to show for what a table format threw, or None for anything else.

    `name` is how the message calls the input, as in "input.table 'db.trips'".
    """
    text = str(error)
    return (
        _misfit(text)
        or _not_configured(text, name)
        or _missing(text, name)
        or _no_such_version(text, name)
    )


def _misfit(text: str) -> ConfigurationError | None:
    """Tell a connector that was compiled for another Spark."""
    found = _LINKAGE.search(text)
    if found is None:
        return None
    # the frames below it say whose class it is
    owner = re.search(r"\borg\.apache\.(iceberg)\b|\b(?:io|sql)\.(delta)\b", text[found.start() :])
    if owner is None:
        return None
    name = NAMES[owner.group(1) or owner.group(2)]
    cause = found.group(1) + (f": {found.group(2).strip()}" if found.group(2) else "")
    return ConfigurationError(
        f"the version of {name} that this job was given does not fit Spark {spark_version()} "
        f"({cause}): give the version that is made for this Spark, or use a Spark that it is made "
        "for (docs/deploy.md has versions that go together)"
    )


def _not_configured(text: str, name: str) -> ConfigurationError | None:
    if "DELTA_CONFIGURE_SPARK_SESSION" in text:
        return not_set_up(name)
    plugin = _PLUGIN.search(text)
    if plugin is not None:
        catalog, class_name = plugin.group(1) or plugin.group(3), plugin.group(2) or plugin.group(4)
        known = next((f for f in FORMATS if f in class_name), None)
        package = "its package" if known is None else _package(known)
        return ConfigurationError(
            f"the catalog {catalog!r} needs class {class_name}, which this Spark does not have: "
            f"add --packages {package}"
        )
    data_source = re.search(r"DATA_SOURCE_NOT_FOUND\][^\n]*?: (delta|iceberg)\b", text)
    return None if data_source is None else no_source(data_source.group(1), name)


def _missing(text: str, name: str) -> InputError | ConfigurationError | None:
    if _NO_CATALOG.search(text):
        return ConfigurationError(
            f"{name} has more parts than this Spark's own catalog knows, and no catalog has the "
            "name of its first part: correct the name, or set the catalog with --conf "
            "spark.sql.catalog.NAME=..."
        )
    if "TABLE_OR_VIEW_NOT_FOUND" in text or "SCHEMA_NOT_FOUND" in text:
        return InputError(f"{name} does not exist: give the name of a table that does")
    if "DELTA_MISSING_CHANGE_DATA" in text or "CHANGE_TABLE_FEED_DISABLED" in text:
        return InputError(
            f"{name} has no change feed for these versions ({first_sentence(text)}): set the "
            "table's property delta.enableChangeDataFeed, and read versions written after that"
        )
    if re.search(r"DELTA_(?:MISSING_DELTA_TABLE|TABLE_NOT_FOUND)|is not a Delta table", text):
        return InputError(f"{name} is no Delta table: check the path, or input.format")
    return None


def _no_such_version(text: str, name: str) -> InputError | None:
    if not _VERSION_GONE.search(text):
        return None
    return InputError(
        f"{name} cannot be read at the version that was asked for ({first_sentence(text)}): choose "
        "one that the table still has in input.options"
    )


def files_are_gone(error: BaseException, name: str, version: str) -> InputError | None:
    """Return the error for a version whose files were deleted by a clean-up, or None."""
    if not _FILES_GONE.search(str(error)):
        return None
    return InputError(
        f"{name} no longer has the files of {version}, which were removed (VACUUM, "
        "expire_snapshots): choose a newer version in input.options, or keep old ones for longer"
    )


def first_sentence(text: str) -> str:
    """Return what an exception of Delta or Iceberg says first, in one line without codes."""
    lines = re.sub(r"^An error occurred while calling .*\n(?:: )?", "", text).splitlines()
    line = " ".join(" ".join(lines[:3]).split())
    line = re.split(r"\s+at (?:org|io|java|scala)\.|\s+JVM stacktrace", line)[0]
    line = re.sub(r"^(?:[\w$]+\.)+[\w$]+(?:Exception|Error):\s*", "", line)
    line = re.sub(r"^\[[\w.]+\]\s*", "", line)
    return masked(re.sub(r"\s*SQLSTATE: \w+.*$", "", line)[:300].rstrip(".; "))
