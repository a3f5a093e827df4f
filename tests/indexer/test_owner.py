"""A service owns the embedded vectors: others work through it, and writers still take turns."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from click.testing import CliRunner, Result

from corpus.errors import IndexInUse, OwnerGone
from corpus.settings import settings
from corpus.sources import open_source
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.added import Added, Stage
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from indexer.ingest.repair import verify
from indexer.owner import SOCKET, connect, embedded_store, owned_store
from indexer.vectors.edge.wire import pack, unpack
from indexer.vectors.store import Hit, Point
from similarity.cli.main import cli
from trainer.runtime.encoder import Encoder

SERVE = """
import sys
from pathlib import Path
from indexer.home import Home
from indexer.owner import owned_store
with owned_store(Home.open(Path(sys.argv[1]))):
    print("owned", flush=True)
    sys.stdin.read()
"""


def test_jobs_and_readers_work_beside_an_owner_and_leave_a_sound_index(
    home: Path, encoder: Encoder, encoder_folder: Path
) -> None:
    with owned_store(Home.open()), Index.open(read_only=False) as index:
        source = open_source("phantom:6@4")
        add_source(index, source, encoder, origin="x", folder=str(encoder_folder), workers=0)
        with Index.open() as reading:
            version = reading.active_version
            collection = f"images__{version.fingerprint[:8]}"
            vector = np.full(encoder.dim, encoder.dim**-0.5, np.float32)
            assert len(reading.store.search(collection, vector, 3)) == 3
        remove_study(index, "phantom:4-2")
        assert not verify(index).faults
    with Index.open() as index:
        assert not verify(index).faults
        assert index.catalog.counts()["studies"] == {"phantom": 5}


def test_a_verification_takes_its_turn_beside_a_run(
    home: Path, encoder: Encoder, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run has written and not yet entered would look like a fault."""
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0")
    settings.cache_clear()
    results: list[Result] = []

    def observe(stage: Stage, _added: Added) -> None:
        if stage == "vectors":
            results.append(CliRunner().invoke(cli, ["index", "verify"]))

    with owned_store(Home.open()), Index.open(read_only=False) as index:
        source = open_source("phantom:6@4")
        add_source(
            index, source, encoder, origin="x", folder=str(encoder_folder), workers=0, observer=observe
        )
    assert isinstance(results[0].exception, IndexInUse)
    assert CliRunner().invoke(cli, ["index", "verify"]).exit_code == 0


def test_the_socket_is_its_users_alone_and_goes_with_the_owner(home: Path) -> None:
    opened = Home.open()
    with owned_store(opened):
        mode = (opened.folder / SOCKET).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not (opened.folder / SOCKET).exists()


def test_a_home_with_a_long_name_is_reached_too(tmp_path: Path) -> None:
    opened = Home.open(tmp_path / ("a" * 120) / "home")
    with owned_store(opened), embedded_store(opened) as reached:
        assert reached.collections() == []


def test_two_writers_take_turns_beside_an_owner(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0.3")
    settings.cache_clear()
    notes: list[str] = []
    with owned_store(Home.open()), Index.open(read_only=False):
        with (
            pytest.raises(IndexInUse, match=f"process {os.getpid()}"),
            Index.open(read_only=False, on_wait=notes.append),
        ):
            pass
        with Index.open():
            pass
    assert len(notes) == 1


def test_two_owners_are_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0.2")
    settings.cache_clear()
    opened = Home.open()
    with owned_store(opened), pytest.raises(IndexInUse), owned_store(opened):
        pass


def test_an_owner_that_ends_is_reported_and_one_that_was_killed_blocks_no_command(home: Path) -> None:
    opened = Home.open()
    owner = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(opened.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == b"owned\n"
    with embedded_store(opened) as reached:
        assert reached.collections() == []
        owner.kill()
        owner.wait()
        with pytest.raises(OwnerGone, match="has ended; run the command again"):
            reached.collections()
    owner.stdout.close()
    assert owner.stdin is not None
    owner.stdin.close()
    assert (opened.folder / SOCKET).exists(), "a killed owner leaves its socket"
    assert connect(opened) is None
    with embedded_store(opened) as own:
        own.create("images", 4, {})


def test_many_threads_and_callers_get_their_own_answers(home: Path) -> None:
    opened = Home.open()
    wrong: list[str] = []

    def ask(number: int) -> None:
        with embedded_store(opened) as reached:
            for turn in range(20):
                point = UUID(int=1 + number * 100 + turn)
                vector = np.zeros(8, np.float32)
                vector[number] = 1
                reached.upsert("images", [Point(point, vector, {"kind": "image"})])
                (back,) = reached.fetch("images", [point])
                if back.id != point or back.vector[number] != 1:
                    wrong.append(f"{number} {turn}")

    with owned_store(opened) as store:
        store.create("images", 8, {})
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.count("images") == 80
    assert not wrong


def test_hits_arrive_as_they_were_sent() -> None:
    rng = np.random.default_rng(0)
    hits = [
        [
            Hit(UUID(bytes=rng.bytes(16)), float(rng.normal()), {"study": f"s{n}", "finding": ["a", "b"]})
            for n in range(count)
        ]
        for count in (3, 0, 1)
    ]
    first, *arrays = pack(["done", [*hits, [Hit(UUID(int=1), 0.5, {})]]])
    waiting = iter(arrays)
    assert unpack(first, lambda: next(waiting)) == ["done", [*hits, [Hit(UUID(int=1), 0.5, {})]]]


def test_nothing_but_the_stores_own_values_travels() -> None:
    with pytest.raises(TypeError, match="does not travel"):
        pack(object())
    for message in (b'{"~Path": "/etc"}', b'{"~array": ["|O", [1]]}'):
        with pytest.raises(ValueError, match="unknown"):
            unpack(message, lambda: b"x")
