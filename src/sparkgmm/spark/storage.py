"""Files through the cluster's Hadoop FileSystem: file:, hdfs: and s3a: paths work alike."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from sparkgmm.errors import SparkGmmError
from sparkgmm.spark.file_systems import INPUT, OUTPUT, Use, file_system_errors, is_silent

_log = logging.getLogger("sparkgmm")

# File systems whose rename is cheap and replaces a file in one step. Elsewhere, on object stores, a
# put does that, a rename is a copy and a delete for each file, and folders need not be made.
_RENAMING = {"file", "hdfs", "viewfs", "ofs"}
# Ask an object store to put a file without looking first whether it would hide a folder.
_PUT_AT_ONCE = "fs.s3a.create.performance"
_CONDITIONAL = "fs.option.create.conditional.overwrite"
# How long a store without conditional puts is given to show which of several writers came last.
_SETTLING_SECONDS = 1.0


@dataclass(frozen=True)
class FileInfo:
    """A file's path, size in bytes and time of its last change in milliseconds."""

    path: str
    n_bytes: int
    modified: int


class Folder:
    """A folder on any file system that this Spark can reach.

    What a file system throws is raised as `use.error`, which names the path as the user gave it:
    `given`, if this folder was found from it.
    """

    def __init__(
        self, spark: SparkSession, path: str, use: Use = OUTPUT, given: str | None = None
    ) -> None:
        self._spark = spark
        self.path = path.rstrip("/") or "/"
        self._use = use
        self._given = given or self.path
        jvm: Any = spark.sparkContext._jvm
        self._jvm = jvm
        self._conf: Any = spark.sparkContext._jsc.hadoopConfiguration()
        try:
            with file_system_errors(path, use):
                base = jvm.org.apache.hadoop.fs.Path(_rooted(self.path))
                fs = base.getFileSystem(self._conf)
        except Py4JJavaError as error:
            raise use.error(
                f"{use.key} {path!r} cannot be reached (it is no address of a file system): check "
                "the address"
            ) from error
        self._scheme = str(fs.getScheme()) if hasattr(fs, "getScheme") else ""
        # a local file needs no checksum file beside it
        self._fs = fs.getRawFileSystem() if self._scheme == "file" else fs
        self._base = self._fs.makeQualified(base)
        self._uri = str(self._base.toString())

    @property
    def uri(self) -> str:
        """The folder's address with its scheme."""
        return self._uri

    @property
    def renames(self) -> bool:
        """Whether a rename is one cheap step here, as it is not on object stores."""
        return self._scheme in _RENAMING

    def child(self, name: str) -> Folder:
        """Return a folder below this one."""
        return self._near(f"{self.path.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address, empty for a whole file system."""
        return str(self._base.getName())

    def sibling(self, name: str) -> Folder:
        """Return a folder beside this one."""
        return self._near(f"{self.uri.rpartition('/')[0]}/{name}")

    @property
    def parent(self) -> Folder:
        """The folder that this one is in."""
        return self._near(str(self._base.getParent().toString()))

    def _near(self, path: str) -> Folder:
        return Folder(self._spark, path, self._use, self._given)

    def _at(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self._base, name) if name else self._base

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with file_system_errors(self._given, self._use, address=self.uri):
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with file_system_errors(self._given, self._use, writing=True, address=self.uri):
            yield

    def exists(self, name: str = "") -> bool:
        """Return whether a file or folder is there."""
        with self._reading():
            return bool(self._fs.exists(self._at(name)))

    def is_file(self) -> bool:
        """Return whether this is no folder but a file."""
        with self._reading():
            try:
                return bool(self._fs.getFileStatus(self._base).isFile())
            except Py4JJavaError as error:
                if _is_missing(error):
                    return False
                raise

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content."""
        with self._reading():
            return self._content(name)

    def read_if_there(self, name: str) -> bytes | None:
        """Return a file's content, or None where there is no such file."""
        with self._reading():
            return self._content_or_none(name)

    def _content(self, name: str) -> bytes:
        stream = self._fs.open(self._at(name))
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def read_text(self, name: str) -> str:
        """Return a file's content as UTF-8 text."""
        return self.read_bytes(name).decode("utf-8")

    def write(self, name: str, content: bytes) -> None:
        """Write a file; on most file systems a reader may see a part of it before it is whole."""
        with self._writing():
            self._write(name, content)

    def _write(
        self, name: str, content: bytes, overwrite: bool = True, conditional: bool = False
    ) -> None:
        builder = self._fs.createFile(self._at(name)).create().recursive().overwrite(overwrite)
        builder = builder.opt(_PUT_AT_ONCE, "true" if overwrite else "false")
        if conditional:
            builder = builder.opt(_CONDITIONAL, "true")
        stream = builder.build()
        try:
            try:
                stream.write(bytearray(content))
            finally:
                stream.close()
        except Py4JJavaError:
            if self.renames and not overwrite:  # it is there, empty: this call made it
                with suppress(Py4JJavaError):
                    self._fs.delete(self._at(name), False)
            raise

    def create(self, name: str, content: bytes) -> bool:
        """Write a small file that is not there yet; return False if there is one.

        Of several processes one succeeds on file:, hdfs: and stores with conditional puts.
        `content` must be the caller's alone: where the answer to a put was lost, it shows whose
        file it is. On other stores the file is looked at, written, and looked at again after a
        second, so that two processes that write within that second may both succeed.
        """
        with self._writing():
            if self._scheme == "file":
                return self._create_local(name, content)
            if self._has(_CONDITIONAL):
                return self._create_if_absent(name, content)
            try:
                self._write(name, content, overwrite=False)
            except Py4JJavaError as error:
                if "AlreadyExists" in str(error):
                    return self._content_or_none(name) == content
                raise
            if self.renames:
                return True
            time.sleep(_SETTLING_SECONDS)
            return self._content_or_none(name) == content

    def _create_local(self, name: str, content: bytes) -> bool:
        files = self._jvm.java.nio.file.Files
        path = self._jvm.java.io.File(self._at(name).toUri().getPath()).toPath()
        options = self._array(
            self._jvm.java.nio.file.OpenOption,
            self._jvm.java.nio.file.StandardOpenOption.CREATE_NEW,
            self._jvm.java.nio.file.StandardOpenOption.WRITE,
        )
        no_attributes = self._array(self._jvm.java.nio.file.attribute.FileAttribute)
        files.createDirectories(path.getParent(), no_attributes)
        try:
            files.write(path, bytearray(content), options)
        except Py4JJavaError as error:
            if "FileAlreadyExists" in str(error):
                return False
            raise
        return True

    def _create_if_absent(self, name: str, content: bytes) -> bool:
        try:
            self._write(name, content, conditional=True)
        except Py4JJavaError as error:
            # 412: there is one, perhaps ours, if the store's answer to it was lost
            if re.search("RemoteFileChanged|PreconditionFailed|AlreadyExists|: 412", str(error)):
                return self._content_or_none(name) == content
            raise
        return True

    def _content_or_none(self, name: str) -> bytes | None:
        try:
            return self._content(name)
        except Py4JJavaError as error:
            if _is_missing(error):
                return None
            raise

    def _has(self, capability: str) -> bool:
        return bool(self._fs.hasPathCapability(self._base, capability))

    def _array(self, kind: Any, *values: Any) -> Any:
        gateway: Any = self._spark.sparkContext._gateway
        array = gateway.new_array(kind, len(values))
        for i, value in enumerate(values):
            array[i] = value
        return array

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file in one step: a reader sees the old content or the new."""
        if not self.renames:
            self.write(name, content)
            return
        draft = f".{name}.{uuid.uuid4().hex}"
        try:
            self.write(draft, content)
            self._rename_over(draft, name)
        except BaseException:
            self.delete(draft)
            raise

    def _rename_over(self, draft: str, name: str) -> None:
        with self._writing():
            if self._scheme == "file":
                if not self._fs.rename(self._at(draft), self._at(name)):
                    raise OSError(f"{name} in {self.path} could not be replaced")
                return
            hadoop = self._jvm.org.apache.hadoop.fs
            options = self._array(hadoop.Options.Rename, hadoop.Options.Rename.OVERWRITE)
            context = hadoop.FileContext.getFileContext(self._base.toUri(), self._conf)
            context.rename(self._at(draft), self._at(name), options)

    def move(self, target: Folder) -> None:
        """Rename this folder, which takes the place of none: in one step on file and hdfs.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        with self._writing():
            if not self._fs.rename(self._base, target._base):
                raise OSError(f"{self.path} could not be renamed to {target.path}")

    def make_room(self) -> bool:
        """Delete this folder where it holds no file; return whether there is none now."""
        if self.files(most=1):
            return False
        with self._writing():
            self._fs.delete(self._base, True)
        return not self.exists()

    def move_files(self, target: Folder, last: str = "", only_copy: bool = False) -> None:
        """Rename all files below this folder into another, to the same places below it.

        The file `last` goes last. If one cannot be moved, those that were are deleted; if these
        files are the `only_copy` that there is they stay, and one that is there already, from a
        move that was cut short, is passed over.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        moved: list[str] = []
        try:
            for info in sorted(self.files(), key=lambda info: info.path == last):
                if only_copy and target.exists(info.path):
                    continue
                self._move_file(info.path, target)
                moved.append(info.path)
        except BaseException:
            for name in [] if only_copy or is_silent(target.uri) else moved:
                target.delete(name)
            raise
        self.delete()

    def _move_file(self, name: str, target: Folder) -> None:
        there = target._at(name)
        with self._writing():
            target._fs.mkdirs(there.getParent())
            if target._fs.exists(there) or not self._fs.rename(self._at(name), there):
                raise OSError(f"{name} could not be moved to {target.path}")

    def delete(self, name: str = "") -> None:
        """Delete a file or folder with all below it, if it is there."""
        with self._writing():
            self._fs.delete(self._at(name), True)

    def tidy(self, name: str = "") -> None:
        """Delete what is of no use any more, if the file system lets us: a fault is only logged."""
        what = f"{self.path}/{name}" if name else self.path
        if is_silent(self.uri):
            _log.warning("%s is left behind: its store does not answer", what)
            return
        try:
            self.delete(name)
        except (SparkGmmError, OSError) as error:
            _log.warning("%s is left behind (%s)", what, error)

    def folders(self) -> list[str]:
        """Return the names of the folders here, sorted."""
        return sorted(name for name, is_folder in self.entries().items() if is_folder)

    def entries(self) -> dict[str, bool]:
        """Return the names that are here, and whether each is a folder; none if this is missing."""
        with self._reading():
            try:
                listed = self._fs.listStatus(self._base)
            except Py4JJavaError as error:
                if _is_missing(error):
                    return {}
                raise
            return {str(s.getPath().getName()): bool(s.isDirectory()) for s in listed}

    def matches(self, most: int) -> list[Folder]:
        """Return the first files or folders, but hidden ones, that match this address as a glob."""
        with self._reading():
            found = self._fs.globStatus(self._base) or []
        paths = [str(status.getPath().toString()) for status in list(found)]
        paths = [p for p in paths if not p.rpartition("/")[2].startswith(("_", "."))][:most]
        return [self._near(path) for path in paths]

    def modified(self, name: str) -> int:
        """Return when a file was written last, in milliseconds."""
        with self._reading():
            return int(self._fs.getFileStatus(self._at(name)).getModificationTime())

    def files(self, name: str = "", most: int | None = None) -> list[FileInfo]:
        """List all files below, or the first that are found, by paths relative to this folder."""
        found: list[FileInfo] = []
        root = str(self._base.toUri().getPath()).rstrip("/") + "/"
        with self._reading():
            try:
                listing = self._fs.listFiles(self._at(name), True)
                while (most is None or len(found) < most) and listing.hasNext():
                    status = listing.next()
                    path = str(status.getPath().toUri().getPath()).removeprefix(root)
                    found.append(FileInfo(path, status.getLen(), status.getModificationTime()))
            except Py4JJavaError as error:
                if not _is_missing(error):
                    raise
        return sorted(found, key=lambda f: f.path)

    def check_writable(self, shown: str | None = None) -> None:
        """Write and delete a file here, and leave no folder behind that was not there.

        `shown` is the path that an error names, if not this one.

        Raises
        ------
        SparkGmmError
            `use.error`, if that fails.

        """
        probe = f".sparkgmm-{uuid.uuid4().hex}"
        with file_system_errors(shown or self._given, self._use, writing=True, address=self.uri):
            missing = self._missing_parents() if self.renames else []
            try:
                self._write(probe, b"")
                self._fs.delete(self._at(probe), False)
            finally:
                # another job may put a file there, or delete it, at this very moment
                with suppress(Py4JJavaError):
                    for folder in missing:
                        if not self._fs.listStatus(folder):
                            self._fs.delete(folder, False)

    def _missing_parents(self) -> list[Any]:
        missing = []
        here = self._base
        while here is not None and not self._fs.exists(here):
            missing.append(here)
            here = here.getParent()
        return missing


def _rooted(path: str) -> str:
    """Return a path of which a whole bucket is the root folder, and no relative path."""
    return f"{path}/" if re.fullmatch(r"[a-zA-Z][\w+.-]*:(?://[^/]*)?", path) else path


def _is_missing(error: Py4JJavaError) -> bool:
    return str(error.java_exception.getClass().getSimpleName()) in (
        "FileNotFoundException",
        "NoSuchFileException",
    )


def input_files(spark: SparkSession, uris: Sequence[str]) -> list[FileInfo]:
    """Return path, size and time of the files that a DataFrame reads."""
    jvm: Any = spark.sparkContext._jvm
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    infos = []
    for uri in sorted(uris):
        with file_system_errors(uri, INPUT):
            path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))
            status = path.getFileSystem(conf).getFileStatus(path)
        infos.append(FileInfo(uri, status.getLen(), status.getModificationTime()))
    return infos
