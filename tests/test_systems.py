"""What works on systems that lack the modules and sockets of Unix, and locks that hold on each."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from corpus.errors import IndexInUse
from corpus.files import acquire_lock
from corpus.settings import settings
from indexer import owner
from indexer.home import Home
from indexer.owner import PORT, SOCKET, connect, embedded_store, owned_store
from tests.encoders import build_tiny_encoder
from tests.without import UNIX_ONLY

ROOT = Path(__file__).resolve().parents[1]

HOLD_AS_BEFORE = """
import fcntl, os, sys
handle = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(handle, fcntl.LOCK_EX)
os.pwrite(handle, b'{"pid": 77, "command": "similarity index", "since": "2026-01-01T00:00:00+00:00"}', 0)
print("held", flush=True)
sys.stdin.read()
"""


def without(home: Path, *commands: list[str]) -> list[str]:
    """Run commands, one after the other, where Unix's modules are missing; the lines that they print."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMILARITY_")}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.without", json.dumps(commands)],
        env={**clean, "SIMILARITY_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout.splitlines()


def test_a_home_is_filled_searched_and_examined_without_the_modules_of_unix(tmp_path: Path) -> None:
    encoder = str(build_tiny_encoder(tmp_path / "tiny"))
    inspected, added, *found, token, examined = without(
        tmp_path / "home",
        ["corpus", "inspect", "phantom:2", "--json"],
        ["index", "add", "phantom:3@4", "--encoder", encoder, "--workers", "1", "--json"],
        ["search", "--text", "effusion", "-k", "2", "--json"],
        ["token", "create", "--role", "reader", "--name", "a"],
        ["doctor", "--json"],
    )
    assert json.loads(inspected)["studies"] == 2
    assert json.loads(added)["problems"]["failed"] == 0
    assert len(json.loads("".join(found))["hits"]) == 2
    assert token.startswith("sim_")
    assert json.loads(examined)["well"]


def test_every_module_is_imported_without_the_modules_of_unix() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for room in ("corpus", "trainer", "indexer", "retrieval")
        for path in sorted((ROOT / room).rglob("*.py"))
    ]
    program = "import importlib, tests.without; tests.without.block()\n" + "\n".join(
        f"importlib.import_module({name!r})" for name in names if not name.endswith("__main__")
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_no_module_of_ours_begins_by_importing_what_only_unix_has() -> None:
    """At the top of a module; a function may, where it says what happens without."""
    for room in ("corpus", "trainer", "indexer", "retrieval"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.parse(path.read_text("utf-8")).body:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                assert not UNIX_ONLY & set(names), path


def test_a_lock_of_the_version_before_is_respected_and_its_holder_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0")
    settings.cache_clear()
    opened = Home.open()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD_AS_BEFORE, str(home / ".owner.lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(IndexInUse, match=r"process 77 .similarity index. since"), opened.lock():
        pass
    process.stdin.close()
    process.wait()
    process.stdout.close()
    with opened.lock():
        assert acquire_lock(home / ".owner.lock") is None, "this process holds it already"


class NoFileSockets:
    """The socket module of a system without sockets in its file system."""

    def __getattr__(self, name: str) -> object:
        import socket

        if name == "AF_UNIX":
            raise AttributeError(name)
        return getattr(socket, name)


def test_an_owner_is_reached_by_a_port_and_a_key_where_there_are_no_file_sockets(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "socket", NoFileSockets())
    opened = Home.open()
    with owned_store(opened) as store:
        assert not (home / SOCKET).exists()
        assert (home / PORT).stat().st_mode & 0o077 == 0
        store.create("images", 4, {})
        with embedded_store(opened) as reached:
            assert reached.collections() == ["images"]
        reported = json.loads((home / PORT).read_text())
        (home / PORT).write_text(json.dumps({**reported, "key": "00" * 32}))
        assert connect(opened) is None, "a caller without the key is not answered"
        (home / PORT).write_text(json.dumps(reported))
        line = connect(opened)
        assert line is not None
        line.close()
    assert not (home / PORT).exists()
    (home / PORT).write_text(json.dumps(reported))  # as a killed owner leaves it
    assert connect(opened) is None
    (home / PORT).write_text("{")
    assert connect(opened) is None
