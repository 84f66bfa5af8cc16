"""A run on this machine's own file system, read without Spark."""

from __future__ import annotations

import glob
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from sparkgmm.errors import ConfigurationError

# Where one of these is set, a path without a scheme may be of another file system.
_ELSEWHERE = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")


def local_path(given: str) -> str | None:
    """Return the path on this machine that an address means, None where Spark has to say."""
    parsed = urlparse(given)
    if parsed.scheme == "file" and parsed.netloc in ("", "localhost"):
        return unquote(parsed.path)
    if parsed.scheme or any(os.environ.get(name) for name in _ELSEWHERE):
        return None
    return given


def local_files(place: object) -> list[Path]:
    """Return the files that a place of an input means: a path, a glob, a folder, a list of them.

    There are none where any of it is not of this machine. Names that begin with _ or . are passed
    by, as Spark does.
    """
    files: list[Path] = []
    for given in place if isinstance(place, list | tuple) else [place]:
        path = local_path(given) if isinstance(given, str) else None
        if path is None:
            return []
        for match in sorted(glob.glob(path)) or [path]:  # noqa: PTH207 - it may be absolute
            here = Path(match)
            below = sorted(here.rglob("*")) if here.is_dir() else [here]
            files += [
                file
                for file in below
                if file.is_file()
                and not any(part[0] in "_." for part in file.relative_to(here).parts)
            ]
    return files


class LocalFolder:
    """A folder of local files, as far as reading a model asks for one."""

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/") or "/"

    @classmethod
    def at(cls, given: str) -> LocalFolder | None:
        """Return the folder that a path means, None where Spark has to say what it means."""
        path = local_path(given)
        if path is None:
            return None
        return cls(path) if urlparse(given).scheme or Path(path).is_dir() else None

    def child(self, name: str) -> LocalFolder:
        """Return a folder in this one."""
        return LocalFolder(f"{self.path}/{name}")

    def read_if_there(self, name: str) -> bytes | None:
        """Return what a file holds, None where it is missing.

        Raises
        ------
        ConfigurationError
            If it cannot be read.

        """
        path = Path(self.path) / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigurationError(
                f"{str(path)!r} cannot be read ({error.strerror}): allow it, or give another run"
            ) from error
