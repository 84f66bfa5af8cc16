"""`make bench`: measure everything in turn and write docs/benchmarks.md.

Each part runs in a Spark application of its own; its figures stay in build/bench/*.json, and a part
whose file is there is not measured again (make bench-clean removes them).
"""

from __future__ import annotations

import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import model
import starts
from machine import describe, matmul_gflops
from optimum import MLLIB_ITERATIONS, arrivals, best_known, expected_seconds
from passes import SHAPES

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
WORK = Path(os.environ.get("BENCH_DIR", ROOT / "build" / "bench"))
# BENCH_WITHOUT=scoring leaves out a part that takes ten minutes.
WITHOUT = os.environ.get("BENCH_WITHOUT", "").split(",")
SUBMIT = [str(ROOT / ".venv/bin/spark-submit"), "--driver-memory", "8g"]
QUIET = ["--conf", "spark.log.level=ERROR"]
# MLlib takes the machine's BLAS where it finds one, and else its own in Java, as installed by pip.
NATIVE = Path("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3")
_NETLIB = "-Ddev.ludovic.netlib.{0}.nativeLibPath={1}"


def peaks() -> list[float]:
    """Return the GFLOP/s of matrix products on one core and on two, as measured with the passes."""
    out = WORK / "peaks.json"
    if not out.exists():
        out.write_text(json.dumps([matmul_gflops(1), matmul_gflops(2)]))
    return json.loads(out.read_text())


def build_armadillo() -> str:
    """Compile the Armadillo program where its headers are; return its path or an empty string."""
    if not Path("/usr/include/armadillo").exists() or shutil.which("g++") is None:
        return ""
    program = WORK / "armadillo_gmm"
    flags = ["-O3", "-march=native", "-fopenmp", "-DARMA_USE_OPENMP"]
    source = str(HERE / "armadillo_gmm.cpp")
    subprocess.run(["g++", *flags, "-o", str(program), source, "-larmadillo"], check=True)
    return str(program)


def part(name: str, script: str, cores: int, *arguments: str, blas: str = "none") -> Any:
    """Run a part unless its figures are there, and return them; `blas` is MLlib's."""
    out = WORK / f"{name}.json"
    if not out.exists():
        draft = WORK / f"{name}.draft.json"
        netlib = " ".join(_NETLIB.format(library, blas) for library in ("blas", "lapack"))
        options = ["--master", f"local[{cores}]", "--driver-java-options", netlib, *QUIET]
        command = [*SUBMIT, *options, str(HERE / script), *arguments, str(draft)]
        # a thread of Spark's is one core already; the peers on one machine may use both
        threads = {} if blas == "none" else {"OPENBLAS_NUM_THREADS": "1"}
        subprocess.run(command, check=True, env=os.environ | threads)
        draft.rename(out)
    return json.loads(out.read_text())


def hundred_million() -> Any:
    """Run the job itself on 100 million rows by 10 of float32, k = 8, and return its metrics."""
    from data import Recipe

    out = WORK / "hundredmillion.json"
    if not out.exists():
        recipe = Recipe("hundredmillion", 100_000_000, 10, 8, apart=1.0, dtype="float32")
        folder = recipe.write(WORK / "data", n_files=40)
        runs = WORK / "runs"
        config = WORK / "hundredmillion.yaml"
        config.write_text(
            f"input: {{path: {folder}}}\nmodel: {{k: 8}}\n"
            f"output: {{path: {runs}, run_id: hundredmillion}}\n"
        )
        submit = [str(ROOT / ".venv/bin/spark-submit"), "--master", "local[2]"]
        job = [str(ROOT / "jobs/fit_gmm.py"), "--config", str(config), "--overwrite"]
        timed = ["/usr/bin/time", "-v"] if Path("/usr/bin/time").exists() else []
        done = subprocess.run(
            [*timed, *submit, *job], check=True, stderr=subprocess.PIPE, text=True
        )
        metrics = json.loads((runs / "hundredmillion" / "metrics.json").read_text())
        peak = [line for line in done.stderr.splitlines() if "Maximum resident" in line]
        metrics["peak_kib"] = int(peak[0].rpartition(" ")[2]) if peak else None
        out.write_text(json.dumps(metrics))
    return json.loads(out.read_text())


