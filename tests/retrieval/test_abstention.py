"""What an answer promises, and when it holds its tongue."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from indexer.index import Index
from retrieval.query.query import TARGETS, Query
from retrieval.reliability.conformal import Guarantee, Line
from retrieval.reliability.fit import calibrate
from retrieval.search import search

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")


def keep(index: Index, line: Line | None) -> None:
    lines = {target: {5: {"rest": line}} for target in TARGETS} if line else {}
    guarantee = Guarantee(lines, 99).as_json() if line else None
    index.calibrations.keep(index.active_version.fingerprint, {"guarantee": guarantee})


@pytest.fixture
def promising(index: Index) -> Iterator[Index]:
    """The ward as if three of five hits had always shared the main finding."""
    keep(index, Line((3.0, 0.0, 0.0), 1.0, 0.0, 99))
    yield index
    keep(index, None)


def test_a_picture_alone_is_promised_something(promising: Index) -> None:
    answer = search(promising, Query(image="phantom://9/1", k=5))
    assert answer.abstained is False
    assert answer.reason == "At least 3 of these 5 share the picture's main finding (90%)."


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
def test_what_was_not_calibrated_is_promised_nothing(promising: Index, query: Query) -> None:
    answer = search(promising, query)
    assert answer.hits
    assert (answer.abstained, answer.reason) == (None, None)


def test_where_not_one_hit_can_be_promised_the_answer_abstains(index: Index) -> None:
    keep(index, Line((3.0, 0.0, 0.0), 4.0, 0.0, 99))
    try:
        answer = search(index, Query(image="phantom://9/1", k=5))
    finally:
        keep(index, None)
    assert answer.abstained is True
    assert str(answer.reason).startswith("Nothing like this here")
    assert answer.hits


def test_without_calibration_nothing_is_promised(index: Index) -> None:
    answer = search(index, Query(image="phantom://9/1", k=5))
    assert (answer.abstained, answer.reason) == (None, None)


def test_a_ward_of_a_few_people_learns_nothing_and_says_why(index: Index) -> None:
    learned = json.loads(json.dumps(calibrate(index).as_json()))
    jsonschema.validate(learned, json.loads((CONTRACTS / "index-calibrate.schema.json").read_text()))
    assert learned["learned"] == []
    assert set(learned["missing"]) == {"gate", "guarantee", "votes"}
    assert all("at least" in reason for reason in learned["missing"].values())
    assert search(index, Query(image="phantom://9/1", k=5)).reason is None
