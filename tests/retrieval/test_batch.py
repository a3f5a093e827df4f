"""`--batch`: one answer a line, in order, whatever the lines hold."""

import io
import json
import os
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corpus.errors import ServerUnavailable, SimilarityError, UnreadableImage
from retrieval.answer import Answer
from retrieval.query.batch import AT_ONCE, answer_lines
from retrieval.query.query import Query


def answering(queries: Sequence[Query]) -> list[Answer | SimilarityError]:
    return [
        UnreadableImage("'gone.png' is not there") if query.image else Answer(query.as_json(), {}, ())
        for query in queries
    ]


def answered(lines: bytes) -> list[dict[str, object]]:
    return list(answer_lines(io.BytesIO(lines), answering))


def test_a_bad_line_is_answered_in_order_with_its_error() -> None:
    lines = [
        b'{"id": "a", "text": "effusion", "k": 3}',
        b"{not json",
        b'{"id": "c", "image": "gone.png"}',
        b"",
        b'{"id": "d", "text": "effusion", "k": 0}',
        b'{"id": "e", "case": "openi:1", "image": "x.png"}',
        b'{"id": "f", "txt": "effusion"}',
        b"[1, 2]",
        b'{"text": "edema"}',
        b'{"id": "h", "text": "\xff"}',
        b'{"id": "i", "text": "edema", "k": "3"}',
    ]
    out = answered(b"\n".join(lines))
    assert [(line["id"], line.get("error")) for line in out] == [
        ("a", None),
        (2, "line 2 is not JSON"),
        ("c", "'gone.png' is not there"),
        ("d", "k is a number of studies from 1 to 10000, not 0"),
        ("e", "a query is of an image or of a case, not of both: give the second as --like"),
        ("f", "unknown key 'txt'; the nearest is 'text'"),
        (8, "line 8 is not a JSON object"),
        (9, None),
        (10, "line 10 is not JSON"),
        ("i", "k is a whole number, not '3'"),
    ]


def test_a_server_that_goes_away_stops_a_batch_after_the_lines_that_were_answered() -> None:
    """Exit code 0 and an error in every line would hide that nothing was searched."""
    gone = ServerUnavailable("Qdrant does not answer", away=True)

    def losing(queries: Sequence[Query]) -> list[Answer | SimilarityError]:
        return [
            gone if query.text == "lost" else answer
            for query, answer in zip(queries, answering(queries), strict=True)
        ]

    lines = b"\n".join(
        json.dumps({"id": n, "text": text}).encode() for n, text in enumerate(("x", "lost", "x"))
    )
    out: list[object] = []
    with pytest.raises(ServerUnavailable):
        out.extend(line["id"] for line in answer_lines(io.BytesIO(lines), losing))
    assert out == [0]


def test_more_lines_than_fit_together_keep_their_order() -> None:
    lines = b"\n".join(json.dumps({"id": n, "text": "x"}).encode() for n in range(5 * AT_ONCE + 3))
    assert [line["id"] for line in answered(lines)] == list(range(5 * AT_ONCE + 3))


def test_a_program_that_writes_one_line_and_waits_gets_its_answer() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as pen:
        answers = answer_lines(stream, answering)
        for name in ("first", "second"):
            pen.write(json.dumps({"id": name, "text": "effusion"}).encode() + b"\n")
            assert next(answers)["id"] == name


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.binary(), st.recursive(st.none() | st.text() | st.integers(), lambda inner:
    st.dictionaries(st.sampled_from(["id", "text", "image", "k", "for", "where"]), inner)).map(
        lambda value: json.dumps(value).encode()
    ))))  # fmt: skip
def test_no_line_stops_a_batch(lines: list[bytes]) -> None:
    whole = b"\n".join(lines)
    expected = sum(bool(line.strip()) for line in io.BytesIO(whole))
    assert len(answered(whole)) == expected
