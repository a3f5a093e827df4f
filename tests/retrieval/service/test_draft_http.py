"""Drafts over HTTP: what the command tells, with cases to open; as text, headed as what it is."""

import json
from pathlib import Path

import jsonschema
from fastapi.testclient import TestClient

from retrieval.service.state import State
from tests.retrieval.service.test_search_http import film

SCHEMA = Path(__file__).resolve().parents[3] / "docs" / "contracts" / "draft.schema.json"


def test_a_draft_tells_what_the_command_tells_and_is_on_record(reader: TestClient, state: State) -> None:
    files = {"image": ("f", film(), "image/png")}
    answer = reader.post("/v1/draft", files=files, data={"query": json.dumps({"k": 8})})
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["text"].startswith("DRAFT – not read")
    sources = [source for sentence in told["sentences"] for source in sentence["sources"]]
    assert all(reader.get(f"/v1/cases/{source['id']}").status_code == 200 for source in sources[:2])
    for source in sources:
        source.pop("id")
    told.pop("text")
    told["query"] = {"image": "the picture", "k": 8, "where": None}
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert state.audit.read(action="draft")


def test_a_draft_leaves_as_text_and_its_leaving_is_on_record(reader: TestClient, state: State) -> None:
    image = state.catalog.items_of_studies(["phantom:5-3"])["phantom:5-3"][0].point_id.hex
    answer = reader.post("/v1/exports/draft", json={"image": image, "k": 8})
    assert answer.status_code == 200, answer.text
    assert answer.text.startswith("DRAFT – not read")
    assert "attachment" in answer.headers["content-disposition"]
    assert state.audit.read(action="export")[0].detail == {"what": "draft"}


def test_a_draft_is_of_one_film(reader: TestClient) -> None:
    for asked in ({}, {"image": "0" * 32}):
        answer = reader.post("/v1/draft", json=asked)
        assert answer.status_code == (404 if asked else 422)
