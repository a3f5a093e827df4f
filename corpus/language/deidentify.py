"""De-identification of reports: removes names, dates, numbers and addresses; measurements stay.

By rule, not by a model: what is removed can be explained, and listed for review (`similarity corpus
deidentify`). The rules follow the identifiers of 45 CFR 164.514(b)(2) ("Safe Harbor"), as far as radiology
reports have them. A rule needs evidence beside the words themselves: a title, a label, a degree, a month. A
name that stands alone in the middle of a sentence is not found: the review is for those.

What is removed becomes `XXXX`, as in Open-i, which all readers of reports ignore.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from corpus.language.person_names import find_names
from corpus.records import ItemId, Section, Study
from corpus.redaction import redacted
from corpus.subjects import patient_id_of

BLANK = "XXXX"

Kind = Literal["name", "date", "time", "contact", "identifier", "place", "age"]

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?"
    r"|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?:19|20)\d\d"
_NO_UNIT = r"(?!\s*(?:mm|cm|x\b|%|degrees?))"

_RULES: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("contact", re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64})+")),
    ("contact", re.compile(r"\b(?:https?://|www\.)\S{1,300}")),
    ("identifier", re.compile(r"\b\d{1,20}(?:\.\d{1,20}){4,20}\b")),
    ("identifier", re.compile(r"\b\d{3}-\d{2}-\d{4}\b")),
    ("contact", re.compile(r"(?:\+\d{1,3}[ .-]?)?(?:\(\d{3}\)\s?|\b\d{3}[ .-])\d{3}[ .-]\d{4}\b")),
    (
        "contact",
        re.compile(r"(?i)\b(?:ext(?:ension)?|pager|beeper|phone|tel|fax)\b\.?\s*[:#]?\s*[\d-]{2,15}\b"),
    ),
    (
        "identifier",
        re.compile(
            r"(?i)\b(?:mrn|medical record(?: number| no\.?)?|accession(?: number| no\.?)?|acc(?: no\.?)?"
            r"|patient id|account(?: number| no\.?)?|ssn|nhs(?: number| no\.?)?)\s*[:#]?\s*"
            r"(?=[A-Z0-9-]*\d)[A-Z0-9][A-Z0-9-]{2,30}\b"
        ),
    ),
    ("date", re.compile(r"\b\d{1,2}([/.-])\d{1,2}\1(?:\d{4}|\d{2})\b" + _NO_UNIT)),
    ("date", re.compile(rf"\b{_YEAR}([/.-])\d{{1,2}}\1\d{{1,2}}\b")),
    ("date", re.compile(rf"(?i)\b{_MONTH}\.?\s+{_DAY}(?:\s*,\s*|\s+){_YEAR}\b")),
    ("date", re.compile(rf"(?i)\b{_DAY}\s+(?:of\s+)?{_MONTH}\.?,?(?:\s+{_YEAR})?\b(?!\s+be\b)")),
    ("date", re.compile(rf"(?i)\b{_MONTH}\.?,?\s+(?:of\s+)?{_YEAR}\b")),
    ("date", re.compile(rf"\b(?!may\b)(?i:{_MONTH})\.?\s+{_DAY}\b" + _NO_UNIT)),
    (
        "date",
        re.compile(
            rf"(?i)\b(?:in|since|from|of|dated|until)\s+(?:early\s+|late\s+)?{_YEAR}\b(?!-)" + _NO_UNIT
        ),
    ),
    (
        "date",
        re.compile(
            r"(?i)\b(?:dated|on|from)\s+\d{1,2}/\d{1,2}\b(?!\s*(?:images?|views?|slices?))" + _NO_UNIT
        ),
    ),
    (
        "time",
        re.compile(r"(?i)\b(?:[01]?\d|2[0-3]):[0-5]\d(?::[0-5]\d)?(?:\s*(?:[ap]\.?m\b\.?|hours|hrs|h\b))?"),
    ),
    ("age", re.compile(r"(?i)\b(?:9\d|1[0-2]\d)(?=[ -]?(?:years?|yrs?|y/?o)\b)")),
    ("identifier", re.compile(r"(?<![\d.])\d{6,30}(?![\d.]*\s*(?:mm|cm))\b")),
    ("identifier", re.compile(r"\b[A-Z]{1,4}-?\d{5,20}\b")),
    (
        "place",
        re.compile(
            r"\b(?:[A-Z][a-z'’.]{1,30}\s+){1,3}"
            r"(?:Hospital|Medical Cent(?:er|re)|Clinic|Infirmary|Health System)\b"
        ),
    ),
    (
        "place",
        re.compile(
            r"\b\d{1,5}\s+(?:[A-Z][a-z]{1,30}\s+){1,3}"
            r"(?:Street|St|Avenue|Ave|Road|Rd|Drive|Dr|Lane|Ln|Boulevard|Blvd)\b\.?(?:,?\s+[A-Z]{2}\s+\d{5})?"
        ),
    ),
)
_LEADING = re.compile(r"(?i)(?:in|since|from|of|dated|until|on|early|late|at)\s+")
_MIN_KNOWN_LENGTH = 4


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text to remove: `text[start:end]`, and its kind."""

    start: int
    end: int
    kind: Kind


