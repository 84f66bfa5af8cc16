"""Secrets do not pass, and nothing else is touched."""

from __future__ import annotations

import pytest

from sparkgmm.spark.masking import masked, masked_values

pytestmark = pytest.mark.spark


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3a://AKIA:hunter2@bucket/rows", "s3a://***@bucket/rows"),
        ("jdbc:mysql://u:hunter2@host:3306/db", "jdbc:mysql://***@host:3306/db"),
        ("jdbc:x://h/db?user=u&password=hunter2&ssl=1", "jdbc:x://h/db?user=u&password=***&ssl=1"),
        ("jdbc:sqlserver://h;Password=hunter2;x=1", "jdbc:sqlserver://h;Password=***;x=1"),
        ("abfss://c@a.dfs.core/x?sig=hunter2", "abfss://c@a.dfs.core/x?sig=***"),
        ("fs.s3a.secret.key=hunter2 and more", "fs.s3a.secret.key=*** and more"),
        ("an ACCESS_KEY=hunter2", "an ACCESS_KEY=***"),
    ],
)
def test_secrets_in_addresses_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert "hunter2" not in masked(f"error: input.path '{text}' does not exist: give another")


@pytest.mark.parametrize(
    "text",
    [
        "hdfs://namenode:8020/rows/day=2026-11-23/part-0.parquet",
        "s3a://bucket/rows?versionId=3",
        "file:///data/a@b/rows.csv",
        "3 rows are invalid (x null in 1): fix them",
        "a@b.c",
        "abfss://container@account.dfs.core.windows.net/rows",
    ],
)
def test_addresses_without_secrets_are_left_as_they_are(text: str) -> None:
    assert masked(text) == text


def test_values_are_masked_by_the_name_they_go_under_and_by_what_they_hold() -> None:
    values = {
        "options": {"password": "p", "apiKey": "p", "header": True, "sas_token": None},
        "paths": ["s3a://k:p@b/x", 3],
        "model": {"k": [2, 3], "tol": 1e-6},
    }
    assert masked_values(values) == {
        "options": {"password": "***", "apiKey": "***", "header": True, "sas_token": None},
        "paths": ["s3a://***@b/x", 3],
        "model": {"k": [2, 3], "tol": 1e-6},
    }
