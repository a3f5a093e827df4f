"""A run that is killed or loses a server while it updates leaves nothing that the next run does not mend."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from corpus.errors import ServerUnavailable
from corpus.settings import settings
from corpus.sources import open_source
from indexer.index import Index
from indexer.ingest.added import Added, Observer, Stage
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from indexer.ingest.repair import verify
from tests.indexer.cases import write_manifest
from tests.indexer.postgres import fresh_database
from tests.indexer.proxy import proxied, to_socket
from tests.indexer.world import MemoryQdrant
from trainer.runtime.encoder import Encoder

OLD, NEW = "The lungs are clear.", "Right lower lobe consolidation."

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]


class Killed(BaseException):
    """Ends a run in the middle, as a signal does."""


def kill(stage: Stage, _added: Added) -> None:
    if stage == "vectors":
        raise Killed


@pytest.mark.parametrize("column", ["report", "sex"])
def test_a_killed_update_leaves_nothing_when_the_source_is_again_as_before(
    home: Path, tmp_path: Path, encoder: Encoder, column: str
) -> None:
    old = {"study_id": "s0", "report": OLD, "sex": "F"}
    new = old | {column: NEW if column == "report" else "M"}

    def add(row: dict[str, str], observer: Observer | None = None) -> None:
        source = open_source(write_manifest(tmp_path, [row]))
        with Index.open(read_only=False) as index:
            add_source(index, source, encoder, origin="x", folder="any", workers=0, observer=observer)

    add(old)
    with pytest.raises(Killed):
        add(new, kill)
    with Index.open() as index:
        assert index.catalog.version_counts(encoder.fingerprint)[1] == 1  # said to be missing until then
    add(old)
    with Index.open() as index:
        assert verify(index).faults == []
        (point,) = index.store.fetch(index.collection("report"), [index.home.point_id("manifest:s0#report")])
        assert point.vector @ encoder.encode_texts([OLD])[0] > 0.999
        assert point.payload["sex"] == "F"


@pytest.fixture
def qdrant(home: Path, postgres: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryQdrant]:
    """An engine in memory beside a real database, both named by the settings."""
    qdrant = MemoryQdrant()
    monkeypatch.setattr("indexer.vectors.client.connect", qdrant.connect)
    monkeypatch.setenv("SIMILARITY_QDRANT_URL", "http://q")
    with fresh_database(postgres) as own:
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", own)
        settings.cache_clear()
        yield qdrant


def test_a_server_that_goes_away_in_a_purge_is_waited_for_once_and_is_the_one_that_is_named(
    qdrant: MemoryQdrant, tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMILARITY_SERVER_WAIT_SECONDS", "0.01")
    settings.cache_clear()
    source = open_source(write_manifest(tmp_path, [{"study_id": "s0", "report": OLD}]))
    lines: list[str] = []
    with Index.open(read_only=False, on_wait=lines.append) as index:
        add_source(index, source, encoder, origin="x", folder="any", workers=0)
        delete = index.store.delete

        def away(*args: object) -> None:
            qdrant.disconnect()
            delete(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(index.store, "delete", away)
        with pytest.raises(ServerUnavailable) as caught:
            remove_study(index, "manifest:s0")
    assert str(caught.value).count("waited for") == 1
    assert not any("Postgres" in line for line in lines)


def test_a_postgres_that_hangs_ends_a_call_by_the_time_limit(
    qdrant: MemoryQdrant, postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = settings().database_url
    assert named is not None
    url = sa.make_url(named.get_secret_value())
    reached_by = next(Path(str(url.query["host"])).glob(".s.PGSQL.*[0-9]"))
    with proxied(to_socket(reached_by)) as line:
        through = url.set(host="127.0.0.1", port=line.port, query={}).render_as_string(hide_password=False)
        monkeypatch.setenv("SIMILARITY_DATABASE_URL", through)
        monkeypatch.setenv("SIMILARITY_SERVER_TIMEOUT_SECONDS", "1")
        settings.cache_clear()
        with Index.open(read_only=False) as index:
            line.hang()
            with pytest.raises(ServerUnavailable, match="does not answer in time"):
                list(index.catalog.study_ids())
            line.heal()
            assert list(index.catalog.study_ids()) == []
