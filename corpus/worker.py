"""Worker processes: each runs one function of this program and answers messages over its pipes.

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
"""Time limit of a worker's imports: they take half a second, on a thrashing machine minutes."""

NICENESS = 5
"""Niceness of background work. Beside a busy loop on its core a process of niceness 5 still gets a quarter
of it (weights 335 to 1024); at 19 it gets a seventieth, and never answers on a shared machine."""

_MAX_HEADER = 1 << 20
_MAX_BODY = 1 << 31
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
    """Return the command line that calls one function in a new Python, with the import path of this process.

    Args:
        entry: `package.module:function`.
        arguments: of the function; its result is the exit code.
    """
    mode = ["-X", "utf8"] if sys.flags.utf8_mode else []
    # -P: the working directory is on the path only where it is on this process's own.
    return [sys.executable, "-P", *mode, "-c", _BOOT, json.dumps(sys.path), entry, *arguments]


def call(entry: str, *arguments: str) -> Any:
    """Import and call the function of `command`."""
    return _named(entry)(*arguments)


def lower_priority() -> None:
    """Raise the niceness of this process to `NICENESS`."""
    with suppress(OSError, AttributeError):  # there is no niceness on Windows
        os.nice(max(0, NICENESS - os.getpriority(os.PRIO_PROCESS, 0)))


class WorkerTimeout(Exception):
    """A worker did not answer in time, and was killed."""


class Channel:
    """A pair of pipes, in and out, that carries messages."""

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
            EOFError: the other end is closed, or sends something else.
        """
        head, body = _LENGTHS.unpack(self._read(_LENGTHS.size))
        if head > _MAX_HEADER or body > _MAX_BODY:
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
        buffer = bytearray(size)
        view, done = memoryview(buffer), 0
        while done < size:
            count = self._reading.readinto(view[done:])  # type: ignore[attr-defined]
            if not count:
                raise EOFError
            done += count
        return buffer


class WorkerProcess:
    """A process that answers messages one by one. It ends with this process, however that ends."""

    def __init__(self, entry: str, setup: Mapping[str, Any], environment: Mapping[str, str] | None = None):
        """Start the process; the first exchange waits for its imports.

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
        self._channel = Channel(self._process.stdout, self._process.stdin)  # type: ignore[arg-type]
        self._entry, self._setup, self._ready = entry, setup, False

    @property
    def process_id(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def exchange(
        self, header: Mapping[str, Any], body: bytes | memoryview = b"", seconds: float | None = None
    ) -> Message:
        """Send one message and return its answer, within `seconds` once the process is ready.

        Raises:
            EOFError, OSError: the process ended during the exchange.
            WorkerTimeout: it took longer, and the process was killed.
            WorkerNotStarted: the process could not be started.
        """
        if not self._ready:
            self._get_ready()
        with self._within(seconds):
            self._channel.send(header, body)
            return self._channel.receive()

    def kill(self) -> None:
        """Kill the process; a pending exchange finds the pipe closed."""
        self._process.kill()

    def end(self) -> int:
        """Kill the process and close the pipes; return its exit code, negative for a signal."""
        self._process.kill()
        code = self._process.wait()
        self._channel.close()
        return code

    def _get_ready(self) -> None:
        try:
            with self._within(START_SECONDS):
                self._channel.send(self._setup)
                reply, _ = self._channel.receive()
        except WorkerTimeout:
            reply = {"error": f"it was not ready after {START_SECONDS:g} s"}
        except (EOFError, OSError):
            reply = {"error": f"it ended with exit code {self._process.wait()}"}
        if "error" in reply:
            raise _not_started(self._entry, str(reply["error"]))
        self._ready = True

    @contextmanager
    def _within(self, seconds: float | None) -> Iterator[None]:
        """Kill the process when the body takes longer."""
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
                raise WorkerTimeout from None
            raise
        finally:
            with mutex:
                done = True
            timer.cancel()
        if late:
            raise WorkerTimeout


def _not_started(entry: str, reason: str) -> WorkerNotStarted:
    return WorkerNotStarted(
        f"the process for {entry} cannot be started: {reason}; see that {sys.executable or 'Python'} runs "
        "here and that memory is left"
    )


Answer = Callable[[dict[str, Any], bytearray], tuple[Mapping[str, Any], bytes | memoryview]]
"""The function of a worker: header and body of a message to those of the answer."""


def serve(entry: str) -> None:
    """Run a worker: read messages and write answers until the parent process is gone."""
    channel = Channel(os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
    _close_standard_pipes()
    try:
        answering: Answer = _named(entry)(channel.receive()[0])
    except Exception as error:
        channel.send({"error": f"{type(error).__name__}: {error}"})
        return
    channel.send({})
    messages: queue.SimpleQueue[Message] = queue.SimpleQueue()
    # A thread reads, so that the end of the pipe ends this process during a task, too.
    threading.Thread(target=_listen, args=(channel, messages), daemon=True).start()
    with suppress(OSError):
        while True:
            channel.send(*answering(*messages.get()))
    os._exit(0)


def _listen(channel: Channel, messages: "queue.SimpleQueue[Message]") -> None:
    with suppress(EOFError, OSError, ValueError):
        while True:
            messages.put(channel.receive())
    os._exit(0)


def _close_standard_pipes() -> None:
    """Redirect what a decoder prints to standard error, out of the answers."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # started without standard error
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
    os.close(nothing)


def _named(entry: str) -> Callable[..., Any]:
    module, _, name = entry.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function
