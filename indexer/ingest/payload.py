"""What stands beside a vector: keyed hashes and filter fields, and nothing that names a person."""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, cast, get_args

from corpus.errors import UsageError
from corpus.findings import Status
from corpus.language.concepts import Concept, report_concepts
from corpus.language.labeler import LABELER_VERSION
from corpus.language.modifiers import WITHIN, Degree, Side, Zone
from corpus.records import AttributeValue, ImageRef, Report, Study
from indexer.home import Home
from indexer.vectors.filters import (
    CASE_FIELDS,
    KEY_FIELDS,
    FieldType,
    PayloadValue,
    payload_key,
    stretch,
)

log = logging.getLogger(__name__)

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=list)

LONGEST_KEYWORD = 200
"""A column whose text is longer holds prose, not a keyword: it stays in the catalog, out of the payload."""

SENTENCE_PAYLOAD: Mapping[str, PayloadValue] = {"kind": "sentence"}
"""A sentence belongs to many studies, so no study's fields stand beside its vector. A filtered search of
sentences asks the store for more than it needs, reads from the catalog which studies hold each, and judges
those studies' payloads with `conditions.matches`."""


def item_payload(
    study: Study, image: ImageRef | None, home: Home, own_fields: Mapping[str, FieldType]
) -> dict[str, PayloadValue]:
    """The payload of a picture (or, with None, of the report) of a study.

    `finding` lists the plain `name` of what is present, and `name:status` of what else is known; `concept`
    those findings whose place or degree the report tells, or which it denies by name (`write_concept`).
    `own_fields` are the columns that
    one can filter on; a value that is not of its column's type is left out.
    """
    found: dict[str, PayloadValue | None] = {
        "study": home.keyed("study", study.study_id),
        "subject": home.keyed("subject", study.subject_id),
        "kind": "report" if image is None else "image",
        "source": study.source,
        "sex": study.sex,
        "age": None if study.age is None else float(study.age),
        "date": _moment(study.date),
        "diagnosis": study.diagnosis[:LONGEST_KEYWORD] if study.diagnosis else None,
        "finding": [
            name if status is Status.PRESENT else f"{name}:{status}"
            for name, status in sorted(study.findings.items())
            if status is not Status.UNMENTIONED
        ],
        "concept": [] if study.report is None else list(_told(study.report)),
    }
    if image is not None:
        found["view"], found["modality"] = image.view, image.modality
    for name, value in study.attributes.items():
        kind = own_fields.get(own_field(name))
        if kind is not None and _type_of(value) is kind:
            found[payload_key(own_field(name))] = int(value) if isinstance(value, bool) else value
    return {key: value for key, value in found.items() if value is not None and value != []}


def write_concept(concept: Concept) -> str:
    """A concept as a payload keeps it: `finding:status:side:zone:degree`, empty where nothing is told."""
    return ":".join(
        (concept.finding, concept.status, concept.side or "", concept.zone or "", concept.degree or "")
    )


@lru_cache(maxsize=1 << 14)  # few are ever told, and a search reads those of every candidate
def read_concept(text: str) -> Concept:
    """The concept that `write_concept` wrote."""
    finding, status, *place = text.split(":")
    side, zone, degree = (part or None for part in place)
    return Concept(
        finding,
        Status(status),
        cast("Side | None", side),
        cast("Zone | None", zone),
        cast("Degree | None", degree),
    )


def told_concepts(payload: Mapping[str, PayloadValue]) -> list[Concept]:
    """The concepts that a payload holds: what the study's report places, grades or denies by name."""
    return [read_concept(text) for text in listed(payload, "concept")]


def listed(payload: Mapping[str, PayloadValue], key: str) -> list[str]:
    """The entries of a payload's list of texts: an engine may give a list of one back as that one."""
    held = payload.get(key)
    return [held] if isinstance(held, str) else list(held) if isinstance(held, list | tuple) else []


