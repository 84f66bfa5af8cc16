"""Every night: fit the rows of a day, then score them by the model that came out.

The day is the start of the run's data interval, `{{ ds }}`: the run of 02:15 on the 24th is that of
the 23rd, whose rows are all there. It is the run_id, so that a run that is cleared, retried or
backfilled does the same day again: a day that is done is left alone, one that was interrupted goes
on after its last pass. Scores go to a folder a day, which is replaced.

`catchup` is off: a DAG that was paused for a week does not start with seven runs at once. Days that
were missed are asked for by name:

    airflow backfill create --dag-id sparkgmm_nightly --from-date 2026-11-01 --to-date 2026-11-07

One run at a time, since each begins with the model that LATEST names, is compared with it, and
moves LATEST unless it drifted too far. A day that is filled in later is compared with the newest
run too.

Exit codes 2 to 5 (configuration, input, no fit possible, drift) come again however often one tries,
so they fail at once. Others (a lost driver, a full disk) are retried.

Settings come from the environment of Airflow: SPARKGMM_HOME (a checkout), SPARKGMM_SUBMIT (the
command that submits), SPARKGMM_INPUT, SPARKGMM_OUTPUT and SPARKGMM_SCORED, which may hold
templates: s3a://bucket/trips/date={{ ds }}.
"""

from __future__ import annotations

import os
import shlex
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronDataIntervalTimetable
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

HOME = os.environ.get("SPARKGMM_HOME", str(Path(__file__).resolve().parents[2]))
SUBMIT = os.environ.get("SPARKGMM_SUBMIT", f"{HOME}/.venv/bin/spark-submit --master 'local[*]'")
INPUT = os.environ.get("SPARKGMM_INPUT", "data/faithful.csv")
OUTPUT = os.environ.get("SPARKGMM_OUTPUT", "runs/nightly")
SCORED = os.environ.get("SPARKGMM_SCORED", "scored/nightly")
FINAL = [2, 3, 4, 5]


class Submit(BashOperator):
    """Run a job of sparkgmm; an exit code that would come again fails the task without retries."""

    def __init__(self, job: str, config: str, settings: dict[str, str], **kwargs: Any) -> None:
        words = [f"jobs/{job}", "--config", config, "--log-format", "json"]
        for key, value in settings.items():
            words += ["--set", f"{key}={value}"]
        command = " ".join([SUBMIT, *(shlex.quote(word) for word in words)])
        super().__init__(bash_command=command, cwd=HOME, skip_on_exit_code=FINAL, **kwargs)

    def execute(self, context: Any) -> Any:
        """Run the command."""
        try:
            return super().execute(context)
        except AirflowSkipException as ended:  # what Airflow would skip for its code is a failure
            raise AirflowFailException(str(ended).removesuffix(" Skipping.")) from None


with DAG(
    "sparkgmm_nightly",
    schedule=CronDataIntervalTimetable("15 2 * * *", timezone="UTC"),
    start_date=datetime.fromisoformat("2026-01-01T00:00:00+00:00"),
    catchup=False,
    max_active_runs=1,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=4),
    },
    doc_md=__doc__,
    tags=["sparkgmm"],
) as dag:
    fit = Submit(
        task_id="fit",
        job="fit_gmm.py",
        config="conf/nightly.yaml",
        settings={
            "input.path": INPUT,
            "output.path": OUTPUT,
            "model.warm_start": OUTPUT,
            "output.run_id": "{{ ds }}",
        },
    )
    score = Submit(
        task_id="score",
        job="score_gmm.py",
        config="conf/schedule/nightly-score.yaml",
        settings={
            "input.path": INPUT,
            "model": OUTPUT + "/{{ ds }}",
            "output.path": SCORED + "/date={{ ds }}",
        },
    )
    fit >> score
