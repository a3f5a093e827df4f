"""A second encoder beside the first: built while searches go on, switched to in one step, dropped alone."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from corpus.errors import IndexingError, UsageError
from corpus.sources import open_source
from indexer.catalog.studies import Reading
from indexer.index import Index
from indexer.ingest.pipeline import add_source
from indexer.ingest.removal import remove_study
from indexer.ingest.repair import verify
from indexer.versions import CatalogSource, activate, drop_version, find_version, list_versions
from retrieval.query.query import Query
from retrieval.search import search
from similarity.cli.index import index as command
from tests.encoders import build_tiny_encoder
from tests.indexer.cases import cohort
from tests.waiting import eventually
from trainer.runtime.encoder import Encoder

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "contracts" / "index-versions.schema.json"


@pytest.fixture(scope="module")
def other_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("other") / "other", seed=5)


@pytest.fixture(scope="module")
def other(other_folder: Path) -> Encoder:
    return Encoder.load(other_folder, "cpu")


@pytest.fixture
def both(
    home: Path, tmp_path: Path, encoder: Encoder, encoder_folder: Path, other: Encoder, other_folder: Path
) -> Iterator[Index]:
    """An index of ten studies by two encoders, the first active."""
    source = open_source(cohort(tmp_path / "cases", 10))
    with Index.open(read_only=False) as index:
        add_source(index, source, encoder, origin="x", folder=str(encoder_folder), workers=0)
        stored = CatalogSource(index.catalog)
        add_source(index, stored, other, origin="catalog", folder=str(other_folder), workers=0)
        yield index


def test_what_the_index_holds_is_embedded_by_a_second_encoder(
    both: Index, encoder: Encoder, other: Encoder
) -> None:
    first, second = list_versions(both.catalog)
    assert (first.version.fingerprint, first.version.state) == (encoder.fingerprint, "active")
    assert (second.version.fingerprint, second.version.state) == (other.fingerprint, "building")
    assert first.points == second.points
    assert first.missing == second.missing == 0
    again = add_source(
        both, CatalogSource(both.catalog), other, origin="catalog", folder=second.version.folder, workers=0
    )
    assert again.unchanged == again.studies == 10
    assert verify(both).faults == []


def test_a_version_is_used_by_its_encoder_and_the_active_one_stays(both: Index, other: Encoder) -> None:
    with both.pinned() as mine:
        mine.use(other)
        assert mine.active_version.name == other.name
        assert mine.collection("image").endswith(other.fingerprint[:8])
        assert verify(mine).faults == []
    assert both.active_version.state == "active"


def test_a_version_that_lacks_something_cannot_be_activated(
    both: Index, tmp_path: Path, encoder: Encoder, other: Encoder
) -> None:
    folder = both.active_version.folder
    more = open_source(cohort(tmp_path / "more", 12))
    add_source(both, more, encoder, origin="y", folder=folder, workers=0)
    with pytest.raises(IndexingError, match="lacks"):
        activate(both, other.fingerprint[:8])
    assert both.active_version.fingerprint == encoder.fingerprint
    add_source(both, CatalogSource(both.catalog), other, origin="catalog", folder=folder, workers=0)
    assert activate(both, other.fingerprint[:8]).state == "active"


def test_an_erased_study_leaves_every_version(both: Index, other: Encoder) -> None:
    before = list_versions(both.catalog)
    remove_study(both, "manifest:s3")
    after = list_versions(both.catalog)
    for old, new in zip(before, after, strict=True):
        assert new.points["image"] == old.points["image"] - 1
        assert new.points["report"] == new.points["term"] == old.points["report"] - 1
        assert new.missing == 0
    point = both.home.point_id("manifest:s3#report")
    for kind in ("report", "term"):
        for fingerprint in (both.active_version.fingerprint, other.fingerprint):
            assert both.store.fetch(f"{kind}s__{fingerprint[:8]}", [point]) == []


def test_a_version_is_dropped_alone_and_never_the_active_one(
    both: Index, encoder: Encoder, other: Encoder
) -> None:
    with pytest.raises(IndexingError, match="is searched now"):
        drop_version(both, encoder.fingerprint[:8])
    activate(both, other.fingerprint)
    assert drop_version(both, encoder.fingerprint[:8]) > 0
    assert [state.version.fingerprint for state in list_versions(both.catalog)] == [other.fingerprint]
    assert not any(name.endswith(encoder.fingerprint[:8]) for name in both.store.collections())
    assert verify(both).faults == []


def test_a_version_is_named_by_its_name_or_its_fingerprint(both: Index, encoder: Encoder) -> None:
    assert find_version(both.catalog, encoder.fingerprint[:6]).fingerprint == encoder.fingerprint
    assert find_version(both.catalog, encoder.name).fingerprint == encoder.fingerprint
    with pytest.raises(UsageError, match="no version 'unknown'"):
        find_version(both.catalog, "unknown")


def test_the_commands_list_switch_and_drop(
    home: Path, tmp_path: Path, encoder_folder: Path, other_folder: Path
) -> None:
    run = CliRunner()

    def call(*arguments: str) -> str:
        result = run.invoke(command, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    source = cohort(tmp_path / "cases", 3)
    call("add", source, "--encoder", str(encoder_folder), "--workers", "1")
    call("add", "--encoder", str(other_folder), "--workers", "1")
    printed = json.loads(call("versions", "--json"))
    jsonschema.validate(printed, json.loads(SCHEMA.read_text()))
    assert [version["state"] for version in printed["versions"]] == ["active", "building"]
    assert "other" in call("activate", "other")
    assert "retired" in call("versions")
    call("remove", "--version", printed["versions"][0]["fingerprint"])
    assert len(json.loads(call("versions", "--json"))["versions"]) == 1


def test_searches_run_through_a_switch_without_one_failing(
    both: Index, encoder: Encoder, other: Encoder
) -> None:
    """Every search is answered whole by one version: its vectors, its collections, its name."""
    by = {encoder.fingerprint: encoder, other.fingerprint: other}
    both._encoders |= by
    text = "There is a small left pleural effusion."
    vectors = {fingerprint: made_by.encode_texts([text])[0] for fingerprint, made_by in by.items()}
    seen: list[str] = []
    failed: list[BaseException] = []
    stop = threading.Event()

    def searching() -> None:
        try:
            while not stop.is_set():
                answer = search(both, Query(text=text, target="reports", k=3))
                fingerprint = answer.encoder["fingerprint"]
                stored = both.store.fetch(
                    f"reports__{fingerprint[:8]}", [both.home.point_id(hit.item_id) for hit in answer.hits]
                )
                cosines = {point.id: float(point.vector @ vectors[fingerprint]) for point in stored}
                for hit in answer.hits:
                    printed = [item.score for item in hit.evidence if item.kind == "report"]
                    assert np.allclose(printed, cosines[both.home.point_id(hit.item_id)], atol=1e-4)
                seen.append(fingerprint)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=searching) for _ in range(2)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        activate(both, (other, encoder)[turn % 2].fingerprint)
        answered = len(seen)
        eventually(lambda: failed or len(seen) >= answered + 2)  # noqa: B023 - called at once
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert {*seen} == {encoder.fingerprint, other.fingerprint}


def test_a_search_that_ends_with_another_active_version_is_done_again_with_it(
    both: Index, encoder: Encoder, other: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(both, Query(text="effusion")).encoder["fingerprint"] == encoder.fingerprint
    encoded = Encoder.encode_texts
    encoders: list[str] = []

    def activate_meanwhile(self: Encoder, *args: Any, **kwargs: Any) -> Any:
        encoders.append(self.fingerprint)
        if len(encoders) == 1:
            activate(both, other.fingerprint)
        return encoded(self, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode_texts", activate_meanwhile)
    answer = search(both, Query(text="effusion"))
    assert encoders == [encoder.fingerprint, other.fingerprint]
    assert answer.encoder["fingerprint"] == other.fingerprint
    assert answer.hits


def test_studies_that_were_read_in_two_states_are_read_again(
    both: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert search(both, Query(text="effusion")).hits
    find, reads = Reading.find_studies, list[str]()

    def torn(read: Reading, *args: Any) -> Any:
        found = find(read, *args)
        reads.append(found.stamp)
        return replace(found, stamp="") if len(reads) == 1 else found

    monkeypatch.setattr(Reading, "find_studies", torn)
    assert search(both, Query(text="effusion")).hits
    assert len(reads) == 2


def test_a_search_survives_that_its_remembered_version_was_retired_and_its_folder_removed(
    both: Index, other: Encoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert search(both, Query(text="effusion")).hits
    active = both.active_version
    activate(both, other.fingerprint)
    both._encoders.clear()
    gone = replace(active, folder=str(tmp_path / "gone"))
    both._state = replace(both._state, active=gone)  # type: ignore[type-var]
    assert search(both, Query(text="effusion")).encoder["fingerprint"] == other.fingerprint


def test_a_filter_field_that_was_added_since_the_last_search_is_known(
    both: Index, encoder: Encoder, encoder_folder: Path, tmp_path: Path
) -> None:
    assert search(both, Query(text="effusion")).hits
    columns = tmp_path / "later"
    columns.mkdir()
    (columns / "cases.csv").write_text("study_id,subject_id,report,ward\n1,p1,Small effusion.,north\n")
    add_source(both, open_source(f"manifest:{columns / 'cases.csv'}"), encoder, origin="later",
               folder=str(encoder_folder), workers=0)  # fmt: skip
    (hit,) = search(both, Query(text="effusion", where="ward=north")).hits
    assert hit.case.study_id == "manifest:1"
