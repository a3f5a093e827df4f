"""Whatever fails, whenever: nothing is lost, nothing foreign is touched, and every message is a sentence.

Two indexes share a Qdrant and a Postgres; two machines write to the first. In every round a command is paused
at a random moment and something happens to it. Then all is well again, the command is run once more, and the
index must be as if nothing had been.
"""

import random
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.settings import settings
from indexer.backup import check, restore
from indexer.index import Index
from indexer.ingest.repair import verify
from tests.encoders import build_tiny_encoder
from tests.indexer.cases import PHRASES
from tests.indexer.machines import Job, Machine, MomentKind, Outcome, Pause, Run
from tests.indexer.qdrant import real_qdrant
from tests.indexer.world import IMAGES, SECRETS, STUDIES, IndexModel, Line, MemoryQdrant, World, open_world
from tests.waiting import linger
from trainer.runtime.encoder import Encoder

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact"),
]

LONGEST_MESSAGE = 600  # characters


@dataclass(frozen=True)
class Task:
    """A command and what an index is after it. `texts`: the reports it leaves, None for one that is gone.
    `done`: how it says, run again, that nothing is left to do."""

    job: Job
    texts: dict[str, str | None]
    done: str = ""

    def apply(self, index: IndexModel) -> None:
        """Change the model as the command changes the index."""
        for study, text in self.texts.items():
            if text is None:
                index.reports.pop(study, None)
            else:
                index.reports[study] = text
        if self.job.do == "activate":
            index.encoder = self.job.encoder