@redacted
@dataclass(frozen=True, slots=True)
class RemovedIdentifier:
    """One removed identifier with the text around it: for review, never for a log."""

    report_id: str
    kind: Kind
    text: str
    before: str
    after: str

    def as_json(self) -> dict[str, str]:
        """Return the form of `docs/contracts/corpus-deidentify.schema.json`."""
        return {
            "report_id": self.report_id,
            "kind": self.kind,
            "text": self.text,
            "before": self.before,
            "after": self.after,
        }


def find_identifiers(text: str, known: Collection[str] = ()) -> list[Span]:
    """Return the identifiers of a patient or of staff in a text, in order, without overlaps.

    Args:
        text: of a report, of any length.
        known: known identifiers of this patient, such as the number and the accession; found wherever they
            stand.
    """
    spans: list[Span] = []
    for value in known:
        if len(value) >= _MIN_KNOWN_LENGTH:
            spans += (
                Span(match.start(), match.end(), "identifier")
                for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text)
            )
    spans += (Span(start, end, "name") for start, end in find_names(text))
    for kind, pattern in _RULES:
        spans += (Span(_start(match, kind), match.end(), kind) for match in pattern.finditer(text))
    return _merge_overlaps(spans)


def deidentify(text: str, known: Collection[str] = ()) -> str:
    """Return the text with `XXXX` in place of its identifiers; see `find_identifiers`."""
    parts, done = [], 0
    for span in find_identifiers(text, known):
        parts += [text[done : span.start], BLANK]
        done = span.end
    return "".join([*parts, text[done:]])


def deidentify_study(study: Study) -> Study:
    """Return the study with its report de-identified; the ids of its own record count as known."""
    report = study.report
    if report is None:
        return study
    known = _known(study)
    sections = tuple(Section(s.name, deidentify(s.text, known)) for s in report.sections)
    return study if sections == report.sections else replace(study, report=replace(report, sections=sections))


def removed_identifiers(study: Study, around: int = 40) -> Iterator[RemovedIdentifier]:
    """Yield everything that `deidentify_study` removes from a study's report.

    Args:
        study: the study.
        around: characters of context on either side.
    """
    report = study.report
    for section in report.sections if report is not None else ():
        for span in find_identifiers(section.text, _known(study)):
            yield RemovedIdentifier(
                ItemId.report(study.study_id).text,
                span.kind,
                section.text[span.start : span.end],
                section.text[max(0, span.start - around) : span.start],
                section.text[span.end : span.end + around],
            )


def _known(study: Study) -> list[str]:
    subject = patient_id_of(study.subject_id)
    return [value for value in (study.accession, study.study_uid, subject, *study.identifiers) if value]


def _start(match: re.Match[str], kind: Kind) -> int:
    """Return where the identifier begins: the word before a date stays."""
    if kind != "date":
        return match.start()
    leading = _LEADING.match(match[0])
    return match.start() + (leading.end() if leading else 0)


def _merge_overlaps(spans: list[Span]) -> list[Span]:
    """Merge spans that overlap or touch."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if joined and span.start <= joined[-1].end:
            last = joined[-1]
            joined[-1] = Span(last.start, max(last.end, span.end), last.kind)
        else:
            joined.append(span)
    return joined
