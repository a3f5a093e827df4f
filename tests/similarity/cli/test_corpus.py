"""`similarity corpus`: what goes to stdout is data, in the shape its contract says."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from similarity.cli.main import cli, main

CONTRACTS = Path(__file__).resolve().parents[3] / "docs" / "contracts"


def schema(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CONTRACTS / f"{name}.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(loaded)
    return loaded


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["corpus", *arguments], catch_exceptions=False)


@pytest.fixture
def manifest(tmp_path: Path, png_bytes: bytes) -> str:
    (tmp_path / "a.png").write_bytes(png_bytes)
    (tmp_path / "broken.png").write_bytes(png_bytes[:60])
    (tmp_path / "m.csv").write_text(
        "study_id,subject_id,image,report,present,age\n"
        "S1,P1,a.png,Small pleural effusion. No pneumothorax.,edema,50\n"
        "S2,P2,broken.png,,,\n"
        "S3,P3,gone.png,Possible pneumonia.,,411\n"
    )
    return f"manifest:{tmp_path / 'm.csv'}"


def test_inspect_counts_what_is_there_and_what_is_not(manifest: str) -> None:
    result = run("inspect", manifest, "--json", "--read")
    assert result.exit_code == 0
    counted = json.loads(result.stdout)
    jsonschema.validate(counted, schema("corpus-inspect"))
    assert {key: counted[key] for key in ("studies", "images", "reports", "pairs", "decoded")} == {
        "studies": 3,
        "images": 2,
        "reports": 2,
        "pairs": 1,
        "decoded": 1,
    }
    assert counted["ages"] == {"known": 1, "min": 50.0, "median": 50.0, "max": 50.0}
    assert counted["findings"]["pleural_effusion"] == {"present": 1, "absent": 0, "uncertain": 0}
    assert counted["findings"]["edema"]["present"] == 1
    assert {state: outcome["count"] for state, outcome in counted["problems"].items()} == {
        "failed": 1,
        "skipped": 0,
        "missing": 1,
        "noted": 1,
    }
    assert "broken or truncated PNG" in counted["problems"]["failed"]["reasons"][0]["reason"]
    assert result.stderr.strip() == "1 failed, 1 missing, 1 noted"


def test_inspect_counts_an_image_with_an_empty_window_as_read_and_notes_it(
    tmp_path: Path, make_dicom
) -> None:
    make_dicom(tmp_path / "a.dcm", WindowCenter=60000, WindowWidth=10)
    result = run("inspect", f"dicom:{tmp_path}", "--json", "--read", "--strict")
    assert result.exit_code == 0
    counted = json.loads(result.stdout)
    jsonschema.validate(counted, schema("corpus-inspect"))
    assert counted["decoded"] == 1
    [noted] = counted["problems"]["noted"]["reasons"]
    assert noted["reason"].startswith("is shown by the range of its values: its window of centre 60000")
    assert result.stderr.strip() == "1 noted"


def test_inspect_reads_no_pixels_by_default(manifest: str) -> None:
    counted = json.loads(run("inspect", manifest, "--json").stdout)
    jsonschema.validate(counted, schema("corpus-inspect"))
    assert counted["decoded"] is None
    assert counted["problems"]["failed"]["count"] == 0


def test_strict_makes_a_failed_item_exit_1(manifest: str) -> None:
    assert run("inspect", manifest, "--read", "--strict").exit_code == 1
    assert run("inspect", manifest, "--strict").exit_code == 0


def test_inspect_prints_a_readable_table(manifest: str) -> None:
    shown = run("inspect", manifest).stdout
    assert "pleural_effusion" in shown
    assert "411" in shown
    assert "gone" in shown


def test_files_broken_in_one_way_share_a_reason_and_every_problem_is_listed(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"empty{number}.png").write_bytes(b"")
    rows = [f"E{number},empty{number}.png,," for number in range(4)]
    rows += [f"A{number},,Clear.,{1000 + number}" for number in range(13)]  # each age a reason of its own
    (tmp_path / "m.csv").write_text("\n".join(["study_id,image,report,age", *rows]))
    result = run("inspect", f"manifest:{tmp_path / 'm.csv'}", "--read")
    shown = " ".join(result.stdout.split())
    assert (
        "failed 4: is empty: copy it again from where it came (manifest:E0#empty0, manifest:E1#empty1"
        in shown
    )
    assert "noted 3 more, each for a rarer reason" in shown


def test_an_empty_source_is_counted_too(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("study_id,report\n")
    counted = json.loads(run("inspect", f"manifest:{tmp_path / 'm.csv'}", "--json").stdout)
    jsonschema.validate(counted, schema("corpus-inspect"))
    assert counted["studies"] == 0


def test_control_signs_of_a_table_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text(
        'study_id,report,diagnosis\n"S1\x1b[31m",,\nS2,Clear.,"\x1b]0;x\x07[red]"\n'
    )
    shown = run("inspect", f"manifest:{tmp_path / 'm.csv'}").stdout
    assert "\x1b" not in shown
    assert "[red]" in shown


def test_label_prints_the_contracts_lines_and_nothing_else(manifest: str) -> None:
    result = run("label", manifest)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    for line in lines:
        jsonschema.validate(line, schema("corpus-label"))
    assert [line["report_id"] for line in lines] == ["manifest:S1#report", "manifest:S3#report"]
    assert "pleural_effusion" in lines[0]["findings"]["present"]
    assert "edema" not in lines[0]["findings"]["present"], "the table's word is not the report's"
    assert "pneumothorax" in lines[0]["findings"]["absent"]
    assert "pneumonia" in lines[1]["findings"]["uncertain"]
    assert result.stderr.strip() == "1 missing, 1 noted"


def test_label_scores_against_a_truth_table(manifest: str, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("study_id,Effusion,Pneumonia\nmanifest:S1,1,0\nmanifest:S3,0,0\n")
    scored = run("label", manifest, "--score", str(truth))
    assert len(scored.stdout.splitlines()) == 2
    assert "micro average" in scored.stderr
    outcome = json.loads(run("label", manifest, "--score", str(truth), "--json").stdout)
    assert outcome["studies"] == 2
    assert outcome["micro"]["f1"] == 1
    assert run("label", manifest, "--json").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["inspect", "opnei:/x"], 2, "did you mean 'openi'"),
        (["inspect", "openi:/nowhere"], 1, "is not there"),
        (["label", "phantom:2", "--score", "/nowhere.csv"], 1, "nowhere.csv"),
        (["inspect", "phantom:2", "--reports", "r.csv"], 2, "--reports"),
    ],
)
def test_what_cannot_run_is_one_line_and_its_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["corpus", *arguments])
    assert left.value.code == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_a_drawn_cohort_is_inspected_and_labelled() -> None:
    counted = json.loads(run("inspect", "phantom:4@1", "--json", "--read").stdout)
    jsonschema.validate(counted, schema("corpus-inspect"))
    assert counted["decoded"] == counted["pairs"] == 4
    assert len(run("label", "phantom:4@1").stdout.splitlines()) == 4


def test_inspect_reports_ids_that_may_be_one_patients(tmp_path: Path) -> None:
    rows = "study_id,subject_id,report\na,0003003,Clear.\nb,3003,Clear.\nc,A-1,Clear.\nd,a1,Clear.\n"
    (tmp_path / "m.csv").write_text(rows)
    outcome = run("inspect", f"manifest:{tmp_path / 'm.csv'}", "--json")
    counted = json.loads(outcome.stdout)
    jsonschema.validate(counted, schema("corpus-inspect"))
    assert counted["subjects"] == 4
    assert counted["near_equal_ids"] == {
        "count": 2,
        "by_leading_zeros": 1,
        "examples": [["manifest:0003003", "manifest:3003"], ["manifest:A-1", "manifest:a1"]],
    }
    printed = " ".join(run("inspect", f"manifest:{tmp_path / 'm.csv'}").stdout.split())
    assert "2 groups (manifest:0003003, manifest:3003; " in printed
    assert "SIMILARITY_MATCH_PADDED_PATIENT_IDS" in printed
    (tmp_path / "m.csv").write_text(rows.replace("0003003", "4004"))
    printed = run("inspect", f"manifest:{tmp_path / 'm.csv'}").stdout
    assert "1 groups (manifest:A-1, " in " ".join(printed.split())
    assert "SIMILARITY_MATCH_PADDED_PATIENT_IDS" not in printed
