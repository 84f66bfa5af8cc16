"""Load the DAGs as Airflow does and print what it found, as JSON; runs in .venv-airflow."""

import json
import sys
from datetime import datetime

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction


def rendered(task, day):
    """What Airflow puts into the template for a run of that day."""
    context = {"ds": day, "data_interval_start": datetime.fromisoformat(day)}
    return task.render_template(task.bash_command, context, task.get_template_env())


def ending(task, code):
    """How a task ends by an exit code: well, by a failure that is retried, or one that is not."""
    task.bash_command = f"exit {code}"
    try:
        task.execute({})
    except AirflowFailException as error:
        return ["failed", str(error)]
    except AirflowException as error:
        return ["retried", str(error)]
    return ["success", ""]


def first_run(dag):
    """When the scheduler starts the first run of the DAG, and which day's it is."""
    seen = DagSerialization.from_dict(DagSerialization.to_dict(dag))
    always = TimeRestriction(earliest=dag.start_date, latest=None, catchup=True)
    run = seen.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=always)
    return {"at": run.run_after.isoformat(), "ds": run.logical_date.strftime("%Y-%m-%d")}


def main(folder, day, *codes):
    bag = DagBag(folder)
    [dag] = bag.dags.values()
    print(
        json.dumps(
            {
                "errors": bag.import_errors,
                "id": dag.dag_id,
                "order": {t.task_id: sorted(t.downstream_task_ids) for t in dag.tasks},
                "retries": {t.task_id: t.retries for t in dag.tasks},
                "catchup": dag.catchup,
                "max_active_runs": dag.max_active_runs,
                "first_run": first_run(dag),
                "commands": {t.task_id: rendered(t, day) for t in dag.tasks},
                "endings": {code: ending(dag.get_task("fit"), code) for code in codes},
            }
        )
    )


main(*sys.argv[1:])
