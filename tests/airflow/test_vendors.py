"""conf/deploy in the vendors' own clients, which know the fields of their services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.airflow

DEPLOY = Path(__file__).resolve().parents[2] / "conf" / "deploy"
# A field of each file, and a wrong one in its place.
FILES = {
    "emr-steps.json": ('"ActionOnFailure": "CONTINUE"', '"ActionOnFailure": 7'),
    "emr-serverless.json": ('"entryPointArguments"', '"entryPointArgs"'),
    "dataproc-workflow.yaml": ("archiveUris", "archiveUri"),
    "dataproc-batch.json": ('"containerImage"', '"image"'),
    "databricks-job.json": ('"entry_point"', '"entrypoint"'),
}


@pytest.fixture(scope="module")
def right(airflow: Any) -> Any:
    """What the clients say of the files."""
    return airflow.json("check_vendors.py", *(str(DEPLOY / name) for name in FILES))


@pytest.fixture(scope="module")
def wrong(airflow: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the clients say of the files, each with one field that there is not."""
    folder = tmp_path_factory.mktemp("wrong")
    for name, (field, other) in FILES.items():
        text = (DEPLOY / name).read_text(encoding="utf-8")
        assert field in text
        (folder / name).write_text(text.replace(field, other), encoding="utf-8")
    return airflow.json("check_vendors.py", *(str(folder / name) for name in FILES))


@pytest.mark.parametrize("name", FILES)
def test_the_vendor_understands_the_file(right: Any, name: str) -> None:
    assert "refused" not in right[name], right[name]
    assert "fit" in str(right[name]["understood"])


@pytest.mark.parametrize("name", FILES)
def test_the_vendor_refuses_a_field_that_it_does_not_have(wrong: Any, name: str) -> None:
    assert "refused" in wrong[name]
