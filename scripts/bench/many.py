"""Many columns and many components in memory, beside scikit-learn: seconds, memory, what comes out.

Each fit has a process of its own, so that its peak of memory is its own; one BLAS thread each.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from sparkgmm.errors import FitError

# rows, columns, components, covariance type, starts, how far apart the clusters are in sds, sd
PROBLEMS = (
    (200, 1536, 3, "spherical", 10, 0.0),
    (200, 1536, 3, "diag", 10, 0.0),
    (2_000, 1000, 3, "spherical", 10, 1.0),
    (2_000, 1000, 3, "diag", 10, 1.0),
    (300, 2, 96, "full", 1, 60.0),
    (50_000, 2, 1000, "full", 1, 60.0),
    (50_000, 10, 1000, "full", 1, 12.0),
    (50_000, 39, 512, "diag", 1, 3.0),
)
_SOLVERS = ("ours", "sklearn")


def rows_of(n: int, d: int, k: int, apart: float) -> np.ndarray:
    """Return n rows of k round clusters whose centres lie evenly in a box of this width."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-apart, apart, (k, d))
    return centres[rng.integers(0, k, n)] + rng.standard_normal((n, d))


def fitted(solver: str, X: np.ndarray, k: int, covariance_type: str, n_init: int) -> dict[str, Any]:
    """Fit by default settings but for these."""
    if solver == "ours":
        from sparkgmm import fit_array

        begun = time.perf_counter(), time.process_time()
        found = fit_array(X, k, covariance_type=covariance_type, n_init=n_init)
        mixture, passes = found.mixture, found.n_iter
    else:
        from sklearn.mixture import GaussianMixture

        from sparkgmm.scikit import mixture_from_sklearn

        begun = time.perf_counter(), time.process_time()
        theirs = GaussianMixture(
            k, covariance_type=covariance_type, n_init=n_init, random_state=0
        ).fit(X)
        mixture, passes = mixture_from_sklearn(theirs), theirs.n_iter_
    seconds = time.perf_counter() - begun[0], time.process_time() - begun[1]
    return {
        "seconds": seconds[0],
        "cpu": seconds[1],
        "mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "k": mixture.k,
        "passes": passes,
        "mean": mixture.log_likelihood(X) / len(X),
    }


def main(out: str) -> None:
    """Measure each problem by each solver, and keep what is there already."""
    path = Path(out)
    results = json.loads(path.read_text()) if path.exists() else []
    known = {(*r["problem"], r["solver"]) for r in results}
    for problem in PROBLEMS:
        for solver in _SOLVERS:
            if (*problem, solver) in known:
                continue
            arguments = json.dumps({"problem": problem, "solver": solver})
            done = subprocess.run(
                [sys.executable, __file__, "one", arguments],
                env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                capture_output=True,
                text=True,
                check=True,
            )
            results.append(json.loads(done.stdout))
            path.write_text(json.dumps(results))


def one(arguments: str) -> None:
    """Measure one problem by one solver, and print the figures as JSON."""
    given = json.loads(arguments)
    n, d, k, covariance_type, n_init, apart = given["problem"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that some did not converge is in the passes
        try:
            found = fitted(given["solver"], rows_of(n, d, k, apart), k, covariance_type, n_init)
        except FitError as error:  # a result too
            found = {"refused": str(error)}
    print(json.dumps(given | found))


if __name__ == "__main__":
    (one if sys.argv[1] == "one" else main)(sys.argv[-1])
