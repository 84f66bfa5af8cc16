"""What an exception of a file system means to the user: missing, forbidden, full, no answer, ...

The one place that knows the exceptions of Hadoop, of its connectors and of the stores behind them.
They are distinguished by the names and texts that Java shows, since py4j hands over nothing else.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException

from sparkgmm.errors import ConfigurationError, InputError, SparkGmmError
from sparkgmm.spark.masking import masked
from sparkgmm.spark.names import TableName

# Whoever waits for a file system for longer, in seconds, hears of it.
WAIT_SECONDS = 10.0
_log = logging.getLogger("sparkgmm")


@dataclass(frozen=True)
class Use:
    """What a path is for: the name by which the user gave it, and the error of its faults."""

    key: str
    error: type[SparkGmmError]


INPUT = Use("input.path", InputError)
OUTPUT = Use("output.path", ConfigurationError)
MODEL = Use("model", ConfigurationError)
# A parameter in Python, or an argument of a command.
PATH_READ = Use("path", InputError)
PATH_WRITTEN = Use("path", ConfigurationError)


@dataclass(frozen=True)
class Fault:
    """One kind of fault: how it is recognised, what a message says of it, and what to do.

    `verb` is for faults in which nothing was read or written at all. `on_writing` is the remedy
    where it is another than on reading. With `cause`, the message quotes the exception as well.
    """

    name: str
    marks: re.Pattern[str]
    what: str
    remedy: str
    on_writing: str | None = None
    verb: str | None = None
    cause: bool = True


def _marks(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns))


_AGAIN = "then start the same job again"
# The first that is recognised counts.
FAULTS = (
    Fault(
        "connector",
        _marks(
            "No FileSystem for scheme",
            "FileSystem not found",
            r"ClassNotFoundException: Class \S*(?:FileSystem|\.fs\.)\S* not found",
            r"ClassNotFoundException: \S*AWSCredentialsProvider",
            "NoClassDefFoundError: (?:software/amazon|com/amazonaws|com/google/cloud)",
        ),
        "this Spark has no connector for it, or not all of it",
        "",  # see _connector
        verb="reached",
        cause=False,
    ),
    Fault(
        "address",
        _marks("URISyntaxException", "Illegal character in", "bucket is null/empty"),
        "the address is not valid",
        "check the address",
        verb="reached",
    ),
    Fault(
        "host",
        _marks("UnknownHostException"),
        "its host is not known",
        "check the address, the endpoint of the store and the name server",
        verb="reached",
    ),
    Fault(
        "store",
        _marks("UnknownStoreException", "NoSuchBucket", "The specified container does not exist"),
        "the bucket does not exist",
        "correct the address, or make the bucket first",
        cause=False,
    ),
    Fault(
        "region",
        _marks(
            "AWSRedirectException",
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraint",
        ),
        "the bucket is in another region or at another endpoint",
        "set spark.hadoop.fs.s3a.endpoint.region or spark.hadoop.fs.s3a.endpoint to the bucket's",
    ),
    Fault(
        "no credentials",
        _marks(
            "NoAuthWithAWSException",
            "NoAwsCredentialsException",
            "CredentialInitializationException",
            "Unable to load credentials",
        ),
        "no credentials were found",
        "name a provider with spark.hadoop.fs.s3a.aws.credentials.provider, or set the "
        "credentials that the provider reads",
        cause=False,
    ),
    Fault(
        "credentials",
        _marks(
            "ExpiredToken",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "InvalidClientTokenId",
            "TokenRefreshRequired",
            "AWSBadRequestException",  # all that a HEAD says of a token that has expired
            "The security token included in the request is",
            "GSS initiate failed",
            "Client cannot authenticate via",
            "SIMPLE authentication is not enabled",
            "KerberosAuthException",
            r"token \([^)]*\) (?:is expired|can't be found)",
        ),
        "the credentials are not accepted or have expired",
        f"renew them, {_AGAIN}",
    ),
    Fault(
        "full",
        _marks(
            "No space left on device",
            "Disk quota exceeded",
            "QuotaExceeded",
            "QuotaByStorageTypeExceeded",
        ),
        "it is full",
        f"make room there, {_AGAIN}",
        f"make room there or choose another, {_AGAIN}",
    ),
    Fault(
        "safe mode",
        _marks("SafeModeException", "in safe mode"),
        "the namenode is in safe mode and takes no changes",
        f"wait until it has left safe mode, {_AGAIN}",
        cause=False,
    ),
    Fault(
        "datanodes",
        _marks(
            r"could only be (?:written|replicated) to 0",
            "All datanodes .* are bad",
            "BlockMissingException",
            "Could not obtain block",
        ),
        "its datanodes do not answer or are full",
        f"check the datanodes, {_AGAIN}",
    ),
    Fault(
        "read-only",
        _marks("Read-only file system"),
        "the file system is read-only",
        "choose another place",
        cause=False,
    ),
    Fault(
        "forbidden",
        _marks(
            "AccessControlException",
            "AccessDeniedException",
            "AccessDenied",
            "Permission denied",
            "Status Code: 403",
            "Forbidden",
        ),
        "access is denied",
        "give this user or these credentials the right to read it",
        "give this user or these credentials the right to write there, or choose another",
    ),
    Fault(
        "changed",
        _marks("RemoteFileChangedException"),
        "a file was replaced while it was read",
        "start the same job again when nobody writes there",
    ),
    Fault(
        "no answer",
        _marks(
            "ConnectException",
            "Connection refused",
            "ConnectTimeoutException",
            "SocketTimeoutException",
            "NoRouteToHostException",
            "Unable to execute HTTP request",
            "AWSClientIOException",
            "AWSApiCallTimeoutException",
            "AWSServiceThrottledException",
            "AWSServiceIOException",
            "AWSStatus500Exception",
            "NoHttpResponseException",
            "RetriableException",
            "Failed on local exception",
            "End of File Exception between local host",
            "ipc.RpcException",
            r"software\.amazon\S*: .*Status Code: 50\d",
        ),
        "it does not answer",
        f"check that it is up and that the address and the endpoint are right, {_AGAIN}",
        verb="reached",
    ),
    Fault(
        "missing",
        _marks("FileNotFoundException", "NoSuchFileException", "No such file or directory"),
        "there is no such file or folder",
        "check the address",
        "check that nobody deletes files there, and start the same job again",
    ),
)
# Faults that may be gone when the same job is tried again.
_PASSING = ("no answer", "safe mode", "datanodes", "changed", "host")
# What remains of Java's ways to say that a file system failed.
_OTHER = re.compile(
    r"java\.(?:io|net)\.\w*Exception|java\.nio\.file\.|org\.apache\.hadoop\.fs\.\w*Exception"
    r"|org\.apache\.hadoop\.ipc\.\w*Exception|org\.apache\.hadoop\.fs\.s3a\.\w*Exception"
)
# A word of the network counts only where a file system said it: executors have a network too.
_FILE_SYSTEM = re.compile(r"org\.apache\.hadoop|software\.amazon|com\.google\.cloud|azure")
# When a file system last gave no answer.
_SILENT_SECONDS = 30.0
_silent: dict[str, float] = {}


def fault_in(text: str) -> Fault | None:
    """Return the fault that Java's text of an exception shows, or None."""
    for fault in FAULTS:
        if fault.marks.search(text) and (
            fault.name != "no answer" or _FILE_SYSTEM.search(text) is not None
        ):
            return fault
    return None


