"""What is missing: of each feature, in all rows and in those of each component."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sparkgmm.core.sample import Membership
from sparkgmm.report.run import Run
from sparkgmm.report.sections.section import Section
from sparkgmm.report.tables import Table
from sparkgmm.report.views import names_of

# So many components have a column of their own.
_SHOWN = 8


def missing_table(membership: Membership) -> Table:
    """One row a feature of which values are missing, the most missing first; shares of the weight.

    Rows of the sample count for a component by their responsibilities.
    """
    mixture, sample = membership.mixture, membership.sample
    missing = np.isnan(sample.X).astype(float)
    of_all = sample.weights @ missing / sample.weights.sum()
    mass = membership.mass
    of_each = (mass.T @ missing) / np.maximum(mass.sum(axis=0), 1e-300)[:, None]
    shown = range(min(mixture.k, _SHOWN))
    names = mixture.columns or names_of(mixture)
    rows = [
        [names[i], f"{of_all[i]:.2%}", *(f"{of_each[j, i]:.2%}" for j in shown)]
        for i in np.argsort(-of_all, kind="stable")
        if of_all[i] > 0
    ]
    return Table(["feature", "all rows", *(f"component {j}" for j in shown)], rows)


def _fill(run: Run) -> Mapping[str, Any] | None:
    missing = np.isnan(run.sample.X)
    if not missing.any():
        return None
    weights = run.sample.weights / run.sample.weights.sum()
    return {
        "table": missing_table(run.membership),
        "whole": f"{float(weights[~missing.any(axis=1)].sum()):.1%}",
        "empty": float(weights[missing.all(axis=1)].sum()),
        "more": max(0, run.mixture.k - _SHOWN),
    }


SECTION = Section(
    "What is missing",
    """
<p>{{ whole }} of the rows have every feature. The others count by what they have, and what they
lack is integrated over, which is right where a value's absence does not depend on the value itself.
{% if empty > 0 %}{{ "{:.2%}".format(empty) }} of the rows have nothing, and say nothing.
{% endif %}Pictures show what was seen.</p>
{{ show.grid(table, "tall") }}
{% if more %}<p class="soft">{{ more }} more components are not shown.</p>{% endif %}
""",
    _fill,
    long=True,
)
