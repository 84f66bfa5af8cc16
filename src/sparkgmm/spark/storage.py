"""Files through the cluster's Hadoop FileSystem: file:, hdfs: and s3a: paths work alike."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError
from sparkgmm.spark.trouble import first_line

# File systems whose rename replaces a file in one step; elsewhere a put does.
_ATOMIC_RENAME = {"file", "hdfs", "viewfs"}


@dataclass(frozen=True)
class FileInfo:
    """A file's path, size in bytes and time of its last change in milliseconds."""

    path: str
    n_bytes: int
    modified: int


class Folder:
    """A folder on any file system that this Spark can reach."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._spark = spark
        self.path = path.rstrip("/") or "/"
        jvm: Any = spark.sparkContext._jvm
        self._jvm = jvm
        self._conf: Any = spark.sparkContext._jsc.hadoopConfiguration()
        try:
            base = jvm.org.apache.hadoop.fs.Path(self.path)
            fs = base.getFileSystem(self._conf)
        except Exception as error:
            raise ConfigurationError(
                f"{path!r} cannot be reached ({first_line(error)}): check the address, or add its "
                "file system with --packages"
            ) from error
        self._scheme = str(fs.getScheme()) if hasattr(fs, "getScheme") else ""
        # a local file needs no checksum file beside it
        self._fs = fs.getRawFileSystem() if self._scheme == "file" else fs
        self._base = self._fs.makeQualified(base)

    @property
    def uri(self) -> str:
        """The folder's address with its scheme."""
        return str(self._base.toString())

    def child(self, name: str) -> Folder:
        """Return a folder below this one."""
        return Folder(self._spark, f"{self.path}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address, empty for a whole file system."""
        return str(self._base.getName())

    def sibling(self, name: str) -> Folder:
        """Return a folder beside this one."""
        return Folder(self._spark, f"{self.uri.rpartition('/')[0]}/{name}")

    def _at(self, name: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(self._base, name) if name else self._base

    def exists(self, name: str = "") -> bool:
        """Tell whether a file or folder is there."""
        return bool(self._fs.exists(self._at(name)))

    def is_file(self) -> bool:
        """Tell whether this is no folder but a file."""
        return self.exists() and bool(self._fs.getFileStatus(self._base).isFile())

    def read_bytes(self, name: str) -> bytes:
        """Return a file's content."""
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
        stream = self._fs.create(self._at(name), True)
        try:
            stream.write(bytearray(content))
        finally:
            stream.close()

    def create(self, name: str) -> bool:
        """Make an empty file; return False if there is one.

        Of several processes one succeeds on file and hdfs. Object stores look first and write then,
        so that two within that moment may both.
        """
        self._fs.mkdirs(self._base)
        if self._scheme == "file":
            return bool(self._jvm.java.io.File(self._at(name).toUri().getPath()).createNewFile())
        try:
            self._fs.create(self._at(name), False).close()
        except Exception as error:
            if "AlreadyExists" in str(error):
                return False
            raise
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write a small file in one step: a reader sees the old content or the new."""
        if self._scheme not in _ATOMIC_RENAME:
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
        if self._scheme == "file":
            if not self._fs.rename(self._at(draft), self._at(name)):
                raise OSError(f"{name} in {self.path} could not be replaced")
            return
        hadoop = self._jvm.org.apache.hadoop.fs
        gateway: Any = self._spark.sparkContext._gateway
        options = gateway.new_array(hadoop.Options.Rename, 1)
        options[0] = hadoop.Options.Rename.OVERWRITE
        context = hadoop.FileContext.getFileContext(self._base.toUri(), self._conf)
        context.rename(self._at(draft), self._at(name), options)

    def move(self, target: Folder) -> None:
        """Rename this folder, which takes the place of none: in one step on file and hdfs.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        if not self._fs.rename(self._base, target._base):
            raise OSError(f"{self.path} could not be renamed to {target.path}")

    def move_files(self, target: Folder, last: str = "") -> None:
        """Rename all files below this folder into another, to the same places below it.

        The file `last` goes last. If one cannot be moved, those that were are deleted.

        Raises
        ------
        OSError
            If the file system refuses.
        """
        moved: list[str] = []
        try:
            for info in sorted(self.files(), key=lambda info: info.path == last):
                there = target._at(info.path)
                target._fs.mkdirs(there.getParent())
                if target._fs.exists(there) or not self._fs.rename(self._at(info.path), there):
                    raise OSError(f"{info.path} could not be moved to {target.path}")
                moved.append(info.path)
        except BaseException:
            for name in moved:
                target.delete(name)
            raise
        self.delete()

    def delete(self, name: str = "") -> None:
        """Delete a file or folder with all below it, if it is there."""
        self._fs.delete(self._at(name), True)

    def folders(self) -> list[str]:
        """Return the names of the folders here, sorted."""
        if not self.exists():
            return []
        found = (status for status in self._fs.listStatus(self._base) if status.isDirectory())
        return sorted(str(status.getPath().getName()) for status in found)

    def modified(self, name: str) -> int:
        """Return when a file was written last, in milliseconds."""
        return int(self._fs.getFileStatus(self._at(name)).getModificationTime())

    def files(self, name: str = "", most: int | None = None) -> list[FileInfo]:
        """List all files below, or the first that are found, by paths relative to this folder."""
        if not self.exists(name):
            return []
        found: list[FileInfo] = []
        listing = self._fs.listFiles(self._at(name), True)
        root = str(self._base.toUri().getPath()).rstrip("/") + "/"
        while listing.hasNext() and (most is None or len(found) < most):
            status = listing.next()
            path = str(status.getPath().toUri().getPath()).removeprefix(root)
            found.append(FileInfo(path, status.getLen(), status.getModificationTime()))
        return sorted(found, key=lambda f: f.path)

    def check_writable(self, told: str | None = None) -> None:
        """Write and delete a file here, and leave no folder behind that was not there.

        `told` is the path that an error names, if not this one.

        Raises
        ------
        ConfigurationError
            If that fails.

        """
        missing = []
        here = self._base
        while here is not None and not self._fs.exists(here):
            missing.append(here)
            here = here.getParent()
        probe = f".sparkgmm-{uuid.uuid4().hex}"
        try:
            if not self._fs.mkdirs(self._base):
                raise OSError("the folder cannot be made")
            self.write(probe, b"")
            self.delete(probe)
        except Exception as error:
            raise ConfigurationError(
                f"output.path {(told or self.path)!r} cannot be written ({first_line(error)}): "
                "choose a folder that this user may write"
            ) from error
        finally:
            for folder in missing:
                if self._fs.exists(folder) and not self._fs.listStatus(folder):
                    self._fs.delete(folder, False)


def input_files(spark: SparkSession, uris: Sequence[str]) -> list[FileInfo]:
    """Return path, size and time of the files that a DataFrame reads."""
    jvm: Any = spark.sparkContext._jvm
    conf = spark.sparkContext._jsc.hadoopConfiguration()
    infos = []
    for uri in sorted(uris):
        path = jvm.org.apache.hadoop.fs.Path(jvm.java.net.URI(uri))
        status = path.getFileSystem(conf).getFileStatus(path)
        infos.append(FileInfo(uri, status.getLen(), status.getModificationTime()))
    return infos
