"""The key as a text, and from a command: whole or refused, and never shown."""

import os
import shlex
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpus.errors import HomeError
from corpus.files import acquire_lock
from corpus.settings import Settings, settings
from indexer import key as key_module
from indexer.home import Home
from indexer.key import KEY_BYTES, key_fingerprint, key_of_command, key_text, parse_key
from tests.waiting import eventually

KEY = bytes(range(7, 7 + KEY_BYTES))
TEXT = key_text(KEY)
SECRET = "hunter2"

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


def assert_hidden(shown: str, text: str = TEXT) -> None:
    """No eight signs of a key's text in a row are in what is shown."""
    encoded = text.split(":")[1]
    assert not [part for at in range(len(encoded) - 7) if (part := encoded[at : at + 8]) in shown]


def program(folder: Path, script: str) -> str:
    """The command line of a Python program."""
    file = folder / "give.py"
    file.write_text(script)
    return shlex.join([sys.executable, str(file)])


@given(keys)
def test_an_exported_key_is_read_back_whatever_white_space_is_around_it(key: bytes) -> None:
    text = key_text(key)
    assert text.isascii()
    assert text.startswith("similarity-key-1:")
    for around in (text, f"{text}\n", f"\r\n  {text}\t\r\n\n", f"\ufeff{text}"):
        assert parse_key(around.encode(), "it") == key


@given(keys, st.integers(0), st.characters(codec="utf-8"))
def test_a_text_with_one_sign_changed_is_refused(key: bytes, at: int, sign: str) -> None:
    text = key_text(key)
    at %= len(text)
    damaged = text[:at] + sign + text[at + 1 :]
    if damaged.strip() in (text, text.removeprefix("\ufeff")):
        return
    with pytest.raises(HomeError) as caught:
        parse_key(damaged.encode(), "it")
    assert_hidden(str(caught.value), text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "it is empty"),
        (" \n", "it is empty"),
        (TEXT[:-1], "damaged or cut short"),
        (TEXT[:30], "damaged or cut short"),
        (TEXT[:20] + "\n" + TEXT[20:], "damaged or cut short"),
        (f"{TEXT} {TEXT}", "damaged or cut short"),
        (TEXT + "0", "damaged or cut short"),
        (TEXT.replace("key-1", "key-2"), "newer version of Similarity: update"),
        (TEXT.split(":")[1], "no exported key"),
        (KEY.decode("latin-1"), "no exported key"),
    ],
)
def test_what_is_no_whole_key_is_refused_in_one_line_that_does_not_repeat_it(text: str, says: str) -> None:
    with pytest.raises(HomeError, match=says) as caught:
        parse_key(text.encode(), "it")
    assert "\n" not in str(caught.value)
    assert_hidden("".join(traceback.format_exception(caught.value)))


@given(keys, keys)
def test_a_fingerprint_identifies_a_key_and_is_no_part_of_it(one: bytes, other: bytes) -> None:
    fingerprint = key_fingerprint(one)
    assert len(fingerprint) == 16
    assert (fingerprint == key_fingerprint(other)) == (one == other)
    assert fingerprint not in one.hex()
    assert fingerprint not in key_text(one)


def test_the_fingerprint_of_a_key_is_the_same_in_every_version() -> None:
    assert key_fingerprint(KEY) == "dccc54a72a09fcaa"
    assert TEXT == "similarity-key-1:BwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSY:f7a5412e"


def test_a_command_gives_the_key_once_for_all_threads_of_a_process(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    command = program(tmp_path, f"open({str(runs)!r}, 'a').write('x')\nprint({TEXT!r})")
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(key_of_command, [command] * 32)) == {KEY}
    assert runs.read_text() == "x"


def test_a_command_that_failed_is_run_again(tmp_path: Path) -> None:
    command = program(tmp_path, "raise SystemExit(1)")
    with pytest.raises(HomeError, match="exit code 1"):
        key_of_command(command)
    assert program(tmp_path, f"print({TEXT!r})") == command
    assert key_of_command(command) == KEY


