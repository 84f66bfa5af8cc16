"""A run on this machine's own file system, read without Spark."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote, urlparse

from sparkgmm.errors import ConfigurationError

# Where one of these is set, a path without a scheme may be of another file system.
_ELSEWHERE = ("HADOOP_CONF_DIR", "YARN_CONF_DIR")


class LocalFolder:
    """A folder of local files, as far as reading a model asks for one."""

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/") or "/"

    @classmethod
    def at(cls, given: str) -> LocalFolder | None:
        """Return the folder that a path means, None where Spark has to say what it means."""
        parsed = urlparse(given)
        if parsed.scheme == "file" and parsed.netloc in ("", "localhost"):
            return cls(unquote(parsed.path))
        if parsed.scheme or any(os.environ.get(name) for name in _ELSEWHERE):
            return None
        return cls(given) if Path(given).is_dir() else None

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
