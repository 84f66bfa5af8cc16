"""What missing values cost a pass, and what is found beside imputing them first.

One process, one thread, the best of several passes. Rows are from k components of full covariance
that overlap; values are missing at random, each by itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"  # before numpy reads it

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from sklearn.experimental import enable_iterative_imputer  # noqa: E402, F401
from sklearn.impute import IterativeImputer  # noqa: E402
from sklearn.metrics import adjusted_rand_score  # noqa: E402
from sklearn.mixture import GaussianMixture  # noqa: E402

from sparkgmm import Mixture, fit_array  # noqa: E402
from sparkgmm.core.evidence import OverRows, Scan  # noqa: E402
from sparkgmm.core.model import from_mixture  # noqa: E402
from sparkgmm.core.rows import LocalRows, scan_blocks  # noqa: E402

# Columns, components, type, and the shares of the values that are missing.
PASSES = [
    (10, 3, "full", (0.01, 0.1, 0.3)),
    (10, 10, "full", (0.01, 0.1, 0.3)),
    (20, 10, "full", (0.1, 0.3)),
    (10, 10, "tied", (0.1,)),
    (10, 10, "diag", (0.1, 0.3)),
]
N_PASS = 100_000
# Rows, columns, and the share that is missing, of three clusters.
FITS = [(20_000, 10, 0.1), (20_000, 10, 0.3), (20_000, 20, 0.1)]
_REPEATS = 10
# The flights from New York in 2013: a cancelled one has no delays and no time in the air.
FLIGHTS = ["dep_delay", "arr_delay", "air_time", "distance"]
_SEEDS = 3


def truth(d: int, k: int, covariance_type: str, apart: float) -> Mixture:
    """Return a mixture whose means are so many standard deviations wide."""
    rng = np.random.default_rng([d, k])
    A = 0.3 * rng.standard_normal((k, d, d)) + np.eye(d)
    C = A @ A.transpose(0, 2, 1)
    of_type = {"full": C, "tied": C[0], "diag": np.einsum("kii->ki", C)}[covariance_type]
    return Mixture(np.full(k, 1 / k), apart * rng.standard_normal((k, d)), of_type, covariance_type)


def without(X: np.ndarray, share: float) -> np.ndarray:
    """Return rows of which so many values are missing."""
    gone = np.random.default_rng(1).random(X.shape) < share
    return np.where(gone, np.nan, X)


def pass_seconds(X: np.ndarray, mixture: Mixture) -> float:
    """Return the seconds of the best of some passes on one thread."""
    rows = LocalRows.of_array(X, None, 0)
    evidence = OverRows.of(rows)
    kernels = Scan.of([from_mixture(mixture, evidence.frame)], evidence.frame).kernels
    seconds = []
    for _ in range(_REPEATS):
        begun = time.process_time()
        scan_blocks(rows._partitions, kernels, threads=1)
        seconds.append(time.process_time() - begun)
    return min(seconds)


def passes() -> list[dict[str, Any]]:
    """Measure a pass without and with gaps."""
    found = []
    for d, k, covariance_type, shares in PASSES:
        mixture = truth(d, k, covariance_type, 1.0)
        X, _ = mixture.sample(N_PASS, seed=0)
        whole = pass_seconds(X, mixture)
        for share in shares:
            gappy = without(X, share)
            patterns = len(np.unique(np.packbits(np.isnan(gappy), axis=1), axis=0))
            row = {"d": d, "k": k, "type": covariance_type, "share": share, "patterns": patterns}
            found.append(row | {"whole": whole, "gappy": pass_seconds(gappy, mixture)})
    return found


def fits() -> list[dict[str, Any]]:
    """Fit three clusters by what rows have, by imputing first, and by whole rows alone."""
    found = []
    for n, d, share in FITS:
        mixture = truth(d, 3, "full", 1.0)
        whole, labels = mixture.sample(n, seed=0)
        X = without(whole, share)
        complete = ~np.isnan(X).any(axis=1)

        def ours(X: np.ndarray = X) -> Mixture:
            return fit_array(X, 3, missing="model").mixture

        def imputed(X: np.ndarray = X) -> Mixture:
            filled = IterativeImputer(random_state=0).fit_transform(X)
            theirs = GaussianMixture(3, n_init=10, tol=1e-6, max_iter=200, random_state=0)
            theirs.fit(filled)
            return Mixture(theirs.weights_, theirs.means_, theirs.covariances_, missing="model")

        def dropped(X: np.ndarray = X[complete]) -> Mixture:
            return fit_array(X, 3).mixture

        for solver, solve in (("ours", ours), ("imputed first", imputed), ("whole rows", dropped)):
            begun = time.process_time()
            fitted = solve().with_missing("model")
            seconds = time.process_time() - begun
            found.append(
                {
                    "n": n,
                    "d": d,
                    "share": share,
                    "solver": solver,
                    "rows": int(complete.sum()) if solver == "whole rows" else n,
                    "cpu": seconds,
                    "mean": fitted.log_likelihood(X) / n,
                    "whole": fitted.log_likelihood(whole) / n,
                    "rand": float(adjusted_rand_score(labels, fitted.predict(X))),
                }
            )
    return found


def flights(path: str) -> list[dict[str, Any]]:
    """Fit four components to all flights by what each has, and to those that miss nothing."""
    table = pq.read_table(path, columns=FLIGHTS)
    X = np.column_stack([column.to_numpy().astype(float) for column in table.columns])
    whole = ~np.isnan(X).any(axis=1)
    found = []
    for way, rows in (("all rows", X), ("whole rows", X[whole])):
        begun = time.process_time()
        by_seed = [fit_array(rows, 4, missing="model", seed=seed) for seed in range(_SEEDS)]
        seconds = (time.process_time() - begun) / _SEEDS
        best = max(by_seed, key=lambda result: result.log_likelihood).mixture
        of_gaps = best.responsibilities(X[~whole]).mean(axis=0)
        found.append(
            {
                "way": way,
                "rows": len(rows),
                "cpu": seconds,
                "mean": best.log_likelihood(X) / len(X),
                "components": [
                    {
                        "weight": best.weights[j],
                        "means": best.means[j].tolist(),
                        "sds": np.sqrt(best.variances[j]).tolist(),
                        "of_gaps": of_gaps[j],
                    }
                    for j in np.argsort(best.means[:, 3])
                ],
            }
        )
    return found


def main(path: str, out: str) -> None:
    """Measure all of it, and keep it; the path of the flights may be empty."""
    warnings.simplefilter("ignore")
    results = {"passes": passes(), "fits": fits(), "flights": flights(path) if path else []}
    Path(out).write_text(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[-2:])
