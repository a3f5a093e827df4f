"""`/healthz`, `/readyz`, `/metrics`: for operators of the service."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from retrieval.service import schemas
from retrieval.service.auth import Reader, Shared
from retrieval.service.problems import problems
from retrieval.service.state import State

router = APIRouter(tags=["operation"])


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", operation_id="health", response_model=schemas.Health)
async def health() -> schemas.Health:
    """Whether the process lives; asked without a token."""
    return schemas.Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    operation_id="readiness",
    response_model=schemas.Readiness,
    responses={503: {"model": schemas.Readiness, "description": "Not ready."}},
)
def readiness(response: Response, state: Shared) -> schemas.Readiness:
    """Whether it can answer; asked without a token."""
    checks = state.readiness.look(
        {
            "database": ("does not answer", lambda: _database(state)),
            "vectors": ("do not answer", lambda: _vectors(state)),
            "encoder": ("unknown", lambda: _encoder(state)),
        }
    )
    ready = not state.closing.is_set() and all(result == "ok" for result in checks.values())
    if not ready:
        response.status_code = 503
    return schemas.Readiness(ready=ready, checks=checks)


@router.get(
    "/metrics",
    operation_id="metrics",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Prometheus text."},
        **problems(),
    },
)
def metrics(actor: Reader, state: Shared) -> Response:
    """Counts and times for Prometheus, which asks with a reader's token."""
    return Response(generate_latest(state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _database(state: State) -> str:
    state.catalog.ping()
    return "ok"


def _vectors(state: State) -> str:
    state.store.collections()
    return "ok"


def _encoder(state: State) -> str:
    if state.catalog.active_version() is None:
        return "ok"  # an empty index needs none
    return "ok" if state.loaded else "is being loaded"
