"""One suite for both vector stores: what the protocol promises."""

import math
import random
from collections.abc import Iterator
from uuid import UUID, uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from corpus.errors import IndexingError, UsageError
from indexer.vectors.filters import (
    And,
    Comparison,
    Condition,
    FieldType,
    Not,
    Or,
    PayloadValue,
    matches,
)
from indexer.vectors.store import NO_VECTOR, Form, Point, SearchRequest, Terms, VectorStore
from tests.indexer.stores import KINDS, open_store

pytestmark = [
    pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning"),
    pytest.mark.filterwarnings("ignore:Local mode performs exact:UserWarning"),
]

NAME = "test__images"
DIM = 8
DATES = ["2019-12-31T23:59:59Z", "2020-01-01T00:00:00Z", "2020-03-01T12:30:00Z", "2021-03-01T00:00:00Z"]
OWN_FIELDS = {"scanner": FieldType.KEYWORD, "kVp (mean)": FieldType.NUMBER, "portable": FieldType.BOOL}


def unit(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    vectors = rng.normal(size=(n, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def payloads(n: int) -> list[dict[str, PayloadValue]]:
    """Payloads in which every field is missing now and then."""
    rng = random.Random(7)
    made: list[dict[str, PayloadValue]] = []
    for number in range(n):
        whole: dict[str, PayloadValue] = {
            "sex": rng.choice("FMO"),
            "age": rng.choice([0.5, 30, 44.0, 60, 61.5, 90]),
            "view": rng.choice(["pa", "ap", "lateral"]),
            "date": rng.choice(
                [
                    "2019-12-31T23:59:59Z",
                    "2020-01-01T00:00:00Z",
                    "2020-03-01T12:30:00Z",
                    "2021-03-01T00:00:00Z",
                ]
            ),
            "finding": rng.sample(
                ["edema", "edema:present", "mass:absent", "nodule", "fracture:uncertain"], rng.randint(0, 3)
            ),
            "attr_scanner": rng.choice(["A", "B"]),
            "attr_kVp_20__28_mean_29_": rng.choice([80, 120.5]),
            "attr_portable": rng.choice([1, 0]),
        }
        known = {key: value for key, value in whole.items() if rng.random() < 0.8}
        made.append({"study": f"s{number // 2}", "subject": f"p{number // 4}", "kind": "image", **known})
    return made


CONDITIONS: list[Condition] = [
    Comparison("sex", "=", "F"),
    Comparison("sex", "!=", "F"),
    Comparison("sex", "in", ("F", "O")),
    Comparison("sex", "in", ()),
    Comparison("age", "=", 44),
    Comparison("age", "!=", 44),
    Comparison("age", "<", 60),
    Comparison("age", "<=", 60),
    Comparison("age", ">", 60),
    Comparison("age", ">=", 60),
    Comparison("age", "in", (30, 90.0)),
    Comparison("date", "=", "2020"),
    Comparison("date", "!=", "2020"),
    Comparison("date", "=", "2020-03-01"),
    Comparison("date", "<", "2020"),
    Comparison("date", "<=", "2020"),
    Comparison("date", ">", "2020-01"),
    Comparison("date", ">=", "2020-03-01T12:30:00+00:00"),
    Comparison("date", "in", ("2019", "2021-03")),
    Comparison("finding", "=", "edema"),
    Comparison("finding", "!=", "edema"),
    Comparison("finding", "=", "mass:absent"),
    Comparison("finding", "in", ("nodule", "mass:absent")),
    Comparison("scanner", "=", "A"),
    Comparison("attr.scanner", "!=", "A"),
    Comparison("kVp (mean)", ">", 100),
    Comparison("portable", "=", True),
    Comparison("portable", "!=", True),
    Comparison("portable", "in", (True, False)),
    And(()),
    Or(()),
    Not(Comparison("sex", "=", "F")),
    Not(And((Comparison("sex", "=", "F"), Comparison("age", ">", 40)))),
    And((Comparison("sex", "=", "F"), Comparison("age", ">", 40), Comparison("finding", "=", "edema"))),
    Or((Comparison("sex", "=", "M"), And((Comparison("age", "<", 40), Not(Comparison("view", "=", "pa")))))),
]


@pytest.fixture(scope="module", params=KINDS)
def read_only(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[VectorStore, list[Point]]]:
    """A filled store that tests only read: made once."""
    with open_store(request.param, tmp_path_factory.mktemp("read"), request.config) as made:
        yield _fill(made)


def _fill(store: VectorStore) -> tuple[VectorStore, list[Point]]:
    rng = np.random.default_rng(3)
    points = [Point(uuid4(), v, p) for v, p in zip(unit(rng, 120), payloads(120), strict=True)]
    store.create(NAME, DIM, OWN_FIELDS)
    store.upsert(NAME, points)
    return store, points


@pytest.fixture
def filled(store: VectorStore) -> tuple[VectorStore, list[Point]]:
    """A store with 120 points."""
    return _fill(store)


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_a_store_lets_through_exactly_what_the_condition_means(
    read_only: tuple[VectorStore, list[Point]], condition: Condition
) -> None:
    store, points = read_only
    wanted = {p.id for p in points if matches(condition, p.payload, OWN_FIELDS)}
    found = {hit.id for hit in store.search(NAME, points[0].vector, 200, condition)}
    assert found == wanted


def test_conditions_are_not_all_or_nothing() -> None:
    stored = payloads(120)
    shares = [
        sum(matches(c, p, OWN_FIELDS) for p in stored) for c in CONDITIONS if c not in (And(()), Or(()))
    ]
    assert sum(0 < share < 120 for share in shares) >= len(shares) - 1


def test_a_point_without_the_field_matches_no_comparison() -> None:
    for op, value in (("=", 1), ("!=", 1), ("<", 1), ("<=", 1), (">", 1), (">=", 1), ("in", (1,))):
        assert not matches(Comparison("age", op, value), {"sex": "F"}, {})  # type: ignore[arg-type]


def test_search_ranks_by_inner_product(read_only: tuple[VectorStore, list[Point]]) -> None:
    store, points = read_only
    query = unit(np.random.default_rng(5), 1)[0]
    scores = {p.id: float(p.vector @ query) for p in points}
    for exact in (True, False):
        hits = store.search(NAME, query, 10, exact=exact)
        assert [h.id for h in hits] == sorted(scores, key=lambda i: -scores[i])[:10]
        assert [h.score for h in hits] == pytest.approx([scores[h.id] for h in hits], abs=1e-6)


def test_a_batch_of_searches_is_answered_as_each_search_alone(
    read_only: tuple[VectorStore, list[Point]],
) -> None:
    store, points = read_only
    requests = [
        SearchRequest(NAME, points[3].vector, 5),
        SearchRequest("test__nowhere", points[3].vector, 5),
        SearchRequest(NAME, points[8].vector, 7, Comparison("sex", "=", "F"), ("study",)),
        SearchRequest(NAME, points[3].vector, 3, payload=()),
    ]
    alone = [
        [] if one.collection != NAME
        else store.search(NAME, one.vector, one.limit, one.where, payload=one.payload)
        for one in requests
    ]  # fmt: skip
    assert store.search_batch(requests) == alone
    assert [len(hits) for hits in alone] == [5, 0, 7, 3]
    assert store.search_batch([]) == []
    with pytest.raises(UsageError, match="nonsense"):
        store.search_batch(
            [requests[0], SearchRequest(NAME, points[0].vector, 1, Comparison("nonsense", "=", "x"))]
        )


def test_excluded_studies_never_come_back(read_only: tuple[VectorStore, list[Point]]) -> None:
    store, points = read_only
    hits = store.search(NAME, points[0].vector, 200, exclude_study_keys={"s0", "s7"})
    assert {h.payload["study"] for h in hits} == {p.payload["study"] for p in points} - {"s0", "s7"}


@pytest.mark.parametrize("keys", [(), ("study",), ("study", "finding", "attr_scanner")])
def test_of_a_payload_only_what_is_wanted_comes_back(
    read_only: tuple[VectorStore, list[Point]], keys: tuple[str, ...]
) -> None:
    store, points = read_only
    whole = store.search(NAME, points[0].vector, 200)
    hits = store.search(NAME, points[0].vector, 200, payload=keys)
    assert [(h.id, h.score) for h in hits] == [(h.id, h.score) for h in whole]
    assert [h.payload for h in hits] == [{k: h.payload[k] for k in keys if k in h.payload} for h in whole]


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (Comparison("sx", "=", "F"), "did you mean 'sex'"),
        (Comparison("age", "=", "old"), "age is a number"),
        (Comparison("age", "=", True), "age is a number"),
        (Comparison("sex", "<", "M"), "no order"),
        (Comparison("date", "=", "yesterday"), "not a date"),
        (Comparison("sex", "in", "F"), "list of values"),
        (Not(Or((Comparison("nonsense", "=", 1),))), "unknown field 'nonsense'"),
    ],
)
def test_a_wrong_condition_is_refused_rather_than_answered_with_nothing(
    read_only: tuple[VectorStore, list[Point]], condition: Condition, says: str
) -> None:
    store, points = read_only
    with pytest.raises(UsageError, match=says):
        store.search(NAME, points[0].vector, 5, condition)


@pytest.mark.parametrize("spoil", ["nan", "inf", "zero", "long", "short"])
def test_a_bad_vector_is_refused_and_nothing_of_its_batch_is_written(
    filled: tuple[VectorStore, list[Point]], spoil: str
) -> None:
    store, points = filled
    bad = points[0].vector.copy()
    if spoil == "short":
        bad = bad[:-1]
    else:
        bad = {"nan": bad * np.nan, "inf": bad + np.inf, "zero": bad * 0, "long": bad * 1.1}[spoil]
    with pytest.raises(IndexingError):
        store.search(NAME, bad, 5)
    fresh = [Point(uuid4(), points[1].vector, {"kind": "image"}), Point(uuid4(), bad, {"kind": "image"})]
    if spoil == "short":
        fresh = fresh[1:]
    with pytest.raises(IndexingError, match="nothing was written"):
        store.upsert(NAME, fresh) if spoil != "short" else _refuse(store, fresh)
    assert store.count(NAME) == 120


def _refuse(store: VectorStore, points: list[Point]) -> None:
    try:
        store.upsert(NAME, points)
    except IndexingError as error:
        raise IndexingError(f"{error}: nothing was written") from error


def test_writing_again_replaces_point_and_payload(filled: tuple[VectorStore, list[Point]]) -> None:
    store, points = filled
    changed = Point(points[0].id, points[1].vector, {"kind": "report"})
    store.upsert(NAME, [changed])
    (stored,) = store.fetch(NAME, [points[0].id])
    assert store.count(NAME) == 120
    assert stored.payload == {"kind": "report"}
    np.testing.assert_array_equal(stored.vector, points[1].vector)


def test_set_payload_replaces_the_whole_payload_and_leaves_the_vector(
    filled: tuple[VectorStore, list[Point]],
) -> None:
    store, points = filled
    store.set_payload(NAME, {points[0].id: {"kind": "image", "sex": "O"}, points[1].id: {"kind": "image"}})
    stored = {p.id: p for p in store.fetch(NAME, [points[0].id, points[1].id])}
    assert stored[points[0].id].payload == {"kind": "image", "sex": "O"}
    assert stored[points[1].id].payload == {"kind": "image"}
    np.testing.assert_array_equal(stored[points[0].id].vector, points[0].vector)


def test_deleted_points_are_gone_and_absent_ones_are_passed_over(
    filled: tuple[VectorStore, list[Point]],
) -> None:
    store, points = filled
    store.delete(NAME, [points[0].id, uuid4()])
    assert set(store.ids(NAME)) == {p.id for p in points[1:]}
    assert store.fetch(NAME, [points[0].id]) == []


def test_ids_name_every_point_once(store: VectorStore) -> None:
    store.create(NAME, DIM, {})
    rng = np.random.default_rng(1)
    wanted = [UUID(int=n) for n in range(1, 2_501)]
    store.upsert(
        NAME, [Point(i, v, {"kind": "image"}) for i, v in zip(wanted, unit(rng, 2_500), strict=True)]
    )
    assert sorted(store.ids(NAME)) == wanted


def test_create_again_adds_fields_and_keeps_points(filled: tuple[VectorStore, list[Point]]) -> None:
    store, points = filled
    store.create(NAME, DIM, {**OWN_FIELDS, "ward": FieldType.KEYWORD})
    assert store.count(NAME) == 120
    assert store.search(NAME, points[0].vector, 5, Comparison("ward", "=", "3")) == []
    with pytest.raises(IndexingError, match="holds 8"):
        store.create(NAME, DIM + 1, {})
    with pytest.raises(IndexingError, match="scanner"):
        store.create(NAME, DIM, {"scanner": FieldType.NUMBER})


def test_collections_come_and_go(store: VectorStore) -> None:
    store.create(NAME, DIM, {})
    assert NAME in store.collections()
    store.drop(NAME)
    store.drop(NAME)
    assert NAME not in store.collections()
    with pytest.raises(IndexingError, match="no collection"):
        store.count(NAME)


@pytest.fixture(params=["patches", "terms"])
def form(request: pytest.FixtureRequest) -> Form:
    """The other forms of a collection."""
    made: Form = request.param
    return made


def some_points(form: Form) -> list[Point]:
    """Points of a form, of which the last four are of study s5."""
    rng = np.random.default_rng(8)
    points = []
    for number in range(24):
        payload: dict[str, PayloadValue] = {
            "kind": "image",
            "study": f"s{number // 4}",
            "sex": "FM"[number % 2],
        }
        if form == "patches":
            points.append(Point(UUID(int=number + 1), unit(rng, 2 + number % 4), payload))
        else:
            ids = sorted(rng.choice(40, size=number % 6, replace=False).tolist())
            weights = tuple(rng.uniform(0.5, 2.0, len(ids)).astype(np.float32).tolist())
            points.append(Point(UUID(int=number + 1), NO_VECTOR, payload, Terms(tuple(ids), weights)))
    return points


def test_patches_are_ranked_by_the_mean_of_each_querys_nearest(store: VectorStore) -> None:
    points = some_points("patches")
    store.create(NAME, DIM, {}, "patches")
    store.upsert(NAME, points)
    query = unit(np.random.default_rng(2), 3)
    scores = {p.id: float((query @ p.vector.T).max(axis=1).mean()) for p in points}
    hits = store.search(NAME, query, 10)
    assert [h.id for h in hits] == sorted(scores, key=lambda i: -scores[i])[:10]
    assert [h.score for h in hits] == pytest.approx([scores[h.id] for h in hits], abs=1e-5)


def test_terms_are_ranked_by_their_weights_and_rarity(store: VectorStore) -> None:
    points = [point for point in some_points("terms") if point.terms and point.terms.ids]
    store.create(NAME, 0, {}, "terms")
    store.upsert(NAME, points)
    query = Terms((3, 7, 11, 20), (1.0,) * 4)
    stored = {p.id: dict(zip(p.terms.ids, p.terms.weights, strict=True)) for p in points if p.terms}
    rarity = {}
    for word in query.ids:
        n = sum(word in words for words in stored.values())
        rarity[word] = math.log((len(points) - n + 0.5) / (n + 0.5) + 1)
    scores = {i: sum(rarity[w] * words.get(w, 0.0) for w in query.ids) for i, words in stored.items()}
    wanted = sorted((i for i, score in scores.items() if score > 0), key=lambda i: -scores[i])
    hits = store.search(NAME, query, 24)
    assert [h.id for h in hits] == wanted
    assert [h.score for h in hits] == pytest.approx([scores[h.id] for h in hits], rel=1e-4)
    assert store.search(NAME, Terms(), 5) == []


def test_every_form_keeps_what_the_protocol_promises(store: VectorStore, form: Form) -> None:
    points = some_points(form)
    dim = 0 if form == "terms" else DIM
    store.create(NAME, dim, {}, form)
    store.upsert(NAME, points)
    store.create(NAME, dim, {}, form)
    assert store.count(NAME) == len(set(store.ids(NAME))) == len(points)
    for stored, made in zip(
        sorted(store.fetch(NAME, [p.id for p in points]), key=lambda p: p.id), points, strict=True
    ):
        np.testing.assert_allclose(stored.vector, made.vector, atol=1e-6)
        assert dict(stored.payload) == dict(made.payload)
        assert (stored.terms or Terms()).ids == (made.terms or Terms()).ids
    query = Terms(tuple(range(40)), (1.0,) * 40) if form == "terms" else points[0].vector
    women = {h.id for h in store.search(NAME, query, 24, Comparison("sex", "=", "F"))}
    assert women
    assert all(i.int % 2 == 1 for i in women)
    assert not {h.payload["study"] for h in store.search(NAME, query, 24, exclude_study_keys={"s5"})} & {"s5"}
    store.delete(NAME, [points[0].id])
    assert points[0].id not in {h.id for h in store.search(NAME, query, 24)}
    with pytest.raises(IndexingError, match="holds"):
        store.create(NAME, 8 if form == "terms" else DIM, {}, "dense")


def test_a_point_or_query_of_another_form_is_refused(store: VectorStore, form: Form) -> None:
    store.create(NAME, 0 if form == "terms" else DIM, {}, form)
    flat = unit(np.random.default_rng(1), 1)[0]
    with pytest.raises(IndexingError):
        store.search(NAME, flat, 3)
    bad: list[Point] = [Point(uuid4(), flat, {})]
    if form == "patches":
        bad += [Point(uuid4(), np.zeros((0, DIM), np.float32), {}), Point(uuid4(), flat[None] * 2, {})]
    else:
        bad += [
            Point(uuid4(), NO_VECTOR, {}, Terms((1, 1), (1.0, 1.0))),
            Point(uuid4(), NO_VECTOR, {}, Terms((1,), (float("nan"),))),
            Point(uuid4(), NO_VECTOR, {}, Terms((-1,), (1.0,))),
        ]
    for point in bad:
        with pytest.raises(IndexingError):
            store.upsert(NAME, [point])
    assert store.count(NAME) == 0
