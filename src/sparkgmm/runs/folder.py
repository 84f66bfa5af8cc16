"""A run's folder: what it holds, when it exists, and how LATEST comes to point at it.

And a folder of rows, which takes its place in one piece.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from sparkgmm.errors import ConfigurationError, InputError
from sparkgmm.mixture import Mixture
from sparkgmm.runs.claim import Claim, LostError, claimed, is_dead, let_go, mark, taken_over
from sparkgmm.runs.config import RUN_ID
from sparkgmm.runs.local_folder import LocalFolder
from sparkgmm.runs.termination import sigterm_delayed
from sparkgmm.spark.components import component_rows
from sparkgmm.spark.file_systems import is_silent
from sparkgmm.spark.storage import FileInfo, Folder

MANIFEST = "manifest.json"
MODEL = "model.json"
LATEST = "LATEST"
STATE = "state"
GROUPS = "groups"


class RunFolder:
    """One run below an output root. It exists once its manifest does, which is written last."""

    def __init__(self, root: Folder, run_id: str) -> None:
        self._root = root
        # an object store has no folders of its own
        self._root_was_there = not root.renames or root.exists()
        self._folder = root.child(run_id)
        self.run_id = run_id

    @property
    def path(self) -> str:
        """The address of the run."""
        return self._folder.path

    @property
    def root_path(self) -> str:
        """The address of its output root."""
        return self._root.path

    @property
    def state(self) -> Folder:
        """Where a run that is not finished keeps its passes."""
        return self._folder.child(STATE)

    def is_whole(self) -> bool:
        """Return whether a finished run is there."""
        return self._folder.exists(MANIFEST)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of a whole run; of one that cannot be read, an empty one."""
        return _manifest(self._root, self.run_id)

    @property
    def root(self) -> Folder:
        """The output root."""
        return self._root

    def is_latest(self) -> bool:
        """Return whether LATEST names this run."""
        return latest_of(self._root) == self.run_id

    def complete(self) -> None:
        """Have LATEST name this run, if the job that published it ended just before that.

        Its claim is there then. A run that was published later keeps LATEST.
        """
        name = f".{self.run_id}{_CLAIM}"
        if not self._root.exists(name):
            return
        with claimed(self._root, name):
            latest = latest_of(self._root)
            if latest is None or self._is_newer_than(latest):
                self._name_latest(True)
            self.state.delete()

    def _is_newer_than(self, run_id: str) -> bool:
        """Return whether this whole run was published after another, or that one is gone."""
        if not self._root.exists(f"{run_id}/{MANIFEST}"):
            return True
        other = _published(self._root, run_id, _manifest(self._root, run_id))
        return other < _published(self._root, self.run_id, self.manifest())

    def check_own(self) -> None:
        """Refuse a folder of the run's name that holds what no run writes: it is somebody's data.

        Raises
        ------
        ConfigurationError
            Then; a file of it is named.

        """
        foreign = next((i.path for i in self._folder.files(most=1000) if not _is_of_run(i)), None)
        if foreign is not None:
            raise ConfigurationError(
                f"output.run_id {self.run_id!r} is the name of a folder in {self._root.path!r} "
                f"that is no run (it holds {foreign!r}): choose another output.run_id or "
                "output.path"
            )

    def discard(self) -> None:
        """Remove what an unfinished run left; a whole run stays."""
        self.state.delete()
        if not self._folder.files(most=1):
            self._folder.delete()
        if not self._root_was_there and not self._root.files(most=1):
            self._root.delete()

    def publish(
        self,
        files: Mapping[str, bytes],
        rejected: DataFrame | None,
        manifest: Mapping[str, Any],
        overwrite: bool = True,
        accepted: bool = True,
        tables: Mapping[str, DataFrame] | None = None,
    ) -> bool:
        """Write everything, manifest last, and then have LATEST name this run.

        Who publishes holds a claim, so that two jobs with one run_id do it one after the other: the
        second finds a whole run, and leaves it alone unless `overwrite`. A run that is not
        `accepted` leaves LATEST as it is, and does not replace the run that LATEST names. Returns
        whether this run was published. If anything fails, what was written goes, and an old run
        and LATEST stay as they were. What earlier jobs left that were killed here goes as well.
        `tables` are written by Spark, as Parquet folders of these names, and so are `rejected`
        rows.
        """
        frames = dict(tables or {}) | ({} if rejected is None else {"rejected": rejected})
        with claimed(self._root, f".{self.run_id}{_CLAIM}") as claim:
            remove_leftovers(self._root, self.run_id)
            whole = self.is_whole()
            published = overwrite or not whole
            published = published and (accepted or not self.is_latest())
            if published and (whole or self._root.renames):
                self._publish_by_moving(files, frames, manifest, accepted, claim)
            elif published:
                self._publish_in_place(files, frames, manifest, accepted, claim)
        self.state.tidy()
        return published

    def _publish_by_moving(
        self,
        files: Mapping[str, bytes],
        frames: Mapping[str, DataFrame],
        manifest: Mapping[str, Any],
        accepted: bool,
        claim: Claim,
    ) -> None:
        """Write a draft beside the run's place and move it there, where moving costs little.

        Also where it costs more, on object stores, if an old run is to be replaced: it stays until
        the new one is written.
        """
        draft = self._beside()
        try:
            for name, content in files.items():
                draft.write(name, content)
            for name, frame in frames.items():
                frame.write.parquet(draft.child(name).uri)
            listed = _checksums(draft, files)
            draft.write(MANIFEST, to_json({**manifest, "files": listed}).encode())
            with sigterm_delayed():
                claim.check()
                self._publish_files(draft, accepted)
        finally:
            draft.tidy()

    def _publish_in_place(
        self,
        files: Mapping[str, bytes],
        frames: Mapping[str, DataFrame],
        manifest: Mapping[str, Any],
        accepted: bool,
        claim: Claim,
    ) -> None:
        """Put each file to its place at once, where moving it would be a copy: on object stores."""
        draft = self._beside()
        try:
            for name, frame in frames.items():
                frame.write.parquet(draft.child(name).uri)
            listed = _checksums(draft, {}) if frames else []
            with sigterm_delayed():
                try:
                    claim.check()
                    for name, content in files.items():
                        self._folder.write(name, content)
                    if frames:
                        draft.move_files(self._folder)
                    listed = sorted(listed + _listed(files), key=lambda entry: entry["path"])
                    claim.check()
                    self._folder.write(MANIFEST, to_json({**manifest, "files": listed}).encode())
                    self._name_latest(accepted)
                except BaseException as error:
                    if not isinstance(error, LostError):  # what is there may be another job's
                        self._clear_target()
                    raise
        finally:
            if frames:
                draft.tidy()

    def _beside(self, kind: str = "") -> Folder:
        return self._root.child(f".{self.run_id}.{uuid.uuid4().hex}{kind}")

    def _publish_files(self, draft: Folder, accepted: bool) -> None:
        """Move the draft's files here, and then LATEST; an old run makes way, or comes back.

        File by file, since on object stores a folder that is renamed arrives in any order.
        """
        before = None
        if self.is_whole():
            before = self._beside(_BEFORE)
            self._folder.move(before)
        try:
            self._clear_target()  # an attempt may have been killed right here
            draft.move_files(self._folder, last=MANIFEST)
            self._name_latest(accepted)
        except BaseException:
            self._clear_target()
            if before is not None:
                self._folder.delete()
                before.move(self._folder)
            raise
        if before is not None:
            before.tidy()

    def _name_latest(self, accepted: bool) -> None:
        if accepted:
            self._root.replace(LATEST, f"{self.run_id}\n".encode())

    def _clear_target(self) -> None:
        """Delete all that is in the folder but the state, the manifest first."""
        if not is_silent(self._folder.uri):  # else the next job does it
            clear(self._folder)


