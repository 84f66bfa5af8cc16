"""What an exception of a file system becomes: an error with the key, the reason and the remedy."""

from __future__ import annotations

import logging
import time

import pytest

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.spark import file_systems
from sparkgmm.spark.file_systems import INPUT, OUTPUT, error_of, first_line, logging_when_slow

pytestmark = pytest.mark.spark

S3 = "software.amazon.awssdk.services.s3.model.S3Exception: "
CALL = "An error occurred while calling o1.getFileStatus.\n: "
HADOOP = "\n\tat org.apache.hadoop.fs.FileSystem.exists(FileSystem.java:1)"


@pytest.mark.parametrize(
    ("text", "said", "remedy"),
    [
        (
            "org.apache.hadoop.fs.s3a.UnknownStoreException: `s3a://b/x': Bucket does not exist",
            "cannot be written (the bucket does not exist)",
            "make the bucket",
        ),
        (
            "java.nio.file.AccessDeniedException: s3a://b/x: PUT 0-byte object on x: "
            + S3
            + "Access Denied (Service: S3, Status Code: 403, Request ID: 1)",
            "cannot be written (access is denied",
            "the right to write there",
        ),
        (
            "java.nio.file.AccessDeniedException: s3a://b/x: "
            + S3
            + "The provided token has expired. (Service: S3, Status Code: 400): ExpiredToken",
            "have expired",
            "renew them",
        ),
        (
            "org.apache.hadoop.fs.s3a.auth.NoAuthWithAWSException: no provider",
            "no credentials were found",
            "fs.s3a.aws.credentials.provider",
        ),
        (
            "org.apache.hadoop.hdfs.server.namenode.SafeModeException: Cannot create file/x. Name "
            "node is in safe mode.",
            "safe mode",
            "wait until it has left safe mode",
        ),
        (
            "org.apache.hadoop.hdfs.protocol.DSQuotaExceededException: The DiskSpace quota of /x "
            "is exceeded",
            "cannot be written (it is full: The DiskSpace quota",
            "make room there or choose another",
        ),
        (
            "org.apache.hadoop.ipc.RemoteException(java.io.IOException): File /x could only be "
            "written to 0 of the 1 minReplication nodes.",
            "datanodes",
            "check the datanodes",
        ),
        (
            'org.apache.hadoop.security.AccessControlException: Permission denied: user=a, inode="',
            "access is denied: Permission denied: user=a",
            "the right to write there",
        ),
        (
            "java.net.ConnectException: Call From vm to localhost:1 failed on connection exception",
            "cannot be reached (it does not answer",
            "check that it is up",
        ),
        ("java.io.IOException: something else", "cannot be written (something else)", "choose"),
    ],
)
def test_a_fault_on_writing_names_the_key_the_reason_and_the_remedy(
    text: str, said: str, remedy: str
) -> None:
    error = error_of(Exception(CALL + text + HADOOP), OUTPUT, "s3a://b/x", writing=True)
    assert isinstance(error, ConfigurationError)
    assert str(error).startswith("output.path 's3a://b/x' cannot be ")
    assert said in str(error)
    assert remedy in str(error)
    assert "\n" not in str(error)
    assert "Service: S3" not in str(error)


def test_a_fault_on_reading_is_one_of_the_input_with_the_remedy_of_readers() -> None:
    text = "java.nio.file.AccessDeniedException: s3a://b/x: Forbidden; Status Code: 403"
    error = error_of(Exception(text), INPUT, ["s3a://b/x"])
    assert isinstance(error, InputError)
    assert "the right to read it" in str(error)


def test_a_network_fault_that_no_file_system_had_is_not_taken_for_one() -> None:
    text = "java.net.ConnectException: Connection refused\n\tat org.apache.spark.rpc.netty"
    assert file_systems.fault_in(text) is None
    assert file_systems.fault_in(text + HADOOP) is not None


def test_an_error_of_another_kind_is_none_of_a_file_system() -> None:
    assert error_of(ValueError("no such luck"), OUTPUT, "x") is None


def test_the_old_scheme_of_s3_is_corrected(spark: object) -> None:
    text = 'org.apache.hadoop.fs.UnsupportedFileSystemException: No FileSystem for scheme "s3"'
    error = str(error_of(Exception(text), OUTPUT, "s3://b/x", writing=True))
    assert "write s3a:// in place of s3://" in error


def test_a_connector_that_is_missing_is_named_in_the_version_of_this_hadoop(spark: object) -> None:
    text = (
        "java.lang.ClassNotFoundException: Class org.apache.hadoop.fs.s3a.S3AFileSystem not found"
    )
    error = str(error_of(Exception(text), INPUT, "s3a://b/x"))
    assert "--packages org.apache.hadoop:hadoop-aws:3." in error


def test_secrets_in_an_address_do_not_reach_the_message() -> None:
    text = "java.net.UnknownHostException: s3a://key:secret@b/x: nohost"
    error = str(error_of(Exception(text), OUTPUT, "s3a://key:secret@b/x", writing=True))
    assert "secret" not in error
    assert "secret" not in first_line(Exception(text))


def test_whoever_waits_for_a_far_store_hears_of_it_and_of_a_local_one_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_systems, "WAIT_SECONDS", 0.02)
    with caplog.at_level(logging.WARNING, "sparkgmm"):
        with logging_when_slow("s3a://bucket/x"):
            time.sleep(1)
        with logging_when_slow("/tmp/x"), logging_when_slow("file:///tmp/x"):
            time.sleep(0.2)
    assert caplog.messages == ["waiting for s3a://bucket, which does not answer yet"]


def test_a_store_that_gave_no_answer_is_left_by_those_who_clean_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_systems, "_silent", {})
    error = file_systems.Py4JJavaError.__new__(file_systems.Py4JJavaError)
    monkeypatch.setattr(
        file_systems.Py4JJavaError,
        "__str__",
        lambda _: "java.net.ConnectException: Connection refused" + HADOOP,
    )
    assert not file_systems.is_silent("s3a://gone/x")
    with (
        pytest.raises(ConfigurationError, match="does not answer"),
        file_systems.file_system_errors("s3a://gone/x", OUTPUT, writing=True),
    ):
        raise error
    assert file_systems.is_silent("s3a://gone/y")
    assert not file_systems.is_silent("s3a://other/y")
    assert not file_systems.is_silent("/tmp/x")
