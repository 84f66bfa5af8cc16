"""docs/walkthrough.ipynb runs, says what it said when it was saved, and is true."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
import pytest

pytestmark = pytest.mark.nights

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "walkthrough.ipynb"

# What is to be checked, read off the notebook's own variables when it has run.
PROBE = """
import json, sys
print(json.dumps({
    "python": sys.executable,
    "by_hand": heights[-1],
    "falls": sum(bool(b < a - 1e-9) for a, b in zip(heights, heights[1:])),
    "fit_array": result.log_likelihood,
    "converged": [result.converged, by_distance.converged],
    "by_step_below": best - by_step.score(X) * n,
    "fits": {name: parameters(m) for name, m in fits.items()},
    "hard": [float(hard.means[1, 0]), float(hard.covariances[0, 0, 0])],
    "soft": [float(soft.means[:, 0].max()), float(soft.covariances[0, 0, 0])],
    "rand": [adjusted_rand_score(labels, m.predict(Y)) for m in (balls, found)],
    "winner": list(winner),
    "strange": (mixture.log_density(strange) < threshold).tolist(),
}))
"""


@pytest.fixture(scope="module")
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("walkthrough", ROOT / "scripts/walkthrough.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def saved() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def _outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def test_the_saved_notebook_is_that_of_the_script(builder: ModuleType, saved: Any) -> None:
    cells = [(cell.cell_type, cell.source) for cell in saved.cells]
    assert cells == builder.CELLS, "run scripts/walkthrough.py again"


def test_the_saved_outputs_are_pictures_and_results_and_no_errors(saved: Any) -> None:
    nbformat.validate(saved)
    code = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = _outputs(saved)
    assert {o.output_type for o in outputs} <= {"stream", "execute_result", "display_data"}
    assert all(o.name == "stdout" for o in outputs if o.output_type == "stream")
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 9


def test_the_saved_file_is_small_and_names_no_machine(saved: Any) -> None:
    assert NOTEBOOK.stat().st_size < 700_000
    text = json.dumps(
        [{**o, "data": {**o.get("data", {}), "image/png": ""}} for o in _outputs(saved)]
    )
    assert "/home/" not in text
    assert "/tmp" not in text
    assert "Warning" not in text
    assert str(ROOT) not in text


@pytest.mark.spark
def test_it_runs_anew_and_what_it_says_is_true(builder: ModuleType, saved: Any) -> None:
    notebook = builder.build()
    notebook.cells.append(nbformat.v4.new_code_cell(PROBE))
    builder.run(notebook, ROOT / "docs")
    found = json.loads(notebook.cells.pop().outputs[0].text)
    assert Path(found["python"]).resolve() == Path(sys.executable).resolve()

    top = -1130.26396
    assert found["by_hand"] == pytest.approx(top, abs=1e-5)
    assert found["fit_array"] == pytest.approx(top, abs=1e-5)
    assert found["falls"] == 0
    assert found["converged"] == [True, True]
    assert found["by_step_below"] > 100

    ours = found["fits"].pop("sparkgmm")
    assert set(found["fits"]) == {"scikit-learn", "MLlib"}
    for name, theirs in found["fits"].items():
        assert theirs == pytest.approx(ours, abs=1e-3, rel=0), name

    assert found["hard"] == pytest.approx([1.167, 0.639], abs=0.01)
    assert found["soft"] == pytest.approx([1, 1], abs=0.02)
    kmeans, mixture = found["rand"]
    assert kmeans < 0.6 < 0.9 < mixture
    assert found["winner"] == [3, "tied"]
    assert all(found["strange"])

    # a reader sees what is saved
    builder.tidy(notebook)
    assert _text(notebook) == _text(saved), "run scripts/walkthrough.py again"


def _text(notebook: Any) -> list[str]:
    return [o.get("text") or o.data.get("text/plain", "") for o in _outputs(notebook)]
