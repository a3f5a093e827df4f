"""The intent of a text: the findings it asks for, with laterality, zone and severity, and those it denies.

The text is labeled as a report is (`corpus.language.concepts`), so that "no effusion", "without tubes" and
"small right effusion" mean in a query what they mean in a report. Only the affirmed words are compared as
words or as a vector: the vector of "no effusion" lies next to that of "effusion".
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from corpus.errors import UsageError
from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.language.concepts import Concept, report_concepts
from corpus.language.detection import detect
from corpus.language.labeler import affirmed_text, label_report
from corpus.language.modifiers import PARENT_ZONE
from corpus.language.sections import parse_report, split_sentences

_REPORT_FROM = 3
"""A text of so many sentences is a report to compare with: what it denies then describes, and is no
condition."""

_QUESTION = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|has|have|which|what|who|where|how|show|find|can|could|any)\b[^?]*\?+\s*",
    re.IGNORECASE,
)
"""A question to the search: its mark makes no finding uncertain, as that of "pneumothorax?" does."""

_FILLER = frozenset((
    "a", "all", "an", "and", "any", "are", "as", "but", "case", "cases", "chest", "exam", "film",
    "films", "find", "for", "give", "has", "have", "image", "images", "in", "is", "like", "me", "of",
    "on", "one", "or", "picture", "pictures", "please", "radiograph", "radiographs", "ray", "same",
    "search", "show", "showing", "shows", "similar", "study", "studies", "than", "that", "the", "there",
    "these", "this", "those", "to", "which", "who", "with", "without", "not", "no", "x",
))  # fmt: skip
"""Words that ask, and describe nothing of a case."""


@dataclass(frozen=True, slots=True)
class Intent:
    """The findings that a query asks for.

    Attributes:
        wished: findings that a phrase asks for, each present, absent or uncertain; a study with one that the
            phrase denies is excluded.
        described: findings of a report or case to resemble; one that is denied there excludes nothing.
        words: the affirmed words; empty where there are only denials or filler words.
        language: of the text. In a language without a lexicon no finding is read, and the text is compared as
            a vector.
    """

    wished: tuple[Concept, ...] = ()
    described: tuple[Concept, ...] = ()
    words: str = ""
    language: str = "en"

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """All findings, the wished ones first."""
        return (*self.wished, *self.described)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The findings that no hit may show: those that a phrase denies without a side, zone or severity."""
        denied = (c for c in self.wished if c.status is Status.ABSENT)
        return tuple(dict.fromkeys(c.finding for c in denied if not (c.side or c.zone or c.degree)))

    def as_json(self) -> dict[str, list[str]]:
        """The contract's form: status → one short text for each finding."""
        return {
            status.value: [describe(concept) for concept in self.concepts if concept.status is status]
            for status in _STATUSES
        }


_STATUSES = (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)


@lru_cache(maxsize=256)
def read_text(text: str) -> Intent:
    """Parse a text.

    Raises:
        UsageError: it is a phrase that asks for a finding and denies it at the same site.
    """
    statement = text.rstrip("? ") if _QUESTION.fullmatch(text) else text
    report = parse_report("query", statement, detect(text))
    language = report.language or "en"
    concepts = report_concepts(report)
    if not concepts and label_report(report).get(NO_FINDING) is Status.PRESENT:
        concepts = (Concept(NO_FINDING, Status.PRESENT),)
    affirmed = affirmed_text(report)
    words = affirmed if any(word not in _FILLER for word in affirmed.split()) else ""
    if sum(len(split_sentences(section.text)) for section in report.sections) >= _REPORT_FROM:
        return Intent(described=concepts, words=words, language=language)
    _refuse_contradiction(concepts)
    return Intent(wished=concepts, words=words, language=language)


def case_concepts(statuses: Mapping[str, Status], of_report: Iterable[Concept]) -> tuple[Concept, ...]:
    """Return the findings of a case to resemble: the concepts of its report, then its other findings."""
    reported = tuple(of_report)
    named = {concept.finding for concept in reported}
    rest = (Concept(n, statuses[n]) for n in VOCABULARY.leaves if n not in named and n in statuses)
    return (*reported, *(concept for concept in rest if concept.status in _STATUSES))


def describe(concept: Concept) -> str:
    """Return a finding with severity, side and zone in words: `small right lower pleural effusion`."""
    parts = (concept.degree, concept.side, concept.zone, concept.finding.replace("_", " "))
    return " ".join(part for part in parts if part)


def covers(outer: Concept, inner: Concept) -> bool:
    """Return whether side, zone and severity of `outer` include those of `inner`: None includes any."""
    return (
        (outer.side is None or outer.side == inner.side or inner.side == "bilateral")
        and (
            outer.zone is None
            or inner.zone is None
            or outer.zone in (inner.zone, PARENT_ZONE.get(inner.zone))
        )
        and (outer.degree is None or outer.degree == inner.degree)
    )


def _refuse_contradiction(concepts: Sequence[Concept]) -> None:
    for wanted in concepts:
        for denied in concepts:
            if (
                wanted.status is Status.PRESENT
                and denied.status is Status.ABSENT
                and wanted.finding == denied.finding
                and covers(denied, wanted)
            ):
                raise UsageError(
                    f"the text asks for {describe(wanted)} and denies it: leave one of the two out"
                )
