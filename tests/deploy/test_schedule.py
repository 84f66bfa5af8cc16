"""conf/schedule: the crontab line by line, and what a night does when a job ends badly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from helpers.crontab import command_of, parse
from sparkgmm.runs.config import FitConfig, ScoreConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
SCHEDULE = ROOT / "conf" / "schedule"
NIGHTLY = SCHEDULE / "nightly.sh"
TEXT = (SCHEDULE / "crontab").read_text(encoding="utf-8")
SETTINGS, LINES = parse(TEXT)


def test_every_line_of_the_crontab_is_one_and_its_programs_exist() -> None:
    assert TEXT.endswith("\n")  # cron passes a last line by that does not end
    assert len(LINES) == 2
    for line in LINES:
        program = command_of(line).split()[0]
        assert shutil.which(program, path=SETTINGS["PATH"]), program
        subprocess.run(["bash", "-n", "-c", command_of(line)], check=True)
    named = re.findall(r"\$SPARKGMM/(\S+)", TEXT)
    assert named == ["conf/schedule/nightly.sh"]
    assert os.access(NIGHTLY, os.X_OK)


@pytest.mark.parametrize(
    "wrong", ["60 2 * * *", "15 2 * *", "15 2 0 * *", "a 2 * * *", "5-1 * * * *"]
)
def test_a_wrong_time_is_refused(wrong: str) -> None:
    with pytest.raises(AssertionError):
        parse(f"{wrong} true\n")


def test_a_percent_sign_that_is_not_escaped_is_refused() -> None:
    with pytest.raises(AssertionError):
        command_of("15 2 * * * date +%F")


@pytest.mark.parametrize(
    ("name", "schema"),
    [("../nightly.yaml", FitConfig), ("nightly-score.yaml", ScoreConfig)],
    ids=["fit", "score"],
)
def test_the_configurations_hold(name: str, schema: type) -> None:
    config = load_config(str(SCHEDULE / name), (), schema)
    assert config.input.invalid_rows == "quarantine"


class Night:
    """Nights with a spark-submit that ends with the codes it is given, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        stand_in = folder / "spark-submit"
        stand_in.write_text(
            f"#!/bin/bash\nprintf '%s ' \"$@\" >> {folder}/calls; echo >> {folder}/calls\n"
            f"code=$(head -1 {folder}/codes); sed -i 1d {folder}/codes; exit $code\n"
        )
        stand_in.chmod(0o755)

    def __call__(self, *codes: int, day: str = "2026-11-22", **env: str) -> tuple[int, list[str]]:
        """Run a night; return its exit code and the jobs that it submitted."""
        (self.folder / "codes").write_text("".join(f"{code}\n" for code in codes))
        (self.folder / "calls").write_text("")
        done = subprocess.run(
            [str(NIGHTLY), day],
            check=False,
            env={
                "PATH": os.environ["PATH"],
                "SPARK_SUBMIT": str(self.folder / "spark-submit"),
                "OUTPUT": str(self.folder / "runs"),
                **env,
            },
        )
        assert (self.folder / "codes").read_text() == "", "it was submitted less often"
        return done.returncode, (self.folder / "calls").read_text().splitlines()


@pytest.fixture
def night(tmp_path: Path) -> Night:
    return Night(tmp_path)


def test_a_night_fits_a_day_and_scores_it_by_the_model_of_that_day(night: Night) -> None:
    code, (fit, score) = night(0, 0, INPUT="s3a://bucket/trips/date={day}")
    assert code == 0
    assert "jobs/fit_gmm.py" in fit
    assert "output.run_id=2026-11-22 " in fit
    assert f"output.path={night.folder}/runs " in fit
    assert f"model.warm_start={night.folder}/runs " in fit
    assert f"model={night.folder}/runs/2026-11-22 " in score
    for call in (fit, score):
        assert "input.path=s3a://bucket/trips/date=2026-11-22 " in call


@pytest.mark.parametrize("code", [2, 3, 4, 5])
def test_what_would_fail_again_is_not_tried_again_and_nothing_is_scored(
    night: Night, code: int
) -> None:
    ended, calls = night(code)
    assert ended == code
    assert len(calls) == 1


def test_what_was_killed_is_started_again_twice_at_most(night: Night) -> None:
    code, calls = night(137, 0, 1, 0)
    assert code == 0
    assert [call.split()[2] for call in calls] == ["jobs/fit_gmm.py"] * 2 + [
        "jobs/score_gmm.py"
    ] * 2
    code, calls = night(137, 143, 1)
    assert code == 1
    assert len(calls) == 3


def test_the_figures_reach_the_folder_of_prometheus_in_one_step(night: Night) -> None:
    run = night.folder / "runs" / "2026-11-22"
    run.mkdir(parents=True)
    (run / "metrics.prom").write_text("sparkgmm_bic 1\n")
    texts = night.folder / "texts"
    texts.mkdir()
    code, _ = night(0, 0, TEXTFILES=str(texts))
    assert code == 0
    assert [path.name for path in texts.iterdir()] == ["sparkgmm.prom"]
    assert (texts / "sparkgmm.prom").read_text() == "sparkgmm_bic 1\n"
