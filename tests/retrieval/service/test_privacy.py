"""Names planted in headers, reports, queries and file names must not be found in texts, logs or payloads."""

import io
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from corpus.sources import open_source
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.vectors.store import VectorStore
from retrieval.service.access import Role
from retrieval.service.app import create_app
from retrieval.service.state import State
from retrieval.service.telemetry import JsonLines
from tests.corpus.conftest import dicom_of
from tests.retrieval.service.conftest import signed_in
from trainer.runtime.encoder import Encoder

NAME, PATIENT, ACCESSION = "Quackenbush", "PAT-774411", "ACC-90210-7"
PLANTED = (NAME, NAME.upper(), PATIENT, ACCESSION, "1960-05-17", "19600517")
REPORT = (
    f"Patient: {NAME}, Ermintrude. MRN {PATIENT}. Born 05/17/1960. Accession {ACCESSION}. "
    f"FINDINGS: Discussed with Dr. {NAME}. A 1.5 x 2.0 cm nodule in the right upper lobe. No effusion."
)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path) -> tuple[Path, bytes]:
    """A home with a patient's radiograph and report in it, and the radiograph's file."""
    folder = tmp_path_factory.mktemp("planted")
    images = folder / f"images of {NAME}"
    images.mkdir()
    pixels = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype(np.uint16)
    dataset = dicom_of(
        pixels,
        PatientName=f"{NAME}^Ermintrude",
        PatientID=PATIENT,
        PatientBirthDate="19600517",
        AccessionNumber=ACCESSION,
        InstitutionName=f"{NAME} Hospital",
        ReferringPhysicianName=f"{NAME}^Dr",
        OtherPatientIDs=PATIENT,
        StudyInstanceUID="1.2.826.0.1.77",
        StudyDate="20200301",
    )
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    (images / f"{NAME}.dcm").write_bytes(written.getvalue())
    table = folder / "reports.csv"
    table.write_text(f'accession,report\n{ACCESSION},"{REPORT}"\n')
    source = open_source(f"dicom:{images}", reports=table)
    with Index.open(folder / "home", read_only=False) as index:
        encoder = Encoder.load(encoder_folder, "cpu")
        added = add_source(index, source, encoder, origin="x", folder=str(encoder_folder), workers=1)
        assert (added.embedded["image"], added.embedded["report"]) == (1, 1)
    return folder / "home", written.getvalue()


def test_a_name_is_in_no_text_payload_log_metric_or_address(
    planted: tuple[Path, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    home, content = planted
    caplog.set_level(logging.DEBUG)
    state = State.open(home)
    addresses: list[str] = []
    try:
        with TestClient(create_app(state), raise_server_exceptions=False) as client:
            client.headers.update(signed_in(state, Role.ADMIN))

            def ask(method: str, path: str, **how: object) -> object:
                answer = client.request(method, path, **how)  # type: ignore[arg-type]
                addresses.append(str(answer.url))
                return answer

            files = {"image": (f"{NAME}.dcm", content, "application/dicom")}
            found = client.post("/v1/search", files=files).json()
            assert found["own_studies"], "the study of the same subject is recognised"
            own = found["own_studies"][0]
            ask("POST", "/v1/search", json={"text": f"nodule as in {NAME}"})
            ask("POST", "/v1/search", json={"text": "x", "where": f"{NAME}=1"})
            ask("POST", "/v1/search", json={"case": f"dicom:{NAME}"})
            case = client.get(f"/v1/cases/{own['id']}")
            ask("GET", f"/v1/cases/{own['id']}")
            for image in own["images"]:
                ask("GET", f"/v1/images/{image['id']}")
                ask("GET", f"/v1/thumbnails/{image['id']}")
            ask("GET", f"/v1/{NAME}")
            ask("POST", "/v1/previews", files={"image": (f"{NAME}.png", b"no image", "image/png")})
            metrics = client.get("/metrics").text
        report = " ".join(part["text"] for part in case.json()["report"])
        payloads = _payloads(state.store)
    finally:
        state.close()
    shown = [JsonLines().format(record) for record in caplog.records if record.name.startswith("retrieval")]
    assert shown
    for name in PLANTED:
        assert name not in report
        assert name not in payloads
        assert name not in metrics
        assert not any(name in line for line in shown)
        assert not any(name in address.partition("/v1/")[2] for address in addresses if NAME not in address)
    assert "1.5 x 2.0 cm nodule in the right upper lobe" in report, "the findings stay"


def _payloads(store: VectorStore) -> str:
    """Return the payloads of all vectors."""
    payloads = []
    for collection in store.collections():
        points = store.fetch(collection, list(store.ids(collection)))
        payloads += [json.dumps([str(point.id), dict(point.payload)], default=str) for point in points]
    assert len(payloads) >= 2
    return "\n".join(payloads)


def test_only_the_catalog_stores_a_name_on_the_disk(planted: tuple[Path, bytes]) -> None:
    home, _ = planted
    for file in home.rglob("*"):
        if file.is_file() and not file.name.startswith("catalog.sqlite"):
            content = file.read_bytes()
            assert not any(name.encode() in content for name in PLANTED), file.name


def test_an_unexpected_error_is_logged_with_its_stack_and_without_its_text() -> None:
    try:
        raise ValueError(f"could not read {NAME}")
    except ValueError as error:
        record = logging.LogRecord("retrieval", logging.ERROR, "", 0, "a request failed", (), None)
        record.exc_info = (ValueError, error, error.__traceback__)
    line = json.loads(JsonLines().format(record))
    assert line["error"] == "ValueError"
    assert "test_privacy" in line["at"][-1]
    assert NAME not in json.dumps(line)


def test_a_removed_study_leaves_no_name_in_the_audit(planted: tuple[Path, bytes], tmp_path: Path) -> None:
    home, _ = planted
    state = State.open(home)
    try:
        with TestClient(create_app(state)) as client:
            client.headers.update(signed_in(state, Role.READER, "looker"))
            (study,) = state.catalog.study_ids()
            client.get(f"/v1/cases/{Home.open(home).keyed('study', study)}")
    finally:
        state.close()
    from indexer.ingest.removal import remove_study

    with Index.open(home, read_only=False) as index:
        remove_study(index, study)
    state = State.open(home)
    try:
        (entry,) = state.audit.read(actor="looker")
        assert entry.studies == (state.home.keyed("study", study),)
        assert study not in json.dumps(entry.as_json())
    finally:
        state.close()
