"""Data with a known mixture, as Parquet files, made block by block so that any size fits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_BLOCK = 250_000


@dataclass(frozen=True)
class Recipe:
    """n rows of k Gaussians in d dimensions; `apart` is the spread of their means in their sds.

    `unequal` draws weights from a Dirichlet(1) instead of equal ones. `scale` multiplies all rows:
    below 1 it lifts the densities over MLlib's floor of machine epsilon.
    """

    name: str
    n: int
    d: int
    k: int
    apart: float
    unequal: bool = False
    scale: float = 1.0
    dtype: str = "float64"
    seed: int = 1

    def write(self, root: Path, n_files: int = 8) -> Path:
        """Write the rows below `root` unless they are there, and return the folder."""
        folder = root / f"{self.name}-n{self.n}-d{self.d}-k{self.k}-{self.dtype}"
        if (folder / "_DONE").exists():
            return folder
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(self.seed)
        weights = rng.dirichlet(np.ones(self.k)) if self.unequal else np.full(self.k, 1 / self.k)
        means = rng.standard_normal((self.k, self.d)) * self.apart
        mixers = rng.standard_normal((self.k, self.d, self.d)) / np.sqrt(self.d) * 0.5
        mixers += np.eye(self.d)
        for i in range(n_files):
            rows = self.n // n_files + (i < self.n % n_files)
            self._write_file(folder / f"part-{i:03d}.parquet", rows, weights, means, mixers, rng)
        (folder / "_DONE").touch()
        return folder

    def _write_file(self, path, rows, weights, means, mixers, rng) -> None:  # type: ignore[no-untyped-def]
        schema = pa.schema([(f"x{i}", pa.from_numpy_dtype(self.dtype)) for i in range(self.d)])
        with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
            for start in range(0, rows, _BLOCK):
                n = min(_BLOCK, rows - start)
                labels = rng.choice(self.k, n, p=weights)
                X = rng.standard_normal((n, self.d))
                for j in range(self.k):
                    mine = labels == j
                    X[mine] = X[mine] @ mixers[j].T + means[j]
                X = (X * self.scale).astype(self.dtype)
                columns = [np.ascontiguousarray(column) for column in X.T]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=_BLOCK)
