"""One Spark session in which the jobs are run as on the command line, one after the other.

Reads a line of JSON a job, {"job": "fit", "arguments": [...], "hadoop": {...}}, and answers with
{"code": ..., "out": ...}. Sessions start slowly; this one lets a hundred jobs share a start.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from typing import Any

from sparkgmm.runs import cli
from sparkgmm.spark.session import start_session

_JOBS = {"fit": cli.fit_main, "score": cli.score_main, "export": cli.export_main}


def main() -> None:
    answers = sys.stdout
    spark = start_session("sparkgmm tests of storage")
    hadoop: Any = spark.sparkContext._jsc.hadoopConfiguration()
    version = spark.sparkContext._jvm.org.apache.hadoop.util.VersionInfo.getVersion()
    print(json.dumps({"hadoop": version}), file=answers, flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        for key, value in asked["hadoop"].items():
            hadoop.set(key, value)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            try:
                code = _JOBS[asked["job"]](asked["arguments"])
            except Exception:
                traceback.print_exc()
                code = 1
        sys.stderr.flush()
        print(json.dumps({"code": code, "out": out.getvalue()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
