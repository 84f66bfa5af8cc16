"""Does this Spark have a data source of a name? Asked before Spark asks its Python workers.

Spark looks a name that it does not know up among the data sources that are written in Python, in a
worker. Where the job then ends, by the error that there is no such source, that worker's traceback
may stand before the line that says so.
"""

from __future__ import annotations

import pkgutil
from typing import TYPE_CHECKING, Any

from sparkgmm.errors import ConfigurationError
from sparkgmm.spark.table_errors import FORMATS, no_source

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_REGISTER = "org.apache.spark.sql.sources.DataSourceRegister"
# What every Spark has; and what these begin with may be an old name of one of Spark's own.
_OWN = ("csv", "json", "orc", "parquet", "text")
_OLD_NAMES = ("org.apache.spark.", "com.databricks.")
# Spark takes what modules of such names define for data sources.
_IN_PYTHON = "pyspark_"


def check_format(spark: SparkSession, name: str, key: str = "input.format") -> None:
    """Refuse a format that this Spark has no data source for; in doubt Spark itself does it.

    Raises
    ------
    ConfigurationError
        If there is none of the name.

    """
    jvm: Any = getattr(spark, "_jvm", None)  # a session of Connect has none
    if jvm is None or name in _OWN or name.startswith(_OLD_NAMES):
        return
    if not _jvm_has(jvm, name) and not _python_has_some():
        raise unknown_format(name, key)


def unknown_format(name: str, key: str = "input.format") -> ConfigurationError:
    """Return the error for a format that this Spark has no data source for."""
    if name in FORMATS:
        return no_source(name, key)
    return ConfigurationError(
        f"{key} {name!r} is no data source of this Spark: use csv, parquet, json, orc, or add its "
        "package with --packages"
    )


def _jvm_has(jvm: Any, name: str) -> bool:
    """Return whether a class on the class path has the name, or calls itself so; in doubt it has.

    Where a class was made for another Spark, reading says which.
    """
    try:
        utils = jvm.org.apache.spark.util.Utils
        if utils.classIsLoadable(name) or utils.classIsLoadable(f"{name}.DefaultSource"):
            return True
        loader = utils.getContextOrSparkClassLoader()
        register = jvm.java.lang.Class.forName(_REGISTER, True, loader)
        sources = jvm.java.util.ServiceLoader.load(register, loader).iterator()
        while sources.hasNext():
            if str(sources.next().shortName()).lower() == name.lower():
                return True
    except Exception:
        return True
    return False


def _python_has_some() -> bool:
    return any(module.name.startswith(_IN_PYTHON) for module in pkgutil.iter_modules())
