"""The tables of a report: components, features and candidates as text in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sparkgmm.core.profile import Profile
from sparkgmm.core.sample import Membership
from sparkgmm.core.selection import Candidate
from sparkgmm.mixture import Mixture
from sparkgmm.report.views import correlation, names_of

# Correlation matrices are shown whole up to here; beyond, the strongest correlations.
_WHOLE = 8
_STRONGEST = 6
UNCORRELATED = ("diag", "spherical")


class Table(NamedTuple):
    """A heading a column and the rows' cells, all text."""

    head: list[str]
    rows: list[list[str]]


def component_table(membership: Membership, sum_of_weights: float) -> Table:
    """One row a component: weight, rows, certainty, neighbour and overlap."""
    mixture = membership.mixture
    mass = membership.responsibilities * membership.sample.weights[:, None]
    sure = np.where(membership.responsibilities >= 0.95, mass, 0.0).sum(axis=0)
    sure /= np.maximum(mass.sum(axis=0), 1e-300)
    rows = []
    for j, neighbour in enumerate(membership.nearest):
        overlap = "–"
        if neighbour is not None:
            overlap = f"{1 - membership.confusion[j, j]:.2%}"
        rows.append(
            [
                str(j),
                number(mixture.weights[j], 4),
                f"{mixture.weights[j] * sum_of_weights:,.1f}",
                f"{sure[j]:.1%}",
                "–" if neighbour is None else str(neighbour),
                overlap,
                _strongest(mixture, j, 1) or "–",
            ]
        )
    head = ["component", "weight", "effective rows", "certain", "nearest", "overlap", "strongest r"]
    return Table(head, rows)


def mean_table(mixture: Mixture) -> Table:
    """One row a feature: mean ± standard deviation in each component."""
    sd = np.sqrt(np.einsum("kii->ki", mixture.covariances))
    rows = [
        [
            name,
            *(mean_and_sd(mixture.means[j, i], sd[j, i]) for j in range(mixture.k)),
        ]
        for i, name in enumerate(names_of(mixture))
    ]
    return Table(["feature", *map(str, range(mixture.k))], rows)


def correlation_tables(mixture: Mixture) -> list[tuple[str, Table]]:
    """The correlations within each component: all of them, or the strongest of many."""
    names = names_of(mixture)
    if mixture.d == 1 or mixture.covariance_type in UNCORRELATED:
        return []
    if mixture.d > _WHOLE:
        rows = [[str(j), _strongest(mixture, j, _STRONGEST)] for j in range(mixture.k)]
        return [("The strongest correlations", Table(["component", "r"], rows))]
    tables = []
    for j in range(mixture.k):
        r = correlation(mixture.covariances[j])
        rows = [[names[i], *(f"{r[i, m]:.3f}" for m in range(mixture.d))] for i in range(mixture.d)]
        tables.append((f"Component {j}", Table(["", *names], rows)))
    return tables


def profile_table(profile: Profile, names: Sequence[str]) -> Table:
    """One row a feature: mean, standard deviation and range of the rows used."""
    sd = np.sqrt(profile.variance)
    rows = [
        [name, near(profile.mean[i], sd[i]), number(sd[i], 4)]
        + [near(value[i], sd[i]) for value in (profile.low, profile.high)]
        for i, name in enumerate(names)
    ]
    return Table(["feature", "mean", "sd", "least", "most"], rows)


def candidate_table(candidates: Sequence[Candidate], chosen: Candidate, criterion: str) -> Table:
    """One row a candidate, the best first, degenerate ones last."""
    order = sorted(candidates, key=lambda c: (c.degenerate is not None, getattr(c, criterion)))
    rows = []
    for c in order:
        held_out = "–" if c.held_out is None else f"{c.held_out:.5f}"
        note = c.degenerate or ("" if c.converged else "not converged")
        rows.append(
            [
                "chosen" if c is chosen else "",
                str(c.k),
                c.covariance_type,
                f"{c.log_likelihood:,.3f}",
                f"{c.bic:,.3f}",
                f"{c.aic:,.3f}",
                f"{c.icl:,.3f}",
                held_out,
                f"{c.n_agreeing} of {c.n_starts}" if c.n_agreeing else "by a move",
                str(c.n_iter),
                note,
            ]
        )
    head = ["", "k", "covariance", "log-likelihood", "bic", "aic", "icl", "held out, nats a row"]
    return Table([*head, "starts here", "passes", "note"], rows)


