"""Every operation of the OpenAPI document, with valid and invalid input: answers conform, none is 5xx."""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from retrieval.service.access import Role
from retrieval.service.middleware import RateLimit
from retrieval.service.openapi import openapi
from retrieval.service.state import State
from tests.retrieval.service.conftest import signed_in
from tests.retrieval.service.test_search_http import png_file, search

EXAMPLES = 6
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
"""A schema cannot express conditions on a whole body ("a phrase or an image"): 422 may answer a valid one."""
CALM = list(HealthCheck)  # a busy machine is slow, not wrong
succeeded: Counter[str] = Counter()


@pytest.fixture(scope="module")
def operations(anonymous: TestClient, state: State) -> dict[str, Any]:
    """Every operation, as schemathesis reads the document."""
    state.limit = RateLimit(10**9)
    schema = schemathesis.openapi.from_dict(openapi(anonymous.app))  # type: ignore[arg-type]
    schema.app = anonymous.app  # requests in this process
    found = (result.ok() for result in schema.get_all_operations())
    return {operation.definition.raw["operationId"]: operation for operation in found}


def test_answers_conform_to_the_document(
    operations: dict[str, Any], anonymous: TestClient, state: State
) -> None:
    headers = signed_in(state, Role.ADMIN)
    for name, operation in operations.items():
        _try(name, operation, headers)
        for job in state.jobs.latest(100):
            state.jobs.cancel(job.job_id)


def _try(name: str, operation: Any, headers: dict[str, str]) -> None:
    @given(operation.as_strategy())
    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=CALM)
    def conforms(case: Any) -> None:
        response = case.call(headers=headers)
        assert response.status_code < 500, response.text
        case.validate_response(response, checks=CHECKS)
        succeeded[name] += response.status_code < 300

    conforms()


def test_every_operation_succeeds_with_existing_ids(admin: TestClient, state: State) -> None:
    """A generator cannot guess ids and images: they are given here; the other operations succeeded above."""
    hit = search(admin, text="effusion", k=1)["hits"][0]
    job = state.jobs.queue("index-verify", {}, "tests")
    state.jobs.cancel(job.job_id)
    _, token = state.tokens.create(Role.READER, "tests")
    files = {"image": ("f", png_file(), "image/png")}
    shown = {"image": hit["image"]}
    requests: dict[str, tuple[str, str, dict[str, Any]]] = {
        "search": ("POST", "/v1/search", {"files": files}),
        "get_case": ("GET", f"/v1/cases/{hit['id']}", {}),
        "get_image": ("GET", f"/v1/images/{hit['image']}", {}),
        "get_thumbnail": ("GET", f"/v1/thumbnails/{hit['image']}", {}),
        "preview": ("POST", "/v1/previews", {"files": files}),
        "draft": ("POST", "/v1/draft", {"json": {**shown, "k": 5}}),
        "export_draft": ("POST", "/v1/exports/draft", {"json": {**shown, "k": 5}}),
        "export_localization": ("POST", "/v1/exports/localization", {"json": {**shown, "phrase": "edema"}}),
        "export_list": ("POST", "/v1/exports/list", {"json": {"cases": [{"id": hit["id"]}]}}),
        "create_job": ("POST", "/v1/jobs", {"json": {"kind": "index-verify"}}),
        "get_job": ("GET", f"/v1/jobs/{job.job_id}", {}),
        "cancel_job": ("DELETE", f"/v1/jobs/{job.job_id}", {}),
        "job_events": ("GET", f"/v1/jobs/{job.job_id}/events", {}),
        "localize": ("POST", "/v1/localize", {"json": {**shown, "phrases": ["edema"], "method": "gradcam"}}),
        "likeness": ("POST", "/v1/likeness", {"json": {**shown, "hit": hit["image"]}}),
        "sign_in": ("POST", "/v1/session", {"json": {"token": token}}),
    }
    described = openapi(admin.app)["paths"]  # type: ignore[arg-type]
    operations = {one["operationId"] for methods in described.values() for one in methods.values()}
    simple = {
        "filter_fields",
        "health",
        "index_status",
        "list_jobs",
        "metrics",
        "readiness",
        "sign_out",
        "who_am_i",
    }
    assert operations == requests.keys() | simple
    for name, (method, path, how) in requests.items():
        answer = admin.request(method, path, **how)
        assert answer.status_code < 300, f"{name}: {answer.text}"
    for running in state.jobs.latest(100):
        state.jobs.cancel(running.job_id)
    for name in simple:
        assert succeeded[name] > 0, name
