"""A mixture as a SELECT: the scores of every row of a table, in plain SQL."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparkgmm.checks import numeric_alone
from sparkgmm.errors import InputError
from sparkgmm.exports.whitened import whitened
from sparkgmm.mixture import Mixture
from sparkgmm.products import Array

# exp of less is an error in PostgreSQL, and nothing beside 1 everywhere.
_LEAST_EXPONENT = "-700e0"
# Columns of ours that are not in the result are called so, whatever columns a table has.
_OWN = "gmm_"


@dataclass(frozen=True)
class Dialect:
    """How a dialect of SQL quotes a name and calls a double, and how columns are left out.

    `leave_out` is the word of `SELECT * EXCEPT (...)`; without one the columns are computed in
    LATERAL subqueries.
    """

    quote: str
    double: str
    leave_out: str | None = None

    def name(self, text: str) -> str:
        """Return a quoted name."""
        escape = "\\" if self.leave_out == "EXCEPT" else self.quote
        return f"{self.quote}{text.replace(self.quote, escape + self.quote)}{self.quote}"


DIALECTS = {
    "spark": Dialect("`", "DOUBLE"),
    "duckdb": Dialect('"', "DOUBLE", "EXCLUDE"),
    "postgres": Dialect('"', "DOUBLE PRECISION"),
    "bigquery": Dialect("`", "FLOAT64", "EXCEPT"),
    "snowflake": Dialect('"', "DOUBLE", "EXCLUDE"),
}


def select(mixture: Mixture, dialect: str) -> str:
    """Return a SELECT over a table named `rows` that adds component, probability_0.., log_density.

    The features are columns by their names, x0 and so on where the mixture has none. Distances are
    taken from each component's own mean, whitened, so that nothing cancels far out. A row with a
    NULL in a feature has NULL scores; one so far out that a squared distance overflows (1e150
    standard deviations) has none that mean anything.

    Parameters
    ----------
    mixture : what to write
    dialect : "spark", "duckdb", "postgres", "bigquery" or "snowflake"

    Raises
    ------
    InputError
        If the dialect is another, a feature has the name of a column that is added, or the mixture
        has categorical columns or counts.

    """
    if dialect not in DIALECTS:
        raise InputError(f"dialect is {dialect!r}: use one of {', '.join(DIALECTS)}")
    numeric_alone(mixture.parts, "a mixture as SQL")
    features = mixture.features or tuple(f"x{i}" for i in range(mixture.d))
    added = ["component", *(f"probability_{j}" for j in range(mixture.k)), "log_density"]
    taken = sorted({name.lower() for name in features} & set(added))
    if taken:
        raise InputError(
            f"feature {taken[0]!r} has the name of a column that is added: rename "
            "the column and fit again"
        )
    style = DIALECTS[dialect]
    layers = _layers(mixture, [style.name(name) for name in features], style)
    make = _by_lateral if style.leave_out is None else _by_leaving_out
    return (
        f"-- Scores of the table rows by a Gaussian mixture, k = {mixture.k}, for {dialect}.\n"
        + make(layers, style)
    )


Layers = list[list[tuple[str, str]]]


def _layers(mixture: Mixture, columns: list[str], style: Dialect) -> Layers:
    """Return (name, expression) of what each step computes from those before; the last is kept."""
    k = mixture.k
    parts = [f"{_OWN}l{j}" for j in range(k)]
    top = parts[0] if k == 1 else f"GREATEST({', '.join(parts)})"
    exponents = [_exponential(f"{part} - {_OWN}top") for part in parts]
    shares = [f"{_OWN}e{j}" for j in range(k)]
    cases = " ".join(f"WHEN {part} = {_OWN}top THEN {j}" for j, part in enumerate(parts))
    return [
        [(f"{_OWN}x{i}", f"CAST({column} AS {style.double})") for i, column in enumerate(columns)],
        list(zip(parts, _log_joints(mixture), strict=True)),
        [(f"{_OWN}top", top)],
        list(zip(shares, exponents, strict=True)),
        [(f"{_OWN}sum", " + ".join(shares))],
        [
            ("component", f"CASE {cases} END"),
            *((f"probability_{j}", f"{share} / {_OWN}sum") for j, share in enumerate(shares)),
            ("log_density", f"{_OWN}top + LN({_OWN}sum)"),
        ],
    ]


def _log_joints(mixture: Mixture) -> list[str]:
    """Return log(weight_j N(x; j)) of each component, log norm - |W_j (x - mean_j)|^2 / 2."""
    expressions = []
    norms, W = whitened(mixture)
    for norm, mean, rows in zip(norms, mixture.means, W, strict=True):
        squares = [f"POWER({_sum(row, mean)}, 2)" for row in rows]
        # a component of weight 0 is nobody's
        constant = _number(norm if np.isfinite(norm) else -1e300)
        expressions.append(f"{constant} - 0.5e0 * ({' + '.join(squares)})")
    return expressions


def _exponential(difference: str) -> str:
    return f"CASE WHEN {difference} < {_LEAST_EXPONENT} THEN 0e0 ELSE EXP({difference}) END"


def _sum(row: Array, mean: Array) -> str:
    terms = [
        f"{_number(w)} * ({_OWN}x{i} - {_number(m)})"
        for i, (w, m) in enumerate(zip(row, mean, strict=True))
        if w != 0
    ]
    return " + ".join(terms)


def _number(value: float) -> str:
    """Return a number exactly, with an exponent, so that no dialect takes it for a decimal."""
    text = repr(float(value))
    text = text if "e" in text else f"{text}e0"
    return f"({text})" if value < 0 else text


def _list(layer: list[tuple[str, str]], style: Dialect) -> str:
    return ",\n    ".join(f"{expression} AS {style.name(name)}" for name, expression in layer)


def _by_leaving_out(layers: Layers, style: Dialect) -> str:
    """Return a chain of subqueries, of which the last leaves out what the others computed."""
    names = [f"{_OWN}{i}" for i in range(len(layers) - 1)]
    sources = [style.name("rows"), *names]
    steps = [
        f"{name} AS (\n  SELECT *,\n    {_list(layer, style)}\n  FROM {source}\n)"
        for name, source, layer in zip(names, sources, layers, strict=False)
    ]
    own = ", ".join(style.name(name) for layer in layers[:-1] for name, _ in layer)
    return (
        f"WITH {', '.join(steps)}\nSELECT * {style.leave_out} ({own}),\n    "
        f"{_list(layers[-1], style)}\nFROM {names[-1]}\n"
    )


def _by_lateral(layers: Layers, style: Dialect) -> str:
    """Return a chain of lateral subqueries, of which the last alone is selected."""
    joins = [
        f"CROSS JOIN LATERAL (\n  SELECT {_list(layer, style)}\n) AS {_OWN}{i}"
        for i, layer in enumerate(layers)
    ]
    last = f"{_OWN}{len(layers) - 1}"
    return f"SELECT {style.name('rows')}.*, {last}.*\nFROM {style.name('rows')}\n" + "\n".join(
        [*joins, ""]
    )
