"""Reads of studies from the catalog, on both databases."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from corpus.records import Report, Section, Study
from indexer.catalog.catalog import Catalog
from indexer.catalog.ledger import Ledger
from indexer.catalog.ledger_records import NewItem, NewStudy, Step
from indexer.catalog.state import Version
from indexer.home import Home

SENTENCES = {"The lungs are clear.": 5, "Small effusion.": 3, "Old fracture.": 1}
"""Sentence → the number of studies with it in their report."""


@pytest.fixture
def catalog(database: str) -> Iterator[Catalog]:
    """A catalog of five reports, on each kind of database."""
    home = Home.open()
    opened = Catalog.open(home)
    ledger = Ledger(opened, home)
    ledger.register(Version("f" * 64, "none", 2, "", "active"))
    ledger.commit(Step(studies=[report(home, number) for number in range(5)]), "f" * 64, "manifest")
    yield opened
    opened.close()


def report(home: Home, number: int) -> NewStudy:
    """A study with those sentences that more than `number` studies have."""
    texts = [text for text, count in SENTENCES.items() if number < count]
    study_id = f"manifest:{number}"
    written = Report(f"{study_id}#report", (Section("findings", " ".join(texts)),))
    item = NewItem(written.item_id, home.point_id(written.item_id), "report", f"{number % 2}" * 64)
    study = Study(study_id, f"p{number // 2}", "manifest", report=written, date=f"2020-01-0{number + 1}")
    return NewStudy(study, (item,), tuple((home.sentence_id(text), text) for text in texts))


def points() -> dict[str, UUID]:
    home = Home.open()
    return {text: home.sentence_id(text) for text in SENTENCES}


def test_a_sentence_of_more_than_so_many_studies_is_left_out(catalog: Catalog) -> None:
    by_text = points()
    with catalog.reading() as read:
        for most in (1, 2, 3, 4, 5):
            found = read.sentences(list(by_text.values()), most)
            expected = {by_text[text]: count for text, count in SENTENCES.items() if count <= most}
            assert {point: len(sentence.positions) for point, sentence in found.items()} == expected


def test_a_study_is_found_by_key_by_id_and_by_subject(catalog: Catalog) -> None:
    home = Home.open()
    with catalog.reading() as read:
        study = read.study_by_id("manifest:1")
        assert study is not None
        assert study.case.text is not None
        assert [item.kind for item in study.items] == ["report"]
        assert read.studies_by_key([home.keyed("study", "manifest:1"), "none"]) == {study.key: study}
        found = read.find_studies([study.key, "none"], ["p0", "nobody"])
        assert found.by_key == {study.key: study}
        newest_first = [own.case.study_id for own in found.of_subjects]
        assert newest_first == ["manifest:1", "manifest:0"]
        nothing = read.find_studies([])
        assert (nothing.by_key, nothing.of_subjects, nothing.stamp) == ({}, (), found.stamp)
        assert read.study_by_id("manifest:9") is None
        assert read.owners_of_content("1" * 64) == {("manifest:1", "p0"), ("manifest:3", "p1")}
        assert read.has_studies()


def test_a_sentence_is_named_by_its_first_use_in_a_report(catalog: Catalog) -> None:
    by_text = points()
    with catalog.reading() as read:
        found = read.sentences(list(by_text.values()), most=9)
        keys = {read.study_by_id(name).key: name for name in ("manifest:0", "manifest:4")}  # type: ignore[union-attr]
    named = [
        (keys[key], position, sentence.text)
        for sentence in found.values()
        for key, position in sentence.positions.items()
        if key in keys
    ]
    assert sorted(named) == [
        ("manifest:0", 0, "The lungs are clear."),
        ("manifest:0", 1, "Small effusion."),
        ("manifest:0", 2, "Old fracture."),
        ("manifest:4", 0, "The lungs are clear."),
    ]
