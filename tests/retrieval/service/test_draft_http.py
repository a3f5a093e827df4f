"""Drafts over HTTP: the JSON of the command with ids of cases; and as text, marked as a draft."""

import json
from pathlib import Path

import jsonschema
from fastapi.testclient import TestClient

from retrieval.service.state import State
from tests.retrieval.service.test_search_http import png_file

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "contracts" / "draft.schema.json"


def test_a_draft_is_the_json_of_the_command_and_in_the_audit(reader: TestClient, state: State) -> None:
    files = {"image": ("f", png_file(), "image/png")}
    answer = reader.post("/v1/draft", files=files, data={"query": json.dumps({"k": 8})})
    assert answer.status_code == 200, answer.text
    draft = answer.json()
    assert draft["text"].startswith("DRAFT – not read")
    sources = [source for sentence in draft["sentences"] for source in sentence["sources"]]
    assert all(reader.get(f"/v1/cases/{source['id']}").status_code == 200 for source in sources[:2])
    for source in sources:
        source.pop("id")
    draft.pop("text")
    draft["query"] = {"image": "the image", "k": 8, "where": None}
    jsonschema.validate(draft, json.loads(SCHEMA.read_text()))
    assert state.audit.read(action="draft")


def test_a_draft_is_exported_as_text_and_the_export_is_in_the_audit(reader: TestClient, state: State) -> None:
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point.hex
    answer = reader.post("/v1/exports/draft", json={"image": image, "k": 8})
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("DRAFT – not read")
    assert "attachment" in answer.headers["content-disposition"]
    assert state.audit.read(action="export")[0].detail == {"what": "draft"}


def test_a_draft_is_of_exactly_one_image(reader: TestClient) -> None:
    for body in ({}, {"image": "0" * 32}):
        answer = reader.post("/v1/draft", json=body)
        assert answer.status_code == (404 if body else 422)
