"""Two patients of one id are two subjects in an index, whenever and from wherever they come."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import migrations
from corpus.dicom.header import parse_header
from corpus.records import Problem
from corpus.sources import open_source
from corpus.sources.dicom import patient_of
from corpus.subjects import key_of
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import database_url, make_engine, open_database
from indexer.catalog.models import StudyRow
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.added import Added
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_subject
from indexer.ingest.repair import verify
from indexer.ingest.subject_identity import subjects_of
from indexer.versions import CatalogSource
from retrieval.query.query import Query
from retrieval.search import search
from retrieval.service.decode_pool import ImagePool
from tests.corpus.conftest import dicom_of
from trainer.runtime.encoder import Encoder

NORTH = {"PatientID": "1001", "PatientSex": "M", "PatientBirthDate": "19500102"}
SOUTH = {"PatientID": "1001", "PatientSex": "M", "PatientBirthDate": "19610304"}


def radiograph(path: Path, seed: int, **elements: Any) -> Path:
    """A radiograph that no other seed gives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 4096, (40, 40)).astype(np.uint16)
    dicom_of(pixels, **elements).save_as(path, enforce_file_format=True)
    return path


def add(folder: Path, encoder: Encoder, home: Path | None = None) -> Added:
    source = open_source(f"dicom:{folder}")
    with Index.open(home, read_only=False) as index:
        return add_source(index, source, encoder, origin=f"dicom:{folder}", folder="anywhere", workers=0)


def subjects() -> dict[str, str]:
    with Index.open() as index:
        studies = index.catalog.studies(index.catalog.study_ids())
        return {study.study_id: study.subject_id for study in studies.values()}


def problems() -> list[Problem]:
    with Index.open() as index:
        return index.catalog.problems()


@pytest.fixture
def sites(tmp_path: Path) -> tuple[Path, Path]:
    """Two folders, each with two studies of its own patient 1001."""
    for number, (name, header) in enumerate({"north": NORTH, "south": SOUTH}.items()):
        for study in (1, 2):
            seed = 10 * number + study
            radiograph(
                tmp_path / name / f"{study}.dcm", seed, StudyInstanceUID=f"1.{number}.{study}", **header
            )
    return tmp_path / "north", tmp_path / "south"


def test_patients_of_one_id_stay_apart_when_two_sites_are_indexed_one_after_the_other(
    database: str, home: Path, sites: tuple[Path, Path], encoder: Encoder
) -> None:
    north, south = sites
    add(north, encoder)
    add(south, encoder)
    found = subjects()
    assert found["dicom:1.0.1"] == found["dicom:1.0.2"] == "dicom:1001"
    assert found["dicom:1.1.1"] == found["dicom:1.1.2"] != "dicom:1001"
    assert key_of(found["dicom:1.1.1"]) == "dicom:1001"
    assert {p.item_id: p.state for p in problems()} == {
        "dicom:1.1.1#subject": "noted",
        "dicom:1.1.2#subject": "noted",
    }
    add(south, encoder)
    assert add(north, encoder).problems["noted"] == 2, "the first patient's studies are noted, too"
    assert subjects() == found, "the same in every run"
    with Index.open(read_only=False) as index:
        removed = remove_subject(index, "dicom:1001")
    assert sorted(removed.studies) == ["dicom:1.0.1", "dicom:1.0.2"]
    assert sorted(subjects()) == ["dicom:1.1.1", "dicom:1.1.2"]


def test_one_run_over_both_sites_keeps_them_apart_and_later_runs_agree(
    home: Path, sites: tuple[Path, Path], encoder: Encoder
) -> None:
    north, south = sites
    add(north.parent, encoder)
    found = subjects()
    assert len(set(found.values())) == 2
    assert found["dicom:1.0.1"] == found["dicom:1.0.2"]
    add(south, encoder)
    add(north, encoder)
    assert subjects() == found


