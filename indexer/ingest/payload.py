"""Payloads of vectors: keyed hashes and filter fields, nothing that identifies a patient."""

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
from corpus.language.modifiers import PARENT_ZONE, Laterality, Severity, Zone
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
"""Longest keyword: a longer text is prose, which stays in the catalog and out of the payload."""

SENTENCE_PAYLOAD: Mapping[str, PayloadValue] = {"kind": "sentence"}
"""A sentence belongs to many studies, so its payload has no study's fields. A filtered search of sentences
fetches more than it needs, reads from the catalog which studies contain each, and filters the reports of
those studies in the store."""


def item_payload(
    study: Study, image: ImageRef | None, home: Home, own_fields: Mapping[str, FieldType]
) -> dict[str, PayloadValue]:
    """Return the payload of an image (or, with None, of the report) of a study.

    `finding` lists the plain `name` of what is present, and `name:status` of what else is known; `concept`
    those findings that the report localizes, grades, or denies by name (`write_concept`). `own_fields` are
    the columns that one can filter on; a value that is not of its column's type is left out.
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
        "concept": [] if study.report is None else list(_report_concepts(study.report)),
    }
    if image is not None:
        found["view"], found["modality"] = image.view, image.modality
    for name, value in study.attributes.items():
        kind = own_fields.get(own_field(name))
        if kind is not None and _type_of(value) is kind:
            found[payload_key(own_field(name))] = int(value) if isinstance(value, bool) else value
    return {key: value for key, value in found.items() if value is not None and value != []}


def write_concept(concept: Concept) -> str:
    """Return a concept as a payload stores it: `finding:status:side:zone:degree`, empty where unmentioned."""
    return ":".join(
        (concept.finding, concept.status, concept.side or "", concept.zone or "", concept.degree or "")
    )


@lru_cache(maxsize=1 << 14)  # few are distinct, and a search reads those of every candidate
def read_concept(text: str) -> Concept:
    """Return the concept that `write_concept` wrote."""
    finding, status, *modifiers = text.split(":")
    side, zone, degree = (part or None for part in modifiers)
    return Concept(
        finding,
        Status(status),
        cast("Laterality | None", side),
        cast("Zone | None", zone),
        cast("Severity | None", degree),
    )


def payload_concepts(payload: Mapping[str, PayloadValue]) -> list[Concept]:
    """Return the concepts of a payload: what the study's report localizes, grades or denies by name."""
    return [read_concept(text) for text in listed(payload, "concept")]


def listed(payload: Mapping[str, PayloadValue], key: str) -> list[str]:
    """Return a payload's list of texts: an engine may return a list of one as that one."""
    value = payload.get(key)
    return [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []


def forms(concept: Concept, findings: Iterable[str]) -> tuple[str, ...]:
    """Return every form in which a payload stores a concept of these findings with the laterality, zone and
    severity of `concept`: for a filter on `concept`. A bilateral finding is on either side."""
    sides = (concept.side, "bilateral") if concept.side not in (None, "bilateral") else (concept.side,)
    narrower = [zone for zone, third in PARENT_ZONE.items() if third == concept.zone]
    return tuple(
        write_concept(Concept(finding, concept.status, side, zone, degree))
        for finding in findings
        for side in (sides if concept.side else (*get_args(Laterality), None))
        for zone in ((concept.zone, *narrower) if concept.zone else (*get_args(Zone), None))
        for degree in ((concept.degree,) if concept.degree else (*get_args(Severity), None))
    )


@lru_cache(maxsize=64)  # a study's images and its report come together
def _report_concepts(report: Report) -> tuple[str, ...]:
    concepts = report_concepts(report)
    specific = (c for c in concepts if c.side or c.zone or c.degree or c.status is Status.ABSENT)
    return tuple(sorted(map(write_concept, specific)))


def own_field(column: str) -> str:
    """Return the name under which one filters on a table's own column."""
    return f"attr.{column}" if column in CASE_FIELDS or column in KEY_FIELDS else column


def fields_of(attributes: Mapping[str, AttributeValue]) -> dict[str, FieldType]:
    """Return the filter fields of a study's own columns, typed by their values."""
    return {own_field(name): kind for name, value in attributes.items() if (kind := _type_of(value))}


def attribute_hash(study: Study, payload: Mapping[str, PayloadValue]) -> str:
    """Return the hash of filter fields, labeler version and links to other systems."""
    return digest([payload, LABELER_VERSION, study.accession, study.study_uid])


def content_hash(content: str, fingerprint: str) -> str:
    """Return the hash of what decides a vector: the pixels' or text's own hash, and the encoder."""
    return digest([content, fingerprint])


def patches_hash(content: str, fingerprint: str) -> str:
    """Return the hash of what decides the vectors of an image's patches."""
    return digest([content, fingerprint, "patches"])


def text_hash(text: str) -> str:
    """Return the hash (64 hex) of a text that is embedded."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def study_hash(study: Study) -> str:
    """Return the hash of everything that the catalog stores of a study.

    Missing keys do not enter it: without them the hash is that of earlier versions.
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
    """Return the SHA-256 (64 hex) of a structure of plain values; the order of mappings does not matter."""
    return hashlib.sha256(_CANONICAL.encode(parts).encode()).hexdigest()


def _type_of(value: AttributeValue) -> FieldType | None:
    if isinstance(value, bool):
        return FieldType.BOOL
    if isinstance(value, int | float):
        return FieldType.NUMBER
    return FieldType.KEYWORD if len(value) <= LONGEST_KEYWORD else None


def _moment(date: str | None) -> str | None:
    """Return the first instant of a date, as both engines parse it."""
    if date is None:
        return None
    try:
        return stretch(date)[0].isoformat().replace("+00:00", "Z")
    except UsageError:
        log.warning("a study's date is not ISO 8601 and cannot be filtered on")
        return None


SENTENCE_ATTRIBUTES = digest([SENTENCE_PAYLOAD])
"""`attribute_hash` of every sentence."""
