"""The background queue: long calls run beside the searches, at a lower priority, and are bounded."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.errors import EmptyIndex, UsageError
from corpus.worker import NICENESS
from indexer.index import Index
from retrieval.service.background_queue import MOST_WAITING, BackgroundQueue
from retrieval.service.problems import Refused
from retrieval.service.state import State
from tests.waiting import DEADLINE_SECONDS, eventually


def where_and_how(index: Index) -> tuple[int, int, int]:
    return os.getpid(), os.getpriority(os.PRIO_PROCESS, 0), sum(index.catalog.counts()["studies"].values())


def wrong(index: Index) -> None:
    raise UsageError("wrong request")


def endless(index: Index) -> None:
    signal.pause()


@pytest.fixture(scope="module")
def queue(state: State) -> Iterator[BackgroundQueue]:
    """A queue with one worker."""
    opened = BackgroundQueue(state.home.folder, workers=1)
    yield opened
    opened.close()


def test_a_call_runs_in_a_process_of_lower_priority(queue: BackgroundQueue) -> None:
    process, niceness, studies = queue.run(where_and_how).result(DEADLINE_SECONDS)
    assert process != os.getpid()
    assert niceness == max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
    assert studies == 24, "it opens the index that this process owns"
    assert queue.run(where_and_how).result(DEADLINE_SECONDS)[0] == process, (
        "the process serves the next call too"
    )


def test_the_future_raises_what_the_call_raises(queue: BackgroundQueue) -> None:
    with pytest.raises(UsageError, match="wrong request"):
        queue.run(wrong).result(DEADLINE_SECONDS)


def test_a_worker_that_dies_fails_its_call_only(queue: BackgroundQueue) -> None:
    queue.run(where_and_how).result(DEADLINE_SECONDS)
    (process,) = queue.process_ids()
    tasks = queue._pool._workers._tasks
    before = sum(tasks.values())
    dying = queue.run(endless)
    eventually(lambda: sum(tasks.values()) > before)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(Refused, match="came to an end") as refusal:
        dying.result(DEADLINE_SECONDS)
    assert refusal.value.status == 503
    assert queue.run(where_and_how).result(DEADLINE_SECONDS)[0] != process


def test_a_full_queue_refuses_calls_and_closing_waits_for_none(state: State) -> None:
    queue = BackgroundQueue(state.home.folder, workers=1)
    queue.run(where_and_how).result(DEADLINE_SECONDS)
    waiting = [queue.run(endless) for _ in range(MOST_WAITING + 1)]
    with pytest.raises(Refused, match="Too much is being computed"):
        queue.run(endless)
    (process,) = queue.process_ids()
    queue.close()  # none of them would end
    assert all(future.cancelled() or future.exception() for future in waiting)
    assert not Path(f"/proc/{process}").exists()


def test_an_empty_index_raises_empty_index(tmp_path: Path) -> None:
    empty = State.open(tmp_path / "home")
    try:
        with pytest.raises(EmptyIndex):
            empty.background.run(where_and_how).result(DEADLINE_SECONDS)
    finally:
        empty.close()