def fact_table(metrics: Mapping[str, Any], manifest: Mapping[str, Any]) -> Table:
    """What was read, how the fit ended and where it ran."""
    versions = ", ".join(f"{name} {version}" for name, version in manifest["versions"].items())
    seconds = ", ".join(
        f"{step} {value:.1f} s" for step, value in metrics["seconds_by_step"].items()
    )
    ended = "converged" if metrics["converged"] else "not converged"
    rows = [
        [
            "rows",
            f"{metrics['rows_read']:,} read, {metrics['rows_used']:,} used, "
            f"{metrics['rows_invalid']:,} invalid",
        ],
        ["sum of weights", number(metrics["sum_of_weights"])],
        *_history(metrics),
        ["log-likelihood", f"{metrics['log_likelihood']:,.5f}"],
        ["nats a row", f"{metrics['mean_log_likelihood']:.7f}"],
        ["bic, aic, icl", ", ".join(f"{metrics[key]:,.3f}" for key in ("bic", "aic", "icl"))],
        ["free parameters", str(metrics["n_parameters"])],
        ["end", f"{ended} after {metrics['n_iter']} passes of {metrics['n_passes']} in all"],
        ["seconds", seconds],
        ["input", _input(manifest["input"])],
        ["started", str(manifest["started"])],
        ["Spark", f"{manifest['spark']['master']}, {manifest['spark']['application_id']}"],
        ["versions", versions],
    ]
    return Table(["", ""], rows)


def _input(read: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
    """Say which files, or which table in which state, were read."""
    if isinstance(read, Mapping):
        name = f"table {read['table']}" if "table" in read else str(read["path"])
        state = [
            f"{key.replace('_', ' ')} {value}"
            for key, value in read.items()
            if key not in ("table", "path", "files", "format")
        ]
        kind = [str(read["format"])] if "format" in read else []
        files = [_input(read["files"])] if "files" in read else []
        return ", ".join([name, *kind, *state, *files])
    size = sum(info["bytes"] for info in read)
    return f"{len(read)} file(s), {size:,} bytes"


def _history(metrics: Mapping[str, Any]) -> list[list[str]]:
    if metrics.get("updated_from") is None:
        return []
    weight = number(metrics["history_weight"])
    told = f"run {metrics['updated_from']}: {metrics['history_rows']:,} rows, weight {weight}"
    return [["updated from", told]]


def number(value: float, digits: int = 6) -> str:
    """Return a number as people write it: no more digits than these, no exponent if short."""
    return f"{float(value):.{digits}g}"


def mean_and_sd(mean: float, sd: float) -> str:
    """Return mean ± sd, the mean to a hundredth of the sd, whatever their sizes."""
    return f"{near(mean, sd)} ± {near(sd, sd)}"


def near(value: float, sd: float) -> str:
    """Return a value to about a hundredth of a standard deviation."""
    decimals = 2 - int(np.floor(np.log10(sd)))
    if 0 <= decimals <= 6:
        return f"{value:,.{decimals}f}"
    return number(value, int(np.ceil(np.log10(max(abs(value), sd) / sd))) + 3)


def _strongest(mixture: Mixture, j: int, most: int) -> str:
    if mixture.d == 1 or mixture.covariance_type in UNCORRELATED:
        return ""
    names = names_of(mixture)
    r = np.triu(correlation(mixture.covariances[j]), 1)
    order = np.argsort(-np.abs(r), axis=None)[:most]
    pairs = zip(*np.unravel_index(order, r.shape), strict=True)
    return "; ".join(f"{names[a]} and {names[b]}: {r[a, b]:.3f}" for a, b in pairs)
