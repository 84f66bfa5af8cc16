"""The strangest rows of the sample, and the features that make them strange."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparkgmm.core.sample import Membership
from sparkgmm.formatting import near, number
from sparkgmm.mixture import Array, Labels
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.style import short
from sparkgmm.report.tables import Table

_ROWS = 8
# What a value three standard deviations from the expected one is less likely by, in nats.
_STRANGE = 4.5
_TOGETHER = "no value alone: each fits the row's others, together they are far out"
# So many features are named of a row: those that the others make least likely.
_FEATURES = 2


def strangest_table(membership: Membership) -> Table:
    """Return the rows of the lowest density, with the cells that are least likely given the rest.

    A cell's surprise is -log p(it | the row's other features), less that at the value expected of
    it, in nats: 0 is what was expected, 20 is out of 5e8.
    """
    mixture, X = membership.mixture, membership.sample.X
    order = _distinct(X, np.argsort(membership.log_density, kind="stable"))
    rows = X[order]
    names = mixture.features or tuple(f"x{i}" for i in range(mixture.d))
    surprise = mixture.surprise(rows)
    columns = [mixture.expect(rows, i) for i in range(mixture.d)]
    mean, sd = (np.concatenate([column[of] for column in columns], axis=1) for of in (0, 1))
    expected = np.empty_like(surprise)
    for i in range(mixture.d):
        there = rows.copy()
        there[:, i] = mean[:, i]
        expected[:, i] = mixture.surprise(there)[:, i]
    excess = np.nan_to_num(surprise - expected, nan=-np.inf, posinf=np.finfo(float).max)

    def told(row: int, i: int) -> str:
        value, width = rows[row, i], max(float(sd[row, i]), np.finfo(float).tiny)
        return (
            f"{short(names[i])} {near(value, width)}, where {near(mean[row, i], width)} "
            f"± {near(width, width)} is expected"
        )

    cells = []
    for row, at in enumerate(order):
        worst = np.argsort(-excess[row], kind="stable")[:_FEATURES]
        shown = [i for i in worst if excess[row, i] > _STRANGE]
        cells.append(
            [
                number(membership.log_density[at]),
                str(membership.labels[at]),
                "; ".join(told(row, int(i)) for i in shown) or _TOGETHER,
            ]
        )
    return Table(["log density", "component", "what is strange in it"], cells)


def _distinct(X: Array, order: Labels) -> list[int]:
    """Return the first rows in this order of which no two are the same."""
    found: dict[bytes, int] = {}
    for at in order.tolist():
        found.setdefault(X[at].tobytes(), at)
        if len(found) == _ROWS:
            break
    return list(found.values())


def _fill(run: Run) -> Mapping[str, Any] | None:
    if run.mixture.parts or np.isnan(run.sample.X).any():
        return None
    return {"strangest": strangest_table(run.membership), "complete": run.sample.complete}


SECTION = Section(
    "The strangest rows",
    """
{{ show.grid(strangest, text_columns=(2,)) }}
<p class="soft">The {{ strangest.rows | length }} rows of the lowest density
{{ "of all" if complete else "of the sample" }}, and in each the features that are least likely
given its others: the value, and its mean ± standard deviation given them.</p>
""",
    _fill,
)
