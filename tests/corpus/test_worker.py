"""Worker processes: what they answer, how they end, and that they leave the caller's script alone."""

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import WorkerNotStarted
from corpus.geometry import Framing
from corpus.images.decoder import Decoded, DecodePool
from corpus.worker import NICENESS, Answer, WorkerProcess, WorkerTimeout, lower_priority
from tests.waiting import DEADLINE_SECONDS, eventually

ROOT = Path(__file__).resolve().parents[2]


def work(setup: Mapping[str, Any]) -> Answer:
    """What the workers of these tests do."""
    lower_priority()

    def answer(task: dict[str, Any], body: bytearray) -> tuple[dict[str, Any], bytes]:
        if task.get("print"):
            sys.stdout.write("a stray line\n")
            sys.stdout.flush()
            os.write(1, b"another, from a library in C\n")
        if task.get("end") is not None:
            os._exit(task["end"])
        if task.get("hang"):
            signal.pause()
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        return {"text": setup["text"], "niceness": niceness, "modules": sorted(sys.modules)}, bytes(body)[
            ::-1
        ]

    return answer


def refuse(setup: Mapping[str, Any]) -> Answer:
    raise MemoryError("no room")


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    made = WorkerProcess("tests.corpus.test_worker:work", {"text": "ä\udc80"})
    yield made
    made.end()


def test_a_message_of_any_size_is_answered_whole(worker: WorkerProcess) -> None:
    for size in (0, 1, 1 << 16, 5_000_000):
        body = os.urandom(size)
        outcome, answer = worker.exchange({}, body)
        assert outcome["text"] == "ä\udc80"
        assert answer == body[::-1]


def test_what_a_decoder_prints_goes_where_errors_go(
    worker: WorkerProcess, capfd: pytest.CaptureFixture[str]
) -> None:
    assert worker.exchange({"print": True}, b"ab")[1] == b"ba"
    assert capfd.readouterr().out == ""


def test_a_worker_that_dies_is_reported_with_its_exit_code(worker: WorkerProcess) -> None:
    with pytest.raises(EOFError):
        worker.exchange({"end": 3})
    assert worker.end() == 3


def test_a_worker_that_hangs_is_ended(worker: WorkerProcess) -> None:
    worker.exchange({})
    with pytest.raises(WorkerTimeout):
        worker.exchange({"hang": True}, seconds=0.5)
    assert worker.end() == -signal.SIGKILL


@pytest.mark.parametrize(
    "entry", ["tests.corpus.test_worker:refuse", "no.such.module:work", "corpus.worker:nothing"]
)
def test_a_worker_that_cannot_start_is_reported_in_one_sentence(entry: str) -> None:
    broken = WorkerProcess(entry, {})
    try:
        with pytest.raises(WorkerNotStarted, match="cannot be started: ") as outcome:
            broken.exchange({})
        assert "\n" not in str(outcome.value)
    finally:
        broken.end()


def test_a_python_that_does_not_run_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 7\n")
    broken.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(broken))
    worker = WorkerProcess("tests.corpus.test_worker:work", {})
    try:
        with pytest.raises(WorkerNotStarted, match="exit code 7"):
            worker.exchange({})
    finally:
        worker.end()


@pytest.mark.parametrize("missing", ["", "/no/such/python"])
def test_where_there_is_no_python_to_run_the_job_stops_and_no_image_is_blamed(
    monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(sys, "executable", missing)
    with (
        DecodePool(Framing(32), workers=1) as pool,
        pytest.raises(WorkerNotStarted, match="cannot be started"),
    ):
        pool.submit("phantom://1/1").result(DEADLINE_SECONDS)
    with DecodePool(Framing(32), workers=0) as alone:
        assert isinstance(alone.submit("phantom://1/1").result(), Decoded)


def test_a_worker_gives_way_no_further_than_to_a_quarter_of_a_core(worker: WorkerProcess) -> None:
    outcome, _ = worker.exchange({})
    assert outcome["niceness"] == max(NICENESS, os.getpriority(os.PRIO_PROCESS, 0))
    assert NICENESS <= 5, "beside a busy loop on its core it would hardly get on"


_PARENT = """
from corpus.worker import WorkerProcess
worker = WorkerProcess("tests.corpus.test_worker:work", {"text": ""})
worker.exchange({})
print(worker.process_id, flush=True)
worker.exchange({"hang": True})
"""


def test_a_worker_ends_with_the_process_that_started_it_also_amid_a_task() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait(DEADLINE_SECONDS)
    parent.stdout.close()
    eventually(lambda: not _runs(worker))


def test_the_decode_process_imports_neither_torch_nor_a_database() -> None:
    outcome = subprocess.run(
        [sys.executable, "-c", "import sys, corpus.images.decoder; print(*sys.modules)"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert not {"torch", "sqlalchemy", "qdrant_edge", "indexer"} & set(outcome.stdout.split())


def test_no_process_of_the_product_is_one_that_imports_the_callers_script() -> None:
    """`multiprocessing` and what is built on it run the main module again in each child."""
    for room in ("corpus", "trainer", "indexer", "retrieval"):
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = (
                    [alias.name for alias in node.names]
                    if isinstance(node, ast.Import | ast.ImportFrom)
                    else []
                )
                module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
                assert "multiprocessing" not in names, file
                if module == "multiprocessing":
                    assert names == ["AuthenticationError"], file  # starts no process
                else:
                    assert module == "multiprocessing.connection" or "multiprocessing" not in module, file
                assert "ProcessPoolExecutor" not in names, file


def _runs(process: int) -> bool:
    """Whether a process runs, and is no zombie process."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
