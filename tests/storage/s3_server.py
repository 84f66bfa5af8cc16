"""A server that speaks S3 on loopback, counts its requests and puts faults in by rules.

Run by the Python of .venv-storage (moto): `python s3_server.py` prints its port and serves until
its standard input ends. The store is moto's, in memory. What is here beside it:

- connections are kept (HTTP/1.1), as real stores do; without that a request costs a connection;
- all requests are written down, `GET /_control/requests`;
- rules, `PUT /_control/rules`, say which requests fail and how, see `Rule`;
- what changes a bucket is done one after the other, so that of two conditional puts
  (If-None-Match: *) one gets 412, which moto's look and then write would not ensure.

What moto does not model, so that no test here says anything about it: signatures and permissions
(any key may do anything; 403 is put in by rules), TLS, a store's own throttling and latency (both
put in by rules), redirects to other regions, virtual-host addresses, and how long a store takes
to show what was written: moto shows it at once, as S3 itself does since 2020.
"""

from __future__ import annotations

import io
import json
import os
import random
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

_CONTROL = "/_control/"
# The user by which tests look at the store: no rule is for it, and it is not written down.
TESTS = "onlooker"
_ERROR = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
    "<RequestId>0123456789ABCDEF</RequestId><HostId>loopback</HostId></Error>"
)
_MESSAGES = {
    "SlowDown": "Please reduce your request rate.",
    "AccessDenied": "Access Denied",
    "ExpiredToken": "The provided token has expired.",
    "InvalidAccessKeyId": "The AWS Access Key Id you provided does not exist in our records.",
    "InternalError": "We encountered an internal error. Please try again.",
}
_OPERATIONS = {  # what a request is, by its method and a parameter that is there
    ("GET", "list-type"): "LIST",
    ("GET", "uploads"): "LIST UPLOADS",
    ("POST", "delete"): "DELETE MANY",
    ("POST", "uploads"): "UPLOAD BEGIN",
    ("POST", "uploadId"): "UPLOAD END",
    ("PUT", "uploadId"): "UPLOAD PART",
    ("DELETE", "uploadId"): "UPLOAD ABORT",
}


@dataclass
class Rule:
    """Which requests fail, and how.

    `operation` and `key` are regular expressions for the whole operation (PUT, GET, HEAD, DELETE,
    COPY, LIST, ...) and for anything within bucket/key (of a list: its prefix). The first `skip`
    requests that match pass, then `times` fail (0: all), of those a `share`, drawn with a seed.
    `fault`: an error of `status` and `code`; "reset before" or "reset after" it took effect; a
    "hang" until the rules are set anew; a "delay" of `seconds`; "none", which changes nothing (for
    a rule that others wait for). A rule with `after`, the `name` of another, sleeps until a request
    met that one.
    """

    fault: str
    name: str = ""
    operation: str = ".*"
    key: str = ""
    status: int = 503
    code: str = "SlowDown"
    skip: int = 0
    times: int = 0
    share: float = 1.0
    seed: int = 0
    seconds: float = 0.0
    after: str = ""
    matched: int = 0  # requests that this rule is about
    met: int = 0  # those that it changed
    draw: Any = field(default=None, repr=False)


@dataclass
class Request:
    """A request as it was written down: `key` is bucket/key, of a list bucket/prefix."""

    operation: str
    key: str
    status: int
    fault: str
    begun: float  # seconds since the records were begun
    seconds: float
    n_bytes: int  # of its body
    connection: int  # the client's port
    user: str
    conditional: bool


