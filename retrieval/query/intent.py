"""What a text asks for: findings with their side, zone and degree, and findings it wants absent.

The text is read as a report is (`corpus.language.concepts`), so that "no effusion", "without tubes" and
"small right effusion" mean in a question what they mean in a report. What is left when the denied part is
taken away is what may be compared as words or as a vector: "no effusion" as a vector lies next to "effusion".
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from corpus.errors import UsageError
from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.language.affirmed import affirmed_text
from corpus.language.concepts import Concept, report_concepts
from corpus.language.detection import detect
from corpus.language.labeler import label_report
from corpus.language.modifiers import WITHIN
from corpus.language.sections import parse_report, split_sentences

_REPORT_FROM = 3
"""Sentences from which on a text is a report to compare with, not a wish: what it denies is then described,
and no condition."""

_QUESTION = re.compile(
    r"\s*(?:is|are|was|were|do|does|did|has|have|which|what|who|where|how|show|find|can|could|any)\b[^?]*\?+\s*",
    re.IGNORECASE,
)
"""A question to the search, whose mark doubts no finding; "pneumothorax?" is a report's doubt."""

_ASKING = frozenset(
    [
        "a",
        "all",
        "an",
        "and",
        "any",
        "are",
        "as",
        "but",
        "case",
        "cases",
        "chest",
        "exam",
        "film",
        "films",
        "find",
        "for",
        "give",
        "has",
        "have",
        "image",
        "images",
        "in",
        "is",
        "like",
        "me",
        "of",
        "on",
        "one",
        "or",
        "picture",
        "pictures",
        "please",
        "radiograph",
        "radiographs",
        "ray",
        "same",
        "search",
        "show",
        "showing",
        "shows",
        "similar",
        "study",
        "studies",
        "than",
        "that",
        "the",
        "there",
        "these",
        "this",
        "those",
        "to",
        "which",
        "who",
        "with",
        "without",
        "not",
        "no",
        "x",
    ]
)
"""Words that ask and tell nothing of a case."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a query asks for, as it was understood.

    `wished`: findings that a phrase asks for, each present, absent or uncertain; what it denies excludes.
    `described`: findings of a report or case to be like; what is denied there only describes. `words`: the
    affirmed words, empty where there is nothing but denials or asking. `language`: what the text was read as;
    in one without a lexicon nothing is read, and the text is compared as a vector.
    """

    wished: tuple[Concept, ...] = ()
    described: tuple[Concept, ...] = ()
    words: str = ""
    language: str = "en"

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """All of them, what is wished first."""
        return (*self.wished, *self.described)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The findings that no hit may show: those that a wish denies, wherever they lie."""
        denied = (c for c in self.wished if c.status is Status.ABSENT)
        return tuple(dict.fromkeys(c.finding for c in denied if not (c.side or c.zone or c.degree)))

    def as_json(self) -> dict[str, list[str]]:
        """The contract's form: one short text for each finding, by what is asked of it."""
        return {
            status.value: [describe(concept) for concept in self.concepts if concept.status is status]
            for status in _TOLD
        }


_TOLD = (Status.PRESENT, Status.ABSENT, Status.UNCERTAIN)


@lru_cache(maxsize=256)
def read_text(text: str) -> Asked:
    """Understand a text.

    Raises:
        UsageError: it is a phrase that asks for a finding and denies it in the same place.
    """
    asked = text.rstrip("? ") if _QUESTION.fullmatch(text) else text
    report = parse_report("query", asked, detect(text))
    language = report.language or "en"
    told = report_concepts(report)
    if not told and label_report(report).get(NO_FINDING) is Status.PRESENT:
        told = (Concept(NO_FINDING, Status.PRESENT),)
    affirmed = affirmed_text(report)
    words = affirmed if any(word not in _ASKING for word in affirmed.split()) else ""
    if sum(len(split_sentences(section.text)) for section in report.sections) >= _REPORT_FROM:
        return Asked(described=told, words=words, language=language)
    _refuse_contradiction(told)
    return Asked(wished=told, words=words, language=language)


def findings_of(statuses: Mapping[str, Status], told: Iterable[Concept]) -> tuple[Concept, ...]:
    """What a case shows, as something to be like: the concepts of its report, then its other findings."""
    placed = tuple(told)
    named = {concept.finding for concept in placed}
    rest = (Concept(n, statuses[n]) for n in VOCABULARY.leaves if n not in named and n in statuses)
    return (*placed, *(concept for concept in rest if concept.status in _TOLD))


def describe(concept: Concept) -> str:
    """A finding with its place and degree as a reader says it: `small right lower pleural effusion`."""
    parts = (concept.degree, concept.side, concept.zone, concept.finding.replace("_", " "))
    return " ".join(part for part in parts if part)


def covers(outer: Concept, inner: Concept) -> bool:
    """Whether the place and degree of `outer` take in those of `inner`: none named takes in any."""
    return (
        (outer.side is None or outer.side == inner.side or inner.side == "bilateral")
        and (outer.zone is None or inner.zone is None or outer.zone in (inner.zone, WITHIN.get(inner.zone)))
        and (outer.degree is None or outer.degree == inner.degree)
    )


def _refuse_contradiction(told: Iterable[Concept]) -> None:
    concepts = list(told)
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
