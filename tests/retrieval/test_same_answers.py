"""The embedded store and a server give the same answers to 110 queries: hits, order, scores and evidence."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pytest

from indexer.catalog.catalog import Catalog
from indexer.catalog.database import open_database
from indexer.catalog.ledger_records import FORMS
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.vectors.edge.shards import EdgeStore
from retrieval.query.query import TARGETS, Query
from retrieval.search import search
from tests.indexer.qdrant import has_real_qdrant
from tests.indexer.stores import served_index, server_client
from tests.retrieval.conftest import PHANTOMS, Ward
from trainer.runtime.encoder import Encoder

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

QUERIES = 110
PHRASES = (
    "There is a large right pleural effusion.",
    "There is a pleural effusion of 17 millimeters.",
    "The lungs are clear. Heart size is normal.",  # several reports say exactly this
    "small nodule in the left upper zone",
    "no pneumothorax",
    "consolidation",
    "cardiomegaly with edema",
)
FILTERS = (None, "sex=F", "age>=40", "finding=pleural_effusion", "not finding=nodule")
SIZES = (1, 2, 3, 4, 5, 10, 25)


def queries() -> list[Query]:
    """110 queries by phrase, image, case, and phrase with image, for each target, by turns filtered."""
    parts: list[dict[str, Any]] = [{"text": phrase} for phrase in PHRASES]
    parts += [{"image": f"phantom://9/{number}"} for number in range(5)]
    parts += [{"case": f"phantom:3-{number}"} for number in range(0, PHANTOMS, 4)]
    parts += [{"image": "phantom://9/1", "text": phrase} for phrase in PHRASES[:4]]
    # 22 parts, 3 targets, 5 filters, 7 sizes: no turn comes twice.
    turns = islice(zip(cycle(parts), cycle(TARGETS), cycle(FILTERS), cycle(SIZES), strict=False), QUERIES)
    return [Query(**part, target=target, where=where, k=k) for part, target, where, k in turns]


@pytest.fixture(scope="module")
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path
) -> Iterator[tuple[Index, Index]]:
    """One catalog with its vectors in the embedded store, and a copy of them on a server."""
    home = Home.open(tmp_path_factory.mktemp("home"))
    encoder = Encoder.load(encoder_folder, "cpu")
    with ExitStack() as opened, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Payload indexes have no effect|Local mode performs exact")
        engine = open_database(home)
        opened.callback(engine.dispose)
        embedded = EdgeStore(home.vectors)
        opened.callback(embedded.close)
        first = Index(home, Catalog(engine), embedded, ExitStack())
        add_source(first, Ward(), encoder, origin="ward", folder=str(encoder_folder), workers=0)
        client = server_client(request.config)
        opened.callback(client.close)
        served = opened.enter_context(served_index(client))
        fields = first.catalog.own_fields()
        for name in embedded.collections():
            kind = {"terms": "term"}.get(name.partition("__")[0], "")
            form = FORMS.get(kind, "dense")
            served.create(
                name, 0 if kind else encoder.dim, {} if name.startswith("sentences") else fields, form
            )
            served.upsert(name, embedded.fetch(name, list(embedded.ids(name))))
        second = Index(home, first.catalog, served, ExitStack())
        for index in (first, second):
            index.use(encoder)
        yield first, second


def test_every_query_has_one_answer_on_both_stores(
    both: tuple[Index, Index], request: pytest.FixtureRequest
) -> None:
    differing = []
    for number, query in enumerate(queries()):
        answers = [_comparable(search(index, query).as_json()) for index in both]
        if not has_real_qdrant(request.config):  # the engine in memory counts the rarity of words otherwise
            answers = [_without_bm25(answer) for answer in answers]
        if answers[0] != answers[1]:
            differing.append(number)
    assert differing == [], f"{QUERIES - len(differing)} of {QUERIES} queries have equal answers"


def _without_bm25(answer: Any) -> Any:
    for item in (item for hit in answer["hits"] for item in hit["evidence"] if item["kind"] == "terms"):
        del item["score"]
    return answer


def _comparable(answer: Any) -> Any:
    """An answer without the time that it took, its scores to five decimals."""
    if isinstance(answer, dict):
        return {key: _comparable(value) for key, value in answer.items() if key != "took_ms"}
    if isinstance(answer, list):
        return [_comparable(value) for value in answer]
    return round(answer, 5) if isinstance(answer, float) else answer
