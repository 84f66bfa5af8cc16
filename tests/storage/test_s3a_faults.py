"""A store that fails: the same bits, or one line and an exit code, and nothing half-published."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from helpers.s3_store import S3, Bucket
from helpers.session_jobs import ROOT, Ended, Jobs, until

pytestmark = pytest.mark.storage

FAITHFUL = ROOT / "data" / "faithful.csv"
WITHIN = 120.0  # seconds
# What belongs to Java's stacks and to the connector's statistics.
JAVA = re.compile(
    r"^\s+at [\w.$]+\(|op_\w+=|Caused by:|Py4J|Traceback|java\.\w+\.\w*Exception", re.M
)


@pytest.fixture(scope="module")
def expected(s3_jobs: Jobs, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """model.json of Old Faithful on local files."""
    root = tmp_path_factory.mktemp("local")
    source = {"path": str(FAITHFUL), "options": {"header": True}}
    output = {"path": str(root), "run_id": "night", "report": False}
    done = s3_jobs.run("fit", {"input": source, "model": {"k": 2}, "output": output})
    assert done.code == 0, done.err
    return (root / "night" / "model.json").read_bytes()


class Place:
    """A bucket with Old Faithful in it, and the jobs that read and write there."""

    def __init__(self, jobs: Jobs, bucket: Bucket, hadoop: Any = None) -> None:
        self.jobs, self.bucket, self.hadoop = jobs, bucket, hadoop or {}
        self.csv = bucket.put("faithful.csv", FAITHFUL.read_bytes())
        self.source = {"path": self.csv, "options": {"header": True}}
        self.runs = f"{bucket.uri}/runs"

    def fit(self, *arguments: str, hadoop: Any = None, **given: Any) -> Ended:
        config = {
            "input": {**self.source, **given.get("input", {})},
            "model": {"k": 2},
            "output": {
                "path": self.runs,
                "run_id": "night",
                "report": False,
                **given.get("output", {}),
            },
        }
        return self.jobs.run("fit", config, *arguments, hadoop={**self.hadoop, **(hadoop or {})})

    def score(self, **output: Any) -> Ended:
        output = {"path": f"{self.bucket.uri}/scored", **output}
        config = {"input": self.source, "model": self.runs, "output": output}
        return self.jobs.run("score", config)

    def is_published(self) -> bool:
        return "runs/night/manifest.json" in self.bucket.keys("runs/night/")

    def is_whole(self, model: bytes) -> bool:
        """Tell whether there is the run, as its manifest lists it and as LATEST, and no more."""
        listed = json.loads(self.bucket.get("runs/night/manifest.json"))["files"]
        names = {f"runs/night/{entry['path']}" for entry in listed}
        there = {*names, "runs/night/manifest.json", "runs/LATEST"}
        assert set(self.bucket.keys("runs/")) == there
        assert self.bucket.litter() == []
        return (
            self.bucket.get("runs/night/model.json") == model
            and self.bucket.get("runs/LATEST") == b"night\n"
        )


@pytest.fixture
def place(s3_jobs: Jobs, bucket: Bucket) -> Place:
    return Place(s3_jobs, bucket)


def told(done: Ended, code: int, *words: str) -> bool:
    """Tell whether a job ended with a code and one line that has these words, and no Java."""
    assert done.code == code, done.err
    assert len(done.errors) == 1, done.err
    assert not JAVA.search(done.err), done.err
    assert len(done.errors[0]) < 700, done.errors
    assert done.seconds < WITHIN, done.seconds
    for word in words:
        assert word in done.errors[0], done.errors
    return True


# --- what passes


@pytest.mark.parametrize("seed", [1, 2])
def test_a_fifth_of_all_requests_refused_for_a_while_changes_no_bit(
    place: Place, s3: S3, expected: bytes, seed: int
) -> None:
    s3.rules({"fault": "error", "share": 0.2, "seed": seed})
    done = place.fit()
    (met,) = s3.met()
    s3.rules()
    assert done.code == 0, done.err
    assert met > 5
    assert place.is_whole(expected)
    assert not JAVA.search(done.err), done.err


def test_a_fifth_of_all_requests_refused_loses_no_scored_row(place: Place, s3: S3) -> None:
    assert place.fit().code == 0
    s3.rules({"fault": "error", "share": 0.2, "seed": 3})
    done = place.score(format="csv", columns=["component", "log_density"])
    (met,) = s3.met()
    s3.rules()
    assert done.code == 0, done.err
    assert met > 5
    parts = [key for key in place.bucket.keys("scored/") if key.endswith(".csv")]
    lines = b"".join(place.bucket.get(key) for key in parts).splitlines()
    assert len(lines) == 272 + len(parts)  # and their headers
    assert place.bucket.litter() == []


AT = {
    "the claim": r"\.publishing$",
    "the state": r"/state/",
    "the model": r"night/model\.json$",
    "the manifest": r"manifest\.json$",
    "LATEST": r"LATEST$",
}


@pytest.mark.parametrize("at", AT)
@pytest.mark.parametrize("fault", ["reset before", "reset after"])
def test_a_put_whose_connection_breaks_is_done_once(
    place: Place, s3: S3, expected: bytes, fault: str, at: str
) -> None:
    """A break after the put took effect is an answer that is lost: the put is there already."""
    s3.rules(
        {"fault": fault, "operation": "PUT", "key": AT[at], "times": 1},
        # the passes of a fit that takes a moment only are not kept
        {"fault": "delay", "operation": "GET", "key": "faithful", "seconds": 0.4},
    )
    done = place.fit()
    assert s3.met()[0] == 1
    s3.rules()
    assert done.code == 0, done.err
    assert done.seconds < 60  # its own claim is not waited for as if it were another's
    assert place.is_whole(expected)
    assert not JAVA.search(done.err), done.err


@pytest.mark.parametrize("times", [1, 2])
def test_reading_goes_on_where_connections_break(
    place: Place, s3: S3, expected: bytes, times: int
) -> None:
    s3.rules({"fault": "reset before", "operation": "GET", "key": "faithful", "times": times})
    done = place.fit()
    assert s3.met() == [times]
    assert done.code == 0, done.err
    assert place.is_whole(expected)


# --- what does not


@pytest.mark.parametrize("what", ["input", "output"])
def test_a_missing_bucket_is_named(place: Place, what: str) -> None:
    other = f"s3a://{place.bucket.name}-that-is-missing"
    given = {what: {"path": f"{other}/rows.csv"}}
    code = 3 if what == "input" else 2
    assert told(place.fit(**given), code, f"{what}.path '{other}/rows.csv", "bucket")
    assert place.bucket.keys() == ["faithful.csv"]


def test_a_missing_file_is_wrong_input(place: Place) -> None:
    missing = f"{place.bucket.uri}/missing.csv"
    assert told(place.fit(input={"path": missing}), 3, f"input.path '{missing}'", "not exist")


def test_input_that_may_not_be_read_is_wrong_input(place: Place, s3: S3) -> None:
    denied = {"fault": "error", "status": 403, "code": "AccessDenied"}
    s3.rules({**denied, "operation": "GET|HEAD", "key": "faithful"})
    assert told(place.fit(), 3, f"input.path '{place.csv}'", "denied")
    assert place.bucket.keys("runs/") == []


def test_an_output_that_may_not_be_written_is_refused_before_the_rows_are_read(
    place: Place, s3: S3
) -> None:
    denied = {"fault": "error", "status": 403, "code": "AccessDenied"}
    s3.rules({**denied, "operation": "PUT|COPY|UPLOAD.*", "key": "/runs/"})
    s3.forget()
    assert told(place.fit(), 2, f"output.path '{place.runs}'", "denied")
    assert not [request for request in s3.asked() if request.key.endswith("faithful.csv")]
    assert place.bucket.keys("runs/") == []


def test_a_score_that_may_not_be_written_leaves_the_old_rows(place: Place, s3: S3) -> None:
    assert place.fit().code == 0
    assert place.score().code == 0
    before = place.bucket.keys()
    denied = {"fault": "error", "status": 403, "code": "AccessDenied"}
    s3.rules({**denied, "operation": "PUT|COPY|UPLOAD.*", "key": r"scored"})
    done = place.score(mode="overwrite")
    s3.rules()
    assert told(done, 2, f"output.path '{place.bucket.uri}", "denied")
    assert place.bucket.keys() == before


EXPIRED = {"fault": "error", "status": 400, "code": "ExpiredToken"}
UNKNOWN = {"fault": "error", "status": 403, "code": "InvalidAccessKeyId"}
HANGS = {"fault": "hang"}
# From the first put of a file on everything fails, as where credentials expire.
WHILE_PUBLISHING = {
    "credentials expire at the model": (r"night/model\.json$", EXPIRED),
    "credentials expire at the manifest": (r"night/manifest\.json$", EXPIRED),
    "the key is withdrawn at the manifest": (r"night/manifest\.json$", UNKNOWN),
    "credentials expire at LATEST": (r"LATEST$", EXPIRED),
    "the store stops to answer at the model": (r"night/model\.json$", HANGS),
}
SILENT = {"input": {**HANGS, "key": "faithful"}, "output": {**HANGS, "key": "/runs"}}


@dataclass(frozen=True)
class CutShort:
    """A job that could not end well, whose process has ended since."""

    bucket: Bucket
    done: Ended
    keys: list[str]  # that it left

    def again(self, jobs: Jobs) -> Place:
        """Return its place for another process."""
        endpoint = {f"fs.s3a.bucket.{self.bucket.name}.endpoint": self.bucket.s3.endpoint}
        return Place(jobs, self.bucket, endpoint)


@pytest.fixture(scope="module", autouse=True)
def waiting(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Future[dict[str, CutShort]]]:
    """Jobs that wait for a store, on a server of their own, while the other tests run."""
    server = S3()
    jobs = Jobs(tmp_path_factory.mktemp("cut-short"), server.confs(), cores=1)

    def run() -> dict[str, CutShort]:
        ended = {}
        for n, (what, (at, fault)) in enumerate(WHILE_PUBLISHING.items()):
            moment = {"fault": "none", "name": "moment", "operation": "PUT", "key": at}
            place = Place(jobs, Bucket(server, f"cut-short-{n}"))
            server.rules(moment, {**fault, "after": "moment"})
            ended[what] = CutShort(place.bucket, place.fit(), place.bucket.keys())
            server.rules()
        for what, rule in SILENT.items():
            place = Place(jobs, Bucket(server, f"silent-{what}"))
            server.rules(rule)
            ended[what] = CutShort(place.bucket, place.fit(), place.bucket.keys())
            server.rules()
        jobs.kill()
        return ended

    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(run)
    jobs.stop()
    server.stop()


@pytest.mark.parametrize("what", ["input", "output"])
def test_a_store_that_does_not_answer_is_said_and_given_up_within_two_minutes(
    waiting: Future[dict[str, CutShort]], what: str
) -> None:
    case = waiting.result()[what]
    assert told(case.done, 3 if what == "input" else 2, f"{what}.path", "not answer")
    before = case.done.err[: case.done.err.index("error:")]
    assert f"waiting for {case.bucket.uri}" in before
    assert "runs/night/manifest.json" not in case.keys


@pytest.mark.parametrize("what", WHILE_PUBLISHING)
def test_what_fails_while_a_run_is_published_publishes_nothing(
    waiting: Future[dict[str, CutShort]], what: str
) -> None:
    case = waiting.result()[what]
    word = "not answer" if "answer" in what else "credentials"
    assert told(case.done, 2, f"output.path '{case.bucket.uri}/runs", word)
    if "answer" in what:
        assert f"waiting for {case.bucket.uri}" in case.done.err
    assert "runs/LATEST" not in case.keys
    assert ("runs/night/manifest.json" in case.keys) == ("LATEST" in what)


@pytest.mark.parametrize("what", WHILE_PUBLISHING)
def test_the_next_job_publishes_what_another_could_not(
    waiting: Future[dict[str, CutShort]], s3_jobs: Jobs, expected: bytes, what: str
) -> None:
    """What was put cannot be taken back without credentials: the next job does it."""
    case = waiting.result()[what]
    place = case.again(s3_jobs)
    again = place.fit()
    assert again.code == 0, again.err
    assert again.seconds < 60
    assert place.is_whole(expected)


def test_credentials_that_expired_before_are_named(place: Place, s3: S3) -> None:
    s3.rules(EXPIRED)
    assert told(place.fit(), 2, "output.path", "credentials")


def at_endpoint(bucket: Bucket, endpoint: str) -> dict[str, str]:
    return {f"fs.s3a.bucket.{bucket.name}.endpoint": endpoint}


@pytest.mark.parametrize("what", ["input", "output"])
def test_no_server_at_the_endpoint_is_said_within_two_minutes(
    place: Place, bucket: Bucket, s3: S3, what: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    away = Bucket(s3, f"{bucket.name}-away")
    there = f"{away.uri}/rows.csv"
    done = place.fit(
        hadoop=at_endpoint(away, f"http://127.0.0.1:{port}"), **{what: {"path": there}}
    )
    assert told(done, 3 if what == "input" else 2, f"{what}.path '{there}", "not answer")


def test_an_unknown_host_is_named(place: Place, bucket: Bucket, s3: S3) -> None:
    away = Bucket(s3, f"{bucket.name}-away")
    hadoop = at_endpoint(away, "http://store.invalid")
    done = place.fit(hadoop=hadoop, output={"path": f"{away.uri}/runs"})
    assert told(done, 2, f"output.path '{away.uri}/runs", "host", "store.invalid")


def test_another_region_is_named(place: Place, s3: S3) -> None:
    s3.rules({"fault": "error", "status": 301, "code": "PermanentRedirect", "key": "/runs"})
    assert told(place.fit(), 2, f"output.path '{place.runs}", "region")


# --- the claim


def test_of_two_writers_of_a_claim_one_gets_it(place: Place, s3: S3, other_s3_jobs: Jobs) -> None:
    """The second finds a whole run when it is its turn: both puts are conditional."""
    other = Place(other_s3_jobs, place.bucket)
    other_s3_jobs.hadoop()
    # both are held at their first claim, and go on at once
    s3.rules({"fault": "delay", "seconds": 4.0, "operation": "PUT", "key": r"\.publishing$"})
    s3.forget()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(one.fit) for one in (place, other)]
    done = [job.result() for job in both]
    assert [one.code for one in done] == [0, 0], [one.err for one in done]
    claims = [r for r in s3.asked() if r.key.endswith(".publishing") and r.operation == "PUT"]
    assert all(request.conditional for request in claims if request.status != 0)
    manifests = [r for r in s3.asked() if r.key.endswith("manifest.json") and r.operation == "PUT"]
    assert len(manifests) == 1
    assert place.bucket.litter() == []


def test_the_claim_is_made_by_a_conditional_put(place: Place, s3: S3) -> None:
    s3.forget()
    assert place.fit().code == 0
    claims = [r for r in s3.asked() if r.key.endswith(".publishing") and r.operation == "PUT"]
    assert [request.conditional for request in claims] == [True]


def test_a_claim_of_a_dead_process_is_taken_over(
    place: Place, s3: S3, expected: bytes, other_s3_jobs: Jobs
) -> None:
    """A job killed while it publishes leaves its claim and files; the next one removes them."""
    other = Place(other_s3_jobs, place.bucket)
    other_s3_jobs.hadoop()
    s3.rules({"fault": "hang", "operation": "PUT", "key": r"night/manifest\.json", "times": 1})
    with ThreadPoolExecutor(1) as pool:
        killed = pool.submit(other.fit)
        until(lambda: s3.met() == [1], killed)
        other_s3_jobs.kill()
        with pytest.raises(EOFError):
            killed.result()
    s3.rules()
    left = place.bucket.keys("runs/")
    assert "runs/.night.publishing" in left
    assert "runs/night/model.json" in left
    assert not place.is_published()
    done = place.fit()
    assert done.code == 0, done.err
    assert done.seconds < 60
    assert place.is_whole(expected)
