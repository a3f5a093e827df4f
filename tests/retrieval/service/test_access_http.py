"""Access over HTTP: tokens, roles, sessions and proxies; and the audit, written before an answer leaves."""

import hmac
import threading
import time
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from corpus.settings import settings
from indexer.catalog.jobs import Job
from retrieval.service.access import Role
from retrieval.service.middleware import RateLimit
from retrieval.service.openapi import openapi
from retrieval.service.state import State
from tests.retrieval.service.conftest import signed_in
from tests.waiting import DEADLINE_SECONDS

OPEN = {("get", "/healthz"), ("get", "/readyz"), ("post", "/v1/session")}
HERE = {"Sec-Fetch-Site": "same-origin"}


def test_without_a_token_only_health_answers(anonymous: TestClient) -> None:
    for path, methods in openapi(anonymous.app)["paths"].items():  # type: ignore[arg-type]
        address = path
        for name in ("case_id", "image_id", "job_id"):
            address = address.replace(f"{{{name}}}", "0" * 32)
        for method in methods:
            if (method, path) not in OPEN:
                answer = anonymous.request(method, address)
                assert answer.status_code == 401, f"{method} {path}"
                assert answer.json()["detail"] == "Sign in first."
    assert anonymous.get("/healthz").status_code == 200
    assert anonymous.get("/readyz").json()["ready"]


def test_a_reader_may_not_index_and_an_indexer_may(anonymous: TestClient, state: State) -> None:
    body = {"kind": "index-verify"}
    refused = anonymous.post("/v1/jobs", json=body, headers=signed_in(state, Role.READER))
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:similarity:not-allowed")
    begun = anonymous.post("/v1/jobs", json=body, headers=signed_in(state, Role.INDEXER))
    assert begun.status_code == 202
    state.jobs.cancel(begun.json()["id"])


@pytest.mark.parametrize("spoiled", ["revoked", "expired", "wrong", "cut", "another's"])
def test_a_token_that_does_not_work_opens_nothing(anonymous: TestClient, state: State, spoiled: str) -> None:
    token, text = state.tokens.create(Role.READER, "leaver", days=1e-9 if spoiled == "expired" else None)
    other = state.tokens.create(Role.READER, "other")[1]
    if spoiled == "revoked":
        state.tokens.revoke(token.token_id)
    text = {
        "wrong": text[:-1] + ("A" if text[-1] != "A" else "B"),
        "cut": text[:12],
        "another's": text.rpartition("_")[0] + "_" + other.split("_", 2)[2],
    }.get(spoiled, text)
    answer = anonymous.get("/v1/session", headers={"Authorization": f"Bearer {text}"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "wrong, expired or revoked" in answer.json()["detail"]


def test_guessing_tokens_is_rate_limited_and_valid_tokens_are_not(
    anonymous: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "failures", RateLimit(30))
    guesses = [anonymous.get("/v1/session", headers={"Authorization": "Bearer sim_x_y"}) for _ in range(8)]
    assert [answer.status_code for answer in guesses][-1] == 429
    assert anonymous.get("/v1/session", headers=signed_in(state, Role.READER)).status_code == 200


def test_an_ended_session_is_no_guess_however_many_thumbnails_use_it(
    anonymous: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "failures", RateLimit(30))
    browser = TestClient(anonymous.app, headers=HERE, cookies={"similarity_session": "ended"})
    answers = [browser.get(f"/v1/thumbnails/{'0' * 32}") for _ in range(12)]
    assert {answer.status_code for answer in answers} == {401}
    _, text = state.tokens.create(Role.READER, "a radiologist")
    assert browser.post("/v1/session", json={"token": text}).status_code == 201


def test_a_body_is_bounded_also_without_a_token(
    anonymous: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings(), "upload_bytes", 1_000)
    answer = anonymous.post("/v1/session", json={"token": "x" * 2_000})
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:similarity:too-large")


def test_secrets_are_stored_as_hashes_only(state: State) -> None:
    _, text = state.tokens.create(Role.READER, "a reader")
    cookie = state.tokens.open_session(state.tokens.all()[0].token_id, 1)
    stored = state.home.folder.joinpath("catalog.sqlite").read_bytes()
    stored += state.home.folder.joinpath("catalog.sqlite-wal").read_bytes()
    for secret in (text.split("_", 2)[2], cookie):
        assert secret.encode() not in stored


def test_a_browser_signs_in_once_and_its_session_ends_with_its_token(
    anonymous: TestClient, state: State
) -> None:
    token, text = state.tokens.create(Role.READER, "a radiologist")
    browser = TestClient(anonymous.app, headers=HERE)
    signed = browser.post("/v1/session", json={"token": text})
    assert signed.status_code == 201
    attributes = signed.headers["set-cookie"].lower()
    assert "httponly" in attributes
    assert "samesite=strict" in attributes
    assert text not in attributes
    assert browser.get("/v1/session").json() == {"name": "a radiologist", "role": "reader", "via": "session"}
    assert browser.post("/v1/search", json={"text": "edema", "k": 1}).status_code == 200
    second = TestClient(anonymous.app, headers=HERE)  # two tabs, two windows: each session is its own
    second.post("/v1/session", json={"token": text})
    assert browser.delete("/v1/session").status_code == 204
    assert browser.get("/v1/session").status_code == 401
    assert second.get("/v1/session").status_code == 200
    state.tokens.revoke(token.token_id)
    assert second.get("/v1/session").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {},
    ],
    ids=str,
)
def test_another_site_cannot_use_a_browsers_session(
    anonymous: TestClient, state: State, headers: dict[str, str]
) -> None:
    _, text = state.tokens.create(Role.READER, "a radiologist")
    browser = TestClient(anonymous.app)
    browser.post("/v1/session", json={"token": text}, headers=HERE)
    answer = browser.post("/v1/search", json={"text": "edema"}, headers=headers)
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:similarity:other-site")


