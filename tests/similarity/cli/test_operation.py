"""`similarity token`, `audit` and `doctor`: what they print, to the contract."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner

from similarity.cli.main import cli

CONTRACTS = Path(__file__).resolve().parents[3] / "docs" / "contracts"


def run_json(name: str, *words: str, exits: int = 0) -> dict[str, object]:
    ran = CliRunner().invoke(cli, [*words, "--json"])
    assert ran.exit_code == exits, ran.output
    loaded: dict[str, object] = json.loads(ran.stdout)
    jsonschema.validate(loaded, json.loads((CONTRACTS / f"{name}.schema.json").read_text("utf-8")))
    return loaded


def test_a_token_is_shown_once_and_listed_without_its_secret(home: Path) -> None:
    made = CliRunner().invoke(cli, ["token", "create", "--role", "reader", "--name", "Dr. A", "--days", "1"])
    text = made.stdout.strip()
    listed = run_json("token-list", "token", "list")["tokens"]
    assert isinstance(listed, list)
    assert (listed[0]["name"], listed[0]["works"]) == ("Dr. A", True)
    assert text.split("_", 2)[2] not in json.dumps(listed)
    CliRunner().invoke(cli, ["token", "revoke", text.split("_")[1]])
    assert "revoked" in CliRunner().invoke(cli, ["token", "list"]).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("create", "--role", "reader", "--name", " "), "needs the name"),
        (("create", "--role", "reader", "--name", "a", "--days", "-1"), "expires after"),
        (("revoke", "nothing"), "there is no token"),
    ],
)
def test_a_token_that_cannot_be_made_or_revoked_is_refused_with_the_reason(
    home: Path, words: tuple[str, ...], message: str
) -> None:
    ran = CliRunner().invoke(cli, ["token", *words])
    assert message in str(ran.exception)


def test_the_audit_of_a_new_home_is_empty(home: Path) -> None:
    assert run_json("audit", "audit") == {"entries": []}


def test_the_doctor_finds_a_new_home_well_and_an_open_key_ill(home: Path) -> None:
    assert run_json("doctor", "doctor")["well"]
    CliRunner().invoke(cli, ["token", "create", "--role", "admin", "--name", "a"])
    assert run_json("doctor", "doctor")["well"]
    (home / ".key").chmod(0o644)
    ill = run_json("doctor", "doctor", exits=1)
    assert isinstance(ill["checks"], list)
    (fault,) = (check for check in ill["checks"] if check["state"] == "fault")
    assert (fault["name"], fault["told"]) == ("key", "it is open to others")
    assert "chmod 600" in fault["advice"]
