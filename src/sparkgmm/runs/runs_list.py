"""index.html of an output root: the list of its runs, kept up to date by each run with a report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from sparkgmm.errors import SparkGmmError
from sparkgmm.spark.masking import masked
from sparkgmm.spark.storage import Folder

INDEX = "index.html"


class Published(NamedTuple):
    """What a run that was published holds, and whether it has a report."""

    metrics: Mapping[str, Any]
    manifest: Mapping[str, Any]
    has_report: bool


def list_run(
    root: Folder,
    run: Published,
    say: Callable[[str], None],
    is_latest: bool = True,
    deleted: Collection[str] = (),
) -> None:
    """Add a run with a report to the list, without those that were `deleted`; say why not, if so.

    The page itself remembers the runs before it, so that it is read and written once, in one step,
    whatever else is there. Of two jobs that end in the same moment it may lack one.
    """
    if not run.has_report:
        return
    from sparkgmm.report.runs_page import listed_run, runs_of, runs_page

    try:
        page = root.read_if_there(INDEX)
        before = [] if page is None else runs_of(page)
        if before is None:
            say(f"{root.path}/{INDEX} is no list of runs and is left alone")
            return
        added = listed_run(run.metrics, run.manifest, is_latest)
        gone = {added.run_id, *deleted}
        runs = [added, *(other for other in before if other.run_id not in gone)]
        root.replace(INDEX, runs_page(masked(root.path), runs))
    except SparkGmmError as error:
        say(f"{root.path}/{INDEX} could not be brought up to date ({error})")
