"""Searches of a small real index, over both vector stores."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import sqlalchemy as sa
from PIL import Image

from corpus.errors import EmptyIndex, NotAdmitted, SimilarityError, UnreadableImage, UsageError
from corpus.findings import status_lists
from corpus.images.reader import read_image
from indexer.catalog.studies import Reading
from indexer.home import Home
from indexer.index import Index
from indexer.vectors.store import VectorStore
from retrieval import search as search_module
from retrieval import timing
from retrieval.answer import Answer
from retrieval.query.query import Query, Target
from retrieval.search import search, search_all, search_each, search_vector
from tests.retrieval.conftest import LOUD, PHANTOMS
from trainer.runtime.encoder import Encoder

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"
SCHEMA = json.loads((CONTRACTS / "search.schema.json").read_text())

TARGETS: tuple[Target, ...] = ("images", "reports", "cases")
QUERIES = [
    {"image": "phantom://9/1"},
    {"text": "There is a large right pleural effusion."},
    {"case": "phantom:3-2"},
]


def represented(answer: Answer) -> set[str]:
    """The studies for which a hit stands."""
    return {str(item.study_id) for hit in answer.hits for item in hit.evidence if item.kind == "duplicate"}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("query", QUERIES, ids=["image", "text", "case"])
def test_every_kind_of_search_answers_to_the_contract(
    index: Index, query: dict[str, str], target: Target
) -> None:
    answer = search(index, Query(**query, target=target, k=5))  # type: ignore[arg-type]
    answer_json = json.loads(json.dumps(answer.as_json()))
    jsonschema.validate(answer_json, SCHEMA)
    hits = answer_json["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3, 4, 5]
    assert len({hit["study_id"] for hit in hits}) == 5
    assert all(a["score"] >= b["score"] for a, b in pairwise(hits))
    assert {hit["kind"] for hit in hits} == {target.removesuffix("s")}
    if target == "images":
        assert all(hit["path"] and "#" in hit["item_id"] for hit in hits)
    if target == "reports":
        assert all(hit["text"] and hit["item_id"].endswith("#report") for hit in hits)


class CountedStore:
    """A store with the number of calls that each search makes."""

    def __init__(self, store: VectorStore) -> None:
        self.store, self.calls = store, list[str]()

    def __getattr__(self, name: str) -> Any:
        self.calls.append(name)
        return getattr(self.store, name)


@contextmanager
def counted_statements(index: Index) -> Iterator[list[str]]:
    """The statements that the catalog runs, as they run."""
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(index.catalog.engine, "before_cursor_execute", count)
    try:
        yield statements
    finally:
        sa.event.remove(index.catalog.engine, "before_cursor_execute", count)


HYBRID = ["large right pleural effusion without pneumothorax", "no nodule", "clear lungs"]


@pytest.mark.parametrize("where", [None, "sex=F"])
@pytest.mark.parametrize("text", HYBRID)
def test_a_hybrid_search_asks_the_store_three_times_and_the_catalog_twice_at_most(
    index: Index, monkeypatch: pytest.MonkeyPatch, text: str, where: str | None
) -> None:
    search(index, Query(text="effusion", k=1))  # the catalog's state is read once
    counted = CountedStore(index.store)
    monkeypatch.setattr(index, "store", counted)
    with counted_statements(index) as statements:
        assert search(index, Query(text=text, target="cases", where=where, k=5)).hits
    assert counted.calls.count("search_batch") == len(counted.calls) - 1
    assert counted.calls[-1] == "fetch"
    assert len(counted.calls) <= 3
    assert len(statements) <= 2, statements


def test_queries_that_arrive_together_share_their_round_trips(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = [Query(text=text, target=target, k=5) for text in HYBRID for target in TARGETS[1:]]
    alone = [search(index, query) for query in queries]
    counted = CountedStore(index.store)
    monkeypatch.setattr(index, "store", counted)
    with counted_statements(index) as statements:
        answers = search_all(index, queries)
    assert len(counted.calls) <= 4
    assert len(statements) <= 3, statements
    for answer, expected in zip(answers, alone, strict=True):
        assert isinstance(answer, Answer)
        # A batch of texts is encoded with other roundings than one text.
        assert [hit.case.study_id for hit in answer.hits] == [hit.case.study_id for hit in expected.hits]
        assert [hit.score for hit in answer.hits] == pytest.approx([hit.score for hit in expected.hits])


def test_one_that_cannot_be_answered_leaves_the_others_their_answers(index: Index) -> None:
    queries = [Query(text="effusion"), Query(text="effusion", where="shoe=3"), Query(case="nobody:1")]
    answers = search_all(index, queries)
    assert [type(answer) for answer in answers] == [Answer, UsageError, UsageError]


def test_a_fault_in_one_search_is_not_the_others(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    reranked = search_module.rerank

    def rerank(fused: Any, intent: Any, payloads: Any) -> Any:
        if "edema" in intent.words:
            raise KeyError("a fault of the program")
        return reranked(fused, intent, payloads)

    monkeypatch.setattr(search_module, "rerank", rerank)
    queries = [Query(text="effusion"), Query(text="edema"), Query(text="nodule")]
    assert [type(outcome) for outcome in search_each(index, queries)] == [Answer, KeyError, Answer]
    with pytest.raises(KeyError):
        search_all(index, queries)


def test_a_sentence_that_left_its_report_meanwhile_is_not_shown(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "There is a large right pleural effusion."
    query = Query(text=text, target="reports", k=8)
    shown = [item.text for hit in search(index, query).hits for item in hit.evidence if item.text]
    assert shown
    find = Reading.find_studies

    def replaced(read: Reading, *args: Any) -> Any:
        found = find(read, *args)
        newer = {
            key: replace(study, case=replace(study.case, text="Another report."))
            for key, study in found.by_key.items()
        }
        return replace(found, by_key=newer)

    monkeypatch.setattr(Reading, "find_studies", replaced)
    answer = search(index, query)
    assert answer.hits
    assert not [item.text for hit in answer.hits for item in hit.evidence if item.text]


def test_evidence_names_items_of_the_hit_and_gives_their_cosines(index: Index) -> None:
    text = "There is a large right pleural effusion."
    vector = index.encoder.encode_texts([text])[0]
    for hit in search(index, Query(text=text, k=8)).hits:
        for item in hit.evidence:
            if item.kind == "findings":
                assert item.item_id == hit.case.study_id
                continue
            assert item.item_id.startswith(hit.case.study_id + "#") == (item.kind != "duplicate")
            if item.kind == "sentence":
                assert item.text in (hit.case.text or "").replace("\n", " ")
                expected = float(index.encoder.encode_texts([item.text or ""])[0] @ vector)
                assert item.score == pytest.approx(expected, abs=1e-4)


def test_images_come_in_the_order_of_their_cosine(index: Index) -> None:
    vector = index.encoder.encode_images([read_image("phantom://9/1")])[0]
    answer = search(index, Query(image="phantom://9/1", target="images", k=40))
    assert len(answer.hits) == PHANTOMS + 4
    films = index.encoder.encode_images([read_image(str(hit.case.path)) for hit in answer.hits])
    assert [hit.score for hit in answer.hits] == pytest.approx(list(films @ vector), abs=1e-4)


def test_one_report_of_five_hundred_sentences_does_not_crowd_out_the_others(index: Index) -> None:
    text = "There is a pleural effusion of 17 millimeters."
    for target in TARGETS[1:]:
        few = search(index, Query(text=text, target=target, k=10)).hits
        assert len({hit.case.study_id for hit in few}) == len(few) == 10
        everyone = search(index, Query(text=text, target=target, k=100)).hits
        loud = next(hit for hit in everyone if hit.case.study_id == LOUD)
        assert any(item.kind == "sentence" and item.score > 0.999 for item in loud.evidence)
        assert sum(item.kind != "findings" for item in loud.evidence) <= 8


def test_k_larger_than_the_index_brings_every_other_study(index: Index) -> None:
    answer = search(index, Query(case="phantom:3-0", k=500))
    own = {case.study_id for case in answer.own_studies}
    assert "phantom:3-0" in own
    assert len(answer.hits) + len(represented(answer)) + len(own) == PHANTOMS + 4 + 1 + 3


@pytest.mark.parametrize("target", TARGETS)
def test_a_filter_is_met_by_exactly_the_studies_it_describes(index: Index, target: Target) -> None:
    everyone = search(index, Query(text="effusion", target=target, k=100)).hits
    filtered = search(index, Query(text="effusion", target=target, k=100, where="sex=F and age>=50")).hits
    expected = {
        hit.case.study_id
        for hit in everyone
        if hit.case.attributes.get("sex") == "F" and float(hit.case.attributes.get("age", 0)) >= 50
    }
    assert expected
    assert {hit.case.study_id for hit in filtered} == expected


def test_a_filter_on_findings_means_present_unless_it_says_absent(index: Index) -> None:
    for where, side in (
        ("finding=pleural_effusion", "present"),
        ("finding=pleural_effusion:absent", "absent"),
    ):
        hits = search(index, Query(text="lungs", k=100, where=where)).hits
        assert hits
        assert all("pleural_effusion" in status_lists(hit.case.findings)[side] for hit in hits)


def test_a_tables_own_columns_filter_by_their_type(index: Index) -> None:
    hits = search(index, Query(image="phantom://9/1", k=100, where="scanner=A dose>=0.5 portable=true")).hits
    assert {hit.case.study_id for hit in hits} == {"manifest:film1", "manifest:film3"}
    assert hits[0].case.attributes["scanner"] == "A"


def test_a_filter_that_nothing_meets_is_an_empty_answer(index: Index) -> None:
    answer = search(index, Query(text="effusion", where="age>200"))
    assert answer.hits == ()
    jsonschema.validate(json.loads(json.dumps(answer.as_json())), SCHEMA)


@pytest.mark.parametrize("target", TARGETS)
def test_a_case_and_its_subjects_other_studies_are_never_hits(index: Index, target: Target) -> None:
    answer = search(index, Query(case="manifest:film1", target=target, k=100))
    assert not any(hit.case.subject_id == "manifest:someone" for hit in answer.hits)
    newest_first = ["manifest:film3", "manifest:film2", "manifest:film1", "manifest:film0"]
    assert [case.study_id for case in answer.own_studies] == newest_first


def test_equal_pixels_in_another_file_make_an_image_its_subjects_own(index: Index, tmp_path: Path) -> None:
    grey = np.rint(read_image("phantom://4/2") * 255).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "renamed.png")
    stored = read_image("phantom://4/2")
    answer = search(index, Query(image="phantom://4/2", target="images", k=100))
    assert [case.subject_id for case in answer.own_studies] == ["manifest:someone"] * 4
    if np.array_equal(stored, grey.astype(np.float32) / 255):
        renamed = search(index, Query(image=str(tmp_path / "renamed.png"), target="images", k=100))
        assert len(renamed.own_studies) == 4


def test_a_named_subjects_studies_are_their_own_and_no_hits(index: Index) -> None:
    answer = search(index, Query(text="clear lungs", subject=LOUD, k=100))
    assert [case.study_id for case in answer.own_studies] == [LOUD]
    assert LOUD not in [hit.case.study_id for hit in answer.hits]


def test_a_sentence_that_the_own_subject_shares_still_brings_the_others(index: Index) -> None:
    answer = search(
        index, Query(text="The lungs are clear.", subject="manifest:told0", target="reports", k=100)
    )
    found = {
        hit.case.study_id for hit in answer.hits if any(item.kind == "sentence" for item in hit.evidence)
    }
    assert {"manifest:told1", "manifest:told2"} <= found | represented(answer)
    assert "manifest:told0" not in {hit.case.study_id for hit in answer.hits} | represented(answer)


def test_a_case_is_searched_by_its_stored_vectors_alone(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("nothing is encoded for a case")

    monkeypatch.setattr(type(index.encoder), "encode_images", refuse)
    monkeypatch.setattr(type(index.encoder), "encode_texts", refuse)
    assert search(index, Query(case="phantom:3-1", k=3)).hits


def test_a_ready_vector_answers_as_the_text_it_was_made_of(index: Index) -> None:
    query = Query(text="There is a large right pleural effusion.", k=6, where="sex=M")
    vector = index.encoder.encode_texts([str(query.text)])[0]
    assert search_vector(index, query, "text", vector).hits == search(index, query).hits


def test_several_queries_are_answered_as_single_ones_with_errors_in_order(
    index: Index, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    queries = [
        Query(text="effusion", k=3),
        Query(image=str(broken)),
        Query(image="phantom://9/1", k=3),
        Query(case="nobody:1"),
        Query(text="effusion", where="agee>3"),
        Query(case="phantom:3-1", k=3),
        Query(image=str(tmp_path / "gone.png")),
    ]
    answers = search_all(index, queries)
    kinds = [type(answer) if isinstance(answer, SimilarityError) else "answer" for answer in answers]
    assert kinds == ["answer", UnreadableImage, "answer", UsageError, UsageError, "answer", UnreadableImage]
    for position in (0, 2, 5):
        alone, together = search(index, queries[position]), answers[position]
        assert not isinstance(together, SimilarityError)
        assert [hit.case.study_id for hit in together.hits] == [hit.case.study_id for hit in alone.hits]


def test_a_text_longer_than_the_context_is_answered_whole(index: Index) -> None:
    long = "The lungs are clear. " * 200 + "There is a large right pleural effusion."
    assert index.encoder.count_windows([long])[0] > 1
    assert len(search(index, Query(text=long, k=5)).hits) == 5


def test_a_dicom_of_another_modality_is_refused_as_a_query(index: Index) -> None:
    from pydicom.data import get_testdata_file

    with pytest.raises(NotAdmitted, match="modality is CT"):
        search(index, Query(image=str(get_testdata_file("CT_small.dcm"))))


def test_an_index_that_holds_nothing_says_so(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "empty")
    with Index.open(home, read_only=False) as empty, pytest.raises(EmptyIndex, match="index add"):
        search(empty, Query(text="effusion"))
    with Index.open(home) as empty, pytest.raises(EmptyIndex, match="index add"):
        search(empty, Query(text="effusion"))


@pytest.mark.parametrize("k", [0, -1, 10**9])
def test_k_is_a_number_of_studies(k: int) -> None:
    with pytest.raises(UsageError, match="k is a number"):
        Query(text="effusion", k=k)


@pytest.mark.parametrize("query", [Query(text="pleural effusion"), Query(image="phantom://9/1")])
def test_the_time_of_an_answer_excludes_the_loading_of_the_encoder(
    index: Index, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = index.encoder

    hours = 0

    def load_slowly(_: Index) -> Encoder:
        nonlocal hours
        hours += 1
        return loaded

    monkeypatch.setattr(Index, "encoder", property(load_slowly))
    monkeypatch.setattr(timing, "perf_counter", lambda: 3600.0 * hours)  # nothing else takes time
    assert search(index, query).took.total == 0
    assert hours
