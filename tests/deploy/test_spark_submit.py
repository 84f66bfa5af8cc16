"""Every spark-submit of conf/deploy, by Spark's own parser, up to where it would launch."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from helpers.spark_arguments import RefusedError, arguments_of, check_keys, read_json, submission
from sparkgmm.runs.cli import _fit_steps, _Job, _parser
from sparkgmm.runs.config import FitConfig, load_config

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "conf" / "deploy"
SCRIPTS = sorted(path.name for path in DEPLOY.glob("*.sh"))
YARN = ["--master", "yarn"]


def _options(properties: dict[str, str]) -> list[str]:
    return [part for key, value in properties.items() for part in ("--conf", f"{key}={value}")]


def emr_steps() -> list[str]:
    """What EMR's command-runner starts; EMR's own spark-defaults name the master."""
    [step] = read_json(DEPLOY / "emr-steps.json")
    assert step["Jar"] == "command-runner.jar"
    program, *arguments = step["Args"]
    assert program == "spark-submit"
    return [*YARN, *arguments]


def emr_serverless() -> list[str]:
    """What EMR Serverless makes of its job driver; it names a master of its own."""
    driver = read_json(DEPLOY / "emr-serverless.json")["sparkSubmit"]
    parameters = shlex.split(driver["sparkSubmitParameters"])
    mode = ["--deploy-mode", "cluster"]
    return [*YARN, *mode, *parameters, driver["entryPoint"], *driver["entryPointArguments"]]


def _dataproc(job: dict[str, Any], properties: dict[str, str]) -> list[str]:
    deploy = [] if "spark.submit.deployMode" in properties else ["--deploy-mode", "cluster"]
    files = [",".join(job.get(key, [])) for key in ("fileUris", "archiveUris")]
    shipped = [
        part
        for option, value in zip(("--files", "--archives"), files, strict=True)
        if value
        for part in (option, value)
    ]
    main = [job["mainPythonFileUri"], *job["args"]]
    return [*YARN, *deploy, *shipped, *_options(properties), *main]


def dataproc_workflow() -> list[str]:
    [job] = yaml.safe_load((DEPLOY / "dataproc-workflow.yaml").read_text())["jobs"]
    return _dataproc(job["pysparkJob"], job["pysparkJob"]["properties"])


def dataproc_batch() -> list[str]:
    batch = read_json(DEPLOY / "dataproc-batch.json")
    return _dataproc(batch["pysparkBatch"], batch["runtimeConfig"]["properties"])


def operator() -> list[str]:
    """What the Spark operator hands to spark-submit of its SparkApplication."""
    spec = yaml.safe_load((DEPLOY / "kubernetes-operator.yaml").read_text())["spec"]
    driver, executor = spec["driver"], spec["executor"]
    given = {
        "spark.kubernetes.container.image": spec["image"],
        "spark.driver.cores": driver["cores"],
        "spark.driver.memory": driver["memory"],
        "spark.kubernetes.authenticate.driver.serviceAccountName": driver["serviceAccount"],
        "spark.executor.instances": executor["instances"],
        "spark.executor.cores": executor["cores"],
        "spark.executor.memory": executor["memory"],
        "spark.executor.memoryOverhead": executor["memoryOverhead"],
    }
    main = [spec["mainApplicationFile"], *spec["arguments"]]
    master = ["--master", "k8s://https://host:6443", "--deploy-mode", spec["mode"]]
    return [*master, *_options({key: str(value) for key, value in given.items()}), *main]


DEFINITIONS = [emr_steps, emr_serverless, dataproc_workflow, dataproc_batch, operator]


@pytest.fixture
def arguments(request: pytest.FixtureRequest, tmp_path: Path) -> Sequence[str]:
    """What one of the files gives to spark-submit."""
    if callable(request.param):
        return request.param()
    return arguments_of(DEPLOY / request.param, tmp_path)


EVERYWHERE = pytest.mark.parametrize(
    "arguments",
    [*SCRIPTS, *DEFINITIONS],
    indirect=True,
    ids=[*SCRIPTS, *(definition.__name__ for definition in DEFINITIONS)],
)


@EVERYWHERE
def test_spark_accepts_the_arguments_and_would_start_the_job_by_python(
    spark: SparkSession, arguments: list[str]
) -> None:
    found = submission(spark, arguments)
    assert found.primary.endswith("fit_gmm.py")
    assert "org.apache.spark.deploy.PythonRunner" in [found.main, *found.main_arguments]
    # in cluster mode the job's own arguments travel as --arg of the cluster's client
    client = found.main_arguments
    own = [value for option, value in pairwise(client) if option == "--arg"] or client[2:]
    at = arguments.index("--config")
    assert own == found.arguments == arguments[at:]


@EVERYWHERE
def test_the_job_knows_its_arguments_and_its_configuration_holds(
    arguments: list[str],
) -> None:
    [at] = [i for i, argument in enumerate(arguments) if argument.endswith("fit_gmm.py")]
    job = _Job("fit", "", FitConfig, _fit_steps, can_overwrite=True)
    options = _parser(job).parse_args(arguments[at + 1 :])
    assert Path(options.config).name == "trips.yaml"
    config = load_config(str(DEPLOY / "trips.yaml"), options.overrides)
    assert config.model.k == [2, 3, 4, 5, 6]
    assert config.output.run_id


@EVERYWHERE
def test_what_the_job_reads_beside_it_is_sent_along(arguments: list[str]) -> None:
    """In cluster mode a configuration that is not mounted must be among the files."""
    config = arguments[arguments.index("--config") + 1]
    if "/" in config:
        return
    shipped = [a for a in arguments if a.endswith(f"/{config}")]
    assert len(shipped) == 1


@pytest.mark.parametrize("path", [*SCRIPTS, "kubernetes-operator.yaml"])
def test_files_of_this_checkout_that_are_named_exist(path: str) -> None:
    text = (DEPLOY / path).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w/])(?:conf|jobs|scripts)/[\w./-]+\w", text))
    inside = {f"jobs/{name}" for name in re.findall(r"/opt/sparkgmm/jobs/(\w+\.py)", text)}
    assert named | inside
    assert [name for name in named | inside if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["--executr-memory", "1g"], "Unrecognized option '--executr-memory'"),
        (["--executor-memory", "lots"], "Executor memory must be a positive number"),
        (["--deploy-mode", "clster"], "--deploy-mode must be either"),
        (["--num-executors", "-2"], "Number of executors must be a positive number"),
        (["--conf", "spark.executor.memoryOverhead=1x"], "spark.executor.memoryOverhead"),
        (["--conf", "spark.executor.memoryOverheat=1g"], "knows no spark.executor.memoryOverheat"),
        (["--conf", "spark.yarn.maxAppAttempts=three"], "spark.yarn.maxAppAttempts"),
    ],
)
def test_a_wrong_option_is_refused(
    spark: SparkSession, tmp_path: Path, wrong: list[str], told: str
) -> None:
    right = arguments_of(DEPLOY / "yarn-cluster.sh", tmp_path)
    at = right.index("jobs/fit_gmm.py")
    with pytest.raises(RefusedError, match=re.escape(told)):
        submission(spark, [*right[:at], *wrong, *right[at:]])


def test_a_standalone_cluster_in_cluster_mode_is_refused_for_python(
    spark: SparkSession, tmp_path: Path
) -> None:
    right = arguments_of(DEPLOY / "standalone.sh", tmp_path)
    with pytest.raises(RefusedError, match="not supported for python"):
        submission(spark, ["--deploy-mode", "cluster", *right])


def test_the_script_for_standalone_takes_master_configuration_and_overrides(
    tmp_path: Path,
) -> None:
    arguments = arguments_of(
        DEPLOY / "standalone.sh",
        tmp_path,
        "--set",
        "output.path=/a b",
        MASTER="spark://other:1",
        CONF="conf/faithful.yaml",
    )
    assert arguments[:2] == ["--master", "spark://other:1"]
    assert arguments[-4:] == ["--config", "conf/faithful.yaml", "--set", "output.path=/a b"]


def test_spark_knows_the_keys_of_the_cluster_on_databricks(spark: SparkSession) -> None:
    [cluster] = read_json(DEPLOY / "databricks-job.json")["job_clusters"]
    conf = cluster["new_cluster"]["spark_conf"]
    assert conf
    check_keys(spark, conf)


def test_spark_accepts_what_the_page_says_of_openlineage(spark: SparkSession) -> None:
    page = (ROOT / "docs" / "observability.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^    (spark-submit \\\n +--packages.*?\.yaml)$", page, re.M | re.S)
    program, *arguments = shlex.split(command.replace("\\\n", " "))
    assert program == "spark-submit"
    at = arguments.index("--packages")
    package = arguments[at + 1]
    assert re.fullmatch(r"io\.openlineage:openlineage-spark_2\.1[23]:[\d.]+", package)
    del arguments[at : at + 2]  # Spark would fetch it
    found = submission(spark, ["--master", "local[1]", *arguments])
    assert found.conf["spark.extraListeners"].startswith("io.openlineage.spark.agent.")
