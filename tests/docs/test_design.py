"""docs/design.md and docs/decisions.md name what there is, and its pointers lead to the place."""

from __future__ import annotations

import base64
import importlib
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from helpers.builders import rows_of
from helpers.data_sets import faithful
from helpers.report_runs import run_from, spread_out
from sparkgmm.core.fit import Fit, fit
from sparkgmm.core.judging import Fault
from sparkgmm.core.local import fit_array
from sparkgmm.core.search import Search
from sparkgmm.errors import ConfigurationError, FitError, InputError
from sparkgmm.report.page import report
from sparkgmm.report.sections import rows
from sparkgmm.runs.config import FitConfig, load_config
from sparkgmm.spark import file_systems

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "sparkgmm"
DESIGN, DECISIONS = (
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("design.md", "decisions.md")
)
POINTERS = sorted(set(re.findall(r"`([\w/]+\.py): ([\w.]+)`", DESIGN)))
WHERE = dict(re.findall(r"^\| (.+?) \| (.+) \|$", DESIGN.split("## Where is ...?")[1], re.M))


def tree() -> dict[str, str]:
    """Return the files of the page's tree by their paths in the package, and what is said."""
    [text] = re.findall(r"^```text\nsrc/sparkgmm/\n(.*?)^```$", DESIGN, re.M | re.S)
    found, folders = {}, [""]
    for line in text.splitlines():
        depth = (len(line) - len(line.lstrip())) // 4
        name, _, words = line.strip().partition(" ")
        path = folders[depth - 1] + name
        del folders[depth:]
        if name.endswith("/"):
            folders.append(path)
        assert path not in found
        found[path] = words.strip()
    return found


def resolve(path: str, name: str) -> tuple[Any, str, Any]:
    """Return where a pointer leads: the module or class, the name in it, and what that is."""
    module = importlib.import_module(f"sparkgmm.{path.removesuffix('.py').replace('/', '.')}")
    owner: Any = module
    *outer, last = name.split(".")
    for part in outer:
        owner = getattr(owner, part)
    return owner, last, getattr(owner, last)


def answer(question: str, index: int = 0) -> tuple[Any, str, Any]:
    """Return where the page sends who asks this: the first of its pointers, or another."""
    return resolve(*re.findall(r"`([\w/]+\.py): ([\w.]+)`", WHERE[question])[index])


def test_the_tree_is_that_of_the_files() -> None:
    files = {
        str(path.relative_to(PACKAGE)) + "/" * path.is_dir()
        for path in PACKAGE.rglob("*")
        if "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    files.discard("commit.json")  # written by a build
    assert set(tree()) == files


def test_every_file_and_folder_says_what_it_is_for() -> None:
    for path, words in tree().items():
        assert words or path.endswith("__init__.py"), path
        if path.endswith("/") and (PACKAGE / path / "__init__.py").exists():
            package = importlib.import_module(f"sparkgmm.{path.strip('/').replace('/', '.')}")
            assert package.__doc__, path


@pytest.mark.parametrize(("path", "name"), POINTERS, ids=[f"{p}:{n}" for p, n in POINTERS])
def test_each_pointer_leads_to_where_the_thing_is_defined(path: str, name: str) -> None:
    _, _, found = resolve(path, name)
    module = f"sparkgmm.{path.removesuffix('.py').replace('/', '.')}"
    assert getattr(found, "__module__", module) == module or not callable(found)


def test_each_file_that_the_pages_name_is_there() -> None:
    for page in (DESIGN, DECISIONS):
        named = set(re.findall(r"`([\w./-]+\.(?:py|sh|toml|md))(?::[^`]*)?`", page))
        assert len(named) > 5
        for path in named:
            below = {ROOT / path, PACKAGE / path, PACKAGE / "report" / path}
            assert any(place.exists() for place in below), path


def test_each_link_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in DECISIONS.splitlines()
        if line.startswith("## ")
    }
    links = re.findall(r"\]\(([^)]+)\)", DESIGN + DECISIONS)
    assert {link[1:] for link in links if link.startswith("#")} == headings
    for link in links:
        path = link.partition("#")[0]
        assert not path or (ROOT / "docs" / path).is_file(), link


def candidates(k: tuple[int, ...]) -> Fit:
    search = Search(k=k, covariance_type=("full",), n_init=2)
    return fit(rows_of(faithful()), search)


def test_the_rule_that_drops_a_starved_component(monkeypatch: pytest.MonkeyPatch) -> None:
    assert candidates((2,)).chosen.n_dropped == 0
    owner, name, _ = answer("how few rows are too few")
    with monkeypatch.context() as changed:
        changed.setattr(owner, name, lambda self, d: 120)  # the smaller has 97 rows
        assert candidates((2,)).chosen.n_dropped == 1
    _, name, rule = answer("the rule that drops a starved component")
    acts = answer("the rule that drops a starved component", 1)[2]
    race = importlib.import_module(acts.__module__)
    assert getattr(race, name) is rule
    with monkeypatch.context() as changed:  # any rule in its place is what is kept to
        changed.setattr(race, name, lambda state, profile: 0 if state.model.k == 2 else None)
        assert candidates((2,)).chosen.n_dropped == 1


