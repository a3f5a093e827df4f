"""A small indexed ward: images with reports, images alone, reports alone, and a report of 500 sentences."""

import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from corpus.findings import Status
from corpus.records import ImageRef, ProblemSink, Report, Section, Study
from corpus.sources.phantom import PhantomSource
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import open_database
from indexer.home import Home
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.vectors.edge.shards import EdgeStore
from indexer.vectors.store import VectorStore
from tests.encoders import build_tiny_encoder
from tests.indexer.stores import served_index, server_client
from trainer.runtime.encoder import Encoder

PHANTOMS = 21
"""Of every seven the last is a second image of an earlier subject."""
LOUD = "manifest:loud"


class Ward:
    """Phantoms, and studies without image, without report, and with columns of their own."""

    name = "manifest"

    def studies(self, on_problem: ProblemSink) -> Iterator[Study]:
        yield from PhantomSource(PHANTOMS, seed=3).studies(on_problem)
        for number in range(4):
            study_id = f"manifest:film{number}"
            image = ImageRef(f"{study_id}#film", f"phantom://4/{number}", view="ap", modality="CR")
            yield Study(
                study_id,
                "manifest:someone",
                "manifest",
                images=(image,),
                findings={"edema": Status.PRESENT, "lung_opacity": Status.PRESENT},
                date=None if number == 0 else f"202{number}-03-01",
                attributes={"scanner": "A" if number % 2 else "B", "dose": 0.5 * number, "portable": True},
            )
        sentences = " ".join(f"There is a pleural effusion of {n} millimeters." for n in range(500))
        yield _text_study(LOUD, sentences)
        for number in range(3):
            yield replace(
                _text_study(f"manifest:told{number}", "The lungs are clear. Heart size is normal."), sex="F"
            )


def _text_study(study_id: str, text: str) -> Study:
    return Study(
        study_id, study_id, "manifest", report=Report(f"{study_id}#report", (Section("findings", text),))
    )


@pytest.fixture(scope="session")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session", params=["edge", "server"])
def index(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, encoder_folder: Path
) -> Iterator[Index]:
    """The ward's index, over both vector stores; that of a server is on the one that an option names."""
    home = Home.open(tmp_path_factory.mktemp(f"home-{request.param}"))
    encoder = Encoder.load(encoder_folder, "cpu")
    with ExitStack() as stack:
        if request.param == "edge":
            store: VectorStore = EdgeStore(home.vectors)
            stack.callback(store.close)
        else:
            client = server_client(request.config)
            stack.callback(client.close)
            store = stack.enter_context(served_index(client))
        engine = open_database(home)
        stack.callback(engine.dispose)
        opened = Index(home, Catalog(engine), store, stack.pop_all())
        with opened, warnings.catch_warnings():
            # qdrant-client says of its in-memory double that payload indexes and the graph do nothing there
            warnings.filterwarnings("ignore", "Payload indexes have no effect|Local mode performs exact")
            add_source(opened, Ward(), encoder, origin="ward", folder=str(encoder_folder), workers=0)
            opened.use(encoder)
            yield opened