# What a run holds, by the first part of a file's path.
_OF_RUN = {STATE, "components", GROUPS, "plots", "rejected", MODEL, MANIFEST, "report.html"}


def _is_of_run(info: FileInfo) -> bool:
    """Return whether a file below a run's folder is one that a run writes."""
    first, _, rest = info.path.partition("/")
    name = first if rest else re.sub(r"^\.(.*)\.crc$", r"\1", first)
    if first in _OF_RUN or name in _OF_RUN:
        return True
    return not rest and PurePosixPath(name).suffix in (".json", ".prom")


def clear(run: Folder) -> None:
    """Delete the files that a run writes, the manifest first, but its state."""
    found = [info.path for info in run.files() if _is_of_run(info)]
    for path in sorted(found, key=lambda path: path != MANIFEST):
        if not path.startswith(f"{STATE}/"):
            run.delete(path)


# --- what killed jobs left


# Beside the runs, jobs that publish keep claims, drafts, and old runs that make way.
_CLAIM = ".publishing"
_UNRENEWED_SECONDS = 3600.0
_BEFORE = ".before"
_HIDDEN = re.compile(
    rf"\.({RUN_ID.pattern})(?:\.[0-9a-f]{{32}}({_BEFORE})?|{re.escape(_CLAIM)})", re.ASCII
)


