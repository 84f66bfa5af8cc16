"""What the workers import to run the functions sent to them: what the import contract holds."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark import cloudpickle

from helpers.data_sets import random_mixture
from sparkgmm.core.evidence import Scan
from sparkgmm.core.groups import search_for_groups
from sparkgmm.core.model import from_mixture
from sparkgmm.core.profile import Block, Frame, Profile
from sparkgmm.core.search import Search
from sparkgmm.core.statistics import add_partitions
from sparkgmm.core.within import Bounds, Within
from sparkgmm.spark import blocks, group_rows, group_scoring, results, scoring
from sparkgmm.spark.ml import vectors
from sparkgmm.spark.score_columns import SCORE_COLUMNS

pytestmark = pytest.mark.spark

ROOT = Path(__file__).resolve().parents[2]
MIXTURE = random_mixture(np.random.default_rng(0), 2, 2, "full")
LAYOUT = blocks.Layout(2, "float64", vector=False, weighted=False)
HEAVY = {"pandas", "pydantic", "matplotlib", "jinja2", "sklearn", "scipy", "rich", "yaml"}
# A worker has imported cloudpickle, and with it the package pyspark, before a function comes.
WORKER = """
import sys
from pyspark import cloudpickle
before = set(sys.modules)
cloudpickle.loads(sys.stdin.buffer.read())
print(*sorted(set(sys.modules) - before))
"""


def kernels() -> tuple[Any, ...]:
    frame = Frame.of(Profile.of(Block(MIXTURE.sample(50, seed=0)[0].T.copy(), None)))
    return tuple(Scan.of([from_mixture(MIXTURE, frame)], frame).kernels)


def score_rows() -> Any:
    counts = scoring.Totals(0, 0, 0)  # type: ignore[arg-type]
    scorer = scoring.Scorer(MIXTURE, SCORE_COLUMNS, -8.0, (0, 1))
    return scoring.RecordScorer(scorer, 0, (0, 1), False, True).on_batches(counts)


def fit_groups() -> Any:
    features, search = ("x", "y"), search_for_groups(Search())
    return group_rows.GroupTask(1, features, False, False, search, False, True, 2**20).on_batches()


def score_groups() -> Any:
    counts = group_scoring.GroupCounts(0, 0, 0, 0)  # type: ignore[arg-type]
    scorer = group_scoring.GroupScorer(
        None,  # type: ignore[arg-type]
        ("x", "y"),
        SCORE_COLUMNS[:3],
        0,
        (0, 1),
        False,
        True,
    )
    return scorer.on_batches(counts)


SENT: dict[str, Callable[[], Any]] = {
    "reading": lambda: blocks.block_maker(LAYOUT),
    "a pass": lambda: blocks.statistics(LAYOUT, kernels()),
    "a pass on Spark Connect": lambda: results.mapper(
        blocks.statistics(LAYOUT, kernels()), clean=True
    ),
    "a pass within bounds": lambda: blocks.statistics(
        LAYOUT, [Within(kernel, Bounds(np.zeros(2), np.ones(2))) for kernel in kernels()]
    ),
    "adding up": lambda: results.add_members(add_partitions),
    "adding up on Spark Connect": lambda: results.adder(blocks.join_findings),
    "the sample": lambda: blocks.pick(LAYOUT, {}),
    "the end": lambda: blocks.forget_all,
    "the score job": score_rows,
    "groups": fit_groups,
    "the components of groups": lambda: group_rows.component_batches,
    "the score job of groups": score_groups,
    "transform": lambda: vectors.ColumnScorer(scoring.Scorer(MIXTURE, SCORE_COLUMNS), "features"),
}


def imported_for(name: str) -> set[str]:
    sent = cloudpickle.dumps(SENT[name]())
    done = subprocess.run(
        [sys.executable, "-c", WORKER], input=sent, capture_output=True, check=True
    )
    return set(done.stdout.decode().split())


def own(modules: set[str]) -> set[str]:
    """Return the modules of this package, but for packages, which hold nothing."""
    names = {name for name in modules if name.startswith("sparkgmm.")} - {"sparkgmm.version"}
    return {name for name in names if not (ROOT / "src" / name.replace(".", "/")).is_dir()}


@pytest.fixture(scope="module")
def imported() -> dict[str, set[str]]:
    return {name: imported_for(name) for name in SENT}


@pytest.mark.parametrize("name", SENT)
def test_what_a_worker_imports_is_light(imported: dict[str, set[str]], name: str) -> None:
    assert own(imported[name])
    assert not {module.partition(".")[0] for module in imported[name]} & HEAVY
    assert not {module for module in imported[name] if module.startswith("pyspark.sql")}


def test_the_import_contract_names_the_modules_that_workers_import(
    imported: dict[str, set[str]],
) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    [held] = [c["source_modules"] for c in contracts if c["name"].startswith("executors")]
    assert set(held) == set.union(*map(own, imported.values()))
