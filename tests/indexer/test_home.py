"""The home folder: private, keyed once, owned by one process at a time, and plain about what is wrong."""

import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corpus.errors import HomeError, IndexInUse
from corpus.settings import settings
from indexer.home import KEY_BYTES, RESERVE_BYTES, Home, replace_key

HOLD = """
import sys
from pathlib import Path
from indexer.home import Home
with Home.open(Path(sys.argv[1])).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_folder_and_key_are_for_their_owner_alone(home: Path) -> None:
    opened = Home.open()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / ".key").stat().st_mode) == 0o600
    assert len(opened.key) == 32


def test_a_home_that_was_opened_to_others_is_closed_again(home: Path) -> None:
    Home.open()
    home.chmod(0o755)
    Home.open()
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_the_key_is_made_once_also_by_many_at_a_time(home: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = {opened.key for opened in pool.map(lambda _: Home.open(), range(64))}
    assert len(keys) == 1
    assert sorted(p.name for p in home.iterdir()) == [".key"]


def test_keyed_ids_depend_on_key_kind_and_value_and_tell_none_of_them(home: Path, tmp_path: Path) -> None:
    one, other = Home.open(), Home.open(tmp_path / "other")
    assert one.keyed("study", "a") == Home.open().keyed("study", "a")
    values = {one.keyed("study", "a"), one.keyed("subject", "a"), one.keyed("study", "b")}
    assert len(values | {other.keyed("study", "a")}) == 4
    assert one.point_id("x#y") != one.sentence_id("x#y")


def test_a_damaged_key_is_named_rather_than_replaced(home: Path) -> None:
    Home.open()
    (home / ".key").write_bytes(b"short")
    with pytest.raises(HomeError, match=r"\.key is damaged"):
        Home.open()


def test_a_command_that_opened_a_home_before_its_key_was_replaced_writes_nothing_with_the_old_one(
    home: Path,
) -> None:
    opened = Home.open()
    replace_key(home, bytes(KEY_BYTES))
    for name in ("writer", "owner", "catalog"):
        with (
            pytest.raises(HomeError, match=r"another key was imported .* run it again"),
            opened.lock(name=name),
        ):
            pass
    with Home.open().lock():
        pass


def test_two_homes_have_one_fingerprint_only_with_one_key(home: Path, tmp_path: Path) -> None:
    one, other = Home.open(), Home.open(tmp_path / "other")
    assert one.key_fingerprint != other.key_fingerprint
    replace_key(other.folder, one.key)
    assert Home.open(other.folder).key_fingerprint == one.key_fingerprint


def test_a_second_process_waits_and_then_says_who_owns_the_index(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_LOCK_WAIT_SECONDS", "0.5")
    settings.cache_clear()
    opened, notes = Home.open(), list[str]()
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    assert owner.stdout.readline() == "held\n"
    with pytest.raises(IndexInUse, match=f"process {owner.pid} .* since 20"), opened.lock(notes.append):
        pass
    assert len(notes) == 1
    assert "waiting up to 0.5 s" in notes[0]
    owner.stdin.close()
    owner.wait()
    owner.stdout.close()
    with opened.lock(notes.append):
        assert len(notes) == 1


def test_a_killed_owner_owns_nothing(home: Path) -> None:
    opened = Home.open()
    owner = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "held\n"
    owner.kill()
    owner.wait()
    owner.stdout.close()
    with opened.lock():
        pass


def test_a_home_below_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(HomeError, match="a part of that path is a file") as caught:
        Home.open(tmp_path / "file" / "home")
    assert "\n" not in str(caught.value)


def test_a_home_on_a_file_system_that_cannot_be_written_is_refused_in_one_line() -> None:
    with pytest.raises(HomeError, match="cannot be used") as caught:
        Home.open(Path("/proc/similarity"))
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_nearly_full_stops_a_job_before_it_is_full(home: Path) -> None:
    free = os.statvfs(home.parent)
    with pytest.raises(HomeError, match="Make room"):
        Home.open().require_space(free.f_bavail * free.f_frsize - RESERVE_BYTES + (1 << 30))
