"""conf/deploy in the vendors' own clients, which know the fields of their services."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

DEPLOY = Path(__file__).resolve().parents[2] / "conf" / "deploy"
# A field of each file, and a wrong one in its place.
FILES = {
    "emr-steps.json": ('"ActionOnFailure": "CONTINUE"', '"ActionOnFailure": 7'),
    "emr-serverless.json": ('"entryPointArguments"', '"entryPointArgs"'),
    "dataproc-workflow.yaml": ("archiveUris", "archiveUri"),
    "dataproc-batch.json": ('"containerImage"', '"image"'),
    "databricks-job.json": ('"entry_point"', '"entrypoint"'),
}


@pytest.mark.parametrize("name", FILES)
def test_the_vendor_understands_the_file(airflow: Any, name: str) -> None:
    found = airflow.json("check_vendors.py", str(DEPLOY / name))
    assert "refused" not in found, found
    assert "fit" in str(found["understood"])


@pytest.mark.parametrize("name", FILES)
def test_the_vendor_refuses_a_field_that_it_does_not_have(
    airflow: Any, tmp_path: Path, name: str
) -> None:
    right, wrong = FILES[name]
    text = (DEPLOY / name).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / name).write_text(text.replace(right, wrong), encoding="utf-8")
    assert "refused" in airflow.json("check_vendors.py", str(tmp_path / name))
