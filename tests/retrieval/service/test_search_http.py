"""Search over HTTP: every kind of query, the contract's answer without paths, pages, and refusals."""

import io
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from corpus.images.reader import read_image
from retrieval.service.state import State


def png_file(location: str = "phantom://6/0") -> bytes:
    """Return an image as a PNG file."""
    written = io.BytesIO()
    Image.fromarray(np.rint(read_image(location) * 65535).astype(np.uint16)).save(written, "PNG")
    return written.getvalue()


def search(client: TestClient, **query: Any) -> dict[str, Any]:
    answer = client.post("/v1/search", json=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.mark.parametrize("target", ["images", "reports", "cases"])
def test_a_phrase_finds_cases_with_images_to_fetch(reader: TestClient, target: str) -> None:
    answer = search(reader, **{"text": "right pleural effusion", "for": target, "k": 4})
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3, 4]
    hit = answer["hits"][0]
    assert "path" not in hit
    assert "phantom://" not in json.dumps(answer)
    assert (hit["language"], hit["findings_read"], answer["findings_unread"]) == ("en", True, 0)
    assert reader.get("/v1/index").json()["reports"] == {"by_language": {"en": 24}, "findings_unread": 0}
    thumbnail = reader.get(f"/v1/thumbnails/{hit['image']}")
    assert thumbnail.headers["content-type"] == "image/png"
    assert max(Image.open(io.BytesIO(thumbnail.content)).size) <= 256
    assert thumbnail.headers["cache-control"] == "no-store"


def test_an_uploaded_image_finds_what_the_same_image_of_the_index_finds(
    reader: TestClient, state: State
) -> None:
    item = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0]
    query = json.dumps({"for": "images", "k": 5})
    files = {"image": ("name of a patient.png", png_file("phantom://5/3"), "image/png")}
    sent = reader.post("/v1/search", files=files, data={"query": query})
    assert sent.status_code == 200, sent.text
    named = search(reader, image=item.point.hex, **{"for": "images", "k": 5})
    assert [h["id"] for h in sent.json()["hits"]] == [h["id"] for h in named["hits"]]
    assert [own["study_id"] for own in sent.json()["own_studies"]] == ["phantom:5-3"]
    assert "name of a patient" not in sent.text


def test_a_case_is_named_by_its_opaque_id_or_its_study_id(reader: TestClient) -> None:
    named = search(reader, case="phantom:5-3", k=3)
    opaque = named["own_studies"][0]["id"]
    assert [h["id"] for h in search(reader, case=opaque, k=3)["hits"]] == [h["id"] for h in named["hits"]]


def test_pages_follow_each_other_without_gap_or_repeat(reader: TestClient) -> None:
    whole = search(reader, text="cardiomegaly", k=20)
    first = search(reader, text="cardiomegaly", k=8)
    second = search(reader, text="cardiomegaly", k=12, cursor=first["next"])
    assert [h["id"] for h in first["hits"] + second["hits"]] == [h["id"] for h in whole["hits"]]
    assert [h["rank"] for h in second["hits"]] == list(range(9, 21))
    assert search(reader, text="cardiomegaly", k=100)["next"] is None


def test_times_are_given_on_request_only(reader: TestClient) -> None:
    assert search(reader, text="edema")["took_ms"] is None
    assert search(reader, text="edema", timings=True)["took_ms"]["total"] > 0


def test_examples_and_findings_are_parts_of_a_query(reader: TestClient) -> None:
    near, far = (hit["id"] for hit in search(reader, text="cardiomegaly", k=2)["hits"])
    liked = search(reader, like=[near], dislike=[far], k=5)
    assert not {near, far} & {hit["id"] for hit in liked["hits"]}
    found = search(reader, finding="cardiomegaly", k=5)
    assert all("cardiomegaly" in hit["findings"]["present"] for hit in found["hits"])


