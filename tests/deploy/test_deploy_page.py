"""docs/deploy.md shows conf/deploy as it is, and sizes clusters by the cost model."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
BLOCKS = dict(
    re.findall(
        r"^.*?\[(conf/deploy/[\w.-]+)\]\(\.\./[^)]+\):\n\n```\w+\n(.*?)```$", PAGE, re.M | re.S
    )
)
FILES = sorted(f"conf/deploy/{path.name}" for path in (ROOT / "conf" / "deploy").iterdir())
BENCHMARKS = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_the_page_shows_each_file_as_it_is(name: str) -> None:
    if name == "conf/deploy/trips.yaml":
        assert f"](../{name})" in PAGE
        return
    assert BLOCKS[name] == (ROOT / name).read_text(encoding="utf-8")


def test_each_link_and_file_that_the_page_names_exists() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if "://" not in link]
    assert len(links) > 15
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []
    named = re.findall(r"file://(conf/\S+\.json)|@(conf/\S+\.json)|--file (conf/\S+)", PAGE)
    assert len(named) == 5
    assert [name for names in named for name in names if name and not (ROOT / name).exists()] == []


@pytest.fixture(scope="module")
def sizing() -> ModuleType:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        spec = importlib.util.spec_from_file_location("sizing", ROOT / "scripts" / "sizing.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "sizing", module)
        spec.loader.exec_module(module)
        return module


def test_the_table_is_that_of_the_script(sizing: ModuleType) -> None:
    costs = sizing.coefficients(BENCHMARKS)
    for table in (sizing.table(costs), sizing.memory_table(), sizing.paper_table(costs)):
        assert table in PAGE


def test_a_pass_costs_what_the_benchmark_says_of_the_model(sizing: ModuleType) -> None:
    """Against the column that `make bench` wrote, from coefficients rounded to three digits."""
    from bench.model import terms

    costs = sizing.coefficients(BENCHMARKS)
    growth = BENCHMARKS.split("## Growth")[1].split("Coefficients")[0]
    rows = re.findall(r"^\| ([\d,]+) \| (\d+) \| (\d+) \| (\d+m) .* \| ([\d.]+) \|$", growth, re.M)
    assert len(rows) == 10
    for n, d, k, split, seconds in rows:
        model = float(terms(int(n.replace(",", "")), int(d), int(k), split, 2) @ costs)
        assert model == pytest.approx(float(seconds), rel=0.01, abs=0.001)


def test_sizes_are_those_of_the_formulas(sizing: ModuleType) -> None:
    costs = sizing.coefficients(BENCHMARKS)
    s = sizing.sized(1_000_000_000, 50, (2, 3, 10), 10, 8, costs)
    assert s.n_bytes == 400_000_000_000
    assert s.split == "256m"
    assert s.tasks == 1491  # the first split for which there are at most 2,000
    F = 1 + 50 + 50 * 51 // 2
    assert s.sums == (15 * F + 1) * 8
    assert s.collected == min(1491 * s.sums, 32 * 2**20)  # the executors add what is more
    job, task, row, per_F, per_k, per_kF = costs
    n = 1e9 / s.cores
    a_pass = job + task * 1491 / s.cores + n * (row + per_F * F + per_k * 15 + per_kF * 15 * F)
    assert s.pass_seconds == pytest.approx(a_pass, rel=1e-12)
    assert s.total_seconds == pytest.approx(120e-9 * 1e9 * 50 / s.cores + 20 * a_pass)
    assert s.total_seconds <= 600
    assert s.executors * 4 == s.cores
    assert s.disk * s.executors >= s.n_bytes
    assert s.overhead >= 4 * (256 * 2**20 + s.n_bytes / s.tasks)


def test_half_the_cores_would_take_longer_than_asked(sizing: ModuleType) -> None:
    costs = sizing.coefficients(BENCHMARKS)
    for rows, d, k in sizing.TABLE:
        s = sizing.sized(rows, d, k, 10, 8, costs)
        assert s.total_seconds <= 600
        if s.cores > 1:
            assert s.total_seconds * 2 > 600  # work that halves at best


# A job, a task, what a row costs, in seconds: advice must not hang on the last benchmark.
COSTS = np.array([0.137, 2.25e-3, 23.7e-9, 0.961e-9, 14.1e-9, 0.108e-9])


@pytest.mark.parametrize(
    ("rows", "features", "k", "told"),
    [
        (100_000, 10, (8,), "local[*]"),
        (1_000_000_000, 10, (2, 3, 4, 5, 6), "--num-executors 8 --executor-cores 4"),
        (10_000_000_000, 10, (8,), "spark.sql.files.maxPartitionBytes=512m"),
        (1_000_000_000, 300, (40,), "--driver-memory 1536m"),
    ],
)
def test_the_advice_says_what_to_give_spark_submit(
    sizing: ModuleType, rows: int, features: int, k: tuple[int, ...], told: str
) -> None:
    assert told in sizing.advice(sizing.sized(rows, features, k, 10, 8, COSTS))


def test_the_script_runs(sizing: ModuleType) -> None:
    command = [sys.executable, "scripts/sizing.py", "--rows", "1e9", "--k", "2,3,4,5,6"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    costs = sizing.coefficients(BENCHMARKS)
    advice = sizing.advice(sizing.sized(1_000_000_000, 10, (2, 3, 4, 5, 6), 10, 8, costs))
    assert "--num-executors" in advice
    assert advice in done.stdout
