"""Machines that index: each a home of its own, several on one database, one Qdrant and one key.

A run is paused at a moment of its work (a stage, a call to Qdrant, a statement of SQL), and then goes on, is
killed, or stays frozen while others work. With a Qdrant server a machine's runs are commands in processes of
their own, forked from one that has paid for the imports; with the client's engine in memory, which no other
process can reach, they are threads of the test.

`python -m tests.indexer.machines` is that process: lines of JSON in and out, see `main`.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import sqlalchemy as sa

from corpus.errors import SimilarityError
from indexer.servers import Servers
from tests.waiting import DEADLINE_SECONDS

ROOT = Path(__file__).resolve().parents[2]

MINUTE = 60.0
"""How long a frozen run was away, on its own clock and on the database's: longer than a lease lasts."""
_TURN_SECONDS = 0.01

MomentKind = Literal["stage", "qdrant", "database"]
Do = Literal["add", "embed", "activate", "drop", "remove study", "remove subject", "backup"]


@dataclass(frozen=True)
class Job:
    """A command. `what`: source, version, study, subject or file; `encoder`: folder, for `add`, `embed`."""

    do: Do
    what: str = ""
    encoder: str = ""

    def words(self) -> list[str]:
        """Return it as it is written on the command line."""
        encoder = ["--encoder", self.encoder, "--workers", "0"]
        return {
            "add": ["index", "add", self.what, *encoder],
            "embed": ["index", "add", *encoder],
            "activate": ["index", "activate", self.what],
            "drop": ["index", "remove", "--version", self.what],
            "remove study": ["index", "remove", "--study", self.what, "--yes"],
            "remove subject": ["index", "remove", "--subject", self.what, "--yes"],
            "backup": ["backup", self.what],
        }[self.do]


