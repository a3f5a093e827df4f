"""Localizations exported over HTTP: PNG of any image, DICOM of a DICOM image, each in the audit."""

import io
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from corpus.images.reader import read_image
from retrieval.localize.answer import decode_runs
from retrieval.service.state import State
from tests.corpus.conftest import dicom_of
from tests.retrieval.export.dicom_images import PATIENT
from tests.retrieval.service.test_bad_input import problem
from tests.retrieval.service.test_search_http import png_file

PHRASES = ["infiltration", "hernia", "nodule", "edema"]
METHOD = "gradcam"


@pytest.fixture(scope="module")
def dicom_file() -> bytes:
    """A phantom as a DICOM file of a patient."""
    pixels = np.rint(read_image("phantom://6/0") * 4095).astype(np.uint16)
    written = io.BytesIO()
    dataset = dicom_of(pixels, **{**PATIENT, "BitsStored": 12, "PixelSpacing": [0.5, 0.5]})
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


@pytest.fixture(scope="module")
def located(reader: TestClient, dicom_file: bytes) -> dict[str, dict[str, Any]]:
    """Phrase → localization in that file; some have a mask and some have none."""
    query = f'{{"phrases": {PHRASES}, "method": "{METHOD}"}}'.replace("'", '"')
    answer = reader.post("/v1/localize", files=_sent(dicom_file), data={"query": query})
    assert answer.status_code == 200, answer.text
    return {one["phrase"]: one for one in answer.json()["localizations"]}


@pytest.fixture(scope="module")
def shown(located: dict[str, dict[str, Any]]) -> str:
    return next(phrase for phrase, one in located.items() if one["mask"])


def _sent(content: bytes) -> dict[str, tuple[str, bytes, str]]:
    return {"image": ("name of a patient.dcm", content, "application/octet-stream")}


def export(client: TestClient, content: bytes, phrase: str, form: str) -> Any:
    query = f'{{"phrase": "{phrase}", "method": "{METHOD}", "form": "{form}"}}'
    return client.post("/v1/exports/localization", files=_sent(content), data={"query": query})


def test_a_dicom_segmentation_refers_to_the_uploaded_image(
    reader: TestClient, dicom_file: bytes, located: dict[str, dict[str, Any]], shown: str, tmp_path: Path
) -> None:
    assert located[shown]["forms"] == ["overlay", "mask", "dicom_seg", "secondary_capture"]
    answer = export(reader, dicom_file, shown, "dicom_seg")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom"
    assert 'filename="seg.dcm"' in answer.headers["content-disposition"]
    (tmp_path / "seg.dcm").write_bytes(answer.content)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    source = pydicom.dcmread(io.BytesIO(dicom_file))
    pixels = seg.get_pixels_by_source_instance([source.SOPInstanceUID])
    assert (pixels[0, ..., 0] == decode_runs(located[shown]["mask"])).all()
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert str(seg.PatientName) == PATIENT["PatientName"]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == [shown]


def test_the_overlay_is_exported_as_a_secondary_capture_in_the_same_study(
    reader: TestClient, dicom_file: bytes, shown: str
) -> None:
    answer = export(reader, dicom_file, shown, "secondary_capture")
    assert answer.status_code == 200, answer.text
    capture = pydicom.dcmread(io.BytesIO(answer.content))
    assert capture.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert capture.StudyInstanceUID == PATIENT["StudyInstanceUID"]
    assert "Not for diagnosis" in capture.ImageComments


def test_mask_and_overlay_are_png_of_any_image_and_in_the_audit(
    reader: TestClient, state: State, located: dict[str, dict[str, Any]], shown: str
) -> None:
    mask = export(reader, png_file(), shown, "mask")
    assert mask.status_code == 200, mask.text
    assert (
        np.asarray(Image.open(io.BytesIO(mask.content))).astype(bool) == decode_runs(located[shown]["mask"])
    ).all()
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point.hex
    body = {"image": image, "phrase": shown, "method": METHOD}
    overlay = reader.post("/v1/exports/localization", json=body)
    assert overlay.status_code == 200, overlay.text
    assert overlay.headers["content-type"] == "image/png"
    assert min(Image.open(io.BytesIO(overlay.content)).size) >= 480
    entry = state.audit.read(action="export", limit=1)[0]
    assert entry.studies == ("phantom:5-3",)
    assert entry.detail == {"what": "localization", "phrase": shown, "method": METHOD, "form": "overlay"}


def test_without_a_mask_only_the_overlay_is_exported(
    reader: TestClient, dicom_file: bytes, located: dict[str, dict[str, Any]]
) -> None:
    refused = next(one for one in located.values() if not one["mask"])
    assert refused["forms"] == ["overlay"]
    for form in ("mask", "dicom_seg", "secondary_capture"):
        detail = problem(export(reader, dicom_file, refused["phrase"], form), 422)
        assert detail.endswith(refused["reason"])
    assert export(reader, dicom_file, refused["phrase"], "overlay").status_code == 200


def test_dicom_is_made_of_dicom_only_and_its_refusal_names_no_patient(
    reader: TestClient, state: State, shown: str, tmp_path: Path
) -> None:
    detail = problem(export(reader, png_file(), shown, "dicom_seg"), 422)
    assert "DICOM" in detail
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point.hex
    body = {"image": image, "phrase": shown, "method": METHOD, "form": "dicom_seg"}
    detail = problem(reader.post("/v1/exports/localization", json=body), 422)
    assert "phantom://" not in detail
    bare = dicom_of(np.arange(4096, dtype=np.uint16).reshape(64, 64), StudyInstanceUID=None)
    written = io.BytesIO()
    bare.save_as(written, enforce_file_format=True)
    detail = problem(export(reader, written.getvalue(), shown, "dicom_seg"), 422)
    assert "no valid StudyInstanceUID" in detail


def test_an_image_that_changed_since_it_was_indexed_is_refused(
    reader: TestClient, state: State, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point.hex
    other = state.image_pool.read("phantom://5/4")
    monkeypatch.setattr(state.image_pool, "read", lambda _: other)
    answer = reader.post("/v1/exports/localization", json={"image": image, "phrase": shown})
    assert "has changed since it was indexed" in problem(answer, 409)


def test_answers_have_the_pixel_spacing_and_the_notes_of_an_uploaded_image(
    reader: TestClient, located: dict[str, dict[str, Any]]
) -> None:
    assert all(one["pixel_spacing_mm"] == [0.5, 0.5] for one in located.values())
    assert all(one["spacing_source"] == "patient" for one in located.values())
    pixels = np.rint(read_image("phantom://6/0") * 4095).astype(np.uint16)
    written = io.BytesIO()
    useless = {"WindowCenter": 32768, "WindowWidth": 65536, "BitsStored": 12}
    dicom_of(pixels, **{**PATIENT, **useless}).save_as(written, enforce_file_format=True)
    sent = _sent(written.getvalue())
    requests = (("/v1/search", '{"for": "images", "k": 1}'), ("/v1/localize", '{"phrases": ["nodule"]}'))
    for path, query in requests:
        answer = reader.post(path, files=sent, data={"query": query})
        assert answer.status_code == 200, answer.text
        [note] = answer.json()["notes"]
        assert "window of centre 32768" in note
        assert "name of a patient" not in note
