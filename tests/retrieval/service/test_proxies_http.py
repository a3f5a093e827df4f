"""Reverse proxies: headers of a trusted one are read, of any other client ignored."""

import pytest
from fastapi.testclient import TestClient
from httpx import Response

from corpus.errors import UsageError
from corpus.settings import settings
from retrieval.service.access import Role
from retrieval.service.app import create_app
from retrieval.service.auth import COOKIE
from retrieval.service.middleware import RateLimit
from retrieval.service.proxies import networks, root_path
from retrieval.service.state import State
from tests.retrieval.service.conftest import signed_in

OUTSIDE = "https://ward.example"
X_FORWARDED = {
    "X-Forwarded-Host": "ward.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-For": "10.9.9.9",
}
FORWARDED = {"Forwarded": 'for="[2001:db8::1]:4711";host="ward.example:443";proto=https'}
PORT = {"X-Forwarded-Host": "ward.example", "X-Forwarded-Port": "443", "X-Forwarded-Proto": "https"}


def through(state: State, peer: str = "127.0.0.1", root: str = "") -> TestClient:
    """Return a client that connects from this address to a service with another host name."""
    app = create_app(state, root)
    return TestClient(app, client=(peer, 4711), base_url="http://127.0.0.1:8642", follow_redirects=False)


def sign_in(client: TestClient, state: State, headers: dict[str, str], below: str = "") -> Response:
    """As a browser signs in that does not say `Sec-Fetch-Site`, as over plain http."""
    token = signed_in(state, Role.READER)["Authorization"].removeprefix("Bearer ")
    sent = {"Origin": OUTSIDE, **headers}
    return client.post(f"{below}/v1/session", json={"token": token}, headers=sent)


@pytest.mark.parametrize("headers", [X_FORWARDED, FORWARDED, PORT], ids=["x", "rfc 7239", "port"])
def test_a_browser_signs_in_through_a_trusted_proxy_that_rewrites_the_host(
    state: State, headers: dict[str, str]
) -> None:
    answer = sign_in(through(state), state, headers)
    assert answer.status_code == 201
    assert "Secure" in answer.headers["set-cookie"], "it came over https"
    assert sign_in(through(state, "::ffff:127.0.0.1"), state, headers).status_code == 201


def test_a_client_cannot_hide_the_headers_of_its_proxy(state: State) -> None:
    """A header of the same beginning that no proxy sends, made up by whoever asks."""
    assert sign_in(through(state), state, {**FORWARDED, "X-Forwarded-Server": "x"}).status_code == 201


@pytest.mark.parametrize("prefix", ["/v1", "/web/x", "/.."])
def test_a_prefix_that_the_services_own_paths_begin_with_is_ignored(state: State, prefix: str) -> None:
    answer = through(state).get("/healthz", headers={"X-Forwarded-Prefix": prefix})
    assert answer.status_code == 200
    assert sign_in(through(state), state, {**X_FORWARDED, "X-Forwarded-Prefix": prefix}).status_code == 201


@pytest.mark.parametrize("headers", [X_FORWARDED, FORWARDED], ids=["x", "rfc 7239"])
def test_headers_of_untrusted_clients_are_ignored(state: State, headers: dict[str, str]) -> None:
    for peer in ("10.1.1.1", "testclient"):
        assert sign_in(through(state, peer), state, headers).status_code == 403


def test_other_sites_stay_refused_behind_a_proxy(state: State) -> None:
    assert (
        sign_in(through(state), state, {**X_FORWARDED, "Origin": "https://evil.example"}).status_code == 403
    )
    assert sign_in(through(state), state, {**X_FORWARDED, "Origin": "null"}).status_code == 403
    crossing = {**X_FORWARDED, "Sec-Fetch-Site": "cross-site"}
    assert sign_in(through(state), state, crossing).status_code == 403


def test_a_forwarded_header_that_passes_a_proxy_of_the_other_kind_is_not_read(state: State) -> None:
    made_up = {"Forwarded": "host=evil.example;proto=https", "X-Forwarded-For": "10.9.9.9"}
    answer = sign_in(through(state), state, {**made_up, "Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Forwarded": 'host="evil.example'},
        {"Forwarded": "host"},
        {"X-Forwarded-Host": "evil.example/path"},
        {"X-Forwarded-Host": "e vil"},
        {"X-Forwarded-Proto": "gopher", "X-Forwarded-Host": ""},
        {"X-Forwarded-For": "unknown", "X-Forwarded-Port": "x"},
        {"X-Forwarded-Prefix": "//evil.example"},
        {"X-Forwarded-Prefix": "/a/../b"},
    ],
)
def test_malformed_headers_change_nothing(state: State, headers: dict[str, str]) -> None:
    client = through(state)
    answer = client.get("/v1/index/", headers={**headers, **signed_in(state, Role.READER)})
    assert answer.status_code == 307
    assert answer.headers["location"] == "../index"
    assert client.get("/", headers=headers).status_code == 200