@dataclass(frozen=True)
class Pause:
    """Where to pause a run: at the `number`th moment of these kinds."""

    number: int
    kinds: Sequence[MomentKind] = ("stage", "qdrant", "database")


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `killed`: by a test; `error`: what it told its user, empty where it succeeded;
    `fault`: what no user should see, such as a traceback; `moments`: how many there were of each kind."""

    killed: bool = False
    error: str = ""
    fault: str = ""
    moments: Mapping[str, int] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        return not (self.killed or self.error or self.fault)


class Run(Protocol):
    """A run in progress."""

    def paused(self) -> bool:
        """Wait until it is paused, or has ended; return whether it is paused."""
        ...

    def waits(self) -> bool:
        """Wait until it reports that a server is away, or has ended; return whether it waits."""
        ...

    def go_on(self) -> None:
        """Let a run that is paused go on."""
        ...

    def kill(self) -> None:
        """Kill a run that is paused."""
        ...

    def freeze(self) -> None:
        """Stop a run that is paused, its heartbeat, too, until `go_on`."""
        ...

    def fill_disk(self) -> None:
        """Let it find its disk full from now on."""
        ...

    def outcome(self) -> Outcome:
        """Wait until it has ended."""
        ...


class Machine(Protocol):
    """A home on servers. `home`: its folder."""

    home: Path

    def run(self, job: Job, pause: Pause | None = None) -> Run:
        """Start a command; the machine has no other in progress."""
        ...


class Killed(BaseException):
    """Ends a thread as SIGKILL ends a process: whatever it would do yet with a server raises this again."""


class _Watching(threading.local):
    """The watcher of the moments of this thread."""

    watch: Callable[[MomentKind], None] | None = None


_watching = _Watching()
_KINDS = {b"s": "stage", b"q": "qdrant", b"d": "database"}  # as a process reports them


def moment(kind: MomentKind) -> None:
    """Tell whoever watches this thread that it reached a moment; it may not come back."""
    if _watching.watch is not None:
        _watching.watch(kind)


def watch_databases() -> None:
    """Let every statement and every commit be a moment, before it is sent."""
    sa.event.listen(sa.Engine, "before_cursor_execute", _before_sql)
    sa.event.listen(sa.Engine, "commit", _before_sql)


def unwatch_databases() -> None:
    """Undo `watch_databases`."""
    sa.event.remove(sa.Engine, "before_cursor_execute", _before_sql)
    sa.event.remove(sa.Engine, "commit", _before_sql)


def _before_sql(*_: Any) -> None:
    moment("database")


class Clock:
    """A clock that a test can put forward."""

    def __init__(self) -> None:
        self.skew = 0.0

    def monotonic(self) -> float:
        """Return the seconds that have passed, or were let pass."""
        return time.monotonic() + self.skew

    def sleep(self, seconds: float) -> None:
        """Give others their turn; nobody looks at this clock for less."""
        threading.Event().wait(min(seconds, _TURN_SECONDS))


class WatchedClient:
    """A client of Qdrant: every call is two moments, before it is made and before its answer is taken."""

    def __init__(self, client: Any) -> None:
        """Watch the calls of this client."""
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name == "close":
            return method

        def call(*args: Any, **options: Any) -> Any:
            moment("qdrant")
            answer = method(*args, **options)
            moment("qdrant")
            return answer

        return call


class ThreadMachine:
    """A machine in this process."""

    def __init__(
        self,
        home: Path,
        servers: Servers,
        encoders: Mapping[str, Any],
        fill_disk: Callable[[], None],
    ) -> None:
        """Use a home and servers; `encoders`: by folder; `fill_disk`: lets homes find their disk full."""
        self.home, self.servers, self.encoders = home, servers, encoders
        self.fill_disk = fill_disk

    def run(self, job: Job, pause: Pause | None = None) -> "ThreadRun":
        """See `Machine.run`."""
        return ThreadRun(self, job, pause)


class ThreadRun:
    """A `Run` in a thread."""

    def __init__(self, machine: ThreadMachine, job: Job, pause: Pause | None) -> None:
        self._machine, self._job, self._pause = machine, job, pause
        self._moments: Counter[str] = Counter()
        self._met = 0
        self._dead = False
        self._paused, self._waiting, self._ended = (threading.Event() for _ in range(3))
        self._go_on = threading.Event()
        self._outcome = Outcome()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def paused(self) -> bool:
        """See `Run.paused`."""
        assert self._paused.wait(DEADLINE_SECONDS)
        return not self._ended.is_set()

    def waits(self) -> bool:
        """See `Run.waits`."""
        assert self._waiting.wait(DEADLINE_SECONDS)
        return not self._ended.is_set()

    def go_on(self) -> None:
        """See `Run.go_on`."""
        self._go_on.set()

    def kill(self) -> None:
        """See `Run.kill`."""
        self._dead = True
        self._go_on.set()

    def freeze(self) -> None:
        """See `Run.freeze`. It does nothing as long as it is paused."""

    def fill_disk(self) -> None:
        """See `Run.fill_disk`."""
        self._machine.fill_disk()

    def outcome(self) -> Outcome:
        """See `Run.outcome`."""
        self._thread.join(DEADLINE_SECONDS)
        assert self._ended.is_set()
        return self._outcome

    def _work(self) -> None:
        _watching.watch = self._watch
        try:
            perform(self._job, self._machine, self._on_wait)
            ended = Outcome()
        except Killed:
            ended = Outcome(killed=True)
        except SimilarityError as error:
            ended = Outcome(error=str(error))
        except BaseException:
            import traceback

            ended = Outcome(fault=traceback.format_exc())
        if self._dead:
            ended = Outcome(killed=True)
        self._outcome = replace(ended, moments=self._moments)
        self._ended.set()
        self._paused.set()
        self._waiting.set()

    def _watch(self, kind: MomentKind) -> None:
        if self._dead:
            raise Killed
        self._moments[kind] += 1
        if self._pause is None or kind not in self._pause.kinds:
            return
        self._met += 1
        if self._met == self._pause.number:
            self._paused.set()
            assert self._go_on.wait(DEADLINE_SECONDS)
            if self._dead:
                raise Killed

    def _on_wait(self, line: str) -> None:
        if "does not answer" in line:
            self._waiting.set()


def perform(job: Job, machine: ThreadMachine, on_wait: Callable[[str], None]) -> None:
    """Do a job through the library, as the command does it."""
    from corpus.sources import open_source
    from indexer.backup import back_up
    from indexer.index import Index
    from indexer.ingest.pipeline import add_source
    from indexer.ingest.removal import remove_study, remove_subject
    from indexer.versions import CatalogSource, activate, drop_version

    with Index.open(machine.home, read_only=False, on_wait=on_wait, servers=machine.servers) as index:
        if job.do in ("add", "embed"):
            add_source(
                index,
                open_source(job.what) if job.do == "add" else CatalogSource(index.catalog),
                machine.encoders[job.encoder],
                origin=job.what or CatalogSource.name,
                folder=job.encoder,
                workers=0,
                observer=lambda _stage, _added: moment("stage"),
            )
        elif job.do == "activate":
            activate(index, job.what)
        elif job.do == "drop":
            drop_version(index, job.what)
        elif job.do == "remove study":
            remove_study(index, job.what)
        elif job.do == "remove subject":
            remove_subject(index, job.what)
        else:
            back_up(index, Path(job.what))


class ProcessMachine:
    """A machine whose runs are processes; `close` ends the one that forks them."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        """Start the process that pays for the imports."""
        self.home = home
        self._environment = dict(environment) | {"SIMILARITY_HOME": str(home)}
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "tests.indexer.machines"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def run(self, job: Job, pause: Pause | None = None) -> "ProcessRun":
        """See `Machine.run`."""
        environment = {name: value for name, value in os.environ.items() if name.startswith("SIMILARITY_")}
        environment |= self._environment
        where = None if pause is None else {"number": pause.number, "kinds": list(pause.kinds)}
        self.tell({"words": job.words(), "encoder": job.encoder, "environment": environment, "pause": where})
        return ProcessRun(self)

    def tell(self, message: Any) -> None:
        """Write a line to the process."""
        assert self._driver.stdin is not None
        print(json.dumps(message), file=self._driver.stdin, flush=True)

    def hear(self) -> dict[str, Any]:
        """Return its next line."""
        return self._lines.get(timeout=DEADLINE_SECONDS)

    def close(self) -> None:
        """End it."""
        assert self._driver.stdin is not None
        assert self._driver.stdout is not None
        self._driver.stdin.close()
        self._driver.wait(DEADLINE_SECONDS)
        self._reading.join(DEADLINE_SECONDS)
        self._driver.stdout.close()

    def _read(self) -> None:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            self._lines.put(json.loads(line))


class ProcessRun:
    """A `Run` in a process."""

    def __init__(self, machine: ProcessMachine) -> None:
        self._machine = machine
        self._pid = machine.hear()["pid"]
        self._frozen = False
        self._ended: dict[str, Any] | None = None

    def paused(self) -> bool:
        """See `Run.paused`."""
        return self._next("paused")

    def waits(self) -> bool:
        """See `Run.waits`."""
        return self._next("waiting")

    def go_on(self) -> None:
        """See `Run.go_on`."""
        if self._frozen:
            os.kill(self._pid, signal.SIGCONT)
        self._machine.tell("a minute later" if self._frozen else "go on")

    def kill(self) -> None:
        """See `Run.kill`."""
        os.kill(self._pid, signal.SIGKILL)
        self._machine.tell("go on")

    def freeze(self) -> None:
        """See `Run.freeze`."""
        os.kill(self._pid, signal.SIGSTOP)
        self._frozen = True

    def fill_disk(self) -> None:
        """See `Run.fill_disk`: no file may grow any more."""
        import resource

        _, hard = resource.prlimit(self._pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._pid, resource.RLIMIT_FSIZE, (0, hard))

    def outcome(self) -> Outcome:
        """See `Run.outcome`."""
        while self._ended is None:
            self._next("")
        code, lines = self._ended["code"], self._ended["stderr"].strip().splitlines()
        moments = self._ended["moments"]
        if code == -signal.SIGKILL:
            return Outcome(killed=True, moments=moments)
        if code == 0:
            return Outcome(moments=moments)
        errors = [line for line in lines if line.startswith("Error: ")]
        if len(errors) != 1 or errors[0] != lines[-1] or code < 0:
            return Outcome(fault="\n".join((f"status {code}", *lines)), moments=moments)
        return Outcome(error=errors[0].removeprefix("Error: "), moments=moments)

    def _next(self, event: str) -> bool:
        while self._ended is None:
            heard = self._machine.hear()
            if heard["event"] == "ended":
                self._ended = heard
            elif heard["event"] == event:
                return True
        return False


def main() -> None:
    """Fork a process for each line of JSON, and tell how it fares.

    In: `{"words", "encoder", "environment", "pause"}`; then "go on" or "a minute later" once for a run
    that is paused. Out: `{"pid"}`; `{"event": "paused"}`; `{"event": "waiting"}`, when it waits for a server;
    `{"event": "ended", "code", "stderr", "moments"}`.
    """
    from tests.indexer.killing import prepare

    prepare()
    from indexer.ingest import pipeline
    from trainer.runtime.encoder import Encoder

    pipeline.STEP_STUDIES = 3
    for line in sys.stdin:
        job = json.loads(line)
        if job["encoder"]:
            Encoder.load(job["encoder"])  # once, for all that are forked
        _fork(job)


def _fork(job: dict[str, Any]) -> None:
    (heard, tell), (resumed, resume), (errors, err) = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        for end in (heard, resume, errors):
            os.close(end)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(err, 2)
        _command(job, tell, resumed)
    for end in (tell, resumed, err):
        os.close(end)
    _say({"pid": child})
    moments: Counter[str] = Counter()
    while seen := os.read(heard, 1):
        if seen == b"p":
            _say({"event": "paused"})
            later = json.loads(sys.stdin.readline()) == "a minute later"
            with suppress(BrokenPipeError):
                os.write(resume, b"+" if later else b"!")
        elif seen == b"w":
            _say({"event": "waiting"})
        else:
            moments[_KINDS[seen]] += 1
    _, status = os.waitpid(child, 0)
    with os.fdopen(errors) as file:
        stderr = file.read()
    os.close(heard)
    os.close(resume)
    code = os.waitstatus_to_exitcode(status)
    _say({"event": "ended", "code": code, "stderr": stderr, "moments": moments})


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _command(job: dict[str, Any], tell: int, resumed: int) -> None:
    """Run the command in this process, which ends with it."""
    import traceback

    import indexer.vectors.client as client
    import indexer.write_lease as write_lease
    from corpus.settings import settings
    from similarity.cli import console
    from similarity.cli.main import main as similarity

    code = 1
    try:
        os.environ.update(job["environment"])
        settings.cache_clear()
        connect, note = client.connect, console.note
        client.connect = lambda *args, **options: WatchedClient(connect(*args, **options))
        pause, met, clock = job["pause"], 0, Clock()
        write_lease.time = clock

        def watch(kind: MomentKind) -> None:
            nonlocal met
            os.write(tell, kind[:1].encode())
            if pause is not None and kind in pause["kinds"]:
                met += 1
                if met == pause["number"]:
                    os.write(tell, b"p")
                    if os.read(resumed, 1) == b"+":
                        clock.skew += MINUTE

        def noted(line: str) -> None:
            if "does not answer" in line:
                os.write(tell, b"w")
            note(line)

        console.note = noted
        sys.modules["similarity.cli.index"].note = noted  # type: ignore[attr-defined]
        watch_databases()
        _watching.watch = watch
        similarity(job["words"])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
