"""Who may publish a run: a claim, a file that one process at a time can make.

A claim names its process and is written again every half minute. One whose process is known to be
dead, or that stays as it is for two minutes, was left behind and is taken over.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sparkgmm.errors import SparkGmmError
from sparkgmm.spark.file_systems import is_silent
from sparkgmm.spark.storage import Folder

PATIENCE_SECONDS = 120.0
# What this process holds now: it may live on after it could not let go of a claim.
_held: set[str] = set()
_POLL_SECONDS = 0.2


class LostError(SparkGmmError):
    """Another process took the claim over, as if its holder had died."""


class Claim:
    """A claim that is held."""

    def __init__(self, root: Folder, name: str, patience: float) -> None:
        self._root = root
        self._name = name
        self._patience = patience
        self._owner = _this_process()
        self._beats = 0
        self._released = threading.Event()
        self._keeper = threading.Thread(target=self._keep, daemon=True)

    def _content(self) -> bytes:
        return json.dumps({**self._owner, "beats": self._beats}).encode()

    def take(self) -> None:
        """Wait until no other process holds it, and hold it."""
        seen, since = None, time.monotonic()
        while not self._root.create(self._name, self._content()):
            there = self._root.read_if_there(self._name)
            if there is None:
                continue
            if there != seen:
                seen, since = there, time.monotonic()
            if is_dead(there) or time.monotonic() - since > self._patience:
                self._delete_claim(there)
            else:
                time.sleep(_POLL_SECONDS)
        self._keeper.start()

    def take_over(self, left_behind: bytes) -> bool:
        """Take a claim that was left behind, if it is as it was; return whether it is held."""
        self._delete_claim(left_behind)
        if not self._root.create(self._name, self._content()):
            return False
        self._keeper.start()
        return True

    def _delete_claim(self, left_behind: bytes) -> None:
        """Delete a claim, if nobody has taken it over at this very moment."""
        if self._root.read_if_there(self._name) == left_behind:
            self._root.delete(self._name)

    def _keep(self) -> None:
        while not self._released.wait(max(self._patience / 4, _POLL_SECONDS)):
            with suppress(Exception):  # the next time, or another process takes it over
                self.check()
                self._beats += 1
                self._root.write(self._name, self._content())

    def check(self) -> None:
        """Make sure that this process holds it still.

        Raises
        ------
        LostError
            If another one has it: this one was taken for dead.

        """
        if token_of(self._root.read_if_there(self._name)) != self._owner["token"]:
            raise LostError(
                f"{self._name} in {self._root.path} was taken over by another job, since this one "
                f"did not answer for {self._patience:g} s: start the same job again"
            )

    def release(self) -> None:
        """Release the claim, so that others can make it. What it was held for is done: no fault."""
        _held.discard(self._owner["token"])
        self._released.set()
        if self._keeper.ident is None:  # it was never held
            return
        self._keeper.join()
        if is_silent(self._root.uri):
            return
        with suppress(SparkGmmError, OSError):  # then it counts as left behind
            if token_of(self._root.read_if_there(self._name)) == self._owner["token"]:
                self._root.tidy(self._name)


@contextmanager
def claimed(root: Folder, name: str, patience: float = PATIENCE_SECONDS) -> Iterator[Claim]:
    """Hold a claim, and wait while another process holds it.

    A claim that stays unchanged for longer than `patience`, in seconds, is of a dead process.
    """
    claim = Claim(root, name, patience)
    try:
        claim.take()
        yield claim
    finally:
        claim.release()


@contextmanager
def taken_over(root: Folder, name: str, left_behind: bytes) -> Iterator[bool]:
    """Hold a claim that was left behind, unless another process was quicker; yield whether."""
    claim = Claim(root, name, PATIENCE_SECONDS)
    try:
        yield claim.take_over(left_behind)
    finally:
        claim.release()


def token_of(content: bytes | None) -> str | None:
    """Return the token of a claim's content, or None where it has none."""
    found = _parsed(content).get("token")
    return None if found is None else str(found)


def is_dead(content: bytes | None) -> bool:
    """Return whether a claim's or mark's process, of this machine, has ended or let go of it."""
    owner, machine = _parsed(content), _machine()
    if owner.get("machine") != machine or not isinstance(owner.get("process"), int):
        return False
    if owner["process"] == os.getpid() and owner.get("started") == _started(os.getpid()):
        return owner.get("token") not in _held
    return _started(owner["process"]) != owner.get("started")


def _parsed(content: bytes | None) -> dict[str, Any]:
    try:
        values = json.loads(content or b"")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def mark() -> bytes:
    """Return what a file holds by which others know whether its writer still works.

    It counts until `let_go` is called with it, or this process ends.
    """
    return json.dumps(_this_process()).encode()


def let_go(content: bytes) -> None:
    """Have a mark of this process count no more."""
    _held.discard(str(token_of(content)))


def _this_process() -> dict[str, Any]:
    token = uuid.uuid4().hex
    _held.add(token)
    number = os.getpid()
    return {"machine": _machine(), "process": number, "started": _started(number), "token": token}


def _machine() -> str:
    """Name this machine, its boot and its space of process numbers, so that numbers mean one thing.

    Where the system does not say (no Linux), no two processes are of one machine.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{socket.gethostname()} {boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:
        return uuid.uuid4().hex


def _started(process: int) -> str | None:
    """Return when a process started, in clock ticks since boot, or None where there is none."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
