"""The application: routes, the page's files, problem documents and middleware around one state."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Final

from fastapi import APIRouter, FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from corpus.errors import ServerUnavailable, SimilarityError
from corpus.settings import settings
from retrieval.service import problems
from retrieval.service.middleware import RequestMiddleware
from retrieval.service.problems import Refused
from retrieval.service.proxies import ProxyMiddleware, networks
from retrieval.service.routes import cases, draft, exports, index, jobs, localize, operation, search, session
from retrieval.service.state import State

log = logging.getLogger(__name__)

VERSION = "1"
"""Version of the HTTP interface: a change that breaks callers makes it `/v2`."""

page_router = APIRouter(include_in_schema=False)

MEDIA_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
"""Suffix of a file of the page → its media type."""


def create_app(state: State, root: str = "") -> FastAPI:
    """Return the application over an open state, which the caller closes.

    The encoder of the active version is loaded when the application starts, so that the first search is as
    fast as the next; `/readyz` says when it is loaded.

    Args:
        state: what the service has open.
        root: path below which a reverse proxy serves it, as `retrieval.service.proxies.root_path` gives it.

    Raises:
        UsageError: `SIMILARITY_TRUSTED_PROXIES` contains something that is not an address.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(run_in_threadpool(_load, state))
        state.start_runner()
        yield
        state.closing.set()
        await loading
        gc.unfreeze()

    app = FastAPI(
        title="Similarity",
        version=VERSION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.service = state
    for module in (search, cases, localize, draft, exports, index, jobs, session, operation):
        app.include_router(module.router)
    app.include_router(page_router)
    problems.install(app)
    app.add_middleware(RequestMiddleware, metrics=state.metrics)
    app.add_middleware(ProxyMiddleware, trusted=networks(settings().trusted_proxies), root=root)
    return app


def _load(state: State) -> None:
    state.load_workers()
    try:
        state.index()
        # What is loaded now stays until the end: the collector need not visit it again and again.
        gc.collect()
        gc.freeze()
    except SimilarityError as error:
        log.warning("no encoder is loaded yet: %s", type(error).__name__)
    try:
        state.store.collections()
    except ServerUnavailable as error:  # it may be starting: `/readyz` says when it answers
        log.error("%s", error)


@page_router.head("/")
@page_router.get("/")
def page() -> Response:
    """Return the page."""
    return _page_file("index.html")


@page_router.head("/web/{name}")
@page_router.get("/web/{name}")
def page_file(name: str) -> Response:
    """Return a script, style or drawing of the page."""
    return _page_file(name)


def _page_file(name: str) -> Response:
    # Only names in the listing of `retrieval.web` are opened: nothing that a caller writes becomes a path.
    suffix = name.rpartition(".")[2]
    for file in resources.files("retrieval.web").iterdir():
        if file.name == name and suffix in MEDIA_TYPES:
            return Response(
                file.read_bytes(), media_type=MEDIA_TYPES[suffix], headers={"Cache-Control": "no-cache"}
            )
    raise Refused(404, "not-found", "There is nothing at this address.")
