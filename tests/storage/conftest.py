"""Servers of storage for the tests, and the jobs that are run against them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from helpers.s3_store import S3, Bucket
from helpers.session_jobs import Jobs


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    """A server that speaks S3, with an empty store."""
    server = S3()
    yield server
    server.stop()


_numbers = itertools.count(1)


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """The server, without faults and without records."""
    s3_server.rules()
    s3_server.forget()
    yield s3_server
    s3_server.rules()


@pytest.fixture
def bucket(s3: S3) -> Bucket:
    """A new bucket: connectors keep what they know of a bucket, so that no two tests share one."""
    return Bucket(s3, f"bucket-{next(_numbers)}")


@pytest.fixture(scope="session")
def s3_jobs(s3_server: S3, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jobs]:
    """A session that has S3A and knows the server, for what needs no process of its own."""
    jobs = Jobs(tmp_path_factory.mktemp("s3-jobs"), s3_server.confs())
    yield jobs
    jobs.stop()


@pytest.fixture(scope="session")
def _others() -> Iterator[list[Jobs]]:
    jobs: list[Jobs] = []
    yield jobs
    for one in jobs:
        one.stop()


@pytest.fixture
def other_s3_jobs(
    s3_server: S3, _others: list[Jobs], tmp_path_factory: pytest.TempPathFactory
) -> Jobs:
    """Another such session, as of another user, which a test may kill."""
    if not _others or _others[-1].process.poll() is not None:
        _others.append(Jobs(tmp_path_factory.mktemp("other-s3-jobs"), s3_server.confs()))
    return _others[-1]
