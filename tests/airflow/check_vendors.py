"""Read the definitions of conf/deploy by the vendors' own clients; runs in .venv-airflow.

What a client takes is printed, as JSON, as the client understood it.
"""

import json
import sys
from pathlib import Path

import botocore.session
import yaml
from botocore.validate import validate_parameters
from databricks.sdk.service.jobs import JobSettings
from google.cloud.dataproc_v1.types import Batch, WorkflowTemplate
from google.protobuf.json_format import ParseDict


def aws(service, operation, parameters):
    """Check the parameters of a call against the service's model, as boto3 does."""
    model = botocore.session.Session().get_service_model(service)
    validate_parameters(parameters, model.operation_model(operation).input_shape)
    return parameters


def emr_steps(steps):
    """What `aws emr add-steps` makes of the short form, by the reference of the AWS CLI."""
    calls = [
        {
            "Name": step.pop("Name"),
            "ActionOnFailure": step.pop("ActionOnFailure"),
            "HadoopJarStep": {key: step[key] for key in step if key != "Type"},
        }
        for step in steps
    ]
    return aws("emr", "AddJobFlowSteps", {"JobFlowId": "j-1", "Steps": calls})


def emr_serverless(driver):
    """What `aws emr-serverless start-job-run --job-driver` sends."""
    role = "arn:aws:iam::123456789012:role/fit"
    call = {"applicationId": "1", "clientToken": "token", "executionRoleArn": role}
    return aws("emr-serverless", "StartJobRun", {**call, "jobDriver": driver})


def strictly(kind):
    """Parse by the API's own messages, which know no other field."""
    return lambda values: str(ParseDict(values, kind.pb(kind())))


def databricks(values):
    """Parse as the SDK does, and complain of what it would drop."""
    understood = JobSettings.from_dict(values).as_dict()
    if understood != values:
        raise ValueError(f"dropped or changed: {json.dumps(values)} -> {json.dumps(understood)}")
    return understood


READERS = {
    "emr-steps.json": emr_steps,
    "emr-serverless.json": emr_serverless,
    "dataproc-workflow.yaml": strictly(WorkflowTemplate),
    "dataproc-batch.json": strictly(Batch),
    "databricks-job.json": databricks,
}


def read(path):
    try:
        return {"understood": READERS[path.name](yaml.safe_load(path.read_text()))}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {error}"}


print(json.dumps({Path(path).name: read(Path(path)) for path in sys.argv[1:]}))
