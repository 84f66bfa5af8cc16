"""The figures of a candidate: one entry each for metrics.json, metrics.prom and the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from sparkgmm.core.selection import Candidate


class Exposed(NamedTuple):
    """A figure's name in metrics.prom, which ends in its unit, and what it means, a sentence."""

    name: str
    meaning: str


class Column(NamedTuple):
    """A figure's column in the tables of candidates: its heading and its format, as in `.3f`."""

    heading: str
    spec: str = ""

    def text(self, value: Any, thousands: str = ",") -> str:
        """Return a value as people write it; text stays as it is, nothing is a dash."""
        if value is None:
            return "–"
        return value if isinstance(value, str) else format(value, thousands + self.spec)


class Figure(NamedTuple):
    """A figure of a candidate.

    `key` is its name in metrics.json, None where it is in the tables alone; `value` takes it from a
    candidate. It is in metrics.prom where `exposed` says how, and in the tables where `column`
    does.
    """

    key: str | None
    value: Callable[[Candidate], Any]
    exposed: Exposed | None = None
    column: Column | None = None


def _starts(candidate: Candidate) -> str:
    if not candidate.n_agreeing:
        return "by a move"
    return f"{candidate.n_agreeing} of {candidate.n_starts}"


FIGURES: tuple[Figure, ...] = (
    Figure(
        "k", attrgetter("k"), Exposed("components", "Components of the mixture."), Column("k", "d")
    ),
    Figure("covariance_type", attrgetter("covariance_type"), None, Column("covariance")),
    Figure(
        "log_likelihood",
        attrgetter("log_likelihood"),
        Exposed("log_likelihood_nats", "Log-likelihood of all rows."),
        Column("log-likelihood", ".3f"),
    ),
    Figure(
        "mean_log_likelihood",
        attrgetter("mean_log_likelihood"),
        Exposed("mean_log_likelihood_nats", "Log-likelihood a row."),
    ),
    Figure(
        "n_parameters",
        attrgetter("n_parameters"),
        Exposed("parameters", "Free parameters of the mixture."),
    ),
    Figure(
        "bic",
        attrgetter("bic"),
        Exposed("bic", "Bayesian information criterion, lower is better."),
        Column("bic", ".3f"),
    ),
    Figure(
        "aic",
        attrgetter("aic"),
        Exposed("aic", "Akaike information criterion, lower is better."),
        Column("aic", ".3f"),
    ),
    Figure(
        "icl",
        attrgetter("icl"),
        Exposed("icl", "Integrated completed likelihood, lower is better."),
        Column("icl", ".3f"),
    ),
    Figure(
        "held_out_mean_log_likelihood",
        attrgetter("held_out"),
        None,
        Column("held out, nats a row", ".5f"),
    ),
    Figure(None, _starts, None, Column("starts here")),
    Figure("n_starts", attrgetter("n_starts")),
    Figure("n_starts_at_this_optimum", attrgetter("n_agreeing")),
    Figure(
        "n_iter",
        attrgetter("n_iter"),
        Exposed("passes", "Passes over the rows by the chosen candidate."),
        Column("passes", "d"),
    ),
    Figure("n_rejected", attrgetter("n_rejected")),
    Figure(
        "converged",
        attrgetter("converged"),
        Exposed("converged", "1 if the fit converged, 0 if it ran out of passes."),
    ),
    Figure(
        "distance",
        attrgetter("distance"),
        Exposed("distance_nats", "Estimated distance to the maximum, a row."),
    ),
    Figure("n_components_dropped", attrgetter("n_dropped")),
    Figure("n_rows_set_aside", attrgetter("n_set_aside")),
    Figure("regularised_share", attrgetter("regularised")),
    Figure("degenerate", attrgetter("degenerate")),
)


def figures_of(candidate: Candidate) -> dict[str, Any]:
    """Return the figures of a candidate by their names in metrics.json."""
    return {figure.key: figure.value(candidate) for figure in FIGURES if figure.key is not None}


def exposed_figures() -> list[tuple[str, Exposed]]:
    """Return the figures of metrics.prom: the name in metrics.json, and how it is exposed."""
    return [(f.key, f.exposed) for f in FIGURES if f.key is not None and f.exposed is not None]


def columns() -> list[tuple[Column, Callable[[Candidate], Any]]]:
    """Return the columns of the tables of candidates, and what takes their values."""
    return [(figure.column, figure.value) for figure in FIGURES if figure.column is not None]


def column_of(key: str) -> tuple[Column, Callable[[Candidate], Any]]:
    """Return the column of a figure, by its name in metrics.json.

    Raises
    ------
    KeyError
        If there is none.

    """
    found = {figure.key: (figure.column, figure.value) for figure in FIGURES}
    column, value = found[key]
    if column is None:
        raise KeyError(key)
    return column, value


def ranked(candidates: Sequence[Candidate], criterion: str) -> list[Candidate]:
    """Return candidates in the order of the tables: the best first, degenerate ones last."""
    return sorted(candidates, key=lambda c: (c.degenerate is not None, getattr(c, criterion)))
