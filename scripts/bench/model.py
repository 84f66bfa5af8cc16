"""The cost model: seconds of a pass by rows, features, components, tasks and cores.

    seconds = job + task * tasks / cores + rows / cores * (row + F_ * F + k_ * k + kF_ * k F)

F = 1 + d + d(d+1)/2. The coefficients are non-negative least squares of the relative errors over
all passes measured in the run.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.optimize import nnls

NAMES = ("job", "task", "row", "F", "k", "k F")
_UNITS = (1e3, 1e3, 1e9, 1e9, 1e9, 1e9)
# Spark's driver hands out about so many tasks a second, whatever the number of cores.
_TASKS_A_SECOND = 1000
# spark.sql.files.minPartitionNum of our sessions, where a split has 4 MiB.
_LEAST_TASKS = 8


def terms(n: int, d: int, k: int, split: str, cores: int) -> np.ndarray[Any, Any]:
    """Return what the coefficients multiply, (6,)."""
    F = 1 + d + d * (d + 1) // 2
    n_bytes = n * d * 8
    by_size = -(-n_bytes // (int(split.rstrip("m")) * 2**20))
    tasks = max(by_size, min(_LEAST_TASKS, -(-n_bytes // 2**22)))
    rows = n / cores
    return np.array([1.0, max(tasks / cores, 1.0), rows, rows * F, rows * k, rows * k * F])


def fit(measured: list[dict[str, Any]]) -> np.ndarray[Any, Any]:
    """Return the coefficients in seconds, of rows with n, d, k, split, cores and seconds."""
    seconds = np.array([m["seconds"] for m in measured])
    A = np.array([terms(m["n"], m["d"], m["k"], m["split"], m["cores"]) for m in measured])
    return nnls(A / seconds[:, None], np.ones(len(seconds)))[0]


def describe(coefficients: np.ndarray[Any, Any]) -> list[str]:
    """Return the coefficients and an extrapolation, as Markdown lines."""
    parts = [
        f"{name} {value * unit:.3g} {'ms' if unit == 1e3 else 'ns'}"
        for name, value, unit in zip(NAMES, coefficients, _UNITS, strict=True)
    ]
    lines = ["Coefficients: " + ", ".join(parts) + ".", ""]
    for n, d, k, split, cores in (
        (10_000_000_000, 10, 8, "64m", 1000),
        (10_000_000_000, 10, 8, "512m", 1000),
        (1_000_000_000, 50, 10, "512m", 1000),
    ):
        t = terms(n, d, k, split, cores)
        tasks = t[1] * cores
        lines.append(
            f"- {n:,} rows by {d}, k = {k}, splits of {split}, {cores:,} cores: "
            f"{float(t @ coefficients):.1f} s a pass on the cores, {tasks:,.0f} tasks, for which a "
            f"driver that hands out {_TASKS_A_SECOND:,} a second needs "
            f"{tasks / _TASKS_A_SECOND:.1f} s."
        )
    return lines
