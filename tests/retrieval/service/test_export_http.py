"""Where a phrase is, taken away over HTTP: pictures of any film, DICOM of a DICOM film, each on record."""

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
from retrieval.export.rle import decode_runs
from retrieval.service.state import State
from tests.corpus.conftest import dicom_of
from tests.retrieval.export.films import PATIENT
from tests.retrieval.service.test_bad_input import problem
from tests.retrieval.service.test_search_http import film

PHRASES = ["infiltration", "hernia", "nodule", "edema"]
METHOD = "gradcam"


@pytest.fixture(scope="module")
def dicom_film() -> bytes:
    """A phantom as a DICOM film of a patient."""
    pixels = np.rint(read_image("phantom://6/0") * 4095).astype(np.uint16)
    written = io.BytesIO()
    dataset = dicom_of(pixels, **{**PATIENT, "BitsStored": 12, "PixelSpacing": [0.5, 0.5]})
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


@pytest.fixture(scope="module")
def located(reader: TestClient, dicom_film: bytes) -> dict[str, dict[str, Any]]:
    """What the encoder says of the film: phrase → answer; some have a mask and some have none."""
    query = f'{{"phrases": {PHRASES}, "method": "{METHOD}"}}'.replace("'", '"')
    answer = reader.post("/v1/localize", files=_sent(dicom_film), data={"query": query})
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


def test_a_segmentation_reads_back_on_the_film_that_was_sent(
    reader: TestClient, dicom_film: bytes, located: dict[str, dict[str, Any]], shown: str, tmp_path: Path
) -> None:
    assert located[shown]["forms"] == ["overlay", "mask", "dicom_seg", "secondary_capture"]
    answer = export(reader, dicom_film, shown, "dicom_seg")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom"
    assert 'filename="seg.dcm"' in answer.headers["content-disposition"]
    (tmp_path / "seg.dcm").write_bytes(answer.content)
    seg = hd.seg.segread(tmp_path / "seg.dcm")
    source = pydicom.dcmread(io.BytesIO(dicom_film))
    pixels = seg.get_pixels_by_source_instance([source.SOPInstanceUID])
    assert (pixels[0, ..., 0] == decode_runs(located[shown]["mask"])).all()
    assert seg.StudyInstanceUID == source.StudyInstanceUID
    assert str(seg.PatientName) == PATIENT["PatientName"]
    assert [segment.SegmentLabel for segment in seg.SegmentSequence] == [shown]


def test_the_overlay_leaves_as_a_secondary_capture_in_the_films_study(
    reader: TestClient, dicom_film: bytes, shown: str
) -> None:
    answer = export(reader, dicom_film, shown, "secondary_capture")
    assert answer.status_code == 200, answer.text
    capture = pydicom.dcmread(io.BytesIO(answer.content))
    assert capture.SOPClassUID == pydicom.uid.SecondaryCaptureImageStorage
    assert capture.StudyInstanceUID == PATIENT["StudyInstanceUID"]
    assert "Not for diagnosis" in capture.ImageComments


def test_mask_and_overlay_are_pictures_of_any_film_and_on_record(
    reader: TestClient, state: State, located: dict[str, dict[str, Any]], shown: str
) -> None:
    mask = export(reader, film(), shown, "mask")
    assert mask.status_code == 200, mask.text
    assert (
        np.asarray(Image.open(io.BytesIO(mask.content))).astype(bool) == decode_runs(located[shown]["mask"])
    ).all()
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point_id.hex
    asked = {"image": image, "phrase": shown, "method": METHOD}
    overlay = reader.post("/v1/exports/localization", json=asked)
    assert overlay.status_code == 200, overlay.text
    assert overlay.headers["content-type"] == "image/png"
    assert min(Image.open(io.BytesIO(overlay.content)).size) >= 480
    entry = state.audit.read(action="export", limit=1)[0]
    assert entry.studies == ("phantom:5-3",)
    assert entry.detail == {"what": "localization", "phrase": shown, "method": METHOD, "form": "overlay"}


def test_there_is_no_mask_to_save_where_there_is_none(
    reader: TestClient, dicom_film: bytes, located: dict[str, dict[str, Any]]
) -> None:
    refused = next(one for one in located.values() if not one["mask"])
    assert refused["forms"] == ["overlay"]
    for form in ("mask", "dicom_seg", "secondary_capture"):
        told = problem(export(reader, dicom_film, refused["phrase"], form), 422)
        assert told == f"there is no mask to save. {refused['reason']}"
    assert export(reader, dicom_film, refused["phrase"], "overlay").status_code == 200


def test_dicom_is_made_of_dicom_alone_and_its_refusal_names_nobody(
    reader: TestClient, state: State, shown: str, tmp_path: Path
) -> None:
    told = problem(export(reader, film(), shown, "dicom_seg"), 422)
    assert "the picture is no DICOM file" in told
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point_id.hex
    asked = {"image": image, "phrase": shown, "method": METHOD, "form": "dicom_seg"}
    told = problem(reader.post("/v1/exports/localization", json=asked), 422)
    assert "phantom://" not in told
    bare = dicom_of(np.arange(4096, dtype=np.uint16).reshape(64, 64), StudyInstanceUID=None)
    written = io.BytesIO()
    bare.save_as(written, enforce_file_format=True)
    told = problem(export(reader, written.getvalue(), shown, "dicom_seg"), 422)
    assert told == "the picture has no valid StudyInstanceUID, so that nothing can refer to it"


def test_a_film_that_changed_since_it_was_indexed_is_told(
    reader: TestClient, state: State, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point_id.hex
    other = state.pictures.read("phantom://5/4")
    monkeypatch.setattr(state.pictures, "read", lambda _: other)
    answer = reader.post("/v1/exports/localization", json={"image": image, "phrase": shown})
    assert "has changed since it was indexed" in problem(answer, 409)


def test_the_millimetres_and_the_notes_of_a_film_that_is_sent_come_with_its_answers(
    reader: TestClient, located: dict[str, dict[str, Any]]
) -> None:
    assert all(one["pixel_spacing_mm"] == [0.5, 0.5] for one in located.values())
    assert all(one["spacing_source"] == "patient" for one in located.values())
    pixels = np.rint(read_image("phantom://6/0") * 4095).astype(np.uint16)
    written = io.BytesIO()
    useless = {"WindowCenter": 32768, "WindowWidth": 65536, "BitsStored": 12}
    dicom_of(pixels, **{**PATIENT, **useless}).save_as(written, enforce_file_format=True)
    sent = _sent(written.getvalue())
    asked = (("/v1/search", '{"for": "images", "k": 1}'), ("/v1/localize", '{"phrases": ["nodule"]}'))
    for path, query in asked:
        answer = reader.post(path, files=sent, data={"query": query})
        assert answer.status_code == 200, answer.text
        [note] = answer.json()["notes"]
        assert "is shown by the range of its values: its window of centre 32768" in note
        assert "name of a patient" not in note
