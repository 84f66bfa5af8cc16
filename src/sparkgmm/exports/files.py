"""The forms that are one local file."""

from __future__ import annotations

from pathlib import Path

from sparkgmm.errors import OVERWRITE, InputError
from sparkgmm.exports.onnx import graph
from sparkgmm.exports.sql import select
from sparkgmm.mixture import Mixture
from sparkgmm.scikit import mixture_to_sklearn

FORMS = ("sklearn", "json", "sql", "onnx")


def write_file(
    mixture: Mixture,
    to: str,
    path: str,
    overwrite: bool = False,
    dialect: str = "spark",
    input_type: str = "float64",
) -> None:
    """Write a mixture as one of FORMS to a local file.

    Raises
    ------
    InputError
        If the path is taken and is not to be overwritten, or the form cannot be made.
    OSError
        If it cannot be written.

    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise InputError(f"{path!r} already exists", "give another path", (OVERWRITE,))
    if to == "sql":
        target.write_text(select(mixture, dialect), encoding="utf-8")
    elif to == "onnx":
        target.write_bytes(graph(mixture, input_type))
    elif to == "json":
        target.write_text(mixture.to_json() + "\n", encoding="utf-8")
    else:
        fitted = mixture_to_sklearn(mixture)
        import joblib  # type: ignore[import-untyped]  # comes with scikit-learn

        joblib.dump(fitted, target)
