"""A run's folder: what it holds, when it exists, and how LATEST comes to point at it."""

from __future__ import annotations

import hashlib
import io
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from sparkgmm.errors import ConfigurationError
from sparkgmm.mixture import Mixture
from sparkgmm.spark.storage import Folder

MANIFEST = "manifest.json"
LATEST = "LATEST"


class RunFolder:
    """One run below an output root. It exists once its manifest does, which is written last."""

    def __init__(self, root: Folder, run_id: str) -> None:
        self._root = root
        self._folder = root.child(run_id)
        self.run_id = run_id

    @property
    def path(self) -> str:
        """Where the run lies."""
        return self._folder.path

    def is_whole(self) -> bool:
        """Tell whether a finished run is there."""
        return self._folder.exists(MANIFEST)

    def publish(
        self,
        files: Mapping[str, bytes],
        rejected: DataFrame | None,
        manifest: Mapping[str, Any],
    ) -> None:
        """Write everything, the manifest last, and then move LATEST here.

        A whole run that is here already is replaced only once the new one is whole beside it. If
        anything fails, what was written goes, and the old run and LATEST stay as they were.
        """
        draft = self._folder
        if self.is_whole():
            draft = self._root.child(f".{self.run_id}.{uuid.uuid4().hex}")
        draft.delete()
        try:
            for name, content in files.items():
                draft.write(name, content)
            if rejected is not None:
                rejected.write.parquet(draft.child("rejected").uri)
            listed = _checksums(draft, files)
            draft.write(MANIFEST, to_json({**manifest, "files": listed}).encode())
        except BaseException:
            draft.delete()
            raise
        if draft is not self._folder:
            self._folder.delete()
            draft.move(self._folder)
        self._root.replace(LATEST, f"{self.run_id}\n".encode())


def _checksums(folder: Folder, files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    listed = []
    for info in folder.files():
        if info.path.endswith(".crc"):
            continue
        content = files.get(info.path)
        if content is None:
            content = folder.read_bytes(info.path)
        digest = hashlib.sha256(content).hexdigest()
        listed.append({"path": info.path, "bytes": len(content), "sha256": digest})
    return listed


def load_mixture(folder: Folder) -> Mixture:
    """Read the model of a run, or of the run that an output root's LATEST names.

    Raises
    ------
    ConfigurationError
        If there is no whole run.
    """
    run = folder
    if folder.exists(LATEST):
        run = folder.child(folder.read_text(LATEST).strip())
    if not run.exists(MANIFEST):
        raise ConfigurationError(
            f"{folder.path!r} is neither a whole run (no {MANIFEST}) nor an output root (no "
            f"{LATEST}): give one"
        )
    return Mixture.from_json(run.read_text("model.json"))


def components_parquet(mixture: Mixture) -> bytes:
    """Return the components as a Parquet file, a row each, heaviest first."""
    vector = pa.list_(pa.field("element", pa.float64(), nullable=False))
    matrix = pa.list_(pa.field("element", vector, nullable=False))
    table = pa.table(
        {
            "component": pa.array(range(mixture.k), pa.int32()),
            "weight": pa.array(mixture.weights, pa.float64()),
            "mean": pa.array(mixture.means.tolist(), vector),
            "covariance": pa.array(mixture.covariances.tolist(), matrix),
        }
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def to_json(values: Mapping[str, Any]) -> str:
    """Return strict JSON: numbers that JSON does not have become null."""

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

    return json.dumps(plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
