"""What was measured on: the machine, the versions, and how fast it multiplies matrices."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np


def describe() -> str:
    """Return a paragraph about the machine and the versions."""
    import pyspark
    import sklearn

    cpu = platform.processor() or "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True)
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}; Python {platform.python_version()}, numpy {np.__version__}, Spark "
        f"{pyspark.__version__}, scikit-learn {sklearn.__version__}, "
        f"{java.stderr.splitlines()[0]}. The machine is shared and noisy: read the ratios."
    )


def matmul_gflops(cores: int) -> float:
    """Return the float64 matrix-product speed of this many cores, the best of a few."""
    code = (
        "import numpy as np, time\n"
        "A = np.random.default_rng(0).random((2000, 2000)); B = A.copy(); A @ B; best = 9e9\n"
        "for _ in range(8):\n"
        "    t = time.perf_counter(); A @ B; best = min(best, time.perf_counter() - t)\n"
        "print(2 * 2000**3 / best / 1e9)"
    )
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | threads)
        for _ in range(cores)
    ]
    return sum(float(process.communicate()[0]) for process in running)


def keep(results: list[dict[str, Any]], row: dict[str, Any], out: str) -> None:
    """Add a result, show it and save all so far."""
    results.append(row)
    print(json.dumps(row), file=sys.stderr, flush=True)
    Path(out).write_text(json.dumps(results))