def test_guesses_are_counted_for_the_address_that_a_trusted_proxy_names(state: State) -> None:
    failures, state.failures = state.failures, RateLimit(1, burst_seconds=0)
    try:

        def guesses(client: TestClient, address: str) -> list[int]:
            """Statuses of some guesses of one user, who also makes up an address of a first hop."""
            sent = [{"X-Forwarded-For": f"10.0.0.{n}, {address}"} for n in range(8)]
            return [client.post("/v1/session", json={"token": "x"}, headers=h).status_code for h in sent]

        assert guesses(through(state), "10.7.7.7")[-1] == 429
        assert guesses(through(state), "10.8.8.8")[0] == 401, "another user of the same proxy"
        assert guesses(through(state), "10.7.7.7, 127.0.0.1")[-1] == 429, "a second trusted proxy"
        assert guesses(through(state, "10.1.1.1"), "10.6.6.6")[-1] == 429
        assert guesses(through(state, "10.1.1.1"), "10.5.5.5")[0] == 429, "no proxy: it is its own address"
    finally:
        state.failures = failures


@pytest.mark.parametrize("stripped", [True, False], ids=["path stripped", "path left"])
@pytest.mark.parametrize("named", ["setting", "header"])
def test_the_service_is_served_below_a_path(state: State, stripped: bool, named: str) -> None:
    client = through(state, root="/ward/similar" if named == "setting" else "")
    below = "" if stripped else "/ward/similar"
    headers = {**X_FORWARDED, **({} if named == "setting" else {"X-Forwarded-Prefix": "/ward/similar/"})}
    assert "web/main.js" in client.get(f"{below}/", headers=headers).text
    assert client.get(f"{below}/web/main.js", headers=headers).status_code == 200
    assert client.get(f"{below}/healthz", headers=headers).json() == {"status": "ok"}
    signed = sign_in(client, state, headers, below)
    assert signed.status_code == 201
    assert "Path=/ward/similar;" in signed.headers["set-cookie"]
    bearer = {**headers, **signed_in(state, Role.INDEXER)}
    assert client.get(f"{below}/v1/index/", headers=bearer).headers["location"] == "../index"
    job = client.post(f"{below}/v1/jobs", json={"kind": "index-verify"}, headers=bearer)
    assert job.headers["location"].startswith("/ward/similar/v1/jobs/")
    state.jobs.cancel(job.headers["location"].rpartition("/")[2])
    cookie = {**headers, "Cookie": f"{COOKIE}={signed.cookies[COOKIE]}", "Origin": OUTSIDE}
    assert client.get(f"{below}/v1/session", headers=cookie).json()["via"] == "session"
    left = client.delete(f"{below}/v1/session", headers=cookie)
    assert "Path=/ward/similar;" in left.headers["set-cookie"]
    bare = client.get("/ward/similar", headers=headers)
    assert (bare.status_code, bare.headers["location"]) == (307, "similar/")


def test_every_address_of_the_page_is_relative(anonymous: TestClient) -> None:
    page = anonymous.get("/").text
    files = [part.split('"')[0] for part in page.split('"web/')[1:]]
    assert "main.js" in files
    assert 'href="/' not in page
    assert 'src="/' not in page
    seen, waiting = set[str](), ["main.js"]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        script = anonymous.get(f"/web/{name}").text
        assert not any(f"{quote}/{start}" in script for quote in "\"'`" for start in ("v1", "web")), name
        waiting += [part.split('"')[0] for part in script.split('from "./')[1:]]
    assert len(seen) > 20


@pytest.mark.parametrize(
    "path", ["/", "/web/main.js", "/web/base.css", "/web/mark.svg", "/healthz", "/readyz"]
)
def test_health_readiness_and_the_page_answer_head(anonymous: TestClient, path: str) -> None:
    got, head = anonymous.get(path), anonymous.head(path)
    assert head.status_code == got.status_code == 200
    assert head.headers["content-type"] == got.headers["content-type"]
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("text", ["evil", "10.0.0.0/99", "127.0.0.1 *"])
def test_a_trusted_proxy_that_is_no_address_is_refused(
    state: State, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("SIMILARITY_TRUSTED_PROXIES", text)
    settings.cache_clear()
    try:
        with pytest.raises(UsageError, match="SIMILARITY_TRUSTED_PROXIES"):
            create_app(state)
    finally:
        monkeypatch.undo()
        settings.cache_clear()
    assert len(networks("10.0.0.0/8, ::1 192.168.1.7")) == 3
    assert networks("") == []


def test_a_root_path_is_normalized_and_a_malformed_one_refused() -> None:
    assert [root_path(text) for text in ("", "/", "ward", "/ward/", " /a/b-c.d ")] == [
        "", "", "/ward", "/ward", "/a/b-c.d",
    ]  # fmt: skip
    for text in ("/a b", "/a/../b", "/a//b", "/v1", "web/x", "/ä", "/a?b", "https://host/a"):
        with pytest.raises(UsageError, match="cannot be used"):
            root_path(text)
