"""The HTTP models are those of the contracts: the OpenAPI document, and the answer classes of `retrieval`."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from corpus.geometry import Box
from indexer.catalog.studies import Case
from retrieval.answer import Answer, Evidence, Hit, Took
from retrieval.service import schemas
from retrieval.service.openapi import COMPONENT_NAMES, document

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "contracts" / "openapi.json"

BOX = Box(0, 0, 1, 1)
CASE = Case("openi:1", "openi:p", "openi", "a.png", "Clear.", None, {})
EVIDENCE = Evidence("openi:1#a", "region", 0.5, "t", 0.1, ("image",), ("edema",), ("mass",), BOX, "openi:2")
HIT = Hit(1, 0.5, "image", "openi:1#a", CASE, (EVIDENCE,))
ANSWER = Answer({"for": "cases"}, {"name": "x", "fingerprint": "0"}, (HIT,))


def test_the_openapi_document_is_the_one_in_the_contracts() -> None:
    """To change it on purpose: python -m retrieval.service.openapi > docs/contracts/openapi.json."""
    written = document()
    assert written == DOCUMENT.read_text("utf-8")
    assert not [name for name in COMPONENT_NAMES if f'"{name}"' in written]


@pytest.mark.parametrize(
    ("model", "record", "added", "left_out"),
    [
        (schemas.Region, BOX.as_json(), set(), set()),
        (schemas.Took, Took().as_json(), set(), set()),
        (schemas.Evidence, EVIDENCE.as_json(), {"image"}, set()),
        (schemas.CaseSummary, CASE.as_json(), {"id", "images"}, {"path"}),
        (schemas.Hit, HIT.as_json(), {"id", "images", "image"}, {"path"}),
        (schemas.SearchAnswer, ANSWER.as_json(), {"next"}, set()),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_an_http_model_has_the_fields_of_the_answer_class(
    model: type[BaseModel], record: dict[str, Any], added: set[str], left_out: set[str]
) -> None:
    assert set(model.model_fields) == (set(record) - left_out) | added
