"""The application: routes, problems and edge around one state."""

import gc
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.concurrency import run_in_threadpool
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from corpus.errors import ServerUnavailable, SimilarityError
from corpus.settings import settings
from retrieval.service import page, problems
from retrieval.service.middleware import Edge
from retrieval.service.proxies import Proxies, networks
from retrieval.service.routes import (
    cases,
    draft,
    exports,
    index,
    jobs,
    localize,
    operation,
    previews,
    search,
    session,
)
from retrieval.service.state import State
from retrieval.service.uploads import BODIES

log = logging.getLogger(__name__)

VERSION = "1"
"""Of the HTTP interface: a change that breaks a caller makes it `/v2`."""


def create_app(state: State, root: str = "") -> FastAPI:
    """Make the application over an open state; whoever opened the state closes it.

    The encoder of the active version is loaded when the application starts, so that the first search is as
    fast as the next; `/readyz` tells when it is there.

    Args:
        state: what the service holds open.
        root: path below which a reverse proxy serves it, as `retrieval.service.proxies.root_path` gives it.

    Raises:
        UsageError: `SIMILARITY_TRUSTED_PROXIES` names what is no address.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        import asyncio

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
    for module in (search, cases, previews, localize, draft, exports, index, jobs, session, operation):
        app.include_router(module.router)
    app.include_router(page.router)
    problems.install(app)
    app.add_middleware(Edge, metrics=state.metrics)
    app.add_middleware(Proxies, trusted=networks(settings().trusted_proxies), root=root)
    return app


def openapi(app: FastAPI) -> dict[str, Any]:
    """The interface as OpenAPI, as it is kept in `docs/contracts/openapi.json`."""
    told = get_openapi(
        title=app.title,
        version=app.version,
        description="Similar radiology cases. Research software, not a medical device.",
        routes=app.routes,
    )
    schemas = told["components"]["schemas"]
    models: list[type[BaseModel]] = [problems.Problem, *BODIES]
    for model in models:
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= described.pop("$defs", {})
        schemas[model.__name__] = described
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return told


def _load(state: State) -> None:
    try:
        state.index()
        # What is loaded now stays to the end: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
    except SimilarityError as error:
        log.warning("no encoder is loaded yet: %s", type(error).__name__)
    try:
        state.store.collections()
    except ServerUnavailable as error:  # it may be starting: `/readyz` tells when it answers
        log.error("%s", error)
