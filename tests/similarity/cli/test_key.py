"""`similarity key`: what it prints where, to the contract, and that it shows the key to no one else."""

import io
import json
import shutil
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from corpus.settings import settings
from indexer.home import Home
from indexer.key import KEY_BYTES, key_fingerprint, key_text
from similarity.cli.main import cli, main

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "contracts" / "key-fingerprint.schema.json"
KEY = bytes(range(KEY_BYTES))


def run(*words: str, given: str | None = None) -> Result:
    ran = CliRunner().invoke(cli, ["key", *words], input=given)
    assert ran.exit_code == 0, ran.output
    return ran


def test_a_key_goes_by_file_to_a_second_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Home.open()
    exported = run("export", str(tmp_path / "exported"))
    assert exported.stdout == ""
    assert exported.stderr == f"the key of {home} has fingerprint {first.key_fingerprint}\n"
    monkeypatch.setenv("SIMILARITY_HOME", str(tmp_path / "second"))
    settings.cache_clear()
    imported = run("import", str(tmp_path / "exported"))
    assert imported.stdout == ""
    assert imported.stderr == (
        f"the home {tmp_path / 'second'} has now the key with fingerprint {first.key_fingerprint}\n"
    )
    assert Home.open().key == first.key
    assert "had already the key" in run("import", str(tmp_path / "exported")).stderr


def test_a_key_goes_through_pipes_and_only_the_export_to_one_shows_it(home: Path) -> None:
    text = key_text(Home.open().key)
    exported = run("export", "-")
    assert exported.stdout == f"{text}\n"
    assert text not in exported.stderr
    shutil.rmtree(home)
    assert text not in run("import", "-", given=exported.stdout).output
    assert run("export", "-").stdout == exported.stdout


def test_an_import_over_another_key_says_that_it_replaced_one(home: Path) -> None:
    Home.open()
    assert "in place of another" in run("import", "-", given=key_text(KEY)).stderr
    assert Home.open().key == KEY


def test_two_machines_compare_fingerprints(home: Path) -> None:
    opened = Home.open()
    assert run("fingerprint").stdout == f"{opened.key_fingerprint}\n"
    answer = json.loads(run("fingerprint", "--json").stdout)
    jsonschema.validate(answer, json.loads(SCHEMA.read_text("utf-8")))
    assert answer == {"fingerprint": opened.key_fingerprint, "home": str(home)}


def test_the_fingerprint_of_a_key_from_a_secret_store_needs_no_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exported").write_text(key_text(KEY))
    monkeypatch.setenv("SIMILARITY_KEY_COMMAND", f"cat '{tmp_path / 'exported'}'")
    settings.cache_clear()
    assert run("fingerprint").stdout == f"{key_fingerprint(KEY)}\n"
    assert not home.exists()


@pytest.mark.parametrize(
    ("words", "given", "exits", "says"),
    [
        (("fingerprint",), "", 1, "has no key yet"),
        (("export", "-"), "", 1, "has no key yet"),
        (("import", "-"), key_text(KEY)[:-1], 1, "the standard input is damaged or cut short"),
        (("import", "-"), key_text(KEY)[17:], 1, "the standard input is no exported key"),
        (("import", "-"), "", 1, "the standard input is empty"),
        (("import", "nowhere"), "", 2, "the file 'nowhere' is not there"),
        (("import", key_text(KEY)), "", 2, "a key is among the words of the command"),
        (("export", f"./{key_text(KEY)}"), "", 2, "a key is among the words of the command"),
        (("import", key_text(KEY), "-"), "", 2, "a key is among the words of the command"),
        (("fingerprint", f"--key={key_text(KEY)}"), "", 2, "a key is among the words of the command"),
        ((key_text(KEY),), "", 2, "a key is among the words of the command"),
    ],
)
def test_a_refusal_is_one_line_that_shows_no_key_and_makes_no_home(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    given: str,
    exits: int,
    says: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
    with pytest.raises(SystemExit) as ended:
        main(["key", *words])
    shown = capfd.readouterr()
    assert ended.value.code == exits
    assert shown.out == ""
    assert says in shown.err
    assert key_text(KEY)[17:40] not in shown.err
    assert not home.exists()
