"""Processes of our own: each runs one function of this program and answers messages over its pipes.

They never import the caller's script. `multiprocessing` does, so that a script without a `__main__` guard, a
notebook or `python -` would run again in every worker, or end it. Nothing is pickled here: a message is a
JSON header and a body of bytes.
"""

import importlib
import json
import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

from corpus.errors import WorkerNotStarted

Message = tuple[dict[str, Any], bytearray]
"""Header and body."""

START_SECONDS = 600.0
"""How long a worker may take to import what it needs: half a second, on a machine that thrashes minutes."""

NICENESS = 5
"""How far work in the background gives way. Beside a busy loop on its core a process of niceness 5 still gets
a quarter of it (weights 335 to 1024); at 19 it gets a seventieth, and never answers on a shared machine."""

_MOST_HEADER = 1 << 20
_MOST_BODY = 1 << 31
_LENGTHS = struct.Struct("<IQ")  # bytes of the header and of the body

_BOOT = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
import json
sys.path[:] = json.loads(sys.argv.pop(1))
from corpus.worker import call
sys.exit(call(*sys.argv[1:]))
"""


def command(entry: str, *arguments: str) -> list[str]:
    """The command line that calls one function in a Python of its own, which imports as this process does.

    Args:
        entry: `package.module:function`.
        arguments: what it is called with; its result is the exit code.
    """
    mode = ["-X", "utf8"] if sys.flags.utf8_mode else []
    # -P: the working directory is on the path only where it is on this process's own.
    return [sys.executable, "-P", *mode, "-c", _BOOT, json.dumps(sys.path), entry, *arguments]


def call(entry: str, *arguments: str) -> Any:
    """Import and call what `command` named."""
    return _named(entry)(*arguments)


def give_way() -> None:
    """Let this process go behind those of ordinary priority, as far as `NICENESS` and no further."""
    with suppress(OSError, AttributeError):  # there is no niceness on Windows
        os.nice(max(0, NICENESS - os.getpriority(os.PRIO_PROCESS, 0)))


class TookTooLong(Exception):
    """A worker did not answer in time, and was ended."""


class Line:
    """A pipe in and a pipe out that carry messages."""

    def __init__(self, reading: BinaryIO, writing: BinaryIO) -> None:
        self._reading, self._writing = reading, writing

    def send(self, header: Mapping[str, Any], body: bytes | bytearray | memoryview = b"") -> None:
        """Send one message; `header` is JSON.

        Raises:
            OSError: the other end is closed.
        """
        head = json.dumps(header).encode()
        self._writing.write(_LENGTHS.pack(len(head), len(body)) + head)
        self._writing.write(body)
        self._writing.flush()

    def receive(self) -> Message:
        """Wait for one message.

        Raises:
            EOFError: the other end is closed, or does not speak so.
        """
        head, body = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if head > _MOST_HEADER or body > _MOST_BODY:
            raise EOFError
        try:
            header = json.loads(self._read(head))
        except ValueError:
            raise EOFError from None
        if not isinstance(header, dict):
            raise EOFError
        return header, self._read(body)

    def close(self) -> None:
        """Close both pipes."""
        for pipe in (self._writing, self._reading):
            with suppress(OSError):
                pipe.close()

    def _read(self, size: int) -> bytearray:
        held = bytearray(size)
        view, done = memoryview(held), 0
        while done < size:
            count = self._reading.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            done += count
        return held


class WorkerProcess:
    """A process that answers messages, each by one. It ends with this process, however that ends."""

    def __init__(self, entry: str, setup: Mapping[str, Any], environment: Mapping[str, str] | None = None):
        """Start it; what it imports is waited for by the first exchange.

        Args:
            entry: `package.module:function`, called with the setup; it returns the function that answers.
            setup: as JSON.
            environment: variables beside those of this process.

        Raises:
            WorkerNotStarted: the system starts no process.
        """
        try:
            self._process = subprocess.Popen(
                command("corpus.worker:serve", entry),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise _not_started(entry, error.strerror or type(error).__name__) from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._line = Line(self._process.stdout, self._process.stdin)  # type: ignore[arg-type]
        self._entry, self._setup, self._ready = entry, setup, False

    @property
    def process_id(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def exchange(
        self, header: Mapping[str, Any], body: bytes | memoryview = b"", seconds: float | None = None
    ) -> Message:
        """Send one message and wait for its answer, `seconds` at most once the process is ready.

        Raises:
            EOFError, OSError: the process ended over it.
            TookTooLong: it took longer, and the process was ended.
            WorkerNotStarted: the process could not be started.
        """
        if not self._ready:
            self._get_ready()
        with self._within(seconds):
            self._line.send(header, body)
            return self._line.receive()

    def kill(self) -> None:
        """Kill it; whoever waits for its answer finds the pipe closed."""
        self._process.kill()

    def end(self) -> int:
        """Kill it and close the pipes; the exit code, that of the signal where it was one as a negative."""
        self._process.kill()
        code = self._process.wait()
        self._line.close()
        return code

    def _get_ready(self) -> None:
        try:
            with self._within(START_SECONDS):
                self._line.send(self._setup)
                told, _ = self._line.receive()
        except TookTooLong:
            told = {"error": f"it was not ready after {START_SECONDS:g} s"}
        except (EOFError, OSError):
            told = {"error": f"it ended with exit code {self._process.wait()}"}
        if "error" in told:
            raise _not_started(self._entry, str(told["error"]))
        self._ready = True

    @contextmanager
    def _within(self, seconds: float | None) -> Iterator[None]:
        """End the process where what is done in here takes longer."""
        if seconds is None:
            yield
            return
        mutex, done, late = threading.Lock(), False, False

        def give_up() -> None:
            nonlocal late
            with mutex:
                if not done:
                    late = True
                    self._process.kill()

        timer = threading.Timer(seconds, give_up)
        timer.daemon = True
        timer.start()
        try:
            yield
        except (EOFError, OSError):
            if late:
                raise TookTooLong from None
            raise
        finally:
            with mutex:
                done = True
            timer.cancel()
        if late:
            raise TookTooLong


def _not_started(entry: str, reason: str) -> WorkerNotStarted:
    return WorkerNotStarted(
        f"the process for {entry} cannot be started: {reason}; see that {sys.executable or 'Python'} runs "
        "here and that memory is left"
    )


Answer = Callable[[dict[str, Any], bytearray], tuple[Mapping[str, Any], bytes | memoryview]]
"""Answers one message by another."""


def serve(entry: str) -> None:
    """The life of a worker: messages in, answers out, until the process that started it is gone."""
    line = Line(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    _close_standard_pipes()
    try:
        answering: Answer = _named(entry)(line.receive()[0])
    except Exception as error:
        line.send({"error": f"{type(error).__name__}: {error}"})
        return
    line.send({})
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    # A thread reads, so that the end of the pipe ends this process amid a task, too.
    threading.Thread(target=_listen, args=(line, messages), daemon=True).start()
    with suppress(OSError):
        while True:
            line.send(*answering(*messages.get()))
    os._exit(0)


def _listen(line: Line, messages: "queue.SimpleQueue[Message]") -> None:
    with suppress(EOFError, OSError, ValueError):
        while True:
            messages.put(line.receive())
    os._exit(0)


def _close_standard_pipes() -> None:
    """Keep what a decoder prints out of the answers: it goes where errors go."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without a place for errors
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    os.close(nothing)


def _named(entry: str) -> Callable[..., Any]:
    module, _, name = entry.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