def test_a_region_of_an_image_finds_images_with_a_similar_region(reader: TestClient, state: State) -> None:
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point.hex
    box = [64, 64, 192, 192]
    named = search(reader, image=image, region=box, **{"for": "images", "k": 5})
    query = json.dumps({"region": box, "for": "images", "k": 5})
    files = {"image": ("f", png_file("phantom://5/3"), "image/png")}
    sent = reader.post("/v1/search", files=files, data={"query": query})
    assert sent.status_code == 200, sent.text
    assert [hit["id"] for hit in sent.json()["hits"]] == [hit["id"] for hit in named["hits"]]
    assert "phantom:5-3" not in [hit["study_id"] for hit in named["hits"]]
    for hit in named["hits"]:
        (region,) = (entry for entry in hit["evidence"] if entry["kind"] == "region")
        shape = read_image(f"phantom://{hit['study_id'].removeprefix('phantom:').replace('-', '/')}").shape
        assert 0 <= region["box"]["left"] < region["box"]["right"] <= shape[1]
        assert 0 <= region["box"]["top"] < region["box"]["bottom"] <= shape[0]
        assert region["image"] == hit["image"]
    outside = reader.post("/v1/search", json={"image": image, "region": [5_000, 5_000, 6_000, 6_000]})
    assert outside.status_code == 422


@pytest.mark.parametrize(
    ("query", "status", "says"),
    [
        ({}, 422, "needs an image, a text, a case"),
        ({"text": "effusion and no effusion"}, 422, "denies it"),
        ({"text": "x", "where": "sxe=F"}, 422, "the nearest is 'sex'"),
        ({"text": "x", "k": 0}, 422, "k: "),
        ({"text": "x", "path": "/etc/passwd"}, 422, "path: Extra inputs"),
        ({"case": "../../etc/passwd"}, 404, "no such case"),
        ({"image": "../../etc/passwd"}, 422, "image: "),
        ({"image": "0" * 32}, 404, "no such image"),
        ({"text": "x", "cursor": "AAAA"}, 422, "cursor is invalid"),
        ({"text": "x", "like": ["/etc/passwd"]}, 404, "no such case"),
        ({"image": "https://example.org/film.png"}, 422, "image: "),
    ],
)
def test_an_invalid_query_is_refused_in_a_sentence(
    reader: TestClient, query: dict[str, Any], status: int, says: str
) -> None:
    answer = reader.post("/v1/search", json=query)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_a_cursor_of_another_query_is_refused(reader: TestClient) -> None:
    cursor = search(reader, text="edema", k=3)["next"]
    answer = reader.post("/v1/search", json={"text": "nodule", "k": 3, "cursor": cursor})
    assert answer.status_code == 422
    assert "another search" in answer.json()["detail"]


def test_an_image_is_rendered_whole_windowed_and_in_sixteen_bits(reader: TestClient, state: State) -> None:
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point.hex
    pixels = read_image("phantom://5/3")

    def shown(**how: float) -> Any:
        answer = reader.get(f"/v1/images/{image}", params=how)
        assert answer.status_code == 200, answer.text
        assert int(answer.headers["x-image-height"]) == pixels.shape[0]
        return np.asarray(Image.open(io.BytesIO(answer.content)))

    assert np.abs(shown() - pixels * 255).max() <= 0.51
    assert np.abs(shown(depth=16) - pixels * 65535).max() <= 0.51
    windowed = np.clip((pixels - 0.25) / 0.5, 0, 1) * 255
    assert np.abs(shown(low=0.25, high=0.75) - windowed).max() <= 0.51
    assert max(shown(longest=64).shape) == 64


def test_a_case_has_its_report_and_its_images(reader: TestClient) -> None:
    found = search(reader, text="effusion", k=1)["hits"][0]
    case = reader.get(f"/v1/cases/{found['id']}").json()
    assert case["study_id"] == found["study_id"]
    assert case["report"]
    assert case["images"] == found["images"]


def test_a_preview_renders_an_uploaded_image(reader: TestClient) -> None:
    answer = reader.post("/v1/previews", files={"image": ("x", png_file(), "application/octet-stream")})
    assert answer.status_code == 200, answer.text
    assert np.asarray(Image.open(io.BytesIO(answer.content))).shape == read_image("phantom://6/0").shape
