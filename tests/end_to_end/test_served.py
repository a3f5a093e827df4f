"""`similarity serve` as a user runs it: it owns the home, commands go through it, jobs outlive it."""

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.encoders import build_tiny_encoder
from tests.end_to_end.conftest import SIMILARITY, Run
from tests.waiting import DEADLINE_SECONDS, eventually


@contextmanager
def served(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve a home; yields the process and its address, and kills it in the end if it still runs."""
    process = begin(home, "serve", "--port", "0")
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def begin(home: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command on a home."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMILARITY_")}
    return subprocess.Popen(
        [SIMILARITY, *words],
        env={**clean, "SIMILARITY_HOME": str(home), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def request(
    address: str, token: str, path: str, body: dict[str, Any] | None = None, method: str | None = None
) -> Any:
    sent = urllib.request.Request(
        address.rstrip("/") + path,
        None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(sent, timeout=DEADLINE_SECONDS) as answer:
        return json.load(answer)


def wait_for_end(address: str, token: str, job: dict[str, Any]) -> Any:
    """Wait for the end of a job; returns it."""
    ended = ("done", "failed", "cancelled")
    eventually(lambda: request(address, token, f"/v1/jobs/{job['id']}")["state"] in ended)
    return request(address, token, f"/v1/jobs/{job['id']}")


@pytest.fixture(scope="module")
def token(run: Run) -> str:
    return run("token", "create", "--role", "admin", "--name", "tests").out.strip()


def test_while_it_serves_an_index_job_a_search_and_a_verification_all_answer(
    run: Run, folder: Path, token: str
) -> None:
    encoder = build_tiny_encoder(folder / "tiny")
    with served(folder / "home") as (process, address):
        added = run("index", "add", "phantom:12@5", "--encoder", str(encoder), "--json").json
        assert added["studies"] == 12
        with begin(folder / "home", "index", "add", "phantom:40@7") as adding:
            found = run("search", "--case", "phantom:5-3", "-k", "3", "--json").json
            assert len(found["hits"]) == 3
            assert adding.wait(DEADLINE_SECONDS) == 0
        request(address, token, "/v1/search", {"text": "effusion", "k": 3})  # the encoder is loaded before
        job = request(address, token, "/v1/jobs", {"kind": "index-add", "source": "phantom:3000@6"})
        eventually(lambda: request(address, token, f"/v1/jobs/{job['id']}")["progress"].get("studies"))
        assert len(request(address, token, "/v1/search", {"text": "effusion", "k": 3})["hits"]) == 3
        process.kill()  # in the middle of the job
        process.wait()
    with served(folder / "home") as (process, address):
        before = request(address, token, "/v1/index")["studies"]["phantom"]
        eventually(lambda: request(address, token, f"/v1/jobs/{job['id']}")["attempts"] == 2)
        eventually(lambda: request(address, token, "/v1/index")["studies"]["phantom"] > before)
        request(address, token, f"/v1/jobs/{job['id']}", method="DELETE")
        verified = request(address, token, "/v1/jobs", {"kind": "index-verify"})
        assert wait_for_end(address, token, verified)["outcome"]["faults"] == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def test_a_revoked_token_opens_nothing(run: Run, folder: Path, token: str) -> None:
    spent = run("token", "create", "--role", "reader", "--name", "leaver").out.strip()
    with served(folder / "home") as (_, address):
        assert request(address, spent, "/v1/session")["name"] == "leaver"
        run("token", "revoke", spent.split("_")[1])
        with pytest.raises(urllib.error.HTTPError, match="401"):
            request(address, spent, "/v1/session")
