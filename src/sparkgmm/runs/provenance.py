"""Which commit this package is of: noted when it was built, or asked of git in a checkout."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]
# Written into wheels by setup.py; a checkout has none.
NOTED = "commit.json"
_SECONDS = 10


@cache
def source() -> dict[str, Any]:
    """Return `commit`, a hash, and `dirty`, whether the package differs from it.

    Both are None where nobody knows: a package that was built outside of a checkout.
    """
    return _noted(PACKAGE) or of_checkout(PACKAGE) or {"commit": None, "dirty": None}


def _noted(package: Path) -> dict[str, Any] | None:
    """Return what the build noted, or None."""
    try:
        values = json.loads((package / NOTED).read_text(encoding="utf-8"))
        return {"commit": str(values["commit"]), "dirty": bool(values["dirty"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def of_checkout(package: Path) -> dict[str, Any] | None:
    """Return the commit of the checkout whose src/ holds the package, or None.

    An environment that is merely within somebody's checkout is not of that checkout's commit.
    """
    if package.parent.name != "src":
        return None
    root = package.parent.parent
    top = _git(root, "rev-parse", "--show-toplevel")
    commit = _git(root, "rev-parse", "HEAD")
    if top is None or commit is None or Path(top).resolve() != root:
        return None
    changed = _git(root, "status", "--porcelain", "--", "src")
    return {"commit": commit, "dirty": changed != ""}


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git says, or None where there is no git, or none that answers."""
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
