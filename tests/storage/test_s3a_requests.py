"""How many requests a job makes, counted at the server."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.s3_store import S3, Bucket
from helpers.session_jobs import ROOT, Ended, Jobs

pytestmark = pytest.mark.storage

# Before files were put to their places at once: 218 and 112 (Hadoop 3.5.0).
FIT_AT_MOST = 110
SCORE_AT_MOST = 85


@pytest.fixture
def run(s3_jobs: Jobs, s3: S3, bucket: Bucket) -> Any:
    bucket.put("faithful.csv", (ROOT / "data" / "faithful.csv").read_bytes())
    source = {"path": f"{bucket.uri}/faithful.csv", "options": {"header": True}}

    def fit(**output: Any) -> Ended:
        s3.forget()
        config = {
            "input": source,
            "model": {"k": 2},
            "output": {"path": f"{bucket.uri}/runs", **output},
        }
        return s3_jobs.run("fit", config)

    def score() -> Ended:
        s3.forget()
        output = {"path": f"{bucket.uri}/scored"}
        config = {"input": source, "model": f"{bucket.uri}/runs", "output": output}
        return s3_jobs.run("score", config)

    return {"fit": fit, "score": score}


def count(s3: S3, what: str) -> int:
    counts = s3.counts()
    listed = ", ".join(f"{n} {operation}" for operation, n in counts.most_common())
    print(f"{what}: {counts.total()} requests ({listed})")
    return counts.total()


@pytest.mark.parametrize("output", [{}, {"run_id": "night"}], ids=["by its time", "by a run_id"])
def test_a_fit_of_a_small_table_makes_few_requests(
    run: Any, s3: S3, output: dict[str, str]
) -> None:
    done = run["fit"](**output)
    assert done.code == 0, done.err
    assert 30 < count(s3, "a fit of one small CSV, with its report") <= FIT_AT_MOST


def test_a_score_of_one_file_makes_few_requests(run: Any, s3: S3) -> None:
    assert run["fit"]().code == 0
    done = run["score"]()
    assert done.code == 0, done.err
    assert 30 < count(s3, "a score of one file") <= SCORE_AT_MOST


def test_connections_are_kept(run: Any, s3: S3) -> None:
    assert run["fit"]().code == 0
    asked = s3.asked()
    assert len({request.connection for request in asked}) < len(asked) / 4
