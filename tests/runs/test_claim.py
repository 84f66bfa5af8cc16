"""The claim of those who publish: one at a time, and none for ever."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from sparkgmm.errors import ConfigurationError
from sparkgmm.runs.claim import (
    Claim,
    LostError,
    claimed,
    is_dead,
    let_go,
    mark,
    taken_over,
    token_of,
)
from sparkgmm.spark.storage import Folder

NAME = ".a.publishing"


@pytest.fixture
def root(spark: SparkSession, tmp_path: Path) -> Folder:
    return Folder(spark, str(tmp_path / "runs"))


def of_a_dead_process() -> bytes:
    program = "from sparkgmm.runs.claim import mark; print(mark().decode())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    return done.stdout.strip()


def test_a_claim_is_held_by_one_at_a_time(root: Folder) -> None:
    inside, most = 0, 0

    def publish(_: int) -> None:
        nonlocal inside, most
        with claimed(root, NAME):
            inside += 1
            most = max(most, inside)
            time.sleep(0.05)
            inside -= 1

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(publish, range(4)))
    assert most == 1
    assert not root.exists(NAME)


def test_a_claim_that_nobody_renews_is_taken_over(root: Folder) -> None:
    assert root.create(NAME, b"{}")
    begun = time.monotonic()
    with claimed(root, NAME, patience=0.5):
        assert time.monotonic() - begun >= 0.5
    assert not root.exists(NAME)


def test_the_claim_of_a_process_that_is_known_to_be_dead_is_taken_over_at_once(
    root: Folder,
) -> None:
    assert root.create(NAME, of_a_dead_process())
    begun = time.monotonic()
    with claimed(root, NAME):
        assert time.monotonic() - begun < 10


def test_a_claim_that_is_renewed_outlasts_the_patience_of_those_who_wait(root: Folder) -> None:
    order: list[str] = []

    def second() -> None:
        with claimed(root, NAME, patience=2):
            order.append("second")

    with claimed(root, NAME, patience=2):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(5)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


def test_who_lost_the_claim_does_not_publish_and_leaves_the_claim_of_the_other(
    root: Folder,
) -> None:
    with claimed(root, NAME) as claim:
        root.write(NAME, b'{"token": "another"}')
        with pytest.raises(LostError, match="taken over by another job"):
            claim.check()
    assert token_of(root.read_if_there(NAME)) == "another"


def test_a_process_that_lives_or_that_ran_elsewhere_is_not_taken_for_dead() -> None:
    assert not is_dead(mark())
    assert not is_dead(json.dumps({**json.loads(of_a_dead_process()), "machine": "x"}).encode())
    assert is_dead(of_a_dead_process())
    for content in (None, b"", b"[]", b"\xff", b'{"process": "1"}'):
        assert not is_dead(content)


def test_a_process_number_that_was_given_away_again_is_another_process() -> None:
    there = json.loads(mark())
    assert is_dead(json.dumps({**there, "started": "1"}).encode())


def test_what_this_process_let_go_of_counts_no_more_though_the_process_lives() -> None:
    held = mark()
    assert not is_dead(held)
    let_go(held)
    assert is_dead(held)


def test_a_claim_that_could_not_be_deleted_does_not_hold_up_the_next_job_of_this_process(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError("the credentials expired")

    claim = Claim(root, NAME, 120.0)
    claim.take()
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "delete", refused)
        claim.release()  # what it was held for is done
    assert root.exists(NAME)
    begun = time.monotonic()
    with claimed(root, NAME):
        assert time.monotonic() - begun < 10


def test_a_claim_that_cannot_be_made_ends_in_the_error_of_the_store(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> bool:
        raise ConfigurationError("the namenode is in safe mode")

    monkeypatch.setattr(Folder, "create", refused)
    with pytest.raises(ConfigurationError, match="safe mode"), claimed(root, NAME):
        pytest.fail("it was not held")


def test_a_claim_that_somebody_took_meanwhile_is_not_taken_over(root: Folder) -> None:
    left = of_a_dead_process()
    assert root.create(NAME, left)
    with claimed(root, NAME) as living, taken_over(root, NAME, left) as held:
        assert not held
        living.check()
    assert root.create(NAME, left)
    with taken_over(root, NAME, left) as held:
        assert held
