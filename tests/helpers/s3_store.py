"""The S3 server of the tests as a process of its own, and what tests ask of it."""

from __future__ import annotations

import http.client
import json
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-storage" / "bin" / "python"
JARS = ROOT / "build" / "jars" / "aws"
USER = {"access.key": "tests", "secret.key": "tests-secret"}
# Nobody checks the signature, but without one what is asked is asked by the public. The server has
# no faults for this user, and does not count what it asks.
_SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=onlooker/20261101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=none"
}
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"


@dataclass(frozen=True)
class Asked:
    """A request that the server was asked: `key` is bucket/key, of a list bucket/prefix."""

    operation: str
    key: str
    status: int
    fault: str
    begun: float
    seconds: float
    n_bytes: int
    connection: int
    user: str
    conditional: bool


class S3:
    """A server on a free port of loopback; it ends with this process, or by `stop`."""

    def __init__(self) -> None:
        if not PYTHON.exists():
            raise FileNotFoundError(f"{PYTHON} is missing: make .venv-storage/ready makes it")
        self._process = subprocess.Popen(
            [str(PYTHON), str(ROOT / "tests" / "storage" / "s3_server.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.endpoint = f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, _SIGNED)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 300:
            raise OSError(f"{method} {path}: {answer.status} {content[:300]!r}")
        return content

    # The rules and the records

    def rules(self, *rules: Mapping[str, Any]) -> None:
        """Set the faults anew, see `Rule` in storage/s3_server.py; none: the server is whole."""
        self._ask("PUT", "/_control/rules", json.dumps(rules).encode())

    def met(self) -> list[int]:
        """Return to how many requests each rule did something."""
        return [rule["met"] for rule in json.loads(self._ask("GET", "/_control/rules"))]

    def forget(self) -> None:
        """Begin the records anew."""
        self._ask("DELETE", "/_control/requests")

    def asked(self) -> list[Asked]:
        """Return the requests since the records were begun, in the order they came."""
        found = json.loads(self._ask("GET", "/_control/requests"))
        return [Asked(**request) for request in found]

    def counts(self) -> Counter[str]:
        """Return how many requests there were of each operation."""
        return Counter(request.operation for request in self.asked())

    # The store's content

    def make_bucket(self, bucket: str) -> str:
        self._ask("PUT", f"/{bucket}")
        return bucket

    def put(self, bucket: str, key: str, content: bytes) -> str:
        """Put an object, and return its address for s3a."""
        self._ask("PUT", f"/{bucket}/{quote(key)}", content)
        return f"s3a://{bucket}/{key}"

    def put_folder(self, bucket: str, key: str, folder: Path) -> str:
        """Put all files below a folder, and return the address of the whole."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.endswith(".crc"):
                self.put(bucket, f"{key}/{path.relative_to(folder)}", path.read_bytes())
        return f"s3a://{bucket}/{key}"

    def get(self, bucket: str, key: str) -> bytes:
        return self._ask("GET", f"/{bucket}/{quote(key)}")

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        for key in keys:
            self._ask("DELETE", f"/{bucket}/{quote(key)}")

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys in a bucket, sorted."""
        found: list[str] = []
        query = {"list-type": "2", "prefix": prefix}
        while True:
            tree = ET.fromstring(self._ask("GET", f"/{bucket}?{urlencode(query)}"))
            found += [str(item.findtext(f"{_XML}Key")) for item in tree.iter(f"{_XML}Contents")]
            token = tree.findtext(f"{_XML}NextContinuationToken")
            if not token:
                return sorted(found)
            query["continuation-token"] = token

    def settings(self) -> dict[str, str]:
        """Return the Hadoop settings that name this server."""
        return {
            "fs.s3a.endpoint": self.endpoint,
            "fs.s3a.endpoint.region": "us-east-1",
            "fs.s3a.path.style.access": "true",
            "fs.s3a.connection.ssl.enabled": "false",
            "fs.s3a.aws.credentials.provider": (
                "org.apache.hadoop.fs.s3a.SimpleAWSCredentialsProvider"
            ),
            **{f"fs.s3a.{key}": value for key, value in USER.items()},
        }

    def confs(self) -> dict[str, str]:
        """Return the settings of Spark that name this server and have the connector at hand.

        The jars are those of --jars or --packages: on spark.driver.extraClassPath they would come
        before Spark's own, and the bundle's old SLF4J would silence Spark's log. `local:` has
        them not copied.
        """
        jars = ",".join(f"local:{path}" for path in sorted(JARS.glob("*.jar")))
        return {
            "spark.jars": jars,
            **{f"spark.hadoop.{key}": value for key, value in self.settings().items()},
        }


class Bucket:
    """A bucket of the server, made here."""

    def __init__(self, s3: S3, name: str) -> None:
        self.s3 = s3
        self.name = s3.make_bucket(name)
        self.uri = f"s3a://{name}"

    def put(self, key: str, content: bytes) -> str:
        """Put an object, and return its address."""
        return self.s3.put(self.name, key, content)

    def put_folder(self, key: str, folder: Path) -> str:
        """Put all files below a folder, and return the address of the whole."""
        return self.s3.put_folder(self.name, key, folder)

    def get(self, key: str) -> bytes:
        return self.s3.get(self.name, key)

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin so, but for those that stand for folders, sorted."""
        return [key for key in self.s3.keys(self.name, prefix) if not key.endswith("/")]

    def fetch(self, key: str, folder: Path) -> Path:
        """Write all objects below a key to files, and return their folder."""
        for name in self.keys(f"{key}/"):
            path = folder / name.removeprefix(f"{key}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(name))
        return folder

    def litter(self) -> list[str]:
        """Return the keys that a job must not leave: hidden names, and passes of a fit."""
        return litter(self.s3.keys(self.name))


def litter(keys: Iterable[str]) -> list[str]:
    """Return the keys of which a part is a hidden name, or that keep passes of a fit."""
    return [
        key
        for key in keys
        if any(part.startswith(".") for part in key.split("/")) or "/state/" in key
    ]
