"""The page of an output root: its runs, the newest first, which the page itself remembers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sparkgmm.report.page import data_named, render
from sparkgmm.report.sections.section import as_data

# So many runs are listed.
_MOST = 200
_CARRIED = re.compile(r'<script type="application/json" id="runs">(.*?)</script>', re.DOTALL)


class ListedRun(NamedTuple):
    """A run as the page lists it, all as text."""

    run_id: str
    data: str
    components: str
    covariance_type: str
    rows: str
    log_likelihood: str
    criterion: str
    finished: str
    note: str


def listed_run(metrics: Mapping[str, Any], manifest: Mapping[str, Any], latest: bool) -> ListedRun:
    """Return how a run is listed, by its metrics.json and manifest.json."""
    configuration = manifest["configuration"]
    criterion = str(configuration["model"]["criterion"])
    if metrics.get(criterion) is None:  # a run with groups has bic alone
        criterion = "bic"
    notes = ["" if metrics["converged"] else "not converged", "" if latest else "drifted too far"]
    groups = metrics.get("n_groups")
    return ListedRun(
        str(manifest["run_id"]),
        data_named(configuration["input"]),
        str(metrics["k"]) if groups is None else f"{groups:,} groups",
        str(metrics.get("covariance_type", "")),
        f"{metrics['rows_used']:,}",
        f"{metrics['log_likelihood']:,.3f}",
        f"{criterion} {metrics[criterion]:,.2f}",
        str(manifest["finished"])[:19].replace("T", " "),
        ", ".join(filter(None, notes)),
    )


def runs_of(page: bytes) -> list[ListedRun] | None:
    """Return the runs that a page lists, None where it is no such page."""
    found = _CARRIED.search(page.decode("utf-8", errors="replace"))
    if found is None:
        return None
    try:
        rows = json.loads(found[1])
        return [ListedRun(*map(str, row)) for row in rows]
    except (ValueError, TypeError):
        return None


def runs_page(root: str, runs: Sequence[ListedRun]) -> bytes:
    """Return index.html; of many runs the first are listed."""
    shown = runs[:_MOST]
    more = len(runs) > _MOST
    return render("runs.html", root=root, runs=shown, more=more, carried=as_data(shown)).encode()