class Store:
    """What the handlers share: the rules, the records and moto."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changing = threading.RLock()
        self.rules: list[Rule] = []
        self.requests: list[Request] = []
        self.began = time.monotonic()
        self.released = threading.Event()  # those that hang wait for it
        self.app = DomainDispatcherApplication(create_backend_app)

    def set_rules(self, rules: Iterable[dict[str, Any]]) -> None:
        with self.lock:
            self.released.set()
            self.released = threading.Event()
            self.rules = [Rule(**rule) for rule in rules]
            for rule in self.rules:
                rule.draw = random.Random(rule.seed)

    def faults(self, operation: str, key: str) -> list[Rule]:
        """Return the rules that a request meets: all delays, and the first that is none."""
        with self.lock:
            return [rule for rule in self.rules if self._meets(rule, operation, key)]

    def _meets(self, rule: Rule, operation: str, key: str) -> bool:
        if not re.fullmatch(rule.operation, operation) or not re.search(rule.key, key):
            return False
        if rule.after and not any(r.met for r in self.rules if r.name == rule.after):
            return False
        rule.matched += 1
        if rule.matched <= rule.skip or (rule.times and rule.met >= rule.times):
            return False
        if rule.share < 1 and rule.draw.random() >= rule.share:
            return False
        rule.met += 1
        return True

    def control(self, method: str, what: str, body: bytes) -> Any:
        if what == "rules" and method == "PUT":
            self.set_rules(json.loads(body))
        elif what == "requests" and method == "DELETE":
            with self.lock:
                self.requests, self.began = [], time.monotonic()
        elif what == "requests":
            with self.lock:
                return [asdict(request) for request in self.requests]
        with self.lock:
            return [{k: v for k, v in vars(r).items() if k != "draw"} for r in self.rules]


class Handler(BaseHTTPRequestHandler):
    """Answers a connection's requests one after the other."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    store: Store

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        body = self._body()
        if parts.path.startswith(_CONTROL):
            found = self.store.control(self.command, parts.path.removeprefix(_CONTROL), body)
            self._send(200, [("Content-Type", "application/json")], json.dumps(found).encode())
            return
        if self._user() == TESTS:
            self._send(*self._moto(parts.path, parts.query, body))
            return
        operation, key = self._what(parts.path, parse_qs(parts.query, keep_blank_values=True))
        met = self.store.faults(operation, key)
        begun = time.monotonic()
        for rule in met:
            if rule.fault == "delay":
                time.sleep(rule.seconds)
        fault = next((rule for rule in met if rule.fault not in ("delay", "none")), None)
        entry = Request(
            operation,
            key,
            0,
            fault.fault if fault else "",
            round(begun - self.store.began, 4),
            0.0,
            len(body),
            self.client_address[1],
            self._user(),
            "If-None-Match" in self.headers and self.command in ("PUT", "POST"),
        )
        with self.store.lock:
            self.store.requests.append(entry)
        try:
            self._answer(entry, fault, parts.path, parts.query, body)
        finally:
            entry.seconds = round(time.monotonic() - begun, 4)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def _answer(
        self, entry: Request, fault: Rule | None, path: str, query: str, body: bytes
    ) -> None:
        if fault is None:
            self._serve(entry, path, query, body)
        elif fault.fault == "error":
            entry.status = fault.status
            message = _MESSAGES.get(fault.code, fault.code)
            content = _ERROR.format(code=fault.code, message=message).encode()
            self._send(fault.status, [("Content-Type", "application/xml")], content)
        elif fault.fault == "reset before":
            self._reset()
        elif fault.fault == "reset after":
            entry.status, _, _ = self._moto(path, query, body)
            self._reset()
        elif fault.fault == "hang":
            self.store.released.wait()
            self._reset()
        else:
            raise ValueError(fault.fault)

    def _serve(self, entry: Request, path: str, query: str, body: bytes) -> None:
        entry.status, headers, content = self._moto(path, query, body)
        self._send(entry.status, headers, content)

    def _moto(self, path: str, query: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        if self.command in ("GET", "HEAD"):
            return self._run(path, query, body)
        with self.store.changing:
            return self._run(path, query, body)

    def _run(self, path: str, query: str, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        host, port = self.server.server_address[:2]
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path, "latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": self.path,
            "REQUEST_URI": self.path,
            "SERVER_NAME": str(host),
            "SERVER_PORT": str(port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in self.headers.items():
            key = name.upper().replace("-", "_")
            if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
                environ[f"HTTP_{key}"] = value
        answer: dict[str, Any] = {}

        def start_response(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            answer.update(status=int(status.split()[0]), headers=headers)

        result = self.store.app(environ, start_response)
        try:
            content = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        return answer["status"], answer["headers"], content

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _what(self, path: str, query: dict[str, list[str]]) -> tuple[str, str]:
        """Return what is asked for, and bucket/key of it."""
        key = unquote(path).strip("/") if path.count("/") < 2 else unquote(path)[1:]
        operation = self.command
        for (method, parameter), name in _OPERATIONS.items():
            if method == self.command and parameter in query:
                operation = name
        if operation == "LIST":
            key = f"{key.rstrip('/')}/{query.get('prefix', [''])[0]}"
        if self.command == "PUT" and "x-amz-copy-source" in self.headers:
            operation = "COPY"
        return operation, key

    def _user(self) -> str:
        found = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        return found[1] if found else ""

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in ("connection", "date", "server"):
                self.send_header(name, value)
        if "content-length" not in names and status != 204:
            self.send_header("Content-Length", str(len(content)))
        if hasattr(self, "_headers_buffer"):
            self._headers_buffer.append(b"\r\n")
            head = b"".join(self._headers_buffer)
            self._headers_buffer = []
            self.wfile.write(head if self.command == "HEAD" else head + content)

    def _reset(self) -> None:
        """Break the connection with a TCP reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def handle(self) -> None:
        try:
            super().handle()
        except (ConnectionError, ValueError):  # the client went, or we broke it
            self.close_connection = True


class Server(ThreadingHTTPServer):
    """Of as many connections as come."""

    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    """Serve until standard input ends, so that no server outlives its tests."""
    Handler.store = Store()
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
