"""Prints the OpenAPI document: `python -m retrieval.service.openapi > docs/contracts/openapi.json`."""

import json
import sys
import tempfile
from pathlib import Path

from retrieval.service.app import create_app, openapi
from retrieval.service.state import State


def document() -> str:
    """The document as it is kept, of an application over an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        state = State.open(Path(folder))
        try:
            return json.dumps(openapi(create_app(state)), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        finally:
            state.close()


if __name__ == "__main__":
    sys.stdout.write(document())