def remove_leftovers(root: Folder, run_id: str) -> None:
    """Remove what jobs left behind that were killed while they published.

    The caller holds the claim of `run_id`, so that every draft of that run is left over. Those of
    another run are where its claim is of a process that is known to be dead, or was not renewed for
    an hour.
    """
    entries = root.entries()
    hidden = [match[1] for match in map(_HIDDEN.fullmatch, entries) if match]
    _restore(root, run_id, entries)
    for other in sorted(set(hidden) - {run_id}):
        name = f".{other}{_CLAIM}"
        content = root.read_if_there(name) if name in entries else None
        if content is not None and _is_left(root, name, content, f".{run_id}{_CLAIM}"):
            with taken_over(root, name, content) as held:
                if held:
                    _restore(root, other, root.entries())


def _is_left(
    folder: Folder, name: str, content: bytes, ours: str, seconds: float = _UNRENEWED_SECONDS
) -> bool:
    """Return whether the process that a file names has ended, or wrote it long before ours."""
    if is_dead(content):
        return True
    return folder.modified(ours) - folder.modified(name) > 1000 * seconds


def _restore(root: Folder, run_id: str, entries: Iterable[str]) -> None:
    """Leave of a run what there was before a job that published it was killed.

    An old run that was out of the way comes back, unless the new one is whole. Drafts go, and the
    files of a run that is not whole, but for its state, by which it can go on.
    """
    hidden = [match for match in map(_HIDDEN.fullmatch, entries) if match and match[1] == run_id]
    run = root.child(run_id)
    for match in hidden:
        draft = root.child(match[0])
        if match[2] and draft.exists(MANIFEST) and not _is_complete(run):
            _bring_back(draft, run)
        elif not match[0].endswith(_CLAIM):
            draft.delete()
    if run_id in entries and not run.exists(MANIFEST):
        clear(run)


def _missing(run: Folder, listed_by: Folder) -> set[str]:
    """Return which files, of those that a manifest lists, a folder does not have."""
    values = json.loads(listed_by.read_text(MANIFEST))
    listed = {MANIFEST, *(str(entry["path"]) for entry in values.get("files", []))}
    return listed - {info.path for info in run.files()}


def _is_complete(run: Folder) -> bool:
    """Return whether a run has its manifest, and all files that it lists."""
    return run.exists(MANIFEST) and not _missing(run, run)


def _bring_back(before: Folder, run: Folder) -> None:
    """Move an old run to its place again, file by file: a job may be killed, and the next goes on.

    While the old run is all there, what is in its place is of the job that was to replace it.
    """
    if not _missing(before, before):
        clear(run)
    before.move_files(run, last=MANIFEST, only_copy=True)


def latest_of(root: Folder) -> str | None:
    """Return the run_id that an output root's LATEST holds, or None where there is no LATEST.

    Raises
    ------
    InputError
        If it holds something else.
    """
    content = root.read_if_there(LATEST)
    if content is None:
        return None
    run_id = content[:300].decode("utf-8", errors="replace").strip()
    if not RUN_ID.fullmatch(run_id):  # it must not lead elsewhere
        raise InputError(
            f"{root.path + '/' + LATEST!r} holds {run_id!r}, which is no run_id: write the "
            "run_id of a run beside it"
        )
    return run_id


def _published(root: Folder, run_id: str, manifest: Mapping[str, Any]) -> tuple[int, str]:
    """Return what orders whole runs by when they were published.

    The store's clock comes first. Object stores count whole seconds; within one, the jobs' own
    clocks decide.
    """
    return root.modified(f"{run_id}/{MANIFEST}"), str(manifest.get("finished", ""))


