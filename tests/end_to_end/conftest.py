"""The `similarity` command as a user runs it, in its own process with its own home; and a browser."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from tests.end_to_end.page_actions import chromium
from tests.waiting import DEADLINE_SECONDS

SIMILARITY = Path(sys.executable).parent / "similarity"


@dataclass(frozen=True)
class Ran:
    """The outcome of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


def runner(home: Path, folder: Path) -> Run:
    """Return a function that runs commands on a home, in a folder; by default they must succeed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMILARITY_")}
    environment = {**clean, "SIMILARITY_HOME": str(home), "OMP_NUM_THREADS": "2", "COLUMNS": "120"}

    def run(*words: str, exits: int = 0, stdin: str | None = None) -> Ran:
        done = subprocess.run(
            [SIMILARITY, *words],
            env=environment,
            cwd=folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_SECONDS,
            check=False,
        )
        assert done.returncode == exits, f"{words} left {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of the commands."""
    return tmp_path_factory.mktemp("user")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Run commands on one home, shared by the tests of a module."""
    return runner(folder / "home", folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        opened = playwright.chromium.launch(executable_path=chromium(), args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def signed_in(served: Any, browser: Browser) -> Iterator[BrowserContext]:
    """A browser signed in to the module's fixture `served`, at its `address` with its `token`."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, base_url=served.address)
    context.set_default_timeout(1000 * DEADLINE_SECONDS)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Access token").fill(served.token)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("Dr. Reader")).to_be_visible()
    page.close()
    yield context
    context.close()