def forms(concept: Concept, findings: Iterable[str]) -> tuple[str, ...]:
    """Every way in which a payload may hold a concept of these findings that is in the place and of the
    degree asked for: for a filter on `concept`. A bilateral finding is on either side."""
    sides = (concept.side, "bilateral") if concept.side not in (None, "bilateral") else (concept.side,)
    narrower = [zone for zone, third in WITHIN.items() if third == concept.zone]
    return tuple(
        write_concept(Concept(finding, concept.status, side, zone, degree))
        for finding in findings
        for side in (sides if concept.side else (*get_args(Side), None))
        for zone in ((concept.zone, *narrower) if concept.zone else (*get_args(Zone), None))
        for degree in ((concept.degree,) if concept.degree else (*get_args(Degree), None))
    )


@lru_cache(maxsize=64)  # a study's pictures and its report stand together
def _told(report: Report) -> tuple[str, ...]:
    told = (c for c in report_concepts(report) if c.side or c.zone or c.degree or c.status is Status.ABSENT)
    return tuple(sorted(map(write_concept, told)))


def own_field(column: str) -> str:
    """The name under which one filters on a table's own column."""
    return f"attr.{column}" if column in CASE_FIELDS or column in KEY_FIELDS else column


def fields_of(attributes: Mapping[str, AttributeValue]) -> dict[str, FieldType]:
    """The filter fields that a study's own columns make, typed by their values."""
    return {own_field(name): kind for name, value in attributes.items() if (kind := _type_of(value))}


def attribute_hash(study: Study, payload: Mapping[str, PayloadValue]) -> str:
    """Hash of what stands beside a vector: filter fields, labeler version, links to other systems."""
    return digest([payload, LABELER_VERSION, study.accession, study.study_uid])


def content_hash(content: str, fingerprint: str) -> str:
    """Hash of what decides a vector: the pixels' or text's own hash, and the encoder."""
    return digest([content, fingerprint])


def patches_hash(content: str, fingerprint: str) -> str:
    """Hash of what decides the vectors of a picture's patches."""
    return digest([content, fingerprint, "patches"])


def text_hash(text: str) -> str:
    """Hash (64 hex) of a text that is embedded."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def study_hash(study: Study) -> str:
    """Hash of everything that the catalog keeps of a study.

    Keys that a study does not have leave no trace: without them the hash is that of earlier versions.
    """
    keys = [study.birth_key, *(image.instance_key for image in study.images)]
    shared = [study.shared_key] if study.shared_key else []
    return digest(
        [
            study.subject_id,
            study.source,
            [[i.item_id, i.location, i.view, i.modality] for i in study.images],
            None if study.report is None else _written(study.report),
            dict(study.findings),
            [study.diagnosis, study.age, study.sex, study.date, study.accession, study.study_uid],
            dict(study.attributes),
            *([keys] if any(keys) else []),
            *shared,
        ]
    )


def _written(report: Report) -> list[Any]:
    sections = [[s.name, s.text] for s in report.sections]
    return [sections, report.language, report.findings_read]


def digest(parts: Any) -> str:
    """SHA-256 (64 hex) of a structure of plain values, the order of mappings left out."""
    return hashlib.sha256(_CANONICAL.encode(parts).encode()).hexdigest()


def _type_of(value: AttributeValue) -> FieldType | None:
    if isinstance(value, bool):
        return FieldType.BOOL
    if isinstance(value, int | float):
        return FieldType.NUMBER
    return FieldType.KEYWORD if len(value) <= LONGEST_KEYWORD else None


def _moment(date: str | None) -> str | None:
    """The first instant of a date, as both engines read it."""
    if date is None:
        return None
    try:
        return stretch(date)[0].isoformat().replace("+00:00", "Z")
    except UsageError:
        log.warning("a study's date is not ISO 8601 and cannot be filtered on")
        return None


SENTENCE_ATTRIBUTES = digest([SENTENCE_PAYLOAD])
"""`attribute_hash` of every sentence."""
