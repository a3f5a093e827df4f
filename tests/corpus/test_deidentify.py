"""Identifiers are removed from a text; the description of the image stays."""

import json
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from corpus.language.deidentify import BLANK, deidentify, deidentify_study, find_identifiers
from corpus.records import Report, Section, Study
from corpus.sources import open_source
from similarity.cli.corpus import corpus

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "corpus-deidentify.schema.json"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Discussed with Dr. John A. Smith at 10:45 AM.", "Discussed with Dr. XXXX at XXXX"),
        ("DR. SMITH WAS NOTIFIED OF THE FINDINGS", "DR. XXXX WAS NOTIFIED OF THE FINDINGS"),
        ("Signed by: Mary O'Neil-Brown, M.D.", "Signed by: XXXX, M.D."),
        ("Referring physician: José Müller", "Referring physician: XXXX"),
        ("Patient: Doe, Jane", "Patient: XXXX"),
        ("DOE^JANE^A", "XXXX"),
        ("seen on 03/04/2012 and 2012-03-04", "seen on XXXX and XXXX"),
        ("12th March 2011, March 3, 2012, May 2010", "XXXX, XXXX, XXXX"),
        ("unchanged since 2009", "unchanged since XXXX"),
        ("MRN: 00A1234, accession 4711-33", "XXXX, XXXX"),
        ("SSN 123-45-6789, study 1.2.840.113619.2.55", "XXXX, study XXXX"),
        ("call (555) 123-4567 or a.b@c.org", "call XXXX or XXXX"),
        ("transferred from St. Mary's Hospital", "transferred from XXXX"),
        ("lives at 12 Elm Street", "lives at XXXX"),
        ("92-year-old woman", "XXXX-year-old woman"),
    ],
)
def test_identifiers_are_removed(text: str, left: str) -> None:
    assert deidentify(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "A 1.5 x 2.0 cm nodule, 10-12 mm in 2 of 4 views, grade 2/6, 30% pneumothorax.",
        "T12 compression fracture, C5-6 and L1/L2 degenerative change, 8th rib.",
        "Swan-Ganz catheter, Foley, Kerley B lines, Bochdalek and Morgagni hernias, Chilaiditi.",
        "An 84 year old. There may be 5 mm of blunting. Heart ratio 1:2. Seen on 3/4 images.",
        "The patient is rotated. Doctor was notified. PICC tip 3.2 cm below the carina.",
        "Right upper lobe. LEFT LOWER LOBE. Dr. XXXX at XXXX hours on XXXX.",
    ],
)
def test_the_description_of_the_image_stays(text: str) -> None:
    assert deidentify(text) == text


def test_what_the_record_itself_says_is_known_and_found_anywhere() -> None:
    report = Report("dicom:1.2#report", (Section("findings", "Film of PAT77, order ACC-9: clear lungs."),))
    study = Study("dicom:1.2", "dicom:PAT77", "dicom", report=report, accession="ACC-9")
    left = deidentify_study(study).report
    assert left is not None
    assert left.sections[0].text == f"Film of {BLANK}, order {BLANK}: clear lungs."


@given(st.text(max_size=300))
def test_spans_are_in_order_apart_and_within_any_text(text: str) -> None:
    spans = find_identifiers(text)
    ends = [0, *(span.end for span in spans)]
    assert all(end <= span.start < span.end <= len(text) for end, span in zip(ends, spans, strict=False))


def test_a_hostile_text_takes_no_more_than_a_moment() -> None:
    for text in ("A" * 200_000, "Dr. " * 50_000, "1." * 100_000, "a@" * 100_000, "Aa " * 60_000):
        deidentify(text)


@pytest.mark.real_data
def test_reports_that_were_deidentified_already_lose_next_to_nothing(data: Path) -> None:
    studies = [s for s in open_source(f"openi:{data}/openi").studies(lambda _: None) if s.report]
    touched = sum(deidentify_study(study) is not study for study in studies)
    assert len(studies) > 3_000
    assert touched <= 3


def test_the_listing_names_kind_text_and_surroundings(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('study_id,report\n1,"Discussed with Dr. Smith. Clear lungs."\n2,Normal heart.\n')
    ran = CliRunner().invoke(corpus, ["deidentify", f"manifest:{table}", "--json"])
    result = json.loads(ran.stdout)
    jsonschema.validate(result, json.loads(SCHEMA.read_text()))
    assert (result["reports"], result["touched"]) == (2, 1)
    assert result["taken"][0]["text"] == "Smith"
    assert "[Smith]" in CliRunner().invoke(corpus, ["deidentify", f"manifest:{table}"]).stdout