@pytest.fixture
def encoders(encoder: Encoder, encoder_folder: Path, tmp_path: Path) -> dict[str, Encoder]:
    """Two encoders, by folder."""
    other = build_tiny_encoder(tmp_path / "other", seed=5)
    return {str(encoder_folder): encoder, str(other): Encoder.load(other, "cpu")}


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of all that is drawn; a failure names it and the round."""
    named: int = request.config.getoption("--chaos-seed")
    return named


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    seed: int,
    encoders: dict[str, Encoder],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """A world of one test."""
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "60")
    monkeypatch.setenv("SIMILARITY_SERVER_TIMEOUT_SECONDS", "2")
    monkeypatch.setenv("SIMILARITY_DEVICE", "cpu")
    settings.cache_clear()
    with open_world(
        tmp_path, random.Random(seed), encoders, real_qdrant(request.config), monkeypatch
    ) as made:
        yield made
    settings.cache_clear()


def test_nothing_is_lost_and_nothing_foreign_is_touched_whatever_fails(
    world: World, encoders: dict[str, Encoder], seed: int, request: pytest.FixtureRequest
) -> None:
    chaos = Chaos(world, encoders)
    chaos.begin()
    for number in range(request.config.getoption("--chaos-rounds")):
        try:
            chaos.round()
        except BaseException as error:
            error.add_note(f"round {number} of --chaos-seed {seed}: {chaos.story}")
            raise


class Chaos:
    """The rounds."""

    def __init__(self, world: World, encoders: dict[str, Encoder]) -> None:
        self.world, self.encoders, self.rng = world, encoders, world.rng
        self.folders = list(encoders)
        self.texts: dict[int, str] = {}
        self.moments: dict[str, Mapping[str, int]] = {}
        self.vectors: dict[tuple[str, str], NDArray[np.float32]] = {}
        self.story = ""

    def begin(self) -> None:
        """Fill both indexes."""
        self.world.be_patient(0.01)
        for index in self.world.indexes:
            index.encoder = self.folders[0]
            task = self.adding(index, range(0, STUDIES, 2), "begin")
            self.finish(index, task)
            self.check(index)

    def round(self) -> None:
        """Do something, let something happen to it, and compare."""
        a, b = self.world.indexes
        index, other = (a, b) if self.rng.random() < 0.8 else (b, a)
        self.texts = {}
        before = self.world.contents()
        tasks = self.tasks(index)
        struck = self.rng.randrange(len(tasks))
        happens = self.rng.choices(list(self.events()), [w for w, _ in self.events().values()])[0]
        self.story = f"{happens} at {tasks[struck].job.do} of {index.name}"
        for position, task in enumerate(tasks):
            if position == struck:
                self.strike(index, task, happens)
            else:
                self.finish(index, task)
        self.check(index)
        if tasks[0].job.do == "backup":
            self.check_backup(index, Path(tasks[0].job.what))
            self.check(other)
        after, mine = self.world.contents(), self.world.namespace(index)
        for name in before.keys() | after.keys():
            assert name.startswith(mine) or after.get(name) == before.get(name), f"{name} is not its own"

    def tasks(self, index: IndexModel) -> list[Task]:
        """Draw what is done: one command, or those that change the encoder."""
        drawn = self.rng.random()
        studies = sorted(index.reports)
        if drawn < 0.55 or not studies:
            return [self.adding(index, self.some(), "first")]
        if drawn < 0.7:
            study = self.rng.choice(studies)
            return [Task(Job("remove study", study), {study: None})]
        if drawn < 0.78:
            subject = _number(self.rng.choice(studies)) // 2
            both = {f"manifest:s{n}": None for n in (2 * subject, 2 * subject + 1)}
            return [Task(Job("remove subject", f"manifest:p{subject}"), dict(both))]
        if drawn < 0.9:
            return [Task(Job("backup", str(self.world.folder / "backup")), {})]
        old = index.encoder
        new = next(folder for folder in self.folders if folder != old)
        return [
            Task(Job("embed", encoder=new), {}),
            Task(Job("activate", self.encoders[new].fingerprint, new), {}),
            Task(Job("drop", self.encoders[old].fingerprint), {}, done="no version"),
        ]

    def some(self) -> list[int]:
        """Draw numbers of studies."""
        return self.rng.sample(range(STUDIES), self.rng.randint(2, STUDIES // 2))

    def adding(self, index: IndexModel, chosen: Sequence[int], name: str) -> Task:
        """Return the task to add these studies; a study has one report in a round."""
        for number in chosen:
            self.texts.setdefault(number, " ".join(self.rng.sample(PHRASES, 2)))
        texts = {number: self.texts[number] for number in chosen}
        source = self.world.write(f"{index.name}-{name}", texts)
        reports: dict[str, str | None] = {f"manifest:s{n}": text for n, text in texts.items()}
        return Task(Job("add", source, index.encoder), reports)

    def finish(self, index: IndexModel, task: Task, machine: Machine | None = None) -> None:
        """Run a command to its end while all is well."""
        ended = (machine or self.rng.choice(index.machines)).run(task.job).outcome()
        assert ended.succeeded or (task.done and task.done in ended.error), ended
        self.moments[task.job.do] = ended.moments
        task.apply(index)

    def strike(self, index: IndexModel, task: Task, happens: str) -> None:
        """Run a command, perhaps beside another machine's, while something happens; then run it again."""
        machine, *others = self.rng.sample(index.machines, len(index.machines))
        beside = None
        if others and task.job.do in ("add", "remove study", "remove subject"):
            free = [n for n in self.some() if task.job.do == "add" or f"manifest:s{n}" not in task.texts]
            beside = self.adding(index, free, "beside") if free else None
        if happens == "freeze":
            if beside is not None:
                self.freeze(index, task, machine, beside, others[0])
                return
            happens = "kill"
        self.world.be_patient(self.rng.choice([0.01, 60.0]))
        run = machine.run(task.job, self.pause(task))
        second: Run | None = None
        if beside is not None and self.rng.random() < 0.6:
            second = others[0].run(beside.job)
        if run.paused():
            self.events()[happens][1](run)
        ended = [(task, run.outcome())]
        if ended[0][1].killed:
            self.world.pass_time()  # another machine's run that waits for it need not wait in ours
        if beside is not None and second is not None:
            ended.append((beside, second.outcome()))
        self.world.heal()
        self.world.be_patient(0.01)
        unfinished = []
        for one, outcome in ended:
            assert_sentences(outcome, self.world)
            if outcome.succeeded or (one.done and one.done in outcome.error):
                one.apply(index)
            else:
                unfinished.append(one)
        if unfinished:
            self.world.pass_time()  # a run that lost its database could not give its lease back
        if unfinished and beside is not None and second is None:
            self.finish(index, beside, others[0])  # another's run comes first, and repairs
            self.check(index, touched=task)
        for one in unfinished:
            self.finish(index, one)
        if beside is not None and second is not None and not unfinished:
            # Each may have left deletions to the other: the next run makes them.
            self.finish(index, beside, others[0])

    def freeze(self, index: IndexModel, task: Task, machine: Machine, beside: Task, other: Machine) -> None:
        """Let a run stand still until another has taken its place, and then go on."""
        run = machine.run(task.job, self.pause(task, ("stage", "qdrant")))
        if run.paused():
            run.freeze()
            self.world.pass_time()
            self.finish(index, beside, other)
            self.check(index, touched=task)
            run.go_on()
        else:
            self.finish(index, beside, other)
        assert_sentences(run.outcome(), self.world)
        self.finish(index, task)

    def pause(self, task: Task, kinds: Sequence[MomentKind] = ("stage", "qdrant", "database")) -> Pause:
        """Draw a moment of a command, of as many as it had when it last ran undisturbed."""
        moments = self.moments.get(task.job.do, dict.fromkeys(kinds, 20))
        return Pause(self.rng.randint(1, max(1, sum(moments.get(kind, 0) for kind in kinds))), kinds)

    def vector(self, index: IndexModel, text: str) -> NDArray[np.float32]:
        """Return the vector that a report must have."""
        key = index.encoder, text
        if key not in self.vectors:
            self.vectors[key] = self.encoders[index.encoder].encode_texts([text])[0]
        return self.vectors[key]

    def events(self) -> dict[str, tuple[float, Callable[[Run], None]]]:
        """What may happen: how often, and how."""
        world = self.world
        events: dict[str, tuple[float, Callable[[Run], None]]] = {
            "nothing": (1, lambda run: run.go_on()),
            "kill": (8, lambda run: run.kill()),
            "freeze": (3, lambda run: run.kill()),
            "disk full": (2, self.fill_disk),
            "qdrant cut": (3, self.away(world.qdrant.disconnect)),
            "qdrant hangs": (2, self.away(world.qdrant.hang)),
            "qdrant's answers are lost": (3, lambda run: self.lose(run, world.qdrant.lose_answers)),
            "postgres cut": (3, self.away(world.postgres.line.disconnect)),
            "postgres's answers are lost": (3, lambda run: self.lose(run, world.postgres.line.lose_answers)),
            "postgres stalls": (1, lambda run: self.stall(run, world.postgres.line)),
            "postgres crashes": (1, self.away(world.postgres.crash)),
        }
        if isinstance(world.qdrant, MemoryQdrant):
            events["qdrant's disk full"] = (1, self.away(world.qdrant.fill_disk))
        elif world.real is not None and world.real.server is not None:
            events["qdrant crashes"] = (2, self.away(world.crash_qdrant))
        return events

    def away(self, strike: Callable[[], None]) -> Callable[[Run], None]:
        """Return how a server goes away, and comes back when the run waits for it or has given up."""

        def happen(run: Run) -> None:
            strike()
            run.go_on()
            run.waits()
            self.world.heal()

        return happen

    def lose(self, run: Run, lose_answers: Callable[[int], None]) -> None:
        """Lose some answers of a server."""
        lose_answers(self.rng.randint(1, 3))
        run.go_on()

    def stall(self, run: Run, line: Line) -> None:
        """Let a server be silent for a moment."""
        line.hang()
        run.go_on()
        linger()
        line.heal()

    def fill_disk(self, run: Run) -> None:
        """Let the run find its disk full."""
        run.fill_disk()
        run.go_on()

    def check(self, index: IndexModel, touched: Task | None = None) -> None:
        """Compare an index with its model. What `touched` did in part is old or new, and until it is run
        again, `verify` may say so."""
        machine = self.rng.choice(index.machines)
        with Index.open(machine.home, servers=index.servers) as opened:
            either = touched.texts if touched is not None else {}
            faults = [fault for fault in verify(opened).faults if fault.item.partition("#")[0] not in either]
            assert faults == []
            studies = opened.catalog.studies(list(opened.catalog.study_ids()))
            found = {name: study.report.described for name, study in studies.items() if study.report}
            assert {k: v for k, v in found.items() if k not in either} == {
                k: v for k, v in index.reports.items() if k not in either
            }
            for name in either:
                assert found.get(name) in (either[name], index.reports.get(name))
            home, collection = opened.home, opened.collection
            contents = self.world.contents()
            namespace = self.world.namespace(index)
            reports = {str(home.point_id(f"{name}#report")) for name in found}
            assert contents[namespace + collection("report")].keys() == reports
            images = {str(home.point_id(f"{name}#{n}")) for name in found if (n := _number(name)) in IMAGES}
            assert contents[namespace + collection("image")].keys() == images
            if touched is None:
                assert opened.active_version.fingerprint == self.encoders[index.encoder].fingerprint
                aliases = self.world.aliases()
                assert aliases[f"{namespace}images"] == namespace + collection("image")
                points = {str(home.point_id(f"{name}#report")): text for name, text in found.items()}
                for point in opened.store.fetch(collection("report"), map(UUID, points)):
                    wanted = self.vector(index, points[str(point.id)])
                    np.testing.assert_allclose(point.vector, wanted, atol=1e-4)

    def check_backup(self, index: IndexModel, file: Path) -> None:
        """Compare a backup with its index, and now and then restore it into a home of its own."""
        contents = check(file)
        with Index.open(index.home, servers=index.servers) as opened:
            assert contents.vectors == {name: opened.store.count(name) for name in opened.store.collections()}
        assert contents.rows["study"] == len(index.reports)
        if self.rng.random() < 0.3:
            home = self.world.folder / f"restored{self.rng.getrandbits(32)}"
            restore(file, home)
            with Index.open(home) as restored:
                assert verify(restored).faults == []
                assert set(restored.catalog.study_ids()) == index.reports.keys()
            shutil.rmtree(home)


def _number(study: str) -> int:
    return int(study.rpartition("s")[2])


def assert_sentences(outcome: Outcome, world: World) -> None:
    """What went wrong is one or two sentences for a person, and no secret is among them."""
    assert not outcome.fault, outcome.fault
    text = outcome.error
    assert "\n" not in text
    assert "Traceback" not in text
    assert len(text) <= LONGEST_MESSAGE, text
    assert len(re.findall(r"[.!?] +[A-Z]", text)) <= 1, text
    keys = {world.real.api_key} if world.real is not None else set()
    for secret in {*SECRETS, *filter(None, keys)}:
        assert secret not in text
