"""Sentences for the voted findings, selected from the neighbours' own reports.

A sentence may stand for a finding when it states what was voted and nothing else: the draft states every
finding that it calls present or absent, it doubts none, and its own report as a whole agrees with it.
Sentences with the same words count together. The wording with the fewest questions to the reader is
preferred, then the one that most neighbours use.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.language.assertion import read_sentence
from corpus.language.concepts import Concept, sentence_concepts
from corpus.language.sections import sentences
from corpus.records import ItemId
from corpus.redaction import redacted
from retrieval.draft.exclusions import transferable
from retrieval.draft.modifiers import ConfirmedLocation, LocatedSentence, confirm_modifiers
from retrieval.draft.neighbours import Neighbour, reports_of

MOST_SOURCES = 8
"""Source sentences that are listed for one sentence of the draft."""
_ALTERNATIVE = re.compile(r"\bor\b|/")
_LONGEST = 30  # words of a sentence: longer ones describe one particular case


@redacted
@dataclass(frozen=True, slots=True)
class SentenceSource:
    """The origin of a sentence: a sentence of a report, verbatim. `item_id`: `<study>#report.<n>`."""

    study_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the draft.

    `finding`: that it was chosen for.
    `wording`: its text, with questions to the reader.
    `claims`: finding → present or absent.
    `sources`: the nearest first.
    `support`: the number of neighbours' reports with these words.
    """

    finding: str
    wording: LocatedSentence
    claims: Mapping[str, Status]
    sources: tuple[SentenceSource, ...]
    support: int


@dataclass(slots=True)
class _Candidate:
    """The same words in several reports."""

    wording: LocatedSentence
    claims: Mapping[str, Status]
    sources: list[SentenceSource] = field(default_factory=list)


def choose(
    finding: str,
    status: Status,
    neighbours: Sequence[Neighbour],
    stated: Mapping[str, Status],
    locations: Mapping[str, ConfirmedLocation],
) -> Sentence | None:
    """The sentence for a finding; None where no report has one for the draft.

    Args:
        finding: a name of the vocabulary.
        status: present or absent, as voted.
        neighbours: with the reports to select from, nearest first.
        stated: finding → present or absent, all that the draft states.
        locations: finding → its location in this image.
    """
    candidates: dict[str, _Candidate] = {}
    for neighbour in reports_of(neighbours):
        if neighbour.status(finding) is not status:
            continue
        assert neighbour.study.report is not None
        for number, text in enumerate(sentences(neighbour.study.report)):
            usable = _usable(text, finding, status, stated)
            if usable is None:
                continue
            transferred, claims = usable
            # Of two findings in one sentence each may be elsewhere: no location confirms its modifiers.
            alone = all(claim is Status.ABSENT or _same(name, finding) for name, claim in claims.items())
            location = locations.get(finding) if alone else None
            located = confirm_modifiers(transferred, location or ConfirmedLocation())
            if located is None:
                continue
            study_id = neighbour.study.study_id
            candidate = candidates.setdefault(_key(located), _Candidate(located, claims))
            if all(source.study_id != study_id for source in candidate.sources):
                candidate.sources.append(
                    SentenceSource(study_id, ItemId.sentence(study_id, number).text, text)
                )
    if not candidates:
        return None
    best = min(candidates.values(), key=_order)
    return Sentence(finding, best.wording, best.claims, tuple(best.sources[:MOST_SOURCES]), len(best.sources))


def claims_of(sentence: str) -> Mapping[str, Status] | None:
    """The claims of a sentence: finding → present or absent; None where it doubts or contradicts itself.

    A sentence that calls the image normal in general, and denies no finding, claims `no_finding`.
    """
    claims: dict[str, Status] = {}
    for concept in sentence_concepts(sentence):
        if not _sure(concept) or claims.setdefault(concept.finding, concept.status) is not concept.status:
            return None
    if not claims and read_sentence(sentence).normal:
        return {NO_FINDING: Status.PRESENT}
    return claims


def _sure(concept: Concept) -> bool:
    return concept.status in (Status.PRESENT, Status.ABSENT)


@lru_cache(maxsize=4_096)
def _read(text: str) -> tuple[str, Mapping[str, Status]] | None:
    """A report's sentence without exclusions, and its claims; None where no draft may use it."""
    transferred = transferable(text)
    if transferred is None or len(transferred.split()) > _LONGEST:
        return None
    claims = claims_of(transferred)
    return None if not claims else (transferred, claims)


def _usable(
    text: str, finding: str, status: Status, stated: Mapping[str, Status]
) -> tuple[str, Mapping[str, Status]] | None:
    read = _read(text)
    if read is None or read[1].get(finding) is not status:
        return None
    claims = read[1]
    affirms = Status.PRESENT in claims.values() and NO_FINDING not in claims
    if affirms and (read_sentence(read[0]).normal or _ALTERNATIVE.search(read[0])):
        return None  # "the lungs are clear airspace disease", "atelectasis or scarring"
    return read if all(_covered(name, claim, stated) for name, claim in claims.items()) else None


def _covered(name: str, claim: Status, stated: Mapping[str, Status]) -> bool:
    """Whether the draft states this claim, or one that implies it."""
    if stated.get(name) is claim:
        return True
    if claim is Status.PRESENT:  # a present child implies its parent
        return any(stated.get(child) is claim for child in VOCABULARY.descendants(name))
    return any(stated.get(parent) is claim for parent in VOCABULARY.ancestors(name))


def _same(name: str, finding: str) -> bool:
    """Whether two findings are equal, or one is an ancestor of the other."""
    return name == finding or name in VOCABULARY.ancestors(finding) or finding in VOCABULARY.ancestors(name)


def _key(located: LocatedSentence) -> str:
    return " ".join(located.with_questions.lower().rstrip(".").split())


def _order(candidate: _Candidate) -> tuple[int, int, int, int, int, str]:
    """Fewest other findings, fewest questions, most confirmed modifiers, most neighbours, shortest."""
    wording = candidate.wording
    others = len(candidate.claims) - 1
    return (
        others,
        len(wording.questions),
        -len(wording.confirmed),
        -len(candidate.sources),
        len(wording.text),
        _key(wording),
    )
