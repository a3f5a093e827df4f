"""The key goes from machine to machine whole, and replaces none that something was made with."""

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from corpus.errors import ExportError, HomeError, IndexInUse, UsageError
from corpus.records import Study
from corpus.settings import settings
from corpus.sources import open_source
from indexer.catalog.catalog import Catalog
from indexer.catalog.models import StudyRow
from indexer.catalog.rows import study_row
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.key import KEY_BYTES, key_fingerprint, key_text
from indexer.key_transfer import export_key, home_with_key, import_key, read_key_file
from indexer.owner import owned_store
from tests.indexer.cases import cohort
from tests.indexer.postgres import fresh_database
from tests.waiting import eventually
from trainer.runtime.encoder import Encoder

KEY = bytes(range(KEY_BYTES))
OTHER = bytes(reversed(KEY))

IMPORT = """
import sys
from pathlib import Path
from indexer.key_transfer import import_key
folder, keys = Path(sys.argv[1]), [bytes([n]) * 32 for n in map(int, sys.argv[2].split(","))]
print("ready", flush=True)
sys.stdin.readline()
for key in keys:
    print(import_key(key, folder).outcome, flush=True)
"""

OPEN = """
import sys
from pathlib import Path
from indexer.home import Home
folder = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
print(Home.open(folder).key_fingerprint, flush=True)
"""


@pytest.fixture(scope="module")
def filled(memory: Path, encoder: Encoder, encoder_folder: Path) -> Path:
    """A home with studies and vectors; tests change copies of it."""
    source = open_source(cohort(memory / "cohort", 4))
    with Index.open(memory / "filled", read_only=False) as index:
        add_source(index, source, encoder, origin="x", folder=str(encoder_folder), workers=0)
    return memory / "filled"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for a lock."""
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0")
    settings.cache_clear()


def copy(filled: Path, folder: Path) -> Path:
    """Copy a home; the files of its vectors, over a hundred megabytes that nothing here opens, are linked."""

    def copied(source: str, target: str) -> object:
        return os.link(source, target) if "/vectors/" in source else shutil.copy2(source, target)

    return shutil.copytree(filled, folder, copy_function=copied)


def start(script: str, *words: str) -> "subprocess.Popen[str]":
    """Start a process and wait until it is ready to be started off."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def files(folder: Path) -> set[str]:
    """The files of a home, but for those of its locks."""
    return {path.name for path in folder.iterdir() if not path.name.endswith(".lock")}


def test_a_key_that_is_exported_and_imported_gives_a_second_home_the_same_ids(
    home: Path, tmp_path: Path
) -> None:
    first = Home.open()
    export_key(first, tmp_path / "exported")
    imported = import_key(read_key_file(tmp_path / "exported"), tmp_path / "second" / "home")
    second = Home.open(tmp_path / "second" / "home")
    assert (imported.outcome, imported.fingerprint) == ("new", first.key_fingerprint)
    assert second.point_id("a#b") == first.point_id("a#b")
    assert stat.S_IMODE((tmp_path / "exported").stat().st_mode) == 0o600
    assert stat.S_IMODE(second.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((second.folder / ".key").stat().st_mode) == 0o600
    assert files(second.folder) == {".key"}


def test_an_export_overwrites_no_file_and_follows_no_link(home: Path, tmp_path: Path) -> None:
    opened = Home.open()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link"):
        with pytest.raises(UsageError, match=f"there is a file '{name}' already"):
            export_key(opened, tmp_path / name)
    assert (tmp_path / "file").read_text() == "precious"
    assert not (tmp_path / "nothing").exists()


def test_an_export_that_the_disk_refuses_leaves_no_file(home: Path, tmp_path: Path) -> None:
    opened = Home.open()
    with pytest.raises(ExportError, match="its folder is not there"):
        export_key(opened, tmp_path / "no" / "key")
    full = tmp_path / "full"
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from indexer.home import Home; from indexer.key_transfer import export_key\n"
        "opened = Home.open(Path(sys.argv[1]))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\n"
        "export_key(opened, Path(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(home), str(full)], capture_output=True, text=True, check=False
    )
    assert "the key cannot be written to 'full': File too large" in done.stderr
    assert not full.exists()


