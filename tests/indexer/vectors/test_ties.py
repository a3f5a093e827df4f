"""Equal scores: both stores return the same hits in the same order, also where the limit splits a group."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.vectors.filters import Comparison
from indexer.vectors.store import NO_VECTOR, Form, Hit, Point, Terms, VectorStore
from indexer.vectors.ties import MOST, in_one_order
from tests.indexer.stores import open_store

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

DIM = 24
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def stores(memory: Path, request: pytest.FixtureRequest) -> Iterator[list[VectorStore]]:
    """The embedded store and the server's."""
    with ExitStack() as opened:
        yield [opened.enter_context(open_store(kind, memory, request.config)) for kind in ("edge", "server")]


def directions() -> np.ndarray:
    """Nine unit vectors, which any query has well apart or equally near."""
    rng = np.random.default_rng(11)
    vectors = rng.normal(size=(9, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def point(number: int, chosen: int, form: Form) -> Point:
    """A point like all others of the same choice."""
    made, payload = UUID(int=number), {"kind": "image", "sex": "FM"[number % 2], "study": f"s{number}"}
    if form == "terms":
        words = Terms(tuple(range(chosen + 1)), tuple(0.5 + 0.25 * word for word in range(chosen + 1)))
        return Point(made, NO_VECTOR, payload, words)
    vectors = directions()
    if form == "patches":
        return Point(made, vectors[[chosen, (chosen + 1) % 9]], payload)
    return Point(made, vectors[chosen], payload)


def query_for(form: Form) -> np.ndarray | Terms:
    if form == "terms":
        return Terms((0, 2, 5), (1.0, 1.0, 1.0))
    return directions()[[0, 4]] if form == "patches" else directions()[0]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    choices=st.lists(st.integers(0, 8), min_size=1, max_size=60),
    limit=st.integers(1, 40),
    seed=st.integers(0, 1000),
    filtered=st.booleans(),
    exact=st.booleans(),
)
@pytest.mark.parametrize("form", ["dense", "patches", "terms"])
def test_every_store_returns_the_same_hits_in_the_same_order(
    stores: list[VectorStore],
    form: Form,
    choices: list[int],
    limit: int,
    seed: int,
    filtered: bool,
    exact: bool,
) -> None:
    ids = np.random.default_rng(seed).permutation(len(choices)) + 1
    points = [point(int(i), chosen, form) for i, chosen in zip(ids, choices, strict=True)]
    name = f"test__{next(NUMBERS)}"
    answers = []
    for store in stores:
        store.create(name, 0 if form == "terms" else DIM, {}, form)
        for half in (points[::2], points[1::2]):
            if half:
                store.upsert(name, half)
        where = Comparison("sex", "=", "F") if filtered else None
        answers.append(store.search(name, query_for(form), limit, where, exact=exact))
        store.drop(name)
    first, second = answers
    assert [(hit.id, hit.payload) for hit in first] == [(hit.id, hit.payload) for hit in second]
    assert [hit.score for hit in first] == pytest.approx([hit.score for hit in second], abs=1e-5)
    ranks = [(-hit.score, hit.id) for hit in first]
    assert ranks == sorted(ranks), "best first, equal ones by id"


@pytest.mark.parametrize("keys", [None, (), ("study",)])
def test_of_many_equal_points_those_of_the_lowest_ids_are_returned_with_their_payloads(
    store: VectorStore, keys: tuple[str, ...] | None
) -> None:
    ids = np.random.default_rng(1).permutation(700) + 1
    store.create("test__equal", DIM, {})
    store.upsert("test__equal", [point(int(i), 3, "dense") for i in ids])
    hits = store.search("test__equal", directions()[3], 5, payload=keys)
    assert [hit.id.int for hit in hits] == [1, 2, 3, 4, 5]
    for hit in hits:
        whole = point(hit.id.int, 3, "dense").payload
        assert hit.payload == {key: whole[key] for key in (whole if keys is None else keys)}


def hits_of(*scores: float) -> list[Hit]:
    """Hits of these scores, with falling ids."""
    return [Hit(UUID(int=1000 - rank), score, {"rank": rank}) for rank, score in enumerate(scores)]


def ranked(everything: list[Hit], limit: int) -> tuple[list[int], list[int]]:
    """Ids of the hits, and how many each search wanted."""
    wanted: list[int] = []

    def search(count: int, with_payload: bool) -> list[Hit]:
        wanted.append(count)
        return everything[:count]

    payloads = {hit.id: hit.payload for hit in everything}
    return [hit.id.int for hit in in_one_order(limit, search, lambda ids: payloads)], wanted


def test_without_a_tie_at_the_limit_one_search_is_enough() -> None:
    assert ranked(hits_of(0.9, 0.9, 0.8, 0.7, 0.6), 3) == ([999, 1000, 998], [4])
    assert ranked(hits_of(0.9, 0.8), 3) == ([1000, 999], [4])
    assert ranked(hits_of(0.9, 0.9), 2) == ([999, 1000], [3])


def test_a_group_that_the_limit_splits_is_read_to_its_end_and_no_further_than_a_bound() -> None:
    ids, wanted = ranked(hits_of(0.9, *[0.5] * 100, 0.4), 3)
    assert ids == [1000, 900, 901]
    assert wanted == [4, 32, 256]
    many = [Hit(UUID(int=n), 0.5, {}) for n in range(2 * MOST, 0, -1)]
    assert ranked(many, 3)[1][-1] == MOST
    assert len(ranked(many, 2 * MOST)[0]) == 2 * MOST


def test_scores_that_differ_by_rounding_are_equal_and_others_are_not() -> None:
    near = hits_of(0.5000001, 0.5, 0.49999, 0.49998)
    best = in_one_order(4, lambda count, _: near[:count], lambda _: {})
    assert [hit.id.int for hit in best] == [999, 1000, 998, 997]
    assert [hit.score for hit in best] == [0.5000001, 0.5000001, 0.49999, 0.49998]
    bm25 = hits_of(15.000001, 15.0, 14.99)
    assert [hit.id.int for hit in in_one_order(2, lambda n, _: bm25[:n], lambda _: {})] == [999, 1000]


def test_a_point_that_is_deleted_meanwhile_is_left_out() -> None:
    equal = hits_of(*[0.5] * 20)
    found = {hit.id: hit.payload for hit in equal[:-1]}
    best = in_one_order(2, lambda count, _: equal[:count], lambda ids: found)
    assert equal[-1].id not in {hit.id for hit in best}
