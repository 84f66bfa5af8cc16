"""Runs fit and score jobs of standard input in one Spark session, a JSON line each."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import time
import traceback

from sparkgmm.runs.cli import fit_main, score_main
from sparkgmm.spark.session import start_session


def main() -> None:
    """Answer requests until standard input ends."""
    answers = sys.stdout
    spark = start_session("sparkgmm storage tests")  # the jobs find it, and do not stop it
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        run = {"fit": fit_main, "score": score_main}[request["job"]]
        out, err = io.StringIO(), io.StringIO()
        started = time.monotonic()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                code = run(request["argv"])
            except Exception:
                traceback.print_exc()
                code = 1
        answer = {
            "code": code,
            "out": out.getvalue(),
            "err": err.getvalue(),
            "seconds": time.monotonic() - started,
        }
        print(json.dumps(answer), file=answers, flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