def test_what_a_study_does_not_say_contradicts_nothing_and_decides_nothing(
    home: Path, sites: tuple[Path, Path], tmp_path: Path, encoder: Encoder
) -> None:
    north, south = sites
    add(north, encoder)
    silent = tmp_path / "silent"
    radiograph(silent / "a.dcm", 31, StudyInstanceUID="1.5.1", PatientID="1001")
    add(silent, encoder)
    assert subjects()["dicom:1.5.1"] == "dicom:1001"
    add(south, encoder)
    radiograph(silent / "b.dcm", 32, StudyInstanceUID="1.5.2", PatientID="1001")
    add(silent, encoder)
    assert subjects()["dicom:1.5.1"] == "dicom:1001", "it stays with whom it was"
    assert subjects()["dicom:1.5.2"] == "dicom:1.5.2", "nothing tells which of the two it is"


def test_a_corrected_header_joins_its_patient_again(
    home: Path, sites: tuple[Path, Path], encoder: Encoder
) -> None:
    north, _ = sites
    radiograph(north / "2.dcm", 2, StudyInstanceUID="1.0.2", **{**NORTH, "PatientSex": "F"})
    add(north, encoder)
    assert len(set(subjects().values())) == 2
    radiograph(north / "2.dcm", 2, StudyInstanceUID="1.0.2", **NORTH)
    add(north, encoder)
    assert len(set(subjects().values())) == 1
    assert not problems()


