"""Malformed and hostile requests: each is answered with one clear sentence."""

import io
import json
import shutil
import threading
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from corpus.errors import HomeError, UnreadableImage
from corpus.settings import settings
from retrieval.service.access import Role
from retrieval.service.app import create_app
from retrieval.service.decode_pool import ImagePool, Window
from retrieval.service.state import State
from tests.retrieval.service.conftest import signed_in
from tests.retrieval.service.test_search_http import png_file, search
from tests.waiting import eventually


def problem(answer: Any, status: int) -> str:
    """Check a problem document; returns its sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert set(document) == {"type", "title", "status", "detail", "request_id"}
    assert document["detail"][-1] in ".`" or " " in document["detail"]
    return str(document["detail"])


def send(client: TestClient, content: bytes, query: str = "{}") -> Any:
    return client.post("/v1/search", files={"image": ("f", content, "image/png")}, data={"query": query})


def huge_png(width: int, height: int) -> bytes:
    """A grey PNG of that many pixels in a few hundred kilobytes."""
    written = io.BytesIO()
    Image.new("L", (16, 16), 7).save(written, "PNG")
    small = written.getvalue()
    header = small[:16] + width.to_bytes(4, "big") + height.to_bytes(4, "big") + small[24:29]
    header += zlib.crc32(header[12:29]).to_bytes(4, "big")
    rows = zlib.compress((b"\0" + b"\7" * width) * 64, 9)
    body = len(rows).to_bytes(4, "big") + b"IDAT" + rows
    return header + body + zlib.crc32(body[4:]).to_bytes(4, "big") + small[-12:]


def test_a_paste_of_200_megapixels_is_refused_unread(reader: TestClient) -> None:
    detail = problem(send(reader, huge_png(20_000, 10_000)), 422)
    assert "60,000,000" in detail


def test_a_dicom_with_an_embedded_document_is_refused(reader: TestClient) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.104.1"  # Encapsulated PDF
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    document.SOPClassUID, document.Modality = meta.MediaStorageSOPClassUID, "DOC"
    document.EncapsulatedDocument = b"%PDF-1.7 <script>alert(1)</script>"
    written = io.BytesIO()
    document.save_as(written, enforce_file_format=True)
    detail = problem(send(reader, written.getvalue()), 422)
    assert "script" not in detail
    assert "the image" in detail


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is text"),
        (b"GIF89a" + b"\0" * 50, "a GIF "),
        (b"%PDF-1.7", "a PDF document"),
        (b"<svg onload=alert(1)>", "a web page or XML"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "broken or truncated PNG"),
    ],
    ids=lambda value: value[:8].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_a_file_that_is_no_radiograph_is_identified(reader: TestClient, content: bytes, says: str) -> None:
    assert says in problem(send(reader, content), 422)


def test_a_request_that_is_too_large_is_refused_before_it_is_read(
    reader: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "upload_bytes", 100_000)
    assert "larger than" in problem(send(reader, b"x" * 200_000), 413)


def test_forms_of_many_parts_and_malformed_bodies_are_refused(reader: TestClient) -> None:
    many = [("image", ("f", b"x", "image/png"))] * 5
    assert "too many parts" in problem(reader.post("/v1/search", files=many), 400)
    assert "not JSON" in problem(send(reader, png_file(), "{broken"), 400)
    text = reader.post("/v1/search", content=b"effusion", headers={"Content-Type": "text/plain"})
    assert "Send application/json" in problem(text, 415)
    deep = b"[" * 100_000
    json_headers = {"Content-Type": "application/json"}
    problem(reader.post("/v1/search", content=deep, headers=json_headers), 400)


@pytest.mark.parametrize(
    "address",
    [
        "/v1/cases/..%2f..%2fetc%2fpasswd",
        "/v1/cases/../../etc/passwd",
        "/v1/images/%2e%2e%2f%2e%2e%2fcatalog.sqlite",
        "/v1/thumbnails/....//....//x",
        "/v1/images/" + "g" * 32,
    ],
)
def test_an_id_is_never_a_path(reader: TestClient, address: str) -> None:
    problem(reader.get(address), 422 if address.endswith("g" * 32) else 404)


def test_a_cursor_of_a_switched_index_is_refused(
    reader: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(reader, text="edema", k=3)
    real = state.index

    def switched() -> Any:
        index = real()
        version = index.active_version

        class Other:
            active_version = type(version)("0" * 64, "other", version.dim, version.folder, "active")

        return Other()

    monkeypatch.setattr(state, "index", switched)
    answer = reader.post("/v1/search", json={"text": "edema", "k": 3, "cursor": first["next"]})
    assert "switched to another encoder meanwhile" in problem(answer, 409)


def test_a_removed_study_is_not_found_from_an_open_tab(reader: TestClient, state: State) -> None:
    hit = search(reader, text="edema", k=1)["hits"][0]
    gone = {"id": "f" * 32, "image": "e" * 32}  # ids after a removal: of nothing
    assert hit["id"] != gone["id"]
    assert "may have been removed" in problem(reader.get(f"/v1/cases/{gone['id']}"), 404)
    assert "may have been removed" in problem(reader.get(f"/v1/thumbnails/{gone['image']}"), 404)
    assert "may have been removed" in problem(reader.post("/v1/search", json={"case": gone["id"]}), 404)
    listed = reader.post("/v1/exports/list", json={"cases": [{"id": gone["id"]}, {"id": hit["id"]}]})
    assert listed.status_code == 200
    assert len(listed.text.strip().splitlines()) == 2


def test_an_image_with_a_missing_file_is_refused_without_the_file_name(
    reader: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = search(reader, text="edema", k=1)["hits"][0]["image"]

    def gone(*_: object) -> None:
        raise UnreadableImage("'name of a patient.png' is not there")

    monkeypatch.setattr(state.image_pool, "render", gone)
    detail = problem(reader.get(f"/v1/images/{image}"), 410)
    assert "missing or broken" in detail
    assert "patient" not in detail


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (sa.exc.OperationalError("SELECT secret", {}, Exception("down")), 503, "database does not answer"),
        (HomeError("the disk of /home/x is full: 3 MB free"), 507, "disk of the service is full"),
        (HomeError("the catalog postgresql://u@h/d cannot be used"), 503, "database does not answer"),
        (ValueError("secret of a patient"), 500, "tell your administrator"),
    ],
    ids=["database", "disk", "catalog", "unforeseen"],
)
def test_an_internal_error_is_reported_without_its_details(
    reader: TestClient,
    state: State,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    says: str,
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(state, "_check_vectors", fails)
    detail = problem(reader.post("/v1/search", json={"text": "edema"}), status)
    assert says in detail
    assert "secret" not in detail
    assert "/home/x" not in detail


def test_on_a_full_disk_a_request_that_the_audit_cannot_record_is_not_answered(
    indexed_home: Path, tmp_path: Path
) -> None:
    """SQLite itself says that it is full: its file may not grow by a page."""
    shutil.copytree(indexed_home, tmp_path / "home", ignore=shutil.ignore_patterns(".owner*"))
    state = State.open(tmp_path / "home")
    try:
        with TestClient(create_app(state), raise_server_exceptions=False) as client:
            client.headers.update(signed_in(state, Role.READER))
            case = client.post("/v1/search", json={"text": "edema", "k": 1}).json()["hits"][0]["id"]
            sa.event.listen(state.catalog.engine, "checkout", _allow_no_more_pages)
            for _ in range(300):
                answer = client.get(f"/v1/cases/{case}")
                if answer.status_code != 200:
                    break
    finally:
        state.close()
    assert "disk of the service is full" in problem(answer, 507)


def _allow_no_more_pages(connection: Any, _record: object, _proxy: object) -> None:
    connection.execute("PRAGMA max_page_count = 1")  # never fewer than there are


def test_an_image_that_takes_too_long_fails_alone() -> None:
    written = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (4_000, 4_000), np.uint8)
    Image.fromarray(pixels).save(written, "PNG", compress_level=0)
    large = written.getvalue()  # surely read in more than no time
    pool = ImagePool(workers=1, seconds=30)
    try:
        pool.decode(png_file(), "warm")
        (before,) = pool.process_ids()
        pool._seconds = 0.0
        with pytest.raises(UnreadableImage, match="was given up"):
            pool.decode(large, "slow")
        pool._seconds = 30
        assert pool.decode(png_file(), "next").pixels.ndim == 2
        (after,) = pool.process_ids()
        assert before != after
        assert not Path(f"/proc/{before}").exists()
    finally:
        pool.close()


def test_a_decode_worker_that_dies_is_replaced() -> None:
    import os
    import signal

    pool = ImagePool(workers=1, seconds=30)
    try:
        pool.decode(png_file(), "warm")
        (worker,) = pool.process_ids()
        os.kill(worker, signal.SIGSTOP)
        tasks = pool._workers._tasks

        def kill_over_it() -> None:
            eventually(lambda: 2 in tasks.values())  # the first was the warm one
            os.kill(worker, signal.SIGKILL)

        threading.Thread(target=kill_over_it).start()
        with pytest.raises(UnreadableImage, match="damaged, or too large"):
            pool.decode(png_file(), "deadly")
        assert pool.render_upload(png_file(), "next", Window()).png.startswith(b"\x89PNG")
    finally:
        pool.close()


def test_mutated_uploads_never_end_the_service(reader: TestClient, state: State) -> None:
    """A few hundred here; `python -m benchmarks.uploads` sends ten thousand and watches the memory."""
    from benchmarks.uploads import mutated, seeds

    rng = np.random.default_rng(5)
    readable = 0
    for number in range(200):
        content = mutated(seeds()[number % len(seeds())], rng)
        answer = reader.post("/v1/previews", files={"image": ("f", content, "image/png")})
        assert answer.status_code in (200, 422), answer.text
        readable += answer.status_code == 200
    assert readable >= 40
    assert json.loads(reader.get("/readyz").text)["ready"]