def error_of(
    error: BaseException, use: Use, path: object, writing: bool = False
) -> SparkGmmError | None:
    """Return the error to show for a file system's exception, or None where it is none.

    `path` is what the user gave for `use`; `writing` chooses between the two remedies.
    """
    text = str(error)
    fault = fault_in(text)
    if fault is not None:
        return _error(fault, error, use, path, writing)
    if not isinstance(error, OSError) and _OTHER.search(text) is None:
        return None
    if writing:
        done, remedy = "written", "make room there or choose another, and start the same job again"
    else:
        done, remedy = "read", "check that it is whole and that this user may read it"
    return use.error(f"{_named(use, path)} cannot be {done} ({first_line(error)}): {remedy}")


def _error(
    fault: Fault, error: BaseException, use: Use, path: object, writing: bool
) -> SparkGmmError:
    done = fault.verb or ("written" if writing else "read")
    cause = first_line(error)
    what = f"{fault.what}: {cause}" if fault.cause and cause else fault.what
    remedy = (fault.on_writing if writing else None) or fault.remedy or _connector(path, str(error))
    made = use.error(f"{_named(use, path)} cannot be {done} ({what}): {remedy}")
    made.may_pass = fault.name in _PASSING
    return made


def _named(use: Use, path: object) -> str:
    if path is None:
        return "the input"
    key = use.key.replace(".path", ".table") if isinstance(path, TableName) else use.key
    return masked(f"{key} {path!r}")


