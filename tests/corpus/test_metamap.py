"""MetaMap's output becomes statuses, and malformed lines are reported."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from corpus.errors import CorpusError, UsageError
from corpus.findings import NO_FINDING, VOCABULARY, Finding, Status, Vocabulary
from corpus.language.labeler import label_study
from corpus.language.metamap import Document, read_metamap
from corpus.records import Report, Section, Study
from similarity.cli.main import cli

P, A = Status.PRESENT, Status.ABSENT


def line(document: str, name: str, cui: str, types: str, *negated: int) -> str:
    triggers = ",".join(
        f'"{name}"-tx-{n}-"{name}, [as] written"-noun-{flag}' for n, flag in enumerate(negated, 1)
    )
    return f"{document}|MMI|5.18|{name}|{cui}|[{types}]|[{triggers}]|TX|2/10|C08.528"


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


OUTPUT = (
    line("openi:1", "Pleural effusion", "C0032227", "dsyn", 1),
    line("openi:1", "Pulmonary Edema", "C0034063", "dsyn", 1, 0),
    line("openi:1", "Lung nodule", "C0034079", "fndg,patf", 0),
    line("openi:2", "Pneumothorax", "C0032326", "dsyn", 1),
    line("openi:3", "Left", "C0205091", "spco", 0),
    "openi:3|AA|CXR|chest x-ray|1|3|3|11|0:3",
    "",
)


def study(study_id: str, text: str = "Pneumothorax.") -> Study:
    report = Report(f"{study_id}#report", (Section("findings", text),))
    return Study(study_id, study_id, "openi", report=report)


def test_a_concept_is_a_finding_by_its_identifier_and_absent_where_all_its_triggers_are_negated(
    tmp_path: Path,
) -> None:
    read = read_metamap(write(tmp_path / "o.mmi", *OUTPUT))
    assert not read.bad_lines
    first = read.of(study("openi:1"))
    assert (first["pleural_effusion"], first["edema"], first["nodule"]) == (A, P, P)
    assert first["lung_opacity"] is P, "spread along the tree"
    assert NO_FINDING not in first
    assert read.of(study("openi:2")) == {NO_FINDING: P, "pneumothorax": A}
    assert read.of(study("openi:3")) == {}


def test_only_semantic_types_of_findings_count(tmp_path: Path) -> None:
    path = write(tmp_path / "o.mmi", line("openi:1", "Effusion", "C0032227", "bdsu", 0))
    assert read_metamap(path).documents["openi:1"].statuses == {}
    assert read_metamap(path, types=frozenset({"bdsu"})).documents["openi:1"].statuses == {
        "pleural_effusion": P
    }


def test_lines_of_metamaplite_have_no_brackets_around_triggers(tmp_path: Path) -> None:
    rest = "|text|16/5;40/5|C08.730|"
    path = write(
        tmp_path / "o.mmi",
        '1|MMI|0.46|Pneumonia|C0032285|[dsyn, fndg]|"Pneumonia"-text-0-"pneumonia"-NN-1' + rest,
        '1|MMI|0.46|Edema|C0034063|[patf]|"Edema"-text-0-"edema"-NN-1,"Edema"-text-3-"edema-1"--0' + rest,
    )
    read = read_metamap(path)
    assert not read.bad_lines
    assert read.documents["1"].statuses == {"pneumonia": A, "edema": P}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("nothing of the kind", "line 1 of 'o.mmi' is no line of fielded MMI"),
        ("1|MMI|5|Edema|C34063|[dsyn]|[\"E\"-tx-1-\"e\"-noun-0]|TX|1/2|", "line 1 of 'o.mmi' is no line"),
        ("1|MMI|5|Edema|C0034063|[dsyn]|[\"Edema\"-tx-1-\"edema\"]|TX|1/2|", "no flag of negation"),
        ("1|MMI|5|Edema", "is no line"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_reported_and_the_rest_read(tmp_path: Path, bad: str, says: str) -> None:
    read = read_metamap(write(tmp_path / "o.mmi", bad, *OUTPUT))
    (result,) = read.bad_lines
    assert says in result
    assert read.documents["openi:1"].statuses["edema"] is P


def entity(document: str, cui: str, *types: str) -> dict[str, object]:
    result = {"cui": cui, "preferredname": "x", "semantictypes": list(types)}
    return {"docid": document, "matchedtext": "x", "evlist": [{"score": 0, "conceptinfo": result}]}


def test_what_metamaplites_json_names_is_denied_or_doubted_where_the_report_does_so(tmp_path: Path) -> None:
    cuis = {"edema": "C0034063", "pleural_effusion": "C0032227", "nodule": "C0034079", "hernia": "C3489393"}
    entities = [entity("openi:1", cui, "dsyn") for cui in cuis.values()]
    entities += [entity("openi:1", "C0032326", "spco"), {"docid": "openi:1"}]
    (tmp_path / "o.json").write_text(json.dumps(entities))
    read = read_metamap(tmp_path / "o.json")
    result = read.of(study("openi:1", "Edema. No effusion. Possible nodule. Mass."))
    assert {f: result.get(f) for f in (*cuis, "pneumothorax", "mass")} == {
        "edema": P,
        "pleural_effusion": A,
        "nodule": Status.UNCERTAIN,
        "hernia": P,
        "pneumothorax": None,
        "mass": None,
    }
    assert read.bad_lines == ("entity 6 of 'o.json' is none of MetaMapLite's",)


def test_a_folder_of_nameless_documents_is_read_by_the_names_of_its_files(tmp_path: Path) -> None:
    write(tmp_path / "1000.mmi", line("USER", "Edema", "C0034063", "dsyn", 0))
    (tmp_path / "1001.json").write_text(json.dumps([entity("00000000.tx", "C0032326", "dsyn")]))
    (tmp_path / "1002.json").write_text("[{")
    read = read_metamap(tmp_path)
    assert set(read.documents) == {"1000", "1001"}
    assert read.bad_lines == ("'1002.json' is no whole JSON (JSONDecodeError)",)


@pytest.mark.parametrize("name", ["openi:1", "openi:1#report", "1"])
def test_a_document_is_found_by_its_report_its_study_or_the_sets_own_name(tmp_path: Path, name: str) -> None:
    read = read_metamap(write(tmp_path / "o.mmi", line(name, "Edema", "C0034063", "dsyn", 0)))
    assert read.of(study("openi:1"))["edema"] is P
    assert read.of(study("openi:2")) == {}
    read.require_named(["openi:2", "openi:1"])
    with pytest.raises(CorpusError, match="call each by its study, as in openi:1000"):
        read.require_named(["openi:2"])


def test_metamap_replaces_the_labeler_beside_the_table(tmp_path: Path) -> None:
    read = read_metamap(write(tmp_path / "o.mmi", line("1", "Edema", "C0034063", "dsyn", 0)))
    result = label_study(study("openi:1"), read.of(study("openi:1"))).findings
    assert result["edema"] is P
    assert "pneumothorax" not in result


def label(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["corpus", "label", *arguments])


def test_labels_of_a_source_are_taken_from_metamap(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("study_id,report\nS1,Pneumothorax.\nS2,Edema.\n")
    source = f"manifest:{tmp_path / 'm.csv'}"
    output = write(tmp_path / "o.mmi", line("manifest:S1", "Edema", "C0034063", "dsyn", 1), "noise")
    done = label(source, "--metamap", str(output))
    assert done.exit_code == 0
    first, second = (json.loads(result) for result in done.stdout.splitlines())
    assert first["study_id"] == "manifest:S1"
    assert first["findings"]["absent"] == ["edema"]
    assert second["findings"] == {"present": [], "absent": [], "uncertain": []}
    assert "line 2 of 'o.mmi'" in done.stderr
    (tmp_path / "t.csv").write_text("study_id,Pneumothorax,Edema\nmanifest:S1,1,0\n")
    scored = label(source, "--metamap", str(output), "--score", str(tmp_path / "t.csv"), "--json")
    assert json.loads(scored.stdout)["micro"]["recall"] == 0


def test_missing_output_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"'gone\.mmi' is not there"):
        read_metamap(tmp_path / "gone.mmi")
    with pytest.raises(CorpusError, match="no output of MetaMap"):
        read_metamap(tmp_path)


def test_no_concept_names_two_findings() -> None:
    assert all(VOCABULARY.find_concept(cui) == f.name for f in VOCABULARY.findings for cui in f.cuis)
    assert all(finding.cuis for finding in VOCABULARY.findings)
    with pytest.raises(UsageError, match="C0000001 names two findings"):
        Vocabulary((Finding("a", None, ("C0000001",)), Finding("b", None, ("C0000001",))))


@pytest.mark.real_data
def test_real_output_is_read_line_by_line_without_a_complaint(data: Path) -> None:
    read = read_metamap(data / "metamap")
    assert not read.bad_lines
    assert read.documents == {"lumbar_puncture": Document({})}, (
        "a spinal tap is no finding of a chest radiograph"
    )