def test_a_file_without_a_key_is_named_and_not_repeated(tmp_path: Path) -> None:
    file = tmp_path / "copied"
    with pytest.raises(UsageError, match="the file 'copied' is not there"):
        read_key_file(file)
    file.write_text(key_text(KEY)[:40])
    with pytest.raises(HomeError, match="the file 'copied' is damaged or cut short") as caught:
        read_key_file(file)
    assert key_text(KEY)[17:30] not in str(caught.value)
    file.write_bytes(b"x" * (1 << 20))
    with pytest.raises(UsageError, match="more than the 4,096 that are read"):
        read_key_file(file)


def test_an_import_of_the_same_key_changes_nothing(filled: Path, tmp_path: Path) -> None:
    home = copy(filled, tmp_path / "home")
    before = (home / ".key").stat()
    assert import_key(Home.open(filled).key, home).outcome == "same"
    after = (home / ".key").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_key_that_made_nothing_is_replaced(home: Path) -> None:
    with Index.open(Home.open(), read_only=False):  # makes tables and the folder of the vectors
        pass
    assert import_key(KEY).outcome == "replaced"
    assert Home.open().key == KEY
    assert stat.S_IMODE((home / ".key").stat().st_mode) == 0o600
    with Index.open(read_only=False) as index:
        assert index.home.key == KEY


@pytest.mark.parametrize(
    ("gone", "says"),
    [
        ((), "has studies in its catalog and vectors made with it"),
        (("vectors",), "has studies in its catalog made with it"),
        (("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"), "has vectors made with it"),
    ],
    ids=["both", "studies", "vectors"],
)
def test_a_key_that_made_studies_or_vectors_is_not_replaced(
    filled: Path, tmp_path: Path, gone: tuple[str, ...], says: str
) -> None:
    home = copy(filled, tmp_path / "home")
    for path in (home / name for name in gone):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    own = Home.open(home)
    with pytest.raises(HomeError, match=says) as caught:
        import_key(KEY, home)
    assert str(home) in str(caught.value)
    assert own.key_fingerprint in str(caught.value)
    assert Home.open(home).key == own.key


def test_a_key_is_not_replaced_beside_a_catalog_that_cannot_be_read(home: Path) -> None:
    own = Home.open().key
    (home / "catalog.sqlite").write_bytes(b"no database at all" * 500)
    with pytest.raises(HomeError, match=r"catalog\.sqlite cannot be"):
        import_key(KEY)
    assert Home.open().key == own