def _manifest(root: Folder, run_id: str) -> dict[str, Any]:
    """Return a run's manifest; one that is missing or cannot be read is empty."""
    try:
        values = json.loads(root.read_if_there(f"{run_id}/{MANIFEST}") or b"")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def retain(root: Folder, keep: int) -> list[str]:
    """Delete the oldest whole runs but `keep`, and return their run_ids.

    A whole run is one whose manifest has its name; nothing hidden is one. The run that LATEST names
    stays, whatever its age.
    """
    latest = latest_of(root)
    manifests = {name: _manifest(root, name) for name in root.folders() if RUN_ID.fullmatch(name)}
    whole = [name for name, manifest in manifests.items() if manifest.get("run_id") == name]
    whole.sort(key=lambda name: _published(root, name, manifests[name]), reverse=True)
    leaving = [name for name in whole[keep:] if name != latest]
    for name in leaving:
        root.delete(f"{name}/{MANIFEST}")  # from here on the run does not exist
        root.delete(name)
    return leaving


def _listed(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """List files for the manifest: path, size and checksum."""
    return [
        {"path": path, "bytes": len(content), "sha256": _sha256(content)}
        for path, content in files.items()
    ]


def _checksums(folder: Folder, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """List all that is in a folder, of which `files` need not be read again."""
    there: dict[str, bytes] = {}
    for info in folder.files():
        if info.path.endswith(".crc"):
            continue
        content = files.get(info.path)
        there[info.path] = folder.read_bytes(info.path) if content is None else content
    return _listed(there)


@dataclass(frozen=True)
class StoredModel:
    """A run's model and where it is.

    `vector` is the column that held all features, or None where each had a column of its own;
    `quantiles` are those of the training data's log density, or None in a run that has none.
    `labels`, one for each component, stay with the components from run to run; they are None in a
    run without a drift section. `next_label` is the first that was never given away.
    """

    mixture: Mixture
    vector: str | None
    quantiles: Mapping[str, Any] | None
    run: Folder
    labels: tuple[int, ...] | None
    next_label: int


def load_mixture(folder: Folder | LocalFolder) -> Mixture:
    """Read the mixture alone, like `load_model`; of a local folder without Spark."""
    return load_model(cast(Folder, folder)).mixture  # a local one has all that this asks for


@dataclass(frozen=True)
class StoredGroups:
    """A run with a mixture for each group: the columns that tell groups apart, the features.

    `vector` is the column that held all features, or None where each had a column of its own.
    """

    run: Folder
    names: tuple[str, ...]
    features: tuple[str, ...]
    vector: str | None


def load_model(folder: Folder) -> StoredModel:
    """Read the model of a run, or of the run that an output root's LATEST names.

    Raises
    ------
    ConfigurationError
        If there is no whole run, or one with a mixture for each group.
    InputError
        If the model is not the one that the run wrote, or cannot be read.
    """
    found = load_run(folder)
    if isinstance(found, StoredGroups):
        raise ConfigurationError(
            f"{found.run.path!r} has a mixture for each group ({GROUPS}/, column model), and one "
            "is needed here: give a run without input.group_by"
        )
    return found


def load_run(folder: Folder) -> StoredModel | StoredGroups:
    """Read the model of a run, or what is known of its groups, as `load_model` does."""
    run_id = latest_of(folder)
    run = folder if run_id is None else folder.child(run_id)
    manifest = run.read_if_there(MANIFEST)
    if manifest is None:
        raise ConfigurationError(
            f"{folder.path!r} is neither a whole run (no {MANIFEST}) nor an output root (no "
            f"{LATEST}): give one"
        )
    names = grouped_by(manifest)
    return _groups_of(run, manifest, names) if names else _model_of(run, manifest)


def _model_of(run: Folder, manifest: bytes) -> StoredModel:
    path = f"{run.path}/{MODEL}"
    content = run.read_if_there(MODEL)
    if content is None:
        raise InputError(f"{path!r} is missing: restore it, or fit the model again")
    if _listed_sha256(run, manifest) not in (_sha256(content), None):
        raise InputError(
            f"{path!r} is not what the run wrote (its checksum is another than {MANIFEST}'s): "
            "restore it, or fit the model again"
        )
    try:
        text = content.decode("utf-8")
        mixture = Mixture.from_json(text)
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"{path!r} cannot be used: {error}") from error
    values = json.loads(text)
    vector = values["vector"] if "vector" in values else _vector_of(mixture.features)
    quantiles = values.get("log_density_quantiles")
    return StoredModel(mixture, vector, quantiles, run, *_labels_of(values, mixture.k, path))


def _groups_of(run: Folder, manifest: bytes, names: Sequence[str]) -> StoredGroups:
    try:
        known = json.loads(manifest)[GROUPS]
        return StoredGroups(run, tuple(names), tuple(known["features"]), known["vector"])
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{run.path + '/' + MANIFEST!r} does not say which features its groups have: fit the "
            "run again"
        ) from error


