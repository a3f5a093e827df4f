"""The OpenAPI document: `python -m retrieval.service.openapi > docs/contracts/openapi.json` writes it."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from retrieval.service import problems
from retrieval.service.app import create_app
from retrieval.service.state import State
from retrieval.service.uploads import BODIES

COMPONENT_NAMES = {
    "CaseImage": "Picture",
    "CorrespondenceRequest": "LikenessRequest",
    "CorrespondencePair": "LikePair",
    "CorrespondenceAnswer": "LikenessAnswer",
    "StatedFindings": "Told",
}
"""Class → the name of its component, where the document had that name first: generated clients use it."""


def openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document of an application."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description="Similar radiology cases. Research software, not a medical device.",
        routes=app.routes,
    )
    schemas = document["components"]["schemas"]
    models: list[type[BaseModel]] = [problems.Problem, *BODIES]
    for model in models:
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= described.pop("$defs", {})
        schemas[model.__name__] = described
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    written = json.dumps(document)
    for name, component in COMPONENT_NAMES.items():
        written = written.replace(f'/schemas/{name}"', f'/schemas/{component}"')
        written = written.replace(f'"{name}"', f'"{component}"')
    renamed: dict[str, Any] = json.loads(written)
    return renamed


def document() -> str:
    """Return the document as text, of an application over an empty home."""
    with tempfile.TemporaryDirectory() as folder:
        state = State.open(Path(folder))
        try:
            return json.dumps(openapi(create_app(state)), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        finally:
            state.close()


if __name__ == "__main__":
    sys.stdout.write(document())