def test_the_catalog_in_the_home_counts_also_where_a_database_is_named(
    filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = copy(filled, tmp_path / "home")
    shutil.rmtree(home / "vectors")
    monkeypatch.setenv("SIMILARITY_DATABASE_URL", "postgresql://user:password@127.0.0.1:1/none")
    settings.cache_clear()
    try:
        with pytest.raises(HomeError, match="has studies in its catalog"):
            import_key(KEY, home)
    finally:
        monkeypatch.undo()
        settings.cache_clear()


def test_a_damaged_or_lost_key_is_brought_back_by_an_import(filled: Path, tmp_path: Path) -> None:
    key = Home.open(filled).key
    for damage in ("cut", "lost"):
        home = copy(filled, tmp_path / damage)
        if damage == "cut":
            (home / ".key").write_bytes(key[:20])
        else:
            (home / ".key").unlink()
        import_key(key, home)
        assert Home.open(home).key == key


def test_a_key_is_not_replaced_while_a_command_or_a_service_uses_the_home(
    home: Path, impatient: None
) -> None:
    opened = Home.open()
    with opened.lock(name="writer"), pytest.raises(IndexInUse, match="in use by process"):
        import_key(KEY)
    with owned_store(opened), pytest.raises(IndexInUse, match="in use by process"):
        import_key(KEY)
    assert Home.open().key == opened.key
    assert import_key(KEY).outcome == "replaced"


def test_imports_and_commands_that_start_at_once_leave_one_whole_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    imports = [start(IMPORT, str(home), str(number)) for number in (1, 2)]
    commands = [start(OPEN, str(home))]
    for process in (*imports, *commands):
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [process.communicate()[0].strip() for process in imports]
    fingerprints = {process.communicate()[0].strip() for process in commands}
    assert [process.returncode for process in (*imports, *commands)] == [0] * 3
    assert set(outcomes) <= {"new", "replaced"}
    assert (home / ".key").read_bytes() in {bytes([number]) * KEY_BYTES for number in (1, 2)}
    assert all(len(fingerprint) == 16 for fingerprint in fingerprints)
    assert files(home) == {".key"}


def test_a_key_is_read_whole_while_it_is_replaced_again_and_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    import_key(bytes([1]) * KEY_BYTES, home)
    process = start(IMPORT, str(home), ",".join(["2", "1"] * 50))
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    keys = set()
    while process.poll() is None:
        keys.add(Home.open(home).key)
    assert process.returncode == 0
    assert process.stdout is not None
    assert process.stdout.read().split() == ["replaced"] * 100
    process.stdin.close()
    process.stdout.close()
    assert keys <= {bytes([number]) * KEY_BYTES for number in (1, 2)}


def test_an_import_that_is_killed_leaves_one_whole_key(tmp_path: Path) -> None:
    home = tmp_path / "home"
    process = start(IMPORT, str(home), ",".join(["1", "2"] * 10_000))
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    eventually(lambda: (home / ".key").exists())
    for _ in range(20):
        process.stdout.readline()
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    assert Home.open(home).key in {bytes([number]) * KEY_BYTES for number in (1, 2)}
    assert import_key(KEY, home).outcome == "replaced"


@pytest.fixture
def command_key(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home's key comes from a command."""
    (tmp_path / "exported").write_text(key_text(KEY))
    monkeypatch.setenv("SIMILARITY_KEY_COMMAND", f"cat {shlex.quote(str(tmp_path / 'exported'))}")
    settings.cache_clear()
    return home


def test_a_key_that_a_command_gives_is_exported_and_is_not_written_to_the_home(
    command_key: Path, tmp_path: Path
) -> None:
    assert home_with_key().key == KEY
    assert not command_key.exists()
    export_key(Home.open(), tmp_path / "again")
    assert read_key_file(tmp_path / "again") == KEY
    assert import_key(KEY).outcome == "same"
    assert files(command_key) == set()


def test_another_key_than_the_command_gives_is_not_imported(command_key: Path) -> None:
    with pytest.raises(HomeError, match="SIMILARITY_KEY_COMMAND gives the key") as caught:
        import_key(OTHER)
    assert key_fingerprint(KEY) in str(caught.value)
    assert key_fingerprint(OTHER) in str(caught.value)
    assert not command_key.exists()


def test_a_home_with_an_unused_key_of_its_own_takes_that_of_the_command(command_key: Path) -> None:
    command_key.mkdir()
    (command_key / ".key").write_bytes(OTHER)
    with pytest.raises(HomeError, match="gives one with fingerprint"):
        Home.open()
    assert import_key(KEY).outcome == "replaced"
    assert Home.open().key == KEY


def test_a_home_without_a_key_is_refused_and_not_made(home: Path) -> None:
    with pytest.raises(HomeError, match="has no key yet: `similarity key import`"):
        home_with_key()
    assert not home.exists()


def test_a_key_is_not_replaced_that_the_index_on_the_database_server_was_made_with(
    home: Path, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(postgres) as own:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
        settings.cache_clear()
        opened = Home.open()
        import_key(b"k" * KEY_BYTES)  # nothing was made with the key that it had
        opened = Home.open()
        catalog = Catalog.open(opened)
        study = Study("s", "p", "manifest")
        with catalog.engine.begin() as connection:
            connection.execute(sa.insert(StudyRow).values(**study_row(study, opened)))
        catalog.close()
        with pytest.raises(HomeError, match="an index on the database server made with it"):
            import_key(b"x" * KEY_BYTES)
        assert Home.open().key == opened.key
