"""A busy machine: localization and drafts are answered there, too."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from corpus.phantom import render, scene
from retrieval.query.image import QueryImage
from retrieval.service import background_worker
from retrieval.service.background_queue import BackgroundQueue
from retrieval.service.state import State
from tests.waiting import DEADLINE_SECONDS


@pytest.fixture
def busy() -> Iterator[None]:
    """A loop on each core that this process may use."""
    with ExitStack() as loops:
        for _ in os.sched_getaffinity(0):
            loop = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            loops.callback(loop.wait)
            loops.callback(loop.kill)
        yield


def test_a_localization_and_a_draft_answer_beside_a_busy_loop_on_each_core(state: State, busy: None) -> None:
    queue = BackgroundQueue(state.home.folder, workers=1)
    try:
        pixels = render(scene(3, 1))
        image = QueryImage(pixels, "0" * 64, None)
        shown = queue.run(background_worker.localize, image, ["pleural effusion"], None)
        drafted = queue.run(background_worker.draft, image, 5, None)
        assert shown.result(DEADLINE_SECONDS)[0]["phrase"] == "pleural effusion"
        assert drafted.result(DEADLINE_SECONDS)["query"]
    finally:
        queue.close()
