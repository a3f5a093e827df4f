"""What takes seconds: beside the searches, never in their way, and not for ever."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.errors import EmptyIndex, UsageError
from corpus.worker import NICENESS
from indexer.index import Index
from retrieval.service.problems import Refused
from retrieval.service.slow_lane import MOST_WAITING, SlowLane
from retrieval.service.state import State
from tests.waiting import DEADLINE_SECONDS, eventually


def where_and_how(index: Index) -> tuple[int, int, int]:
    return os.getpid(), os.getpriority(os.PRIO_PROCESS, 0), sum(index.catalog.counts()["studies"].values())


def wrong(index: Index) -> None:
    raise UsageError("asked wrongly")


def endless(index: Index) -> None:
    signal.pause()


@pytest.fixture(scope="module")
def lane(state: State) -> Iterator[SlowLane]:
    """A lane of one process beside the service."""
    opened = SlowLane(state.home.folder, workers=1)
    yield opened
    opened.close()


def test_a_call_is_made_in_a_process_that_gives_way(lane: SlowLane) -> None:
    process, niceness, studies = lane.run(where_and_how).result(DEADLINE_SECONDS)
    assert process != os.getpid()
    assert niceness == max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
    assert studies == 24, "it works on the index that this process owns"
    assert lane.run(where_and_how).result(DEADLINE_SECONDS)[0] == process, "it stays for the next"


def test_what_a_call_raises_reaches_whoever_asked(lane: SlowLane) -> None:
    with pytest.raises(UsageError, match="asked wrongly"):
        lane.run(wrong).result(DEADLINE_SECONDS)


def test_a_process_that_dies_over_a_call_costs_that_call_alone(lane: SlowLane) -> None:
    lane.run(where_and_how).result(DEADLINE_SECONDS)
    (process,) = lane.process_ids()
    lent = lane._workers._lent
    before = sum(lent.values())
    dying = lane.run(endless)
    eventually(lambda: sum(lent.values()) > before)
    os.kill(process, signal.SIGKILL)
    with pytest.raises(Refused, match="came to an end") as told:
        dying.result(DEADLINE_SECONDS)
    assert told.value.status == 503
    assert lane.run(where_and_how).result(DEADLINE_SECONDS)[0] != process


def test_more_than_can_wait_is_refused_and_the_end_waits_for_nobody(state: State) -> None:
    lane = SlowLane(state.home.folder, workers=1)
    lane.run(where_and_how).result(DEADLINE_SECONDS)
    waiting = [lane.run(endless) for _ in range(MOST_WAITING + 1)]
    with pytest.raises(Refused, match="Too much is being computed"):
        lane.run(endless)
    (process,) = lane.process_ids()
    lane.close()  # not one of them would ever end
    assert all(future.cancelled() or future.exception() for future in waiting)
    assert not Path(f"/proc/{process}").exists()


def test_an_index_with_nothing_in_it_is_told(tmp_path: Path) -> None:
    empty = State.open(tmp_path / "home")
    try:
        with pytest.raises(EmptyIndex):
            empty.slow.run(where_and_how).result(DEADLINE_SECONDS)
    finally:
        empty.close()
