"""The page: the files of `retrieval.web`, and nothing else of that folder."""

from importlib import resources
from typing import Final

from fastapi import APIRouter
from fastapi.responses import Response

from retrieval.service.problems import Refused

router = APIRouter(include_in_schema=False)

TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@router.head("/")
@router.get("/")
def page() -> Response:
    """The page itself."""
    return _file("index.html")


@router.head("/web/{name}")
@router.get("/web/{name}")
def part(name: str) -> Response:
    """A script, style or drawing of the page."""
    return _file(name)


def _file(name: str) -> Response:
    # Only names that stand in the folder's own listing are opened: nothing a caller writes becomes a path.
    suffix = name.rpartition(".")[2]
    for file in resources.files("retrieval.web").iterdir():
        if file.name == name and suffix in TYPES:
            return Response(
                file.read_bytes(), media_type=TYPES[suffix], headers={"Cache-Control": "no-cache"}
            )
    raise Refused(404, "not-found", "There is nothing at this address.")
