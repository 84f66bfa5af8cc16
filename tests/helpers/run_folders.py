"""What a fit left in the folder of its run."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def decided(run: Path) -> tuple[bytes, dict[str, Any]]:
    """Return all that a fit decides, model.json and metrics without times, once it is whole."""
    manifest = json.loads((run / "manifest.json").read_text())
    for entry in manifest["files"]:
        content = (run / entry["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], entry["path"]
    metrics = json.loads((run / "metrics.json").read_text())
    timeless = {k: v for k, v in metrics.items() if not k.startswith("seconds")}
    return (run / "model.json").read_bytes(), timeless