def signature(secret: bytes, *parts: str) -> str:
    return hmac.digest(secret, "\n".join(parts).encode(), "sha256").hex()


def test_only_a_trusted_proxy_names_the_user(
    anonymous: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_PROXY_SECRET", "between us")
    settings.cache_clear()

    def named(secret: bytes, path: str = "/v1/session", role: str = "reader", old: int = 0) -> Any:
        moment = str(int(time.time()) - old)
        headers = {
            "X-Similarity-User": "dr-a",
            "X-Similarity-Role": role,
            "X-Similarity-Time": moment,
            "X-Similarity-Signature": signature(secret, "GET", path, "dr-a", "reader", moment),
        }
        return anonymous.get("/v1/session", headers=headers)

    try:
        assert named(b"between us").json() == {"name": "dr-a", "role": "reader", "via": "proxy"}
        assert named(b"guessed").status_code == 401
        assert named(b"between us", role="admin").status_code == 401
        assert named(b"between us", path="/v1/jobs").status_code == 401
        assert named(b"between us", old=3_600).status_code == 401
    finally:
        monkeypatch.delenv("SIMILARITY_PROXY_SECRET")
        settings.cache_clear()
    assert named(b"between us").status_code == 401, "no proxy is trusted where none is set up"


def test_every_access_is_in_the_audit_before_the_answer_leaves(anonymous: TestClient, state: State) -> None:
    who = signed_in(state, Role.READER, "looker")
    found = anonymous.post("/v1/search", json={"text": "effusion", "k": 2}, headers=who).json()["hits"]
    anonymous.get(f"/v1/cases/{found[0]['id']}", headers=who)
    anonymous.get(f"/v1/images/{found[0]['image']}", headers=who)
    exported = {"cases": [{"id": found[1]["id"], "note": "=cmd()"}]}
    listed = anonymous.post("/v1/exports/list", json=exported, headers=who)
    assert "'=cmd()" in listed.text, "a spreadsheet runs nothing"
    entries = state.audit.read(actor="looker")
    assert [entry.action for entry in entries] == ["export", "view", "view", "search"]
    assert set(entries[-1].studies) == {hit["study_id"] for hit in found}
    assert entries[-1].detail["text"] == "effusion"
    shown = state.audit.read(study_key=found[0]["id"], actor="looker")
    assert [entry.action for entry in shown] == ["view", "view", "search"]


def test_the_audit_is_append_only(anonymous: TestClient, state: State) -> None:
    anonymous.post("/v1/search", json={"text": "effusion", "k": 1}, headers=signed_in(state, Role.READER))
    for statement in ("UPDATE audit SET actor = 'other'", "DELETE FROM audit", "DELETE FROM audit_study"):
        with (
            pytest.raises(sa.exc.DBAPIError, match="added to only"),
            state.catalog.engine.begin() as connection,
        ):
            connection.execute(sa.text(statement))


def test_a_request_that_the_audit_cannot_record_is_not_answered(
    anonymous: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = signed_in(state, Role.READER)
    found = anonymous.post("/v1/search", json={"text": "effusion", "k": 1}, headers=who).json()["hits"][0]

    def down(*_: object, **__: object) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("no connection"))

    monkeypatch.setattr(state.audit, "write", down)
    for answer in (
        anonymous.post("/v1/search", json={"text": "effusion"}, headers=who),
        anonymous.get(f"/v1/cases/{found['id']}", headers=who),
        anonymous.get(f"/v1/images/{found['image']}", headers=who),
    ):
        assert answer.status_code == 503
        assert answer.json()["type"] == "urn:similarity:database-down"
        assert found["study_id"] not in answer.text


def test_a_revoked_token_ends_its_stream(
    anonymous: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = state.jobs.queue("index-add", {"source": "phantom:9@9"}, "tests")
    token, text = state.tokens.create(Role.READER, "leaver")
    calls, progressed, get = 0, threading.Event(), state.jobs.get

    def watched(job_id: str) -> Job | None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first checks that the job exists
            progressed.set()
        return get(job_id)

    def revoke() -> None:
        progressed.wait(DEADLINE_SECONDS)
        state.tokens.revoke(token.token_id)

    monkeypatch.setattr(state.jobs, "get", watched)
    revoking = threading.Thread(target=revoke)
    revoking.start()
    path = f"/v1/jobs/{job.job_id}/events"
    with (
        state.home.lock(name="writer"),  # the job waits for another writer
        anonymous.stream("GET", path, headers={"Authorization": f"Bearer {text}"}) as stream,
    ):
        lines = list(stream.iter_lines())
    revoking.join()
    state.jobs.cancel(job.job_id)
    assert lines[0] == "event: progress"
    assert lines[-3:-1] == ["event: problem", 'data: {"detail": "The token no longer works."}']


def test_too_many_requests_are_refused_with_retry_after(
    anonymous: TestClient, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "limit", RateLimit(6))
    busy, other = signed_in(state, Role.READER), signed_in(state, Role.READER)
    answers = [anonymous.get("/v1/session", headers=busy) for _ in range(8)]
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert anonymous.get("/v1/session", headers=other).status_code == 200


def test_every_answer_has_the_security_headers(anonymous: TestClient) -> None:
    for path in ("/", "/healthz", "/v1/search", "/nowhere"):
        headers = anonymous.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert len(headers["x-request-id"]) == 32


@pytest.mark.parametrize("path", ["/web/../service/app.py", "/web/..%2f__init__.py", "/web/__init__.py"])
def test_only_files_of_the_page_are_served(anonymous: TestClient, path: str) -> None:
    assert anonymous.get(path).status_code == 404
