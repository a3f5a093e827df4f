"""What an answer promises, and when it abstains."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from indexer.index import Index
from retrieval.query.query import TARGETS, Query
from retrieval.reliability.conformal import Guarantee, LowerBound
from retrieval.reliability.fit import calibrate
from retrieval.search import search

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")


def store_guarantee(index: Index, bound: LowerBound | None) -> None:
    bounds = {target: {5: {"rest": bound}} for target in TARGETS} if bound else {}
    guarantee = Guarantee(bounds, 99).as_json() if bound else None
    index.calibrations.keep(index.active_version.fingerprint, {"guarantee": guarantee})


@pytest.fixture
def guaranteed(index: Index) -> Iterator[Index]:
    """The ward as if three of five hits had always shared the main finding."""
    store_guarantee(index, LowerBound((3.0, 0.0, 0.0), 1.0, 0.0, 99))
    yield index
    store_guarantee(index, None)


def test_a_query_of_an_image_alone_gets_a_promise(guaranteed: Index) -> None:
    answer = search(guaranteed, Query(image="phantom://9/1", k=5))
    assert answer.abstained is False
    assert answer.reason == "At least 3 of these 5 share the image's main finding (90%)."


@pytest.mark.parametrize(
    "query",
    [
        Query(image="phantom://9/1", k=4),
        Query(image="phantom://9/1", k=5, where="sex=F"),
        Query(image="phantom://9/1", k=5, text="effusion"),
        Query(text="effusion", k=5),
        Query(case="phantom:3-1", k=5),
    ],
)
def test_a_query_that_the_guarantee_does_not_cover_gets_no_promise(guaranteed: Index, query: Query) -> None:
    answer = search(guaranteed, query)
    assert answer.hits
    assert (answer.abstained, answer.reason) == (None, None)


def test_an_answer_without_one_promised_hit_abstains(index: Index) -> None:
    store_guarantee(index, LowerBound((3.0, 0.0, 0.0), 4.0, 0.0, 99))
    try:
        answer = search(index, Query(image="phantom://9/1", k=5))
    finally:
        store_guarantee(index, None)
    assert answer.abstained is True
    assert str(answer.reason).startswith("Nothing like this here")
    assert answer.hits


def test_without_calibration_no_promise_is_made(index: Index) -> None:
    answer = search(index, Query(image="phantom://9/1", k=5))
    assert (answer.abstained, answer.reason) == (None, None)


def test_an_index_of_few_subjects_fits_nothing_and_says_why(index: Index) -> None:
    report = json.loads(json.dumps(calibrate(index).as_json()))
    jsonschema.validate(report, json.loads((CONTRACTS / "index-calibrate.schema.json").read_text()))
    assert report["learned"] == []
    assert set(report["missing"]) == {"gate", "guarantee", "votes"}
    assert all("at least" in reason for reason in report["missing"].values())
    assert search(index, Query(image="phantom://9/1", k=5)).reason is None