def test_birth_dates_are_nowhere_in_the_home(home: Path, sites: tuple[Path, Path], encoder: Encoder) -> None:
    add(sites[0], encoder)
    with Index.open() as index, index.catalog.engine.connect() as session:
        keys = session.scalars(sa.select(StudyRow.birth_key)).all()
        assert len(set(keys)) == 1, "equal dates of one patient are known to be equal"
        assert index.catalog.studies(["dicom:1.0.1"])["dicom:1.0.1"].birth_date is None
    for path in (path for path in home.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert b"19500102" not in content
        assert b"1950-01-02" not in content


def test_a_second_encoder_changes_nothing_of_who_is_who(
    home: Path, sites: tuple[Path, Path], encoder: Encoder
) -> None:
    add(sites[0], encoder)
    add(sites[1], encoder)
    with Index.open(read_only=False) as index:
        before = index.catalog.studies(index.catalog.study_ids())
        stored = CatalogSource(index.catalog)
        added = add_source(index, stored, encoder, origin="catalog", folder="anywhere", workers=0)
        assert index.catalog.studies(index.catalog.study_ids()) == before
        assert added.unchanged == 4
        assert not any(added.problems.values())
        assert all(study.birth_key for study in before.values())


# queries


@pytest.mark.parametrize(
    ("header", "own"),
    [
        (NORTH, {"dicom:1.0.1", "dicom:1.0.2"}),
        (SOUTH, {"dicom:1.1.1", "dicom:1.1.2"}),
        ({**NORTH, "PatientSex": "F"}, set()),
        ({**NORTH, "IssuerOfPatientID": "EAST"}, {"dicom:1.0.1", "dicom:1.0.2"}),
        ({**NORTH, "IssuerOfPatientID": "EAST", "PatientSex": "F"}, set()),
        ({"PatientID": "1001", "IssuerOfPatientID": "EAST"}, set()),
        ({"PatientID": "1001"}, set()),
        ({"PatientID": "ANON"}, set()),
    ],
)
def test_a_query_finds_the_studies_of_its_own_patient_and_of_no_other(
    home: Path,
    sites: tuple[Path, Path],
    tmp_path: Path,
    encoder: Encoder,
    header: dict[str, str],
    own: set[str],
) -> None:
    add(sites[0], encoder)
    add(sites[1], encoder)
    query = radiograph(tmp_path / "asked.dcm", 99, StudyInstanceUID="1.9", **header)
    with Index.open(encoder=encoder) as index:
        answer = search(index, Query(image=str(query), target="images", k=4))
    assert {case.study_id for case in answer.own_studies} == own
    assert not own & {hit.case.study_id for hit in answer.hits}


def test_a_query_of_another_issuer_does_not_find_the_studies_of_those_who_have_one(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    for number, issuer in enumerate(["SITEA", "SITEB"]):
        name = tmp_path / "films" / f"{issuer}.dcm"
        radiograph(name, number, StudyInstanceUID=f"1.{number}", PatientID="1001", IssuerOfPatientID=issuer)
    radiograph(tmp_path / "films" / "none.dcm", 3, StudyInstanceUID="1.3", PatientID="1001")
    add(tmp_path / "films", encoder)
    query = {"SITEA": {"dicom:SITEA::1001"}, "SITEB": {"dicom:SITEB::1001"}, "EAST": {"dicom:1001"}}
    with Index.open() as index:
        for issuer, own in query.items():
            header = parse_header(_content({"PatientID": "1001", "IssuerOfPatientID": issuer}))
            assert subjects_of(index.catalog, index.home, patient_of(header)) == own


def test_an_uploaded_image_names_the_same_patient(tmp_path: Path) -> None:
    content = radiograph(tmp_path / "a.dcm", 1, **NORTH).read_bytes()
    pool = ImagePool(workers=1, seconds=60)
    try:
        assert pool.decode(content, "an image").patient == patient_of(parse_header(content))
    finally:
        pool.close()


# an index of an earlier version


def test_an_older_catalog_opens_and_finds_its_subjects(
    database: str, home: Path, sites: tuple[Path, Path], encoder: Encoder
) -> None:
    """At the revision before, two patients of one id were one subject."""
    engine = make_engine(database_url(Home.open()))
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        for study, sex in (("dicom:1.1", "F"), ("dicom:1.2", "M")):
            connection.execute(
                sa.text(
                    "INSERT INTO study (study_id, study_key, subject_id, source, sex, findings, attributes, "
                    "content) VALUES (:study, :key, 'dicom:1001', 'dicom', :sex, '{}', '{}', 'c')"
                ),
                {"study": study, "key": Home.open().keyed("study", study), "sex": sex},
            )
    engine.dispose()
    opened = open_database(Home.open())
    catalog = Catalog(opened)
    assert len(catalog.study_ids_of_subject("dicom:1001")) == 2
    for sex in ("F", "M"):
        query = patient_of(parse_header(_content({**NORTH, "PatientSex": sex})))
        assert subjects_of(opened, Home.open(), query) == {"dicom:1001"}
        named = _content({**NORTH, "PatientSex": sex, "IssuerOfPatientID": "NORTH"})
        assert subjects_of(opened, Home.open(), patient_of(parse_header(named))) == {"dicom:1001"}
    opened.dispose()
    with Index.open(read_only=False) as index:
        add_source(index, open_source(f"dicom:{sites[0]}"), encoder, origin="x", folder="anywhere", workers=0)
    assert subjects()["dicom:1.0.1"] != "dicom:1001", "a woman has that id, too"


def _content(elements: dict[str, Any]) -> bytes:
    written = io.BytesIO()
    dicom_of(np.zeros((8, 8), np.uint16), **elements).save_as(written, enforce_file_format=True)
    return written.getvalue()


# one SOPInstanceUID in two runs


def test_an_image_of_another_patients_uid_is_refused(home: Path, tmp_path: Path, encoder: Encoder) -> None:
    radiograph(tmp_path / "one" / "a.dcm", 1, StudyInstanceUID="1.1", SOPInstanceUID="1.9", PatientID="P1")
    radiograph(tmp_path / "two" / "b.dcm", 1, StudyInstanceUID="1.2", SOPInstanceUID="1.9", PatientID="P2")
    radiograph(tmp_path / "two" / "c.dcm", 3, StudyInstanceUID="1.2", PatientID="P2")
    add(tmp_path / "one", encoder)
    for _ in range(2):
        assert add(tmp_path / "two", encoder).problems["failed"] == 1
        with Index.open() as index:
            images = index.catalog.images_of_studies(["dicom:1.1", "dicom:1.2"])
        assert [image.item_id for of in images.values() for image in of] == ["dicom:1.1#a", "dicom:1.2#c"]
    assert ["another patient" in p.reason for p in problems()] == [True]


def test_other_pixels_under_one_uid_are_recorded_and_both_are_indexed(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    radiograph(tmp_path / "one" / "a.dcm", 1, StudyInstanceUID="1.1", SOPInstanceUID="1.9")
    radiograph(tmp_path / "two" / "b.dcm", 2, StudyInstanceUID="1.2", SOPInstanceUID="1.9")
    radiograph(tmp_path / "three" / "c.dcm", 1, StudyInstanceUID="1.3", SOPInstanceUID="1.9")
    add(tmp_path / "one", encoder)
    for _ in range(2):
        counted = add(tmp_path / "two", encoder).problems
        assert counted == {"failed": 0, "skipped": 0, "missing": 0, "noted": 1}, "the same in every run"
    assert [p.item_id for p in problems()] == ["dicom:1.2#b@uid"]
    assert set(subjects()) == {"dicom:1.1", "dicom:1.2"}
    shutil.rmtree(tmp_path / "two")
    with Index.open(read_only=False) as index:
        remove_subject(index, "dicom:P1")
    add(tmp_path / "one", encoder)
    assert not any(add(tmp_path / "three", encoder).problems.values()), (
        "one image in two studies of a patient"
    )


def test_a_study_that_comes_again_as_another_patients_does_not_replace_the_first(
    home: Path, tmp_path: Path, encoder: Encoder
) -> None:
    radiograph(tmp_path / "one" / "a.dcm", 1, PatientID="P1")
    radiograph(tmp_path / "two" / "b.dcm", 2, PatientID="P2")
    add(tmp_path / "one", encoder)
    assert add(tmp_path / "two", encoder).problems["failed"] == 1
    assert subjects() == {"dicom:1.2.3": "dicom:P1"}
    radiograph(tmp_path / "one" / "a.dcm", 1, PatientID="P7")
    assert not any(add(tmp_path / "one", encoder).problems.values())
    assert subjects() == {"dicom:1.2.3": "dicom:P7"}, "the same file, its header corrected"
    shutil.rmtree(tmp_path / "one")
    assert not any(add(tmp_path / "two", encoder).problems.values())
    assert subjects() == {"dicom:1.2.3": "dicom:P2"}, "the files of the first are gone"


def test_no_uid_and_no_birth_date_is_in_what_a_run_says(
    home: Path, sites: tuple[Path, Path], encoder: Encoder
) -> None:
    output = json.dumps(add(sites[0], encoder).as_json()) + repr(problems())
    assert "1001" not in output
    assert "1950" not in output


# reports that come before their images


def add_reports(folder: Path, table: Path, encoder: Encoder) -> Added:
    source = open_source(f"dicom:{folder}", reports=table)
    with Index.open(read_only=False) as index:
        return add_source(index, source, encoder, origin=f"dicom:{folder}", folder="anywhere", workers=0)


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        (",Clear lungs.", ",Clear lungs.", set()),
        ("P1,Clear lungs.", "P1,Clear lungs. Amended.", set()),
        (",Clear lungs.", ",Clear lungs. Amended.", {"dicom:A101"}),
        ("P7,Clear lungs.", "P1,Clear lungs.", {"dicom:A101"}),
    ],
    ids=["same words", "same patient", "maybe of another site", "another patient"],
)
def test_a_report_that_was_alone_is_replaced_by_its_study_when_the_images_come(
    database: str, home: Path, tmp_path: Path, encoder: Encoder, before: str, after: str, left: set[str]
) -> None:
    radiographs, written = tmp_path / "films", tmp_path / "reports.csv"
    radiograph(radiographs / "other.dcm", 1, StudyInstanceUID="1.1", PatientID="P9")
    written.write_text(f"accession,subject_id,report\nA101,{before}\n")
    add_reports(radiographs, written, encoder)
    assert set(subjects()) == {"dicom:1.1", "dicom:A101"}
    radiograph(radiographs / "a.dcm", 2, StudyInstanceUID="1.2", PatientID="P1", AccessionNumber="A100\\A101")
    written.write_text(f"accession,subject_id,report\nA101,{after}\n")
    for _ in range(2):
        added = add_reports(radiographs, written, encoder)
        assert set(subjects()) == {"dicom:1.1", "dicom:1.2"} | left
    assert (added.studies, added.unchanged, added.deleted) == (2, 2, 0)
    with Index.open(read_only=False) as index:
        assert verify(index).as_json()["sound"]
