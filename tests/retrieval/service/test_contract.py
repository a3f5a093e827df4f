"""The interface is the one that is kept in the repository."""

from pathlib import Path

from retrieval.service.openapi import document

KEPT = Path(__file__).resolve().parents[3] / "docs" / "contracts" / "openapi.json"


def test_the_openapi_document_is_the_one_that_is_kept() -> None:
    """Where this fails on purpose: python -m retrieval.service.openapi > docs/contracts/openapi.json."""
    assert document() == KEPT.read_text("utf-8")
