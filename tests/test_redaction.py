"""What is logged or shown in a notebook of a record: its shape, and nothing of a patient."""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from corpus.records import ImageRef, Problem, Report, Section, Study
from corpus.redaction import _repr
from indexer.catalog.studies import Case
from retrieval.answer import Answer, Evidence, Hit
from retrieval.query.query import Query
from retrieval.service import schemas

ROOMS = ("corpus", "trainer", "indexer", "retrieval")
OF_A_PATIENT = {
    "text", "study_id", "study_ids", "subject_id", "subject", "subjects", "item_id", "location", "patient",
    "patient_id", "accession", "study_uid", "diagnosis", "report_id", "sentences", "studies", "payload",
    "payloads", "picture", "study", "owners", "detail", "request", "case", "key", "problems",
}  # fmt: skip
HARMLESS = {
    ("indexer.vectors.qdrant_filters", "key"),  # of a filter field
    ("indexer.ingest.plan", "problems"),  # numbers by kind
    ("indexer.ingest.added", "problems"),
    ("trainer.train.preparation", "problems"),
}
SENTINEL = "PATIENT^SECRET"


def records() -> Iterator[type]:
    """Every data class and named tuple of the four packages."""
    for room in ROOMS:
        package = importlib.import_module(room)
        for module in pkgutil.walk_packages(package.__path__, f"{room}."):
            for _, found in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
                named = issubclass(found, tuple) and hasattr(found, "_fields")
                if found.__module__ == module.name and (named or dataclasses.is_dataclass(found)):
                    yield found


def names_of(record: Any) -> list[str]:
    if dataclasses.is_dataclass(record):
        return [field.name for field in dataclasses.fields(record)]
    return list(record._fields)


EVERY = list(records())
PRIVATE = [record for record in EVERY if record.__repr__ is _repr]


def test_every_record_with_a_field_of_a_patient_is_redacted() -> None:
    open_ones = [
        f"{record.__module__}.{record.__name__}.{name}"
        for record in EVERY
        for name in names_of(record)
        if name in OF_A_PATIENT and record not in PRIVATE and (record.__module__, name) not in HARMLESS
        if record.__annotations__.get(name) not in (int, float, bool, "int", "float", "bool")
    ]
    assert open_ones == []
    assert len(PRIVATE) > 60


@pytest.mark.parametrize("record", PRIVATE, ids=lambda record: f"{record.__module__}.{record.__name__}")
@pytest.mark.parametrize("shape", [SENTINEL, (SENTINEL,), {SENTINEL: [SENTINEL]}, SENTINEL.encode()])
def test_no_redacted_record_shows_what_it_holds(record: Any, shape: object) -> None:
    names = names_of(record)
    if dataclasses.is_dataclass(record):
        made = object.__new__(record)  # type: ignore[call-overload]
        for name in names:
            object.__setattr__(made, name, shape)
    else:
        made = record(*[shape] * len(names))
    assert SENTINEL not in repr(made)
    assert record.__name__ in repr(made)
    assert SENTINEL not in repr([made]) + f"{made}" + f"{made!r}"


def test_a_hit_and_all_it_is_made_of_show_no_report() -> None:
    case = Case(SENTINEL, SENTINEL, "s", SENTINEL, SENTINEL, SENTINEL, {}, {"name": SENTINEL})
    hit = Hit(1, 0.5, "case", SENTINEL, case, (Evidence(SENTINEL, "report", 0.5, SENTINEL),))
    answer = Answer({"text": SENTINEL}, {}, (hit,), (case,))
    study = Study(
        SENTINEL,
        SENTINEL,
        "s",
        (ImageRef(SENTINEL, SENTINEL),),
        Report("r", (Section("a", SENTINEL),)),
        age=41.5,
    )
    for record in (
        hit,
        answer,
        study,
        Query(text=SENTINEL, where=SENTINEL),
        Problem(SENTINEL, "failed", SENTINEL),
    ):
        assert SENTINEL not in repr(record)
    assert "41.5" not in repr(study)
    assert "rank=1, score=0.5" in repr(hit), "what is nobody's is still to be seen"


def test_no_body_of_the_service_shows_its_fields() -> None:
    for _, model in inspect.getmembers(schemas, inspect.isclass):
        if issubclass(model, BaseModel) and model.__module__ == schemas.__name__:
            made = model.model_construct(**dict.fromkeys(model.model_fields, SENTINEL))
            assert SENTINEL not in f"{made!r} {made!s}", model
