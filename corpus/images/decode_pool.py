"""Decoding images in processes of their own: it would otherwise hold the encoder up, and a broken file can
take down the process that decodes it.

A worker that dies or hangs costs the one image it was at: the image is recorded as failed, a new worker takes
over.
"""

import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from corpus.geometry import Framing
from corpus.images.decoder import Outcome, Undecoded, decode, outcome_of
from corpus.worker import TookTooLong, WorkerProcess

HANG_SECONDS = 120.0
"""How long one image may take; a full-size radiograph takes a twentieth of a second."""


class DecodePool:
    """A pool of decode processes, fed through `submit`; leave it as a context manager.

    `submit` never blocks; the caller bounds how many images are under way, and so how many decoded ones wait
    in memory. With `workers=0` there is no process: `submit` decodes in this one, before it returns, and
    nothing bounds what a broken file does to it.
    """

    def __init__(self, framing: Framing, workers: int, hang_seconds: float = HANG_SECONDS) -> None:
        """Have `workers` processes at most, each started when it is first needed, put images through
        `framing`."""
        self._framing = framing
        self._hang = hang_seconds
        # Each thread has a process of its own and waits for its answers.
        self._threads = ThreadPoolExecutor(workers, "decode") if workers else None
        self._mine = threading.local()
        self._workers: list[WorkerProcess] = []
        self._mutex = threading.Lock()
        self._closing = False

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, location: str) -> "Future[Outcome]":
        """Have an image read.

        The future's result is a `Decoded` or an `Undecoded`, whatever the file is. It raises
        `WorkerNotStarted` where no process can be started, which is no fault of the image.
        """
        if self._threads is not None:
            return self._threads.submit(self._read, location)
        done: Future[Outcome] = Future()
        done.set_result(decode(location, self._framing))
        return done

    def worker_ids(self) -> list[int]:
        """Process ids of the living workers, oldest first."""
        with self._mutex:
            return [worker.process_id for worker in self._workers]

    def close(self) -> None:
        """End the workers; what was not read yet is left unread."""
        with self._mutex:
            self._closing = True
            for worker in self._workers:
                worker.kill()
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def _read(self, location: str) -> Outcome:
        worker = self._worker()
        if worker is None:
            return Undecoded("failed", "the job ended before it was read")
        try:
            told, framed = worker.exchange({"location": location}, seconds=self._hang)
        except TookTooLong:
            self._bury(worker)
            return Undecoded("failed", f"reading it took more than {self._hang:g} s, and was given up")
        except (EOFError, OSError):
            return Undecoded("failed", _death(self._bury(worker)))
        except BaseException:
            self._bury(worker)
            raise
        return outcome_of(told, framed, self._framing)

    def _worker(self) -> WorkerProcess | None:
        """This thread's process; None where the pool is being closed."""
        worker: WorkerProcess | None = getattr(self._mine, "worker", None)
        if worker is not None and not worker.alive:  # it was idle: no image is to blame
            self._bury(worker)
            worker = None
        with self._mutex:
            if self._closing:
                return None
            if worker is None:
                worker = WorkerProcess("corpus.images.decoder:work", {"size": self._framing.size})
                self._workers.append(worker)
        self._mine.worker = worker
        return worker

    def _bury(self, worker: WorkerProcess) -> int:
        """End a process; its exit code."""
        self._mine.worker = None
        with self._mutex, suppress(ValueError):
            self._workers.remove(worker)
        return worker.end()


def _death(exit_code: int) -> str:
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        cause = " (out of memory?)" if name == "SIGKILL" else ""
        return f"reading it ended the decode process by {name}{cause}"
    return f"reading it ended the decode process with exit code {exit_code}"