def _connector(path: object, text: str) -> str:
    """Return how to add the connector of a path, in this Spark's versions."""
    listed = path if isinstance(path, list | tuple) else [path]
    scheme = next((str(p).partition(":")[0] for p in listed if ":" in str(p)), "")
    said = re.search(r'No FileSystem for scheme[: "]+([\w+.-]+)', text)
    scheme = said.group(1) if said else scheme
    if scheme in ("s3", "s3n"):
        return f"write s3a:// in place of {scheme}://"
    packages = {
        "s3a": f"org.apache.hadoop:hadoop-aws:{_hadoop_version()}",
        "abfs": f"org.apache.hadoop:hadoop-azure:{_hadoop_version()}",
        "gs": "com.google.cloud.bigdataoss:gcs-connector, of a version for this Hadoop",
    }
    packages["abfss"] = packages["abfs"]
    if scheme in packages:
        return f"add it with --packages {packages[scheme]}"
    return "check the address, or add its file system with --packages"


def _hadoop_version() -> str:
    jvm = SparkContext._jvm
    if jvm is None:  # Spark Connect
        return "VERSION, that of its Hadoop"
    return str(jvm.org.apache.hadoop.util.VersionInfo.getVersion())


def first_line(error: BaseException) -> str:
    """Return the one line of an exception's text that says most, without Java's frames."""
    text = str(error)
    causes = re.findall(r"^Caused by: (.+)$", text, flags=re.MULTILINE)
    # py4j says first which call failed, and on the next line why
    text = re.sub(r"^An error occurred while calling .*\n(?:: )?", "", text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    line = causes[-1] if causes else (lines[0] if lines else type(error).__name__)
    line = re.sub(r"^(?:[\w$]+\.)+[\w$]+(?:Exception|Error)(?:\([^)]*\))?:\s*", "", line)
    # what a store adds for its support
    line = re.sub(r"\s*\((?:Service:|SDK Attempt Count:)[^)]*\)", "", line)
    return masked(re.sub(r"\s+SQLSTATE: \w+.*$", "", line)[:300].rstrip(".; "))


@contextmanager
def file_system_errors(
    path: object, use: Use, writing: bool = False, address: str | None = None
) -> Iterator[None]:
    """Turn what a file system throws into an error of ours, and say when it is slow to answer.

    `address` is the path with its scheme, if the user's has none. That a file system gave no answer
    is noted, see `is_silent`.

    Raises
    ------
    SparkGmmError
        `use.error`, where a file system failed. Anything else goes on as it is.

    """
    system = system_of(path if address is None else address)
    try:
        with logging_when_slow(path if address is None else address):
            yield
    except (Py4JJavaError, PySparkException) as error:
        known = error_of(error, use, path, writing)
        if known is None:
            raise
        if system and getattr(fault_in(str(error)), "name", None) == "no answer":
            _silent[system] = time.monotonic()
        raise known from error


def is_silent(address: str) -> bool:
    """Return whether the file system of an address gave no answer in the last half minute.

    Whoever cleans up after an error then leaves it, and does not wait for each file anew.
    """
    last = _silent.get(system_of(address) or "")
    return last is not None and time.monotonic() - last < _SILENT_SECONDS


@contextmanager
def logging_when_slow(path: object) -> Iterator[None]:
    """Log a line where a file system that is not of this machine takes long to answer."""
    system = system_of(path)
    if system is None:
        yield
        return
    timer = threading.Timer(
        WAIT_SECONDS, _log.warning, ("waiting for %s, which does not answer yet", masked(system))
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def system_of(path: object) -> str | None:
    """Return scheme and host of a path, or of the first of several that is not of this machine."""
    listed = path if isinstance(path, list | tuple) else [path]
    found = (re.match(r"(?!file:)[a-zA-Z][\w+.-]*://[^/]*", str(p)) for p in listed)
    return next((match[0] for match in found if match), None)