def test_the_criterion(monkeypatch: pytest.MonkeyPatch) -> None:
    assert candidates((1, 2)).chosen.k == 2
    owner, name, _ = answer("the criterion")
    monkeypatch.setattr(owner, name, property(lambda candidate: float(candidate.k)))
    found = candidates((1, 2))
    assert [c.bic for c in found.candidates] == [1, 2]
    assert found.chosen.k == 1
    choose = answer("the criterion", 1)[2]
    assert choose(list(reversed(found.candidates)), "aic").k == 2


def test_the_colour_of_component_3(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, colours = answer("the colour of component 3")
    chosen, text = "#123456", WHERE["the colour of component 3"]
    assert "entry 3" in text
    changed = (*colours[:3], chosen, *colours[4:])
    for module in (owner, rows):  # the drawings, and the page's own for the browser
        assert getattr(module, name) is colours
        monkeypatch.setattr(module, name, changed)
    run = run_from(spread_out(2, 4), 400)
    files = report(run, [rows.SECTION])
    page = files["report.html"].decode()
    drawn = [base64.b64decode(d) for d in re.findall(r"svg\+xml;base64,([\w+/=]+)", page)]
    assert any(chosen.encode() in svg for svg in drawn)
    assert not any(colours[3].lower().encode() in svg.lower() for svg in drawn)


def test_the_text_of_an_error_of_the_configuration(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"input": {"path": "x.csv"}, "modle": {"k": 2}}))
    with pytest.raises(ConfigurationError, match="unknown key modle"):
        load_config(str(path))
    owner, name, _ = answer("a key of the configuration: unknown, missing, of a wrong type")
    monkeypatch.setattr(owner, name, lambda detail, schema: "other words")
    with pytest.raises(ConfigurationError, match="other words"):
        load_config(str(path))


def test_the_text_of_an_error_is_raised_where_the_page_says() -> None:
    X = np.column_stack([np.arange(10.0), np.ones(10)])
    cases: tuple[tuple[str, int, Callable[[], Any]], ...] = (
        ("rows that no mixture can be fitted to", 1, lambda: fit_array(X, 1)),
        ("rows that no mixture can be fitted to", 0, lambda: fit_array(X[:1], 1)),
        ("a value out of an option's range", 0, lambda: fit_array(X, 0)),
    )
    for question, index, wrong in cases:
        with pytest.raises(InputError) as met:
            wrong()
        error: BaseException | None = met.value
        passed = set()
        while error is not None:
            step = error.__traceback__
            while step is not None:
                passed.add(step.tb_frame.f_code)
                step = step.tb_next
            error = error.__cause__ or error.__context__
        assert answer(question, index)[2].__code__ in passed


def test_the_text_of_an_error_that_every_candidate_is_degenerate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    best = candidates((2,)).chosen
    choose = answer("the criterion", 1)[2]
    owner, name, _ = answer("every candidate is degenerate")
    monkeypatch.setattr(owner, name, lambda candidates: FitError("other words"))
    with pytest.raises(FitError, match="other words"):
        choose([replace(best, degenerate="a spike")], "bic")


def test_the_text_of_an_error_of_a_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, faults = answer("a file system")
    changed = [replace(fault, what=f"other words: {fault.what}") for fault in faults]
    monkeypatch.setattr(owner, name, changed)
    met = file_systems.error_of(
        OSError("java.io.FileNotFoundException: a"), file_systems.INPUT, "a"
    )
    assert "other words: there is no such file" in str(met)


def test_the_default_of_an_option() -> None:
    tol = answer("the default or the range of an option")[2]
    config = FitConfig.model_validate(
        {"input": {"path": "x.csv"}, "model": {"k": 2}, "output": {"path": "runs"}}
    )
    assert config.model.tol == Search(k=(2,)).settings.tol == tol.default


def test_when_a_fit_has_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    assert candidates((2,)).chosen.converged
    owner, name, _ = answer("when a fit has converged")
    monkeypatch.setattr(owner, name, lambda *_: math.inf)
    assert not candidates((2,)).chosen.converged


def test_what_counts_as_degenerate(monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, _ = answer("what counts as degenerate")
    fault = Fault("is too beautiful to be true", 0, 9.0, np.zeros(2))
    monkeypatch.setattr(owner, name, lambda *_: fault)
    with pytest.raises(FitError, match="too beautiful to be true"):
        candidates((2,))


def test_an_exit_code() -> None:
    owner, name, code = answer("an exit code")
    assert InputError("x").exit_code == code == 3
    assert (owner, name) == (InputError, "exit_code")