def starts_missed() -> Any:
    """Fit the small problems of data/optima.csv, which takes no Spark."""
    out = WORK / "starts.json"
    if not out.exists():
        subprocess.run([sys.executable, str(HERE / "starts.py"), str(out)], check=True)
    return json.loads(out.read_text())


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def passes_table(two: list[Any], one: list[Any], native: list[Any], peak_two: float) -> list[str]:
    """Nanoseconds a row and pass, ratios, share of the peak, one core against two."""
    rows = []
    natives = {(row["d"], row["k"]): row["mllib"] for row in native}
    for both, single in zip(two, one, strict=True):
        both["openblas"] = natives.get((both["d"], both["k"]))
        d, k, n = both["d"], both["k"], both["n"]
        ours = statistics.median(both["ours"])
        flops = 4 * k * (1 + d + d * (d + 1) // 2) * n

        def against(peer: str, both: Any = both, ours: float = ours, n: int = n) -> str:
            seconds = both.get(peer)
            if seconds is None:
                return "n/a"
            a_row = seconds / both["peer_n"]
            return f"{a_row * 1e9:,.0f} ({a_row / (ours / n):.1f}x)"

        rows.append(
            [
                f"{d}, {k}",
                f"{n:,}",
                f"{ours:.2f}",
                f"{ours / n * 1e9:,.0f}",
                against("mllib"),
                against("openblas"),
                against("sklearn"),
                against("armadillo"),
                f"{flops / ours / 1e9 / peak_two:.0%}",
                f"{statistics.median(single['ours']) / ours:.2f}x",
            ]
        )
    left = ["d, k", "rows", "ours, s", "ours, ns a row"]
    peers = ["MLlib", "MLlib, OpenBLAS", "scikit-learn", "Armadillo"]
    return table([*left, *peers, "of peak", "two cores against one"], rows)


def optimum_table(results: list[Any]) -> list[str]:
    """Seconds, passes and nats a row short of the best, a line a problem and solver."""
    rows = []
    for r in results:
        runs, best = r["runs"], best_known(r["runs"])
        for solver in ("ours", "mllib", "sklearn"):
            label = f"{r['problem']} ({r['n']:,} x {r['d']}, k={r['k']})"
            done = [run for run in runs[solver] if "seconds" in run]
            if not done:
                rows.append([label, solver, "", "", f"failed: {runs[solver][0]['failed']}", "", ""])
                continue
            short = [best - run["log_likelihood"] for run in done]
            expected = expected_seconds(runs, solver)
            there = f"{arrivals(runs, solver)} of {len(runs[solver])}"
            ratio = expected / expected_seconds(runs, "ours")
            rows.append(
                [
                    label if solver == "ours" else "",
                    solver,
                    f"{statistics.median(run['seconds'] for run in done):.1f}",
                    ", ".join(str(run["passes"]) for run in done),
                    ", ".join(f"{gap:.0e}" for gap in short),
                    there,
                    "never" if math.isinf(expected) else f"{expected:.1f} ({ratio:.1f}x)",
                ]
            )
    head = ["problem", "solver", "seconds a run", "passes of each run", "short by"]
    return table([*head, "at the optimum", "seconds to the optimum"], rows)


def optimum_summary(results: list[Any]) -> list[str]:
    """Say how often MLlib found the optimum, and how long it took."""
    whole = [r["runs"] for r in results if r["problem"] not in MLLIB_ITERATIONS]
    n_runs = sum(len(runs["mllib"]) for runs in whole)
    there = {s: sum(arrivals(runs, s) for runs in whole) for s in ("mllib", "ours")}
    once = [
        statistics.median(run["seconds"] for run in runs["mllib"])
        / statistics.median(run["seconds"] for run in runs["ours"])
        for runs in whole
    ]
    expected = [expected_seconds(r, "mllib") / expected_seconds(r, "ours") for r in whole]
    listed = ", ".join("never" if math.isinf(e) else f"{e:.0f}x" for e in sorted(expected))
    lines = [
        f"On the {len(whole)} problems where MLlib was left to end by itself, or at its default "
        f"limit of 100 iterations, {there['mllib']} of its {n_runs} runs found the best known "
        f"optimum, and {there['ours']} of ours. A run of it took "
        f"{statistics.median(once):.0f} times as long as one of ours on the median problem. Its "
        f"expected times to the optimum, in those of ours, in order: {listed}.",
    ]
    for r in results:
        limit, mllib = MLLIB_ITERATIONS.get(r["problem"]), r["runs"]["mllib"][0]
        if limit and "seconds" in mllib:
            seconds = mllib["seconds"] / mllib["passes"] * 100
            ratio = seconds / statistics.median(run["seconds"] for run in r["runs"]["ours"])
            lines.append(
                f"On {r['problem']} all of its 100 iterations would take {seconds / 60:.0f} "
                f"minutes at that pace, {ratio:.0f} times ours (not measured)."
            )
    return lines


def model_rows(two: list[Any], one: list[Any], growth: list[Any]) -> list[Any]:
    """Return all passes of ours as the cost model takes them."""
    passes = [
        {**row, "split": "64m", "cores": cores, "seconds": statistics.median(row["ours"])}
        for cores, rows in ((2, two), (1, one))
        for row in rows
    ]
    return passes + [{**row, "cores": 2} for row in growth]


def growth_table(growth: list[Any], coefficients: Any) -> list[str]:
    """Seconds a pass as measured and as the cost model has them."""
    rows = []
    for g in growth:
        predicted = float(model.terms(g["n"], g["d"], g["k"], g["split"], 2) @ coefficients)
        rows.append(
            [
                f"{g['n']:,}",
                str(g["d"]),
                str(g["k"]),
                g["split"],
                f"{g['seconds']:.3f}",
                f"{g['seconds'] / g['n'] * 1e9:.0f}",
                f"{predicted:.3f}",
            ]
        )
    head = ["rows", "d", "k", "split", "seconds a pass", "ns a row", "the model's seconds"]
    return table(head, rows)


def scoring_table(results: list[Any]) -> list[str]:
    """Seconds and rows a second, against ours and against moving the rows."""
    if not results:
        return ["(Left out of this run.)"]
    timed = {r["what"]: (r["n"], statistics.median(r["seconds"])) for r in results}
    rows = []
    for what, label in {
        "moved": "rows moved to Python and back, no work",
        "ours": "ours",
        "mllib": "MLlib",
        "mllib, vectors cached": "MLlib, its vectors made before and cached",
        "ours, to Parquet": "ours, written to Parquet",
    }.items():
        n, seconds = timed[what]
        ratios = [f"{seconds / timed[other][1]:.2f}x" for other in ("moved", "ours")]
        rows.append([label, f"{seconds:.1f}", f"{n / seconds:,.0f}", *ratios])
    return table(["", "seconds", "rows a second", "to moving", "to ours"], rows)


def transforming_table(results: list[Any]) -> list[str]:
    """Seconds of both transforms, and what reading takes of ours, a line a k."""
    seconds = {(r["what"], r.get("k")): r["seconds"] for r in results}
    read = seconds["read", None]
    rows = []
    for k in sorted(k for what, k in seconds if what == "ours"):
        ours, mllib = seconds["ours", k], seconds["mllib", k]
        ratio = f"{mllib / ours:.2f}x"
        rows.append([str(k), f"{ours:.1f}", f"{mllib:.1f}", ratio, f"{read / ours:.0%}"])
    return table(["k", "ours, s", "MLlib, s", "ratio", "of ours, reading"], rows)


def many_table(results: list[Any]) -> list[str]:
    """Processor seconds, peak memory, components and likelihood, a line a problem and solver."""
    rows = []
    for r in results:
        n, d, k, covariance_type, n_init, _ = r["problem"]
        what = f"{n:,} x {d:,}, k = {k:,} {covariance_type}, {n_init} start{'s' * (n_init > 1)}"
        first = r["solver"] == "ours"
        if "refused" in r:
            rows.append([what, "ours", *["–"] * 4, "refused"])
            continue
        rows.append(
            [
                what if first else "",
                "ours" if first else "scikit-learn",
                f"{r['cpu']:.{2 if r['cpu'] < 1 else 1}f}",
                f"{r['mib']:,.0f}",
                f"{r['k']:,}",
                str(r["passes"]),
                f"{r['mean']:.4f}",
            ]
        )
    head = ["problem", "solver", "processor s", "MiB at most", "components", "passes", "nats a row"]
    return table(head, rows)


def gaps_passes_table(results: list[Any]) -> list[str]:
    """What a pass costs by the share of the values that is missing."""
    rows = [
        [
            f"{r['d']} x {r['k']} {r['type']}",
            f"{r['share']:.0%}",
            f"{r['patterns']:,}",
            f"{1e3 * r['whole']:.0f}",
            f"{1e3 * r['gappy']:.0f}",
            f"{r['gappy'] / r['whole']:.1f}x",
        ]
        for r in results
    ]
    head = ["d x k", "missing", "patterns", "whole, ms", "with gaps, ms", "ratio"]
    return table(head, rows)


def gaps_fits_table(results: list[Any]) -> list[str]:
    """What is found by modelling, imputing and dropping, a line a problem and way."""
    rows = [
        [
            f"{r['n']:,} x {r['d']}, {r['share']:.0%}" if r["solver"] == "ours" else "",
            r["solver"],
            f"{r['rows']:,}",
            f"{r['cpu']:.1f}",
            f"{r['mean']:.4f}",
            f"{r['whole']:.4f}",
            f"{r['rand']:.3f}",
        ]
        for r in results
    ]
    head = ["rows, missing", "how", "rows used", "processor s", "nats a row, seen"]
    return table([*head, "nats a row, complete", "adjusted Rand"], rows)


def gaps_flights_table(results: list[Any]) -> list[str]:
    """The components of the flights with their nulls and without, a line each."""
    rows = []
    for r in results:
        first = [r["way"], f"{r['rows']:,}", f"{r['cpu']:.1f}", f"{r['mean']:.4f}"]
        for c in r["components"]:
            values = zip(c["means"], c["sds"], strict=True)
            cells = [f"{m:.0f} ± {sd:.0f}" for m, sd in values]
            rows.append([*first, f"{c['weight']:.3f}", *cells, f"{c['of_gaps']:.0%}"])
            first = [""] * 4
    head = ["fitted to", "rows", "processor s", "nats a row", "weight", "departure, min late"]
    more = ["arrival, min late", "in the air, min", "miles", "of the rows with nulls"]
    return table([*head, *more], rows)


def groups_table(results: list[Any]) -> list[str]:
    """Seconds of one job and of a loop, and in how many groups each ended lower."""
    rows = []
    for r in results:
        n_groups, n = r["problem"]
        rows.append(
            [
                f"{n_groups:,} x {n:,} rows",
                str(r["n_init"]),
                f"{r['ours']:.0f}",
                f"{r['sklearn']:.0f}",
                f"{r['ours_cpu']:.0f}",
                f"{r['sklearn_cpu']:.0f}",
                f"{r['ours_lower']} of {r['of']}",
                f"{r['sklearn_lower']} of {r['of']}",
            ]
        )
    processor = ["ours, processor s", "loop, processor s"]
    lower = ["ours lower", "scikit-learn lower"]
    return table(["groups", "starts", "ours, s", "loop, s", *processor, *lower], rows)


def main() -> None:
    """Measure and write."""
    (WORK / "data").mkdir(parents=True, exist_ok=True)
    data = str(WORK / "data")
    peak_one, peak_two = peaks()
    program = build_armadillo()
    order = list(SHAPES)
    two = part("passes-two", "passes.py", 2, "local[2]", data, "yes", program)
    one = part("passes-one", "passes.py", 1, "local[1]", data, "no", "")
    native = []
    if NATIVE.exists():
        arguments = ("local[2]", data, "mllib", "")
        native = part("passes-native", "passes.py", 2, *arguments, blas=str(NATIVE))
    for rows in (two, one):
        rows.sort(key=lambda row: order.index((row["d"], row["k"])))
    optimum = part("optimum", "optimum.py", 2, data, os.environ.get("FLIGHTS", ""))
    growth = part("growth", "growth.py", 2, data)
    choosing = part("choosing", "choosing.py", 2, data)
    many = part("many", "many.py", 1)
    missing = part("missing", "missing.py", 1, os.environ.get("FLIGHTS", ""))
    groups = part("groups", "groups.py", 2)
    missed = starts_missed()
    large = hundred_million()
    transforming = part("transforming", "transforming.py", 2, data)
    scoring = [] if "scoring" in WITHOUT else part("scoring", "scoring.py", 2, data)
    coefficients = model.fit(model_rows(two, one, growth))
    text = (HERE / "template.md").read_text()
    for key, lines in {
        "machine": [describe()],
        "peak": [f"{peak_one:.0f} GFLOP/s on one core, {peak_two:.0f} on two"],
        "passes": passes_table(two, one, native, peak_two),
        "optimum": optimum_table(optimum),
        "optimum-summary": optimum_summary(optimum),
        "starts": table(*starts.summary(missed)),
        "growth": growth_table(growth, coefficients),
        "model": model.describe(coefficients),
        "choosing": table(
            [
                "data",
                "k = 10 alone, s",
                "k = 1 to 10, s",
                "ratio",
                "chosen",
                "k = 1 to 5, 4 types, s",
            ],
            [
                [
                    c["data"],
                    f"{c['one']:.1f}",
                    f"{c['ten']:.1f}",
                    f"{c['ten'] / c['one']:.1f}x",
                    str(c["chosen"]),
                    f"{c['types']:.1f} ({c['types_chosen']})",
                ]
                for c in choosing
            ],
        ),
        "many": many_table(many),
        "missing-passes": gaps_passes_table(missing["passes"]),
        "missing-fits": gaps_fits_table(missing["fits"]),
        "missing-flights": gaps_flights_table(missing["flights"]),
        "groups": groups_table(groups),
        "scoring": scoring_table([r for r in scoring if "seconds" in r]),
        "scoring-peaks": [
            " and ".join(f"{r['mib']:.0f} MiB at {r['n']:,}" for r in scoring if "mib" in r) or "?"
        ],
        "transforming": transforming_table(transforming),
        "large": [
            f"read {large['seconds_by_step']['read']:.0f} s, fit "
            f"{large['seconds_by_step']['fit']:.0f} s, {large['n_passes']} passes over all rows, "
            f"converged: {large['converged']}; largest process "
            f"{(large['peak_kib'] or 0) / 2**20:.1f} GiB resident"
        ],
    }.items():
        text = text.replace(f"{{{{{key}}}}}", "\n".join(lines))
    (ROOT / "docs" / "benchmarks.md").write_text(text)


if __name__ == "__main__":
    main()