def grouped_by(manifest: bytes) -> list[str]:
    """Return the columns that a run has groups by: of a run of one mixture, none."""
    try:
        return list(json.loads(manifest)["configuration"]["input"]["group_by"])
    except (ValueError, KeyError, TypeError):  # of an older version, or no manifest
        return []


def _labels_of(values: Mapping[str, Any], k: int, path: str) -> tuple[tuple[int, ...] | None, int]:
    """Return the labels of a model.json and the next one; of one without labels, None and k."""
    labels = values.get("labels")
    if labels is None:
        return None, k
    numbers = labels if isinstance(labels, list) else [labels]
    following: Any = values.get("next_label")
    whole = all(type(n) is int and n >= 0 for n in (*numbers, following))
    if not whole or len(set(numbers)) != k or max(numbers) >= following:
        raise InputError(
            f"{path!r} has labels {labels!r} and next_label {following!r} for {k} components: give "
            "each one of its own, all below next_label, or leave both out"
        )
    return tuple(numbers), following


def _listed_sha256(run: Folder, manifest: bytes) -> str | None:
    """Return the model's checksum in the manifest, or None where it lists none."""
    try:
        files = json.loads(manifest.decode("utf-8")).get("files", [])
        return next((str(f["sha256"]) for f in files if f["path"] == MODEL), None)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{run.path + '/' + MANIFEST!r} is no manifest ({error}): fit the model again"
        ) from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _vector_of(names: Sequence[str] | None) -> str | None:
    """Tell the vector column by names like v[0], v[1], ..., which are given to its values."""
    found = re.fullmatch(r"(.+)\[0\]", names[0], flags=re.DOTALL) if names else None
    if found is None or list(names or []) != [f"{found[1]}[{i}]" for i in range(len(names or []))]:
        return None
    return found[1]


_OWNER = ".owner"
_OWNED_SECONDS = 7 * 86400.0  # no job writes its rows for that long


