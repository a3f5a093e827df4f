"""Pictures of another kind are refused, those of the index's own kind are not; so is a search for them."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from indexer.index import Index
from retrieval.draft.draft import draft
from retrieval.query.query import Query
from retrieval.reliability.ood import FEWEST_PEOPLE, Gate, Numbers, fit_gate, look
from retrieval.search import search

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning")

CONTRACTS = Path(__file__).resolve().parents[2] / "docs" / "contracts"
PEOPLE = 600


def points(count: int, seed: int, *, other: bool = False) -> Numbers:
    """Points of a kind: thirty directions of the space, unevenly; another kind's lie along others."""
    random = np.random.default_rng(seed)
    rows = random.normal(size=(count, 200)) * 0.02
    spread = np.linspace(1.0, 0.1, 30)
    rows[:, 30:60] += random.normal(size=(count, 30)) * (0.3 * spread if other else 0)
    rows[:, :30] += random.normal(size=(count, 30)) * (0 if other else spread)
    rows[:, 100] += 4.0
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def gate() -> Gate:
    fitted = fit_gate(points(PEOPLE, 0), points(PEOPLE, 1, other=True), [str(n) for n in range(PEOPLE)])
    assert fitted is not None
    return fitted


def test_of_its_own_kind_at_most_one_in_fifty_is_refused_and_of_another_nearly_all(gate: Gate) -> None:
    assert (gate.distance(points(2_000, 5)) > gate.limit).mean() <= 0.02
    assert (gate.distance(points(2_000, 6, other=True)) > gate.limit).mean() >= 0.95


def test_a_gate_is_the_same_after_it_was_kept(gate: Gate) -> None:
    again = Gate.from_json(json.loads(json.dumps(gate.as_json())))
    np.testing.assert_allclose(again.distance(points(50, 7)), gate.distance(points(50, 7)), rtol=1e-3)


def test_pictures_of_too_few_people_make_no_gate() -> None:
    few = points(200, 8)
    assert fit_gate(few, few, [str(n % 12) for n in range(200)]) is None
    assert fit_gate(few, few, [str(n % (FEWEST_PEOPLE - 1)) for n in range(200)]) is None


class Seeing:
    """An encoder whose trunk sees the picture's own brightness and contrast."""

    def encode_trunk(self, images: list[np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
        return np.array([[image.mean(), image.std(), 1.0] for image in images], np.float32)


def test_an_inverted_film_is_the_same_picture() -> None:
    random = np.random.default_rng(0)
    films = [np.clip(random.normal(0.2, 0.05, (32, 32)), 0, 1).astype(np.float32) for _ in range(240)]
    encoder = Seeing()
    sides = look(encoder, films)  # type: ignore[arg-type]
    fitted = fit_gate(*sides, [str(n) for n in range(240)])
    assert fitted is not None
    assert not fitted.refuses(encoder, films[0])  # type: ignore[arg-type]
    assert not fitted.refuses(encoder, 1 - films[0])  # type: ignore[arg-type]
    assert fitted.refuses(encoder, random.random((32, 32), np.float32))  # type: ignore[arg-type]


@pytest.fixture
def closed(index: Index) -> Iterator[Index]:
    """The ward behind a gate that lets nothing through."""
    width = index.encoder.encode_trunk([np.ones((64, 64), np.float32)]).shape[1]
    nothing = Gate(np.zeros(width), np.eye(2, width), np.ones(2), 1e-6, 0.0, 99)
    fingerprint = index.active_version.fingerprint
    index.calibrations.keep(fingerprint, {"gate": nothing.as_json()})
    yield index
    index.calibrations.keep(fingerprint, {"gate": None})


def test_a_refused_picture_finds_nothing_and_drafts_nothing_and_is_told_why(closed: Index) -> None:
    answer = search(closed, Query(image="phantom://9/1"))
    assert answer.hits == ()
    assert answer.abstained is True
    assert "not of the kind" in str(answer.reason)
    schema = json.loads((CONTRACTS / "search.schema.json").read_text())
    jsonschema.validate(json.loads(json.dumps(answer.as_json())), schema)
    made = draft(closed, "phantom://9/1")
    assert not made.statements
    assert "not of the kind" in str(made.reason)


def test_a_picture_that_the_index_holds_is_of_its_kind(closed: Index) -> None:
    assert search(closed, Query(image="phantom://3/1")).hits


def test_words_pass_no_gate(closed: Index) -> None:
    answer = search(closed, Query(text="pleural effusion"))
    assert answer.hits
    assert answer.abstained is None
