"""`index remove` shows what it is about to erase and erases nothing without confirmation."""

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from corpus.sources import open_source
from corpus.subjects import separate_subject
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.versions import CatalogSource
from similarity.cli.main import cli, main
from tests.indexer.cases import cohort
from tests.indexer.test_identity import add, radiograph
from trainer.runtime.encoder import Encoder

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "index-remove.schema.json"
REMOVE = ("index", "remove", "--subject", "manifest:p1")
P5, P5_APART = "dicom:P5", separate_subject("dicom:P5", "dicom:1.5.2")


@pytest.fixture
def filled(home: Path, tmp_path: Path, encoder: Encoder) -> Path:
    source = open_source(cohort(tmp_path / "cases", 6))
    with Index.open(read_only=False) as index:
        add_source(index, source, encoder, origin="x", folder="anywhere", workers=0)
    return home


def study_ids() -> list[str]:
    with Index.open() as index:
        return list(index.catalog.study_ids())


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, words)


def answer(text: str, words: tuple[str, ...] = REMOVE) -> tuple[int, str, str]:
    """Run the command in a terminal with typed input; its exit code, stdout and stderr."""
    ours, theirs = pty.openpty()
    program = f"from similarity.cli.main import main; main({list(words)!r})"
    try:
        os.write(ours, text.encode())
        done = subprocess.run(
            [sys.executable, "-c", program], stdin=theirs, capture_output=True, text=True, check=False
        )
    finally:
        os.close(ours)
        os.close(theirs)
    return done.returncode, done.stdout, done.stderr


def test_without_a_terminal_nothing_is_erased(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = study_ids()
    with pytest.raises(SystemExit) as left:
        main(list(REMOVE))
    assert left.value.code == 2
    shown = capsys.readouterr().err
    assert "2 studies, 2 images, 2 reports" in shown
    assert "--yes" in shown
    assert "manifest:p1" not in shown
    assert study_ids() == before


def test_what_is_listed_is_erased_after_confirmation(filled: Path) -> None:
    code, _, shown = answer("n\n")
    assert code == 1
    assert "nothing was erased" in shown
    assert len(study_ids()) == 6
    code, out, shown = answer("y\n")
    assert code == 0, shown
    listed = [line.split("  ") for line in shown.splitlines() if line.startswith("manifest:")]
    assert listed == [
        ["manifest:s3", "2020-04-03", "1 image, 1 report"],
        ["manifest:s2", "2020-03-03", "1 image, 1 report"],
    ]
    assert "Erase 2 studies, 2 images, 2 reports for good?" in shown
    assert "manifest:s2; manifest:s3" in out
    assert not {"manifest:s2", "manifest:s3"} & set(study_ids())


def test_a_script_says_yes(filled: Path) -> None:
    refused = run(*REMOVE, "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--yes" in refused.stderr
    removed = json.loads(run(*REMOVE, "--json", "--yes").stdout)
    jsonschema.validate(removed, json.loads(SCHEMA.read_text()))
    assert removed["studies"] == ["manifest:s2", "manifest:s3"]


def test_there_is_nothing_to_ask_where_nothing_is_found(filled: Path) -> None:
    done = run("index", "remove", "--study", "manifest:none")
    assert done.exit_code == 0
    assert "vectors: 0" in done.stdout


# a patient id that is of several subjects


@pytest.fixture
def shared(home: Path, tmp_path: Path, encoder: Encoder) -> Path:
    """Two patients P5 and a study of either; a patient 1001 of each of two issuers."""
    radiographs = tmp_path / "films"
    headers: dict[str, dict[str, str]] = {
        "1.5.1": {"PatientID": "P5", "PatientSex": "F", "PatientBirthDate": "19500101"},
        "1.5.2": {"PatientID": "P5", "PatientSex": "M", "PatientBirthDate": "19800101"},
        "1.5.3": {"PatientID": "P5"},
        "1.6.1": {"PatientID": "1001", "IssuerOfPatientID": "SITEA"},
        "1.6.2": {"PatientID": "1001", "IssuerOfPatientID": "SITEB"},
        "1.6.3": {"PatientID": "21001", "IssuerOfPatientID": "SITEB"},
    }
    for number, (study, header) in enumerate(headers.items()):
        radiograph(radiographs / f"{number}.dcm", number, StudyInstanceUID=study, **header)
    add(radiographs, encoder)
    return home


@pytest.mark.parametrize(
    ("subject", "erased", "left"),
    [
        (P5, ["dicom:1.5.1"], {"dicom:1.5.3": True, P5_APART: False}),
        (P5_APART, ["dicom:1.5.2"], {"dicom:1.5.3": True, P5: False}),
        ("dicom:1001", [], {"dicom:SITEA::1001": False, "dicom:SITEB::1001": False}),
        ("dicom:SITEA::1001", ["dicom:1.6.1"], {"dicom:SITEB::1001": False}),
        ("dicom:EAST::P5", [], {"dicom:1.5.3": True, P5: False, P5_APART: False}),
        ("dicom:SITEB::21001", ["dicom:1.6.3"], {}),
        ("dicom:none", [], {}),
    ],
)
def test_the_other_subjects_of_the_patient_id_are_named(
    shared: Path, subject: str, erased: list[str], left: dict[str, bool]
) -> None:
    done = run("index", "remove", "--subject", subject, "--yes", "--json")
    removed = json.loads(done.stdout)
    jsonschema.validate(removed, json.loads(SCHEMA.read_text()))
    assert removed["studies"] == erased
    assert {other["subject_id"]: other["undecided"] for other in removed["not_erased"]} == left
    assert done.exit_code == (1 if left and not erased else 0)
    for name, undecided in left.items():
        assert f"--{'study' if undecided else 'subject'} {shlex.quote(name)}\n" in done.stderr
    assert ("not erased" in done.stderr) == bool(left)
    assert len(study_ids()) == 6 - len(erased)


def test_the_other_subjects_are_named_before_the_confirmation(shared: Path) -> None:
    code, _, shown = answer("y\n", ("index", "remove", "--subject", P5))
    assert code == 0
    assert shown.index("--study dicom:1.5.3") < shown.index("for good?")
    assert shown.count(f"--subject {shlex.quote(P5_APART)}") == 1


def test_a_second_encoder_keeps_the_id_of_an_undecided_study(shared: Path, encoder: Encoder) -> None:
    with Index.open(read_only=False) as index:
        stored = CatalogSource(index.catalog)
        added = add_source(index, stored, encoder, origin="catalog", folder="anywhere", workers=0)
        assert added.unchanged == 6
    removed = json.loads(run("index", "remove", "--subject", P5, "--yes", "--json").stdout)
    assert len(removed["not_erased"]) == 2
