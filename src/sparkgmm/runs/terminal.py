"""What the person at the terminal sees: a moving bar, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sparkgmm.core.figures import column_of, ranked
from sparkgmm.core.selection import Candidate
from sparkgmm.formatting import mean_and_sd
from sparkgmm.mixture import Mixture
from sparkgmm.runs import json_log
from sparkgmm.spark.masking import masked
from sparkgmm.spark.session import note_in_log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

# Off a terminal, passes are shown at most this often.
_LINE_SECONDS = 2.0
_POLL_SECONDS = 0.25
# A wide mixture is shown by its first features.
_COLUMNS = 6
# Beside them are at least so many columns of levels or counts.
_PARTS = 2
_OF_PARTS = {"categorical": "likeliest levels", "counts": "mean count"}

# What is shown of a pass, in the order of its arguments.
_PASS_FIGURES = ("pass", "candidates", "mean_log_likelihood", "distance")

TasksDone = Callable[[], tuple[int, int]]
"""Return how many of a job's tasks are done, and of how many."""


def tasks_done(spark: SparkSession) -> TasksDone:
    """Return the function that shows the jobs that run now."""
    tracker = spark.sparkContext.statusTracker()

    def count() -> tuple[int, int]:
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        known = [stage for stage in stages if stage is not None]
        return sum(s.numCompletedTasks for s in known), sum(s.numTasks for s in known)

    return count


class Terminal:
    """Speaks on standard error, as lines for people or as JSON; results go to standard output."""

    def __init__(self, as_json: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._as_json = as_json
        self._live = self._console.is_terminal and not as_json

    def set_context(self, **known: str) -> None:
        """Note the `run_id` or `step` that what is said from here on is about."""
        json_log.set_context(**known)
        if self._as_json:
            now = json_log.context()
            note_in_log(now["run_id"] or "", now["step"] or "")

    def say(self, text: str, **figures: float) -> None:
        """Say one line; the figures in it go along where lines are JSON."""
        if self._as_json:
            json_log.write("info", text, **figures)
        elif self._live:
            self._console.print(masked(text), markup=False)
        else:
            stamp = time.strftime("%H:%M:%S")
            print(f"{stamp} {masked(text)}", file=sys.stderr, flush=True)

    def result(self, text: str, **figures: float) -> None:
        """Print what the job was run for; its figures are a line where lines are JSON."""
        print(masked(text), flush=True)
        if self._as_json:
            self.say("done", **figures)

    @contextmanager
    def reading(self, done: TasksDone, doing: str = "reading") -> Iterator[None]:
        """Show a bar of Spark tasks while the rows are read."""
        if not self._live:
            self.say(f"{doing} the rows")
            yield
            return
        stop = threading.Event()
        with self._bar("tasks") as bar:
            task = bar.add_task(doing, total=None, note="")

            def poll() -> None:
                while not stop.wait(_POLL_SECONDS):
                    completed, total = done()
                    if total:
                        note = f"{completed} of {total} tasks"
                        bar.update(task, completed=completed, total=total, note=note)

            thread = threading.Thread(target=poll, daemon=True)
            thread.start()
            try:
                yield
            finally:
                stop.set()
                thread.join()

    @contextmanager
    def fitting(self, n_rows: int, max_iter: int) -> Iterator[Callable[..., None]]:
        """Yield a function to call after each pass, with what `core.race.Progress` lists."""
        last_line = [0.0]
        started = time.monotonic()

        def describe(n_pass: int, live: int, mean: float, distance: float) -> str:
            speed = n_pass * n_rows / max(time.monotonic() - started, 1e-9)
            left = "" if distance == float("inf") else f", {distance:.1e} to the limit"
            others = f", {live} candidates go on" if live > 1 else ""
            return f"pass {n_pass}: {mean:.6f} nats a row{left}, {speed:,.0f} rows/s{others}"

        if not self._live:

            def line(*state: float) -> None:
                now = time.monotonic()
                if state[1] == 0 or now - last_line[0] > _LINE_SECONDS or self._as_json:
                    last_line[0] = now
                    figures = {
                        name: value
                        for name, value in zip(_PASS_FIGURES, state, strict=True)
                        if math.isfinite(value)
                    }
                    self.say("EM " + describe(*state), **figures)  # type: ignore[arg-type]

            yield line
            return
        with self._bar("passes") as bar:
            task = bar.add_task("EM", total=max_iter, note="")

            def move(*state: float) -> None:
                bar.update(task, completed=state[0], note=describe(*state))  # type: ignore[arg-type]

            yield move

    def _bar(self, unit: str) -> Progress:
        return Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )


def components_as_text(mixture: Mixture, labels: Sequence[int] | None = None) -> str:
    """Return the components as text: weight, and mean and standard deviation of each feature.

    `labels`, one for each component, get a column where there are any.
    """
    names = list(mixture.features or [f"x{i}" for i in range(mixture.d)])
    shown = names[:_COLUMNS]
    labelled = [] if labels is None else ["label"]
    beside = mixture.parts[: max(_PARTS, _COLUMNS - len(shown))]
    heads = [*shown, *(part.of.name for part in beside)]
    header = ["component", *labelled, "weight", *(name[:24] for name in heads)]
    rows = [header]
    for j in range(mixture.k):
        cells = [
            mean_and_sd(mixture.means[j, i], mixture.variances[j, i] ** 0.5)
            for i in range(len(shown))
        ]
        mine = [] if labels is None else [str(labels[j])]
        cells += [part.summary(j) for part in beside]
        rows.append([str(j), *mine, f"{mixture.weights[j]:.4f}", *cells])
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    said = [*(["mean ± standard deviation"] if shown else [])]
    said += sorted({_OF_PARTS[part.of.kind] for part in beside})
    more = len(names) - len(shown) + len(mixture.parts) - len(beside)
    said += [f"{more} more features"] if more else []
    lines.append(f"({'; '.join(said)})")
    return "\n".join(lines)


def candidates_as_text(candidates: tuple[Candidate, ...], chosen: Candidate, criterion: str) -> str:
    """Return what was compared, best first, the chosen one marked."""
    shown = [column_of(key) for key in ("k", "covariance_type", "log_likelihood", criterion)]
    rows = [["", *(column.heading for column, _ in shown), ""]]
    for c in ranked(candidates, criterion):
        cells = [column.text(value(c), thousands="") for column, value in shown]
        note = "degenerate" if c.degenerate else "" if c.converged else "not converged"
        rows.append(["*" if c is chosen else "", *cells, note])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
