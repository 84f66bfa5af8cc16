"""What a user should know of a fit that went well enough to give a mixture."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from sparkgmm.core.columns import Discrete, discrete_features, never_together
from sparkgmm.core.rows import Rows
from sparkgmm.core.selection import Candidate, Held
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import ConvergenceWarning, FitError, FitWarning, Remedy
from sparkgmm.options import (
    CATEGORICAL,
    COUNTS,
    COVARIANCE_TYPE,
    COVARIANCE_TYPES,
    FEATURES,
    MAX_ITER,
    MISSING,
    REG_COVAR,
    WHERE,
    K,
)

# So many components, and columns of each, are named at most.
_COMPONENTS = 5
_COLUMNS = 3
_REASONS = 3
_FEATURES = 6


class Caution(NamedTuple):
    """A sentence, and as what Python warns of it. What is `grave` must not be overlooked."""

    text: str
    category: type[FitWarning] = FitWarning
    grave: bool = False


def cautions(
    chosen: Candidate, candidates: Sequence[Candidate], max_iter: int, names: Mapping[str, str]
) -> list[Caution]:
    """Return what to know of the chosen candidate, the gravest first, in a front end's words.

    `names` are what the front end calls options, `max_iter` the passes that it allowed.
    """
    return [
        *refused(candidates, names),
        *set_aside(chosen, names),
        *hidden(chosen, names),
        *_not_converged(chosen, max_iter, names),
        *_dropped(chosen, names),
        *(Caution(text) for text in widths_held(chosen.held, names)),
    ]


def warn(found: Sequence[Caution], stacklevel: int) -> None:
    """Warn of each, as Python does."""
    for caution in found:
        warnings.warn(caution.text, caution.category, stacklevel=stacklevel + 1)


def refused_above_one(candidates: Sequence[Candidate]) -> bool:
    """Return whether every candidate that was asked for more than one component is degenerate."""
    more = [c for c in candidates if c.asked_k > 1]
    return bool(more) and all(c.degenerate is not None for c in more)


def refused(candidates: Sequence[Candidate], names: Mapping[str, str]) -> Iterator[Caution]:
    """Say, where it is so, that every k above 1 was refused, with the columns and rows."""
    if not refused_above_one(candidates) or all(c.asked_k > 1 for c in candidates):
        return
    more = sorted((c for c in candidates if c.asked_k > 1), key=lambda c: c.asked_k)
    reasons = [f"k = {c.asked_k} {c.covariance_type}: {c.degenerate}" for c in more[:_REASONS]]
    if len(more) > _REASONS:
        reasons.append(f"and {len(more) - _REASONS} more")
    tried = {c.covariance_type for c in candidates}
    simpler = [name for name in COVARIANCE_TYPES if name not in tried]
    remedies: list[Remedy] = ["look for outliers and repeats among these rows"]
    if simpler:
        remedies.append(("try", COVARIANCE_TYPE, " or ".join(simpler[:2])))
    text = _said(
        f"EVERY k ABOVE 1 WAS REFUSED, so the mixture has one component ({'; '.join(reasons)})",
        remedies,
        names,
    )
    yield Caution(text, grave=True)


def set_aside(chosen: Candidate, names: Mapping[str, str]) -> Iterator[Caution]:
    """Say which rows are no part of the fit since they lie too far out."""
    if not chosen.set_aside:
        return
    n = chosen.n_set_aside
    where = ", ".join(f"{a.feature} = {a.value:.9g}" for a in chosen.set_aside[:_COLUMNS])
    more = len(chosen.set_aside) - _COLUMNS
    where += f" and {more} more column{'s' * (more > 1)}" if more > 0 else ""
    example = "for example " if n > 1 else ""
    problem = (
        f"{n} row{'s lie' if n > 1 else ' lies'} far out of all proportion to the others, "
        f"{example}at {where}, and {'were' if n > 1 else 'was'} set aside: the mixture, "
        "its log-likelihood and its criteria are of the others"
    )
    remedies: list[Remedy] = ["correct such values", ("leave out such rows with", WHERE)]
    yield Caution(_said(problem, remedies, names))


def hidden(chosen: Candidate, names: Mapping[str, str]) -> Iterator[Caution]:
    """Say which features have values that hide all others, as 1e20 for missing ones does."""
    if not chosen.hidden:
        return
    which = [
        f"{one.feature} ({one.low:.6g} to {one.high:.6g} beside {one.farthest:.6g})"
        for one in chosen.hidden
    ]
    problem = (
        "values so far out that most others cannot be told apart beside them, and are fitted as "
        f"one: {_listed(which)}"
    )
    remedies: list[Remedy] = [
        ("leave out such rows with", WHERE),
        ("make such values NaN and set", MISSING, "to model"),
    ]
    yield Caution(_said(problem, remedies, names), grave=True)


def _not_converged(chosen: Candidate, max_iter: int, names: Mapping[str, str]) -> Iterator[Caution]:
    if chosen.converged or chosen.n_iter < max_iter:
        return
    problem = not_converged(chosen, max_iter)
    yield Caution(_said(problem, [("raise", MAX_ITER)], names), ConvergenceWarning)


def not_converged(chosen: Candidate, max_iter: int) -> str:
    """Say how far from its limit a fit ended that did not converge."""
    left = (
        f"about {chosen.distance:.1e} nats a row are left to the limit"
        if math.isfinite(chosen.distance)
        else "how far the limit is could not be computed"
    )
    passes = f"{max_iter} passes" if max_iter > 1 else "one pass"
    return f"the fit did not converge: it used up its {passes} and {left}"


def _dropped(chosen: Candidate, names: Mapping[str, str]) -> Iterator[Caution]:
    if chosen.n_dropped:
        problem = (
            f"{chosen.n_dropped} of {chosen.asked_k} components found no rows of their own and "
            "were dropped"
        )
        yield Caution(_said(problem, [("lower", K), "give more rows"], names))


def widths_held(held: Sequence[Held], names: Mapping[str, str]) -> list[str]:
    """Say which components are as narrow as there may be, a sentence each, and on what rows."""
    said = []
    groups = [list(mine) for _, mine in groupby(held, key=lambda h: h.component)]
    for mine in groups[:_COMPONENTS]:
        where = ", ".join(f"{h.feature} = {h.value:.13g}" for h in mine[:_COLUMNS])
        if len(mine) > _COLUMNS:
            where += f" and {len(mine) - _COLUMNS} more columns"
        first = mine[0]
        rows = f"{first.rows:,.0f} rows"
        if first.few:
            reg_covar = names.get(REG_COVAR.name, REG_COVAR.name)
            said.append(
                f"component {first.component} has few rows ({rows}) and is as narrow as "
                f"{reg_covar} lets it be, at {where}"
            )
        elif any(h.mixed for h in mine):
            said.append(
                f"component {first.component} ({rows}) varies less than one recorded value differs "
                f"from the next, about {where}: it is as wide there as values can be told apart"
            )
        else:
            said.append(
                f"component {first.component} is {rows} of one value, {where}: as wide there as "
                "values can be told apart"
            )
    if len(groups) > _COMPONENTS:
        said.append(f"so it is with {len(groups) - _COMPONENTS} more components")
    return said


def column_cautions(rows: Rows, features: Sequence[str], names: Mapping[str, str]) -> list[Caution]:
    """Return which features are odd ones to have, by a sample's values, a sentence a kind.

    Ids, labels and flags, and columns of few values: numbers that may be no quantities.
    """
    found = discrete_features(rows.sample, features)
    ids = [one for one in found if one.is_id]
    two = [one for one in found if len(one.values) == 2]
    few = [one for one in found if len(one.values) > 2]
    leave_out: Remedy = ("leave it out of", FEATURES, "unless it is a quantity")
    categorical: Remedy = ("name it in", CATEGORICAL)
    said = []
    if ids:
        which = _listed([one.feature for one in ids])
        problem = f"integers that differ in every row, as an id or a row number does: {which}"
        said.append(_said(problem, [leave_out], names))
    if two:
        which = _listed([f"{one.feature} ({_plain(one.values)})" for one in two])
        problem = f"two values only, as a label or a flag has: {which}"
        said.append(_said(problem, [categorical, leave_out], names))
    if few:
        which = _listed([_of_few(one) for one in few])
        problem = f"few values, fitted as a quantity: {which}"
        counts: Remedy = ("if it counts things, in", COUNTS)
        remedies = [categorical, *([counts] if any(one.whole for one in few) else []), leave_out]
        said.append(_said(problem, remedies, names))
    return [Caution(text) for text in said]


def apart_cautions(
    rows: Rows, features: Sequence[str], covariance_types: Sequence[str], names: Mapping[str, str]
) -> list[Caution]:
    """Say which features no row has both of, where one of the covariance types has them covary."""
    if rows.profile.seen is None or all(FAMILIES[name].diagonal for name in covariance_types):
        return []
    pairs = never_together(rows.sample, features)
    if not pairs:
        return []
    which = _listed([f"{one} and {other}" for one, other in pairs], "pairs")
    looked_at = "row" if rows.complete else "row looked at"
    problem = (
        f"no {looked_at} has both {which}: how they vary together within a component is not known "
        "from the data, but by what other features say of both and by where the fit began"
    )
    return [Caution(_said(problem, [("take", COVARIANCE_TYPE, "diag"), "leave one out"], names))]


def _of_few(one: Discrete) -> str:
    values = _plain(one.values) if len(one.values) <= _COLUMNS else f"{len(one.values)} values"
    return f"{one.feature} ({values})"


def _plain(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.6g}" for value in values)


def _listed(features: Sequence[str], what: str = "features") -> str:
    more = len(features) - _FEATURES
    return ", ".join(features[:_FEATURES]) + (f" and {more} more {what}" if more > 0 else "")


def _said(problem: str, remedies: Sequence[Remedy], names: Mapping[str, str]) -> str:
    error = FitError(problem, *remedies)
    error.names = names
    return str(error)
