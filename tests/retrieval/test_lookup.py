"""What a search asks of the catalog, on both databases."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from corpus.records import Report, Section, Study
from corpus.settings import settings
from indexer.catalog.catalog import Version
from indexer.catalog.database import open_database
from indexer.catalog.ledger import Ledger, NewItem, NewStudy, Step
from indexer.home import Home
from retrieval.lookup import holders
from tests.indexer.postgres import fresh_database, postgres_server

SAID = {"The lungs are clear.": 5, "Small effusion.": 3, "Old fracture.": 1}
"""Sentence → the number of studies that say it."""


@pytest.fixture(params=["sqlite", "postgres"])
def home(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    with ExitStack() as held:
        if request.param == "postgres":
            url = held.enter_context(fresh_database(held.enter_context(postgres_server())))
            monkeypatch.setenv("SIMILARITY_DATABASE_URL", url)
        settings.cache_clear()
        held.callback(settings.cache_clear)
        yield Home.open(tmp_path / "home")


def test_only_sentences_of_at_most_so_many_studies_have_holders(home: Home) -> None:
    engine = open_database(home)
    try:
        points = {sentence: home.sentence_id(sentence) for sentence in SAID}
        _commit(engine, home, points)
        with engine.connect() as connection:
            for most in (1, 2, 3, 4, 5):
                held = holders(connection, list(points.values()), most)
                expected = {points[text]: number for text, number in SAID.items() if number <= most}
                assert {point: len(set(keys)) for point, keys in held.items()} == expected
    finally:
        engine.dispose()


def _commit(engine: sa.Engine, home: Home, points: dict[str, UUID]) -> None:
    new = []
    for number in range(max(SAID.values())):
        said = [text for text, count in SAID.items() if number < count]
        study_id = f"manifest:{number}"
        report = Report(f"{study_id}#report", (Section("findings", " ".join(said)),))
        item = NewItem(report.item_id, home.point_id(report.item_id), "report", "0" * 64)
        study = Study(study_id, study_id, "manifest", report=report)
        new.append(NewStudy(study, (item,), tuple((points[text], text) for text in said)))
    ledger = Ledger(engine, home)
    ledger.register(Version("f" * 64, "none", 2, "", "active"))
    ledger.commit(Step(studies=new), "f" * 64, "manifest")
