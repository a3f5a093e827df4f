"""The service as it is deployed: `similarity serve` in a process of its own, over a home that a test made."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.end_to_end.conftest import SIMILARITY
from tests.waiting import DEADLINE_SECONDS, eventually


@contextmanager
def serving(home: Path, **settings: str) -> Iterator[str]:
    """Serve a home until the block ends; yields the page's address once the encoder is loaded.

    `settings`: environment of the service, `viewer_url="…"` for SIMILARITY_VIEWER_URL.
    """
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIMILARITY_")}
    variables = {
        f"SIMILARITY_{name.upper()}": value for name, value in {"home": str(home), **settings}.items()
    }
    log = home.with_suffix(".log")
    with log.open("w") as errors:
        process = subprocess.Popen(
            [SIMILARITY, "serve", "--port", "0"],
            env={**clean, **variables},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            assert address.startswith("http"), log.read_text("utf-8")[-3000:]
            eventually(lambda: httpx.get(f"{address}readyz", timeout=DEADLINE_SECONDS).status_code == 200)
            yield address
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
