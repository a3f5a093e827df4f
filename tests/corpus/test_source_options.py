"""The options on tables reach every command that takes a source; notices are shown and counted."""

import json
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner, Result

from corpus.errors import UsageError
from similarity.cli.main import cli

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"
COMMANDS = [
    ["corpus", "inspect"], ["corpus", "label"], ["corpus", "sentences"], ["corpus", "deidentify"],
    ["corpus", "counterfactual"], ["index", "add"], ["train"], ["evaluate"], ["evaluate-drafts"],
    ["localize"], ["stress"],
]  # fmt: skip


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments), catch_exceptions=False)


@pytest.fixture
def ambiguous(tmp_path: Path) -> str:
    (tmp_path / "m.csv").write_bytes(
        "StudyID,report,date\n1,胸水なし。心拡大あり。,5/6/2019\n2,心拡大あり。,7/8/2019\n".encode("cp932")
    )
    return f"manifest:{tmp_path / 'm.csv'}"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_that_takes_a_source_has_the_options(command: list[str]) -> None:
    found: click.Command = cli
    with click.Context(cli) as context:
        for name in command:
            assert isinstance(found, click.Group)
            found = found.get_command(context, name) or pytest.fail(f"no command {name}")
    options = {name for parameter in found.params for name in parameter.opts}
    assert {"--encoding", "--day-first", "--month-first", "--date-format"} <= options


def test_inspect_tells_how_its_tables_were_read(ambiguous: str) -> None:
    result = run("corpus", "inspect", ambiguous, "--day-first", "--json")
    counted: dict[str, Any] = json.loads(result.stdout)
    jsonschema.validate(counted, json.loads((CONTRACTS / "corpus-inspect.schema.json").read_text("utf-8")))
    assert [notice["kind"] for notice in counted["notices"]] == ["encoding", "column", "subject"]
    assert counted["dates"]["first"] == "2019-06-05"
    assert counted["problems"]["failed"]["count"] == 0
    assert [line[:5] for line in result.stderr.splitlines()] == ["note:"] * 3
    assert run("corpus", "inspect", ambiguous, "--month-first", "--strict").exit_code == 0, (
        "no notice is a failure"
    )


def test_a_stated_encoding_is_not_reported(ambiguous: str) -> None:
    counted = json.loads(
        run("corpus", "inspect", ambiguous, "--day-first", "--encoding", "sjis", "--json").stdout
    )
    assert "encoding" not in [notice["kind"] for notice in counted["notices"]]


def test_inspect_shows_a_pair_where_no_report_joins(tmp_path: Path, make_dicom) -> None:  # type: ignore[no-untyped-def]
    make_dicom(tmp_path / "films" / "a.dcm", AccessionNumber="0012345")
    (tmp_path / "r.csv").write_text("accession,report\n12345,Clear lungs.\n")
    source, reports = f"dicom:{tmp_path / 'films'}", str(tmp_path / "r.csv")
    result = run("corpus", "inspect", source, "--reports", reports, "--json")
    assert "(12345 in the table, 0012345 in the images)" in result.stderr
    assert json.loads(result.stdout)["notices"][0]["examples"] == [
        "12345 in the table, 0012345 in the images"
    ]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--encoding", "shif-jis"], "did you mean shift_jis"),
        (["--date-format", "dd/mm/yyyy"], "no date format"),
    ],
)
def test_a_value_that_is_none_is_a_usage_error(ambiguous: str, options: list[str], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        run("corpus", "inspect", ambiguous, *options)


def test_two_orders_of_dates_are_a_usage_error(ambiguous: str) -> None:
    assert run("corpus", "inspect", ambiguous, "--day-first", "--month-first").exit_code == 2