def test_a_command_has_no_input_no_shell_and_no_terminal(tmp_path: Path) -> None:
    written = tmp_path / "written"
    command = program(
        tmp_path,
        "import os, sys\n"
        "assert sys.stdin.read() == ''\n"
        f"assert sys.argv[1:] == ['$HOME', ';', 'touch', {str(written)!r}]\n"
        "assert os.getsid(0) == os.getpid()\n"
        f"print({TEXT!r})",
    )
    assert key_of_command(f"{command} $HOME ; touch {shlex.quote(str(written))}") == KEY
    assert not written.exists()


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("raise SystemExit(3)", "the program 'python.*' of SIMILARITY_KEY_COMMAND ended with exit code 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
        (f"print({TEXT!r}); raise SystemExit(4)", "ended with exit code 4"),
        ("", "wrote is empty"),
        (f"print({SECRET!r})", "wrote is no exported key"),
        (f"print({TEXT[:-3]!r})", "wrote is damaged or cut short"),
        ("while True: print('similarity-key-1:')", "wrote more than a key"),
    ],
)
def test_a_command_that_gives_no_key_is_reported_in_one_line_without_what_it_wrote(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], script: str, says: str
) -> None:
    command = program(tmp_path, f"import sys; print({SECRET!r}, file=sys.stderr, flush=True)\n{script}")
    with pytest.raises(HomeError, match=says) as caught:
        key_of_command(f"{command} --token {SECRET}")
    shown = "".join((*capfd.readouterr(), *traceback.format_exception(caught.value)))
    assert "\n" not in str(caught.value)
    assert SECRET not in shown
    assert_hidden(shown)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (f"/nowhere/vault-{{}} --token {SECRET}", "the program 'vault-.*' of .* is not there: install it"),
        (f"{os.devnull} --token {SECRET}", "the program 'null' of .* cannot be started .Permission denied."),
        (f"vault '--token={SECRET}", "a quote that does not end"),
        (f"TOKEN={SECRET} vault get", "begins with a variable"),
        ("  ", "is set, and empty"),
    ],
)
def test_a_command_that_cannot_be_started_is_reported_in_one_line_without_its_arguments(
    command: str, says: str
) -> None:
    with pytest.raises(HomeError, match=says) as caught:
        key_of_command(command)
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "last",
    ["threading.Event().wait()", "os._exit(0)"],
    ids=["it hangs", "what it started hangs and has its output"],
)
def test_a_command_that_does_not_end_is_killed_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    monkeypatch.setattr(key_module, "COMMAND_SECONDS", 3.0)
    lock = tmp_path / "lock"
    command = program(
        tmp_path,
        "import fcntl, os, threading\n"
        f"lock = os.open({str(lock)!r}, os.O_RDWR | os.O_CREAT)\n"
        "fcntl.flock(lock, fcntl.LOCK_EX)\n"
        f"print({TEXT!r}, flush=True)\n"
        "if os.fork() == 0:\n    threading.Event().wait()\n"
        f"{last}\n",
    )
    with pytest.raises(HomeError, match=r"did not end within 3 s"):
        key_of_command(command)
    freed = eventually(lambda: acquire_lock(lock))  # both processes have it open
    freed.release()


@pytest.mark.parametrize("show", [repr, str, lambda shown: repr(vars(shown))])
def test_the_command_is_not_shown_with_the_settings(
    monkeypatch: pytest.MonkeyPatch, home: Path, show: Callable[[object], str]
) -> None:
    monkeypatch.setenv("SIMILARITY_KEY_COMMAND", f"vault --token {SECRET}")
    assert SECRET not in show(Settings())


@pytest.fixture
def command_key(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home's key comes from a command; its folder is made when it is opened."""
    monkeypatch.setenv("SIMILARITY_KEY_COMMAND", program(tmp_path, f"print({TEXT!r})"))
    settings.cache_clear()
    return home


def test_a_home_has_the_key_of_the_command_and_none_on_its_disk(command_key: Path) -> None:
    assert Home.find() is None
    assert not command_key.exists()
    opened = Home.open()
    assert opened.key == KEY
    assert opened.key_fingerprint == key_fingerprint(KEY)
    with opened.lock():
        pass
    assert [file for file in command_key.iterdir() if "lock" not in file.name] == []
    found = Home.find()
    assert found is not None
    assert found == opened
    assert_hidden(repr(opened) + str(opened))


def test_no_home_is_made_where_the_command_fails(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMILARITY_KEY_COMMAND", "/nowhere/vault")
    settings.cache_clear()
    with pytest.raises(HomeError, match="is not there"):
        Home.open()
    assert not home.exists()


def test_a_home_with_the_key_of_the_command_on_its_disk_is_opened(command_key: Path) -> None:
    Home.open()
    (command_key / ".key").write_bytes(KEY)
    assert Home.open().key == KEY


def test_a_home_with_another_key_than_the_command_gives_is_refused_naming_both(command_key: Path) -> None:
    Home.open()
    other = bytes(KEY_BYTES)
    (command_key / ".key").write_bytes(other)
    for opening in (Home.open, Home.find):
        with pytest.raises(HomeError, match=r"SIMILARITY_KEY_COMMAND gives one with") as caught:
            opening()
        assert key_fingerprint(KEY) in str(caught.value)
        assert key_fingerprint(other) in str(caught.value)
        assert_hidden(str(caught.value))
    assert (command_key / ".key").read_bytes() == other


def test_a_damaged_key_is_named_also_where_a_command_gives_one(command_key: Path) -> None:
    Home.open()
    (command_key / ".key").write_bytes(b"short")
    with pytest.raises(HomeError, match=r"\.key is damaged .* `similarity key import`"):
        Home.open()