class RowsFolder:
    """A folder of files of rows, written as a draft beside it and moved when whole.

    `mode` is error (refuse where there is one), overwrite or append. Beside the draft is a file
    that names the process, so that the next job knows a draft that was left behind.
    """

    def __init__(self, folder: Folder, mode: Literal["error", "overwrite", "append"]) -> None:
        self._mode = mode
        self.folder = folder
        self.draft = folder.sibling(f".{folder.name}.{uuid.uuid4().hex}")
        self._mark = f"{self.draft.name}{_OWNER}"
        self._owner = mark()

    @property
    def holds_rows(self) -> bool:
        """Return whether there are files already."""
        return bool(self.folder.files(most=1))

    def check(self) -> None:
        """Refuse what cannot become the output, before anything is computed.

        Raises
        ------
        ConfigurationError
            If it is a file or a whole file system, or holds something under mode error.

        """
        path = self.folder.path
        if not self.folder.name:
            raise ConfigurationError(f"output.path {path!r} is a whole file system: name a folder")
        if self.folder.is_file():
            raise ConfigurationError(f"output.path {path!r} is a file: name a folder")
        if self._mode == "error" and self.holds_rows:
            raise ConfigurationError(
                f"output.path {path!r} exists and is not empty: set output.mode to overwrite or "
                "append, or choose another"
            )

    def check_writable(self) -> None:
        """Refuse a place that this user may not write; see `Folder.check_writable`."""
        if self.folder.renames:
            self.draft.check_writable(self.folder.path)
            if self._mode == "append":
                self.folder.check_writable()

    def begin(self) -> None:
        """Mark the draft as this process's, and remove those that killed jobs left."""
        around = self.folder.parent
        before = around.entries()
        around.write(self._mark, self._owner)
        drafts = re.compile(rf"(\.{re.escape(self.folder.name)}\.[0-9a-f]{{32}}){_OWNER}")
        for match in filter(None, map(drafts.fullmatch, before)):
            content = around.read_if_there(match[0])
            if content is not None and _is_left(
                around, match[0], content, self._mark, _OWNED_SECONDS
            ):
                self._bring_back(around.child(f"{match[1]}{_BEFORE}"))
                around.delete(match[1])
                around.delete(match[0])

    def _bring_back(self, before: Folder) -> None:
        """Move old rows to their place again that a killed job had moved aside, if it is empty."""
        if not before.exists():
            return
        if self.holds_rows:
            before.delete()
        else:
            self.folder.delete()
            before.move(self.folder)

    def publish(self) -> None:
        """Move the draft into its place; what was there stays until then.

        Raises
        ------
        OSError
            If the file system refuses; what was there is there again.

        """
        with sigterm_delayed():
            self._publish_files()
            with contextlib.suppress(Exception):  # the rows are in their place
                self._let_go()

    def _publish_files(self) -> None:
        if not self.holds_rows and self.folder.make_room():
            self.draft.move(self.folder)
        elif self._mode == "append":
            for info in self.draft.files():  # those who wrote before left their marks
                if PurePosixPath(info.path).name in ("_SUCCESS", "._SUCCESS.crc"):
                    self.draft.delete(info.path)
            self.draft.move_files(self.folder)
        elif self._mode == "overwrite":
            before = self.folder.sibling(f"{self.draft.name}{_BEFORE}")
            self.folder.move(before)
            try:
                self.draft.move(self.folder)
            except BaseException:
                before.move(self.folder)
                raise
            before.tidy()
        else:
            self.check()

    def discard(self) -> None:
        """Remove the draft."""
        let_go(self._owner)
        self.draft.delete()
        self._let_go()

    def _let_go(self) -> None:
        let_go(self._owner)
        self.folder.parent.delete(self._mark)


def components_parquet(mixture: Mixture) -> bytes:
    """Return the components as a Parquet file, a row each, heaviest first.

    The covariance of a component is as in `ComponentRow`. With parts beside the Gaussian there are
    columns `categorical` and `counts`: maps by the names of the columns.
    """
    rows = component_rows(mixture)
    vector = pa.list_(pa.field("element", pa.float64(), nullable=False))
    matrix = pa.list_(pa.field("element", vector, nullable=False))
    columns = {
        "component": pa.array([row.component for row in rows], pa.int32()),
        "weight": pa.array([row.weight for row in rows], pa.float64()),
        "mean": pa.array([row.mean for row in rows], vector),
        "covariance": pa.array([row.covariance for row in rows], matrix),
    }
    if mixture.parts:
        by_name = pa.map_(pa.string(), pa.float64())
        levels = [
            [
                (name, [(level, p[j]) for level, p in by_level.items()])
                for name, by_level in mixture.categorical.items()
            ]
            for j in range(mixture.k)
        ]
        counts = [[(name, r[j]) for name, r in mixture.counts.items()] for j in range(mixture.k)]
        columns["categorical"] = pa.array(levels, pa.map_(pa.string(), by_name))
        columns["counts"] = pa.array(counts, by_name)
    table = pa.table(columns)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def to_json(values: Mapping[str, Any]) -> str:
    """Return strict JSON: numbers that JSON does not have become null.

    Each row of a matrix is a line: with a line a number a model of 20 components by 768 features,
    tied, would have 17 MB, and has 13.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {str(key): plain(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            return None
        return value

    return _indented(plain(values), "\n") + "\n"


def _indented(value: Any, newline: str, in_list: bool = False) -> str:
    """Write JSON as `json.dumps` does with an indent of 2, but lists of numbers in lists inline."""
    inner = newline + "  "
    if isinstance(value, dict) and value:
        items = (f"{_text(key)}: {_indented(item, inner)}" for key, item in value.items())
        return "{" + inner + ("," + inner).join(items) + newline + "}"
    if isinstance(value, list) and value:
        if in_list and all(type(item) in (int, float) for item in value):
            return _text(value)
        items = (_indented(item, inner, in_list=True) for item in value)
        return "[" + inner + ("," + inner).join(items) + newline + "]"
    return _text(value)


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
