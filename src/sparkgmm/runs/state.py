"""What an unfinished run keeps of its passes, so that the next one goes on where it stopped.

A fit is a function of the rows' profile, of their sample, and of the sums that each pass over the
rows returns. So the sums are its state: parameters, the history of the acceleration and where each
candidate is follow from them, to the bit. A resumed run is handed the sums that it would have
measured, for as long as it asks for the same ones.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from sparkgmm.core.profile import Profile
from sparkgmm.core.rows import Rows
from sparkgmm.core.statistics import Kernel, Sums
from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.runs import termination
from sparkgmm.runs.folder import to_json
from sparkgmm.spark.file_systems import first_line
from sparkgmm.spark.masking import masked
from sparkgmm.spark.names import place_named
from sparkgmm.spark.storage import FileInfo, Folder

_FORMAT = 1
_BEGUN = "begun.json"
# Quick passes are put down together: at most this often, and for a tenth of the time.
_EVERY_SECONDS = 0.25
_SHARE = 0.1
_FLOAT = np.dtype("<f8")

Say = Callable[[str], None]


@dataclass(frozen=True)
class BegunRun:
    """What must be the same for a run to go on: how, by which version, and from which rows.

    `configuration` holds the sections that decide the fit; `rows` is a digest of their profile,
    and `files`, path, bytes and time of each, say what changed where that digest did. `base` is the
    run that an update goes on from. `table` is the state of a table that was read, or None where
    the input has no states.
    """

    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    files: Sequence[Sequence[Any]]
    rows: str
    base: Mapping[str, Any] | None = None
    table: Mapping[str, Any] | None = None

    @classmethod
    def of(
        cls,
        configuration: Mapping[str, Any],
        versions: Mapping[str, str],
        files: Sequence[FileInfo],
        profile: Profile,
        base: Mapping[str, Any] | None = None,
        table: Mapping[str, Any] | None = None,
    ) -> BegunRun:
        """Describe a run that has read its rows."""
        listed = _listed(files)
        return cls(configuration, versions, listed, _digest(profile.pack()), base, table)

    @classmethod
    def of_files(
        cls,
        configuration: Mapping[str, Any],
        versions: Mapping[str, str],
        files: Sequence[FileInfo],
        table: Mapping[str, Any] | None = None,
    ) -> BegunRun:
        """Describe a run that goes on by parts of its rows: its files must be the same."""
        listed = _listed(files)
        rows = hashlib.sha256(json.dumps(listed).encode()).hexdigest()
        return cls(configuration, versions, listed, rows, None, table)

    @classmethod
    def read(cls, text: str) -> BegunRun | None:
        """Return what a run wrote, or None where that is damaged or of another format."""
        try:
            values = json.loads(text)
            if values.pop("format_version") != _FORMAT:
                return None
            values.setdefault("table", None)  # a key that came later
            return cls(**{field.name: values[field.name] for field in fields(cls)})
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


def _listed(files: Sequence[FileInfo]) -> list[list[Any]]:
    return [[masked(info.path), info.n_bytes, info.modified] for info in files]


class State:
    """The passes of an unfinished run, in a folder below it."""

    def __init__(self, folder: Folder, run_id: str, say: Say) -> None:
        self._folder = folder
        self._run_id = run_id
        self._say = say
        self._begun: BegunRun | None = None
        # another job that publishes this very run may remove its state at any moment
        with suppress(Exception):
            if folder.exists(_BEGUN):
                self._begun = BegunRun.read(folder.read_text(_BEGUN))
        self._unwritten: BegunRun | None = None
        self._known: dict[int, _Pass] = {}
        self._fresh: list[_Pass] = []
        self._next_write = time.monotonic() + _EVERY_SECONDS
        self._broken = False

    @property
    def begun(self) -> BegunRun | None:
        """What an earlier attempt wrote, if it was read."""
        return self._begun

    def begun_with(
        self, versions: Mapping[str, str], anew: bool = False
    ) -> Mapping[str, Any] | None:
        """Return the state of a table that an earlier attempt read, if this one goes on with it.

        By other versions, or `anew`, a run begins with the state that the table has now.
        """
        if self._begun is None or anew or dict(self._begun.versions) != dict(versions):
            return None
        return self._begun.table

    def check_configuration(self, configuration: Mapping[str, Any]) -> None:
        """Refuse to go on by another configuration than the run was begun with.

        Raises
        ------
        ConfigurationError
            If one key differs; it is named.

        """
        if self._begun is None:
            return
        difference = first_difference(self._begun.configuration, json.loads(to_json(configuration)))
        if difference:
            raise ConfigurationError(
                f"output.run_id {self._run_id!r} was begun with another configuration "
                f"({difference}) and is not finished: name another run_id, or start it again with "
                "--overwrite"
            )

    def begin(self, begun: BegunRun, path: object, anew: bool) -> None:
        """Take over the passes of an earlier attempt at this very run, or begin.

        With `anew`, passes over other rows or by another configuration are dropped.

        Raises
        ------
        InputError
            If the rows are not those that the run was begun with.

        """
        begun = BegunRun(**json.loads(to_json(asdict(begun))))  # as it will be read
        before = self._begun
        if before is not None and before.versions == begun.versions:
            if replace(before, versions={}, files=()) == replace(begun, versions={}, files=()):
                self._recall()
                return
            if not anew:
                raise InputError(
                    f"{place_named(path)} changed since run {self._run_id!r} was begun "
                    f"({_what_changed(before, begun)}): name another output.run_id, or start it "
                    "again with --overwrite"
                )
        elif before is not None:
            self._say(f"run {self._run_id} was begun by other versions: it is fitted again")
        self._folder.delete()
        self._unwritten = begun

    def _recall(self) -> None:
        """Read the passes that are there; a damaged file and what follows it do not count."""
        with suppress(Exception):  # as above: what cannot be read is measured again
            for info in self._folder.files():
                if info.path.endswith(".passes"):
                    passes = _Pass.read_all(self._folder.read_bytes(info.path))
                    self._known |= {kept.number: kept for kept in passes}
        n_known = next(i for i in range(len(self._known) + 1) if i not in self._known)
        if n_known:
            self._say(f"run {self._run_id} goes on after pass {n_known} of an earlier attempt")

    def sums(
        self,
        number: int,
        kernels: Sequence[Kernel],
        label: str,
        measure: Callable[[], list[Sums]],
    ) -> list[Sums]:
        """Return the sums of a pass: those that are known, or else measured ones, which are kept.

        Passes are known by their number and by every bit of what they measure.
        """
        request = _digest(*(array for kernel in kernels for array in kernel.arrays()))
        known = self._known.get(number)
        if known is not None and known.request == request:
            return list(known.sums)
        sums = measure()
        self._fresh.append(_Pass(number, label, request, tuple(sums)))
        if time.monotonic() >= self._next_write and not self._broken:
            self._write_passes()
        return sums

    def _write_passes(self) -> None:
        begun = time.monotonic()
        try:
            self._write()
        except Exception as error:  # a fit does not end because its passes cannot be kept
            self._broken = True
            self._say(
                f"the passes cannot be kept ({first_line(error)}): the fit goes on, and would "
                "begin again at its first pass if it were stopped"
            )
        ended = time.monotonic()
        self._next_write = ended + max(_EVERY_SECONDS, (ended - begun) / _SHARE)

    def write_begun(self) -> None:
        """Write down what the run was begun with, if that is not there yet."""
        if self._unwritten is not None:
            content = to_json({"format_version": _FORMAT, **asdict(self._unwritten)})
            self._folder.replace(_BEGUN, content.encode())
            self._unwritten = None

    def _write(self) -> None:
        self.write_begun()
        passes = b"".join(kept.packed() for kept in self._fresh)
        self._folder.replace(f"{self._fresh[0].number:06d}.passes", passes)
        self._fresh.clear()


class KeptRows:
    """Rows whose passes are kept, and not made again where they are known."""

    def __init__(self, rows: Rows, state: State) -> None:
        self.profile = rows.profile
        self.sample = rows.sample
        self.complete = rows.complete
        self.columns = rows.columns
        self.range_beside = rows.range_beside
        self._rows = rows
        self._state = state
        self._n_passes = 0

    def scan(self, kernels: Sequence[Kernel], label: str) -> list[Sums]:
        """Run the kernels over every block and add the sums in a fixed order."""
        termination.check()
        number, self._n_passes = self._n_passes, self._n_passes + 1
        return self._state.sums(number, kernels, label, lambda: self._rows.scan(kernels, label))


@dataclass(frozen=True)
class _Pass:
    """One pass: what was asked for, by its digest, and the sums a candidate."""

    number: int
    label: str
    request: str
    sums: tuple[Sums, ...]

    def packed(self) -> bytes:
        """Return a line of JSON, and as many bytes of float64 as it says."""
        numbers = [np.append(s.moments.ravel(), s.log_likelihood) for s in self.sums]
        content = np.concatenate(numbers).astype(_FLOAT).tobytes()
        head = {
            "format_version": _FORMAT,
            "pass": self.number,
            "label": self.label,
            "request": self.request,
            "shapes": [list(s.moments.shape) for s in self.sums],
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return json.dumps(head).encode() + b"\n" + content

    @classmethod
    def read_all(cls, content: bytes) -> list[_Pass]:
        """Return the passes of a file, up to the first that is damaged."""
        found = []
        while content:
            line, _, content = content.partition(b"\n")
            try:
                head = json.loads(line)
                n_bytes = int(head["bytes"])
                packed, content = content[:n_bytes], content[n_bytes:]
                found.append(cls._unpacked(head, packed))
            except (ValueError, KeyError, TypeError):
                break
        return found

    @classmethod
    def _unpacked(cls, head: Mapping[str, Any], packed: bytes) -> _Pass:
        if head["format_version"] != _FORMAT:
            raise ValueError("another format")
        if hashlib.sha256(packed).hexdigest() != head["sha256"]:
            raise ValueError("damaged")
        numbers, sums = np.frombuffer(packed, _FLOAT).astype(np.float64), []
        for k, n_features in head["shapes"]:
            here, numbers = np.split(numbers, [k * n_features + 1])
            sums.append(Sums(here[:-1].reshape(k, n_features), float(here[-1])))
        return cls(int(head["pass"]), str(head["label"]), str(head["request"]), tuple(sums))


def _digest(*arrays: Any) -> str:
    """Return a digest of every bit of some arrays, and of their shapes."""
    digest = hashlib.sha256()
    for array in arrays:
        packed = np.ascontiguousarray(array, dtype=_FLOAT)
        digest.update(repr(packed.shape).encode())
        digest.update(packed.tobytes())
    return digest.hexdigest()


def first_difference(before: Any, after: Any, path: str = "") -> str:
    """Say in which key two configurations differ first, or return an empty string."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            below = f"{path}.{key}" if path else str(key)
            found = first_difference(before.get(key), after.get(key), below)
            if found:
                return found
        return ""
    return "" if before == after else f"{path} was {before!r}, is {after!r}"


def _what_changed(before: BegunRun, after: BegunRun) -> str:
    """Say which file is another, by size or time, or that it must be the rows themselves."""
    then, now = ({path: rest for path, *rest in begun.files} for begun in (before, after))
    for path in sorted({*then, *now}):
        if path not in now:
            return f"{path} is gone"
        if path not in then:
            return f"{path} is new"
        if then[path][0] != now[path][0]:
            return f"{path} had {then[path][0]:,} bytes, has {now[path][0]:,}"
        if then[path] != now[path]:
            return f"{path} was written again"
    return "its rows are not the same"
