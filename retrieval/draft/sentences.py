"""Sentences for the findings that were voted, out of the neighbours' own reports.

A sentence may speak for a finding when it says what was voted and nothing else: every finding that it calls
present or absent is stated in the draft as well, it doubts none, and its own report as a whole agrees with
it. Of the sentences that come to the same words, the words that most neighbours use are taken; those about
which least has to be asked come first.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from corpus.findings import NO_FINDING, VOCABULARY, Status
from corpus.language.assertion import read_sentence
from corpus.language.concepts import Concept, sentence_concepts
from corpus.language.sections import sentences
from corpus.redaction import redacted
from retrieval.draft.modifiers import Agreed, Placed, place
from retrieval.draft.neighbours import Neighbour, reports_of
from retrieval.draft.redaction import scrub

MOST_SOURCES = 8
"""Source sentences that are told of one sentence of the draft."""
_ALTERNATIVE = re.compile(r"\bor\b|/")
_LONGEST = 30  # words of a sentence: longer ones tell a story


@redacted
@dataclass(frozen=True, slots=True)
class Source:
    """Where a sentence comes from: a sentence of a report, as it stands there. `item_id`:
    `<study>#report.<n>`.
    """

    study_id: str
    item_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of the draft. `finding`: what it was chosen for. `claims`: finding → present or absent.

    `sources`: the nearest first. `support`: how many neighbours' reports say it in these words.
    """

    finding: str
    placed: Placed
    claims: Mapping[str, Status]
    sources: tuple[Source, ...]
    support: int


@dataclass(slots=True)
class _Wording:
    """What several reports say in the same words."""

    placed: Placed
    claims: Mapping[str, Status]
    sources: list[Source] = field(default_factory=list)


def choose(
    finding: str,
    status: Status,
    neighbours: Sequence[Neighbour],
    stated: Mapping[str, Status],
    agreed: Mapping[str, Agreed],
) -> Sentence | None:
    """The sentence for a finding; None where no report has one that may stand in the draft.

    Args:
        finding: a name of the vocabulary.
        status: present or absent, as it was voted.
        neighbours: whose reports are read, nearest first.
        stated: everything the draft states: finding → present or absent.
        agreed: finding → what localization of this picture shows of it.
    """
    wordings: dict[str, _Wording] = {}
    for neighbour in reports_of(neighbours):
        if neighbour.says(finding) is not status:
            continue
        assert neighbour.study.report is not None
        for number, text in enumerate(sentences(neighbour.study.report)):
            told = _usable(text, finding, status, stated)
            if told is None:
                continue
            # Of two findings in one sentence each may be elsewhere: what places them is asked for.
            alone = all(said is Status.ABSENT or _same(name, finding) for name, said in told[1].items())
            placed = place(told[0], agreed.get(finding, Agreed()) if alone else Agreed())
            if placed is None:
                continue
            study_id = neighbour.study.study_id
            wording = wordings.setdefault(_key(placed), _Wording(placed, told[1]))
            if all(source.study_id != study_id for source in wording.sources):
                wording.sources.append(Source(study_id, f"{study_id}#report.{number}", text))
    if not wordings:
        return None
    best = min(wordings.values(), key=_order)
    return Sentence(finding, best.placed, best.claims, tuple(best.sources[:MOST_SOURCES]), len(best.sources))


def claims_of(sentence: str) -> Mapping[str, Status] | None:
    """What a sentence claims: finding → present or absent; None where it doubts, or says both of one finding.

    A sentence that calls the film normal at large, and denies nothing in particular, claims `no_finding`.
    """
    told = list(sentence_concepts(sentence))
    claims: dict[str, Status] = {}
    for concept in told:
        if not _sure(concept) or claims.setdefault(concept.finding, concept.status) is not concept.status:
            return None
    if not claims and read_sentence(sentence).normal:
        return {NO_FINDING: Status.PRESENT}
    return claims


def _sure(concept: Concept) -> bool:
    return concept.status in (Status.PRESENT, Status.ABSENT)


@lru_cache(maxsize=4_096)
def _read(text: str) -> tuple[str, Mapping[str, Status]] | None:
    """A report's sentence, scrubbed, and its claims; None where it may stand in no draft."""
    scrubbed = scrub(text)
    if scrubbed is None or len(scrubbed.split()) > _LONGEST:
        return None
    claims = claims_of(scrubbed)
    return None if not claims else (scrubbed, claims)


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
    return read if all(_covered(name, said, stated) for name, said in claims.items()) else None


def _covered(name: str, said: Status, stated: Mapping[str, Status]) -> bool:
    """Whether the draft states this, or something that contains it."""
    if stated.get(name) is said:
        return True
    if said is Status.PRESENT:  # a present child is also its parent
        return any(stated.get(child) is said for child in _below(name))
    above = VOCABULARY.parent(name)
    return above is not None and _covered(above, said, stated)


def _below(name: str) -> Iterable[str]:
    for child in VOCABULARY.children(name):
        yield child
        yield from _below(child)


def _same(name: str, finding: str) -> bool:
    """Whether one of two findings is the other, or contains it."""
    return name == finding or name in _below(finding) or finding in _below(name)


def _key(placed: Placed) -> str:
    return " ".join(placed.asked.lower().rstrip(".").split())


def _order(wording: _Wording) -> tuple[int, int, int, int, int, str]:
    """The fewest other findings, the fewest questions, the most that is placed, the most neighbours, the
    shortest.
    """
    placed = wording.placed
    others = len(wording.claims) - 1
    return (
        others,
        len(placed.questions),
        -len(placed.kept),
        -len(wording.sources),
        len(placed.text),
        _key(placed),
    )
