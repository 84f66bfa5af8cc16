"""Jobs in this process, as the command line runs them: an exit code and one line, or a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from helpers.outcomes import Attempt, Outcome, failed
from sparkgmm.errors import SparkGmmError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.config import FitConfig, ScoreConfig, load_config
from sparkgmm.runs.fit_job import run_fit
from sparkgmm.runs.score_job import run_score
from sparkgmm.runs.terminal import Terminal


@pytest.fixture
def attempt(spark: SparkSession, tmp_path: Path) -> Attempt:
    """A function that fits by a configuration, of values or of text; anything else is raised."""

    def fit(values: dict[str, Any] | str | bytes, *overrides: str) -> Outcome:
        config = tmp_path / "config.yaml"
        shutil.rmtree(tmp_path / "runs", ignore_errors=True)
        if isinstance(values, dict):
            output = {"path": str(tmp_path / "runs"), "run_id": "a", "report": False}
            values = json.dumps({"output": output, **values})
        config.write_bytes(values.encode() if isinstance(values, str) else values)
        try:
            loaded = load_config(str(config), overrides, FitConfig)
            run_fit(spark, loaded, Terminal(), overwrite=True)
        except SparkGmmError as error:
            return failed(error, tmp_path / "runs")
        text = (tmp_path / "runs" / "a" / "model.json").read_text(encoding="utf-8")
        mixture = Mixture.from_json(text)  # checks that all is finite and positive definite
        return Outcome(0, mixture=mixture)

    return fit


@pytest.fixture
def attempt_to_score(spark: SparkSession, tmp_path: Path) -> Attempt:
    """A function that scores by a model's folder; all but an error of the user's is raised."""

    def score(model: Path, rows: Path) -> Outcome:
        values = {
            "input": {"path": str(rows)},
            "model": str(model),
            "output": {"path": str(tmp_path / "scored")},
        }
        config = tmp_path / "score.yaml"
        config.write_text(json.dumps(values))
        try:
            run_score(spark, load_config(str(config), (), ScoreConfig), Terminal())
        except SparkGmmError as error:
            return failed(error, tmp_path / "scored")
        return Outcome(0)

    return score


@pytest.fixture
def three(tmp_path: Path) -> np.ndarray:
    """Three clusters in the plane, (150, 2)."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]], 50, axis=0)
    return centres + rng.standard_normal((150, 2))
