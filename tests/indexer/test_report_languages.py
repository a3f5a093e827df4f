"""What an index knows of the languages of its reports, and how an older index comes to know it."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import migrations
from corpus.errors import UsageError
from corpus.findings import Status
from corpus.language import detection as language
from corpus.language import labeler
from corpus.settings import settings
from indexer.catalog.catalog import Catalog
from indexer.catalog.database import open_database
from indexer.home import Home
from indexer.index import Index
from indexer.ingest import bm25 as terms
from indexer.ingest import payload
from tests.indexer.cases import write_manifest
from tests.indexer.test_bad_input import similarity

REPORTS = {
    "en": "No pneumothorax. Small effusion.",
    "de": "Kein Pneumothorax. Kleiner Pleuraerguss links.",
    "fr": "Pas de pneumothorax. Petit épanchement pleural.",
    "es": "Sin neumotórax. Derrame pleural leve.",
    "nl": "Geen pneumothorax. Gering pleuravocht.",
    "it": "Non segni di pneumotorace. Versamento pleurico a destra.",
}
COUNTED = {"by_language": dict.fromkeys(("de", "en", "es", "fr", "it", "nl"), 1), "findings_unread": 1}
ITALIAN = (
    '[findings]\npneumothorax = ["pneumotorace"]\npleural_effusion = ["versamento"]\n'
    '[absent]\nforward = ["non"]\n'
)


@pytest.fixture
def source(tmp_path: Path) -> str:
    rows = [{"study_id": code, "report": text} for code, text in REPORTS.items()]
    return write_manifest(tmp_path, rows, ("study_id", "report"))


def _add(source: str, encoder_folder: Path) -> dict[str, object]:
    outcome: dict[str, object] = similarity(
        "index", "add", source, "--encoder", str(encoder_folder), "--json", schema="index-add"
    )
    return outcome


def test_reports_are_counted_by_language_and_an_unread_one_has_a_vector_and_no_findings(
    home: Path, source: str, encoder_folder: Path
) -> None:
    added = _add(source, encoder_folder)
    assert added["reports"] == COUNTED
    assert added["embedded"]["report"] == 6  # type: ignore[index]
    assert similarity("index", "status", "--json", schema="index-status")["reports"] == COUNTED
    assert similarity("index", "verify", "--json", schema="index-verify")["faults"] == []
    with Index.open() as index:
        studies = index.catalog.studies(f"manifest:{code}" for code in REPORTS)
    for code in REPORTS:
        study = studies[f"manifest:{code}"]
        assert study.report is not None
        assert (study.report.language, study.report.findings_read) == (code, code != "it")
        expected = {} if code == "it" else {"pneumothorax": Status.ABSENT, "pleural_effusion": Status.PRESENT}
        assert dict(study.findings) == expected


def test_an_index_of_a_version_that_did_not_look_opens_and_looks_without_embedding_again(
    home: Path, source: str, encoder_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (labeler, payload):
        monkeypatch.setattr(module, "LABELER_VERSION", "2")
    monkeypatch.setattr(terms, "_VERSION", terms._VERSION.replace(labeler.LABELER_VERSION, "2"))
    _add(source, encoder_folder)
    engine = open_database(Home.open())
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        assert "language" not in {column["name"] for column in sa.inspect(connection).get_columns("study")}
    engine.dispose()
    engine = open_database(Home.open())
    counted = Catalog(engine).report_languages()
    assert counted.as_json() == {"by_language": {"unknown": 6}, "findings_unread": 0}
    engine.dispose()
    monkeypatch.undo()
    monkeypatch.setenv("SIMILARITY_HOME", str(home))
    settings.cache_clear()
    added = _add(source, encoder_folder)
    assert {kind: added["embedded"][kind] for kind in ("image", "report", "sentence")} == {  # type: ignore[index]
        "image": 0,
        "report": 0,
        "sentence": 0,
    }
    assert added["updated"]
    assert similarity("index", "status", "--json", schema="index-status")["reports"] == COUNTED


def test_a_table_that_a_site_adds_is_taken_up_by_the_next_run_without_embedding_again(
    home: Path, source: str, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add(source, encoder_folder)
    tables = tmp_path / "tables"
    tables.mkdir()
    (tables / "it.toml").write_text(ITALIAN, "utf-8")
    monkeypatch.setenv("SIMILARITY_LEXICONS", str(tables))
    settings.cache_clear()
    language.forget()
    try:
        added = _add(source, encoder_folder)
        assert added["embedded"]["report"] == 0  # type: ignore[index]
        with Index.open() as index:
            study = index.catalog.studies(["manifest:it"])["manifest:it"]
        assert study.findings["pneumothorax"] is Status.ABSENT
        assert study.findings["pleural_effusion"] is Status.PRESENT
        assert '"findings_unread": 0' in similarity("index", "status", "--json")
    finally:
        monkeypatch.delenv("SIMILARITY_LEXICONS")
        settings.cache_clear()
        language.forget()


def test_a_table_that_cannot_be_used_stops_the_run_in_a_sentence(
    home: Path, source: str, encoder_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "it.toml").write_text("[finding]\n", "utf-8")
    monkeypatch.setenv("SIMILARITY_LEXICONS", str(tmp_path))
    settings.cache_clear()
    language.forget()
    try:
        with pytest.raises(UsageError, match=r"'it.toml', line 1, key finding") as caught:
            _add(source, encoder_folder)
        assert "\n" not in str(caught.value)
    finally:
        monkeypatch.delenv("SIMILARITY_LEXICONS")
        settings.cache_clear()
        language.forget()
